//! wasi-nn for components: three snapshots of the WIT over one [`Nn`].
//!
//! A pre-release matches itself only, so each snapshot is linked under its own version. What they
//! have in common is here once: types are compared by structure, not by name. Generated bindings
//! would have it three times, and would copy what is refused for its size.

use bytes::Bytes;
use wasmtime::StoreContextMut;
use wasmtime::component::{
    Linker, LinkerInstance, Resource, ResourceTable, ResourceType, WasmList,
};

use super::context::ExecutionContext;
use super::error::{ErrorCode, NnError};
use super::load::{Encoding, Target};
use super::tensor::{NnTensor, TensorType};
use super::{Graph, Named, Nn};
use crate::instance::State;

/// One dated version of `wasi:nn`.
pub(crate) struct Snapshot {
    /// As it stands behind the `@` of an import.
    pub(crate) version: &'static str,
    /// Inputs and outputs are bound to the context, by `set-input` and `get-output`; else they are
    /// parameters and results of `compute`.
    binds: bool,
    /// A guest may make errors.
    makes_errors: bool,
}

/// All that are offered, the newest first.
pub(crate) const SNAPSHOTS: [Snapshot; 3] = [
    Snapshot { version: "0.2.0-rc-2024-10-28", binds: false, makes_errors: false },
    Snapshot { version: "0.2.0-rc-2024-08-19", binds: true, makes_errors: false },
    Snapshot { version: "0.2.0-rc-2024-06-25", binds: true, makes_errors: true },
];

type Instance<'l> = LinkerInstance<'l, State>;
type Store<'s> = StoreContextMut<'s, State>;
type NamedTensor = (String, Resource<NnTensor>);
type Answer<T> = wasmtime::Result<(Result<T, Resource<NnError>>,)>;

pub(crate) fn add_to_linker(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    for Snapshot { version, binds, makes_errors } in SNAPSHOTS {
        add_tensor(linker.instance(&format!("wasi:nn/tensor@{version}"))?)?;
        add_errors(linker.instance(&format!("wasi:nn/errors@{version}"))?, makes_errors)?;
        add_inference(linker.instance(&format!("wasi:nn/inference@{version}"))?, binds)?;
        add_graph(linker.instance(&format!("wasi:nn/graph@{version}"))?)?;
    }
    Ok(())
}

fn add_tensor(mut instance: Instance<'_>) -> wasmtime::Result<()> {
    add_resource::<NnTensor>(&mut instance, "tensor")?;
    instance.func_wrap(
        "[constructor]tensor",
        |mut store: Store<'_>, (dims, ty, data): (WasmList<u32>, TensorType, WasmList<u8>)| {
            let allowance = store.data().nn.allowance.clone();
            let tensor = NnTensor::claim(&allowance, ty, (dims.len(), data.len()), || {
                let dims = dims.as_le_slice(&store).iter().map(|&size| u32::from_le(size));
                (dims.collect(), Bytes::copy_from_slice(data.as_le_slice(&store)))
            });
            Ok((store.data_mut().nn().table.push(tensor)?,))
        },
    )?;
    instance.func_wrap(
        "[method]tensor.dimensions",
        |mut store: Store<'_>, (this,): (Resource<NnTensor>,)| {
            Ok((store.data_mut().nn().table.get(&this)?.dimensions(),))
        },
    )?;
    instance.func_wrap(
        "[method]tensor.ty",
        |mut store: Store<'_>, (this,): (Resource<NnTensor>,)| {
            Ok((store.data_mut().nn().table.get(&this)?.ty(),))
        },
    )?;
    // The bytes are shared, or on a device, until a guest asks for them. It can be given no error,
    // so one of the device ends its request.
    instance.func_wrap_async(
        "[method]tensor.data",
        |mut store: Store<'_>, (this,): (Resource<NnTensor>,)| {
            Box::new(async move {
                let tensor = store.data_mut().nn().table.get(&this)?.clone();
                let data = tensor.data().await;
                let data = data.inspect_err(|error| store.data_mut().nn.note(error))?;
                Ok((data.to_vec(),))
            })
        },
    )
}

fn add_errors(mut instance: Instance<'_>, makes_errors: bool) -> wasmtime::Result<()> {
    add_resource::<NnError>(&mut instance, "error")?;
    if makes_errors {
        instance.func_wrap(
            "[constructor]error",
            |mut store: Store<'_>, (code, data): (ErrorCode, String)| {
                Ok((store.data_mut().nn().table.push(NnError::new(code, data))?,))
            },
        )?;
    }
    instance.func_wrap(
        "[method]error.code",
        |mut store: Store<'_>, (this,): (Resource<NnError>,)| {
            Ok((store.data_mut().nn().table.get(&this)?.code,))
        },
    )?;
    instance.func_wrap(
        "[method]error.data",
        |mut store: Store<'_>, (this,): (Resource<NnError>,)| {
            Ok((store.data_mut().nn().table.get(&this)?.data.clone(),))
        },
    )
}

fn add_graph(mut instance: Instance<'_>) -> wasmtime::Result<()> {
    add_resource::<Graph>(&mut instance, "graph")?;
    instance.func_wrap(
        "[method]graph.init-execution-context",
        |mut store: Store<'_>, (this,): (Resource<Graph>,)| {
            let NnView { table, .. } = store.data_mut().nn();
            let context = ExecutionContext::new(table.get(&this)?);
            Ok((Ok::<_, Resource<NnError>>(table.push(context)?),))
        },
    )?;
    instance.func_wrap_async(
        "load",
        |mut store: Store<'_>, (parts, encoding, target): (Vec<WasmList<u8>>, Encoding, Target)| {
            Box::new(async move {
                let graph = load(&mut store, &parts, encoding, target).await;
                store.data_mut().nn().answer(graph)
            })
        },
    )?;
    instance.func_wrap("load-by-name", |mut store: Store<'_>, (name,): (String,)| {
        let mut view = store.data_mut().nn();
        let graph = view.nn.find(&name);
        view.answer(graph)
    })
}

/// Nothing is copied from the guest before it is clear that it may be loaded.
async fn load(
    store: &mut Store<'_>,
    parts: &[WasmList<u8>],
    encoding: Encoding,
    target: Target,
) -> Result<Graph, NnError> {
    let sizes: Vec<usize> = parts.iter().map(WasmList::len).collect();
    let load = store.data().nn.may_load(&sizes, encoding, Some(target))?;
    let entered = load.enter().await?;
    let bytes = Bytes::copy_from_slice(parts[0].as_le_slice(&*store));
    entered.load(bytes).await
}

fn add_inference(mut instance: Instance<'_>, binds: bool) -> wasmtime::Result<()> {
    add_resource::<ExecutionContext>(&mut instance, "graph-execution-context")?;
    let compute = "[method]graph-execution-context.compute";
    if !binds {
        return instance.func_wrap_async(
            compute,
            |mut store: Store<'_>, (this, inputs): (_, Vec<NamedTensor>)| {
                Box::new(async move { store.data_mut().nn().compute(this, inputs).await })
            },
        );
    }
    instance.func_wrap_async(compute, |mut store: Store<'_>, (this,)| {
        Box::new(async move { store.data_mut().nn().compute_bound(this).await })
    })?;
    instance.func_wrap(
        "[method]graph-execution-context.set-input",
        |mut store: Store<'_>, (this, name, tensor): (_, String, Resource<NnTensor>)| {
            let mut view = store.data_mut().nn();
            // It is the guest's no longer, whatever happens next.
            let tensor = view.table.delete(tensor)?;
            let context: &Resource<ExecutionContext> = &this;
            let bound = view.table.get_mut(context)?.bind(name, tensor);
            view.answer(bound)
        },
    )?;
    instance.func_wrap(
        "[method]graph-execution-context.get-output",
        |mut store: Store<'_>, (this, name): (Resource<ExecutionContext>, String)| {
            let mut view = store.data_mut().nn();
            let output = view.table.get(&this)?.output(&name);
            view.answer(output)
        },
    )
}

/// A resource of a guest, with what is dropped when the guest drops it.
fn add_resource<T: Send + 'static>(
    instance: &mut Instance<'_>,
    name: &str,
) -> wasmtime::Result<()> {
    instance.resource(name, ResourceType::host::<T>(), |mut store, rep| {
        store.data_mut().nn().table.delete(Resource::<T>::new_own(rep))?;
        Ok(())
    })
}

/// wasi-nn of one instance, with the table that holds its resources.
pub(crate) struct NnView<'a> {
    pub(crate) nn: &'a mut Nn,
    pub(crate) table: &'a mut ResourceTable,
}

impl NnView<'_> {
    /// Hands a value, or an error, to the guest as a resource.
    fn answer<T: Handed>(&mut self, result: Result<T, NnError>) -> Answer<T::As> {
        Ok((match result {
            Ok(value) => Ok(value.hand(self.table)?),
            Err(error) => Err(self.table.push(error)?),
        },))
    }

    async fn compute(
        &mut self,
        this: Resource<ExecutionContext>,
        inputs: Vec<NamedTensor>,
    ) -> Answer<Vec<NamedTensor>> {
        let mut taken = Named::with_capacity(inputs.len());
        for (name, tensor) in inputs {
            taken.push((name, self.table.delete(tensor)?));
        }
        let (model, inputs) = self.table.get(&this)?.given(taken);
        let outputs = self.nn.compute(&model, inputs).await;
        if let Ok(outputs) = &outputs {
            self.table.get_mut(&this)?.advance(outputs);
        }
        self.answer(outputs)
    }

    async fn compute_bound(&mut self, this: Resource<ExecutionContext>) -> Answer<()> {
        let (model, inputs) = self.table.get_mut(&this)?.bound();
        let outputs = self.nn.compute(&model, inputs).await;
        let kept = match outputs {
            Ok(outputs) => {
                self.table.get_mut(&this)?.keep(outputs);
                Ok(())
            }
            Err(error) => Err(error),
        };
        self.answer(kept)
    }
}

/// What a guest gets a handle for.
trait Handed {
    type As;

    fn hand(self, table: &mut ResourceTable) -> wasmtime::Result<Self::As>;
}

impl Handed for () {
    type As = ();

    fn hand(self, _: &mut ResourceTable) -> wasmtime::Result<()> {
        Ok(())
    }
}

impl Handed for Graph {
    type As = Resource<Graph>;

    fn hand(self, table: &mut ResourceTable) -> wasmtime::Result<Self::As> {
        Ok(table.push(self)?)
    }
}

impl Handed for NnTensor {
    type As = Resource<NnTensor>;

    fn hand(self, table: &mut ResourceTable) -> wasmtime::Result<Self::As> {
        Ok(table.push(self)?)
    }
}

impl Handed for Named {
    type As = Vec<NamedTensor>;

    fn hand(self, table: &mut ResourceTable) -> wasmtime::Result<Self::As> {
        self.into_iter().map(|(name, tensor)| Ok((name, table.push(tensor)?))).collect()
    }
}
