//! Models by name, and the tensors that go in and out.
//!
//! ```
//! use gw_sdk::nn::{Graph, Tensor};
//!
//! fn embed() -> Result<Vec<f32>, gw_sdk::Error> {
//!     let graph = Graph::load("minilm")?;
//!     let ids = Tensor::new([1, 3], [101i64, 4937, 102])?;
//!     let outputs = graph.compute([("input_ids", ids.into())])?;
//!     let hidden = outputs.read::<f32>("last_hidden_state")?;
//!     let hidden = hidden.expect_dims([Some(1), None, Some(2)])?;
//!     Ok(hidden.rows().map(|row| row.iter().sum()).collect())
//! }
//!
//! let host = gw_sdk::testing::Host::new().model("minilm", |inputs| {
//!     let ids = inputs.read::<i64>("input_ids")?;
//!     let hidden = Tensor::new([1, ids.len(), 2], vec![0.5f32; 2 * ids.len()])?;
//!     Ok(vec![("last_hidden_state", hidden.into())])
//! });
//! assert_eq!(host.run(embed).unwrap(), [1.0; 3]);
//! ```

mod element;
mod error;
mod outputs;
mod tensor;

use crate::host;

pub use self::element::{Element, ElementType};
pub use self::error::{Error, ErrorKind};
pub(crate) use self::outputs::Named;
pub use self::outputs::Outputs;
#[cfg(target_arch = "wasm32")]
pub(crate) use self::outputs::Value;
pub use self::tensor::{Input, Tensor};

/// A model that was loaded by the name it has in `gw.toml`.
pub struct Graph(host::Graph);

impl Graph {
    /// Loads a model that the manifest grants to this plugin. It is already in memory; this only
    /// looks it up.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where no such model is granted.
    pub fn load(name: &str) -> Result<Self, Error> {
        Ok(Self(host::Graph::load(name)?))
    }

    /// Runs the model once. Every input has the name that the model file gives it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidArgument`] where the inputs do not fit the model, and whatever its
    /// device reports.
    pub fn compute<'a>(
        &self,
        inputs: impl IntoIterator<Item = (&'a str, Input)>,
    ) -> Result<Outputs, Error> {
        self.context()?.compute(inputs)
    }

    /// Begins a sequence of runs.
    ///
    /// # Errors
    /// Whatever the host reports.
    pub fn context(&self) -> Result<Context, Error> {
        Ok(Context(self.0.context()?))
    }
}

/// A sequence of runs. Of a model that has `state` in `gw.toml`, each run goes on where the last
/// one ended, so its state inputs are left out; one that is given begins anew with it.
pub struct Context(host::Context);

impl Context {
    /// Runs the model once, as [`Graph::compute`].
    ///
    /// # Errors
    /// As [`Graph::compute`]; the state is then as it was.
    pub fn compute<'a>(
        &self,
        inputs: impl IntoIterator<Item = (&'a str, Input)>,
    ) -> Result<Outputs, Error> {
        let inputs = inputs.into_iter().map(|(name, input)| (name.to_owned(), input)).collect();
        Ok(Outputs(self.0.compute(inputs)?))
    }
}

#[cfg(test)]
mod tests;
