//! `out[r, :] = norm(expr(x0[r, :], x1[r, :], …))`, where each x is the row of a table that an
//! index names, or a row as it is: the embeddings of a text, of its parts and of its positions.
//!
//! Source: `Gather` (ONNX 13), `EmbedLayerNormalization` (ONNX Runtime).

use std::borrow::Borrow;
use std::fmt::Write as _;

use crate::compose::Composer;
use crate::data::{Data, borrowed};
use crate::expr::{Expr, Value};
use crate::gather::{self, Table};
use crate::kernel::{Caps, Dispatch, Scalar, Unsupported};
use crate::lanes::Lanes;
use crate::norm;

const NAME: &str = "embed";

/// Where the rows of one input come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// A table of `axis` rows, of floats or bytes; what an index outside names is zeros.
    Table {
        /// What rows are made of.
        table: Table,
        /// Its rows.
        axis: u32,
    },
    /// Row `r` lies at `offset + r % period * row`.
    Dense {
        /// The first element.
        offset: u32,
        /// Rows until they repeat.
        period: u32,
        /// Elements from one row to the next.
        row: i32,
    },
}

/// What to compute.
///
/// Bindings: scale `[cols]` and bias `[cols]` where the norm has them; for each input the table,
/// its scales (only with [`Table::PackedI8`]) and the indices `[count]` as [`gather::Spec`] has
/// them, or its `f32` rows; the output `[count, cols]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// Rows.
    pub count: u32,
    /// Elements of a row.
    pub cols: u32,
    /// The inputs of the expression.
    pub inputs: Vec<Rows>,
    /// All `F32`.
    pub expr: Expr,
    /// How the combined rows are normalised, if they are.
    pub norm: Option<norm::Form>,
}

/// Every way that the adapter allows, the default first.
///
/// # Errors
/// Where the expression is not of floats, one per input, and where a size is beyond the kernel or
/// the adapter.
pub fn variants(spec: &Spec, caps: &Caps) -> Result<Vec<Dispatch>, Unsupported> {
    let floats = vec![Scalar::F32; spec.inputs.len()];
    if spec.expr.inputs != floats || spec.expr.result() != Ok(Scalar::F32) {
        return Err(Unsupported::new(NAME, "an expression that is not of one float per input"));
    }
    let turns = u64::from(spec.cols) + norm::turns(spec.cols);
    norm::ways(NAME, turns, caps)?.into_iter().map(|lanes| compose(spec, lanes, caps)).collect()
}

/// The default variant.
///
/// # Errors
/// As [`variants`].
pub fn dispatch(spec: &Spec, caps: &Caps) -> Result<Dispatch, Unsupported> {
    Ok(variants(spec, caps)?.swap_remove(0))
}

fn compose(spec: &Spec, lanes: Lanes, caps: &Caps) -> Result<Dispatch, Unsupported> {
    let part = norm::part(spec.cols);
    let normed = if spec.norm.is_some() { ", normalised" } else { "" };
    let name = format!("{} rows{normed}, {}", spec.inputs.len(), lanes.name());
    let mut composer = Composer::new(NAME, name);
    composer.source(include_str!("embed.wgsl"));
    lanes.declare(&mut composer);
    if let Some(form) = spec.norm {
        norm::declare(&mut composer, form, spec.cols, lanes, "value_of_result");
    } else {
        let parts = if spec.cols.is_multiple_of(4) { spec.cols / 4 } else { spec.cols };
        composer.constant("ROW_LANES", lanes.count()).u32("row_parts", parts);
        composer.text(&format!("alias Part = {part};\n"));
    }
    for (index, rows) in spec.inputs.iter().enumerate() {
        declare(&mut composer, index, rows, spec.cols)?;
    }
    composer.write("result", part);
    body(&mut composer, spec)?;
    lanes.finish(composer, "embed_row", u64::from(spec.count), caps)
}

/// Declares one input, `place_ofN(row)` and `readN(place, part)`.
fn declare(
    composer: &mut Composer,
    index: usize,
    rows: &Rows,
    cols: u32,
) -> Result<(), Unsupported> {
    let part = norm::part(cols);
    let wide = cols.is_multiple_of(4);
    let refused = |reason: &str| Err(Unsupported::new(NAME, reason));
    let (place, value) = match *rows {
        Rows::Table { table, axis } => {
            composer.u32(format!("axis{index}"), axis);
            let at = "u32(max(place, 0i)) * params.row_parts + part";
            let value = match table {
                Table::Plain(Scalar::F32) => {
                    composer.read(format!("table{index}"), part);
                    format!("table{index}[{at}]")
                }
                Table::PackedI8 if wide => {
                    composer.read(format!("table{index}"), "u32");
                    composer.read(format!("scales{index}"), "f32");
                    format!("four_bytes_of(table{index}[{at}], scales{index}[max(place, 0i)])")
                }
                Table::PackedF16 | Table::PackedBf16 if wide => {
                    composer.source(include_str!("operands/packed.wgsl"));
                    composer.read(format!("table{index}"), "vec2<u32>");
                    format!("{}(table{index}[{at}])", table.four_halves())
                }
                _ => return refused("tables of integers, or of packed rows not by four"),
            };
            composer.read(format!("indices{index}"), "i32");
            let place = format!("table_row(indices{index}[row], params.axis{index})");
            // A choice costs less than a branch.
            (place, format!("return select(Part(), {value}, place >= 0i);"))
        }
        Rows::Dense { offset, period, row } => {
            let unit: u32 = if wide { 4 } else { 1 };
            if period == 0 || offset % unit != 0 || row.cast_unsigned() % unit != 0 {
                return refused("rows that begin inside a vec4");
            }
            composer.u32(format!("offset{index}"), offset / unit);
            composer.u32(format!("period{index}"), period);
            composer.u32(format!("row{index}"), (row / unit.cast_signed()).cast_unsigned());
            composer.read(format!("rows{index}"), part);
            let within = format!("row % params.period{index} * params.row{index}");
            let place = format!("i32(params.offset{index} + {within})");
            (place, format!("return rows{index}[u32(place) + part];"))
        }
    };
    composer.text(&format!(
        "fn place_of{index}(row: u32) -> i32 {{\n    return {place};\n}}\n\
         fn read{index}(place: i32, part: u32) -> Part {{\n    {value}\n}}\n"
    ));
    Ok(())
}

fn body(composer: &mut Composer, spec: &Spec) -> Result<(), Unsupported> {
    let (mut places, mut values) = (String::new(), String::new());
    for index in 0..spec.inputs.len() {
        // Writing to a string cannot fail.
        let _ = writeln!(places, "    let place{index} = place_of{index}(row);");
        let _ = writeln!(values, "        let v{index} = read{index}(place{index}, i);");
    }
    let combined = |lane: &str| {
        let values = (0..spec.inputs.len()).map(|index| format!("v{index}{lane}"));
        format!("combine({})", values.collect::<Vec<_>>().join(", "))
    };
    let result = if spec.cols.is_multiple_of(4) {
        format!("vec4({})", [".x", ".y", ".z", ".w"].map(combined).join(", "))
    } else {
        combined("")
    };
    let finish = if spec.norm.is_some() { "    normalise(row, lane);\n" } else { "" };
    composer.expr("combine", &spec.expr)?;
    composer.text(&format!(
        "fn embed_row(row: u32, lane: u32) {{\n{places}    \
         for (var i = lane; i < params.row_parts; i += ROW_LANES) {{\n{values}        \
         result[row * params.row_parts + i] = {result};\n    }}\n{finish}}}\n"
    ));
    Ok(())
}

/// What the output holds.
///
/// # Panics
/// Where the inputs are not those of the spec.
pub fn reference<D: Borrow<Data>>(spec: &Spec, inputs: &[D]) -> Data {
    let inputs = &borrowed(inputs);
    let (weights, mut rest) = inputs.split_at(spec.norm.map_or(0, norm::Form::operands));
    let (count, cols) = (spec.count as usize, spec.cols as usize);
    let mut columns = Vec::with_capacity(spec.inputs.len());
    for rows in &spec.inputs {
        let taken = match rows {
            Rows::Table { table: Table::PackedI8, .. } => 3,
            Rows::Table { .. } => 2,
            Rows::Dense { .. } => 1,
        };
        let (own, others) = rest.split_at(taken);
        rest = others;
        columns.push(match *rows {
            Rows::Table { table, axis } => {
                let [inner, count] = [spec.cols, spec.count];
                let spec = gather::Spec { table, outer: 1, axis, part: [0, axis], inner, count };
                gather::reference(&spec, own).f32().to_vec()
            }
            Rows::Dense { offset, period, row } => {
                let first = |r: usize| offset as usize + r % period as usize * row as usize;
                let data = own[0].f32();
                (0..count).flat_map(|r| data[first(r)..first(r) + cols].to_vec()).collect()
            }
        });
    }
    let at = |place: usize| {
        let values: Vec<_> = columns.iter().map(|column| Value::F32(column[place])).collect();
        let Value::F32(value) = spec.expr.eval(&values) else { panic!("the result is F32") };
        value
    };
    let out = Data::F32((0..count * cols).map(at).collect());
    let Some(form) = spec.norm else { return out };
    let normed = norm::Spec { form, rows: spec.count, cols: spec.cols };
    norm::reference(&normed, &[weights, &[&out]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check;
    use crate::expr::{Binary, Instr};

    fn spec(cols: u32, table: Table, norm: Option<norm::Form>) -> Spec {
        let mut expr = Expr::new(vec![Scalar::F32; 3]);
        let both = expr.push(Instr::Binary(Binary::Add, 0, 1));
        expr.push(Instr::Binary(Binary::Add, both, 2));
        let plain = Rows::Table { table: Table::Plain(Scalar::F32), axis: 2 };
        let dense = Rows::Dense { offset: cols, period: 2, row: cols.cast_signed() };
        Spec {
            count: 3,
            cols,
            inputs: vec![Rows::Table { table, axis: 3 }, plain, dense],
            expr,
            norm,
        }
    }

    const NORM: norm::Form =
        norm::Form { kind: norm::Kind::Layer, eps: 0.0, scale: false, bias: true };

    #[test]
    fn reference_matches_a_table() {
        let words = Data::F32(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let types = Data::F32(vec![10.0, 20.0, 30.0, 40.0]);
        let positions = Data::F32(vec![0.0, 0.0, 100.0, 100.0, 200.0, 300.0]);
        let rows = [words, Data::I32(vec![2, -3, 9]), types, Data::I32(vec![0, 1, 0]), positions];
        let table = Table::Plain(Scalar::F32);
        let given = reference(&spec(2, table, None), &rows);
        assert_eq!(given.f32(), [115.0, 126.0, 231.0, 342.0, 110.0, 120.0]);
        let rows = [vec![Data::F32(vec![0.5, 0.0])], rows.to_vec()].concat();
        let given = reference(&spec(2, table, Some(NORM)), &rows);
        assert_eq!(given.f32(), [-0.5, 1.0, -0.5, 1.0, -0.5, 1.0]);
    }

    #[test]
    fn every_variant_is_valid() {
        for (cols, table) in
            [(5, Table::Plain(Scalar::F32)), (8, Table::PackedI8), (8, Table::PackedF16)]
        {
            for norm in [None, Some(NORM)] {
                let spec = spec(cols, table, norm);
                let wide = |caps: &Caps| Caps { storage_buffers: 16, ..*caps };
                check::variants(|caps| variants(&spec, &wide(caps)));
            }
        }
        let odd = spec(5, Table::PackedI8, None);
        assert!(dispatch(&odd, &Caps::minimal()).is_err());
    }
}
