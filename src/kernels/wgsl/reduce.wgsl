// Reductions over one axis. x: [outer, R, inner] → y: [outer, S, inner].
//   y[o, s, i] = scale · fold of x[o, s + kS, i] for k = 0, 1, …
// The host folds again until S = 1: loops stay short, neighbours read neighbours, and the order of
// every sum is fixed. V is one element, or four neighbours of them along inner.
// One thread computes one element of y.

alias T = f32;
alias V = f32;
override OP: u32 = 0; // 0 sum, 1 max, 2 min

struct Params {
  n: u32,
  R: u32,
  S: u32,
  inner: u32,
  scale: f32,
}

@group(0) @binding(0) var<storage> x: array<V>;
@group(0) @binding(1) var<storage, read_write> y: array<V>;
var<immediate> params: Params;

// The first element of x that a thread reads, and how far apart the others lie.
fn first_of(t: u32) -> u32 {
  let p = params;
  let per = p.S * p.inner;
  return t / per * p.R * p.inner + t % per;
}

@compute @workgroup_size(64)
fn reduce_forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let t = id.y * groups.x * 64u + id.x;
  if (t >= params.n) {
    return;
  }
  var at = first_of(t);
  let step = params.S * params.inner;
  var s = t / params.inner % params.S;
  var total = V(T(0));
  if (OP != 0u) {
    total = x[at];
  }
  for (; s < params.R; s += params.S) {
    if (OP == 0u) {
      total += x[at];
    } else if (OP == 1u) {
      total = max(total, x[at]);
    } else {
      total = min(total, x[at]);
    }
    at += step;
  }
  y[t] = total * V(T(params.scale));
}

// What follows has elements of f32 alone. m: [outer, inner], one value per result.

@group(0) @binding(2) var<storage> m: array<f32>;
@group(0) @binding(3) var<storage> xf: array<f32>;
@group(0) @binding(4) var<storage, read_write> part: array<f32>;
@group(0) @binding(5) var<storage, read_write> at_part: array<i32>;

fn result_of(t: u32) -> u32 {
  return t / (params.S * params.inner) * params.inner + t % params.inner;
}

// Sum of (x − m)², for the variance.
@compute @workgroup_size(64)
fn reduce_squares(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let t = id.y * groups.x * 64u + id.x;
  if (t >= params.n) {
    return;
  }
  var at = first_of(t);
  let mean = m[result_of(t)];
  var total = 0.0;
  for (var s = t / params.inner % params.S; s < params.R; s += params.S) {
    let d = xf[at] - mean;
    total += d * d;
    at += params.S * params.inner;
  }
  part[t] = total * params.scale;
}

// How many x equal m, for the gradient of max and min.
@compute @workgroup_size(64)
fn reduce_ties(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let t = id.y * groups.x * 64u + id.x;
  if (t >= params.n) {
    return;
  }
  var at = first_of(t);
  let most = m[result_of(t)];
  var count = 0.0;
  for (var s = t / params.inner % params.S; s < params.R; s += params.S) {
    count += select(0.0, 1.0, xf[at] == most);
    at += params.S * params.inner;
  }
  part[t] = count;
}

// The first position where x equals m, for argmax.
@compute @workgroup_size(64)
fn reduce_first(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let t = id.y * groups.x * 64u + id.x;
  if (t >= params.n) {
    return;
  }
  var at = first_of(t);
  let most = m[result_of(t)];
  var found = params.R - 1u;
  for (var s = t / params.inner % params.S; s < params.R; s += params.S) {
    if (xf[at] == most) {
      found = min(found, s);
    }
    at += params.S * params.inner;
  }
  at_part[t] = i32(found);
}

@group(0) @binding(6) var<storage> dy: array<f32>;
@group(0) @binding(7) var<storage> count: array<f32>;
@group(0) @binding(8) var<storage, read_write> dx: array<f32>;

// dx = dy / ties where x is the extreme. One thread per element of x; S = R.
@compute @workgroup_size(64)
fn reduce_backward_extreme(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let t = id.y * groups.x * 64u + id.x;
  if (t < params.n) {
    let r = result_of(t);
    dx[t] = select(0.0, dy[r] / count[r], xf[t] == m[r]);
  }
}

// dx = dy · (x − mean) · scale, scale = 2 / (R − correction). One thread per element of x; S = R.
@compute @workgroup_size(64)
fn reduce_backward_var(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let t = id.y * groups.x * 64u + id.x;
  if (t < params.n) {
    let r = result_of(t);
    dx[t] = dy[r] * (xf[t] - m[r]) * params.scale;
  }
}
