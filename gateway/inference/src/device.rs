//! Where a model runs: what the user asked for, and which adapter that is on this machine.

use std::fmt;
use std::str::FromStr;

use gw_engine::AdapterSelect;
use serde::{Deserialize, Serialize};

use crate::InferenceError;

/// Where a model should run, as users write it: `auto`, `gpu`, `cpu`, or a part of an adapter's
/// name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceChoice {
    /// A hardware GPU where there is one, else the CPU; never a software adapter.
    #[default]
    Auto,
    /// A hardware GPU, or an error.
    Gpu,
    /// The CPU.
    Cpu,
    /// The adapter whose name contains this text in any letter case; the only way to a software
    /// adapter such as `llvmpipe`.
    Named(String),
}

/// The text of a [`DeviceChoice`] is empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a device is `auto`, `gpu`, `cpu` or a part of an adapter's name, not empty")]
pub struct EmptyDevice;

impl FromStr for DeviceChoice {
    type Err = EmptyDevice;

    fn from_str(text: &str) -> Result<Self, EmptyDevice> {
        match text.trim().to_ascii_lowercase().as_str() {
            "" => Err(EmptyDevice),
            "auto" => Ok(Self::Auto),
            "gpu" => Ok(Self::Gpu),
            "cpu" => Ok(Self::Cpu),
            _ => Ok(Self::Named(text.trim().to_owned())),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Gpu => "gpu",
            Self::Cpu => "cpu",
            Self::Named(name) => name,
        })
    }
}

impl TryFrom<String> for DeviceChoice {
    type Error = EmptyDevice;

    fn try_from(text: String) -> Result<Self, EmptyDevice> {
        text.parse()
    }
}

impl From<DeviceChoice> for String {
    fn from(choice: DeviceChoice) -> Self {
        choice.to_string()
    }
}

/// One adapter, as far as the choice depends on it.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) name: String,
    pub(crate) software: bool,
}

/// What a choice means on a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Selected {
    Cpu,
    Adapter(AdapterSelect),
}

/// Applies the rules of [`DeviceChoice`] to the adapters of a machine.
///
/// `adapters` is only called where the answer depends on it: listing adapters loads every driver.
pub(crate) fn select(
    choice: &DeviceChoice,
    adapters: impl FnOnce() -> Vec<Candidate>,
) -> Result<Selected, InferenceError> {
    if *choice == DeviceChoice::Cpu {
        return Ok(Selected::Cpu);
    }
    let adapters = adapters();
    let hardware = adapters.iter().any(|adapter| !adapter.software);
    let none = |reason| Err(InferenceError::NoDevice { choice: choice.to_string(), reason });
    match choice {
        DeviceChoice::Auto | DeviceChoice::Gpu if hardware => {
            Ok(Selected::Adapter(AdapterSelect::Hardware))
        }
        DeviceChoice::Auto | DeviceChoice::Cpu => Ok(Selected::Cpu),
        DeviceChoice::Gpu => none(no_hardware(&adapters)),
        DeviceChoice::Named(name) => {
            let wanted = name.to_lowercase();
            if adapters.iter().any(|adapter| adapter.name.to_lowercase().contains(&wanted)) {
                Ok(Selected::Adapter(AdapterSelect::Named(name.clone())))
            } else {
                none(format!("no adapter has this name; there is {}", listed(&adapters)))
            }
        }
    }
}

fn no_hardware(adapters: &[Candidate]) -> String {
    match adapters.first() {
        None => "there is no graphics adapter; `cpu` works everywhere".to_owned(),
        Some(software) => format!(
            "there is no hardware adapter; the software adapter {:?} is used only when asked for \
             by name, as in `--device {}`",
            software.name,
            software.name.split_whitespace().next().unwrap_or(&software.name),
        ),
    }
}

fn listed(adapters: &[Candidate]) -> String {
    if adapters.is_empty() {
        return "no adapter at all; `cpu` works everywhere".to_owned();
    }
    let names: Vec<String> = adapters.iter().map(|a| format!("{:?}", a.name)).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HARDWARE: (&str, bool) = ("NVIDIA L4", false);
    const SOFTWARE: (&str, bool) = ("llvmpipe (LLVM 15.0.6, 256 bits)", true);

    fn selected(choice: &str, adapters: &[(&str, bool)]) -> Result<Selected, String> {
        let candidate = |(name, software): &(&str, bool)| Candidate {
            name: (*name).to_owned(),
            software: *software,
        };
        select(&choice.parse().unwrap(), || adapters.iter().map(candidate).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn auto_takes_hardware_and_never_a_software_adapter() {
        let hardware = Ok(Selected::Adapter(AdapterSelect::Hardware));
        assert_eq!(selected("auto", &[SOFTWARE, HARDWARE]), hardware);
        assert_eq!(selected("auto", &[SOFTWARE]), Ok(Selected::Cpu));
        assert_eq!(selected("auto", &[]), Ok(Selected::Cpu));
    }

    #[test]
    fn gpu_needs_hardware_and_says_how_to_name_a_software_adapter() {
        let hardware = Ok(Selected::Adapter(AdapterSelect::Hardware));
        assert_eq!(selected("gpu", &[SOFTWARE, HARDWARE]), hardware);
        insta::assert_snapshot!(
            selected("gpu", &[SOFTWARE]).unwrap_err(),
            @r#"no device for "gpu": there is no hardware adapter; the software adapter "llvmpipe (LLVM 15.0.6, 256 bits)" is used only when asked for by name, as in `--device llvmpipe`"#
        );
        insta::assert_snapshot!(
            selected("gpu", &[]).unwrap_err(),
            @r#"no device for "gpu": there is no graphics adapter; `cpu` works everywhere"#
        );
    }

    #[test]
    fn a_name_matches_a_part_of_an_adapters_name_in_any_case() {
        let named = |name: &str| Ok(Selected::Adapter(AdapterSelect::Named(name.to_owned())));
        assert_eq!(selected("LLVMpipe", &[HARDWARE, SOFTWARE]), named("LLVMpipe"));
        assert_eq!(selected("nvidia", &[HARDWARE, SOFTWARE]), named("nvidia"));
        insta::assert_snapshot!(
            selected("radeon", &[HARDWARE, SOFTWARE]).unwrap_err(),
            @r#"no device for "radeon": no adapter has this name; there is "NVIDIA L4", "llvmpipe (LLVM 15.0.6, 256 bits)""#
        );
    }

    #[test]
    fn cpu_does_not_even_look_for_adapters() {
        let look = || -> Vec<Candidate> { panic!("listing adapters loads every driver") };
        assert_eq!(select(&DeviceChoice::Cpu, look).unwrap(), Selected::Cpu);
    }

    #[test]
    fn choices_read_and_print_as_users_write_them() {
        for text in ["auto", "gpu", "cpu", "llvmpipe"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
            let json = format!("{text:?}");
            let choice: DeviceChoice = serde_json::from_str(&json).unwrap();
            assert_eq!(serde_json::to_string(&choice).unwrap(), json);
        }
        assert_eq!(" GPU ".parse(), Ok(DeviceChoice::Gpu));
        assert_eq!("  ".parse::<DeviceChoice>(), Err(EmptyDevice));
        assert!(serde_json::from_str::<DeviceChoice>("\"\"").is_err());
    }
}
