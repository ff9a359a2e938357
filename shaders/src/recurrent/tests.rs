use super::*;
use crate::check;
use crate::data::Data;
use crate::expr::Unary;

const CELLS: [Cell; 6] = [
    Cell::Rnn,
    Cell::Gru { linear_before_reset: false },
    Cell::Gru { linear_before_reset: true },
    Cell::Lstm { peepholes: false, input_forget: false },
    Cell::Lstm { peepholes: true, input_forget: false },
    Cell::Lstm { peepholes: true, input_forget: true },
];

fn spec(cell: Cell) -> Spec {
    let identity = Expr::identity(Scalar::F32);
    Spec {
        cell,
        steps: 2,
        batch: 1,
        directions: 1,
        reverse: false,
        hidden: 1,
        clip: None,
        activations: vec![identity; cell.activations()],
        begins: [0, 0],
        projection: None,
        stored: Expr::identity(Scalar::F32),
        part: [0, 2],
    }
}

#[test]
fn reference_matches_a_table() {
    let lengths = Data::I32(vec![2]);
    let f32 = |values: &[f32]| Data::F32(values.to_vec());
    // 1 + 3 * 10 = 31, then 2 + 31 * 10 = 312.
    let inputs = [f32(&[1.0, 2.0]), f32(&[10.0]), f32(&[3.0]), lengths.clone()];
    assert_eq!(reference(&spec(Cell::Rnn), &inputs).f32(), [31.0, 312.0, 312.0]);
    let back = Spec { reverse: true, ..spec(Cell::Rnn) };
    assert_eq!(reference(&back, &inputs).f32(), [321.0, 32.0, 321.0]);
    let clipped = Spec { clip: Some(100.0), ..spec(Cell::Rnn) };
    assert_eq!(reference(&clipped, &inputs).f32(), [31.0, 100.0, 100.0]);
    // The second step is beyond the length.
    let short = [inputs[0].clone(), inputs[1].clone(), inputs[2].clone(), Data::I32(vec![1])];
    assert_eq!(reference(&spec(Cell::Rnn), &short).f32(), [31.0, 0.0, 31.0]);

    // z = 0.5, r = 2: the state of 3 becomes 6 before the product, so h = 1 + 60 = 61, and
    // 0.5 * 61 + 0.5 * 3 = 32. After it, with a bias of 7: 1 + 2 * (30 + 7) = 75, and 39.
    let one = |cell: Cell| Spec { steps: 1, ..spec(cell) };
    let (x, r) = (f32(&[0.5, 2.0, 1.0]), f32(&[0.0, 0.0, 10.0]));
    let (state, length) = (f32(&[3.0]), Data::I32(vec![1]));
    let gru = one(Cell::Gru { linear_before_reset: false });
    let inputs = [x.clone(), r.clone(), state.clone(), length.clone()];
    assert_eq!(reference(&gru, &inputs).f32(), [32.0, 32.0, 0.0, 0.0]);
    let linear = one(Cell::Gru { linear_before_reset: true });
    let inputs = [x, r, f32(&[7.0]), state.clone(), length.clone()];
    assert_eq!(reference(&linear, &inputs).f32(), [39.0, 39.0, 0.0, 0.0]);

    // i = 1 + 3, o = 2, f = 0.5, c = 5; the cell of 8: 0.5 * 8 + 4 * 5 = 24, h = 2 * 24.
    let (x, r) = (f32(&[1.0, 2.0, 0.5, 5.0]), f32(&[1.0, 0.0, 0.0, 0.0]));
    let lstm = one(Cell::Lstm { peepholes: false, input_forget: false });
    let inputs = [x.clone(), r.clone(), state.clone(), f32(&[8.0]), length.clone()];
    assert_eq!(reference(&lstm, &inputs).f32(), [48.0, 48.0, 24.0]);
    // Peepholes add 0.5 * 8 to i, 1 * c to o, 0.25 * 8 to f: c = 2.5 * 8 + 8 * 5 = 60,
    // h = 62 * 60.
    let seen = one(Cell::Lstm { peepholes: true, input_forget: false });
    let inputs = [x, r, f32(&[0.5, 1.0, 0.25]), state, f32(&[8.0]), length.clone()];
    assert_eq!(reference(&seen, &inputs).f32(), [3720.0, 3720.0, 60.0]);
    // x = 2 * 3 + 1 * 4 + 21 = 31 with its product inside; the state of 3 lies behind another.
    // Only the row of the step is halved: 31 + 3 * 10 = 61.
    let mut half = Expr::new(vec![Scalar::F32]);
    let factor = half.constant(Scalar::F32, 0.5);
    half.push(crate::expr::Instr::Binary(crate::expr::Binary::Mul, 0, factor));
    let projection = Some(Projection { width: 2, bias: true });
    let inside = Spec { projection, begins: [1, 0], stored: half, ..one(Cell::Rnn) };
    let given = [f32(&[2.0, 1.0]), f32(&[3.0, 4.0]), f32(&[21.0]), f32(&[10.0]), f32(&[9.0, 3.0])];
    let given = [&given[..], std::slice::from_ref(&length)].concat();
    assert_eq!(reference(&inside, &given).f32(), [30.5, 61.0]);
    // Coupled: f = 1 - 8, c = -7 * 8 + 40 = -16, h = (2 - 16) * -16.
    let coupled = one(Cell::Lstm { peepholes: true, input_forget: true });
    assert_eq!(reference(&coupled, &inputs).f32(), [224.0, 224.0, -16.0]);
}

#[test]
fn every_variant_is_valid() {
    for cell in CELLS {
        for hidden in [1, 100, 2048, 3000, 5000] {
            for clip in [None, Some(1.0)] {
                let act = Expr::unary(Unary::Tanh, Scalar::F32);
                let activations = vec![act; cell.activations()];
                let spec = Spec { hidden, clip, activations, ..spec(cell) };
                check::variants(|caps| variants(&spec, caps));
                for bias in [false, true] {
                    // Every adapter binds eight buffers, and this would be nine.
                    if bias && matches!(cell, Cell::Lstm { peepholes: true, .. }) {
                        continue;
                    }
                    let projection = Some(Projection { width: 9, bias });
                    let stored = Expr::unary(Unary::Tanh, Scalar::F32);
                    let spec = Spec { projection, stored, ..spec.clone() };
                    check::variants(|caps| variants(&spec, caps));
                }
                // WebGPU's 16 KiB are enough for all that is shared.
                assert!(dispatch(&spec, &Caps::minimal()).is_ok());
            }
        }
    }
}

#[test]
fn what_no_buffer_holds_is_refused() {
    let huge = Spec { hidden: 1 << 17, ..spec(Cell::Rnn) };
    assert!(dispatch(&huge, &Caps::minimal()).is_err());
    assert!(steps_at_once(Cell::Rnn, 1 << 17, None).is_err());
    let long = Spec { steps: 1 << 20, part: [0, 1 << 20], ..spec(Cell::Rnn) };
    assert!(dispatch(&long, &Caps::minimal()).is_err());
    let none = Spec { activations: Vec::new(), ..spec(Cell::Rnn) };
    assert!(dispatch(&none, &Caps::minimal()).is_err());
}
