//! Plans made by hand, for the tests of what reads plans.

use gw_shaders::kernel::{Access, Kernel, Needs};

use super::*;

/// Builds a plan whose kernels do nothing.
#[derive(Default)]
pub(crate) struct PlanBuilder(Plan);

impl PlanBuilder {
    fn buffer(&mut self, name: &str, elements: usize, kind: BufferKind) -> BufferId {
        let id = BufferId(u32::try_from(self.0.buffers.len()).unwrap());
        let bytes = 4 * elements as u64;
        self.0.buffers.push(Buffer { name: name.to_owned(), kind, bytes });
        id
    }

    fn port(name: &str, elements: usize, id: BufferId) -> Port {
        Port {
            name: name.to_owned(),
            dtype: DType::F32,
            scalar: Scalar::F32,
            shape: [elements].into(),
            source: PortSource::Buffer(id),
        }
    }

    pub(crate) fn input(&mut self, name: &str, elements: usize) -> BufferId {
        let id = self.buffer(name, elements, BufferKind::Input);
        self.0.inputs.push(Self::port(name, elements, id));
        id
    }

    pub(crate) fn output(&mut self, name: &str, elements: usize) -> BufferId {
        let id = self.buffer(name, elements, BufferKind::Output);
        self.0.outputs.push(Self::port(name, elements, id));
        id
    }

    pub(crate) fn weight(&mut self, name: &str, elements: usize) -> BufferId {
        let data = bytes::Bytes::from(vec![0; 4 * elements]);
        self.buffer(name, elements, BufferKind::Weight { key: name.to_owned(), data, shared: true })
    }

    pub(crate) fn temporary(&mut self, name: &str, elements: usize) -> BufferId {
        self.buffer(name, elements, BufferKind::Temporary)
    }

    pub(crate) fn step(&mut self, label: &str, reads: &[BufferId], writes: &[BufferId]) {
        let bindings = [vec![Access::Read; reads.len()], vec![Access::ReadWrite; writes.len()]];
        let kernel = Kernel {
            name: "nothing",
            variant: "plain".to_owned(),
            source: String::new(),
            bindings: bindings.concat(),
            needs: Needs::default(),
        };
        self.0.steps.push(Step {
            label: label.to_owned(),
            nodes: Vec::new(),
            choice: Choice::default(),
            work: None,
            cost: Cost::default(),
            dispatch: Dispatch { kernel, params: vec![], workgroups: [1, 1, 1] },
            bindings: [reads, writes].concat(),
        });
    }

    pub(crate) fn build(self) -> Plan {
        self.0
    }
}
