// Gaussian error linear unit (Hendrycks & Gimpel 2016, arXiv 1606.08415). x, y: [n].
//   none:  y = x/2 · (1 + erf(x/√2))
//   tanh:  y = x/2 · (1 + tanh(√(2/π)(x + 0.044715 x³)))
// One thread computes one element.

override TANH: bool = false;

struct Params {
  n: u32,
}

@group(0) @binding(0) var<storage> x: array<f32>;
@group(0) @binding(1) var<storage> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
var<immediate> params: Params;

const SQRT_2_OVER_PI = 0.7978845608028654;
const INV_SQRT_2 = 0.7071067811865476;
const INV_SQRT_2PI = 0.3989422804014327;

// 1 − erf(|a|) by Chebyshev fitting (Numerical Recipes' erfcc): relative error below 1.2e-7.
fn erfc_positive(a: f32) -> f32 {
  let t = 1.0 / (1.0 + 0.5 * a);
  let p = -1.26551223 + t * (1.00002368 + t * (0.37409196 + t * (0.09678418 + t * (-0.18628806
    + t * (0.27886807 + t * (-1.13520398 + t * (1.48851587 + t * (-0.82215223 + t * 0.17087277))))))));
  return t * exp(max(-a * a + p, -80.0));
}

// Φ(v), the standard normal distribution function.
fn normal_cdf(v: f32) -> f32 {
  let upper = 0.5 * erfc_positive(abs(v) * INV_SQRT_2);
  return select(upper, 1.0 - upper, v > 0.0);
}

fn tanh_of(v: f32) -> f32 {
  return tanh(clamp(SQRT_2_OVER_PI * (v + 0.044715 * v * v * v), -15.0, 15.0));
}

@compute @workgroup_size(64)
fn gelu_forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.n) {
    return;
  }
  let v = x[i];
  if (TANH) {
    y[i] = 0.5 * v * (1.0 + tanh_of(v));
  } else {
    y[i] = v * normal_cdf(v);
  }
}

@compute @workgroup_size(64)
fn gelu_backward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.n) {
    return;
  }
  let v = x[i];
  if (TANH) {
    let t = tanh_of(v);
    let inner = SQRT_2_OVER_PI * (1.0 + 3.0 * 0.044715 * v * v);
    dx[i] = dy[i] * (0.5 * (1.0 + t) + 0.5 * v * (1.0 - t * t) * inner);
  } else {
    let density = INV_SQRT_2PI * exp(max(-0.5 * v * v, -80.0));
    dx[i] = dy[i] * (normal_cdf(v) + v * density);
  }
}
