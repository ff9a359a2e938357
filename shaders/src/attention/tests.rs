use super::*;
use crate::check;

/// Dense `[batch, heads, rows, dim]`.
fn dense(heads: u32, rows: u32, dim: u32) -> Rows {
    let row = dim.cast_signed();
    let head = row * rows.cast_signed();
    Rows { offset: 0, batch: head * heads.cast_signed(), head, row }
}

fn plain(heads: u32, queries: u32, keys: u32, dim: u32) -> Spec {
    Spec {
        batch: 1,
        heads,
        kv_heads: heads,
        queries,
        keys,
        head_dim: dim,
        value_dim: dim,
        scale: 1.0,
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

fn inputs() -> Vec<Data> {
    let ln3 = 3.0f32.ln();
    // One query that scores ln 3 and 0 on two keys.
    vec![
        Data::F32(vec![1.0, 0.0]),
        Data::F32(vec![ln3, 5.0, 0.0, 5.0]),
        Data::F32(vec![4.0, 0.0, 0.0, 8.0]),
    ]
}

#[test]
fn reference_matches_a_table() {
    let spec = plain(1, 1, 2, 2);
    check::close(reference(&spec, &inputs()).f32(), &[3.0, 2.0], 1e-6);
    let causal = Spec { window: Window::causal(0), ..spec.clone() };
    check::close(reference(&causal, &inputs()).f32(), &[4.0, 0.0], 1e-6);
    let later = Spec { window: Window { first: Some(1), last: Some(1) }, ..spec.clone() };
    check::close(reference(&later, &inputs()).f32(), &[0.0, 8.0], 1e-6);
    let counted = |counts, window, count| {
        let spec = Spec { counts: Some(counts), window, ..spec.clone() };
        reference(&spec, &[inputs(), vec![Data::I32(vec![count])]].concat()).f32().to_vec()
    };
    check::close(&counted(Counts::Start, Window::ALL, 1), &[4.0, 0.0], 1e-6);
    check::close(&counted(Counts::Start, Window::causal(0), 2), &[4.0, 0.0], 1e-6);
    let own = Window { first: Some(0), last: Some(0) };
    check::close(&counted(Counts::End, own, 2), &[0.0, 8.0], 1e-6);
    check::close(&counted(Counts::End, own, 1), &[4.0, 0.0], 1e-6);
    assert!(counted(Counts::End, own, -3).iter().all(|value| value.is_nan()));
    let view = MaskView { key: 1, ..MaskView::default() };
    let with = |mask, data, nan_to_zero| {
        let spec = Spec { mask, nan_to_zero, ..spec.clone() };
        reference(&spec, &[inputs(), vec![data]].concat())
    };
    let second = with(Mask::Boolean(view), Data::U32(vec![0, 1]), false);
    check::close(second.f32(), &[0.0, 8.0], 1e-6);
    let none = with(Mask::Boolean(view), Data::U32(vec![0, 0]), true);
    assert_eq!(none.f32(), [0.0, 0.0]);
    let nan = with(Mask::Boolean(view), Data::U32(vec![0, 0]), false);
    assert!(nan.f32().iter().all(|value| value.is_nan()));
    let least = with(Mask::Additive(view), Data::F32(vec![f32::MIN, f32::MIN]), false);
    check::close(least.f32(), &[2.0, 4.0], 1e-6);
}

#[test]
fn every_variant_is_valid() {
    let key = MaskView { key: 1, ..MaskView::default() };
    let cell = MaskView { query: 9, ..key };
    for mask in [Mask::None, Mask::Additive(key), Mask::Boolean(cell)] {
        for (dim, queries) in [(2, 1), (32, 100), (30, 3), (64, 17), (80, 9)] {
            for [first, last] in [[None; 2], [None, Some(3)], [Some(-2), None], [Some(-2), Some(0)]]
            {
                for counts in [None, Some(Counts::Start), Some(Counts::End)] {
                    let window = Window { first, last };
                    let spec = Spec { mask, window, counts, ..plain(2, queries, 9, dim) };
                    check::variants(|caps| variants(&spec, caps));
                }
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let caps = Caps::minimal();
    assert!(dispatch(&plain(1, 1, 1, 257), &caps).is_err());
    assert!(dispatch(&Spec { kv_heads: 2, ..plain(3, 1, 1, 4) }, &caps).is_err());
}
