use gw_shaders::data::Data;
use gw_shaders::expr::{Expr, Unary};
use gw_shaders::kernel::Scalar;
use gw_shaders::recurrent::{Cell, Projection, Spec, reference, variants};

use crate::harness::{Random, Tolerance, agree};

const CELLS: [Cell; 6] = [
    Cell::Rnn,
    Cell::Gru { linear_before_reset: false },
    Cell::Gru { linear_before_reset: true },
    Cell::Lstm { peepholes: false, input_forget: false },
    Cell::Lstm { peepholes: true, input_forget: false },
    Cell::Lstm { peepholes: true, input_forget: true },
];

fn agrees(spec: &Spec, random: &mut Random) {
    let size = |parts: &[u32]| parts.iter().product::<u32>() as usize;
    let (gates, hidden) = (spec.cell.gates(), spec.hidden);
    let (batch, directions) = (spec.batch, spec.directions);
    // Weights of a trained layer: sums of about one.
    let scale = (hidden as f32).sqrt().recip();
    let weights = |random: &mut Random, count: usize| {
        Data::F32((0..count).map(|_| random.float() * scale).collect())
    };
    let mut inputs = match spec.projection {
        None => vec![random.floats(size(&[spec.steps, batch, directions, hidden, gates]))],
        Some(Projection { width, bias }) => {
            let mut inputs = vec![
                random.floats(size(&[spec.steps, batch, width])),
                weights(random, size(&[width, directions, hidden, gates])),
            ];
            if bias {
                inputs.push(random.floats(size(&[directions, hidden, gates])));
            }
            inputs
        }
    };
    inputs.push(weights(random, size(&[directions, hidden, hidden, gates])));
    match spec.cell {
        Cell::Lstm { peepholes: true, .. } => {
            inputs.push(random.floats(size(&[directions, 3, hidden])));
        }
        Cell::Gru { linear_before_reset: true } => {
            inputs.push(random.floats(size(&[directions, hidden])));
        }
        _ => {}
    }
    let states = size(&[directions, batch, hidden]);
    inputs.push(random.floats(spec.begins[0] as usize + states));
    if matches!(spec.cell, Cell::Lstm { .. }) {
        inputs.push(random.floats(spec.begins[1] as usize + states));
    }
    // From one below zero to one beyond the steps.
    let lengths = random.integers(batch as usize, spec.steps + 3);
    inputs.push(Data::I32(lengths.iter().map(|length| length - 1).collect()));
    let expected = [reference(spec, &inputs)];
    // States feed back: the error of a step, about 1e-6, grows a little with each.
    agree(|caps| variants(spec, caps), &inputs, &expected, Tolerance::of(1e-4, 2e-5));
}

fn act(op: Unary) -> Expr {
    Expr::unary(op, Scalar::F32)
}

fn layer(cell: Cell, [steps, batch, directions, hidden]: [u32; 4]) -> Spec {
    let activations = [act(Unary::Sigmoid), act(Unary::Tanh), act(Unary::Tanh)];
    Spec {
        cell,
        steps,
        batch,
        directions,
        reverse: false,
        hidden,
        clip: None,
        activations: activations[..cell.activations()].to_vec(),
        begins: [0, 0],
        projection: None,
        stored: Expr::identity(Scalar::F32),
        part: [0, steps],
    }
}

#[test]
fn recurrences_agree() {
    let mut random = Random::new(5);
    for cell in CELLS {
        for (steps, batch, directions, hidden) in
            [(1, 1, 1, 1), (4, 3, 2, 5), (3, 2, 1, 64), (2, 1, 2, 65), (2, 2, 1, 257), (5, 0, 1, 3)]
        {
            for reverse in [false, directions == 1] {
                let clip = reverse.then_some(0.5);
                let sizes = [steps, batch, directions, hidden];
                let spec = Spec { reverse, clip, ..layer(cell, sizes) };
                agrees(&spec, &mut random);
                if hidden != 5 && hidden != 65 {
                    continue;
                }
                for (width, bias) in [(8, false), (19, true)] {
                    // WebGPU binds eight buffers everywhere.
                    if bias && matches!(cell, Cell::Lstm { peepholes: true, .. }) {
                        continue;
                    }
                    let projection = Some(Projection { width, bias });
                    let (begins, stored) = ([3, 70], act(Unary::Tanh));
                    agrees(&Spec { projection, begins, stored, ..spec.clone() }, &mut random);
                }
            }
        }
    }
}

#[test]
fn a_state_beyond_workgroup_memory_lies_in_the_result() {
    let mut random = Random::new(6);
    for (cell, hidden) in [(Cell::Gru { linear_before_reset: false }, 2049), (Cell::Rnn, 4097)] {
        agrees(&layer(cell, [2, 1, 1, hidden]), &mut random);
    }
}
