use super::*;
use crate::check;
use crate::compose::Composer;
use crate::kernel::{Caps, Needs};

/// A shader that computes one expression.
fn shader(expr: &Expr) -> crate::kernel::Dispatch {
    let mut composer = Composer::new("expr", "");
    let mut values = Vec::new();
    for (input, scalar) in expr.inputs.iter().enumerate() {
        composer.read(format!("in{input}"), scalar.wgsl());
        values.push(format!("in{input}[group]"));
    }
    let values = values.join(", ");
    composer.write("result", expr.result().unwrap().wgsl());
    composer.expr("compute", expr).unwrap();
    composer.text(&format!(
        "fn entry(group: u32, lane: u32) {{\n    result[group] = compute({values});\n}}\n"
    ));
    composer.finish("entry", 1, 1, Needs::default(), &Caps::minimal()).unwrap()
}

const SCALARS: [Scalar; 3] = [Scalar::F32, Scalar::I32, Scalar::U32];

#[test]
fn every_operation_prints_as_valid_wgsl_for_every_type_that_it_takes() {
    for scalar in SCALARS {
        let narrow = Narrow::ALL.map(Unary::Narrow);
        for op in Unary::ALL.into_iter().chain(narrow) {
            if op.result(scalar).is_some() {
                check::valid(&shader(&Expr::unary(op, scalar)));
            }
        }
        for op in Binary::ALL {
            if op.result(scalar).is_some() {
                check::valid(&shader(&Expr::binary(op, scalar)));
            }
        }
        for to in SCALARS {
            let mut expr = Expr::new(vec![scalar]);
            expr.push(Instr::Cast(to, 0));
            check::valid(&shader(&expr));
        }
    }
}

#[test]
fn constants_that_wgsl_cannot_write_are_valid() {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e-40, -0.0, 1e300, f64::from(f32::MIN)];
    for value in odd {
        let mut expr = Expr::new(vec![Scalar::F32]);
        let constant = expr.constant(Scalar::F32, value);
        expr.push(Instr::Binary(Binary::Div, constant, 0));
        check::valid(&shader(&expr));
    }
    let mut expr = Expr::new(vec![Scalar::I32]);
    let least = expr.constant(Scalar::I32, f64::from(i32::MIN));
    let zero = expr.constant(Scalar::I32, 0.0);
    expr.push(Instr::Binary(Binary::Div, least, zero));
    check::valid(&shader(&expr));
}

#[test]
fn evaluation_matches_a_table() {
    let f = Value::F32;
    let i = Value::I32;
    let cases = [
        (Binary::Mod, i(-7), i(3), i(2)),
        (Binary::Fmod, i(-7), i(3), i(-1)),
        (Binary::Mod, f(-7.5), f(2.0), f(0.5)),
        (Binary::Fmod, f(-7.5), f(2.0), f(-1.5)),
        (Binary::Div, i(-7), i(2), i(-3)),
        (Binary::Div, i(5), i(0), i(5)),
        (Binary::Add, i(i32::MAX), i(1), i(i32::MIN)),
        (Binary::Pow, f(-2.0), f(3.0), f(-8.0)),
        (Binary::Pow, i(3), i(4), i(81)),
        (Binary::Pow, i(2), i(-1), i(0)),
        (Binary::ShiftLeft, i(1), i(40), i(0)),
        (Binary::And, f(0.5), f(0.0), Value::U32(0)),
        (Binary::Xor, f(0.5), f(0.0), Value::U32(1)),
        (Binary::LessOrEqual, i(2), i(2), Value::U32(1)),
    ];
    for (op, a, b, expected) in cases {
        let scalar = if matches!(a, Value::F32(_)) { Scalar::F32 } else { Scalar::I32 };
        assert_eq!(Expr::binary(op, scalar).eval(&[a, b]), expected, "{op:?} {a:?} {b:?}");
    }
    let round = Expr::unary(Unary::Round, Scalar::F32);
    for (x, expected) in [(0.5, 0.0), (1.5, 2.0), (2.5, 2.0), (-1.5, -2.0)] {
        assert_eq!(round.eval(&[f(x)]), f(expected));
    }
    let max = Expr::binary(Binary::Max, Scalar::F32).eval(&[f(1.0), f(f32::NAN)]);
    assert!(matches!(max, Value::F32(x) if x.is_nan()));
}

#[test]
fn the_error_function_matches_known_values() {
    let erf = Expr::unary(Unary::Erf, Scalar::F32);
    // Abramowitz and Stegun, table 7.1, and its limit.
    let table =
        [(0.0, 0.0), (0.5, 0.520_499_9), (1.0, 0.842_700_8), (2.0, 0.995_322_3), (9.0, 1.0)];
    for (x, expected) in table {
        for sign in [1.0, -1.0] {
            let Value::F32(given) = erf.eval(&[Value::F32(sign * x)]) else { unreachable!() };
            assert!((given - sign * expected).abs() < 1e-7, "erf({x}) = {given}");
        }
    }
}

#[test]
fn chains_keep_their_inputs_apart() {
    // (x - y) / z, with the difference in the second slot's place once and the first's once.
    let sub = Expr::binary(Binary::Sub, Scalar::F32);
    let div = Expr::binary(Binary::Div, Scalar::F32);
    let values = [Value::F32(8.0), Value::F32(2.0), Value::F32(3.0)];
    assert_eq!(sub.then(&div, 0).eval(&values), Value::F32(2.0));
    assert_eq!(sub.then(&div, 1).eval(&values), Value::F32(0.5));
}

#[test]
fn an_added_input_leaves_the_result_alone() {
    let mut expr = Expr::unary(Unary::Neg, Scalar::F32);
    let added = expr.add_input(Scalar::F32);
    assert_eq!(expr.eval(&[Value::F32(2.0), Value::F32(5.0)]), Value::F32(-2.0));
    let out = expr.output;
    expr.push(Instr::Binary(Binary::Mul, out, added));
    assert_eq!(expr.eval(&[Value::F32(2.0), Value::F32(5.0)]), Value::F32(-10.0));
}

#[test]
fn what_no_type_allows_is_an_error_that_names_it() {
    let mut expr = Expr::new(vec![Scalar::F32, Scalar::I32]);
    expr.push(Instr::Binary(Binary::Add, 0, 1));
    assert!(expr.types().unwrap_err().to_string().contains("Add"));
    expr = Expr::new(vec![Scalar::F32]);
    expr.push(Instr::Unary(Unary::Abs, 7));
    assert_eq!(expr.types(), Err(ExprError::UnknownRegister { register: 7, at: 0 }));
}
