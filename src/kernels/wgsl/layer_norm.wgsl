// Layer norm (Ba, Kiros & Hinton 2016, arXiv 1607.06450). x, y: [rows, D], weight, bias: [D].
//   mu = mean(x)      r = 1/√(mean((x − mu)²) + eps)      z = (x − mu)·r      y = z·weight + bias
//   dx = r·(g − mean(g) − z·mean(g·z)), g = dy·weight      dweight = Σ_rows dy·z      dbias = Σ_rows dy
// layer_norm_add takes the norm of h = x + residual, and gives h too. With x = h in what stands above,
// both summands have the gradient dh + dx.
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
@group(0) @binding(3) var<storage> bias: array<V>;
@group(0) @binding(4) var<storage> dy: array<V>;
@group(0) @binding(5) var<storage> dh: array<V>;
@group(0) @binding(6) var<storage> stats_in: array<vec2<f32>>; // mu and r, [rows]
@group(0) @binding(7) var<storage, read_write> y: array<V>;
@group(0) @binding(8) var<storage, read_write> h: array<V>;
@group(0) @binding(9) var<storage, read_write> stats: array<vec2<f32>>; // [rows]
@group(0) @binding(10) var<storage, read_write> dx: array<V>;
@group(0) @binding(11) var<storage, read_write> dweight: array<V>; // [blocks, D]
@group(0) @binding(12) var<storage, read_write> dbias: array<V>; // [blocks, D]
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

// The mean over a row of what its lanes have summed, in a fixed order.
fn mean_of_row(sums: V, i: u32) -> f32 {
  let D = f32(params.n * WIDTH);
  if (LANES == 1u) {
    return sum_of(sums) / D;
  }
  workgroupBarrier(); // the result of the last call has been read
  parts[i] = sum_of(sums);
  for (var step = LANES / 2u; step > 0u; step /= 2u) {
    workgroupBarrier();
    if (i % LANES < step) {
      parts[i] += parts[i + step];
    }
  }
  workgroupBarrier();
  return parts[i - i % LANES] / D;
}

// r of a row from the own part of the squares.
fn scale_of(squares: V, mu: f32, row: u32, t: Thread) -> f32 {
  let scale = inverseSqrt(mean_of_row(squares, t.index) + params.eps);
  if (t.index % LANES == 0u && row < params.rows) {
    stats[row] = vec2<f32>(mu, scale);
  }
  return scale;
}

@compute @workgroup_size(LANES * ROWS)
fn layer_norm_forward(t: Thread) {
  let row = row_of(t);
  let start = row * params.n;
  let n = select(0u, params.n, row < params.rows);
  var sums = V();
  for (var j = t.index % LANES; j < n; j += LANES) {
    sums += x[start + j];
  }
  let mu = mean_of_row(sums, t.index);
  var squares = V();
  for (var j = t.index % LANES; j < n; j += LANES) {
    let v = x[start + j] - V(mu);
    squares += v * v;
  }
  let scale = scale_of(squares, mu, row, t);
  for (var j = t.index % LANES; j < n; j += LANES) {
    y[start + j] = (x[start + j] - V(mu)) * scale * weight[j] + bias[j];
  }
}

@compute @workgroup_size(LANES * ROWS)
fn layer_norm_add_forward(t: Thread) {
  let row = row_of(t);
  let start = row * params.n;
  let n = select(0u, params.n, row < params.rows);
  var sums = V();
  for (var j = t.index % LANES; j < n; j += LANES) {
    let v = x[start + j] + residual[start + j];
    h[start + j] = v;
    sums += v;
  }
  let mu = mean_of_row(sums, t.index);
  var squares = V();
  for (var j = t.index % LANES; j < n; j += LANES) {
    let v = h[start + j] - V(mu);
    squares += v * v;
  }
  let scale = scale_of(squares, mu, row, t);
  for (var j = t.index % LANES; j < n; j += LANES) {
    y[start + j] = (h[start + j] - V(mu)) * scale * weight[j] + bias[j];
  }
}

// mean(g) and mean(g·z) of a row.
fn means_of(row: u32, start: u32, n: u32, t: Thread) -> vec2<f32> {
  let s = stats_in[min(row, params.rows - 1u)];
  var sums = V();
  var dots = V();
  for (var j = t.index % LANES; j < n; j += LANES) {
    let g = dy[start + j] * weight[j];
    sums += g;
    dots += g * (x[start + j] - V(s.x)) * s.y;
  }
  let mean = mean_of_row(sums, t.index);
  return vec2<f32>(mean, mean_of_row(dots, t.index));
}

@compute @workgroup_size(LANES * ROWS)
fn layer_norm_backward(t: Thread) {
  let row = row_of(t);
  let start = row * params.n;
  let n = select(0u, params.n, row < params.rows);
  let m = means_of(row, start, n, t);
  let s = stats_in[min(row, params.rows - 1u)];
  for (var j = t.index % LANES; j < n; j += LANES) {
    let z = (x[start + j] - V(s.x)) * s.y;
    dx[start + j] = s.y * (dy[start + j] * weight[j] - V(m.x) - z * m.y);
  }
}

@compute @workgroup_size(LANES * ROWS)
fn layer_norm_add_backward(t: Thread) {
  let row = row_of(t);
  let start = row * params.n;
  let n = select(0u, params.n, row < params.rows);
  let m = means_of(row, start, n, t);
  let s = stats_in[min(row, params.rows - 1u)];
  for (var j = t.index % LANES; j < n; j += LANES) {
    let z = (x[start + j] - V(s.x)) * s.y;
    dx[start + j] = dh[start + j] + s.y * (dy[start + j] * weight[j] - V(m.x) - z * m.y);
  }
}

// The parts of dweight and dbias of one block of rows, in a workgroup for TEAM · COLUMNS columns; the
// parts are summed afterwards.
@compute @workgroup_size(TEAM)
fn layer_norm_backward_weight(t: Thread) {
  let first = t.group.x * TEAM * COLUMNS + t.index;
  let start = t.group.y * params.block;
  var sums: array<V, COLUMNS>;
  var dots: array<V, COLUMNS>;
  for (var row = start; row < min(start + params.block, params.rows); row++) {
    let s = stats_in[row];
    for (var c = 0u; c < COLUMNS; c++) {
      let at = row * params.n + min(first + c * TEAM, params.n - 1u);
      let g = dy[at];
      sums[c] += g;
      dots[c] += g * (x[at] - V(s.x)) * s.y;
    }
  }
  for (var c = 0u; c < COLUMNS; c++) {
    if (first + c * TEAM < params.n) {
      dbias[t.group.y * params.n + first + c * TEAM] = sums[c];
      dweight[t.group.y * params.n + first + c * TEAM] = dots[c];
    }
  }
}
