// SiLU (Elfwing et al. 2017, arXiv 1702.03118): y = x·σ(x). x, y: [n].
//   dx = dy · (σ + x·σ·(1 − σ))
// One thread computes one element.

struct Params {
  n: u32,
}

@group(0) @binding(0) var<storage> x: array<f32>;
@group(0) @binding(1) var<storage> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
var<immediate> params: Params;

fn sigmoid(v: f32) -> f32 {
  return 1.0 / (1.0 + exp(clamp(-v, -80.0, 80.0)));
}

@compute @workgroup_size(64)
fn silu_forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.n) {
    return;
  }
  y[i] = x[i] * sigmoid(x[i]);
}

@compute @workgroup_size(64)
fn silu_backward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.n) {
    return;
  }
  let s = sigmoid(x[i]);
  dx[i] = dy[i] * (s + x[i] * s * (1.0 - s));
}
