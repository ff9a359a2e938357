use gw_shaders::data::Data;
use gw_shaders::gather::{Spec, Table, pack_halves, pack_i8, reference, variants};
use gw_shaders::gemm::keeps_halves;
use gw_shaders::kernel::Scalar;

use gw_shaders::embed;
use gw_shaders::expr::{Binary, Expr, Instr};
use gw_shaders::norm;

use crate::harness::{Random, Tolerance, agree};

/// Rows of halves of any size, in the packed forms that this adapter takes.
fn halves(random: &mut Random, size: usize, inner: u32) -> Vec<(Table, Data)> {
    if !crate::device::shared().is_some_and(|device| keeps_halves(&device.caps())) {
        return Vec::new();
    }
    let values: Vec<f32> =
        (0..size).map(|at| random.float() * (at as f32 % 30.0 - 26.0).exp2()).collect();
    let f16 = values.iter().map(|&value| half::f16::from_f32(value).to_bits()).collect();
    let bf16 = values.iter().map(|&value| half::bf16::from_f32(value).to_bits()).collect();
    let packed = |bits: Vec<u16>| Data::U32(pack_halves(&bits, inner));
    vec![(Table::PackedF16, packed(f16)), (Table::PackedBf16, packed(bf16))]
}

#[test]
fn gathered_rows_agree() {
    let mut random = Random::new(1);
    for (outer, axis, inner, count) in
        [(1, 1, 1, 1), (1, 5, 4, 9), (3, 5, 7, 4), (2, 3, 8, 0), (1, 64, 384, 33), (2, 9, 1, 65)]
    {
        let size = (outer * axis * inner) as usize;
        // From one before the first to one after the last, and negative ones.
        let indices = random.integers(count as usize, 2 * axis + 2);
        let indices =
            Data::I32(indices.iter().map(|index| index - axis.cast_signed() - 1).collect());
        let integers = random.integers(size, 1000);
        let bits: Vec<u32> = integers.iter().map(|value| value.cast_unsigned() % 2).collect();
        for data in [random.floats(size), Data::I32(integers), Data::U32(bits)] {
            let table = Table::Plain(data.scalar());
            let spec = Spec { table, outer, axis, part: [0, axis], inner, count };
            let inputs = [data, indices.clone()];
            let expected = reference(&spec, &inputs);
            agree(|caps| variants(&spec, caps), &inputs, &[expected], Tolerance::EXACT);
        }
        for (table, data) in halves(&mut random, size, inner) {
            let spec = Spec { table, outer, axis, part: [0, axis], inner, count };
            let inputs = [data, indices.clone()];
            let expected = reference(&spec, &inputs);
            agree(|caps| variants(&spec, caps), &inputs, &[expected], Tolerance::EXACT);
        }
        let bytes = random.bytes(size);
        let spec = Spec { table: Table::PackedI8, outer, axis, part: [0, axis], inner, count };
        let scales = random.floats((outer * axis) as usize);
        let inputs = [Data::U32(pack_i8(&bytes, inner)), scales, indices];
        let expected = reference(&spec, &inputs);
        assert_eq!(expected.scalar(), Scalar::F32);
        agree(|caps| variants(&spec, caps), &inputs, &[expected], Tolerance::EXACT);
    }
}

#[test]
fn a_part_writes_what_its_rows_are() {
    let mut random = Random::new(2);
    let (outer, axis, inner, count) = (2, 9, 8, 40u32);
    let indices =
        Data::I32(random.integers(count as usize, 20).iter().map(|index| index - 10).collect());
    for part in [[0, 4], [4, 9], [3, 4], [0, 0]] {
        let held = part[1] - part[0];
        let table = Table::Plain(Scalar::F32);
        let spec = Spec { table, outer, axis, part, inner, count };
        let inputs = [random.floats((outer * held * inner) as usize), indices.clone()];
        let expected = reference(&spec, &inputs);
        agree(|caps| variants(&spec, caps), &inputs, &[expected], Tolerance::EXACT);
        let bytes = random.bytes((outer * held * inner) as usize);
        let spec = Spec { table: Table::PackedI8, ..spec };
        let scales = random.floats((outer * held) as usize);
        let inputs = [Data::U32(pack_i8(&bytes, inner)), scales, indices.clone()];
        let expected = reference(&spec, &inputs);
        agree(|caps| variants(&spec, caps), &inputs, &[expected], Tolerance::EXACT);
    }
}

#[test]
fn rows_of_several_tables_are_combined_and_normalised() {
    // `x0 + x1 * x2`, normalised in f32.
    let mut expr = Expr::new(vec![Scalar::F32; 3]);
    let scaled = expr.push(Instr::Binary(Binary::Mul, 1, 2));
    expr.push(Instr::Binary(Binary::Add, 0, scaled));
    let mut random = Random::new(7);
    for (count, cols, table, axis) in [
        (1, 1, Table::Plain(Scalar::F32), 3),
        (9, 7, Table::Plain(Scalar::F32), 5),
        (17, 64, Table::PackedI8, 11),
        (40, 384, Table::PackedI8, 300),
        (33, 384, Table::PackedF16, 200),
        (9, 20, Table::PackedBf16, 20),
    ] {
        let halves = halves(&mut random, (axis * cols) as usize, cols);
        let halves = halves.into_iter().find_map(|(kind, data)| (kind == table).then_some(data));
        if halves.is_none() && matches!(table, Table::PackedF16 | Table::PackedBf16) {
            continue;
        }
        for norm in [None, Some(norm::Kind::Layer), Some(norm::Kind::Rms)] {
            let form = |kind| norm::Form { kind, eps: 1e-3, scale: true, bias: true };
            let norm = norm.map(form);
            let period = count.min(8);
            let inputs = vec![
                embed::Rows::Table { table, axis },
                embed::Rows::Dense { offset: 4 * cols, period, row: cols.cast_signed() },
                embed::Rows::Table { table: Table::Plain(Scalar::F32), axis: 2 },
            ];
            let spec = embed::Spec { count, cols, inputs, expr: expr.clone(), norm };
            let weights = norm.map_or(0, norm::Form::operands);
            let mut data: Vec<Data> = (0..weights).map(|_| random.floats(cols as usize)).collect();
            if let Some(halves) = &halves {
                data.push(halves.clone());
            } else if table == Table::PackedI8 {
                let bytes = random.bytes((axis * cols) as usize);
                data.extend([Data::U32(pack_i8(&bytes, cols)), random.floats(axis as usize)]);
            } else {
                data.push(random.floats((axis * cols) as usize));
            }
            // Some from the end, some outside.
            let wide = random.integers(count as usize, 3 * axis);
            data.push(Data::I32(wide.iter().map(|at| at - axis.cast_signed()).collect()));
            data.push(random.floats(((4 + period) * cols) as usize));
            data.push(random.floats(2 * cols as usize));
            data.push(Data::I32(random.integers(count as usize, 2)));
            let expected = embed::reference(&spec, &data);
            let tolerance = Tolerance::of(1e-5, 1e-5);
            agree(|caps| embed::variants(&spec, caps), &data, &[expected], tolerance);
        }
    }
}
