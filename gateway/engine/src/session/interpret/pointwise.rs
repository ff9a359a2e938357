//! Element-wise steps, some thousand elements at once.

use gw_shaders::data::Data;
use gw_shaders::layout::View;
use gw_shaders::pointwise::Spec;

/// Elements that are computed at once.
const CHUNK: usize = 1 << 12;

pub(super) fn run(spec: &Spec, inputs: &[&Data], out: &mut Data) {
    let shape: Vec<usize> = spec.shape.iter().map(|&size| size as usize).collect();
    let count: usize = shape.iter().product();
    let mut places = Vec::with_capacity(CHUNK);
    for start in (0..count).step_by(CHUNK) {
        let len = CHUNK.min(count - start);
        let columns = inputs.iter().zip(&spec.inputs).map(|(data, view)| {
            positions(view, &shape, start, len, &mut places);
            gather(data, &places)
        });
        let columns = columns.collect();
        let results = spec.expr.eval_columns(columns, len);
        positions(&spec.output, &shape, start, len, &mut places);
        scatter(&results, &places, out);
    }
}

/// Where `len` elements lie from the index `start` on, in row-major order.
fn positions(view: &View, shape: &[usize], start: usize, len: usize, places: &mut Vec<usize>) {
    places.clear();
    let mut index = vec![0usize; shape.len()];
    let mut left = start;
    for (digit, &size) in index.iter_mut().zip(shape).rev() {
        *digit = left % size;
        left /= size;
    }
    let strides: Vec<isize> = view.strides.iter().map(|&stride| stride as isize).collect();
    let moved: isize =
        index.iter().zip(&strides).map(|(&at, &stride)| at.cast_signed() * stride).sum();
    let mut place = (view.offset as usize).wrapping_add_signed(moved);
    while places.len() < len {
        let Some((&inner, step)) = shape.last().zip(strides.last()) else {
            places.push(place);
            continue;
        };
        let at = index[shape.len() - 1];
        let run = (inner - at).min(len - places.len());
        places.extend((0..run).map(|i| place.wrapping_add_signed(i.cast_signed() * step)));
        // On to the first element of the next run.
        place = place.wrapping_add_signed(-(at.cast_signed() * step));
        index[shape.len() - 1] = 0;
        for axis in (0..shape.len() - 1).rev() {
            index[axis] += 1;
            place = place.wrapping_add_signed(strides[axis]);
            if index[axis] < shape[axis] {
                break;
            }
            place = place.wrapping_add_signed(-(strides[axis] * shape[axis].cast_signed()));
            index[axis] = 0;
        }
    }
}

fn gather(data: &Data, places: &[usize]) -> Data {
    match data {
        Data::F32(values) => Data::F32(places.iter().map(|&at| values[at]).collect()),
        Data::I32(values) => Data::I32(places.iter().map(|&at| values[at]).collect()),
        Data::U32(values) => Data::U32(places.iter().map(|&at| values[at]).collect()),
    }
}

fn scatter(results: &Data, places: &[usize], out: &mut Data) {
    match (results, out) {
        (Data::F32(results), Data::F32(out)) => put(results, places, out),
        (Data::I32(results), Data::I32(out)) => put(results, places, out),
        (Data::U32(results), Data::U32(out)) => put(results, places, out),
        _ => unreachable!("the result of an expression has the type of its buffer"),
    }
}

fn put<T: Copy>(results: &[T], places: &[usize], out: &mut [T]) {
    for (&value, &at) in results.iter().zip(places) {
        out[at] = value;
    }
}
