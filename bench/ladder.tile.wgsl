// The second rung of the ladder of matrix products (docs/ladder.md); the library does not use it.
//   y[m, n] = Σ_k a[m, k] · b[n, k]      a: [M, K], b: [N, K], y: [M, N]; M and N multiples of 4
// One thread computes 4 × 4 elements of y in registers, reading one number at a time: 8 loads for 16
// multiply-adds, where the naive kernel needs 2 loads for each.

struct Params {
  M: u32,
  N: u32,
  K: u32,
}

@group(0) @binding(0) var<storage> a: array<f32>;
@group(0) @binding(1) var<storage> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
var<immediate> params: Params;

@compute @workgroup_size(8, 8)
fn ladder_tile(@builtin(global_invocation_id) id: vec3<u32>) {
  let m = id.y * 4u;
  let n = id.x * 4u;
  if (m >= params.M || n >= params.N) {
    return;
  }
  var c0 = vec4<f32>();
  var c1 = vec4<f32>();
  var c2 = vec4<f32>();
  var c3 = vec4<f32>();
  let rows = (m + vec4(0u, 1u, 2u, 3u)) * params.K;
  let columns = (n + vec4(0u, 1u, 2u, 3u)) * params.K;
  for (var k = 0u; k < params.K; k++) {
    let w = vec4(b[columns.x + k], b[columns.y + k], b[columns.z + k], b[columns.w + k]);
    c0 += a[rows.x + k] * w;
    c1 += a[rows.y + k] * w;
    c2 += a[rows.z + k] * w;
    c3 += a[rows.w + k] * w;
  }
  for (var j = 0u; j < 4u; j++) {
    y[m * params.N + n + j] = c0[j];
    y[(m + 1u) * params.N + n + j] = c1[j];
    y[(m + 2u) * params.N + n + j] = c2[j];
    y[(m + 3u) * params.N + n + j] = c3[j];
  }
}
