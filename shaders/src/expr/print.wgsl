// Functions of one float that WGSL has not, or not with the ends that ONNX gives them.

fn log_f32(x: f32) -> f32 {
    let zero_or_less = select(0x7fc00000u, 0xff800000u, x == 0.0);
    return select(log(x), from_bits(zero_or_less), x <= 0.0);
}

fn asin_f32(x: f32) -> f32 {
    return select(asin(x), from_bits(0x7fc00000u), abs(x) > 1.0);
}

fn acos_f32(x: f32) -> f32 {
    return select(acos(x), from_bits(0x7fc00000u), abs(x) > 1.0);
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
