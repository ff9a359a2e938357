//! The arithmetic of constants: exact for integers, so that shapes computed by a model are.

use bytes::Bytes;
use gw_shaders::expr::{Binary, Expr, Instr, Unary, Value};
use gw_shaders::kernel::Scalar;
use gw_tensor::{DType, Shape, Tensor};
use half::{bf16, f16};

use super::layout::Layout;

/// Elements whose wide forms are held at once.
const CHUNK: usize = 1 << 12;

/// One element: integers keep 64 bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Number {
    Int(i64),
    Float(f64),
}

impl Number {
    pub(crate) fn float(self) -> f64 {
        match self {
            Self::Int(value) => value as f64,
            Self::Float(value) => value,
        }
    }

    /// Floats are truncated and saturate.
    #[expect(clippy::cast_possible_truncation, reason = "that is the rule")]
    pub(crate) fn int(self) -> i64 {
        match self {
            Self::Int(value) => value,
            Self::Float(value) => value as i64,
        }
    }

    fn is_true(self) -> bool {
        match self {
            Self::Int(value) => value != 0,
            Self::Float(value) => value != 0.0,
        }
    }

    fn of(scalar: Scalar, value: Self) -> Self {
        match scalar {
            Scalar::F32 => Self::Float(value.float()),
            Scalar::I32 | Scalar::U32 => Self::Int(value.int()),
        }
    }
}

/// The elements of `tensor`.
pub(crate) fn numbers(tensor: &Tensor) -> Vec<Number> {
    read(tensor.dtype(), tensor.bytes())
}

fn read(dtype: DType, bytes: &[u8]) -> Vec<Number> {
    macro_rules! read {
        ($ty:ty, $number:expr) => {
            bytes
                .chunks_exact(size_of::<$ty>())
                .map(|chunk| $number(bytemuck::pod_read_unaligned::<$ty>(chunk)))
                .collect()
        };
    }
    let int = Number::Int;
    let float = Number::Float;
    match dtype {
        DType::F32 => read!(f32, |value: f32| float(f64::from(value))),
        DType::F64 => read!(f64, float),
        DType::F16 => read!(f16, |value: f16| float(value.to_f64())),
        DType::Bf16 => read!(bf16, |value: bf16| float(value.to_f64())),
        DType::I8 => read!(i8, |value: i8| int(value.into())),
        DType::I16 => read!(i16, |value: i16| int(value.into())),
        DType::I32 => read!(i32, |value: i32| int(value.into())),
        DType::I64 => read!(i64, int),
        DType::U8 => read!(u8, |value: u8| int(value.into())),
        DType::U16 => read!(u16, |value: u16| int(value.into())),
        DType::U32 => read!(u32, |value: u32| int(value.into())),
        DType::U64 => read!(u64, |value: u64| int(value.cast_signed())),
        DType::Bool => read!(u8, |value: u8| int((value != 0).into())),
    }
}

/// A tensor of these elements: integers wrap to the type, floats are rounded to it.
pub(crate) fn tensor(dtype: DType, shape: &[usize], values: &[Number]) -> Option<Tensor> {
    Tensor::new(dtype, shape, write(dtype, values)).ok()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "narrowing is what a cast does"
)]
fn write(dtype: DType, values: &[Number]) -> Vec<u8> {
    macro_rules! write {
        ($convert:expr) => {
            values.iter().flat_map(|&value| $convert(value).to_le_bytes()).collect::<Vec<u8>>()
        };
    }
    match dtype {
        DType::F32 => write!(|value: Number| value.float() as f32),
        DType::F64 => write!(Number::float),
        DType::F16 => write!(|value: Number| f16::from_f64(value.float())),
        DType::Bf16 => write!(|value: Number| bf16::from_f64(value.float())),
        DType::I8 => write!(|value: Number| value.int() as i8),
        DType::I16 => write!(|value: Number| value.int() as i16),
        DType::I32 => write!(|value: Number| value.int() as i32),
        DType::I64 => write!(Number::int),
        DType::U8 => write!(|value: Number| value.int() as u8),
        DType::U16 => write!(|value: Number| value.int() as u16),
        DType::U32 => write!(|value: Number| value.int() as u32),
        DType::U64 => write!(|value: Number| value.int() as u64),
        DType::Bool => write!(|value: Number| u8::from(value.is_true())),
    }
}

/// The same elements in another type.
pub(crate) fn cast(data: &Tensor, dtype: DType) -> Option<Tensor> {
    tensor(dtype, data.shape(), &numbers(data))
}

/// A dense tensor of what `layout` sees of `data`; shares the bytes where it can.
pub(crate) fn materialise(data: &Tensor, layout: &Layout) -> Tensor {
    let shape = Shape::from(layout.shape());
    let size = data.dtype().size();
    if layout.is_dense() && layout.elements() == data.elements() {
        return data.reshaped(shape).expect("the count is the same");
    }
    let source = data.bytes();
    let mut bytes = Vec::with_capacity(layout.elements() * size);
    for position in layout.positions() {
        bytes.extend_from_slice(&source[position * size..(position + 1) * size]);
    }
    Tensor::new(data.dtype(), shape, bytes).expect("one element per position")
}

/// The bytes of a tensor on a device: four per element.
///
/// # Errors
/// The first integer that 32 bits do not hold.
pub(crate) fn device_bytes(data: &Tensor) -> Result<Bytes, i64> {
    if data.dtype() == DType::F32 {
        return Ok(data.bytes().clone());
    }
    let mut bytes = Vec::with_capacity(data.elements() * 4);
    for value in numbers(data) {
        let word = match value {
            #[expect(clippy::cast_possible_truncation, reason = "devices have no f64")]
            Number::Float(value) => (value as f32).to_le_bytes(),
            Number::Int(value) => i32::try_from(value).map_err(|_| value)?.to_le_bytes(),
        };
        bytes.extend_from_slice(&word);
    }
    Ok(bytes.into())
}

/// The expression over constants of one shape.
pub(crate) fn pointwise(expr: &Expr, inputs: &[Tensor], dtype: DType) -> Option<Tensor> {
    let shape = inputs.first()?.shape();
    if dtype == DType::F32 && inputs.iter().all(|input| input.dtype() == DType::F32) {
        return pointwise_f32(expr, inputs);
    }
    let types = expr.types().ok()?;
    let elements = shape.elements();
    let mut registers = Vec::with_capacity(types.len());
    let mut bytes = Vec::with_capacity(elements * dtype.size());
    for start in (0..elements).step_by(CHUNK) {
        let end = elements.min(start + CHUNK);
        let column = |input: &Tensor| {
            let size = input.dtype().size();
            read(input.dtype(), &input.bytes()[start * size..end * size])
        };
        let columns: Vec<Vec<Number>> = inputs.iter().map(column).collect();
        let mut values = Vec::with_capacity(end - start);
        for row in 0..end - start {
            registers.clear();
            registers.extend(columns.iter().map(|column| column[row]));
            for (instr, scalar) in expr.instrs.iter().zip(&types[inputs.len()..]) {
                let value = step(instr, &registers, &types)?;
                registers.push(Number::of(*scalar, value));
            }
            values.push(registers[expr.output]);
        }
        bytes.extend(write(dtype, &values));
    }
    Tensor::new(dtype, shape.clone(), bytes).ok()
}

fn pointwise_f32(expr: &Expr, inputs: &[Tensor]) -> Option<Tensor> {
    let columns: Vec<_> = inputs.iter().map(|input| input.as_slice::<f32>().ok()).collect();
    let columns = columns.into_iter().collect::<Option<Vec<_>>>()?;
    let mut arguments = vec![Value::F32(0.0); columns.len()];
    let shape = inputs[0].shape();
    let mut values = Vec::with_capacity(shape.elements());
    for row in 0..shape.elements() {
        for (argument, column) in arguments.iter_mut().zip(&columns) {
            *argument = Value::F32(column[row]);
        }
        let Value::F32(value) = expr.eval(&arguments) else { return None };
        values.push(value);
    }
    Tensor::from_slice(shape.clone(), &values).ok()
}

fn step(instr: &Instr, registers: &[Number], types: &[Scalar]) -> Option<Number> {
    Some(match *instr {
        Instr::Const(Scalar::F32, value) => Number::Float(value),
        Instr::Const(_, value) => Number::Int(Number::Float(value).int()),
        Instr::Unary(op, a) => match registers[a] {
            Number::Int(value) => Number::Int(unary_int(op, value)?),
            Number::Float(value) => float(Instr::Unary(op, 0), &[value], Scalar::F32)?,
        },
        Instr::Binary(op, a, b) => match (registers[a], registers[b]) {
            (Number::Int(x), Number::Int(y)) => Number::Int(binary_int(op, x, y)?),
            (x, y) => float(Instr::Binary(op, 0, 1), &[x.float(), y.float()], Scalar::F32)?,
        },
        Instr::Select(cond, a, b) => registers[if registers[cond].is_true() { a } else { b }],
        Instr::Cast(Scalar::U32, a) if types[a] != Scalar::U32 => {
            Number::Int(registers[a].is_true().into())
        }
        Instr::Cast(to, a) => Number::of(to, registers[a]),
    })
}

/// One instruction on floats, by the reference of the kernels.
#[expect(clippy::cast_possible_truncation, reason = "as a device computes it")]
fn float(instr: Instr, arguments: &[f64], scalar: Scalar) -> Option<Number> {
    let mut expr = Expr::new(vec![scalar; arguments.len()]);
    expr.push(instr);
    expr.types().ok()?;
    let arguments: Vec<Value> = arguments.iter().map(|&x| Value::F32(x as f32)).collect();
    Some(match expr.eval(&arguments) {
        Value::F32(value) => Number::Float(value.into()),
        Value::I32(value) => Number::Int(value.into()),
        Value::U32(value) => Number::Int(value.into()),
    })
}

fn unary_int(op: Unary, value: i64) -> Option<i64> {
    Some(match op {
        Unary::Abs => value.wrapping_abs(),
        Unary::Neg => value.wrapping_neg(),
        Unary::Sign => value.signum(),
        Unary::Relu => value.max(0),
        Unary::Not => (value == 0).into(),
        Unary::BitNot => !value,
        _ => return None,
    })
}

fn binary_int(op: Binary, x: i64, y: i64) -> Option<i64> {
    Some(match op {
        Binary::Add => x.wrapping_add(y),
        Binary::Sub => x.wrapping_sub(y),
        Binary::Mul => x.wrapping_mul(y),
        Binary::Div => x.checked_div(y)?,
        Binary::Pow => x.wrapping_pow(u32::try_from(y).ok()?),
        Binary::Min => x.min(y),
        Binary::Max => x.max(y),
        Binary::Mod => {
            let rest = x.checked_rem(y)?;
            if rest != 0 && (rest < 0) != (y < 0) { rest + y } else { rest }
        }
        Binary::Fmod => x.checked_rem(y)?,
        Binary::Equal => (x == y).into(),
        Binary::Less => (x < y).into(),
        Binary::LessOrEqual => (x <= y).into(),
        Binary::Greater => (x > y).into(),
        Binary::GreaterOrEqual => (x >= y).into(),
        Binary::And => (x != 0 && y != 0).into(),
        Binary::Or => (x != 0 || y != 0).into(),
        Binary::Xor => ((x != 0) != (y != 0)).into(),
        Binary::BitAnd => x & y,
        Binary::BitOr => x | y,
        Binary::BitXor => x ^ y,
        Binary::ShiftLeft => x.checked_shl(u32::try_from(y).ok()?).unwrap_or(0),
        Binary::ShiftRight => x.checked_shr(u32::try_from(y).ok()?).unwrap_or(0),
    })
}
