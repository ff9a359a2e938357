//! The node, through WASI.

mod outbound;

use std::fs;
use std::io;

pub(crate) use self::outbound::send;
pub(crate) use crate::bindings::wasi::config::store::{get as config, get_all as config_all};
pub(crate) use crate::bindings::wasi::logging::logging::log;

use crate::bindings::wasi::keyvalue::{atomics, batch, store};
use crate::bindings::wasi::nn::graph::{self, Graph as WitGraph};
use crate::bindings::wasi::nn::inference::GraphExecutionContext;
use crate::bindings::wasi::nn::tensor::Tensor;
use crate::keyvalue::{Error as BucketError, KeyResponse, Pair};
use crate::nn::{ElementType, Error, Input, Named, Value};

/// The bytes of an asset.
pub(crate) fn asset(name: &str) -> io::Result<Vec<u8>> {
    fs::read(format!("/assets/{name}"))
}

pub(crate) struct Graph(WitGraph);

impl Graph {
    pub(crate) fn load(name: &str) -> Result<Self, Error> {
        Ok(Self(graph::load_by_name(name)?))
    }

    pub(crate) fn context(&self) -> Result<Context, Error> {
        Ok(Context(self.0.init_execution_context()?))
    }
}

pub(crate) struct Context(GraphExecutionContext);

impl Context {
    pub(crate) fn compute(&self, inputs: Vec<(String, Input)>) -> Result<Vec<Named>, Error> {
        // Each input is freed as soon as the host has it.
        let inputs = inputs
            .into_iter()
            .map(|(name, input)| (name, Tensor::new(&input.dims, input.ty, input.bytes())))
            .collect::<Vec<_>>();
        let outputs = self.0.compute(inputs)?;
        Ok(outputs.into_iter().map(|(name, tensor)| Named::new(name, tensor)).collect())
    }
}

/// What is in the host is copied when it is read.
impl Value for Tensor {
    fn ty(&self) -> ElementType {
        Tensor::ty(self)
    }

    fn dims(&self) -> Vec<u32> {
        self.dimensions()
    }

    fn data(&self) -> Vec<u8> {
        Tensor::data(self)
    }
}

pub(crate) struct Bucket(store::Bucket);

impl Bucket {
    pub(crate) fn open(name: &str) -> Result<Self, BucketError> {
        Ok(Self(store::open(name)?))
    }

    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, BucketError> {
        self.0.get(key)
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<(), BucketError> {
        self.0.set(key, value)
    }

    pub(crate) fn delete(&self, key: &str) -> Result<(), BucketError> {
        self.0.delete(key)
    }

    pub(crate) fn exists(&self, key: &str) -> Result<bool, BucketError> {
        self.0.exists(key)
    }

    pub(crate) fn list_keys(&self, cursor: Option<u64>) -> Result<KeyResponse, BucketError> {
        self.0.list_keys(cursor)
    }

    pub(crate) fn increment(&self, key: &str, delta: u64) -> Result<u64, BucketError> {
        atomics::increment(&self.0, key, delta)
    }

    pub(crate) fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Pair>>, BucketError> {
        batch::get_many(&self.0, keys)
    }

    pub(crate) fn set_many(&self, pairs: &[Pair]) -> Result<(), BucketError> {
        batch::set_many(&self.0, pairs)
    }

    pub(crate) fn delete_many(&self, keys: &[String]) -> Result<(), BucketError> {
        batch::delete_many(&self.0, keys)
    }
}

/// On standard error, which every plugin has: `wasi:logging` would be an import of plugins that
/// never log, and other hosts lack it.
#[allow(clippy::print_stderr, reason = "the node logs what is written there")]
pub(crate) fn complain(message: &str) {
    eprintln!("{message}");
}
