//! The arithmetic of constants: exact for integers, so that shapes computed by a model are.

use bytes::Bytes;
use gw_shaders::expr::{Binary, Expr, Instr, Unary, Value};
use gw_shaders::kernel::Scalar;
use gw_tensor::{DType, Shape, Tensor, small};
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

    pub(crate) fn is_true(self) -> bool {
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
        DType::I8 | DType::I4 | DType::I2 => read!(i8, |value: i8| int(value.into())),
        DType::I16 => read!(i16, |value: i16| int(value.into())),
        DType::I32 => read!(i32, |value: i32| int(value.into())),
        DType::I64 => read!(i64, int),
        DType::U8 | DType::U4 | DType::U2 => read!(u8, |value: u8| int(value.into())),
        DType::U16 => read!(u16, |value: u16| int(value.into())),
        DType::U32 => read!(u32, |value: u32| int(value.into())),
        DType::U64 => read!(u64, |value: u64| int(value.cast_signed())),
        DType::Bool => read!(u8, |value: u8| int((value != 0).into())),
        DType::F8E4m3
        | DType::F8E4m3Fnuz
        | DType::F8E5m2
        | DType::F8E5m2Fnuz
        | DType::F8E8m0
        | DType::F4E2m1 => read!(u8, |value: u8| float(small::decode(dtype, value).into())),
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
        DType::I4 => write!(|value: Number| (value.int() as i8) << 4 >> 4),
        DType::I2 => write!(|value: Number| (value.int() as i8) << 6 >> 6),
        DType::U4 => write!(|value: Number| value.int() as u8 & 0xf),
        DType::U2 => write!(|value: Number| value.int() as u8 & 0x3),
        DType::F8E4m3
        | DType::F8E4m3Fnuz
        | DType::F8E5m2
        | DType::F8E5m2Fnuz
        | DType::F8E8m0
        | DType::F4E2m1 => write!(|value: Number| small::encode(dtype, value.float() as f32)),
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
    if let Some(start) = layout.run() {
        let bytes = source.slice(start * size..(start + layout.elements()) * size);
        return Tensor::new(data.dtype(), shape, bytes).expect("one element per position");
    }
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
    let types = expr.types().ok()?;
    let elements = shape.elements();
    let mut bytes = Vec::with_capacity(elements * dtype.size());
    for start in (0..elements).step_by(CHUNK) {
        let end = elements.min(start + CHUNK);
        let column = |input: &Tensor| {
            let size = input.dtype().size();
            read(input.dtype(), &input.bytes()[start * size..end * size])
        };
        let mut registers: Vec<Vec<Number>> = inputs.iter().map(column).collect();
        for instr in &expr.instrs {
            let values = apply(instr, &registers, &types, end - start)?;
            registers.push(values);
        }
        bytes.extend(write(dtype, &registers[expr.output]));
    }
    Tensor::new(dtype, shape.clone(), bytes).ok()
}

/// One instruction over columns of `count` elements.
fn apply(
    instr: &Instr,
    registers: &[Vec<Number>],
    types: &[Scalar],
    count: usize,
) -> Option<Vec<Number>> {
    let is_float = |register: usize| types[register] == Scalar::F32;
    match *instr {
        Instr::Const(Scalar::F32, value) => Some(vec![Number::Float(value); count]),
        Instr::Const(_, value) => Some(vec![Number::Int(Number::Float(value).int()); count]),
        Instr::Unary(op, a) if is_float(a) => {
            let expr = alone(Instr::Unary(op, 0), 1)?;
            let values = registers[a].iter().map(|a| evaluated(&expr, &[*a]));
            Some(values.collect())
        }
        Instr::Unary(op, a) => {
            registers[a].iter().map(|a| unary_int(op, a.int()).map(Number::Int)).collect()
        }
        Instr::Binary(op, a, b) => {
            let pairs = registers[a].iter().zip(&registers[b]);
            if !is_float(a) {
                return pairs
                    .map(|(a, b)| binary_int(op, a.int(), b.int()).map(Number::Int))
                    .collect();
            }
            if let Some(arithmetic) = binary_float(op) {
                return Some(pairs.map(|(a, b)| arithmetic(*a, *b)).collect());
            }
            let expr = alone(Instr::Binary(op, 0, 1), 2)?;
            Some(pairs.map(|(a, b)| evaluated(&expr, &[*a, *b])).collect())
        }
        Instr::Select(cond, a, b) => {
            let choice = |(row, cond): (usize, &Number)| {
                if cond.is_true() { registers[a][row] } else { registers[b][row] }
            };
            Some(registers[cond].iter().enumerate().map(choice).collect())
        }
        Instr::Cast(Scalar::U32, a) if types[a] != Scalar::U32 => {
            Some(registers[a].iter().map(|a| Number::Int(a.is_true().into())).collect())
        }
        Instr::Cast(to, a) => {
            Some(registers[a].iter().map(|value| Number::of(to, *value)).collect())
        }
    }
}

/// An expression of one instruction on floats, for [`evaluated`].
fn alone(instr: Instr, inputs: usize) -> Option<Expr> {
    let mut expr = Expr::new(vec![Scalar::F32; inputs]);
    expr.push(instr);
    expr.types().ok().map(|_| expr)
}

/// The result by the reference of the kernels.
#[expect(clippy::cast_possible_truncation, reason = "as a device computes it")]
fn evaluated(expr: &Expr, arguments: &[Number]) -> Number {
    let value = |number: &Number| Value::F32(number.float() as f32);
    let result = match arguments {
        [a] => expr.eval(&[value(a)]),
        [a, b] => expr.eval(&[value(a), value(b)]),
        _ => unreachable!("instructions on floats have one operand or two"),
    };
    match result {
        Value::F32(value) => Number::Float(value.into()),
        Value::I32(value) => Number::Int(value.into()),
        Value::U32(value) => Number::Int(value.into()),
    }
}

/// What expanded weights need, without the detour over an expression.
#[expect(clippy::cast_possible_truncation, reason = "as a device computes it")]
fn binary_float(op: Binary) -> Option<fn(Number, Number) -> Number> {
    Some(match op {
        Binary::Add => |a, b| Number::Float((a.float() as f32 + b.float() as f32).into()),
        Binary::Sub => |a, b| Number::Float((a.float() as f32 - b.float() as f32).into()),
        Binary::Mul => |a, b| Number::Float((a.float() as f32 * b.float() as f32).into()),
        Binary::Div => |a, b| Number::Float((a.float() as f32 / b.float() as f32).into()),
        _ => return None,
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
        Binary::ShiftLeft => {
            u32::try_from(y).ok().and_then(|places| x.checked_shl(places)).unwrap_or(0)
        }
        // The sign fills up, whatever is shifted out.
        Binary::ShiftRight => x >> y.cast_unsigned().min(63),
    })
}
