//! Calls wasi-nn as its body says, one call per line, and answers one line per call.
//!
//! Fields lie between tabs. Each call that makes something puts it behind what was made before;
//! later lines name it by its place. A place may be used after its thing is gone: what then
//! happens is what this guest is for.

use gw_sdk::bindings::wasi::nn::errors;
use gw_sdk::bindings::wasi::nn::graph::{
    ExecutionTarget, Graph, GraphEncoding, load, load_by_name,
};
use gw_sdk::bindings::wasi::nn::inference::GraphExecutionContext;
use gw_sdk::bindings::wasi::nn::tensor::{Tensor, TensorType};
use gw_sdk::{Error, Request, Response, handler};

#[handler]
fn answer(request: Request) -> Result<Response, Error> {
    let script = String::from_utf8_lossy(&request.body);
    let mut made = Made::default();
    let mut answer = String::new();
    for line in script.lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        answer += &made.call(&fields).unwrap_or_else(|code| format!("{code:?}"));
        answer.push('\n');
    }
    // What is left belongs to the instance, which ends here.
    std::mem::forget(made);
    Ok(Response::new(200, "text/plain", answer))
}

/// Handles, which nobody keeps valid.
#[derive(Default)]
struct Made {
    graphs: Vec<u32>,
    contexts: Vec<u32>,
    tensors: Vec<u32>,
}

impl Made {
    fn call(&mut self, fields: &[&str]) -> Result<String, errors::ErrorCode> {
        match *fields {
            ["graph", name] => self.graph(load_by_name(name)),
            ["load", encoding, target, ref parts @ ..] => {
                let parts: Vec<Vec<u8>> = parts.iter().map(|part| bytes(part)).collect();
                self.graph(load(&parts, self::encoding(encoding), self::target(target)))
            }
            ["context", at] => {
                let context = borrowed::<Graph, _>(find(&self.graphs, at), |graph| {
                    graph.init_execution_context()
                });
                self.contexts.push(context.map_err(|error| error.code())?.take_handle());
                Ok("context".to_owned())
            }
            ["tensor", ty, dims, data] => {
                let tensor = Tensor::new(&numbers(dims), self::ty(ty), &bytes(data));
                self.tensors.push(tensor.take_handle());
                Ok("tensor".to_owned())
            }
            ["compute", at, ref inputs @ ..] => {
                let inputs = inputs.chunks_exact(2).map(|input| {
                    // SAFETY: none; the host has to bear any handle.
                    let tensor = unsafe { Tensor::from_handle(find(&self.tensors, input[1])) };
                    (input[0].to_owned(), tensor)
                });
                let inputs = inputs.collect();
                let outputs =
                    borrowed::<GraphExecutionContext, _>(find(&self.contexts, at), |context| {
                        context.compute(inputs)
                    });
                let mut names = Vec::new();
                for (name, tensor) in outputs.map_err(|error| error.code())? {
                    names.push(format!("{name}={}", self.tensors.len()));
                    self.tensors.push(tensor.take_handle());
                }
                Ok(names.join("\t"))
            }
            ["flood", at, count] => {
                let handle = find(&self.tensors, at);
                let count = count.parse().unwrap_or_default();
                // SAFETY: as above.
                let input = |_| (String::new(), unsafe { Tensor::from_handle(handle) });
                let inputs = (0..count).map(input).collect();
                let context = find(&self.contexts, "0");
                let outputs =
                    borrowed::<GraphExecutionContext, _>(context, |it| it.compute(inputs));
                outputs.map(|_| "computed".to_owned()).map_err(|error| error.code())
            }
            ["panic"] => panic!("as told"),
            ["show", at] => Ok(borrowed::<Tensor, _>(find(&self.tensors, at), |tensor| {
                let data: String = tensor.data().iter().map(|x| format!("{x:02x}")).collect();
                format!("{:?} {:?} {data}", tensor.ty(), tensor.dimensions())
            })),
            ["drop", "graph", at] => dropped::<Graph>(find(&self.graphs, at)),
            ["drop", "context", at] => dropped::<GraphExecutionContext>(find(&self.contexts, at)),
            ["drop", "tensor", at] => dropped::<Tensor>(find(&self.tensors, at)),
            _ => Ok("?".to_owned()),
        }
    }

    fn graph(&mut self, graph: Result<Graph, errors::Error>) -> Result<String, errors::ErrorCode> {
        self.graphs.push(graph.map_err(|error| error.code())?.take_handle());
        Ok("graph".to_owned())
    }
}

/// A resource from its handle, whatever that is.
trait Handled {
    fn from(handle: u32) -> Self;
    fn forget(self);
}

macro_rules! handled {
    ($($resource:ty),*) => {$(
        impl Handled for $resource {
            fn from(handle: u32) -> Self {
                // SAFETY: none; the host has to bear any handle.
                unsafe { Self::from_handle(handle) }
            }

            fn forget(self) {
                self.take_handle();
            }
        }
    )*};
}

handled!(Graph, GraphExecutionContext, Tensor);

fn borrowed<R: Handled, T>(handle: u32, call: impl FnOnce(&R) -> T) -> T {
    let resource = <R as Handled>::from(handle);
    let result = call(&resource);
    resource.forget();
    result
}

fn dropped<R: Handled>(handle: u32) -> Result<String, errors::ErrorCode> {
    drop(<R as Handled>::from(handle));
    Ok("dropped".to_owned())
}

/// The handle at a place; a place where nothing was made is a handle by itself.
fn find(handles: &[u32], at: &str) -> u32 {
    let at: usize = at.parse().unwrap_or(usize::MAX);
    handles.get(at).copied().unwrap_or(at as u32)
}

fn numbers(text: &str) -> Vec<u32> {
    match text.strip_prefix("ones*") {
        Some(count) => vec![1; count.parse().unwrap_or_default()],
        None => text.split(',').filter_map(|number| number.parse().ok()).collect(),
    }
}

/// Hexadecimal digits, or `zeros*` and a count.
fn bytes(text: &str) -> Vec<u8> {
    match text.strip_prefix("zeros*") {
        Some(count) => vec![0; count.parse().unwrap_or_default()],
        None => (0..text.len() / 2)
            .filter_map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok())
            .collect(),
    }
}

fn ty(text: &str) -> TensorType {
    match text {
        "FP16" => TensorType::Fp16,
        "FP64" => TensorType::Fp64,
        "BF16" => TensorType::Bf16,
        "U8" => TensorType::U8,
        "I32" => TensorType::I32,
        "I64" => TensorType::I64,
        _ => TensorType::Fp32,
    }
}

fn encoding(text: &str) -> GraphEncoding {
    match text {
        "openvino" => GraphEncoding::Openvino,
        "tensorflow" => GraphEncoding::Tensorflow,
        "pytorch" => GraphEncoding::Pytorch,
        "tensorflowlite" => GraphEncoding::Tensorflowlite,
        "ggml" => GraphEncoding::Ggml,
        "autodetect" => GraphEncoding::Autodetect,
        _ => GraphEncoding::Onnx,
    }
}

fn target(text: &str) -> ExecutionTarget {
    match text {
        "gpu" => ExecutionTarget::Gpu,
        "tpu" => ExecutionTarget::Tpu,
        _ => ExecutionTarget::Cpu,
    }
}
