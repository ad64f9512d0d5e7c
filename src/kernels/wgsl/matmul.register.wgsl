// requires: threefry, quantized
// Matrix product from registers: no workgroup memory, no barrier. Formula and switches as in
// matmul.naive.wgsl.
// All stored rows must be multiples of 4: all loads and stores are vec4. y is never transposed.
// One thread computes 4 rows × 8 columns of y.

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
  alpha: f32,
  key0: u32,
  key1: u32,
  threshold: u32,
  keep: f32,
}

@group(0) @binding(0) var<storage> a: array<vec4<f32>>;
// The same memory twice: four f32, or two words of what is packed.
@group(0) @binding(1) var<storage> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage> b_pairs: array<vec2<u32>>;
@group(0) @binding(3) var<storage> p: array<f32>;
@group(0) @binding(4) var<storage> q: array<f32>;
@group(0) @binding(5) var<storage> bias: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4<f32>>;
var<immediate> params: Params;
var<private> key: vec2<u32>; // of the matrix's dropout

// Four neighbours, the i-th quad of what is dropped from.
fn dropped(i: u32, value: vec4<f32>) -> vec4<f32> {
  let words = draws(i, key);
  return select(vec4<f32>(), params.keep * value, words >= vec4(params.threshold));
}

fn quantized_word(i: u32) -> u32 {
  let words = b_pairs[i / 2u];
  return select(words.x, words.y, i % 2u == 1u);
}

fn load_b(i: u32) -> vec4<f32> {
  var v: vec4<f32>;
  if (DTYPE_B == 0u) {
    v = b[i];
  } else if (DTYPE_B >= 3u) {
    let row = 4u * i / select(params.N, params.K, TRANSPOSE_B);
    v = quantized_scale(4u * i, row, params.N * params.K, DTYPE_B == 4u) * quantized_codes(4u * i, DTYPE_B == 4u);
  } else {
    let words = b_pairs[i];
    if (DTYPE_B == 1u) {
      v = vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
    } else {
      v = bitcast<vec4<f32>>(vec4<u32>(
        words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u));
    }
  }
  if (DROP == 1u) {
    return dropped(i, v);
  }
  return v;
}

// Four k of four columns, k-major.
fn load_b_block(base: u32, k: u32, column: u32) -> mat4x4<f32> {
  if (TRANSPOSE_B) {
    let K4 = params.K / 4u;
    let last = params.N - 1u;
    return transpose(mat4x4<f32>(
      load_b(base + min(column, last) * K4 + k),
      load_b(base + min(column + 1u, last) * K4 + k),
      load_b(base + min(column + 2u, last) * K4 + k),
      load_b(base + min(column + 3u, last) * K4 + k)));
  }
  let N4 = params.N / 4u;
  let quad = min(column / 4u, N4 - 1u);
  let row = k * 4u;
  return mat4x4<f32>(
    load_b(base + row * N4 + quad),
    load_b(base + (row + 1u) * N4 + quad),
    load_b(base + (row + 2u) * N4 + quad),
    load_b(base + (row + 3u) * N4 + quad));
}

// Four k of four rows, row-major.
fn load_a_block(base: u32, k: u32, row: u32) -> mat4x4<f32> {
  if (TRANSPOSE_A) {
    let M4 = params.M / 4u;
    let at = base + k * 4u * M4 + row / 4u;
    return transpose(mat4x4<f32>(a[at], a[at + M4], a[at + 2u * M4], a[at + 3u * M4]));
  }
  let K4 = params.K / 4u;
  let last = params.M - 1u;
  return mat4x4<f32>(
    a[base + min(row, last) * K4 + k],
    a[base + min(row + 1u, last) * K4 + k],
    a[base + min(row + 2u, last) * K4 + k],
    a[base + min(row + 3u, last) * K4 + k]);
}

// One term of the tail for four rows, and for four columns. R may be any number, so these are single.
fn load_p(r: u32, row: u32) -> vec4<f32> {
  let m = min(row + vec4(0u, 1u, 2u, 3u), vec4(params.M - 1u)) * params.R + r;
  return vec4(p[m.x], p[m.y], p[m.z], p[m.w]);
}

fn load_q(r: u32, column: u32) -> vec4<f32> {
  let n = min(column + vec4(0u, 1u, 2u, 3u), vec4(params.N - 1u));
  let at = select(r * params.N + n, n * params.R + r, vec4(TRANSPOSE_Q));
  return vec4(q[at.x], q[at.y], q[at.z], q[at.w]);
}

// A thread's part of y: 4 rows, left and right quad of columns.
struct Tile {
  l0: vec4<f32>,
  l1: vec4<f32>,
  l2: vec4<f32>,
  l3: vec4<f32>,
  r0: vec4<f32>,
  r1: vec4<f32>,
  r2: vec4<f32>,
  r3: vec4<f32>,
}

// Four terms of the sum.
fn step(c: ptr<function, Tile>, rows: mat4x4<f32>, left: mat4x4<f32>, right: mat4x4<f32>) {
  (*c).l0 += left * rows[0];
  (*c).l1 += left * rows[1];
  (*c).l2 += left * rows[2];
  (*c).l3 += left * rows[3];
  (*c).r0 += right * rows[0];
  (*c).r1 += right * rows[1];
  (*c).r2 += right * rows[2];
  (*c).r3 += right * rows[3];
}

fn tail(c: ptr<function, Tile>, row: u32, column: u32) {
  for (var r = 0u; r < params.R; r++) {
    let v = load_p(r, row);
    let left = load_q(r, column);
    let right = load_q(r, column + 4u);
    (*c).l0 += left * v.x;
    (*c).l1 += left * v.y;
    (*c).l2 += left * v.z;
    (*c).l3 += left * v.w;
    (*c).r0 += right * v.x;
    (*c).r1 += right * v.y;
    (*c).r2 += right * v.z;
    (*c).r3 += right * v.w;
  }
}

fn drop_all(c: ptr<function, Tile>, row: u32, column: u32) {
  let N4 = params.N / 4u;
  let at = row * N4 + column / 4u;
  (*c).l0 = dropped(at, (*c).l0);
  (*c).l1 = dropped(at + N4, (*c).l1);
  (*c).l2 = dropped(at + 2u * N4, (*c).l2);
  (*c).l3 = dropped(at + 3u * N4, (*c).l3);
  (*c).r0 = dropped(at + 1u, (*c).r0);
  (*c).r1 = dropped(at + N4 + 1u, (*c).r1);
  (*c).r2 = dropped(at + 2u * N4 + 1u, (*c).r2);
  (*c).r3 = dropped(at + 3u * N4 + 1u, (*c).r3);
}

fn store(z: u32, row: u32, column: u32, sum: vec4<f32>) {
  if (row >= params.M || column >= params.N) {
    return;
  }
  let at = ((z * params.M + row) * params.N + column) / 4u;
  var total = params.alpha * sum;
  if (params.has_bias == 1u && z % params.splits == 0u) {
    total += bias[column / 4u];
  }
  if (params.accumulate == 1u) {
    total += y[at];
  }
  y[at] = total;
}

// Threads walk the blocks of y row by row, so that no lane idles where y is narrow, as in LoRA.
@compute @workgroup_size(32)
fn matmul_register(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let block = id.y * groups.x * 32u + id.x;
  let blocks = (params.N + 7u) / 8u;
  let column = (block % blocks) * 8u;
  let row = (block / blocks) * 4u;
  let batch = id.z / params.splits;
  key = vec2(params.key0, params.key1 + batch);
  let split = id.z % params.splits;
  if (row >= params.M) {
    return;
  }
  var c: Tile;
  if (TAIL && split == 0u) {
    tail(&c, row, column);
    if (DROP == 2u) {
      drop_all(&c, row, column);
    }
  }
  let base_a = batch * params.a_batch / 4u;
  let base_b = batch * params.b_batch / 4u;
  let k1 = min((split + 1u) * params.k_slice, params.K) / 4u;
  for (var k = split * params.k_slice / 4u; k < k1; k++) {
    step(&c, load_a_block(base_a, k, row), load_b_block(base_b, k, column), load_b_block(base_b, k, column + 4u));
  }
  store(id.z, row, column, c.l0);
  store(id.z, row + 1u, column, c.l1);
  store(id.z, row + 2u, column, c.l2);
  store(id.z, row + 3u, column, c.l3);
  store(id.z, row, column + 4u, c.r0);
  store(id.z, row + 1u, column + 4u, c.r1);
  store(id.z, row + 2u, column + 4u, c.r2);
  store(id.z, row + 3u, column + 4u, c.r3);
}
