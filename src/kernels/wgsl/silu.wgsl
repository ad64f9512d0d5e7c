// SiLU (Elfwing et al. 2017, arXiv 1702.03118): y = x·σ(x). x, y: [n], memory padded to whole vec4s.
//   dx = dy · (σ + x·σ·(1 − σ))
// An item is four neighbours.

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

fn sigmoid(v: vec4<f32>) -> vec4<f32> {
  return 1.0 / (1.0 + exp(clamp(-v, vec4<f32>(-80.0), vec4<f32>(80.0))));
}

@compute @workgroup_size(LANES)
fn silu_forward(t: Thread) {
  let first = first_of(t);
  for (var i = first; i < min(first + LANES * ROUNDS, params.n); i += LANES) {
    y[i] = x[i] * sigmoid(x[i]);
  }
}

@compute @workgroup_size(LANES)
fn silu_backward(t: Thread) {
  let first = first_of(t);
  for (var i = first; i < min(first + LANES * ROUNDS, params.n); i += LANES) {
    let s = sigmoid(x[i]);
    dx[i] = dy[i] * (s + x[i] * s * (1.0 - s));
  }
}
