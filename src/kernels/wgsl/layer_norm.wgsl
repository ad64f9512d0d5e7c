// Layer norm (Ba, Kiros & Hinton 2016, arXiv 1607.06450). x, y: [rows, D], weight, bias: [D].
//   mu = mean(x)      r = 1/√(mean((x − mu)²) + eps)      h = (x − mu)·r      y = h·weight + bias
//   dx = r·(g − mean(g) − h·mean(g·h)), g = dy·weight      dweight = Σ_rows dy·h      dbias = Σ_rows dy
// Statistics: one thread folds one row. The rest: one thread computes one element.

struct Params {
  n: u32,
  D: u32,
  eps: f32,
}

@group(0) @binding(0) var<storage> x: array<f32>;
@group(0) @binding(1) var<storage> weight: array<f32>;
@group(0) @binding(2) var<storage> bias: array<f32>;
@group(0) @binding(3) var<storage> dy: array<f32>;
// Two numbers for each row: mu, r in forward; mean(g), mean(g·h) in backward.
@group(0) @binding(4) var<storage> stats: array<vec2<f32>>;
@group(0) @binding(5) var<storage> means: array<vec2<f32>>;
@group(0) @binding(6) var<storage, read_write> folded: array<vec2<f32>>;
@group(0) @binding(7) var<storage, read_write> y: array<f32>;
@group(0) @binding(8) var<storage, read_write> dx: array<f32>;
@group(0) @binding(9) var<storage, read_write> dweight: array<f32>;
var<immediate> params: Params;

@compute @workgroup_size(16)
fn layer_norm_stats(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let row = id.y * groups.x * 16u + id.x;
  if (row >= params.n) {
    return;
  }
  let start = row * params.D;
  var sum = 0.0;
  for (var j = 0u; j < params.D; j++) {
    sum += x[start + j];
  }
  let mu = sum / f32(params.D);
  var squares = 0.0;
  for (var j = 0u; j < params.D; j++) {
    let v = x[start + j] - mu;
    squares += v * v;
  }
  folded[row] = vec2<f32>(mu, inverseSqrt(squares / f32(params.D) + params.eps));
}

@compute @workgroup_size(64)
fn layer_norm_forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.n) {
    return;
  }
  let s = stats[i / params.D];
  y[i] = (x[i] - s.x) * s.y * weight[i % params.D] + bias[i % params.D];
}

@compute @workgroup_size(16)
fn layer_norm_means(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let row = id.y * groups.x * 16u + id.x;
  if (row >= params.n) {
    return;
  }
  let s = stats[row];
  let start = row * params.D;
  var sums = vec2<f32>();
  for (var j = 0u; j < params.D; j++) {
    let g = dy[start + j] * weight[j];
    sums += vec2<f32>(g, g * (x[start + j] - s.x) * s.y);
  }
  folded[row] = sums / f32(params.D);
}

@compute @workgroup_size(64)
fn layer_norm_backward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.n) {
    return;
  }
  let row = i / params.D;
  let s = stats[row];
  let m = means[row];
  let h = (x[i] - s.x) * s.y;
  dx[i] = s.y * (dy[i] * weight[i % params.D] - m.x - h * m.y);
}

// One row's part of dweight; the rows are summed afterwards.
@compute @workgroup_size(64)
fn layer_norm_backward_weight(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.n) {
    return;
  }
  let s = stats[i / params.D];
  dweight[i] = dy[i] * (x[i] - s.x) * s.y;
}
