//! Expressions over many elements at once: the operations outside, the elements inside.

use super::eval::{binary, cast, unary};
use super::{Binary, Expr, Instr, Reg, Unary, Value};
use crate::data::Data;
use crate::kernel::Scalar;

impl Expr {
    /// The results for `count` elements, with one column per input. The same as [`Expr::eval`],
    /// element by element.
    ///
    /// # Panics
    /// Where the inputs are not those that [`Expr::types`] accepts, or not of `count` elements.
    pub fn eval_columns(&self, inputs: Vec<Data>, count: usize) -> Data {
        let mut registers = inputs;
        for instr in &self.instrs {
            let column = match *instr {
                Instr::Const(scalar, value) => repeated(Value::new(scalar, value), count),
                Instr::Unary(op, a) => unary_column(op, &registers[a]),
                Instr::Binary(op, a, b) => binary_column(op, &registers[a], &registers[b]),
                Instr::Select(cond, a, b) => select(&registers, [cond, a, b]),
                Instr::Cast(to, a) if registers[a].scalar() == to => registers[a].clone(),
                Instr::Cast(to, a) => map(to, &registers[a], |value| cast(to, value)),
            };
            registers.push(column);
        }
        registers.swap_remove(self.output)
    }
}

fn repeated(value: Value, count: usize) -> Data {
    match value {
        Value::F32(value) => Data::F32(vec![value; count]),
        Value::I32(value) => Data::I32(vec![value; count]),
        Value::U32(value) => Data::U32(vec![value; count]),
    }
}

fn map(to: Scalar, column: &Data, f: impl Fn(Value) -> Value) -> Data {
    Data::collect(to, (0..column.len()).map(|index| f(column.at(index))))
}

/// What is exact in f32 is computed there, the rest as [`Expr::eval`] does.
fn unary_column(op: Unary, column: &Data) -> Data {
    let result = op.result(column.scalar()).expect("the expression is valid");
    let floats = |f: fn(f32) -> f32| Data::F32(column.f32().iter().map(|&x| f(x)).collect());
    match (op, column.scalar()) {
        (Unary::Relu, Scalar::F32) => floats(|x| if x > 0.0 || x.is_nan() { x } else { 0.0 }),
        (Unary::Neg, Scalar::F32) => floats(|x| -x),
        (Unary::Abs, Scalar::F32) => floats(f32::abs),
        (Unary::Sqrt, Scalar::F32) => floats(f32::sqrt),
        _ => map(result, column, |value| unary(op, value)),
    }
}

fn binary_column(op: Binary, a: &Data, b: &Data) -> Data {
    let result = op.result(a.scalar()).expect("the expression is valid");
    let floats = |f: fn(f32, f32) -> f32| {
        Data::F32(a.f32().iter().zip(b.f32()).map(|(&a, &b)| f(a, b)).collect())
    };
    match (op, a.scalar()) {
        (Binary::Add, Scalar::F32) => floats(|a, b| a + b),
        (Binary::Sub, Scalar::F32) => floats(|a, b| a - b),
        (Binary::Mul, Scalar::F32) => floats(|a, b| a * b),
        (Binary::Div, Scalar::F32) => floats(|a, b| a / b),
        _ => Data::collect(result, (0..a.len()).map(|index| binary(op, a.at(index), b.at(index)))),
    }
}

fn select(registers: &[Data], [cond, a, b]: [Reg; 3]) -> Data {
    let (cond, a, b) = (&registers[cond], &registers[a], &registers[b]);
    let pick = |index: usize| if cond.at(index).is_true() { a.at(index) } else { b.at(index) };
    Data::collect(a.scalar(), (0..cond.len()).map(pick))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers at which operations differ from each other, or from what is easy.
    const NUMBERS: [f32; 12] = [
        0.0,
        -0.0,
        1.5,
        -2.5,
        0.3,
        -7.0,
        1e9,
        -1e-9,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MAX,
    ];

    fn same(expr: &Expr, inputs: Vec<Data>) {
        let count = inputs[0].len();
        let expected: Vec<Value> = (0..count)
            .map(|index| {
                expr.eval(&inputs.iter().map(|column| column.at(index)).collect::<Vec<_>>())
            })
            .collect();
        let expected = Data::collect(expr.result().unwrap(), expected.into_iter());
        let given = expr.eval_columns(inputs, count);
        let (given, expected) = (given.bytes(), expected.bytes());
        for (index, (given, expected)) in given.chunks(4).zip(expected.chunks(4)).enumerate() {
            let is_nan =
                |word: &[u8]| f32::from_le_bytes([word[0], word[1], word[2], word[3]]).is_nan();
            let alike = given == expected || is_nan(given) && is_nan(expected);
            assert!(alike, "{expr:?} at {index}: {given:?}, expected {expected:?}");
        }
    }

    #[test]
    fn columns_agree_with_single_elements() {
        let pairs = || NUMBERS.iter().flat_map(|&a| NUMBERS.iter().map(move |&b| (a, b)));
        let (left, right): (Vec<f32>, Vec<f32>) = pairs().unzip();
        let whole = |values: &[f32]| values.iter().map(|&value| value as i32).collect::<Vec<_>>();
        for scalar in [Scalar::F32, Scalar::I32] {
            let column = |values: &[f32]| match scalar {
                Scalar::F32 => Data::F32(values.to_vec()),
                _ => Data::I32(whole(values)),
            };
            for op in Unary::ALL {
                if op.result(scalar).is_some() {
                    same(&Expr::unary(op, scalar), vec![column(&NUMBERS)]);
                }
            }
            for op in Binary::ALL {
                if op.result(scalar).is_some() {
                    same(&Expr::binary(op, scalar), vec![column(&left), column(&right)]);
                }
            }
            for to in [Scalar::F32, Scalar::I32, Scalar::U32] {
                let mut expr = Expr::identity(scalar);
                expr.push(Instr::Cast(to, 0));
                same(&expr, vec![column(&NUMBERS)]);
            }
            let mut expr = Expr::new(vec![scalar; 2]);
            expr.push(Instr::Select(0, 1, 0));
            same(&expr, vec![column(&left), column(&right)]);
        }
    }
}
