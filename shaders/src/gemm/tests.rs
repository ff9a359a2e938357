use super::*;
use crate::check;
use crate::expr::{Binary, Instr, Unary};

fn plain(m: u32, n: u32, k: u32) -> Spec {
    Spec {
        batch: [1, 1],
        m,
        n,
        k,
        a: Matrix::dense([1, 1], m, k),
        b: Weights::Strided(Matrix::dense([1, 1], k, n)),
        output: Matrix::dense([1, 1], m, n),
        epilogue: Epilogue::identity(),
    }
}

/// `relu(sum + bias) * residual`.
fn fused(m: u32, n: u32) -> Epilogue {
    let mut expr = Expr::new(vec![Scalar::F32; 3]);
    let biased = expr.push(Instr::Binary(Binary::Add, 0, 1));
    let positive = expr.push(Instr::Unary(Unary::Relu, biased));
    expr.push(Instr::Binary(Binary::Mul, positive, 2));
    Epilogue { expr, inputs: vec![Matrix::per_column(), Matrix::dense([1, 1], m, n)] }
}

#[test]
fn reference_matches_a_table() {
    let a = Data::F32(vec![1.0, 2.0, 3.0, 4.0]);
    let b = Data::F32(vec![1.0, -1.0, 0.5, 1.0]);
    assert_eq!(reference(&plain(2, 2, 2), &[a.clone(), b.clone()]).f32(), [2.0, 1.0, 5.0, 1.0]);
    let spec = Spec { epilogue: fused(2, 2), ..plain(2, 2, 2) };
    let bias = Data::F32(vec![1.0, -3.0]);
    let factor = Data::F32(vec![2.0, 2.0, 10.0, 10.0]);
    assert_eq!(reference(&spec, &[a, b, bias, factor]).f32(), [6.0, 0.0, 60.0, 0.0]);
}

#[test]
fn packed_weights_mean_the_same_as_plain_ones() {
    for (k, n) in [(1, 1), (3, 5), (4, 64), (7, 65), (9, 130)] {
        let bytes: Vec<i8> = (0..k * n).map(|i| (i * 37 % 255) as i8).collect();
        let floats: Vec<f32> = bytes.iter().map(|&byte| f32::from(byte)).collect();
        let scales: Vec<f32> = (0..n).map(|col| 0.5 + col as f32).collect();
        let a = Data::F32((0..2 * k).map(|i| i as f32 - 3.0).collect());
        let base = plain(2, n, k);
        let expected = reference(&base, &[a.clone(), Data::F32(floats.clone())]);
        assert_eq!(unpack_f32(&pack_f32(&floats, k, n), k, n), floats);
        let packed = Spec { b: Weights::PackedF32, ..base.clone() };
        let given = reference(&packed, &[a.clone(), Data::F32(pack_f32(&floats, k, n))]);
        assert_eq!(given, expected);
        let quantised = Spec { b: Weights::PackedI8, ..base.clone() };
        let words = Data::U32(pack_i8(&bytes, k, n));
        let given = reference(&quantised, &[a.clone(), words, Data::F32(scales.clone())]);
        let halves = bytes.iter().map(|&byte| half::f16::from_f32(byte.into()).to_bits());
        let words = Data::U32(pack_halves(&halves.collect::<Vec<_>>(), k, n));
        let packed = Spec { b: Weights::PackedF16, ..base.clone() };
        assert_eq!(reference(&packed, &[a.clone(), words]), expected);
        let brains = bytes.iter().map(|&byte| half::bf16::from_f32(byte.into()).to_bits());
        let words = Data::U32(pack_halves(&brains.collect::<Vec<_>>(), k, n));
        let packed = Spec { b: Weights::PackedBf16, ..base.clone() };
        assert_eq!(reference(&packed, &[a.clone(), words]), expected);
        let columns = scales.iter().cycle();
        let expected = expected.f32().iter().zip(columns).map(|(sum, scale)| sum * scale);
        assert_eq!(given, Data::F32(expected.collect()));
    }
}

#[test]
fn every_variant_is_valid() {
    for (m, n, k) in [(1, 1, 1), (3, 8, 4), (7, 10, 12), (17, 64, 5), (64, 384, 384)] {
        let weights = [
            Weights::Strided(Matrix::dense([1, 1], k, n)),
            Weights::Strided(Matrix::dense([1, 1], n, k).transposed()),
            Weights::PackedF32,
            Weights::PackedF16,
            Weights::PackedBf16,
            Weights::PackedI8,
            Weights::PackedU8,
            Weights::Blocks { bits: 4, block: 32 },
            Weights::Blocks { bits: 8, block: 16 },
        ];
        for b in weights {
            for epilogue in [Epilogue::identity(), fused(m, n)] {
                let spec = Spec { b, epilogue, ..plain(m, n, k) };
                check::variants(|caps| variants(&spec, caps));
            }
        }
    }
}

#[test]
fn blocks_match_a_table() {
    // Column 0: 1, 2, 3, 15, 0, 0, 0, 0 in its first block and 8 in its second, of which k = 9
    // reaches one. Column 1: zeros.
    let words = Data::U32(vec![0x0000_f321, 0x0000_0008, 0, 0]);
    let blocks = Data::F32(vec![2.0, 1.0, 10.0, 3.0, 1.0, 0.0, 1.0, 0.5]);
    let a = Data::F32(vec![1.0; 9]);
    let b = Weights::Blocks { bits: 4, block: 8 };
    let given = reference(&Spec { b, ..plain(1, 2, 9) }, &[a, words, blocks]);
    // 2 * (0 + 1 + 2 + 14 - 4) + 10 * (8 - 3), and -0.5.
    assert_eq!(given.f32(), [76.0, -0.5]);
    let odd = Spec { b: Weights::Blocks { bits: 4, block: 12 }, ..plain(1, 2, 9) };
    assert!(dispatch(&odd, &Caps::minimal()).is_err());
}

#[test]
fn adapters_choose_by_what_they_are() {
    let spec = plain(128, 384, 384);
    let names: Vec<String> = check::adapters()
        .iter()
        .map(|caps| dispatch(&spec, caps).unwrap().kernel.variant)
        .collect();
    assert_eq!(names[0], "subgroup8 16x2");
    assert_eq!(names[2], "plain8 16x1");
    assert_eq!(names[4], "shared 64x64");
}

#[test]
fn shapes_are_not_in_the_text() {
    let caps = check::adapters()[0];
    let text = |m, n, k| dispatch(&plain(m, n, k), &caps).unwrap().kernel;
    assert_eq!(text(128, 384, 1536), text(32, 1536, 384));
}

#[test]
fn an_epilogue_with_a_missing_input_is_refused() {
    let mut spec = Spec { epilogue: fused(2, 2), ..plain(2, 2, 2) };
    spec.epilogue.inputs.pop();
    assert!(dispatch(&spec, &Caps::minimal()).is_err());
}

#[test]
fn halves_are_kept_where_they_can_be_read_fast() {
    let hardware = Caps::minimal();
    assert!(keeps_halves(&hardware));
    let software = Caps { software: true, ..hardware };
    assert!(!keeps_halves(&software));
    assert!(keeps_halves(&Caps { f16: true, ..software }));
}
