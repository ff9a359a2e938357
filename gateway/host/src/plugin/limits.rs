//! The limits of one plugin: its manifest's, each within the node's.

use std::time::Duration;

use gw_artifact::manifest::Limits;
use gw_artifact::{ByteSize, duration};

use crate::{HostConfig, HostError};

/// The node's configuration, narrowed to what the plugin asks for. What it does not say is what
/// the node allows.
pub(crate) fn within(
    node: &HostConfig,
    plugin: &str,
    limits: &Limits,
) -> Result<HostConfig, HostError> {
    // Taken apart in full, so that no limit of the manifest is forgotten here.
    let Limits {
        memory,
        time,
        request,
        response,
        tensors,
        hostcall,
        device_time,
        table_elements,
        core_instances,
        resources,
    } = *limits;
    let asking = Asking { plugin };
    let mut own = node.clone();
    own.memory_bytes_max =
        asking.bytes("memory", "memory_bytes_max", Some(memory), node.memory_bytes_max)?;
    own.time_max = asking.time("time", "time_max", Some(time), node.time_max)?;
    own.request_bytes_max =
        asking.bytes("request", "request_bytes_max", request, node.request_bytes_max)?;
    own.response_bytes_max =
        asking.bytes("response", "response_bytes_max", response, node.response_bytes_max)?;
    own.tensor_bytes_max =
        asking.bytes("tensors", "tensor_bytes_max", tensors, node.tensor_bytes_max)?;
    own.hostcall_bytes_max =
        asking.bytes("hostcall", "hostcall_bytes_max", hostcall, node.hostcall_bytes_max)?;
    own.device_time_max =
        asking.time("device_time", "device_time_max", device_time, node.device_time_max)?;
    own.table_elements_max = asking.count(
        "table_elements",
        "table_elements_max",
        table_elements,
        node.table_elements_max,
    )?;
    own.core_instances_max = asking.count(
        "core_instances",
        "core_instances_max",
        core_instances,
        node.core_instances_max,
    )?;
    own.resources_max =
        asking.count("resources", "resources_max", resources, node.resources_max)?;
    Ok(own)
}

/// Checks the largest model that the plugin may load from bytes.
pub(crate) fn load_within(node: &HostConfig, plugin: &str, bytes: u64) -> Result<(), HostError> {
    let (asked, allowed) = (Some(ByteSize(bytes)), node.loaded_model_bytes_max);
    Asking { plugin }.bytes("load", "loaded_model_bytes_max", asked, allowed).map(drop)
}

/// Who asks for limits.
struct Asking<'p> {
    plugin: &'p str,
}

impl Asking<'_> {
    fn bytes<N>(
        &self,
        key: &'static str,
        node_key: &'static str,
        asked: Option<ByteSize>,
        allowed: N,
    ) -> Result<N, HostError>
    where
        N: Copy + TryInto<u64> + TryFrom<u64>,
    {
        let print = |bytes| ByteSize(bytes).to_string();
        self.number(key, node_key, asked.map(|size| size.0), allowed, print)
    }

    fn count<N>(
        &self,
        key: &'static str,
        node_key: &'static str,
        asked: Option<u64>,
        allowed: N,
    ) -> Result<N, HostError>
    where
        N: Copy + TryInto<u64> + TryFrom<u64>,
    {
        self.number(key, node_key, asked, allowed, |count| count.to_string())
    }

    fn number<N>(
        &self,
        key: &'static str,
        node_key: &'static str,
        asked: Option<u64>,
        allowed: N,
        print: impl Fn(u64) -> String,
    ) -> Result<N, HostError>
    where
        N: Copy + TryInto<u64> + TryFrom<u64>,
    {
        let Some(asked) = asked else { return Ok(allowed) };
        let most = allowed.try_into().unwrap_or(u64::MAX);
        match N::try_from(asked) {
            Ok(own) if asked <= most => Ok(own),
            _ => Err(self.over(key, node_key, print(asked), print(most))),
        }
    }

    fn time(
        &self,
        key: &'static str,
        node_key: &'static str,
        asked: Option<Duration>,
        allowed: Duration,
    ) -> Result<Duration, HostError> {
        match asked {
            Some(asked) if asked > allowed => {
                let (asked, allowed) = (duration::format(asked), duration::format(allowed));
                Err(self.over(key, node_key, asked, allowed))
            }
            asked => Ok(asked.unwrap_or(allowed)),
        }
    }

    fn over(
        &self,
        key: &'static str,
        node_key: &'static str,
        asked: String,
        allowed: String,
    ) -> HostError {
        HostError::OverLimit { plugin: self.plugin.to_owned(), key, asked, allowed, node_key }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_has_what_it_asks_for_and_else_what_the_node_allows() {
        let node = HostConfig::default();
        let limits = Limits {
            tensors: Some(ByteSize(1 << 20)),
            device_time: Some(Duration::from_millis(5)),
            core_instances: Some(2),
            ..Limits::default()
        };
        let own = within(&node, "p", &limits).unwrap();
        assert_eq!(own.tensor_bytes_max, 1 << 20);
        assert_eq!(own.device_time_max, Duration::from_millis(5));
        assert_eq!(own.core_instances_max, 2);
        assert_eq!(own.memory_bytes_max, 128 << 20, "the manifest's default");
        assert_eq!(own.request_bytes_max, node.request_bytes_max);
    }

    #[test]
    fn no_limit_exceeds_the_nodes_and_the_error_names_both_keys() {
        let none = Limits::default();
        let much = Some(ByteSize(1 << 40));
        let long = Duration::from_hours(1);
        let many = Some(1 << 30);
        let cases = [
            (Limits { memory: ByteSize(1 << 40), ..none }, "memory"),
            (Limits { time: long, ..none }, "time"),
            (Limits { request: much, ..none }, "request"),
            (Limits { response: much, ..none }, "response"),
            (Limits { tensors: much, ..none }, "tensors"),
            (Limits { hostcall: much, ..none }, "hostcall"),
            (Limits { device_time: Some(long), ..none }, "device_time"),
            (Limits { table_elements: many, ..none }, "table_elements"),
            (Limits { core_instances: many, ..none }, "core_instances"),
            (Limits { resources: many, ..none }, "resources"),
        ];
        for (limits, named) in cases {
            let error = within(&HostConfig::default(), "p", &limits).unwrap_err();
            let HostError::OverLimit { key, node_key, .. } = &error else {
                panic!("{named}: {error}");
            };
            assert_eq!(*key, named);
            assert!(node_key.ends_with("_max"));
        }
        let limits = Limits { tensors: much, ..none };
        assert_eq!(
            within(&HostConfig::default(), "p", &limits).unwrap_err().to_string(),
            "plugin p: its limit `tensors` is 1TiB, and this node allows 64MiB; lower it, or raise \
             `tensor_bytes_max` in the node's [plugins]"
        );
    }
}
