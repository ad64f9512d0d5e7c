// Rotary position embedding (Su et al. 2021, arXiv 2104.09864) as Hugging Face stores it: element i
// of the first half turns with element i of the second. x, y: [B, T, H, d], cos, sin: [P, d/2].
//   y_i = x_i·cos − x_(i+d/2)·sin      y_(i+d/2) = x_(i+d/2)·cos + x_i·sin      at position offset + t
// Backward is the rotation the other way: sign = −1. One thread turns one pair.

struct Params {
  n: u32,
  T: u32,
  H: u32,
  half: u32,
  offset: u32,
  sign: f32,
}

@group(0) @binding(0) var<storage> x: array<f32>;
@group(0) @binding(1) var<storage> cosines: array<f32>;
@group(0) @binding(2) var<storage> sines: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
var<immediate> params: Params;

fn rotate(i: u32) {
  if (i >= params.n) {
    return;
  }
  let j = i % params.half;
  let head = i / params.half;
  let position = params.offset + (head / params.H) % params.T;
  let c = cosines[position * params.half + j];
  let s = params.sign * sines[position * params.half + j];
  let at = head * 2u * params.half + j;
  let a = x[at];
  let b = x[at + params.half];
  y[at] = a * c - b * s;
  y[at + params.half] = b * c + a * s;
}

@compute @workgroup_size(64)
fn rope_forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  rotate(id.y * groups.x * 64u + id.x);
}

@compute @workgroup_size(64)
fn rope_backward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  rotate(id.y * groups.x * 64u + id.x);
}
