//! What is done to the sums of products and convolutions before they are stored.

use gw_shaders::data::Data;
use gw_shaders::gemm::Epilogue;
use gw_shaders::layout::Matrix;

/// Elements that are computed at once.
const CHUNK: usize = 1 << 12;

/// Sums of one matrix, or of some of its columns, row by row.
pub(super) struct Sums<'a> {
    pub(super) values: &'a [f32],
    pub(super) batch: [u32; 2],
    /// The column of the output that the first of a row is.
    pub(super) first_column: u32,
    pub(super) columns: usize,
}

/// Applies an epilogue and stores the results.
pub(super) fn store(
    sums: &Sums<'_>,
    epilogue: &Epilogue,
    further: &[&Data],
    output: &Matrix,
    out: &mut [f32],
) {
    for (index, values) in sums.values.chunks(CHUNK).enumerate() {
        store_chunk(sums, index * CHUNK, values, epilogue, further, output, out);
    }
}

fn store_chunk(
    sums: &Sums<'_>,
    start: usize,
    values: &[f32],
    epilogue: &Epilogue,
    further: &[&Data],
    output: &Matrix,
    out: &mut [f32],
) {
    let runs = runs(sums, start, values.len());
    let mut columns = vec![Data::F32(values.to_vec())];
    for (data, matrix) in further.iter().zip(&epilogue.inputs) {
        let data = data.f32();
        let mut column = Vec::with_capacity(values.len());
        for run in &runs {
            let first = matrix.at(sums.batch, run.row, run.column);
            match matrix.col {
                0 => column.extend(std::iter::repeat_n(data[first], run.len)),
                1 => column.extend_from_slice(&data[first..first + run.len]),
                _ => column.extend(
                    (run.column..).take(run.len).map(|at| data[matrix.at(sums.batch, run.row, at)]),
                ),
            }
        }
        columns.push(Data::F32(column));
    }
    let results = epilogue.expr.eval_columns(columns, values.len());
    let mut results = results.f32();
    for run in &runs {
        let (here, rest) = results.split_at(run.len);
        let first = output.at(sums.batch, run.row, run.column);
        if output.col == 1 {
            out[first..first + run.len].copy_from_slice(here);
        } else {
            for (column, &value) in (run.column..).zip(here) {
                out[output.at(sums.batch, run.row, column)] = value;
            }
        }
        results = rest;
    }
}

/// Neighbours in one row.
struct Run {
    row: u32,
    column: u32,
    len: usize,
}

fn runs(sums: &Sums<'_>, start: usize, count: usize) -> Vec<Run> {
    let columns = sums.columns.max(1);
    let mut runs = Vec::new();
    let mut at = start;
    while at < start + count {
        let (row, column) = (at / columns, at % columns);
        let len = (columns - column).min(start + count - at);
        // Sizes of a plan are `u32`.
        runs.push(Run { row: row as u32, column: sums.first_column + column as u32, len });
        at += len;
    }
    runs
}
