// What a device can do at best: multiply-adds in registers, and bytes copied.
// x, y: arrays of vec4, large enough for the grid.

struct Params {
  rounds: u32,
}

@group(0) @binding(0) var<storage> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;
var<immediate> params: Params;

// One thread: three independent chains of vec4 multiply-adds, what fits the registers of a processor too;
// 16 links of each chain a round. The factor comes from memory, so nothing folds.
@compute @workgroup_size(64)
fn roofline_multiply_add(@builtin(global_invocation_id) id: vec3<u32>) {
  let f = x[id.x % 64u].x;
  var a = vec4(f, f + 1.0, f + 2.0, f + 3.0);
  var b = a + 1.5;
  var c = a + 2.5;
  for (var i = 0u; i < params.rounds; i++) {
    a = a * f + f; b = b * f + f; c = c * f + f;
    a = a * f + f; b = b * f + f; c = c * f + f;
    a = a * f + f; b = b * f + f; c = c * f + f;
    a = a * f + f; b = b * f + f; c = c * f + f;
    a = a * f + f; b = b * f + f; c = c * f + f;
    a = a * f + f; b = b * f + f; c = c * f + f;
    a = a * f + f; b = b * f + f; c = c * f + f;
    a = a * f + f; b = b * f + f; c = c * f + f;
    a = a * f + f; b = b * f + f; c = c * f + f;
    a = a * f + f; b = b * f + f; c = c * f + f;
    a = a * f + f; b = b * f + f; c = c * f + f;
    a = a * f + f; b = b * f + f; c = c * f + f;
    a = a * f + f; b = b * f + f; c = c * f + f;
    a = a * f + f; b = b * f + f; c = c * f + f;
    a = a * f + f; b = b * f + f; c = c * f + f;
    a = a * f + f; b = b * f + f; c = c * f + f;
  }
  y[id.x] = a + b + c;
}

// One thread copies eight vec4, neighbours beside neighbours.
@compute @workgroup_size(64)
fn roofline_copy(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let at = group.x * 512u + lane;
  for (var i = 0u; i < 8u; i++) {
    y[at + 64u * i] = x[at + 64u * i];
  }
}

// Eight threads copy 512 vec4 in 64 rounds: what a software device likes.
@compute @workgroup_size(8)
fn roofline_copy_rounds(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let at = group.x * 512u + lane;
  for (var i = 0u; i < 64u; i++) {
    y[at + 8u * i] = x[at + 8u * i];
  }
}
