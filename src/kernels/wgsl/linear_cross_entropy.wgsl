// Cross-entropy of the logits of a linear layer, a chunk of rows and a block of columns at a time.
// logits: [rows, columns], columns first … first + columns − 1 of V.
//   m = max l, s = Σ exp(l − m) of a run of a row      lse = M + log Σ s · exp(m − M), M = max m
//   loss = lse − l_target      0 where ignored
//   dl = (exp(l − lse) − [v = target]) / count      0 where ignored; written where the logits were
// CAP: l stands for c = cap · tanh(l / cap), and dl is multiplied by 1 − (c / cap)².
// Runs: one thread takes every S-th vector of a row's columns. Rows: one thread takes one row.
// F is one column, or four neighbours of them, as WIDTH says.

alias F = vec4<f32>;
alias U = vec4<u32>;
const WIDTH: u32 = 4u;
const LANES = vec4<u32>(0u, 1u, 2u, 3u);
override MEAN: bool = true;
override CAP: bool = false;

struct Params {
  rows: u32,
  columns: u32,
  first: u32,
  V: u32,
  // Runs of a row in this block; the vector of a row's parts where they begin, and how many a row has.
  S: u32,
  part: u32,
  parts: u32,
  // The chunk's first row in targets and losses.
  start: u32,
  ignore: i32,
  cap: f32,
}

@group(0) @binding(0) var<storage> logits: array<F>;
@group(0) @binding(1) var<storage> logits_f32: array<f32>;
@group(0) @binding(2) var<storage> targets: array<i32>;
@group(0) @binding(3) var<storage, read_write> maxima: array<F>;
@group(0) @binding(4) var<storage, read_write> sums: array<F>;
@group(0) @binding(5) var<storage, read_write> picked: array<f32>;
var<immediate> params: Params;

fn capped(l: F) -> F {
  if (CAP) {
    return params.cap * tanh(clamp(l / params.cap, F(-15.0), F(15.0)));
  }
  return l;
}

fn target_of(row: u32) -> u32 {
  return u32(clamp(targets[params.start + row], 0, i32(params.V) - 1));
}

@compute @workgroup_size(16)
fn linear_cross_entropy_runs(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 16u + id.x;
  let row = i / params.S;
  let run = i % params.S;
  if (row >= params.rows) {
    return;
  }
  let vectors = params.columns / WIDTH;
  let at = row * vectors;
  var m = F(-1e30);
  for (var k = run; k < vectors; k += params.S) {
    m = max(m, capped(logits[at + k]));
  }
  var s = F();
  for (var k = run; k < vectors; k += params.S) {
    s += exp(max(capped(logits[at + k]) - m, F(-80.0)));
  }
  let part = row * params.parts / WIDTH + params.part + run;
  maxima[part] = m;
  sums[part] = s;
  let column = target_of(row) - params.first; // wraps around below the block
  if (run == 0u && column < params.columns) {
    picked[row] = logits_f32[row * params.columns + column];
  }
}

@group(0) @binding(6) var<storage> maxima_in: array<f32>;
@group(0) @binding(7) var<storage> sums_in: array<f32>;
@group(0) @binding(8) var<storage> picked_in: array<f32>;
@group(0) @binding(9) var<storage, read_write> lse: array<f32>;
@group(0) @binding(10) var<storage, read_write> losses: array<f32>;

@compute @workgroup_size(16)
fn linear_cross_entropy_rows(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let row = id.y * groups.x * 16u + id.x;
  if (row >= params.rows) {
    return;
  }
  let at = row * params.parts;
  var m = -1e30;
  for (var k = 0u; k < params.part; k++) {
    m = max(m, maxima_in[at + k]);
  }
  var s = 0.0;
  for (var k = 0u; k < params.part; k++) {
    s += sums_in[at + k] * exp(max(maxima_in[at + k] - m, -80.0));
  }
  let all = m + log(s);
  lse[row] = all;
  var picked_logit = picked_in[row];
  if (CAP) {
    picked_logit = params.cap * tanh(clamp(picked_logit / params.cap, -15.0, 15.0));
  }
  let counted = targets[params.start + row] != params.ignore;
  losses[params.start + row] = select(0.0, all - picked_logit, counted);
}

@group(0) @binding(11) var<storage> lse_in: array<f32>;
@group(0) @binding(12) var<storage> count: array<f32>;
@group(0) @binding(13) var<storage, read_write> dlogits: array<F>;

@compute @workgroup_size(16)
fn linear_cross_entropy_gradient(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 16u + id.x;
  let row = i / params.S;
  if (row >= params.rows) {
    return;
  }
  var scale = 1.0;
  if (MEAN) {
    scale /= max(count[0], 1.0);
  }
  if (targets[params.start + row] == params.ignore) {
    scale = 0.0;
  }
  let all = lse_in[row];
  let wanted = target_of(row);
  let vectors = params.columns / WIDTH;
  for (var k = i % params.S; k < vectors; k += params.S) {
    let l = capped(dlogits[row * vectors + k]);
    let p = exp(clamp(l - all, F(-80.0), F()));
    let one = select(F(), F(1.0), U(params.first + k * WIDTH) + LANES == U(wanted));
    var dl = scale * (p - one);
    if (CAP) {
      dl *= 1.0 - (l / params.cap) * (l / params.cap);
    }
    dlogits[row * vectors + k] = dl;
  }
}

@group(0) @binding(14) var<storage, read_write> counts: array<f32>;

// 1 for each row that counts.
@compute @workgroup_size(64)
fn linear_cross_entropy_counts(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let row = id.y * groups.x * 64u + id.x;
  if (row < params.rows) {
    counts[row] = select(0.0, 1.0, targets[row] != params.ignore);
  }
}

override DEALT: u32 = 8;
override ROUNDS: u32 = 64;

@group(0) @binding(15) var<storage> dy: array<f32>;
@group(0) @binding(16) var<storage, read_write> scaled: array<vec4<f32>>;

// A gradient for a loss whose own gradient is dy; rows counts its elements.
@compute @workgroup_size(DEALT)
fn linear_cross_entropy_backward(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let first = (group.y * groups.x + group.x) * DEALT * ROUNDS + lane;
  for (var round = 0u; round < ROUNDS; round++) {
    let i = first + round * DEALT;
    if (4u * i >= params.rows) {
      return;
    }
    scaled[i] *= dy[0];
  }
}
