// SwiGLU (Shazeer 2020, arXiv 2002.05202): y = silu(gate) · up, silu(g) = g·σ(g). All: [n].
//   dup = dy · silu(gate)      dgate = dy · up · (σ + g·σ·(1 − σ))
// One thread computes one element.

struct Params {
  n: u32,
}

@group(0) @binding(0) var<storage> gate: array<f32>;
@group(0) @binding(1) var<storage> up: array<f32>;
@group(0) @binding(2) var<storage> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> dgate: array<f32>;
@group(0) @binding(5) var<storage, read_write> dup: array<f32>;
var<immediate> params: Params;

fn sigmoid(v: f32) -> f32 {
  return 1.0 / (1.0 + exp(clamp(-v, -80.0, 80.0)));
}

@compute @workgroup_size(64)
fn swiglu_forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.n) {
    return;
  }
  y[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

@compute @workgroup_size(64)
fn swiglu_backward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.n) {
    return;
  }
  let g = gate[i];
  let s = sigmoid(g);
  dgate[i] = dy[i] * up[i] * (s + g * s * (1.0 - s));
  dup[i] = dy[i] * g * s;
}
