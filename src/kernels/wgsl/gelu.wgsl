// Gaussian error linear unit (Hendrycks & Gimpel 2016, arXiv 1606.08415). x, y: [n].
//   none:  y = x/2 · (1 + erf(x/√2))
//   tanh:  y = x/2 · (1 + tanh(√(2/π)(x + 0.044715 x³)))
// An item is four neighbours; memory is padded to whole ones.

override TANH: bool = false;
override LANES: u32 = 64;
override ROUNDS: u32 = 1;

struct Params {
  n: u32, // items
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

const SQRT_2_OVER_PI = 0.7978845608028654;
const INV_SQRT_2 = 0.7071067811865476;
const INV_SQRT_2PI = 0.3989422804014327;

// 1 − erf(|a|) by Chebyshev fitting (Numerical Recipes' erfcc): relative error below 1.2e-7.
fn erfc_positive(a: vec4<f32>) -> vec4<f32> {
  let t = 1.0 / (1.0 + 0.5 * a);
  let p = -1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806
    + t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))))))));
  return t * exp(max(-a * a + p, vec4<f32>(-80.0)));
}

// Φ(v), the standard normal distribution function.
fn normal_cdf(v: vec4<f32>) -> vec4<f32> {
  let upper = 0.5 * erfc_positive(abs(v) * INV_SQRT_2);
  return select(upper, 1.0 - upper, v > vec4<f32>());
}

fn tanh_of(v: vec4<f32>) -> vec4<f32> {
  let a = SQRT_2_OVER_PI * (v + 0.044715 * v * v * v);
  return tanh(clamp(a, vec4<f32>(-15.0), vec4<f32>(15.0)));
}

@compute @workgroup_size(LANES)
fn gelu_forward(t: Thread) {
  let first = first_of(t);
  for (var i = first; i < min(first + LANES * ROUNDS, params.n); i += LANES) {
    let v = x[i];
    if (TANH) {
      y[i] = 0.5 * v * (1.0 + tanh_of(v));
    } else {
      y[i] = v * normal_cdf(v);
    }
  }
}

@compute @workgroup_size(LANES)
fn gelu_backward(t: Thread) {
  let first = first_of(t);
  for (var i = first; i < min(first + LANES * ROUNDS, params.n); i += LANES) {
    let v = x[i];
    if (TANH) {
      let h = tanh_of(v);
      let inner = SQRT_2_OVER_PI * (1.0 + 3.0 * 0.044715 * v * v);
      dx[i] = dy[i] * (0.5 * (1.0 + h) + 0.5 * v * (1.0 - h * h) * inner);
    } else {
      let density = INV_SQRT_2PI * exp(max(-0.5 * v * v, vec4<f32>(-80.0)));
      dx[i] = dy[i] * (normal_cdf(v) + v * density);
    }
  }
}
