//! What the default variants of each family ask of memory, as ARCHITECTURE.md's table states it,
//! against counted builds. All numbers are bytes.

#![expect(clippy::cast_possible_truncation, reason = "the sizes are small")]

use gw_shaders::attention::{self, Mask, Rows, Window};
use gw_shaders::expr::{Binary, Expr};
use gw_shaders::gemm::{self, Epilogue, Weights};
use gw_shaders::kernel::{Caps, Dispatch, Scalar, Unsupported};
use gw_shaders::layout::{Matrix, View};
use gw_shaders::{norm, pointwise, softmax};

use super::build::{Moved, count};

/// Counts every variant that the adapter runs, and hands what each moved to `check` with its name.
fn each(
    variants: impl Fn(&Caps) -> Result<Vec<Dispatch>, Unsupported>,
    floats: &[usize],
    check: impl Fn(&str, &[Moved]),
) {
    let Some(device) = crate::device::shared() else { return };
    let caps = device.caps();
    let buffers: Vec<Vec<u8>> = floats.iter().map(|&count| vec![0; 4 * count]).collect();
    for software in [caps.software, !caps.software] {
        let caps = Caps { software, ..caps };
        for dispatch in variants(&caps).expect("the spec is supported") {
            let moved = count(&device, &dispatch, &buffers);
            check(&dispatch.kernel.variant, &moved);
        }
    }
}

const fn read(bytes: u64) -> Moved {
    Moved { read: bytes, written: 0 }
}

const fn written(bytes: u64) -> Moved {
    Moved { read: 0, written: bytes }
}

/// The numbers in a variant's name.
fn numbers(name: &str) -> Vec<u64> {
    let parts = name.split(|c: char| !c.is_ascii_digit());
    parts.filter_map(|part| part.parse().ok()).collect()
}

/// The bytes of `a` and of `b` that a way of a product asks for; `unit` is what four k of four
/// columns of b take.
fn product(name: &str, [m, n, k]: [u64; 3], unit: u64) -> [u64; 2] {
    let tiles = |rows: u64, columns: u64| m.div_ceil(rows) * n.div_ceil(columns);
    match *numbers(name).as_slice() {
        // Every lane loads its own rows of a, and one of the vec4 columns of b.
        [lanes, rows, quads] if name.starts_with("lanes") => {
            let steps = lanes / quads;
            let turns = k.div_ceil(4 * steps) * tiles(rows * lanes, 4 * quads) * lanes;
            [turns * steps * rows * 16, turns * unit]
        }
        // Every lane loads its share of 16 bytes of a, and its own columns of b.
        [lanes, rows, quads] => {
            let share = if name.starts_with("subgroup") { lanes } else { 1 };
            let steps = share.div_ceil(rows);
            let turns = k.div_ceil(4 * steps) * tiles(rows, 4 * quads * lanes) * lanes;
            [turns * rows.div_ceil(share) * 16, turns * steps * quads * unit]
        }
        // 64 x 64 sums of 16 k at a time, each value of a and b loaded once for the tile.
        [rows, columns] => {
            let turns = k.div_ceil(16) * tiles(rows, columns);
            [turns * 16 * rows * 4, turns * 16 * columns / 16 * unit]
        }
        // 32 columns of 64 k at a time are loaded once, each row by the eight who add it up.
        [rows] => {
            let turns = k.div_ceil(64) * tiles(rows, 32);
            [turns * rows * 8 * 16 * 16, turns * 8 * 16 * unit]
        }
        _ => panic!("no formula for `{name}`"),
    }
}

#[test]
fn products_move_what_the_table_says() {
    for [m, n, k] in [[48, 128, 64], [17, 70, 32], [3, 64, 96], [70, 12, 32]] {
        for (b, unit) in [(Weights::PackedF32, 64), (Weights::PackedI8, 16)] {
            let [rows, columns, depth] = [m, n, k].map(|size: u64| size as u32);
            let spec = gemm::Spec {
                batch: [1, 1],
                m: rows,
                n: columns,
                k: depth,
                a: Matrix::dense([1, 1], rows, depth),
                b,
                output: Matrix::dense([1, 1], rows, columns),
                epilogue: Epilogue {
                    expr: Expr::binary(Binary::Add, Scalar::F32),
                    inputs: vec![Matrix::dense([1, 1], rows, columns)],
                },
            };
            let scaled = b == Weights::PackedI8;
            let padded = n.next_multiple_of(64) * k;
            let mut floats = vec![m * k, if scaled { padded / 4 } else { padded }];
            floats.extend(scaled.then_some(n));
            floats.extend([m * n, m * n]);
            let floats: Vec<usize> = floats.iter().map(|&count| count as usize).collect();
            each(
                |caps| gemm::variants(&spec, caps),
                &floats,
                |name, moved| {
                    let [a, b] = product(name, [m, n, k], unit);
                    assert_eq!(moved[0], read(a), "a of {name} at {m}x{n}x{k}");
                    assert_eq!(moved[1], read(b), "b of {name} at {m}x{n}x{k}");
                    // The residual is read, and the result written, once.
                    let tail = &moved[moved.len() - 2..];
                    let wide = n % 4 == 0;
                    let residual = if wide { m * n * 4 } else { m * n.next_multiple_of(4) * 4 };
                    assert_eq!(tail, [read(residual), written(m * n * 4)], "{name}");
                },
            );
        }
    }
}

#[test]
fn norms_read_a_row_three_times_and_two() {
    let (rows, cols) = (11u64, 48u64);
    for (kind, passes) in [(norm::Kind::Layer, 3), (norm::Kind::Rms, 2)] {
        let form = norm::Form { kind, eps: 1e-5, scale: true, bias: true };
        let spec = norm::Spec { form, rows: rows as u32, cols: cols as u32 };
        let size = (rows * cols) as usize;
        each(
            |caps| norm::variants(&spec, caps),
            &[cols as usize, cols as usize, size, size],
            |name, moved| {
                let once = rows * cols * 4;
                let due = [read(once), read(once), read(passes * once), written(once)];
                assert_eq!(moved, due, "{name}");
            },
        );
    }
}

#[test]
fn a_softmax_reads_a_row_three_times() {
    let spec = softmax::Spec { outer: 9, len: 40, inner: 1, log: false };
    let subgroup = crate::device::shared().and_then(|device| device.caps().subgroup);
    each(
        |caps| softmax::variants(&spec, caps),
        &[360, 360],
        |name, moved| {
            // Each lane begins with the first value of its row.
            let lanes = match name.rsplit(' ').next() {
                Some("workgroup") => 64,
                Some("subgroup") => subgroup.map_or(1, |(size, _)| u64::from(size)),
                _ => 1,
            };
            let once = 9 * 40 * 4;
            assert_eq!(moved, [read(3 * once + 9 * lanes * 4), written(once)], "{name}");
        },
    );
}

#[test]
fn element_wise_steps_touch_each_element_once() {
    let view = |offset| View { offset, strides: vec![1] };
    let spec = pointwise::Spec {
        shape: vec![1000],
        expr: Expr::binary(Binary::Mul, Scalar::F32),
        inputs: vec![view(0), view(0)],
        output: view(0),
    };
    each(
        |caps| pointwise::variants(&spec, caps),
        &[1000, 1000, 1000],
        |name, moved| assert_eq!(moved, [read(4000), read(4000), written(4000)], "{name}"),
    );
}

/// Steps of four keys that tiles of queries take: from the first key that the first query of a
/// tile sees to the last that its last query sees.
fn steps_of_keys(window: Window, tile: u64, queries: u64, keys: u64) -> u64 {
    let steps = |start: u64| {
        let last = queries.min(start + tile) - 1;
        let [first, last] = [start, last].map(u64::cast_signed);
        let from = window.first.map_or(0, |bound| (first + i64::from(bound)).max(0));
        let to = window.last.map_or(keys.cast_signed(), |bound| last + i64::from(bound) + 1);
        (from / 4..(to.min(keys.cast_signed()) + 3) / 4).count() as u64
    };
    (0..queries).step_by(tile as usize).map(steps).sum()
}

#[test]
fn attention_reads_keys_and_values_once_per_tile_of_queries() {
    let (batch, heads, queries, keys, dim) = (2u64, 3u64, 70u64, 64u64, 32u64);
    let rows = |length: u64| Rows {
        offset: 0,
        batch: (heads * length * dim) as i32,
        head: (length * dim) as i32,
        row: dim as i32,
    };
    let spec = attention::Spec {
        batch: batch as u32,
        heads: heads as u32,
        kv_heads: heads as u32,
        queries: queries as u32,
        keys: keys as u32,
        head_dim: dim as u32,
        value_dim: dim as u32,
        scale: 0.5,
        q: rows(queries),
        k: rows(keys),
        v: rows(keys),
        output: rows(queries),
        mask: Mask::None,
        mask_expr: None,
        window: Window::ALL,
        counts: None,
        nan_to_zero: false,
    };
    let sizes = [queries, keys, keys, queries].map(|length| batch * heads * length * dim);
    for window in [Window::ALL, Window { first: Some(-5), last: Some(2) }] {
        let spec = attention::Spec { window, ..spec.clone() };
        each(
            |caps| attention::variants(&spec, caps),
            &sizes.map(|size| size as usize),
            |name, moved| {
                let [lanes, rows, _] = numbers(name)[..] else { panic!("no formula for `{name}`") };
                let share = if name.starts_with("subgroup") { lanes } else { 1 };
                let tile = lanes * rows;
                let tiles = batch * heads * queries.div_ceil(tile);
                let steps = steps_of_keys(window, tile, queries, keys);
                let loads = dim.div_ceil(share) * lanes * 16;
                let pass = batch * heads * steps * loads;
                let due = [
                    read(tiles * lanes * rows * dim * 4),
                    read(pass),
                    read(pass),
                    written(batch * heads * queries * dim * 4),
                ];
                assert_eq!(moved, due, "{name}");
            },
        );
    }
}
