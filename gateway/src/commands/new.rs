//! `gw new`: a project from an empty folder, which `gw dev` runs at once.

mod carried;
mod project;
mod sdk;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use self::project::Project;
use crate::guest::Language;
use crate::report::{Advice, Output};

/// Make a project: an app with one plugin, its SDK, and a request to try it with
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  gw new greeter && gw dev greeter
  gw new search --lang python --template embed

Templates:
  hello     JSON in, JSON out
  embed     texts in, vectors out: a model, and a tokenizer that is ready before any request
  classify  a file in, its kind out: a model over bytes
  hooks     before and after the model; no instance is alive while it runs

The project holds all that the plugin is built with, but for what its language's own tools fetch:
Rust needs cargo, JavaScript Node.js 20 with npm, Python 3.11 with venv. Nothing is overwritten.")]
pub(crate) struct Args {
    /// The app's name, and the folder that is made
    #[arg(value_name = "NAME")]
    name: String,
    /// The language of the plugin
    #[arg(long, env = "GW_LANG", value_name = "LANGUAGE", value_enum, default_value = "rust")]
    lang: Lang,
    /// What the plugin does
    #[arg(long, env = "GW_TEMPLATE", value_name = "TEMPLATE", value_enum, default_value = "hello")]
    template: Template,
    #[command(flatten)]
    output: Output,
}

// The variants have no comments, because clap would spread the help over twice the lines for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Lang {
    Rust,
    Js,
    Python,
}

impl Lang {
    /// The folder of its templates.
    fn folder(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Js => "js",
            Self::Python => "python",
        }
    }

    fn language(self) -> Language {
        match self {
            Self::Rust => Language::Rust,
            Self::Js => Language::JavaScript,
            Self::Python => Language::Python,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Template {
    Hello,
    Embed,
    Classify,
    Hooks,
}

impl Template {
    /// The folder of its files.
    fn folder(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Embed => "embed",
            Self::Classify => "classify",
            Self::Hooks => "hooks",
        }
    }
}

/// What is printed about a new project.
#[derive(Serialize)]
struct Made {
    folder: PathBuf,
    language: &'static str,
    template: &'static str,
    /// The files of the app, relative to its folder; those of the SDK are more.
    files: Vec<String>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    check_name(&args.name)?;
    let project = Project::new(&args.name, args.lang, args.template);
    let folder = Path::new(&args.name);
    project.write(folder)?;
    let made = Made {
        folder: folder.to_path_buf(),
        language: args.lang.folder(),
        template: args.template.folder(),
        files: project.own_files().map(str::to_owned).collect(),
    };
    args.output.print(&made, text)
}

/// Refuses what cannot name an app.
fn check_name(name: &str) -> anyhow::Result<()> {
    if gw_artifact::manifest::is_name(name) {
        return Ok(());
    }
    let message = format!("{name:?} is no name for an app");
    let rule = "use letters, digits, `-`, `_` and `.`, at most 64, a letter or a digit first";
    let hint = match name.contains(['/', '\\']) {
        true => format!("{rule}; the project is made in the folder that you are in"),
        false => rule.to_owned(),
    };
    Err(Advice::new(message).hint(hint).usage().into())
}

/// The files, and what to do next.
fn text(made: &Made) -> String {
    let folder = made.folder.display();
    let mut text = format!("{folder}: the template {} in {}\n", made.template, made.language);
    for file in &made.files {
        let _ = writeln!(text, "  {file}");
    }
    let _ = writeln!(text, "  sdk/  what the plugin is built with");
    let _ = write!(text, "serve it with:\n  gw dev {folder}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_folder_here_and_nothing_else() {
        for name in ["greeter", "my-app_2.0", "2fast"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", "-x", "my app", "a/b", "é", &"x".repeat(65)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        let error = check_name("apps/greeter").unwrap_err();
        let told = crate::report::describe(&error);
        assert!(told.contains("\"apps/greeter\" is no name"), "{told}");
        assert!(told.contains("in the folder that you are in"), "{told}");
    }
}
