//! `out[o, j, i] = data[o, indices[j], i]`.
//!
//! A table that no binding holds is gathered from in parts: each is some rows of the axis, and
//! writes only what names one of them. Source: `Gather` (ONNX 13).

use std::borrow::Borrow;

use half::{bf16, f16};

use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::expr::Value;
use crate::kernel::{Caps, Dispatch, Needs, Scalar, Unsupported};

const NAME: &str = "gather";

/// What rows are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// Elements of the output's type.
    Plain(Scalar),
    /// Bytes laid out by [`pack_i8`], with one `f32` scale per row of the table in a buffer of
    /// its own; the output is `F32`.
    PackedI8,
    /// 16-bit floats laid out by [`pack_halves`]; the output is `F32`.
    PackedF16,
    /// As [`Table::PackedF16`], of the upper halves of `f32`.
    PackedBf16,
}

impl Table {
    /// Words of a row.
    pub const fn row_words(self, inner: u32) -> u32 {
        match self {
            Self::Plain(_) => inner,
            Self::PackedI8 => inner.div_ceil(4),
            Self::PackedF16 | Self::PackedBf16 => inner.div_ceil(2),
        }
    }

    /// The function of `operands/packed.wgsl` that makes four floats of two words.
    pub(crate) const fn four_halves(self) -> &'static str {
        if matches!(self, Self::PackedBf16) { "four_brains" } else { "four_halves" }
    }
}

/// What to compute.
///
/// Bindings: data `[outer, held, inner]`, where `held` is how many rows `part` has, the scales
/// `[outer * held]` (only with [`Table::PackedI8`]), indices `[count]` (`I32`; negative ones count
/// from the end of the whole axis, an index outside gives zeros), the output
/// `[outer, count, inner]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// What rows are made of.
    pub table: Table,
    /// The axes before.
    pub outer: u32,
    /// The axis that the indices name.
    pub axis: u32,
    /// The rows of the axis that the data are, from the first to before the last. The part that
    /// begins at 0 writes zeros for all that the others write, so it comes first.
    pub part: [u32; 2],
    /// The axes after: the length of a row.
    pub inner: u32,
    /// The number of indices.
    pub count: u32,
}

/// Lays rows of `inner` bytes out for [`Table::PackedI8`]: four to a word, lowest byte first, each
/// row padded with zeros.
pub fn pack_i8(rows: &[i8], inner: u32) -> Vec<u32> {
    let word = |bytes: &[i8]| {
        let mut padded = [0u8; 4];
        for (to, from) in padded.iter_mut().zip(bytes) {
            *to = from.cast_unsigned();
        }
        u32::from_le_bytes(padded)
    };
    rows.chunks((inner as usize).max(1)).flat_map(|row| row.chunks(4).map(word)).collect()
}

/// Lays rows of `inner` halves out for [`Table::PackedF16`] and its like: two to a word, the first
/// lowest, each row padded with zeros.
pub fn pack_halves(rows: &[u16], inner: u32) -> Vec<u32> {
    let half = |pair: &[u16], at: usize| pair.get(at).copied().map_or(0, u32::from);
    let word = |pair: &[u16]| half(pair, 0) | half(pair, 1) << 16;
    rows.chunks((inner as usize).max(1)).flat_map(|row| row.chunks(2).map(word)).collect()
}

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where a size is beyond the kernel or the adapter.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    let wide = spec.inner.is_multiple_of(4);
    let scalar = if let Table::Plain(scalar) = spec.table { scalar } else { Scalar::F32 };
    let part = if wide { format!("vec4<{}>", scalar.wgsl()) } else { scalar.wgsl().to_owned() };
    let (reading, kind, element) = match spec.table {
        Table::Plain(scalar) => ("read_plain", scalar.wgsl(), part.as_str()),
        Table::PackedI8 if wide => ("read_four_bytes", "i8", "u32"),
        Table::PackedI8 => ("read_one_byte", "i8", "u32"),
        Table::PackedF16 | Table::PackedBf16 => {
            let kind = if spec.table == Table::PackedF16 { "f16" } else { "bf16" };
            let by_four = ("read_four_halves", kind, "vec2<u32>");
            if wide { by_four } else { ("read_one_half", kind, "u32") }
        }
    };
    let width = if wide { ", vec4" } else { "" };
    let mut composer = Composer::new(NAME, format!("rows of {kind}{width}"));
    composer.source(include_str!("gather.wgsl")).hook("read_part", reading);
    composer.text(&format!("alias Part = {part};\n"));
    let parts = if wide { spec.inner / 4 } else { spec.inner };
    let total = u64::from(spec.outer) * u64::from(spec.count) * u64::from(parts);
    let count = u32::try_from(total)
        .map_err(|_| Unsupported::new(NAME, format!("{total} elements are too many")))?;
    composer.u32("count", count).u32("parts", parts);
    let [first, end] = spec.part;
    if first > end || end > spec.axis {
        return Err(Unsupported::new(NAME, format!("rows {first}..{end} of {}", spec.axis)));
    }
    composer.u32("axis", spec.axis).u32("indices", spec.count);
    composer.u32("first", first).u32("held", end - first);
    composer.source(include_str!("operands/packed.wgsl"));
    composer.hook("four_of", spec.table.four_halves()).read("data", element);
    if spec.table == Table::PackedI8 {
        composer.read("scales", "f32");
    }
    composer.read("indices", "i32").write("result", &part);
    composer.constant("WIDTH", 64);
    let groups = total.div_ceil(64);
    Ok(vec![composer.finish("gather_part", 64, groups, Needs::default(), caps)?])
}

/// The default variant.
///
/// # Errors
/// As [`variants`].
pub fn dispatch(spec: &Spec, caps: &Caps) -> Result<Dispatch, Unsupported> {
    Ok(variants(spec, caps)?.swap_remove(0))
}

/// What the output holds; of a part that is not the first, zeros where it writes nothing.
///
/// # Panics
/// Where the inputs are not those of the spec.
pub fn reference<D: Borrow<Data>>(spec: &Spec, inputs: &[D]) -> Data {
    let inputs = &borrowed(inputs);
    let (axis, inner) = (i64::from(spec.axis), spec.inner as usize);
    let [first, end] = spec.part.map(|row| row as usize);
    let scalar = if let Table::Plain(scalar) = spec.table { scalar } else { Scalar::F32 };
    let indices = inputs[inputs.len() - 1].i32();
    let read = |row: usize, column: usize| match spec.table {
        Table::Plain(_) => inputs[0].at(row * inner + column),
        Table::PackedI8 => {
            let word = inputs[0].u32()[row * inner.div_ceil(4) + column / 4];
            let byte = word.to_le_bytes()[column % 4].cast_signed();
            Value::F32(f32::from(byte) * inputs[1].f32()[row])
        }
        Table::PackedF16 | Table::PackedBf16 => {
            let word = inputs[0].u32()[row * inner.div_ceil(2) + column / 2];
            let half = (word >> (16 * (column % 2))) as u16;
            Value::F32(match spec.table {
                Table::PackedF16 => f16::from_bits(half).to_f32(),
                _ => bf16::from_bits(half).to_f32(),
            })
        }
    };
    let mut out = Vec::new();
    for outer in 0..spec.outer as usize {
        for &index in indices {
            let place = if index < 0 { i64::from(index) + axis } else { i64::from(index) };
            let row = usize::try_from(place).ok().filter(|place| (first..end).contains(place));
            out.extend((0..inner).map(|column| match row {
                Some(place) => read(outer * (end - first) + place - first, column),
                None => Value::new(scalar, 0.0),
            }));
        }
    }
    Data::collect(scalar, out.into_iter())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;

    #[test]
    fn reference_matches_a_table() {
        let table = Table::Plain(Scalar::I32);
        let spec = Spec { table, outer: 1, axis: 3, part: [0, 3], inner: 2, count: 3 };
        let data = Data::I32(vec![1, 2, 3, 4, 5, 6]);
        let given = reference(&spec, &[data, Data::I32(vec![2, -3, 3])]);
        assert_eq!(given.i32(), [5, 6, 1, 2, 0, 0]);
        let rows = Data::I32(vec![3, 4, 5, 6]);
        let given = reference(&Spec { part: [1, 3], ..spec }, &[rows, Data::I32(vec![2, -3, -2])]);
        assert_eq!(given.i32(), [5, 6, 0, 0, 3, 4]);
        let spec =
            Spec { table: Table::PackedI8, count: 1, axis: 2, part: [0, 2], inner: 5, ..spec };
        let bytes: Vec<i8> = vec![0, 0, 0, 0, 0, 1, -2, 127, -128, 5];
        let words = pack_i8(&bytes, 5);
        assert_eq!(words.len(), 4);
        let scales = Data::F32(vec![1.0, 0.5]);
        let given = reference(&spec, &[Data::U32(words), scales, Data::I32(vec![1])]);
        assert_eq!(given.f32(), [0.5, -1.0, 63.5, -64.0, 2.5]);
        // 1, -2 and 0.5 of either type, each row padded to two words.
        let spec = Spec { table: Table::PackedF16, inner: 3, ..spec };
        let index = Data::I32(vec![1]);
        let words = pack_halves(&[0, 0, 0, 0x3c00, 0xc000, 0x3800], 3);
        assert_eq!(words, [0, 0, 0xc000_3c00, 0x3800]);
        let given = reference(&spec, &[Data::U32(words), index.clone()]);
        assert_eq!(given.f32(), [1.0, -2.0, 0.5]);
        let spec = Spec { table: Table::PackedBf16, ..spec };
        let words = pack_halves(&[0, 0, 0, 0x3f80, 0xc000, 0x3f00], 3);
        let given = reference(&spec, &[Data::U32(words), index]);
        assert_eq!(given.f32(), [1.0, -2.0, 0.5]);
    }

    #[test]
    fn every_variant_is_valid() {
        let scalars = [Scalar::F32, Scalar::I32, Scalar::U32];
        let packed = [Table::PackedI8, Table::PackedF16, Table::PackedBf16];
        for table in scalars.map(Table::Plain).into_iter().chain(packed) {
            for inner in [1, 4, 7, 384] {
                let spec = Spec { table, outer: 2, axis: 5, part: [2, 5], inner, count: 3 };
                check::variants(|caps| variants(&spec, caps));
                let outside = Spec { part: [2, 6], ..spec };
                assert!(dispatch(&outside, &Caps::minimal()).is_err());
            }
        }
    }
}
