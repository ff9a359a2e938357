//! A plugin in JavaScript or TypeScript: a package, built by the command that its SDK brings.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::{component_file, run, tool};
use crate::report::{self, Advice};

/// The SDK's build command, as npm links it.
const COMMAND: &str = if cfg!(windows) { "gw-sdk-build.cmd" } else { "gw-sdk-build" };
const NPM: &str = if cfg!(windows) { "npm.cmd" } else { "npm" };

/// Builds the package in `folder` and returns its component. What the package needs is installed
/// first, where it is not there.
///
/// # Errors
/// Where Node.js is missing, an installation fails, or the package does not build.
pub(super) fn build(name: &str, folder: &Path) -> anyhow::Result<PathBuf> {
    let command = match installed(folder) {
        Some(command) => command,
        None => {
            install(name, folder)?;
            installed(folder).ok_or_else(|| no_command(name, folder))?
        }
    };
    let component = component_file(folder)?;
    let mut build = tool(command, folder);
    build.arg(folder).arg("--out").arg(&component);
    if run(&mut build).with_context(|| no_node(name, folder))? {
        return Ok(component);
    }
    Err(Advice::new(format!("plugin {name} does not build; its errors are above")).into())
}

/// The build command of the package, or of the workspace that it is a part of.
fn installed(folder: &Path) -> Option<PathBuf> {
    let commands = folder.ancestors().map(|at| at.join("node_modules/.bin").join(COMMAND));
    commands.into_iter().find(|command| command.is_file())
}

fn install(name: &str, folder: &Path) -> anyhow::Result<()> {
    // With a lock file everybody gets the same packages.
    let action = if folder.join("package-lock.json").is_file() { "ci" } else { "install" };
    report::note(format_args!("plugin {name}: running npm {action} in {}", folder.display()));
    let mut npm = tool(NPM, folder);
    npm.args([action, "--no-audit", "--no-fund"]);
    if run(&mut npm).with_context(|| no_node(name, folder))? {
        return Ok(());
    }
    let message = format!("plugin {name}: npm {action} failed; its errors are above");
    let hint = format!("run npm {action} in {}, with the network at hand", folder.display());
    Err(Advice::new(message).hint(hint).into())
}

fn no_node(name: &str, folder: &Path) -> Advice {
    let file = folder.join("package.json");
    Advice::new(format!("plugin {name}: Node.js is needed to build {}", file.display()))
        .hint("install Node.js 20 or newer, with npm, from https://nodejs.org")
}

fn no_command(name: &str, folder: &Path) -> Advice {
    let file = folder.join("package.json");
    let message =
        format!("plugin {name}: {} does not depend on gw-sdk, which builds it", file.display());
    Advice::new(message)
        .hint("add it to \"dependencies\"; gw new NAME --lang js makes such a project")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_of_a_workspace_serves_its_packages() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("packages/plugin");
        std::fs::create_dir_all(&folder).unwrap();
        assert_eq!(installed(&folder), None);
        for place in [root.path(), folder.as_path()] {
            let command = place.join("node_modules/.bin").join(COMMAND);
            std::fs::create_dir_all(command.parent().unwrap()).unwrap();
            std::fs::write(&command, "").unwrap();
            // The nearest goes first.
            assert_eq!(installed(&folder), Some(command));
        }
    }
}
