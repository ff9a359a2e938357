//! Compiled kernels: each is compiled once per device, whoever asks, and kept while a plan has it;
//! of the others a device keeps those that were asked for last.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gw_shaders::kernel::{Access, Kernel};

use super::threads::on_all_cores;
use super::{Device, DeviceError, Fault};

/// A compiled kernel.
#[derive(Debug)]
pub(crate) struct Pipeline {
    pub(crate) raw: wgpu::ComputePipeline,
    pub(crate) layout: wgpu::BindGroupLayout,
}

/// The layouts that all kernels with the same bindings share, so that going from one to the next
/// does not invalidate what is bound.
#[derive(Clone, Debug)]
struct Layouts {
    group: wgpu::BindGroupLayout,
    pipeline: wgpu::PipelineLayout,
}

/// A place for one pipeline; its lock is held while it compiles, so that others wait for it.
type Slot = Arc<Mutex<Option<Arc<Pipeline>>>>;

/// The compiled kernels of a device.
#[derive(Debug, Default)]
pub(super) struct Pipelines {
    slots: Mutex<Slots>,
    layouts: Mutex<HashMap<Vec<Access>, Layouts>>,
}

/// Kernels that nobody has, at most, for models that come back.
const IDLE_MAX: usize = 128;

/// The slots, each with the turn in which it was asked for last.
#[derive(Debug, Default)]
struct Slots {
    turn: u64,
    of: HashMap<Kernel, (Slot, u64)>,
}

impl Slots {
    fn ask(&mut self, kernel: &Kernel) -> Slot {
        self.turn += 1;
        let turn = self.turn;
        if let Some((slot, asked)) = self.of.get_mut(kernel) {
            *asked = turn;
            return Arc::clone(slot);
        }
        self.let_go();
        let (slot, _) = self.of.entry(kernel.clone()).or_insert((Slot::default(), turn));
        Arc::clone(slot)
    }

    /// Leaves [`IDLE_MAX`] that nobody has, those that were asked for last.
    fn let_go(&mut self) {
        let idle = self.of.values().filter(|(slot, _)| is_idle(slot));
        let mut turns: Vec<u64> = idle.map(|&(_, asked)| asked).collect();
        if turns.len() <= IDLE_MAX {
            return;
        }
        turns.sort_unstable_by_key(|&turn| Reverse(turn));
        let oldest = turns[IDLE_MAX - 1];
        self.of.retain(|_, (slot, asked)| *asked >= oldest || !is_idle(slot));
    }
}

/// Whether nobody has the pipeline of a slot, or waits for it.
fn is_idle(slot: &Slot) -> bool {
    let held = |pipeline: &Arc<Pipeline>| Arc::strong_count(pipeline) > 1;
    Arc::strong_count(slot) == 1
        && slot.try_lock().is_ok_and(|pipeline| !pipeline.as_ref().is_some_and(held))
}

impl Device {
    /// The compiled form of `kernel`; compiles it the first time.
    ///
    /// # Errors
    /// [`DeviceError::Kernel`] where the adapter lacks what it needs or the compiler refuses it.
    pub(crate) fn pipeline(&self, kernel: &Kernel) -> Result<Arc<Pipeline>, DeviceError> {
        let slot = self.slots().ask(kernel);
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pipeline) = &*slot {
            return Ok(Arc::clone(pipeline));
        }
        let pipeline = Arc::new(self.compile(kernel)?);
        *slot = Some(Arc::clone(&pipeline));
        Ok(pipeline)
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.pipelines.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of those of `kernels` that nobody has.
    pub(crate) fn release<'a>(&self, kernels: impl Iterator<Item = &'a Kernel>) {
        let mut slots = self.slots();
        for kernel in kernels {
            if slots.of.get(kernel).is_some_and(|(slot, _)| is_idle(slot)) {
                slots.of.remove(kernel);
            }
        }
    }

    /// Compiles `kernels` for whoever asks for them later, and is told then what is wrong; keeps
    /// all until the last is compiled.
    pub(crate) fn compile_ahead(&self, kernels: &[Kernel]) {
        let mut kernels: Vec<&Kernel> = kernels.iter().collect();
        kernels.sort_by_key(|kernel| longest_first(kernel));
        drop(on_all_cores(&kernels, |kernel| self.pipeline(kernel)));
    }

    fn compile(&self, kernel: &Kernel) -> Result<Pipeline, DeviceError> {
        let refused = |reason: String| DeviceError::Kernel {
            kernel: kernel.name,
            variant: kernel.variant.clone(),
            reason,
        };
        if !self.caps.satisfy(&kernel.needs) {
            return Err(refused(format!("it needs {:?}", kernel.needs)));
        }
        let label = format!("{} {}", kernel.name, kernel.variant);
        let layouts = self.layouts(&kernel.bindings)?;
        let source = if self.watch.takes(Fault::Kernel) { "no kernel" } else { &*kernel.source };
        let pipeline = self.scoped(&label, || {
            let module = self.raw.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some(&label),
                source: wgpu::ShaderSource::Wgsl(source.into()),
            });
            self.raw.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&label),
                layout: Some(&layouts.pipeline),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &[],
                    // Kernels write workgroup memory before they read it; the emulation of the
                    // zeroing runs on one invocation.
                    zero_initialize_workgroup_memory: false,
                },
                cache: None,
            })
        });
        match pipeline {
            Ok(raw) => Ok(Pipeline { raw, layout: layouts.group }),
            Err(DeviceError::Refused { reason, .. }) => Err(refused(reason)),
            Err(error) => Err(error),
        }
    }

    fn layouts(&self, bindings: &[Access]) -> Result<Layouts, DeviceError> {
        let mut layouts = self.pipelines.layouts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(layouts) = layouts.get(bindings) {
            return Ok(layouts.clone());
        }
        let entries: Vec<_> = (0..).zip(bindings).map(|(i, access)| entry(i, *access)).collect();
        let made = self.scoped("a pipeline layout", || {
            let group = self.raw.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: None,
                entries: &entries,
            });
            let pipeline = self.raw.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&group)],
                immediate_size: super::IMMEDIATE_BYTES,
            });
            Layouts { group, pipeline }
        })?;
        layouts.insert(bindings.to_vec(), made.clone());
        Ok(made)
    }

    /// How many compiled kernels this device has.
    pub fn pipelines(&self) -> usize {
        self.slots().of.len()
    }
}

/// The order in which kernels are best compiled: one that takes as long as all others together
/// must not start last.
pub(crate) fn longest_first(kernel: &Kernel) -> impl Ord + use<> {
    Reverse(kernel.source.len())
}

const fn entry(binding: u32, access: Access) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage { read_only: matches!(access, Access::Read) },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    }
}
