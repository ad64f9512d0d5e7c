// total += x, element by element. total, x: [n]. One thread adds one element.

struct Params {
  n: u32,
}

@group(0) @binding(0) var<storage, read_write> total: array<f32>;
@group(0) @binding(1) var<storage> x: array<f32>;
var<immediate> params: Params;

@compute @workgroup_size(64)
fn accumulate(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i < params.n) {
    total[i] += x[i];
  }
}
