// requires: quantized
// Low-rank linear layer of few rows, as generation has them, in one dispatch:
//   S = s·x·Aᵀ    y = x·Wᵀ + bias + S·Bᵀ
// x: [M, K], W: [N, K], or [K, N] where TRANSPOSED, A: [R, K], B: [N, R], y: [M, N]; R ≤ 64, K a multiple of 4.
// A workgroup makes 64 columns of one row, one in each thread. First its threads make that row's S together,
// in equal shares of each sum: a pass over A beside the one over W, in the place of a dispatch of its own.

override TRANSPOSED: bool = false;
override DTYPE_W: u32 = 0; // 0 f32, 1 f16, 2 bf16; not transposed, 3 int8, 4 nf4

struct Params {
  N: u32,
  K: u32,
  R: u32,
  has_bias: u32,
  scale: f32,
}

@group(0) @binding(0) var<storage> x: array<vec4<f32>>;
// The same memory twice: four f32, or two words of what is packed.
@group(0) @binding(1) var<storage> w: array<vec4<f32>>;
@group(0) @binding(2) var<storage> w_pairs: array<vec2<u32>>;
@group(0) @binding(3) var<storage> a: array<vec4<f32>>;
@group(0) @binding(4) var<storage> b: array<f32>;
@group(0) @binding(5) var<storage> bias: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
var<immediate> params: Params;
var<workgroup> shares: array<f32, 64>;
var<workgroup> S: array<f32, 64>;

fn quantized_word(i: u32) -> u32 {
  let words = w_pairs[i / 2u];
  return select(words.x, words.y, i % 2u == 1u);
}

fn bf16_pairs(words: vec2<u32>) -> vec4<f32> {
  return bitcast<vec4<f32>>(vec4<u32>(
    words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u));
}

// Four neighbours of row n, the i-th quad of W.
fn load_w(i: u32, n: u32) -> vec4<f32> {
  if (DTYPE_W == 0u) {
    return w[i];
  }
  if (DTYPE_W >= 3u) {
    let scale = quantized_scale(4u * i, n, params.N * params.K, DTYPE_W == 4u);
    return scale * quantized_codes(4u * i, DTYPE_W == 4u);
  }
  let words = w_pairs[i];
  if (DTYPE_W == 1u) {
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
  }
  return bf16_pairs(words);
}

// Element i of W.
fn element_w(i: u32) -> f32 {
  return load_w(i / 4u, 0u)[i % 4u];
}

// Four terms of column n, from row 4k of a transposed W on.
fn load_column(k: u32, n: u32) -> vec4<f32> {
  let at = 4u * k * params.N + n;
  return vec4(element_w(at), element_w(at + params.N), element_w(at + 2u * params.N), element_w(at + 3u * params.N));
}

@compute @workgroup_size(64)
fn lora_linear_few(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let K4 = params.K / 4u;
  let row = group.y * K4;
  let each = 64u / params.R; // threads that share a sum
  let length = (K4 + each - 1u) / each;
  let r = thread / each;
  var share = 0.0;
  if (r < params.R) {
    let first = (thread % each) * length;
    for (var k = first; k < min(first + length, K4); k++) {
      share += dot(x[row + k], a[r * K4 + k]);
    }
  }
  shares[thread] = share;
  workgroupBarrier();
  if (thread < params.R) {
    var sum = 0.0;
    for (var i = 0u; i < each; i++) {
      sum += shares[thread * each + i];
    }
    S[thread] = params.scale * sum;
  }
  workgroupBarrier();
  let n = group.x * 64u + thread;
  if (n >= params.N) {
    return;
  }
  var sum = vec4<f32>();
  for (var k = 0u; k < K4; k++) {
    if (TRANSPOSED) {
      sum += x[row + k] * load_column(k, n);
    } else {
      sum += x[row + k] * load_w(n * K4 + k, n);
    }
  }
  var update = 0.0;
  for (var i = 0u; i < params.R; i++) {
    update += S[i] * b[n * params.R + i];
  }
  let base = (sum.x + sum.y) + (sum.z + sum.w) + select(0.0, bias[select(0u, n, params.has_bias == 1u)], params.has_bias == 1u);
  y[group.y * params.N + n] = base + update;
}
