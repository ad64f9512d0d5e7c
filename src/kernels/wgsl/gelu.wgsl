// Gaussian error linear unit (Hendrycks & Gimpel 2016, arXiv 1606.08415). x, y: [n].
//   none:  y = x/2 · (1 + erf(x/√2))
//   tanh:  y = x/2 · (1 + tanh(√(2/π)(x + 0.044715 x³)))
// gelu_bias: y = gelu(x + bias) with x: [rows, D], bias: [D], and dbias = Σ_rows dx.
// An item is a V, four neighbours; memory is padded to whole ones. With a bias of another width it is one.

alias V = vec4<f32>;
override TANH: bool = false;
override LANES: u32 = 64;
override ROUNDS: u32 = 1;
const TEAM: u32 = 64; // threads side by side along the columns, in sums over rows
const COLUMNS: u32 = 1; // columns of a thread there, TEAM apart

struct Params {
  n: u32, // items
  D: u32, // width of the bias, counted in V
  block: u32, // rows of a sum over rows
}

@group(0) @binding(0) var<storage> x: array<V>;
@group(0) @binding(1) var<storage> dy: array<V>;
@group(0) @binding(2) var<storage, read_write> y: array<V>;
@group(0) @binding(3) var<storage, read_write> dx: array<V>;
@group(0) @binding(4) var<storage> bias: array<V>;
@group(0) @binding(5) var<storage, read_write> dbias: array<V>; // [blocks, D]
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

const SQRT_2_OVER_PI = 0.7978845608028654;
const INV_SQRT_2 = 0.7071067811865476;
const INV_SQRT_2PI = 0.3989422804014327;

// 1 − erf(|a|) by Chebyshev fitting (Numerical Recipes' erfcc): relative error below 1.2e-7.
fn erfc_positive(a: V) -> V {
  let t = 1.0 / (1.0 + 0.5 * a);
  let p = -1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806
    + t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))))))));
  return t * exp(max(-a * a + p, V(-80.0)));
}

// Φ(v), the standard normal distribution function.
fn normal_cdf(v: V) -> V {
  let upper = 0.5 * erfc_positive(abs(v) * INV_SQRT_2);
  return select(upper, 1.0 - upper, v > V());
}

fn tanh_of(v: V) -> V {
  let a = SQRT_2_OVER_PI * (v + 0.044715 * v * v * v);
  return tanh(clamp(a, V(-15.0), V(15.0)));
}

fn gelu(v: V) -> V {
  if (TANH) {
    return 0.5 * v * (1.0 + tanh_of(v));
  }
  return v * normal_cdf(v);
}

// The derivative of gelu.
fn dgelu(v: V) -> V {
  if (TANH) {
    let h = tanh_of(v);
    let inner = SQRT_2_OVER_PI * (1.0 + 3.0 * 0.044715 * v * v);
    return 0.5 * (1.0 + h) + 0.5 * v * (1.0 - h * h) * inner;
  }
  let density = INV_SQRT_2PI * exp(max(-0.5 * v * v, V(-80.0)));
  return normal_cdf(v) + v * density;
}

@compute @workgroup_size(LANES)
fn gelu_forward(t: Thread) {
  let first = first_of(t);
  for (var i = first; i < min(first + LANES * ROUNDS, params.n); i += LANES) {
    y[i] = gelu(x[i]);
  }
}

@compute @workgroup_size(LANES)
fn gelu_backward(t: Thread) {
  let first = first_of(t);
  for (var i = first; i < min(first + LANES * ROUNDS, params.n); i += LANES) {
    dx[i] = dy[i] * dgelu(x[i]);
  }
}

// With a bias a workgroup takes TEAM · COLUMNS columns of a block of rows, so that each thread keeps its part
// of the bias.
struct Columns {
  first: u32,
  start: u32, // where the block begins and ends
  end: u32,
}

fn columns_of(t: Thread) -> Columns {
  let start = t.group.y * params.block * params.D;
  let end = min(start + params.block * params.D, params.n);
  return Columns(t.group.x * TEAM * COLUMNS + t.lane, start, end);
}

fn biases_of(first: u32) -> array<V, COLUMNS> {
  var own: array<V, COLUMNS>;
  for (var c = 0u; c < COLUMNS; c++) {
    own[c] = bias[min(first + c * TEAM, params.D - 1u)];
  }
  return own;
}

@compute @workgroup_size(TEAM)
fn gelu_bias_forward(t: Thread) {
  let own = columns_of(t);
  let shifts = biases_of(own.first);
  for (var row = own.start; row < own.end; row += params.D) {
    for (var c = 0u; c < COLUMNS; c++) {
      let column = own.first + c * TEAM;
      if (column < params.D) {
        y[row + column] = gelu(x[row + column] + shifts[c]);
      }
    }
  }
}

// dx of the block, and its part of dbias; the parts are summed afterwards.
@compute @workgroup_size(TEAM)
fn gelu_bias_backward(t: Thread) {
  let own = columns_of(t);
  let shifts = biases_of(own.first);
  var sums: array<V, COLUMNS>;
  for (var row = own.start; row < own.end; row += params.D) {
    for (var c = 0u; c < COLUMNS; c++) {
      let column = own.first + c * TEAM;
      if (column < params.D) {
        let d = dy[row + column] * dgelu(x[row + column] + shifts[c]);
        dx[row + column] = d;
        sums[c] += d;
      }
    }
  }
  for (var c = 0u; c < COLUMNS; c++) {
    let column = own.first + c * TEAM;
    if (column < params.D) {
      dbias[t.group.y * params.D + column] = sums[c];
    }
  }
}
