// Root-mean-square norm (Zhang & Sennrich 2019, arXiv 1910.07467). x, y: [rows, D], weight: [D].
//   r = 1/√(mean(x²) + eps)      y = x · r · weight
//   dx = r · (g − x · r² · mean(g·x)), g = dy·weight      dweight = Σ_rows dy · x · r
// rms_norm_add takes the norm of h = x + residual, and gives h too. With x = h in what stands above, both
// summands have the gradient dh + dx.
// LANES neighbours share a row, one V after another. V is one element, or four neighbours of a row.

alias V = f32;
const WIDTH: u32 = 1; // elements of a V
const LANES: u32 = 1;
const ROWS: u32 = 16; // rows of a workgroup
const TEAM: u32 = 64; // threads side by side along the columns, in sums over rows
const COLUMNS: u32 = 1; // columns of a thread there, TEAM apart

struct Params {
  rows: u32,
  n: u32, // D, counted in V
  eps: f32,
  block: u32, // rows of a sum over rows
}

@group(0) @binding(0) var<storage> x: array<V>;
@group(0) @binding(1) var<storage> residual: array<V>;
@group(0) @binding(2) var<storage> weight: array<V>;
@group(0) @binding(3) var<storage> dy: array<V>;
@group(0) @binding(4) var<storage> dh: array<V>;
@group(0) @binding(5) var<storage> r_in: array<f32>; // [rows]
@group(0) @binding(6) var<storage, read_write> y: array<V>;
@group(0) @binding(7) var<storage, read_write> h: array<V>;
@group(0) @binding(8) var<storage, read_write> r: array<f32>; // [rows]
@group(0) @binding(9) var<storage, read_write> dx: array<V>;
@group(0) @binding(10) var<storage, read_write> dweight: array<V>; // [blocks, D]
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

fn sum_of(v: V) -> f32 {
  let q = vec4<f32>(v);
  return ((q.x + q.y) + (q.z + q.w)) * (f32(WIDTH) / 4.0);
}

// The sum over the lanes of a row, in a fixed order.
fn sum_of_row(own: f32, i: u32) -> f32 {
  if (LANES == 1u) {
    return own;
  }
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

// r of a row from the own part of its squares.
fn scale_of(squares: V, row: u32, t: Thread) -> f32 {
  let mean = sum_of_row(sum_of(squares), t.index) / f32(params.n * WIDTH);
  let scale = inverseSqrt(mean + params.eps);
  if (t.index % LANES == 0u && row < params.rows) {
    r[row] = scale;
  }
  return scale;
}

@compute @workgroup_size(LANES * ROWS)
fn rms_norm_forward(t: Thread) {
  let row = row_of(t);
  let start = row * params.n;
  let n = select(0u, params.n, row < params.rows);
  var squares = V();
  for (var j = t.index % LANES; j < n; j += LANES) {
    squares += x[start + j] * x[start + j];
  }
  let scale = scale_of(squares, row, t);
  for (var j = t.index % LANES; j < n; j += LANES) {
    y[start + j] = x[start + j] * scale * weight[j];
  }
}

@compute @workgroup_size(LANES * ROWS)
fn rms_norm_add_forward(t: Thread) {
  let row = row_of(t);
  let start = row * params.n;
  let n = select(0u, params.n, row < params.rows);
  var squares = V();
  for (var j = t.index % LANES; j < n; j += LANES) {
    let v = x[start + j] + residual[start + j];
    h[start + j] = v;
    squares += v * v;
  }
  let scale = scale_of(squares, row, t);
  for (var j = t.index % LANES; j < n; j += LANES) {
    y[start + j] = h[start + j] * scale * weight[j];
  }
}

// mean(g·x) of a row.
fn mean_of(start: u32, n: u32, t: Thread) -> f32 {
  var dots = V();
  for (var j = t.index % LANES; j < n; j += LANES) {
    dots += dy[start + j] * weight[j] * x[start + j];
  }
  return sum_of_row(sum_of(dots), t.index) / f32(params.n * WIDTH);
}

@compute @workgroup_size(LANES * ROWS)
fn rms_norm_backward(t: Thread) {
  let row = row_of(t);
  let start = row * params.n;
  let n = select(0u, params.n, row < params.rows);
  let scale = r_in[min(row, params.rows - 1u)];
  let share = scale * scale * mean_of(start, n, t);
  for (var j = t.index % LANES; j < n; j += LANES) {
    dx[start + j] = scale * (dy[start + j] * weight[j] - x[start + j] * share);
  }
}

@compute @workgroup_size(LANES * ROWS)
fn rms_norm_add_backward(t: Thread) {
  let row = row_of(t);
  let start = row * params.n;
  let n = select(0u, params.n, row < params.rows);
  let scale = r_in[min(row, params.rows - 1u)];
  let share = scale * scale * mean_of(start, n, t);
  for (var j = t.index % LANES; j < n; j += LANES) {
    dx[start + j] = dh[start + j] + scale * (dy[start + j] * weight[j] - x[start + j] * share);
  }
}

// The part of dweight of one block of rows, in a workgroup for TEAM · COLUMNS columns; the parts are
// summed afterwards.
@compute @workgroup_size(TEAM)
fn rms_norm_backward_weight(t: Thread) {
  let first = t.group.x * TEAM * COLUMNS + t.index;
  let start = t.group.y * params.block;
  var sums: array<V, COLUMNS>;
  for (var row = start; row < min(start + params.block, params.rows); row++) {
    let scale = r_in[row];
    for (var c = 0u; c < COLUMNS; c++) {
      let at = row * params.n + min(first + c * TEAM, params.n - 1u);
      sums[c] += dy[at] * x[at] * scale;
    }
  }
  for (var c = 0u; c < COLUMNS; c++) {
    if (first + c * TEAM < params.n) {
      dweight[t.group.y * params.n + first + c * TEAM] = sums[c];
    }
  }
}
