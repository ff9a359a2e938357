//! Attention, query by query over whole rows.

use gw_shaders::attention::{Mask, MaskView, Rows, Spec};
use gw_shaders::data::Data;
use gw_shaders::kernel::Scalar;

pub(super) fn run(spec: &Spec, inputs: &[&Data], out: &mut Data) {
    let Data::F32(out) = out else { unreachable!("attention gives floats") };
    let (q, k, v) = (inputs[0].f32(), inputs[1].f32(), inputs[2].f32());
    let [mask, counts] = spec.optional(&inputs[3..]);
    let made = made_mask(spec, mask);
    let mask = made.as_ref().or(mask);
    let (head_dim, value_dim) = (spec.head_dim as usize, spec.value_dim as usize);
    let mut scores = Vec::with_capacity(spec.keys as usize);
    let mut sums = vec![0.0f32; value_dim];
    for (b, h) in (0..spec.batch).flat_map(|b| (0..spec.heads).map(move |h| (b, h))) {
        let kv = h / (spec.heads / spec.kv_heads.max(1)).max(1);
        for query in 0..spec.queries {
            let row = &q[start(&spec.q, b, h, query)..][..head_dim];
            let seen = spec.keys_seen(counts, b, query);
            scores.clear();
            scores.extend(seen.clone().map(|key| {
                let other = &k[start(&spec.k, b, kv, key)..][..head_dim];
                masked(spec, mask, dot(row, other) * spec.scale, [b, h, query, key])
            }));
            let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let result = &mut out[start(&spec.output, b, h, query)..][..value_dim];
            if scores.iter().all(|&score| score == f32::NEG_INFINITY) {
                result.fill(if spec.nan_to_zero { 0.0 } else { f32::NAN });
                continue;
            }
            let mut total = 0.0f64;
            sums.fill(0.0);
            for (key, &score) in seen.zip(&scores) {
                let weight = (score - top).exp();
                total += f64::from(weight);
                let values = &v[start(&spec.v, b, kv, key)..][..value_dim];
                sums.iter_mut().zip(values).for_each(|(sum, &value)| *sum += weight * value);
            }
            let total = total as f32;
            result.iter_mut().zip(&sums).for_each(|(result, &sum)| *result = sum / total);
        }
    }
}

/// The words of a mask that an expression makes.
fn made_mask(spec: &Spec, mask: Option<&Data>) -> Option<Data> {
    let (expr, mask) = (spec.mask_expr.as_ref()?, mask?);
    let values = expr.eval_columns(vec![mask.clone()], mask.len());
    Some(Data::from_bytes(Scalar::U32, values.bytes()))
}

/// Eight sums side by side, which the compiler keeps in vectors.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a, a_rest) = a.as_chunks::<8>();
    let (b, b_rest) = b.as_chunks::<8>();
    for (a, b) in a.iter().zip(b) {
        for lane in 0..8 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    let rest: f32 = a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + rest
}

fn start(rows: &Rows, batch: u32, head: u32, row: u32) -> usize {
    let moved = i64::from(rows.batch) * i64::from(batch)
        + i64::from(rows.head) * i64::from(head)
        + i64::from(rows.row) * i64::from(row);
    usize::try_from(i64::from(rows.offset) + moved).expect("rows lie inside their buffer")
}

fn masked(spec: &Spec, mask: Option<&Data>, score: f32, place: [u32; 4]) -> f32 {
    match (&spec.mask, mask) {
        // Kernels declare one type for both kinds of mask.
        (Mask::Additive(view), Some(mask)) => score + f32::from_bits(mask.u32()[at(view, place)]),
        (Mask::Boolean(view), Some(mask)) if mask.u32()[at(view, place)] == 0 => f32::NEG_INFINITY,
        _ => score,
    }
}

fn at(view: &MaskView, [batch, head, query, key]: [u32; 4]) -> usize {
    let moved = i64::from(view.batch) * i64::from(batch)
        + i64::from(view.head) * i64::from(head)
        + i64::from(view.query) * i64::from(query)
        + i64::from(view.key) * i64::from(key);
    usize::try_from(i64::from(view.offset) + moved).expect("a mask lies inside its buffer")
}
