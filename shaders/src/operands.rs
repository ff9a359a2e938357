//! How a matrix product reads its operands and stores its sums: `b` of [`crate::gemm`] and the
//! epilogue that [`crate::conv`] shares.
//!
//! - [`packed`]: weights narrower than `f32`.

pub(crate) mod packed;

use std::fmt::Write as _;

use crate::compose::Composer;
use crate::data::Data;
use crate::expr::Value;
use crate::gemm::{Epilogue, Spec, Weights};
use crate::kernel::{Scalar, Unsupported};
use crate::layout::Matrix;

/// Declares `a` and how it is read.
pub(crate) fn a(composer: &mut Composer, spec: &Spec) {
    if rows(composer, &spec.a, spec.k) {
        composer.read_fours("a", Scalar::F32).hook("load_a", "load_a_wide");
    } else {
        composer.read("a", "f32").hook("load_a", "load_a_scattered");
    }
}

/// Declares where the rows of `a` lie, and says whether four of k are one aligned vec4.
pub(crate) fn rows(composer: &mut Composer, a: &Matrix, k: u32) -> bool {
    composer.source(include_str!("operands.wgsl"));
    let wide = a.is_wide() && k.is_multiple_of(4);
    let unit: i32 = if wide { 4 } else { 1 };
    composer.u32("a_offset", a.offset / unit.cast_unsigned());
    composer.u32("a_z0", (a.batch[0] / unit).cast_unsigned());
    composer.u32("a_z1", (a.batch[1] / unit).cast_unsigned());
    composer.u32("a_row", (a.row / unit).cast_unsigned());
    composer.hook("a_at", "a_at_strided");
    if !wide {
        composer.u32("a_k", a.col.cast_unsigned());
    }
    wide
}

/// Declares `b` and how it is read.
pub(crate) fn b(composer: &mut Composer, spec: &Spec) {
    match spec.b {
        Weights::PackedF32 => {
            tiled(composer, &Matrix::default(), 16, 16 * spec.k, spec.n.div_ceil(64) * 16);
            composer.read_fours("b", Scalar::F32).hook("load_b", "load_b_wide");
        }
        Weights::PackedI8 | Weights::PackedU8 | Weights::PackedF16 | Weights::PackedBf16 => {
            packed::b(composer, spec.b);
        }
        Weights::Blocks { bits, block } => {
            let count = spec.k.div_ceil(block);
            composer.u32("b_block", block).u32("b_count", count);
            composer.u32("b_words", count * (block / (32 / bits)));
            composer.read("b", "u32").read("blocks", "vec2<f32>");
            composer.hook("b_at", "b_at_blocks").hook("load_b", "load_b_blocks");
            let nibbles = bits == 4;
            composer.hook("four_along", if nibbles { "four_nibbles" } else { "four_bytes" });
        }
        Weights::Strided(matrix) if matrix.is_wide() && spec.n.is_multiple_of(4) => {
            tiled(composer, &matrix, (matrix.row / 4).cast_unsigned(), 16, spec.n / 4);
            composer.read_fours("b", Scalar::F32).hook("load_b", "load_b_wide");
        }
        Weights::Strided(matrix) if matrix.transposed().is_wide() && spec.k.is_multiple_of(4) => {
            strided(composer, &matrix, 4);
            composer.u32("b_n", (matrix.col / 4).cast_unsigned());
            composer.read_fours("b", Scalar::F32).hook("load_b", "load_b_columns");
        }
        Weights::Strided(matrix) => {
            strided(composer, &matrix, 1);
            composer.u32("b_k", matrix.row.cast_unsigned());
            composer.u32("b_n", matrix.col.cast_unsigned());
            composer.read("b", "f32").hook("load_b", "load_b_scattered");
        }
    }
}

fn strided(composer: &mut Composer, matrix: &Matrix, unit: i32) {
    composer.u32("b_offset", matrix.offset / unit.cast_unsigned());
    composer.u32("b_z0", (matrix.batch[0] / unit).cast_unsigned());
    composer.u32("b_z1", (matrix.batch[1] / unit).cast_unsigned());
    composer.hook("b_at", "b_at_strided");
}

/// Sixteen vec4 columns lie side by side; then `tile` vec4 lie between two such groups.
fn tiled(composer: &mut Composer, matrix: &Matrix, k: u32, tile: u32, quads: u32) {
    composer.u32("b_offset", matrix.offset / 4);
    composer.u32("b_z0", (matrix.batch[0] / 4).cast_unsigned());
    composer.u32("b_z1", (matrix.batch[1] / 4).cast_unsigned());
    composer.u32("b_k", k);
    composer.u32("b_tile", tile).u32("b_last", quads.saturating_sub(1));
    composer.hook("b_at", "b_at_tiled");
}

/// Where one value of an epilogue input comes from.
enum Reach {
    /// The same for all rows: read once per vec4 column.
    Columns,
    /// Read for every row.
    Cells,
}

/// Declares the scales, the epilogue's inputs and the output, and writes `columns` and `store`.
pub(crate) fn epilogue(
    composer: &mut Composer,
    n: u32,
    output: &Matrix,
    epilogue: &Epilogue,
    scaled: bool,
) -> Result<(), Unsupported> {
    check(epilogue)?;
    stores(composer, n, output, epilogue, scaled)
}

/// As [`epilogue`], of sums, inputs and results of any type.
pub(crate) fn stores(
    composer: &mut Composer,
    n: u32,
    output: &Matrix,
    epilogue: &Epilogue,
    scaled: bool,
) -> Result<(), Unsupported> {
    let result = result_type(epilogue)?.wgsl();
    let sums = epilogue.expr.inputs[0].wgsl();
    let wide = output.is_wide() && n.is_multiple_of(4);
    let mut fields = String::new();
    let mut columns = String::new();
    let mut cells = String::new();
    if scaled {
        let matrix = Matrix::per_column();
        let value = input(composer, "scales", Scalar::F32, &matrix, n);
        fields.push_str("    scales: vec4<f32>,\n");
        write(&mut columns, format_args!("    read.scales = {value};\n"));
    }
    let sum = if scaled { "sum * known.scales" } else { "sum" };
    for (index, matrix) in epilogue.inputs.iter().enumerate() {
        let name = format!("e{}", index + 1);
        let scalar = epilogue.expr.inputs[index + 1];
        let value = input(composer, &name, scalar, matrix, n);
        match reach(matrix) {
            Reach::Columns => {
                write(&mut fields, format_args!("    {name}: vec4<{}>,\n", scalar.wgsl()));
                write(&mut columns, format_args!("    read.{name} = {value};\n"));
                write(&mut cells, format_args!("    let v{name} = known.{name};\n"));
            }
            Reach::Cells => write(&mut cells, format_args!("    let v{name} = {value};\n")),
        }
    }
    let four = format!("vec4<{result}>");
    composer.write("result", if wide { &four } else { result });
    let at = index(composer, "out", output, if wide { 4 } else { 1 });
    let plain = epilogue.expr.is_identity();
    if !plain {
        composer.expr("epilogue", &epilogue.expr)?;
    }
    let value = |lane: &str| {
        let mut values = vec![format!("acc.{lane}")];
        values.extend((1..=epilogue.inputs.len()).map(|input| format!("ve{input}.{lane}")));
        let values = values.join(", ");
        if plain { values } else { format!("epilogue({values})") }
    };
    let mut stores = String::new();
    if wide {
        let values = ["x", "y", "z", "w"].map(value).join(", ");
        write(&mut stores, format_args!("    result[{at}quad] = {four}({values});\n"));
    } else {
        let step = if output.col == 1 { String::new() } else { " * params.out_col".to_owned() };
        if output.col != 1 {
            composer.u32("out_col", output.col.cast_unsigned());
        }
        write(&mut stores, format_args!("    let at = {at}0u;\n"));
        for (lane, component) in ["x", "y", "z", "w"].iter().enumerate() {
            let value = value(component);
            write(
                &mut stores,
                format_args!(
                    "    if (quad * 4u + {lane}u < params.n) {{\n        \
                     result[at + (quad * 4u + {lane}u){step}] = {value};\n    }}\n"
                ),
            );
        }
    }
    composer.text(&format!(
        "struct Columns {{\n    unused: u32,\n{fields}}}\n\
         fn columns(quad: u32) -> Columns {{\n    var read: Columns;\n    \
         let row = 0u;\n    let z = vec2(0u);\n{columns}    return read;\n}}\n\
         fn store(z: vec2<u32>, row: u32, quad: u32, sum: vec4<{sums}>, known: Columns) {{\n    \
         if (row >= params.m || quad * 4u >= params.n) {{\n        return;\n    }}\n    \
         let acc = {sum};\n{cells}{stores}}}\n"
    ));
    Ok(())
}

fn check(epilogue: &Epilogue) -> Result<(), Unsupported> {
    let unsupported = |reason: &str| Err(Unsupported::new("gemm", reason));
    if epilogue.expr.inputs.iter().any(|&scalar| scalar != Scalar::F32) {
        return unsupported("the inputs of an epilogue are f32");
    }
    match result_type(epilogue)? {
        Scalar::F32 => Ok(()),
        _ => unsupported("the result of an epilogue is f32"),
    }
}

fn result_type(epilogue: &Epilogue) -> Result<Scalar, Unsupported> {
    if epilogue.expr.inputs.len() != epilogue.inputs.len() + 1 {
        let reason = "an epilogue takes the sum and one further input per view";
        return Err(Unsupported::new("gemm", reason));
    }
    let result = epilogue.expr.result();
    result.map_err(|error| Unsupported::new("gemm", format!("the epilogue: {error}")))
}

const fn reach(matrix: &Matrix) -> Reach {
    if matrix.batch[0] == 0 && matrix.batch[1] == 0 && matrix.row == 0 {
        Reach::Columns
    } else {
        Reach::Cells
    }
}

/// Declares an input and gives the text that reads its four values at `(z, row, quad)`.
fn input(composer: &mut Composer, name: &str, scalar: Scalar, matrix: &Matrix, n: u32) -> String {
    let (one, four) = (scalar.wgsl(), format!("vec4<{}>", scalar.wgsl()));
    if matrix.col == 0 {
        composer.read(name, one);
        let at = index(composer, name, matrix, 1);
        return format!("{four}({name}[{at}0u])");
    }
    if matrix.is_wide() && n.is_multiple_of(4) {
        composer.read_fours(name, scalar);
        let at = index(composer, name, matrix, 4);
        return format!("{name}_four({at}quad)");
    }
    composer.read(name, one);
    let at = index(composer, name, matrix, 1);
    let step = if matrix.col == 1 {
        String::new()
    } else {
        composer.u32(format!("{name}_col"), matrix.col.cast_unsigned());
        format!(" * params.{name}_col")
    };
    let lanes = [0, 1, 2, 3]
        .map(|lane| format!("{name}[{at}min(quad * 4u + {lane}u, params.n - 1u){step}]"));
    format!("{four}({})", lanes.join(", "))
}

/// The text of an index up to the column, ending in ` + ` unless empty; what is zero takes no
/// word. `unit` is the number of elements that the buffer's element holds.
fn index(composer: &mut Composer, name: &str, matrix: &Matrix, unit: i32) -> String {
    let mut text = String::new();
    if matrix.offset != 0 {
        composer.u32(format!("{name}_offset"), matrix.offset / unit.cast_unsigned());
        write(&mut text, format_args!("params.{name}_offset + "));
    }
    let terms = [
        ("z0", matrix.batch[0], "z.x"),
        ("z1", matrix.batch[1], "z.y"),
        ("row", matrix.row, "row"),
    ];
    for (suffix, stride, factor) in terms {
        if stride != 0 {
            composer.u32(format!("{name}_{suffix}"), (stride / unit).cast_unsigned());
            write(&mut text, format_args!("params.{name}_{suffix} * {factor} + "));
        }
    }
    text
}

fn write(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a string takes any text");
}

/// Applies an epilogue to every sum and stores it.
pub(crate) fn product(
    batch: [u32; 2],
    size: [u32; 2],
    output: &Matrix,
    epilogue: &Epilogue,
    further: &[&Data],
    sum: impl Fn([u32; 2], u32, u32) -> f64,
) -> Data {
    let float = |z, row, col| Value::F32(sum(z, row, col) as f32);
    stored(batch, size, output, epilogue, further, float)
}

/// As [`product`], of sums, inputs and results of any type.
pub(crate) fn stored(
    batch: [u32; 2],
    size: [u32; 2],
    output: &Matrix,
    epilogue: &Epilogue,
    further: &[&Data],
    sum: impl Fn([u32; 2], u32, u32) -> Value,
) -> Data {
    let scalar = epilogue.expr.result().expect("the epilogue is that of a dispatch");
    let mut out = Vec::new();
    for z in (0..batch[0]).flat_map(|outer| (0..batch[1]).map(move |inner| [outer, inner])) {
        for (row, col) in (0..size[0]).flat_map(|row| (0..size[1]).map(move |col| (row, col))) {
            let mut values = vec![sum(z, row, col)];
            let inputs = further.iter().zip(&epilogue.inputs);
            values.extend(inputs.map(|(data, matrix)| data.at(matrix.at(z, row, col))));
            let at = output.at(z, row, col);
            out.resize(out.len().max(at + 1), Value::new(scalar, 0.0));
            out[at] = epilogue.expr.eval(&values);
        }
    }
    Data::collect(scalar, out.into_iter())
}
