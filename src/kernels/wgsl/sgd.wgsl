// Stochastic gradient descent, one step in place, in PyTorch's order.
//   g = gradient · clip + decay · parameter       u = momentum · u + g
//   parameter −= lr · (u, with Nesterov g + momentum · u, without momentum g)
// All arrays are flat and padded to whole vec4s. A workgroup takes LANES · ROUNDS vec4s in a row.

override LANES: u32 = 8;
override ROUNDS: u32 = 64;

struct Params {
  n4: u32,
  lr: f32,
  decay: f32,
  momentum: f32,
  nesterov: u32,
}

@group(0) @binding(0) var<storage, read_write> parameter: array<vec4<f32>>;
@group(0) @binding(1) var<storage> gradient: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> velocity: array<vec4<f32>>;
@group(0) @binding(3) var<storage> clip: array<f32>; // [1]
var<immediate> params: Params;

@compute @workgroup_size(LANES)
fn sgd_step(
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
    let g = gradient[i] * factor + params.decay * parameter[i];
    parameter[i] -= params.lr * g;
  }
}

@compute @workgroup_size(LANES)
fn sgd_momentum(
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
    let g = gradient[i] * factor + params.decay * parameter[i];
    let u = params.momentum * velocity[i] + g;
    velocity[i] = u;
    parameter[i] -= params.lr * select(u, g + params.momentum * u, params.nesterov != 0u);
  }
}
