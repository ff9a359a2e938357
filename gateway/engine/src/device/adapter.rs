//! Which adapters this machine has, and which one to take.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::DeviceError;

/// What the kernels and the planner can use of an adapter, where it is offered.
pub(super) const WANTED: wgpu::Features = wgpu::Features::IMMEDIATES
    .union(wgpu::Features::SUBGROUP)
    .union(wgpu::Features::SHADER_F16)
    .union(wgpu::Features::SHADER_INT64)
    .union(wgpu::Features::TIMESTAMP_QUERY)
    .union(wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES)
    .union(wgpu::Features::PIPELINE_CACHE)
    .union(wgpu::Features::MAPPABLE_PRIMARY_BUFFERS);

/// Names of adapters that compute on the CPU, in lower case: some drivers report another type.
const SOFTWARE_NAMES: [&str; 6] =
    ["llvmpipe", "lavapipe", "softpipe", "swiftshader", "warp", "microsoft basic render"];

/// Which adapter to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AdapterSelect {
    /// The best hardware adapter; never a software one.
    Hardware,
    /// The best adapter, hardware before software.
    Any,
    /// The best adapter whose name contains this text, in any case.
    Named(String),
}

/// One adapter, as `gw doctor` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AdapterInfo {
    /// The name that the driver gives, such as `llvmpipe (LLVM 15.0.6, 256 bits)`.
    pub name: String,
    /// The API: `vulkan`, `metal`, `dx12`, `gl` or `noop`.
    pub backend: String,
    /// The driver and its version.
    pub driver: String,
    /// `discrete`, `integrated`, `virtual`, `cpu` or `other`.
    pub device_type: String,
    /// It computes on the CPU: taken only when it is asked for.
    pub software: bool,
    /// The features that gw uses and that this adapter offers.
    pub features: Vec<String>,
    /// The features that gw uses and that this adapter lacks: kernels do without them.
    pub lacks: Vec<String>,
    /// The limits that bound a plan.
    pub limits: AdapterLimits,
}

/// The limits of an adapter that bound a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct AdapterLimits {
    /// Bytes of one buffer, at most.
    pub buffer_bytes: u64,
    /// Bytes of one storage binding, at most: no tensor may be larger.
    pub binding_bytes: u64,
    /// Where a binding may start, in bytes.
    pub binding_alignment: u32,
    /// Storage buffers that one kernel may bind, at most.
    pub storage_buffers: u32,
    /// Bytes of immediates, at most.
    pub immediate_bytes: u32,
    /// Invocations in one workgroup, at most.
    pub workgroup_invocations: u32,
    /// Bytes of workgroup memory, at most.
    pub workgroup_bytes: u32,
    /// Workgroups along one dimension, at most.
    pub workgroups_per_dimension: u32,
    /// The smallest subgroup; 0 where there are no subgroup operations.
    pub subgroup_min: u32,
    /// The largest subgroup; 0 where there are no subgroup operations.
    pub subgroup_max: u32,
}

impl AdapterInfo {
    pub(super) fn of(adapter: &wgpu::Adapter) -> Self {
        Self::of_parts(adapter.get_info(), &adapter.limits(), adapter.features())
    }

    pub(super) fn of_parts(
        info: wgpu::AdapterInfo,
        limits: &wgpu::Limits,
        features: wgpu::Features,
    ) -> Self {
        let driver = [info.driver.as_str(), info.driver_info.as_str()];
        let names = |features: wgpu::Features| {
            let mut names: Vec<String> =
                features.iter_names().map(|(name, _)| name.to_owned()).collect();
            names.sort_unstable();
            names
        };
        let subgroups = features.contains(wgpu::Features::SUBGROUP);
        Self {
            software: is_software(&info),
            backend: info.backend.to_str().to_owned(),
            driver: driver.join(" ").trim().to_owned(),
            device_type: device_type(info.device_type).to_owned(),
            features: names(features & WANTED),
            lacks: names(WANTED - features),
            limits: AdapterLimits {
                buffer_bytes: limits.max_buffer_size,
                binding_bytes: limits.max_storage_buffer_binding_size,
                binding_alignment: limits.min_storage_buffer_offset_alignment,
                storage_buffers: limits.max_storage_buffers_per_shader_stage,
                immediate_bytes: limits.max_immediate_size,
                workgroup_invocations: limits.max_compute_invocations_per_workgroup,
                workgroup_bytes: limits.max_compute_workgroup_storage_size,
                workgroups_per_dimension: limits.max_compute_workgroups_per_dimension,
                subgroup_min: if subgroups { info.subgroup_min_size } else { 0 },
                subgroup_max: if subgroups { info.subgroup_max_size } else { 0 },
            },
            name: info.name,
        }
    }

    /// Lower is better: hardware first, then the API that wgpu serves best, then the faster kind.
    fn rank(&self) -> (bool, bool, u8) {
        let kind = match self.device_type.as_str() {
            "discrete" => 0,
            "integrated" => 1,
            "virtual" => 2,
            _ => 3,
        };
        (self.software, self.backend == "gl", kind)
    }
}

/// Every adapter that wgpu can drive on this machine, the best first. Those of OpenGL, which are
/// the same devices once more, are listed only where there are no others.
pub fn adapters() -> Vec<AdapterInfo> {
    let mut found = enumerate(wgpu::Backends::PRIMARY);
    if found.is_empty() {
        found = enumerate(wgpu::Backends::GL);
    }
    found.into_iter().map(|(info, _)| info).collect()
}

/// The adapter that `select` names.
pub(super) fn select(select: &AdapterSelect) -> Result<(AdapterInfo, wgpu::Adapter), DeviceError> {
    // OpenGL is slow to start and the last resort, so it is asked only when nothing else fits.
    let mut rest = Vec::new();
    for backends in [wgpu::Backends::PRIMARY, wgpu::Backends::GL] {
        let mut found = enumerate(backends);
        if let Some(index) = choose(found.iter().map(|(info, _)| info), select) {
            return Ok(found.swap_remove(index));
        }
        rest.extend(found.into_iter().map(|(info, _)| info));
    }
    Err(refusal(select, &rest))
}

/// The index of the adapter that `select` takes; `adapters` are sorted, the best first.
fn choose<'a>(
    mut adapters: impl Iterator<Item = &'a AdapterInfo>,
    select: &AdapterSelect,
) -> Option<usize> {
    match select {
        AdapterSelect::Any => adapters.next().map(|_| 0),
        AdapterSelect::Hardware => adapters.position(|adapter| !adapter.software),
        AdapterSelect::Named(part) => {
            let part = part.to_lowercase();
            adapters.position(|adapter| adapter.name.to_lowercase().contains(&part))
        }
    }
}

fn refusal(select: &AdapterSelect, found: &[AdapterInfo]) -> DeviceError {
    let mut names: Vec<&str> = Vec::new();
    for adapter in found {
        // One device shows under several APIs.
        if !names.contains(&adapter.name.as_str()) {
            names.push(&adapter.name);
        }
    }
    let found = names.join(", ");
    match select {
        _ if names.is_empty() => DeviceError::NoAdapter,
        AdapterSelect::Named(wanted) => DeviceError::NotFound { wanted: wanted.clone(), found },
        AdapterSelect::Hardware | AdapterSelect::Any => DeviceError::NoHardware { found },
    }
}

/// The adapters of these APIs, of those that `WGPU_BACKEND` allows.
fn enumerate(backends: wgpu::Backends) -> Vec<(AdapterInfo, wgpu::Adapter)> {
    let allowed = wgpu::Backends::from_env().unwrap_or(wgpu::Backends::all());
    let backends = backends & allowed;
    if backends.is_empty() {
        return Vec::new();
    }
    let instance = instance(backends);
    let mut found: Vec<_> = super::block_on(instance.enumerate_adapters(backends))
        .into_iter()
        .map(|adapter| (AdapterInfo::of(&adapter), adapter))
        .collect();
    found.sort_by_key(|(info, _)| info.rank());
    found
}

/// One instance for each choice of APIs, kept for as long as the process lives: closing it unloads
/// drivers, which crashes where another thread is on the way out of the process.
fn instance(backends: wgpu::Backends) -> wgpu::Instance {
    static INSTANCES: Mutex<Vec<(wgpu::Backends, wgpu::Instance)>> = Mutex::new(Vec::new());
    let mut instances = INSTANCES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, instance)) = instances.iter().find(|(made_for, _)| *made_for == backends) {
        return instance.clone();
    }
    // Checks that are on by default in a debug build cost time in the driver; ours are in tests.
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        flags: wgpu::InstanceFlags::empty(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    instances.push((backends, instance.clone()));
    instance
}

fn is_software(info: &wgpu::AdapterInfo) -> bool {
    let name = info.name.to_lowercase();
    info.device_type == wgpu::DeviceType::Cpu
        || SOFTWARE_NAMES.iter().any(|software| name.contains(software))
}

const fn device_type(kind: wgpu::DeviceType) -> &'static str {
    match kind {
        wgpu::DeviceType::DiscreteGpu => "discrete",
        wgpu::DeviceType::IntegratedGpu => "integrated",
        wgpu::DeviceType::VirtualGpu => "virtual",
        wgpu::DeviceType::Cpu => "cpu",
        wgpu::DeviceType::Other => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adapter(name: &str, backend: &str, device_type: &str, software: bool) -> AdapterInfo {
        AdapterInfo {
            name: name.into(),
            backend: backend.into(),
            driver: String::new(),
            device_type: device_type.into(),
            software,
            features: vec![],
            lacks: vec![],
            limits: AdapterLimits {
                buffer_bytes: 1 << 30,
                binding_bytes: 1 << 27,
                binding_alignment: 256,
                storage_buffers: 8,
                immediate_bytes: 128,
                workgroup_invocations: 256,
                workgroup_bytes: 16 << 10,
                workgroups_per_dimension: 65_535,
                subgroup_min: 0,
                subgroup_max: 0,
            },
        }
    }

    fn sorted(mut list: Vec<AdapterInfo>) -> Vec<AdapterInfo> {
        list.sort_by_key(AdapterInfo::rank);
        list
    }

    #[test]
    fn hardware_never_takes_a_software_adapter() {
        let only = [adapter("llvmpipe (LLVM 15)", "vulkan", "cpu", true)];
        assert_eq!(choose(only.iter(), &AdapterSelect::Hardware), None);
        assert_eq!(choose(only.iter(), &AdapterSelect::Any), Some(0));
        let error = refusal(&AdapterSelect::Hardware, &only);
        assert!(matches!(&error, DeviceError::NoHardware { found } if found.contains("llvmpipe")));
    }

    #[test]
    fn the_fastest_kind_of_adapter_comes_first() {
        let list = sorted(vec![
            adapter("llvmpipe", "vulkan", "cpu", true),
            adapter("Intel UHD", "vulkan", "integrated", false),
            adapter("RTX", "gl", "discrete", false),
            adapter("RTX", "vulkan", "discrete", false),
        ]);
        let names: Vec<_> = list.iter().map(|a| format!("{} {}", a.name, a.backend)).collect();
        assert_eq!(names, ["RTX vulkan", "Intel UHD vulkan", "RTX gl", "llvmpipe vulkan"]);
    }

    #[test]
    fn a_name_matches_a_part_in_any_case() {
        let list = [
            adapter("NVIDIA RTX", "vulkan", "discrete", false),
            adapter("llvmpipe (LLVM 15)", "vulkan", "cpu", true),
        ];
        let named = |text: &str| choose(list.iter(), &AdapterSelect::Named(text.into()));
        assert_eq!(named("LLVMpipe"), Some(1));
        assert_eq!(named("rtx"), Some(0));
        assert_eq!(named("radeon"), None);
        let error = refusal(&AdapterSelect::Named("radeon".into()), &list).to_string();
        assert!(error.contains("radeon") && error.contains("NVIDIA RTX"), "{error}");
        let twice = [list[1].clone(), adapter("llvmpipe (LLVM 15)", "gl", "cpu", true)];
        let error = refusal(&AdapterSelect::Hardware, &twice).to_string();
        assert_eq!(error.matches("llvmpipe").count(), 1, "{error}");
    }
}
