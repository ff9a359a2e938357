// What printed expressions call. WGSL lets a compiler assume that no float is NaN or infinite:
// tests of bits are exempt from that.

fn from_bits(bits: u32) -> f32 {
    return bitcast<f32>(bits);
}

fn is_nan(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) > 0x7f800000u;
}

fn is_inf(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7fffffffu) == 0x7f800000u;
}

fn is_true(x: f32) -> bool {
    return bitcast<u32>(x) << 1u != 0u;
}

// NaN wins, as in ONNX Runtime.
fn min_f32(a: f32, b: f32) -> f32 {
    return select(min(a, b), a + b, is_nan(a) || is_nan(b));
}

fn max_f32(a: f32, b: f32) -> f32 {
    return select(max(a, b), a + b, is_nan(a) || is_nan(b));
}

// Truncates and saturates; NaN gives zero.
fn to_i32(x: f32) -> i32 {
    let inside = i32(clamp(x, -2147483648.0, 2147483520.0));
    let above = select(inside, 2147483647i, x >= 2147483648.0);
    return select(above, 0i, is_nan(x));
}

// A negative base takes the sign of the power where the exponent is whole, else it is NaN.
fn pow_f32(a: f32, b: f32) -> f32 {
    let size = pow(abs(a), b);
    let whole = b == floor(b);
    let odd = whole && abs(b - 2.0 * floor(b * 0.5)) == 1.0;
    let signed = select(size, -size, odd);
    let negative = select(from_bits(0x7fc00000u), signed, whole);
    let zero = select(0.0, from_bits(0x7f800000u), b < 0.0);
    let value = select(select(size, negative, a < 0.0), zero, a == 0.0);
    return select(value, 1.0, b == 0.0);
}

fn pow_u32(a: u32, b: u32) -> u32 {
    var result = 1u;
    var base = a;
    var left = b;
    while (left != 0u) {
        result *= select(1u, base, (left & 1u) == 1u);
        base *= base;
        left >>= 1u;
    }
    return result;
}

fn pow_i32(a: i32, b: i32) -> i32 {
    let power = bitcast<i32>(pow_u32(bitcast<u32>(a), u32(max(b, 0))));
    let alternating = select(1i, a, (b & 1i) == 1i);
    let below = select(0i, alternating, abs(a) == 1i);
    return select(power, below, b < 0i);
}

// What divides by zero is left as it is, as WGSL says; not every language that it becomes does.
fn div_i32(a: i32, b: i32) -> i32 {
    let keeps = b == 0i || (b == -1i && bitcast<u32>(a) == 0x80000000u);
    return a / select(b, 1i, keeps);
}

fn div_u32(a: u32, b: u32) -> u32 {
    return a / max(b, 1u);
}

fn rem_u32(a: u32, b: u32) -> u32 {
    return a % max(b, 1u);
}

// The sign is that of `a`: not every language that WGSL becomes says so of its own operator.
fn rem_i32(a: i32, b: i32) -> i32 {
    let rest = bitcast<i32>(bitcast<u32>(abs(a)) % max(bitcast<u32>(abs(b)), 1u));
    return select(rest, -rest, a < 0i);
}

fn mod_i32(a: i32, b: i32) -> i32 {
    let rest = rem_i32(a, b);
    return select(rest, rest + b, rest != 0i && (rest < 0i) != (b < 0i));
}

// What divides by infinity is all rest.
fn rem_f32(a: f32, b: f32) -> f32 {
    return select(a % b, a, is_inf(b) && !is_inf(a) && !is_nan(a));
}

fn mod_f32(a: f32, b: f32) -> f32 {
    let rest = rem_f32(a, b);
    return select(rest, rest + b, rest != 0.0 && (rest < 0.0) != (b < 0.0));
}

// The nearest value of a narrower type, ties to even: `drop` bits of the mantissa go, numbers
// below that of bits `least` are counted in `steps` of one, what exceeds `largest` is `beyond`.
fn narrow_float(
    x: f32,
    drop: u32,
    least: u32,
    steps: f32,
    largest: u32,
    beyond: u32,
    nan: u32,
    zero_sign: u32,
) -> f32 {
    let bits = bitcast<u32>(x);
    let size = bits & 0x7fffffffu;
    let up = (1u << (drop - 1u)) - 1u + ((size >> drop) & 1u);
    let rounded = ((size + up) >> drop) << drop;
    let normal = select(rounded, beyond, rounded > largest);
    let tiny = bitcast<u32>(round(min(abs(x), 16777216.0) * steps) / steps);
    let value = select(normal, tiny, size < least);
    let sign = select(0x80000000u, zero_sign, value == 0u) & bits;
    return from_bits(select(value | sign, nan, size > 0x7f800000u));
}

// A power of two: the exponent after `up` was added to the mantissa.
fn narrow_power(x: f32, up: u32, beyond: u32) -> f32 {
    let size = bitcast<u32>(x) & 0x7fffffffu;
    let exponent = (size + up) >> 23u;
    let power = select(exponent << 23u, 0x400000u, exponent == 0u);
    let value = select(power, beyond, exponent >= 255u || size == 0x7f800000u);
    return from_bits(select(value, 0x7fc00000u, size > 0x7f800000u));
}

fn bits_f32(x: f32) -> i32 {
    return bitcast<i32>(x);
}

fn bits_i32(x: i32) -> f32 {
    return bitcast<f32>(x);
}
