// Elementwise functions of one argument and their derivatives, chosen by OP at pipeline build. x, y: [n].
// exp, log1p, expm1, tanh, sin, cos and erf are computed here rather than by the device, whose own may
// lose many bits (WGSL grants sin an absolute error of 2^-11, and log one of 2^-21 near 1).
// An item is four neighbours; memory is padded to whole ones.

override LANES: u32 = 64;
override ROUNDS: u32 = 1;
override OP: u32 = 0;
const NEG = 0u;
const ABS = 1u;
const EXP = 2u;
const LOG = 3u;
const SQRT = 4u;
const RSQRT = 5u;
const SQUARE = 6u;
const RECIPROCAL = 7u;
const SIN = 8u;
const COS = 9u;
const TANH = 10u;
const SIGMOID = 11u;
const RELU = 12u;
const SIGN = 13u;
const FLOOR = 14u;
const CEIL = 15u;
const ROUND = 16u;
const LOG1P = 17u;
const EXPM1 = 18u;
const ERF = 19u;
const SOFTPLUS = 20u;
const CLAMP = 21u;

struct Params {
  n: u32, // items
  low: f32,
  high: f32,
}

@group(0) @binding(0) var<storage> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage> dy: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> dx: array<vec4<f32>>;
var<immediate> params: Params;

struct Thread {
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
}

// A workgroup takes LANES · ROUNDS items in a row; a thread the items first, first + LANES, …
fn first_of(t: Thread) -> u32 {
  return (t.group.y * t.groups.x + t.group.x) * LANES * ROUNDS + t.lane;
}

// 2^k for k in -126 … 127.
fn power_of_two(k: i32) -> f32 {
  return bitcast<f32>(u32(k + 127) << 23u);
}

// v = k ln 2 + r, |r| ≤ ln 2 / 2, then a polynomial in r. Saturates at the largest finite number.
fn exp_of(v: f32) -> f32 {
  let c = clamp(v, -104.0, 88.72283);
  // The nearest integer is in the last bits of a sum with 1.5 · 2^23.
  let n = bitcast<i32>(fma(c, 1.44269504, 12582912.0)) - 0x4b400000;
  let k = f32(n);
  // k ln 2 in two parts, the first exact. Drivers may add the parts up before they subtract, which costs
  // 30 units at 80, so the difference goes through a bit that is 0, which only the host knows.
  let first = bitcast<f32>(bitcast<u32>(fma(k, -0.693145752, c)) | (params.n >> 31u));
  let r = fma(k, -1.42860677e-6, first);
  let p = 1.0 + r * (1.0 + r * (0.5 + r * (0.16666667 + r * (0.041666668 + r * (0.0083333338
    + r * (0.0013888889 + r * 0.00019841270))))));
  let half = n >> 1u;
  return p * power_of_two(half) * power_of_two(n - half);
}

fn expm1_of(v: f32) -> f32 {
  if (abs(v) < 0.35) {
    return v * (1.0 + v * (0.5 + v * (0.16666667 + v * (0.041666668 + v * (0.0083333338
      + v * (0.0013888889 + v * (0.00019841270 + v * 0.0000248015873)))))));
  }
  return exp_of(v) - 1.0;
}

// Near zero by 2 artanh(v / (2 + v)).
fn log1p_of(v: f32) -> f32 {
  if (abs(v) < 0.5) {
    let s = v / (2.0 + v);
    let t = s * s;
    return 2.0 * s * (1.0 + t * (0.33333333 + t * (0.2 + t * (0.14285714 + t * (0.11111111
      + t * (0.090909091 + t * (0.076923077 + t * 0.066666667)))))));
  }
  return log_of(1.0 + v);
}

fn log_of(v: f32) -> f32 {
  if (v > 0.70710678 && v < 1.41421356) {
    let w = v - 1.0; // exact
    let s = w / (2.0 + w);
    let t = s * s;
    return 2.0 * s * (1.0 + t * (0.33333333 + t * (0.2 + t * (0.14285714 + t * (0.11111111
      + t * 0.090909091)))));
  }
  return log(v);
}

fn tanh_of(v: f32) -> f32 {
  let e = expm1_of(-2.0 * min(abs(v), 15.0));
  return sign(v) * -e / (2.0 + e);
}

fn sigmoid_of(v: f32) -> f32 {
  let e = exp_of(-abs(v));
  return select(1.0, e, v < 0.0) / (1.0 + e);
}

// v = k π/2 + r in three parts of π/2 (Cody and Waite), then a polynomial of the quadrant. `turn` is 1
// for cos. Good to |v| ≈ 10^4.
fn sin_of(v: f32, turn: i32) -> f32 {
  let k = round(v * 0.636619772);
  let r = fma(k, -7.54978995e-8, fma(k, -4.83751297e-4, fma(k, -1.5703125, v)));
  let q = (i32(k) + turn) & 3;
  let t = r * r;
  let s = r + r * t * (-0.16666667 + t * (0.0083333310 + t * (-0.00019840874 + t * 0.0000027525562)));
  let c = 1.0 - 0.5 * t + t * t * (0.041666646 + t * (-0.0013888377 + t * 0.0000247984));
  let value = select(s, c, (q & 1) == 1);
  return select(value, -value, q >= 2);
}

// Taylor near zero; elsewhere 1 − erfc by Chebyshev fitting (Numerical Recipes' erfcc).
fn erf_of(v: f32) -> f32 {
  let a = abs(v);
  if (a < 0.6) {
    let t = v * v;
    return v * 1.12837917 * (1.0 + t * (-0.33333333 + t * (0.1 + t * (-0.023809524 + t * (0.0046296296
      + t * (-0.00075757576 + t * 0.00010683761))))));
  }
  let t = 1.0 / (1.0 + 0.5 * a);
  let p = -1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806
    + t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))))))));
  return sign(v) * (1.0 - t * exp_of(-a * a + p));
}

fn f(v: f32) -> f32 {
  switch OP {
    case NEG: { return -v; }
    case ABS: { return abs(v); }
    case EXP: { return exp_of(v); }
    case LOG: { return log_of(v); }
    case SQRT: { return sqrt(v); }
    case RSQRT: { return inverseSqrt(v); }
    case SQUARE: { return v * v; }
    case RECIPROCAL: { return 1.0 / v; }
    case SIN: { return sin_of(v, 0); }
    case COS: { return sin_of(v, 1); }
    case TANH: { return tanh_of(v); }
    case SIGMOID: { return sigmoid_of(v); }
    case RELU: { return max(v, 0.0); }
    case SIGN: { return sign(v); }
    case FLOOR: { return floor(v); }
    case CEIL: { return ceil(v); }
    case ROUND: { return round(v); }
    case LOG1P: { return log1p_of(v); }
    case EXPM1: { return expm1_of(v); }
    case ERF: { return erf_of(v); }
    case SOFTPLUS: { return max(v, 0.0) + log1p_of(exp_of(-abs(v))); }
    default: { return clamp(v, params.low, params.high); }
  }
}

// The derivative of f.
fn df(v: f32) -> f32 {
  switch OP {
    case NEG: { return -1.0; }
    case ABS: { return sign(v); }
    case EXP, EXPM1: { return exp_of(v); }
    case LOG: { return 1.0 / v; }
    case SQRT: { return 0.5 / sqrt(v); }
    case RSQRT: { return -0.5 * inverseSqrt(v) / v; }
    case SQUARE: { return 2.0 * v; }
    case RECIPROCAL: { return -1.0 / (v * v); }
    case SIN: { return sin_of(v, 1); }
    case COS: { return -sin_of(v, 0); }
    case TANH: {
      let e = exp_of(-2.0 * abs(v));
      return 4.0 * e / ((1.0 + e) * (1.0 + e));
    }
    case SIGMOID: {
      let e = exp_of(-abs(v));
      return e / ((1.0 + e) * (1.0 + e));
    }
    case RELU: { return select(0.0, 1.0, v > 0.0); }
    case LOG1P: { return 1.0 / (1.0 + v); }
    case ERF: { return 1.12837917 * exp_of(-v * v); }
    case SOFTPLUS: { return sigmoid_of(v); }
    case CLAMP: { return select(0.0, 1.0, v >= params.low && v <= params.high); }
    default: { return 0.0; }
  }
}

@compute @workgroup_size(LANES)
fn unary_forward(t: Thread) {
  let first = first_of(t);
  for (var i = first; i < min(first + LANES * ROUNDS, params.n); i += LANES) {
    let v = x[i];
    y[i] = vec4(f(v.x), f(v.y), f(v.z), f(v.w));
  }
}

@compute @workgroup_size(LANES)
fn unary_backward(t: Thread) {
  let first = first_of(t);
  for (var i = first; i < min(first + LANES * ROUNDS, params.n); i += LANES) {
    let v = x[i];
    dx[i] = dy[i] * vec4(df(v.x), df(v.y), df(v.z), df(v.w));
  }
}
