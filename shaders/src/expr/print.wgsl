// Functions of one float that WGSL has not, or not with the ends that ONNX gives them.

fn log_f32(x: f32) -> f32 {
    let zero_or_less = select(0x7fc00000u, 0xff800000u, x == 0.0);
    return select(log(x), from_bits(zero_or_less), x <= 0.0);
}

// Drivers may be off by 2^-11 in these; the polynomials are those of Cephes' single precision.

// The arc sine for 0 <= x <= 0.5.
fn asin_near(x: f32) -> f32 {
    let z = x * x;
    let tail = 4.5470025998e-2 + z * (2.4181311049e-2 + z * 4.2163199048e-2);
    return x + x * z * (1.6666752422e-1 + z * (7.4953002686e-2 + z * tail));
}

fn acos_f32(x: f32) -> f32 {
    let far = 2.0 * asin_near(sqrt(0.5 * max(1.0 - abs(x), 0.0)));
    let outer = select(far, 3.141592653589793 - far, x < 0.0);
    let inner = 1.5707963267948966 - sign(x) * asin_near(abs(x));
    let value = select(inner, outer, abs(x) > 0.5);
    return select(value, from_bits(0x7fc00000u), abs(x) > 1.0 || is_nan(x));
}

fn asin_f32(x: f32) -> f32 {
    let far = 1.5707963267948966 - 2.0 * asin_near(sqrt(0.5 * max(1.0 - abs(x), 0.0)));
    let value = sign(x) * select(asin_near(abs(x)), far, abs(x) > 0.5);
    return select(value, from_bits(0x7fc00000u), abs(x) > 1.0 || is_nan(x));
}

// Sine and cosine: a multiple of a quarter turn is taken off in three parts.
fn sin_cos(x: f32) -> vec2<f32> {
    let turns = round(x * 0.6366197723675814);
    let r = ((x - turns * 1.5703125) - turns * 4.837512969970703e-4) - turns * 7.549789954892e-8;
    let z = r * r;
    let sine = r + r * z * (-1.6666654611e-1 + z * (8.3321608736e-3 - z * 1.9515295891e-4));
    let tail = 4.166664568298827e-2 + z * (-1.388731625493765e-3 + z * 2.443315711809948e-5);
    let cosine = 1.0 - 0.5 * z + z * z * tail;
    let quarter = i32(clamp(turns, -1e9, 1e9)) & 3;
    let turned = select(vec2(sine, cosine), vec2(cosine, -sine), (quarter & 1) == 1);
    return select(turned, -turned, quarter >= 2);
}

fn sin_f32(x: f32) -> f32 {
    return sin_cos(x).x;
}

fn cos_f32(x: f32) -> f32 {
    return sin_cos(x).y;
}

fn tan_f32(x: f32) -> f32 {
    let both = sin_cos(x);
    return both.x / both.y;
}

// Near zero the difference of two exponentials would cancel; far out half of each is added so
// that neither overflows before the result does.
fn sinh_f32(x: f32) -> f32 {
    let square = x * x;
    let near = x + x * square * (1.0 / 6.0 + square * (1.0 / 120.0 + square / 5040.0));
    let half = exp(abs(x) - 0.6931471805599453);
    let far = sign(x) * (half - 0.25 / half);
    return select(far, near, abs(x) < 0.75);
}

fn cosh_f32(x: f32) -> f32 {
    let half = exp(abs(x) - 0.6931471805599453);
    return half + 0.25 / half;
}

// Beyond ±10 the result is ±1 to the last bit, and exponentials would overflow.
fn tanh_f32(x: f32) -> f32 {
    let square = x * x;
    let near = x * (1.0 - square * (1.0 / 3.0 - square * (2.0 / 15.0 - square * (17.0 / 315.0))));
    let twice = exp(2.0 * clamp(abs(x), 0.0, 10.0));
    let far = sign(x) * (1.0 - 2.0 / (twice + 1.0));
    return select(select(far, near, abs(x) < 0.25), x, is_nan(x));
}

fn asinh_f32(x: f32) -> f32 {
    let size = abs(x);
    let square = x * x;
    let near = x * (1.0 - square * (1.0 / 6.0 - square * (3.0 / 40.0 - square * (15.0 / 336.0))));
    // The square of a large number overflows where its logarithm does not.
    let far = log(size) + 0.6931471805599453;
    let middle = log(size + sqrt(square + 1.0));
    return select(sign(x) * select(middle, far, size > 1e9), near, size < 0.25);
}

fn acosh_f32(x: f32) -> f32 {
    let far = log(x) + 0.6931471805599453;
    let middle = log(x + sqrt(max(x * x - 1.0, 0.0)));
    return select(select(middle, far, x > 1e9), from_bits(0x7fc00000u), x < 1.0);
}

fn atanh_f32(x: f32) -> f32 {
    let square = x * x;
    let near = x * (1.0 + square * (1.0 / 3.0 + square * (1.0 / 5.0 + square * (1.0 / 7.0))));
    let far = 0.5 * log_f32((1.0 + x) / max(1.0 - x, 0.0));
    let ends = from_bits(select(0x7f800000u, 0xff800000u, x < 0.0));
    let inside = select(far, near, abs(x) < 0.25);
    return select(select(inside, ends, abs(x) == 1.0), from_bits(0x7fc00000u), abs(x) > 1.0);
}

// Two minimax polynomials by Norbert Juffa, below one unit in the last place each where `exp` is.
fn erf_f32(x: f32) -> f32 {
    let t = min(abs(x), 4.0);
    let s = t * t;
    var far = -1.72853470e-5f * t + 3.83197126e-4f;
    far = far * s + (-3.88396438e-3f * t + 2.42546219e-2f);
    far = far * t - 1.06777877e-1f;
    far = far * t - 6.34846687e-1f;
    far = far * t - 1.28717512e-1f;
    far = 1.0 - exp(far * t - t);
    var near = -5.96761703e-4f * s + 4.99119423e-3f;
    near = near * s - 2.67681349e-2f;
    near = near * s + 1.12819925e-1f;
    near = near * s - 3.76125336e-1f;
    near = near * s + 1.28379166e-1f;
    let value = select(near * t + t, far, t > 0.927734375f);
    return select(select(value, -value, x < 0.0), x, is_nan(x));
}

// Past ±88 the exponential would leave the range of f32.
fn sigmoid_f32(x: f32) -> f32 {
    return select(1.0 / (1.0 + exp(-clamp(x, -88.0, 88.0))), x, is_nan(x));
}

fn softplus_f32(x: f32) -> f32 {
    return max(x, 0.0) + log(1.0 + exp(-min(abs(x), 88.0)));
}
