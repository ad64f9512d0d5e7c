// total += x, element by element, in place. total, x: [n], memory padded to whole vec4s.
// A workgroup takes LANES · ROUNDS vec4s in a row.

override LANES: u32 = 8;
override ROUNDS: u32 = 64;

struct Params {
  n: u32,
}

@group(0) @binding(0) var<storage, read_write> total: array<vec4<f32>>;
@group(0) @binding(1) var<storage> x: array<vec4<f32>>;
var<immediate> params: Params;

@compute @workgroup_size(LANES)
fn accumulate(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let first = (group.y * groups.x + group.x) * LANES * ROUNDS + lane;
  for (var round = 0u; round < ROUNDS; round++) {
    let i = first + round * LANES;
    if (4u * i >= params.n) {
      return;
    }
    // What lies behind the last element is not ours: it stays as it is.
    let inside = 4u * i + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(params.n);
    total[i] += select(vec4<f32>(), x[i], inside);
  }
}
