//! [`Outputs`]: what a model answered.

use std::fmt;

use super::{Element, ElementType, Error, ErrorKind, Tensor, element};

/// What a model answered. Nothing is copied into the guest until it is read.
pub struct Outputs(pub(crate) Vec<Named>);

/// One output.
pub(crate) struct Named {
    name: String,
    value: Box<dyn Value>,
}

/// An output, wherever it is. It is not an enum: a plugin that asks no model would then import what
/// reads and drops its tensors.
pub(crate) trait Value {
    fn ty(&self) -> ElementType;
    fn dims(&self) -> Vec<u32>;
    /// Little-endian.
    fn data(&self) -> Vec<u8>;
}

/// An output that is here already.
struct Here {
    dims: Vec<u32>,
    ty: ElementType,
    data: Vec<u8>,
}

impl Outputs {
    /// The names, in the model's order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|output| output.name.as_str())
    }

    /// One output, copied into the guest.
    ///
    /// # Errors
    /// [`ErrorKind::Mismatch`] where the model has no such output, or one of another type.
    pub fn read<T: Element>(&self, name: &str) -> Result<Tensor<T>, Error> {
        let Some(output) = self.0.iter().find(|output| output.name == name) else {
            let names: Vec<_> = self.names().collect();
            let message = format!("the model has no output {name:?}, only {}", names.join(", "));
            return Err(Error::new(ErrorKind::Mismatch, message));
        };
        let ty = output.value.ty();
        if ty != T::TYPE {
            let (given, asked) = (element::name(ty), element::name(T::TYPE));
            let message = format!(
                "output {name:?} holds {given}, not {asked}: read it with `read::<{given}>`"
            );
            return Err(Error::new(ErrorKind::Mismatch, message));
        }
        let dims = output.value.dims().into_iter().map(|size| size as usize).collect();
        Tensor::named(name, dims, T::elements(output.value.data()))
    }
}

impl fmt::Debug for Outputs {
    /// The name, type and dimensions of each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for Named { name, value } in &self.0 {
            list.entry(&format_args!("{name}: {} {:?}", element::name(value.ty()), value.dims()));
        }
        list.finish()
    }
}

impl Value for Here {
    fn ty(&self) -> ElementType {
        self.ty
    }

    fn dims(&self) -> Vec<u32> {
        self.dims.clone()
    }

    fn data(&self) -> Vec<u8> {
        self.data.clone()
    }
}

impl Named {
    pub(crate) fn new(name: String, value: impl Value + 'static) -> Self {
        Self { name, value: Box::new(value) }
    }

    /// An output that is here already, little-endian.
    pub(crate) fn here(name: String, dims: Vec<u32>, ty: ElementType, data: Vec<u8>) -> Self {
        Self::new(name, Here { dims, ty, data })
    }
}
