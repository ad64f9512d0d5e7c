// Root-mean-square norm (Zhang & Sennrich 2019, arXiv 1910.07467). x, y: [rows, D], weight: [D].
//   r = 1/√(mean(x²) + eps)      y = x · r · weight
//   dx = r · (dy·weight − x · r²/D · Σ_j dy_j·weight_j·x_j)      dweight = Σ_rows dy · x · r
// Statistics: one thread folds one row. The rest: one thread computes one element.

struct Params {
  n: u32,
  D: u32,
  eps: f32,
}

@group(0) @binding(0) var<storage> x: array<f32>;
@group(0) @binding(1) var<storage> weight: array<f32>;
@group(0) @binding(2) var<storage> dy: array<f32>;
@group(0) @binding(3) var<storage> r: array<f32>;
@group(0) @binding(4) var<storage> dot: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<storage, read_write> dx: array<f32>;
@group(0) @binding(7) var<storage, read_write> dweight: array<f32>;
var<immediate> params: Params;

// y = r, one for each row. n: rows
@compute @workgroup_size(16)
fn rms_norm_scale(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let row = id.y * groups.x * 16u + id.x;
  if (row >= params.n) {
    return;
  }
  var sum = 0.0;
  let start = row * params.D;
  for (var j = 0u; j < params.D; j++) {
    let v = x[start + j];
    sum += v * v;
  }
  y[row] = inverseSqrt(sum / f32(params.D) + params.eps);
}

@compute @workgroup_size(64)
fn rms_norm_forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.n) {
    return;
  }
  y[i] = x[i] * r[i / params.D] * weight[i % params.D];
}

// y = Σ_j dy_j·weight_j·x_j, one for each row. n: rows
@compute @workgroup_size(16)
fn rms_norm_dot(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let row = id.y * groups.x * 16u + id.x;
  if (row >= params.n) {
    return;
  }
  var sum = 0.0;
  let start = row * params.D;
  for (var j = 0u; j < params.D; j++) {
    sum += dy[start + j] * weight[j] * x[start + j];
  }
  y[row] = sum;
}

@compute @workgroup_size(64)
fn rms_norm_backward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.n) {
    return;
  }
  let row = i / params.D;
  let s = r[row];
  dx[i] = s * (dy[i] * weight[i % params.D] - x[i] * s * s * dot[row] / f32(params.D));
}

// One row's part of dweight; the rows are summed afterwards.
@compute @workgroup_size(64)
fn rms_norm_backward_weight(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.n) {
    return;
  }
  dweight[i] = dy[i] * x[i] * r[i / params.D];
}
