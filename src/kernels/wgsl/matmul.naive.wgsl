// requires: threefry, quantized
// Matrix product, as its definition says: the readable specification, and the path for any shape.
//   y[m, n] = alpha · Σ_k op(a)[m, k] · op(b)[k, n] + bias[n]      or y += … where accumulate
// op(a): [M, K], stored [K, M] where TRANSPOSE_A; op(b): [K, N], stored [N, K] where TRANSPOSE_B.
// b may hold pairs of f16 or bf16, low half first, or be quantised (lib/quantized.wgsl). y is stored [N, M] where transpose_y.
//
// TAIL makes the sum K + R deep, as low-rank updates are: Σ_k … + Σ_r p[m, r] · op(q)[r, n], with p:
// [M, R] and op(q): [R, N], stored [N, R] where TRANSPOSE_Q; alpha is 1 then.
// DROP multiplies by 0, or by keep = 1/(1 − probability), the elements of b (1) or of the tail's sum (2);
// which, says word i mod 4 of Threefry-4x32-13 for counter i div 4, where i is the element's place in b
// as it is stored, or in [M, N]: the very elements that `dropout` drops.
// With splits, y is [batch, splits, M, N]: split s has the terms from s · k_slice on, the first also bias
// and tail, and the host adds them up. One thread computes one element of y.

override TRANSPOSE_A: bool = false;
override TRANSPOSE_B: bool = false;
override TRANSPOSE_Q: bool = false;
override DTYPE_B: u32 = 0; // 0 f32, 1 f16, 2 bf16, 3 int8, 4 nf4
override TAIL: bool = false;
override DROP: u32 = 0; // 0 nothing, 1 b, 2 the tail

struct Params {
  M: u32,
  N: u32,
  K: u32,
  R: u32,
  k_slice: u32,
  splits: u32,
  a_batch: u32, // elements from one matrix to the next; 0 where one serves all
  b_batch: u32,
  has_bias: u32,
  accumulate: u32,
  transpose_y: u32,
  alpha: f32,
  key0: u32,
  key1: u32,
  threshold: u32,
  keep: f32,
}

@group(0) @binding(0) var<storage> a: array<f32>;
@group(0) @binding(1) var<storage> b: array<u32>;
@group(0) @binding(2) var<storage> p: array<f32>;
@group(0) @binding(3) var<storage> q: array<f32>;
@group(0) @binding(4) var<storage> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
var<immediate> params: Params;
var<private> key: vec2<u32>; // of the matrix's dropout

fn dropped(i: u32, value: f32) -> f32 {
  let words = draws(i / 4u, key);
  return select(0.0, params.keep * value, words[i % 4u] >= params.threshold);
}

fn quantized_word(i: u32) -> u32 {
  return b[i];
}

fn load_b(i: u32) -> f32 {
  var v: f32;
  if (DTYPE_B == 0u) {
    v = bitcast<f32>(b[i]);
  } else if (DTYPE_B >= 3u) {
    let row = i / select(params.N, params.K, TRANSPOSE_B);
    v = quantized_element(i, row, params.N * params.K, DTYPE_B == 4u);
  } else {
    let word = b[i / 2u] >> (16u * (i % 2u));
    v = select(bitcast<f32>(word << 16u), unpack2x16float(word & 0xffffu).x, DTYPE_B == 1u);
  }
  if (DROP == 1u) {
    return dropped(i, v);
  }
  return v;
}

fn tail(m: u32, n: u32) -> f32 {
  var sum = 0.0;
  for (var r = 0u; r < params.R; r++) {
    sum += p[m * params.R + r] * q[select(r * params.N + n, n * params.R + r, TRANSPOSE_Q)];
  }
  if (DROP == 2u) {
    return dropped(m * params.N + n, sum);
  }
  return sum;
}

@compute @workgroup_size(8, 8)
fn matmul_naive(@builtin(global_invocation_id) id: vec3<u32>) {
  let n = id.x;
  let m = id.y;
  let batch = id.z / params.splits;
  key = vec2(params.key0, params.key1 + batch);
  let split = id.z % params.splits;
  if (n >= params.N || m >= params.M) {
    return;
  }
  var sum = 0.0;
  if (TAIL && split == 0u) {
    sum = tail(m, n);
  }
  let k1 = min((split + 1u) * params.k_slice, params.K);
  for (var k = split * params.k_slice; k < k1; k++) {
    let at_a = batch * params.a_batch + select(m * params.K + k, k * params.M + m, TRANSPOSE_A);
    let at_b = batch * params.b_batch + select(k * params.N + n, n * params.K + k, TRANSPOSE_B);
    sum += a[at_a] * load_b(at_b);
  }
  var total = params.alpha * sum;
  if (params.has_bias == 1u && split == 0u) {
    total += bias[n];
  }
  let at = id.z * params.M * params.N + select(m * params.N + n, n * params.M + m, params.transpose_y == 1u);
  if (params.accumulate == 1u) {
    total += y[at];
  }
  y[at] = total;
}
