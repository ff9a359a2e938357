//! A plugin in Python: a project, built by the module that its SDK brings.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;

use super::{component_file, run, tool};
use crate::report::{self, Advice};

/// What a folder of a virtual environment calls its interpreter.
const INTERPRETER: &str = if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" };
/// The interpreter of the system.
pub(crate) const SYSTEM: &str = if cfg!(windows) { "python" } else { "python3" };
const VENV: &str = ".venv";
const REQUIREMENTS: &str = "requirements.txt";

/// Builds the project in `folder` and returns its component. Where no interpreter has the SDK, a
/// virtual environment is made beside the project and the SDK installed there.
///
/// # Errors
/// Where Python is missing, an installation fails, or the project does not build.
pub(super) fn build(name: &str, folder: &Path) -> anyhow::Result<PathBuf> {
    let python = match interpreters(folder).into_iter().find(|python| has_sdk(python, folder)) {
        Some(python) => python,
        None => install(name, folder)?,
    };
    let component = component_file(folder)?;
    let mut build = tool(python, folder);
    build.args(["-m", "gw_sdk.build"]).arg(folder).arg("--out").arg(&component);
    if run(&mut build).with_context(|| no_python(name, folder))? {
        return Ok(component);
    }
    Err(Advice::new(format!("plugin {name} does not build; its errors are above")).into())
}

/// The interpreters that may build the project, the nearest first.
fn interpreters(folder: &Path) -> Vec<PathBuf> {
    let own = folder.join(VENV).join(INTERPRETER);
    let active = std::env::var_os("VIRTUAL_ENV").map(|venv| PathBuf::from(venv).join(INTERPRETER));
    let venvs = [Some(own), active].into_iter().flatten().filter(|python| python.is_file());
    venvs.chain([PathBuf::from(SYSTEM)]).collect()
}

fn has_sdk(python: &Path, folder: &Path) -> bool {
    let mut python = tool(python, folder);
    python.args(["-c", "import gw_sdk.build"]).stdout(Stdio::null()).stderr(Stdio::null());
    python.status().is_ok_and(|status| status.success())
}

/// Makes the project's own virtual environment, and returns its interpreter.
fn install(name: &str, folder: &Path) -> anyhow::Result<PathBuf> {
    if !folder.join(REQUIREMENTS).is_file() {
        let file = folder.join(REQUIREMENTS);
        let message = format!("plugin {name}: no Python at hand has the module gw_sdk");
        let hint = format!("name gw-sdk in {}, and it is installed from there", file.display());
        return Err(Advice::new(message).hint(hint).into());
    }
    let steps =
        format!("{SYSTEM} -m venv {VENV} && {VENV}/{INTERPRETER} -m pip install -r {REQUIREMENTS}");
    report::note(format_args!("plugin {name}: running {steps} in {}", folder.display()));
    let python = folder.join(VENV).join(INTERPRETER);
    let mut venv = tool(SYSTEM, folder);
    venv.args(["-m", "venv", VENV]);
    let mut pip = tool(&python, folder);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    // What they name by path lies relative to the folder.
    pip.args(["-r", REQUIREMENTS]);
    let done = run(&mut venv).with_context(|| no_python(name, folder))?
        && run(&mut pip).with_context(|| no_python(name, folder))?;
    if !done {
        let message = format!("plugin {name}: gw-sdk was not installed; the errors are above");
        let hint = format!(
            "run this in {}, with the network at hand (Debian has venv in python3-venv): {steps}",
            folder.display()
        );
        return Err(Advice::new(message).hint(hint).into());
    }
    if has_sdk(&python, folder) {
        return Ok(python);
    }
    let file = folder.join(REQUIREMENTS);
    let message = format!("plugin {name}: {} does not name gw-sdk", file.display());
    Err(Advice::new(message).hint("gw new NAME --lang python makes such a project").into())
}

fn no_python(name: &str, folder: &Path) -> Advice {
    let file = folder.join("pyproject.toml");
    Advice::new(format!("plugin {name}: Python is needed to build {}", file.display()))
        .hint("install Python 3.11 or newer from https://www.python.org, or from your system")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_projects_own_interpreter_goes_first() {
        let folder = tempfile::tempdir().unwrap();
        let all = interpreters(folder.path());
        assert_eq!(all.last(), Some(&PathBuf::from(SYSTEM)));
        let own = folder.path().join(VENV).join(INTERPRETER);
        assert!(!all.contains(&own), "it is not there yet");
        std::fs::create_dir_all(own.parent().unwrap()).unwrap();
        std::fs::write(&own, "").unwrap();
        assert_eq!(interpreters(folder.path()).first(), Some(&own));
    }
}
