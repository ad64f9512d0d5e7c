// Matrix product, as its definition says: the readable specification, and the path for any shape.
//   y[m, n] = alpha · Σ_k op(a)[m, k] · op(b)[k, n] + bias[n]      or y += … where accumulate
// op(a): [M, K], stored [K, M] where TRANSPOSE_A; op(b): [K, N], stored [N, K] where TRANSPOSE_B.
// b may hold pairs of f16 or bf16, low half first. One thread computes one element of y.

override TRANSPOSE_A: bool = false;
override TRANSPOSE_B: bool = false;
override DTYPE_B: u32 = 0; // 0 f32, 1 f16, 2 bf16

struct Params {
  M: u32,
  N: u32,
  K: u32,
  k_start: u32,
  k_end: u32,
  a_batch: u32,
  b_batch: u32,
  accumulate: u32,
  has_bias: u32,
  alpha: f32,
}

@group(0) @binding(0) var<storage> a: array<f32>;
@group(0) @binding(1) var<storage> b: array<u32>;
@group(0) @binding(2) var<storage> bias: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
var<immediate> params: Params;

fn load_b(i: u32) -> f32 {
  if (DTYPE_B == 0u) {
    return bitcast<f32>(b[i]);
  }
  let word = b[i / 2u] >> (16u * (i % 2u));
  if (DTYPE_B == 1u) {
    return unpack2x16float(word & 0xffffu).x;
  }
  return bitcast<f32>(word << 16u);
}

@compute @workgroup_size(8, 8)
fn matmul_naive(@builtin(global_invocation_id) id: vec3<u32>) {
  let n = id.x;
  let m = id.y;
  let batch = id.z;
  if (n >= params.N || m >= params.M) {
    return;
  }
  var sum = 0.0;
  for (var k = params.k_start; k < params.k_end; k++) {
    let at_a = batch * params.a_batch + select(m * params.K + k, k * params.M + m, TRANSPOSE_A);
    let at_b = batch * params.b_batch + select(k * params.N + n, n * params.K + k, TRANSPOSE_B);
    sum += a[at_a] * load_b(at_b);
  }
  let at = (batch * params.M + m) * params.N + n;
  var total = params.alpha * sum;
  if (params.has_bias == 1u) {
    total += bias[n];
  }
  if (params.accumulate == 1u) {
    total += y[at];
  }
  y[at] = total;
}
