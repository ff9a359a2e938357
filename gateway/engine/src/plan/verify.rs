//! What must hold of a plan before a device sees it.
//!
//! A run of a plan that passes reads only bytes that the same run wrote, the caller's inputs and
//! the model's weights: never what another run left behind.

use gw_shaders::kernel::{Access, Caps, PARAM_WORDS_MAX, Scalar};
use gw_tensor::DType;

use super::{Buffer, BufferId, BufferKind, Plan, Port, PortSource, Step};

/// What is wrong with a plan: always a fault of the engine, whatever the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanFault {
    /// A buffer's size or contents break a rule.
    #[error("buffer `{buffer}`: {reason}")]
    Buffer {
        /// The buffer's name.
        buffer: String,
        /// The rule.
        reason: String,
    },
    /// A step breaks a rule.
    #[error("step {index} ({kernel}, `{label}`): {reason}")]
    Step {
        /// Its place in the plan.
        index: usize,
        /// The kernel's family.
        kernel: &'static str,
        /// The nodes that it computes.
        label: String,
        /// The rule.
        reason: String,
    },
    /// An input or output breaks a rule.
    #[error("port `{port}`: {reason}")]
    Port {
        /// The name in the model.
        port: String,
        /// The rule.
        reason: String,
    },
}

impl Plan {
    /// Checks everything that can be checked without a device.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn verify(&self) -> Result<(), PlanFault> {
        for buffer in &self.buffers {
            check_buffer(buffer)?;
        }
        let mut written = self.uploaded()?;
        for (index, step) in self.steps.iter().enumerate() {
            self.check_step(step, &mut written).map_err(|reason| fault(index, step, reason))?;
        }
        for port in &self.outputs {
            if let Some((id, start)) = port.source.place() {
                self.check_port(port, id, start)?;
                if !written[id.0 as usize] {
                    return Err(port_fault(port, "no step writes it"));
                }
            }
        }
        Ok(())
    }

    /// Checks the limits of an adapter that a plan can break.
    ///
    /// # Errors
    /// The first step that does not fit.
    pub fn verify_for(&self, caps: &Caps) -> Result<(), PlanFault> {
        for (index, step) in self.steps.iter().enumerate() {
            let dispatch = &step.dispatch;
            let grid = dispatch.workgroups;
            let (most, buffers) = (caps.workgroups_per_dimension, caps.storage_buffers as usize);
            let reason = if grid.iter().any(|&groups| groups > most) {
                format!("a grid of {grid:?} workgroups, where the adapter takes {most} per side")
            } else if step.bindings.len() > buffers {
                let used = step.bindings.len();
                format!("{used} storage buffers, where the adapter takes {buffers}")
            } else if !caps.satisfy(&dispatch.kernel.needs) {
                format!("it needs {:?} of the adapter", dispatch.kernel.needs)
            } else {
                continue;
            };
            return Err(fault(index, step, reason));
        }
        Ok(())
    }

    /// Which buffers hold data before the first step.
    fn uploaded(&self) -> Result<Vec<bool>, PlanFault> {
        let mut written: Vec<bool> =
            self.buffers.iter().map(|b| matches!(b.kind, BufferKind::Weight { .. })).collect();
        for port in &self.inputs {
            match &port.source {
                PortSource::Unused => {}
                PortSource::Constant(_) => {
                    return Err(port_fault(port, "an input cannot be a constant"));
                }
                PortSource::Part(..) => {
                    return Err(port_fault(port, "an input cannot be a part of a buffer"));
                }
                PortSource::Buffer(id) => {
                    self.check_port(port, *id, 0)?;
                    if port.scalar != device_scalar(port.dtype) {
                        let (given, dtype) = (port.scalar, port.dtype);
                        return Err(port_fault(port, format!("{dtype} uploaded as {given:?}")));
                    }
                    if !matches!(self.buffers[id.0 as usize].kind, BufferKind::Input) {
                        return Err(port_fault(port, "its buffer is not an input"));
                    }
                    if std::mem::replace(&mut written[id.0 as usize], true) {
                        return Err(port_fault(port, "another input has the same buffer"));
                    }
                }
            }
        }
        Ok(written)
    }

    fn check_port(&self, port: &Port, id: BufferId, start: u64) -> Result<(), PlanFault> {
        let Some(buffer) = self.buffers.get(id.0 as usize) else {
            return Err(port_fault(port, "its buffer does not exist"));
        };
        // Every element takes four bytes on a device; an empty tensor has a buffer all the same.
        let bytes = port.shape.len_checked().ok().and_then(|n| (n as u64).checked_mul(4));
        let is_part = matches!(port.source, PortSource::Part(..));
        match bytes.map(|bytes| bytes.max(4)) {
            Some(bytes) if bytes == buffer.bytes && !is_part => Ok(()),
            Some(bytes)
                if is_part
                    && start.is_multiple_of(4)
                    && start.checked_add(bytes).is_some_and(|end| end <= buffer.bytes) =>
            {
                Ok(())
            }
            _ => {
                let reason = format!(
                    "shape {} from byte {start} of a buffer of {} bytes",
                    port.shape, buffer.bytes
                );
                Err(port_fault(port, reason))
            }
        }
    }

    fn check_step(&self, step: &Step, written: &mut [bool]) -> Result<(), String> {
        let kernel = &step.dispatch.kernel;
        let (given, due) = (step.bindings.len(), kernel.bindings.len());
        if given != due {
            return Err(format!("{given} buffers for {due} bindings"));
        }
        if step.dispatch.params.len() > PARAM_WORDS_MAX {
            let words = step.dispatch.params.len();
            return Err(format!("{words} words of params, at most {PARAM_WORDS_MAX} fit"));
        }
        let bound = || step.bindings.iter().zip(&kernel.bindings);
        for (id, access) in bound() {
            let Some(buffer) = self.buffers.get(id.0 as usize) else {
                return Err(format!("buffer {} does not exist", id.0));
            };
            match access {
                Access::Read if !written[id.0 as usize] => {
                    return Err(format!("`{}` is read before it is written", buffer.name));
                }
                Access::ReadWrite
                    if matches!(buffer.kind, BufferKind::Weight { .. } | BufferKind::Input) =>
                {
                    return Err(format!("`{}` is written, but it is an input", buffer.name));
                }
                Access::ReadWrite if bound().filter(|(other, _)| *other == id).count() > 1 => {
                    return Err(format!("`{}` is written and bound a second time", buffer.name));
                }
                _ => {}
            }
        }
        for (id, access) in bound() {
            written[id.0 as usize] |= *access == Access::ReadWrite;
        }
        Ok(())
    }
}

/// What the elements of an input become on a device.
const fn device_scalar(dtype: DType) -> Scalar {
    match dtype {
        DType::Bool => Scalar::U32,
        _ if dtype.is_float() => Scalar::F32,
        _ => Scalar::I32,
    }
}

fn check_buffer(buffer: &Buffer) -> Result<(), PlanFault> {
    let fault = |reason: String| PlanFault::Buffer { buffer: buffer.name.clone(), reason };
    if buffer.bytes < 4 || !buffer.bytes.is_multiple_of(4) {
        return Err(fault(format!("{} bytes is not a positive multiple of four", buffer.bytes)));
    }
    if let BufferKind::Weight { data, .. } = &buffer.kind {
        let padded = (data.len() as u64).next_multiple_of(4).max(4);
        if padded != buffer.bytes {
            let given = data.len();
            return Err(fault(format!("{given} bytes of data for {} bytes", buffer.bytes)));
        }
    }
    Ok(())
}

fn fault(index: usize, step: &Step, reason: String) -> PlanFault {
    let kernel = step.dispatch.kernel.name;
    PlanFault::Step { index, kernel, label: step.label.clone(), reason }
}

fn port_fault(port: &Port, reason: impl Into<String>) -> PlanFault {
    PlanFault::Port { port: port.name.clone(), reason: reason.into() }
}

#[cfg(test)]
mod tests {
    use super::super::tests::PlanBuilder;
    use super::*;

    fn chain() -> Plan {
        let mut plan = PlanBuilder::default();
        let x = plan.input("x", 4);
        let w = plan.weight("w", 4);
        let h = plan.temporary("h", 4);
        let y = plan.output("y", 4);
        plan.step("Mul_0", &[x, w], &[h]);
        plan.step("Add_1", &[h, w], &[y]);
        plan.build()
    }

    fn reason(plan: &Plan) -> String {
        plan.verify().unwrap_err().to_string()
    }

    #[test]
    fn a_sound_plan_passes() {
        assert_eq!(chain().verify(), Ok(()));
        assert_eq!(chain().verify_for(&Caps::minimal()), Ok(()));
    }

    #[test]
    fn every_broken_rule_is_named() {
        type Break = fn(&mut Plan);
        let cases: [(Break, &str); 16] = [
            (|p| p.steps.swap(0, 1), "`h` is read before it is written"),
            (|p| p.steps[0].bindings.truncate(2), "2 buffers for 3 bindings"),
            (|p| p.steps[0].dispatch.params = vec![0; 33], "33 words of params"),
            (|p| p.steps[1].bindings[2] = BufferId(1), "`w` is written, but it is an input"),
            (|p| p.steps[1].bindings[2] = BufferId(0), "`x` is written, but it is an input"),
            (|p| p.steps[1].bindings[2] = BufferId(2), "`h` is written and bound a second time"),
            (|p| p.steps[1].bindings[0] = BufferId(9), "buffer 9 does not exist"),
            (|p| p.steps.truncate(1), "port `y`: no step writes it"),
            (|p| p.buffers[2].bytes = 6, "6 bytes is not a positive multiple of four"),
            (|p| p.buffers[1].bytes = 20, "16 bytes of data for 20 bytes"),
            (|p| p.inputs[0].shape = [5].into(), "shape [5] from byte 0 of a buffer of 16 bytes"),
            (|p| p.inputs[0].dtype = DType::I64, "i64 uploaded as F32"),
            (|p| p.inputs[0].source = PortSource::Buffer(BufferId(2)), "is not an input"),
            (|p| p.inputs[0].source = PortSource::Part(BufferId(0), 0), "cannot be a part"),
            (|p| p.outputs[0].source = PortSource::Part(BufferId(3), 4), "from byte 4 of a"),
            (|p| p.outputs[0].source = PortSource::Part(BufferId(9), 0), "does not exist"),
        ];
        for (damage, expected) in cases {
            let mut plan = chain();
            damage(&mut plan);
            let reason = reason(&plan);
            assert!(reason.contains(expected), "{reason} should contain {expected}");
        }
    }

    #[test]
    fn a_shape_that_overflows_is_a_fault_and_no_panic() {
        let mut plan = chain();
        plan.inputs[0].shape = [usize::MAX, 2].into();
        assert!(reason(&plan).contains("port `x`"));
        plan.inputs[0].shape = [usize::MAX / 2].into();
        assert!(reason(&plan).contains("port `x`"));
    }

    #[test]
    fn the_limits_of_the_adapter_are_checked_per_step() {
        let mut plan = chain();
        plan.steps[1].dispatch.workgroups = [1, 70_000, 1];
        let error = plan.verify_for(&Caps::minimal()).unwrap_err().to_string();
        assert!(error.contains("step 1") && error.contains("Add_1"), "{error}");
        let caps = Caps { storage_buffers: 2, ..Caps::minimal() };
        let error = plan.verify_for(&caps).unwrap_err().to_string();
        assert!(error.contains("3 storage buffers"), "{error}");
    }
}
