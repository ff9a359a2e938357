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
