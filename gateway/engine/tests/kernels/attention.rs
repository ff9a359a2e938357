use gw_shaders::attention::{
    Counts, Mask, MaskView, Rows, Spec, Window, dispatch, reference, variants,
};
use gw_shaders::data::Data;
use gw_shaders::expr::{Binary, Expr, Instr};
use gw_shaders::kernel::Scalar;
use gw_shaders::linear_attention::{self, Beta, Decay};

use crate::harness::{Random, Tolerance, agree, agree_here};

/// Exponentials of drivers are good to about 2^-18, and a hundred of them are added.
const SCORES: Tolerance = Tolerance::of(2e-5, 1e-5);

fn dense(heads: u32, rows: u32, dim: u32) -> Rows {
    let row = dim.cast_signed();
    let head = row * rows.cast_signed();
    Rows { offset: 0, batch: head * heads.cast_signed(), head, row }
}

fn plain(batch: u32, heads: u32, queries: u32, keys: u32, dim: u32) -> Spec {
    Spec {
        batch,
        heads,
        kv_heads: heads,
        queries,
        keys,
        head_dim: dim,
        value_dim: dim,
        scale: 1.0 / (dim as f32).sqrt(),
        q: dense(heads, queries, dim),
        k: dense(heads, keys, dim),
        v: dense(heads, keys, dim),
        output: dense(heads, queries, dim),
        mask: Mask::None,
        mask_expr: None,
        window: Window::ALL,
        counts: None,
        nan_to_zero: false,
    }
}

fn operands(spec: &Spec, seed: u32) -> Vec<Data> {
    let mut random = Random::new(seed);
    let size = |rows: u32, dim: u32| (spec.batch * spec.heads * rows * dim) as usize;
    let mut scaled = |count| {
        let data = random.floats(count);
        Data::F32(data.f32().iter().map(|value| 3.0 * value).collect())
    };
    vec![
        scaled(size(spec.queries, spec.head_dim)),
        scaled(size(spec.keys, spec.head_dim)),
        scaled(size(spec.keys, spec.value_dim)),
    ]
}

fn check(spec: &Spec, inputs: &[Data]) {
    let expected = reference(spec, inputs);
    agree(|caps| variants(spec, caps), inputs, &[expected], SCORES);
}

#[test]
fn sizes_at_edges_agree() {
    for (seed, (queries, keys, dim)) in (0..).zip([
        (1, 1, 1),
        (1, 9, 32),
        (7, 3, 4),
        (9, 8, 30),
        (33, 31, 32),
        (65, 17, 64),
        (40, 65, 32),
        (3, 5, 80),
    ]) {
        let spec = plain(2, 3, queries, keys, dim);
        check(&spec, &operands(&spec, seed));
    }
    // Drivers take minutes for rows as long as this, so only one way is tried.
    let long = plain(1, 1, 2, 5, 256);
    let inputs = operands(&long, 9);
    let expected = reference(&long, &inputs);
    agree_here(|caps| Ok(vec![dispatch(&long, caps)?]), &inputs, &[expected], SCORES);
}

#[test]
fn values_may_have_another_size_and_keys_fewer_heads() {
    let spec = Spec {
        kv_heads: 2,
        value_dim: 12,
        k: dense(2, 9, 8),
        v: dense(2, 9, 12),
        output: dense(4, 5, 12),
        ..plain(2, 4, 5, 9, 8)
    };
    check(&spec, &operands(&spec, 1));
}

#[test]
fn a_fused_buffer_is_read_in_place() {
    // Rows of [q | k | v], each with two heads of eight; output rows of two heads.
    let (heads, length, dim) = (2u32, 6u32, 8u32);
    let row = (3 * heads * dim).cast_signed();
    let rows = |part: u32| Rows {
        offset: part * heads * dim,
        batch: row * length.cast_signed(),
        head: dim.cast_signed(),
        row,
    };
    let out_row = (heads * dim).cast_signed();
    let spec = Spec {
        q: rows(0),
        k: rows(1),
        v: rows(2),
        output: Rows {
            offset: 0,
            batch: out_row * length.cast_signed(),
            head: dim.cast_signed(),
            row: out_row,
        },
        ..plain(2, heads, length, length, dim)
    };
    let data = Random::new(3).floats((2 * length * 3 * heads * dim) as usize);
    check(&spec, &[data.clone(), data.clone(), data]);
}

#[test]
fn masks_that_are_made_of_a_word_agree() {
    // `(1 - mask) * -3.4e38` of an integer, as exporters write it, and `mask = 3`.
    let mut low = Expr::new(vec![Scalar::I32]);
    let float = low.push(Instr::Cast(Scalar::F32, 0));
    let one = low.push(Instr::Const(Scalar::F32, 1.0));
    let off = low.push(Instr::Binary(Binary::Sub, one, float));
    let least = low.push(Instr::Const(Scalar::F32, f64::from(f32::MIN)));
    low.push(Instr::Binary(Binary::Mul, off, least));
    let mut three = Expr::new(vec![Scalar::I32]);
    let number = three.push(Instr::Const(Scalar::I32, 3.0));
    three.push(Instr::Binary(Binary::Equal, 0, number));
    let view = MaskView { batch: 13, key: 1, ..MaskView::default() };
    let mut random = Random::new(6);
    for (mask, expr, below) in [(Mask::Additive(view), low, 2), (Mask::Boolean(view), three, 5)] {
        for queries in [3, 40] {
            let spec = Spec { mask, mask_expr: Some(expr.clone()), ..plain(2, 2, queries, 13, 8) };
            let mask = Data::I32(random.integers(26, below));
            check(&spec, &[operands(&spec, 5), vec![mask]].concat());
        }
    }
}

#[test]
fn masks_agree() {
    let base = plain(2, 2, 10, 13, 8);
    let mut random = Random::new(4);
    let padding = MaskView { batch: 13, key: 1, ..MaskView::default() };
    let full = MaskView { offset: 1, batch: 260, head: 130, query: 13, key: 1 };
    let lowest = [0.0, 0.0, -1.5, f32::MIN, f32::NEG_INFINITY];
    let additive: Vec<f32> = (0..600).map(|_| lowest[random.below(5) as usize]).collect();
    let boolean: Vec<u32> = (0..600).map(|_| random.below(2)).collect();
    for view in [padding, full] {
        for window in [Window::ALL, Window { first: Some(-2), last: Some(3) }] {
            let spec = Spec { mask: Mask::Additive(view), window, ..base.clone() };
            let inputs = [operands(&spec, 5), vec![Data::F32(additive.clone())]].concat();
            check(&spec, &inputs);
            let spec = Spec { mask: Mask::Boolean(view), window, ..base.clone() };
            let inputs = [operands(&spec, 6), vec![Data::U32(boolean.clone())]].concat();
            check(&spec, &inputs);
        }
    }
}

#[test]
fn windows_agree() {
    // Narrower and wider than the keys, ahead of all and behind all, over several tiles.
    let bounds = [
        (Some(0), Some(0)),
        (Some(-7), Some(0)),
        (Some(-3), Some(9)),
        (Some(-500), Some(500)),
        (Some(20), None),
        (None, Some(-30)),
        (Some(6), Some(5)),
        (Some(i32::MIN), Some(i32::MAX)),
    ];
    for (seed, (first, last)) in (0..).zip(bounds) {
        for (queries, keys) in [(75, 70), (3, 41), (40, 6)] {
            let window = Window { first, last };
            let spec = Spec { window, nan_to_zero: true, ..plain(1, 2, queries, keys, 8) };
            check(&spec, &operands(&spec, seed));
        }
    }
}

#[test]
fn a_window_goes_with_groups_and_padding() {
    // The last of many keys by each, and an entry whose first keys are padding.
    let (queries, keys) = (9u32, 60u32);
    let padding = MaskView { batch: keys.cast_signed(), key: 1, ..MaskView::default() };
    let seen = (0..2 * keys).map(|at| u32::from(at < keys || at > keys + 49)).collect();
    for mask in [Mask::None, Mask::Boolean(padding)] {
        for window in [Window::causal(51), Window { first: Some(41), last: Some(51) }] {
            let spec = Spec {
                kv_heads: 2,
                k: dense(2, keys, 8),
                v: dense(2, keys, 8),
                mask,
                window,
                nan_to_zero: true,
                ..plain(2, 4, queries, keys, 8)
            };
            let mut inputs = operands(&spec, 13);
            if mask != Mask::None {
                inputs.push(Data::U32(Vec::clone(&seen)));
            }
            check(&spec, &inputs);
        }
    }
}

#[test]
fn entries_with_fewer_keys_agree() {
    let view = MaskView { batch: 23, key: 1, ..MaskView::default() };
    let bias = Random::new(14).floats(4 * 23);
    for (queries, counts) in [(1, [23, 1, 9, 0]), (10, [10, 23, 4, 30])] {
        for (from, [first, last], mask) in [
            (Counts::Start, [None, None], Mask::Additive(view)),
            (Counts::Start, [Some(-2), Some(0)], Mask::None),
            (Counts::End, [None, Some(0)], Mask::None),
            (Counts::End, [Some(-4), Some(2)], Mask::Additive(view)),
        ] {
            let spec = Spec {
                mask,
                window: Window { first, last },
                counts: Some(from),
                nan_to_zero: true,
                ..plain(4, 2, queries, 23, 8)
            };
            let mut inputs = operands(&spec, 15);
            if mask != Mask::None {
                inputs.push(bias.clone());
            }
            inputs.push(Data::I32(counts.to_vec()));
            check(&spec, &inputs);
        }
    }
}

#[test]
fn a_query_without_keys_gives_nan_or_zeros() {
    let view = MaskView { query: 2, key: 1, ..MaskView::default() };
    for nan_to_zero in [false, true] {
        let spec = Spec { mask: Mask::Boolean(view), nan_to_zero, ..plain(1, 1, 2, 2, 4) };
        let inputs = [operands(&spec, 7), vec![Data::U32(vec![0, 0, 1, 0])]].concat();
        check(&spec, &inputs);
        let empty = Spec { nan_to_zero, ..plain(1, 2, 3, 0, 4) };
        check(&empty, &operands(&empty, 8));
        let least = vec![f32::MIN, f32::MIN, f32::NEG_INFINITY, f32::NEG_INFINITY];
        let spec = Spec { mask: Mask::Additive(view), ..spec };
        let inputs = [operands(&spec, 7), vec![Data::F32(least)]].concat();
        check(&spec, &inputs);
    }
}

#[test]
fn a_query_that_is_nan_gives_nan() {
    // Compilers of OpenGL take it that no number is NaN.
    if crate::device::shared().is_none_or(|device| device.info().backend == "gl") {
        return;
    }
    let spec = plain(1, 1, 3, 9, 4);
    let mut inputs = operands(&spec, 12);
    if let Data::F32(q) = &mut inputs[0] {
        q[5] = f32::NAN;
    }
    check(&spec, &inputs);
    let view = MaskView { key: 1, ..MaskView::default() };
    let spec = Spec { mask: Mask::Additive(view), nan_to_zero: true, ..spec };
    inputs.push(Data::F32(vec![-1.0; 9]));
    check(&spec, &inputs);
}

#[test]
fn states_agree_under_every_rule() {
    // Sums of a few dozen products, carried over a few tokens.
    let tolerance = Tolerance::of(1e-5, 2e-5);
    let mut random = Random::new(11);
    for (batch, length, kv_heads, group, key_dim, value_dim) in
        [(1, 1, 1, 1, 1, 1), (2, 5, 3, 2, 8, 12), (1, 0, 2, 1, 4, 4), (1, 9, 1, 4, 33, 65)]
    {
        for (decay, beta) in [
            (Decay::None, Beta::None),
            (Decay::Head, Beta::None),
            (Decay::Key, Beta::Head),
            (Decay::None, Beta::Token),
            (Decay::Head, Beta::Head),
        ] {
            for past in [false, true] {
                let scale = 0.5;
                let spec = linear_attention::Spec {
                    batch,
                    length,
                    kv_heads,
                    group,
                    key_dim,
                    value_dim,
                    scale,
                    past,
                    decay,
                    beta,
                    part: [0, length],
                };
                let places = (batch * length * kv_heads) as usize;
                let (rows, cols) = (key_dim as usize, value_dim as usize);
                // Keys of length about one, as the rules that correct ask for.
                let short = |data: Data| {
                    let by = 1.0 / (key_dim as f32).sqrt();
                    Data::F32(data.f32().iter().map(|value| value * by).collect())
                };
                let mut inputs = vec![
                    random.floats(places * group as usize * rows),
                    short(random.floats(places * rows)),
                    random.floats(places * cols),
                ];
                if past {
                    inputs.push(random.floats((batch * kv_heads) as usize * rows * cols));
                }
                match decay {
                    Decay::None => {}
                    Decay::Head => inputs.push(random.floats(places)),
                    Decay::Key => inputs.push(random.floats(places * rows)),
                }
                match beta {
                    Beta::None => {}
                    Beta::Token => inputs.push(random.floats((batch * length) as usize)),
                    Beta::Head => inputs.push(random.floats(places)),
                }
                let expected = linear_attention::reference(&spec, &inputs);
                let ways = |caps: &_| linear_attention::variants(&spec, caps);
                agree(ways, &inputs, &[expected], tolerance);
            }
        }
    }
}
