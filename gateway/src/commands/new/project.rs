//! The files of a new project, put together and written.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use super::carried::TEMPLATES;
use super::{Lang, Template, sdk};
use crate::report::Advice;
use anyhow::Context as _;

/// What stands in a template for the app's name.
const NAME: &str = "{{name}}";
/// What stands in it for the lines on the files of its language.
const LANGUAGE: &str = "{{language}}";

/// The files of a project by their paths in it, with `/` between parts.
pub(super) struct Project {
    /// What is the user's from now on.
    own: BTreeMap<&'static str, String>,
    sdk: Vec<(String, String)>,
}

impl Project {
    /// The project of the app `name`: what all projects have, what those of this template have in
    /// every language, and what they have in this one. The last of two files at one path is taken.
    pub(super) fn new(name: &str, lang: Lang, template: Template) -> Self {
        let (lang_folder, template_folder) = (lang.folder(), template.folder());
        let about = format!("{lang_folder}/language.md");
        let about = TEMPLATES.iter().find(|(path, _)| *path == about);
        let about = about.map_or("", |(_, text)| text.trim_end());
        let mut own = BTreeMap::new();
        for source in [
            "common/".to_owned(),
            format!("{template_folder}/"),
            format!("{lang_folder}/{template_folder}/"),
        ] {
            for (path, text) in TEMPLATES {
                if let Some(path) = path.strip_prefix(&source) {
                    own.insert(path, text.replace(NAME, name).replace(LANGUAGE, about));
                }
            }
        }
        Self { own, sdk: sdk::files(lang.language()) }
    }

    /// The paths of what is the user's from now on.
    pub(super) fn own_files(&self) -> impl Iterator<Item = &str> {
        self.own.keys().copied()
    }

    /// Writes all files below `folder`, or none where one of them is there already.
    ///
    /// # Errors
    /// Where a file is there, or cannot be written.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let own = self.own.iter().map(|(path, text)| ((*path).to_owned(), text));
        let sdk = self.sdk.iter().map(|(path, text)| (format!("{}/{path}", sdk::FOLDER), text));
        let files: Vec<_> = own.chain(sdk).collect();
        let mut there =
            files.iter().map(|(path, _)| folder.join(path)).filter(|path| path.exists());
        if let Some(path) = there.next() {
            return Err(exists(&path).into());
        }
        for (path, text) in files {
            write_new(&folder.join(path), text)?;
        }
        Ok(())
    }
}

fn exists(path: &Path) -> Advice {
    let message = format!("{} exists, and gw new never overwrites a file", path.display());
    Advice::new(message).hint("choose another name, or move what is there").usage()
}

fn write_new(path: &Path, text: &str) -> anyhow::Result<()> {
    let writing = || format!("writing {}", path.display());
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)
            .with_context(|| format!("making the folder {}", folder.display()))?;
    }
    // Somebody may have written it since we looked.
    match OpenOptions::new().write(true).create_new(true).open(path) {
        Ok(mut file) => file.write_all(text.as_bytes()).with_context(writing),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(exists(path).into()),
        Err(error) => Err(error).with_context(writing),
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;
    use gw_artifact::Manifest;

    use super::*;

    #[test]
    fn every_project_is_whole() {
        for &lang in Lang::value_variants() {
            for &template in Template::value_variants() {
                let told = format!("{lang:?} {template:?}");
                let project = Project::new("my-app", lang, template);
                let text = |wanted: &str| {
                    project.own.get(wanted).unwrap_or_else(|| panic!("{told}: no {wanted}"))
                };
                let manifest = Manifest::parse(text("gw.toml"), "gw.toml");
                let manifest = manifest.unwrap_or_else(|error| panic!("{told}: {error}"));
                assert_eq!(manifest.app.name, "my-app", "{told}");
                let marker = lang.language().marker();
                for plugin in &manifest.plugins {
                    text(&format!("{}/{marker}", plugin.path.display()));
                }
                let readme = text("README.md");
                assert!(
                    readme.starts_with("# my-app\n") && readme.contains("\n- `sdk/`"),
                    "{told}"
                );
                assert!(!text(".gitignore").is_empty(), "{told}");
                assert!(project.own_files().any(|path| path.starts_with("request.")), "{told}");
                for (path, text) in &project.own {
                    assert!(!text.contains("{{"), "{told}: {path} has a gap");
                }
            }
        }
    }

    #[test]
    fn nothing_is_written_where_something_would_be_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("my-app");
        let project = Project::new("my-app", Lang::Rust, Template::Hello);
        fs::create_dir(&root).unwrap();
        fs::write(root.join("README.md"), "mine").unwrap();
        fs::write(root.join("notes.txt"), "mine").unwrap();
        let told = project.write(&root).unwrap_err().to_string();
        assert!(told.contains("README.md exists"), "{told}");
        assert_eq!(fs::read_dir(&root).unwrap().count(), 2, "nothing else is there");

        fs::remove_file(root.join("README.md")).unwrap();
        project.write(&root).unwrap();
        assert_eq!(fs::read_to_string(root.join("notes.txt")).unwrap(), "mine");
        assert!(root.join("sdk/Cargo.toml").is_file());
        let again = project.write(&root).unwrap_err().to_string();
        assert!(again.contains("never overwrites"), "{again}");
    }
}
