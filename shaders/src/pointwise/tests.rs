use super::*;
use crate::check;
use crate::expr::{Binary, Instr, Unary};

fn copy(shape: &[u32], input: View, output: View) -> Spec {
    let expr = Expr::identity(Scalar::F32);
    Spec { shape: shape.to_vec(), inputs: vec![input], output, expr }
}

fn count(n: u16) -> Data {
    Data::F32((0..n).map(f32::from).collect())
}

#[test]
fn reference_matches_a_table() {
    // [2, 3] transposed.
    let spec = copy(&[3, 2], View { offset: 0, strides: vec![1, 3] }, View::dense(&[3, 2]));
    assert_eq!(reference(&spec, &[count(6)]).f32(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    // Backwards, into every second place.
    let spec =
        copy(&[3], View { offset: 2, strides: vec![-1] }, View { offset: 1, strides: vec![2] });
    assert_eq!(reference(&spec, &[count(3)]).f32(), [0.0, 2.0, 0.0, 1.0, 0.0, 0.0]);
    // A column plus a row.
    let spec = Spec {
        shape: vec![2, 3],
        inputs: vec![View::broadcast(&[2, 1], &[2, 3]), View::broadcast(&[3], &[2, 3])],
        output: View::dense(&[2, 3]),
        expr: Expr::binary(Binary::Add, Scalar::F32),
    };
    let given = reference(&spec, &[Data::F32(vec![10.0, 20.0]), count(3)]);
    assert_eq!(given.f32(), [10.0, 11.0, 12.0, 20.0, 21.0, 22.0]);
}

#[test]
fn axes_that_every_view_walks_as_one_are_merged() {
    let dense = View::dense(&[2, 1, 3, 4]);
    let merged = merge(&copy(&[2, 1, 3, 4], dense.clone(), dense.clone()));
    assert_eq!((merged.shape.as_slice(), merged.output), (&[24][..], View::dense(&[24])));
    let rows = merge(&copy(&[2, 1, 3, 4], View::broadcast(&[4], &[2, 1, 3, 4]), dense));
    assert_eq!(rows.shape, [6, 4]);
    assert_eq!(rows.inputs[0].strides, [0, 1]);
    let scalar = merge(&copy(&[1, 1], View::dense(&[1, 1]), View::dense(&[1, 1])));
    assert!(scalar.shape.is_empty());
}

#[test]
fn every_variant_is_valid() {
    let mut clip = Expr::binary(Binary::Max, Scalar::F32);
    let six = clip.constant(Scalar::F32, 6.0);
    clip.push(Instr::Binary(Binary::Min, 2, six));
    clip.push(Instr::Cast(Scalar::I32, 4));
    for shape in [&[][..], &[5], &[8], &[3, 8], &[2, 3, 5], &[2, 3, 4, 8], &[2, 2, 2, 2, 2, 4]] {
        let dense = View::dense(shape);
        let turned = View { offset: 4, strides: dense.strides.iter().rev().copied().collect() };
        let last = shape.len().saturating_sub(1)..shape.len();
        for second in [dense.clone(), turned, View::broadcast(&shape[last], shape)] {
            let spec = Spec {
                shape: shape.to_vec(),
                inputs: vec![dense.clone(), second],
                output: dense.clone(),
                expr: clip.clone(),
            };
            check::variants(|caps| variants(&spec, caps));
        }
    }
    let flat = Spec {
        expr: Expr::unary(Unary::Erf, Scalar::F32),
        ..copy(&[8], View::dense(&[8]), View::dense(&[8]))
    };
    let caps = check::adapters()[0];
    assert_eq!(variants(&flat, &caps).unwrap().len(), 2);
}

#[test]
fn wrong_views_are_refused() {
    let mut spec = copy(&[2, 2], View::dense(&[2, 2]), View::dense(&[2, 2]));
    spec.inputs[0].strides.pop();
    assert!(dispatch(&spec, &Caps::minimal()).is_err());
    spec.inputs.clear();
    assert!(dispatch(&spec, &Caps::minimal()).is_err());
}
