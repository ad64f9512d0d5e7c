// Matrix product from tiles staged in workgroup memory, for GPUs. Formula, shapes and switches as in
// matmul.naive.wgsl. With splits of K, y is [batch, splits, M, N]: the host adds the splits up, and
// bias enters the first alone.
//
// A workgroup of 16 × 16 threads computes 64 × 64 elements of y. For every 16 terms of the sum the
// threads bring 64 × 16 elements of a and 16 × 64 of b into workgroup memory, neighbours reading
// neighbours in memory; each thread then multiplies 4 rows by 4 columns in registers.

override TRANSPOSE_A: bool = false;
override TRANSPOSE_B: bool = false;
override DTYPE_B: u32 = 0; // 0 f32, 1 f16, 2 bf16

struct Params {
  M: u32,
  N: u32,
  K: u32,
  k_slice: u32,
  splits: u32,
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

// Term by term: four rows of a, four columns of b. A pitch of 17 keeps the banks apart.
var<workgroup> tile_a: array<vec4<f32>, 272>;
var<workgroup> tile_b: array<vec4<f32>, 272>;

fn load_a(base: u32, m: u32, k: u32, end: u32) -> f32 {
  if (m >= params.M || k >= end) {
    return 0.0;
  }
  return a[base + select(m * params.K + k, k * params.M + m, TRANSPOSE_A)];
}

fn load_b(base: u32, k: u32, n: u32, end: u32) -> f32 {
  if (n >= params.N || k >= end) {
    return 0.0;
  }
  let at = base + select(k * params.N + n, n * params.K + k, TRANSPOSE_B);
  if (DTYPE_B == 0u) {
    return bitcast<f32>(b[at]);
  }
  let word = b[at / 2u] >> (16u * (at % 2u));
  if (DTYPE_B == 1u) {
    return unpack2x16float(word & 0xffffu).x;
  }
  return bitcast<f32>(word << 16u);
}

// Each thread brings 4 elements of either tile: along K where K lies together, else along M or N.
fn stage(base_a: u32, base_b: u32, m0: u32, n0: u32, k0: u32, end: u32, thread: u32) {
  for (var i = 0u; i < 4u; i++) {
    let t = i * 256u + thread;
    let along_k = vec2(t / 16u, t % 16u); // row or column, term
    let across = vec2(t % 64u, t / 64u);
    let at_a = select(along_k, across, TRANSPOSE_A);
    let at_b = select(across, along_k, TRANSPOSE_B);
    tile_a[at_a.y * 17u + at_a.x / 4u][at_a.x % 4u] = load_a(base_a, m0 + at_a.x, k0 + at_a.y, end);
    tile_b[at_b.y * 17u + at_b.x / 4u][at_b.x % 4u] = load_b(base_b, k0 + at_b.y, n0 + at_b.x, end);
  }
}

fn put(m: u32, n: u32, to: u32, split: u32, c: vec4<f32>) {
  if (m >= params.M) {
    return;
  }
  for (var j = 0u; j < 4u; j++) {
    if (n + j < params.N) {
      let at = to + m * params.N + n + j;
      var value = params.alpha * c[j];
      if (params.has_bias == 1u && split == 0u) {
        value += bias[n + j];
      }
      if (params.accumulate == 1u) {
        value += y[at];
      }
      y[at] = value;
    }
  }
}

@compute @workgroup_size(256)
fn matmul_staged(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
  let batch = group.z / params.splits;
  let split = group.z % params.splits;
  let m0 = group.x * 64u;
  let n0 = group.y * 64u;
  let row = thread / 16u;
  let column = thread % 16u;
  let end = min((split + 1u) * params.k_slice, params.K);
  var c0 = vec4<f32>();
  var c1 = vec4<f32>();
  var c2 = vec4<f32>();
  var c3 = vec4<f32>();
  for (var k0 = split * params.k_slice; k0 < end; k0 += 16u) {
    stage(batch * params.a_batch, batch * params.b_batch, m0, n0, k0, end, thread);
    workgroupBarrier();
    for (var k = 0u; k < 16u; k++) {
      let v = tile_a[k * 17u + row];
      let w = tile_b[k * 17u + column];
      c0 += v.x * w;
      c1 += v.y * w;
      c2 += v.z * w;
      c3 += v.w * w;
    }
    workgroupBarrier();
  }
  let to = group.z * params.M * params.N;
  let m = m0 + 4u * row;
  let n = n0 + 4u * column;
  put(m, n, to, split, c0);
  put(m + 1u, n, to, split, c1);
  put(m + 2u, n, to, split, c2);
  put(m + 3u, n, to, split, c3);
}
