// AdamW, one step in place (Loshchilov & Hutter 2019, arXiv 1711.05101), in PyTorch's order.
//   g = gradient · clip          m += (1 − β1)(g − m)          v = β2·v + (1 − β2)·g²
//   parameter = parameter·(1 − lr·decay) − lr/c1 · m / (√v/√c2 + eps)      c = 1 − β^step
// All arrays are flat and padded to whole vec4s. A workgroup takes LANES · ROUNDS vec4s in a row.

override LANES: u32 = 8;
override ROUNDS: u32 = 64;

struct Params {
  n4: u32,
  beta2: f32,
  rest1: f32, // 1 − β1; computed on the host, where it loses no digits
  rest2: f32, // 1 − β2
  keep: f32, // 1 − lr·decay
  rate: f32, // lr/c1
  root: f32, // √c2
  eps: f32,
}

@group(0) @binding(0) var<storage, read_write> parameter: array<vec4<f32>>;
@group(0) @binding(1) var<storage> gradient: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> m: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> v: array<vec4<f32>>;
@group(0) @binding(4) var<storage> clip: array<f32>; // [1]
var<immediate> params: Params;

@compute @workgroup_size(LANES)
fn adamw_step(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let first = (group.y * groups.x + group.x) * LANES * ROUNDS + lane;
  let factor = clip[0];
  for (var round = 0u; round < ROUNDS; round++) {
    let i = first + round * LANES;
    if (i >= params.n4) {
      return;
    }
    let g = gradient[i] * factor;
    let mean = m[i] + params.rest1 * (g - m[i]);
    let square = params.beta2 * v[i] + params.rest2 * g * g;
    m[i] = mean;
    v[i] = square;
    parameter[i] = parameter[i] * params.keep
      - params.rate * mean / (sqrt(square) / params.root + params.eps);
  }
}
