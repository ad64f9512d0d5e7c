// Softmax and its logarithm along one axis. x, y: [outer, n, inner]; a row is [o, :, i].
//   y = exp(x − max) / Σ exp(x − max)      dx = y · (dy − Σ dy·y)
//   LOG: y = x − max − log Σ exp(x − max)      dx = dy − exp(y) · Σ dy
// One thread computes one row.

override LOG: bool = false;

struct Params {
  rows: u32,
  n: u32,
  inner: u32,
}

@group(0) @binding(0) var<storage> x: array<f32>;
@group(0) @binding(1) var<storage> dy: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
var<immediate> params: Params;

fn start_of(row: u32) -> u32 {
  return (row / params.inner) * params.n * params.inner + row % params.inner;
}

@compute @workgroup_size(16)
fn softmax_forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let row = id.y * groups.x * 16u + id.x;
  if (row >= params.rows) {
    return;
  }
  let start = start_of(row);
  var largest = x[start];
  for (var j = 1u; j < params.n; j++) {
    largest = max(largest, x[start + j * params.inner]);
  }
  var sum = 0.0;
  for (var j = 0u; j < params.n; j++) {
    sum += exp(max(x[start + j * params.inner] - largest, -80.0));
  }
  let log_sum = log(sum);
  for (var j = 0u; j < params.n; j++) {
    let at = start + j * params.inner;
    let v = x[at] - largest;
    if (LOG) {
      y[at] = v - log_sum;
    } else {
      y[at] = select(exp(max(v, -80.0)) / sum, 0.0, v < -80.0);
    }
  }
}

// x holds y, the result of forward.
@compute @workgroup_size(16)
fn softmax_backward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let row = id.y * groups.x * 16u + id.x;
  if (row >= params.rows) {
    return;
  }
  let start = start_of(row);
  var sum = 0.0;
  for (var j = 0u; j < params.n; j++) {
    let at = start + j * params.inner;
    sum += select(dy[at] * x[at], dy[at], LOG);
  }
  for (var j = 0u; j < params.n; j++) {
    let at = start + j * params.inner;
    if (LOG) {
      dx[at] = dy[at] - exp(max(x[at], -80.0)) * sum;
    } else {
      dx[at] = x[at] * (dy[at] - sum);
    }
  }
}
