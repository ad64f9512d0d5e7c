// Softmax and its logarithm along one axis. x, y: [outer, n, inner]; a row is [o, :, i].
//   y = exp(x − max) / Σ exp(x − max)      dx = y · (dy − Σ dy·y)
//   LOG: y = x − max − log Σ exp(x − max)      dx = dy − exp(y) · Σ dy
// LANES neighbours share a row, one V after another. V is one element, or four neighbours of a row.

alias V = f32;
const WIDTH: u32 = 1; // elements of a V
const LANES: u32 = 1;
const ROWS: u32 = 16; // rows of a workgroup
override LOG: bool = false;

struct Params {
  rows: u32,
  n: u32, // counted in V
  inner: u32,
}

@group(0) @binding(0) var<storage> x: array<V>;
@group(0) @binding(1) var<storage> dy: array<V>;
@group(0) @binding(2) var<storage, read_write> y: array<V>;
@group(0) @binding(3) var<storage, read_write> dx: array<V>;
var<immediate> params: Params;

var<workgroup> parts: array<f32, LANES * ROWS>;

struct Thread {
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) index: u32,
}

fn row_of(t: Thread) -> u32 {
  return (t.group.y * t.groups.x + t.group.x) * ROWS + t.index / LANES;
}

// The sum over a V, and the largest of it.
fn sum_of(v: V) -> f32 {
  let q = vec4<f32>(v);
  return ((q.x + q.y) + (q.z + q.w)) * (f32(WIDTH) / 4.0);
}

fn max_of(v: V) -> f32 {
  let q = vec4<f32>(v);
  return max(max(q.x, q.y), max(q.z, q.w));
}

// The sum over the lanes of a row, in a fixed order.
fn sum_of_row(own: f32, i: u32) -> f32 {
  if (LANES == 1u) {
    return own;
  }
  workgroupBarrier(); // the result of the last call has been read
  parts[i] = own;
  for (var step = LANES / 2u; step > 0u; step /= 2u) {
    workgroupBarrier();
    if (i % LANES < step) {
      parts[i] += parts[i + step];
    }
  }
  workgroupBarrier();
  return parts[i - i % LANES];
}

fn max_of_row(own: f32, i: u32) -> f32 {
  if (LANES == 1u) {
    return own;
  }
  workgroupBarrier(); // the result of the last call has been read
  parts[i] = own;
  for (var step = LANES / 2u; step > 0u; step /= 2u) {
    workgroupBarrier();
    if (i % LANES < step) {
      parts[i] = max(parts[i], parts[i + step]);
    }
  }
  workgroupBarrier();
  return parts[i - i % LANES];
}

fn exp_of(v: V) -> V {
  return exp(max(v, V(-80.0)));
}

@compute @workgroup_size(LANES * ROWS)
fn softmax_forward(t: Thread) {
  let row = row_of(t);
  let start = row / params.inner * params.n * params.inner + row % params.inner;
  let n = select(0u, params.n, row < params.rows);
  var largest = V(-3.4028234e38);
  for (var j = t.index % LANES; j < n; j += LANES) {
    largest = max(largest, x[start + j * params.inner]);
  }
  let top = max_of_row(max_of(largest), t.index);
  var sums = V();
  for (var j = t.index % LANES; j < n; j += LANES) {
    sums += exp_of(x[start + j * params.inner] - V(top));
  }
  let sum = sum_of_row(sum_of(sums), t.index);
  let log_sum = log(sum);
  for (var j = t.index % LANES; j < n; j += LANES) {
    let at = start + j * params.inner;
    let v = x[at] - V(top);
    if (LOG) {
      y[at] = v - V(log_sum);
    } else {
      y[at] = select(exp_of(v) / V(sum), V(), v < V(-80.0));
    }
  }
}

// x holds y, the result of forward.
@compute @workgroup_size(LANES * ROWS)
fn softmax_backward(t: Thread) {
  let row = row_of(t);
  let start = row / params.inner * params.n * params.inner + row % params.inner;
  let n = select(0u, params.n, row < params.rows);
  var sums = V();
  for (var j = t.index % LANES; j < n; j += LANES) {
    let at = start + j * params.inner;
    if (LOG) {
      sums += dy[at];
    } else {
      sums += dy[at] * x[at];
    }
  }
  let sum = sum_of_row(sum_of(sums), t.index);
  for (var j = t.index % LANES; j < n; j += LANES) {
    let at = start + j * params.inner;
    if (LOG) {
      dx[at] = dy[at] - exp_of(x[at]) * sum;
    } else {
      dx[at] = x[at] * (dy[at] - V(sum));
    }
  }
}
