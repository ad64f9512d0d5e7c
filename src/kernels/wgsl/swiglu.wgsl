// SwiGLU (Shazeer 2020, arXiv 2002.05202): y = silu(gate) · up, silu(g) = g·σ(g). All: [n],
// memory padded to whole vec4s.
//   dup = dy · silu(gate)      dgate = dy · up · (σ + g·σ·(1 − σ))
// An item is four neighbours.

override LANES: u32 = 64;
override ROUNDS: u32 = 1;

struct Params {
  n: u32, // items
}

@group(0) @binding(0) var<storage> gate: array<vec4<f32>>;
@group(0) @binding(1) var<storage> up: array<vec4<f32>>;
@group(0) @binding(2) var<storage> dy: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> dgate: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> dup: array<vec4<f32>>;
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
fn swiglu_forward(t: Thread) {
  let first = first_of(t);
  for (var i = first; i < min(first + LANES * ROUNDS, params.n); i += LANES) {
    y[i] = gate[i] * sigmoid(gate[i]) * up[i];
  }
}

@compute @workgroup_size(LANES)
fn swiglu_backward(t: Thread) {
  let first = first_of(t);
  for (var i = first; i < min(first + LANES * ROUNDS, params.n); i += LANES) {
    let g = gate[i];
    let s = sigmoid(g);
    dgate[i] = dy[i] * up[i] * (s + g * s * (1.0 - s));
    dup[i] = dy[i] * g * s;
  }
}

@group(0) @binding(6) var<storage, read_write> gate_then_dgate: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> up_then_dup: array<vec4<f32>>;

// The gradients in the places of gate and up.
@compute @workgroup_size(LANES)
fn swiglu_backward_in_place(t: Thread) {
  let first = first_of(t);
  for (var i = first; i < min(first + LANES * ROUNDS, params.n); i += LANES) {
    let g = gate_then_dgate[i];
    let s = sigmoid(g);
    gate_then_dgate[i] = dy[i] * up_then_dup[i] * (s + g * s * (1.0 - s));
    up_then_dup[i] = dy[i] * g * s;
  }
}
