// requires: threefry, quantized
// Matrix product from tiles staged in workgroup memory, for GPUs. Formula, shapes and switches as in
// matmul.naive.wgsl.
//
// A workgroup of 16 × 16 threads computes 64 × 64 elements of y. For every 16 terms of the sum the
// threads bring 64 × 16 elements of a and 16 × 64 of b into workgroup memory, neighbours reading
// neighbours in memory; each thread then multiplies 4 rows by 4 columns in registers.

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
  a_batch: u32,
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

// Term by term: four rows of a, four columns of b. A pitch of 17 keeps the banks apart.
var<workgroup> tile_a: array<vec4<f32>, 272>;
var<workgroup> tile_b: array<vec4<f32>, 272>;

fn dropped(i: u32, value: f32) -> f32 {
  let words = draws(i / 4u, key);
  return select(0.0, params.keep * value, words[i % 4u] >= params.threshold);
}

fn load_a(base: u32, m: u32, k: u32, end: u32) -> f32 {
  if (m >= params.M || k >= end) {
    return 0.0;
  }
  return a[base + select(m * params.K + k, k * params.M + m, TRANSPOSE_A)];
}

fn quantized_word(i: u32) -> u32 {
  return b[i];
}

fn load_b(base: u32, k: u32, n: u32, end: u32) -> f32 {
  if (n >= params.N || k >= end) {
    return 0.0;
  }
  let at = base + select(k * params.N + n, n * params.K + k, TRANSPOSE_B);
  var v: f32;
  if (DTYPE_B == 0u) {
    v = bitcast<f32>(b[at]);
  } else if (DTYPE_B >= 3u) {
    v = quantized_element(at, select(k, n, TRANSPOSE_B), params.N * params.K, DTYPE_B == 4u);
  } else {
    let word = b[at / 2u] >> (16u * (at % 2u));
    v = select(bitcast<f32>(word << 16u), unpack2x16float(word & 0xffffu).x, DTYPE_B == 1u);
  }
  if (DROP == 1u) {
    return dropped(at, v);
  }
  return v;
}

fn load_p(m: u32, k: u32) -> f32 {
  return select(0.0, p[m * params.R + k], m < params.M && k < params.R);
}

fn load_q(k: u32, n: u32) -> f32 {
  return select(0.0, q[select(k * params.N + n, n * params.R + k, TRANSPOSE_Q)], n < params.N && k < params.R);
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

fn stage_tail(m0: u32, n0: u32, k0: u32, thread: u32) {
  for (var i = 0u; i < 4u; i++) {
    let t = i * 256u + thread;
    let along_k = vec2(t / 16u, t % 16u);
    let at_q = select(vec2(t % 64u, t / 64u), along_k, TRANSPOSE_Q);
    tile_a[along_k.y * 17u + along_k.x / 4u][along_k.x % 4u] = load_p(m0 + along_k.x, k0 + along_k.y);
    tile_b[at_q.y * 17u + at_q.x / 4u][at_q.x % 4u] = load_q(k0 + at_q.y, n0 + at_q.x);
  }
}

// A thread's part of y: 4 rows of 4 neighbours.
struct Tile {
  c0: vec4<f32>,
  c1: vec4<f32>,
  c2: vec4<f32>,
  c3: vec4<f32>,
}

// The 16 terms of the staged tiles.
fn multiply(c: ptr<function, Tile>, row: u32, column: u32) {
  for (var k = 0u; k < 16u; k++) {
    let v = tile_a[k * 17u + row];
    let w = tile_b[k * 17u + column];
    (*c).c0 += v.x * w;
    (*c).c1 += v.y * w;
    (*c).c2 += v.z * w;
    (*c).c3 += v.w * w;
  }
}

fn dropped_row(m: u32, n: u32, c: vec4<f32>) -> vec4<f32> {
  let i = m * params.N + n;
  return vec4(dropped(i, c.x), dropped(i + 1u, c.y), dropped(i + 2u, c.z), dropped(i + 3u, c.w));
}

fn put(m: u32, n: u32, to: u32, split: u32, c: vec4<f32>) {
  if (m >= params.M) {
    return;
  }
  for (var j = 0u; j < 4u; j++) {
    if (n + j < params.N) {
      let at = to + select(m * params.N + n + j, (n + j) * params.M + m, params.transpose_y == 1u);
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
  key = vec2(params.key0, params.key1 + batch);
  let split = group.z % params.splits;
  let m0 = group.x * 64u;
  let n0 = group.y * 64u;
  let row = thread / 16u;
  let column = thread % 16u;
  let end = min((split + 1u) * params.k_slice, params.K);
  let m = m0 + 4u * row;
  let n = n0 + 4u * column;
  var c: Tile;
  if (TAIL && split == 0u) {
    for (var k0 = 0u; k0 < params.R; k0 += 16u) {
      stage_tail(m0, n0, k0, thread);
      workgroupBarrier();
      multiply(&c, row, column);
      workgroupBarrier();
    }
    if (DROP == 2u) {
      c = Tile(dropped_row(m, n, c.c0), dropped_row(m + 1u, n, c.c1), dropped_row(m + 2u, n, c.c2), dropped_row(m + 3u, n, c.c3));
    }
  }
  for (var k0 = split * params.k_slice; k0 < end; k0 += 16u) {
    stage(batch * params.a_batch, batch * params.b_batch, m0, n0, k0, end, thread);
    workgroupBarrier();
    multiply(&c, row, column);
    workgroupBarrier();
  }
  let to = group.z * params.M * params.N;
  put(m, n, to, split, c.c0);
  put(m + 1u, n, to, split, c.c1);
  put(m + 2u, n, to, split, c.c2);
  put(m + 3u, n, to, split, c.c3);
}
