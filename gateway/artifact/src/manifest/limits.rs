//! `limits`: what one request may cost in one plugin. Each lies within the node's own.

use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::reader::{Reader, Section};
use crate::{ByteSize, duration};

/// What one request may cost in one plugin. What is not said is what the node allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Linear memory. Default: 128MiB.
    pub memory: ByteSize,
    /// How long the plugin's own code may run. Waiting for a model is not in it. Default: 10s.
    pub time: Duration,
    /// The body of a request.
    pub request: Option<ByteSize>,
    /// The body of a response.
    pub response: Option<ByteSize>,
    /// Tensors held at once.
    pub tensors: Option<ByteSize>,
    /// What is passed in one host call.
    pub hostcall: Option<ByteSize>,
    /// How long models may run for the request.
    pub device_time: Option<Duration>,
    /// Elements of a table of functions.
    pub table_elements: Option<u64>,
    /// Core instances of the component.
    pub core_instances: Option<u64>,
    /// Resources held at once: tensors, streams, headers.
    pub resources: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: ByteSize(128 << 20),
            time: Duration::from_secs(10),
            request: None,
            response: None,
            tensors: None,
            hostcall: None,
            device_time: None,
            table_elements: None,
            core_instances: None,
            resources: None,
        }
    }
}

const KEYS: [&str; 10] = [
    "memory",
    "time",
    "request",
    "response",
    "tensors",
    "hostcall",
    "device_time",
    "table_elements",
    "core_instances",
    "resources",
];

/// Reads the table; mistakes leave the defaults.
pub(super) fn read<'d>(reader: &mut Reader<'_>, table: &'d Spanned<DeValue<'d>>) -> Limits {
    let default = Limits::default();
    let Some(mut section) = Section::open(reader, table, "`limits`", &KEYS) else {
        return default;
    };
    let limits = Limits {
        memory: section.parsed("memory").unwrap_or(default.memory),
        time: section.parsed_by("time", duration::parse).unwrap_or(default.time),
        request: section.parsed("request"),
        response: section.parsed("response"),
        tensors: section.parsed("tensors"),
        hostcall: section.parsed("hostcall"),
        device_time: section.parsed_by("device_time", duration::parse),
        table_elements: section.count("table_elements"),
        core_instances: section.count("core_instances"),
        resources: section.count("resources"),
    };
    let none = [
        ("memory", limits.memory.0 == 0, "no plugin starts with that"),
        ("time", limits.time.is_zero(), "no request could be answered"),
        ("core_instances", limits.core_instances == Some(0), "no plugin starts with that"),
        ("resources", limits.resources == Some(0), "no request could be answered"),
    ];
    for (key, is_zero, consequence) in none {
        if is_zero {
            let at = section.place(key);
            section.reader.mistake(at, format!("`{key}` is 0: {consequence}"));
        }
    }
    limits
}
