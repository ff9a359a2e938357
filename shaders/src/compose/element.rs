//! What buffers are arrays of, and how a shader reads them.

use crate::kernel::Scalar;

/// What a buffer is an array of.
pub(super) enum Element {
    /// This type.
    Of(String),
    /// Four of these, which `{name}_four(at)` reads.
    Four(Scalar),
}

impl Element {
    pub(super) const fn is_four(&self) -> bool {
        matches!(self, Self::Four(_))
    }

    /// The array's type and the end of its declaration; `in_halves` where four are two of 64 bits.
    pub(super) fn declared(&self, in_halves: bool) -> String {
        match self {
            Self::Of(element) => format!("array<{element}>;"),
            Self::Four(scalar) if in_halves => {
                format!("array<vec2<u64>>; // vec4<{}>", scalar.wgsl())
            }
            Self::Four(scalar) => format!("array<vec4<{}>>;", scalar.wgsl()),
        }
    }

    /// The function that reads four; nothing where elements are read as they are.
    pub(super) fn reader(&self, name: &str, in_halves: bool) -> String {
        let Self::Four(scalar) = self else { return String::new() };
        let scalar = scalar.wgsl();
        let body = if in_halves {
            format!(
                "    let halves = {name}[at];\n    let low = vec2<u32>(halves);\n    \
                 let high = vec2<u32>(halves >> vec2(32u));\n    \
                 return bitcast<vec4<{scalar}>>(vec4(low.x, high.x, low.y, high.y));\n"
            )
        } else {
            format!("    return {name}[at];\n")
        };
        format!("fn {name}_four(at: u32) -> vec4<{scalar}> {{\n{body}}}\n")
    }
}
