// Matrix product for software devices whose subgroups have 8 lanes (lavapipe). Not for GPUs.
// Formula, shapes and switches as in matmul.naive.wgsl. With splits of K, y is [batch, splits, M, N]: the
// host adds the splits up, and bias enters the first alone.
//
// A workgroup is one subgroup and computes ROWS × 32 elements of y, in registers: a lane owns
// 4 neighbouring columns. For every 4 terms of the sum, each lane loads 4 vectors of a and of b; a
// shuffle from a constant lane then hands a row of a to all lanes. A load costs as much as a hundred
// multiply-adds here, because the device does it lane by lane: so each loaded vector is used 32
// times, there is no workgroup memory and no barrier, and all is unrolled by hand, since an array of
// registers in a loop would be kept in memory (5 times slower).
enable subgroups;

override TRANSPOSE_A: bool = false;
override TRANSPOSE_B: bool = false;
override WIDE_A: bool = true; // stored rows of a are whole vec4
override WIDE_B: bool = true; // stored rows of b are whole vec4, or four packed values
override RAGGED_K: bool = false; // K is no multiple of 4
override DTYPE_B: u32 = 0; // 0 f32, 1 f16, 2 bf16
override ROWS: u32 = 32; // 4, 8, 16 or 32
override ACCUMULATE: bool = false;

struct Params {
  M: u32,
  N: u32,
  K: u32,
  k_slice: u32, // terms of the sum in each split, a multiple of 4
  splits: u32,
  a_batch: u32, // elements from one matrix to the next; 0 where one serves all
  b_batch: u32,
  has_bias: u32,
  alpha: f32,
}

// a and b are each bound in the widths in which they may be read.
@group(0) @binding(0) var<storage> a4: array<vec4<f32>>;
@group(0) @binding(1) var<storage> a1: array<f32>;
@group(0) @binding(2) var<storage> b4: array<vec4<f32>>;
@group(0) @binding(3) var<storage> b2: array<vec2<u32>>;
@group(0) @binding(4) var<storage> b1: array<u32>;
@group(0) @binding(5) var<storage> bias: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;
var<immediate> params: Params;

// Four elements of a from `at` on, of which the first `left` belong to the matrix; 0 for the others.
fn read_a(at: u32, left: u32) -> vec4<f32> {
  if (WIDE_A) {
    let v = a4[at / 4u];
    if (RAGGED_K) {
      return select(vec4<f32>(), v, left > 0u);
    }
    return v;
  }
  let v = vec4(a1[at], a1[at + 1u], a1[at + 2u], a1[at + 3u]);
  return select(vec4<f32>(), v, vec4(0u, 1u, 2u, 3u) < vec4(left));
}

fn unpack(word: u32) -> vec2<f32> {
  if (DTYPE_B == 1u) {
    return unpack2x16float(word);
  }
  return bitcast<vec2<f32>>(vec2(word << 16u, word & 0xffff0000u));
}

fn read_b1(at: u32) -> f32 {
  if (DTYPE_B == 0u) {
    return bitcast<f32>(b1[at]);
  }
  let pair = unpack(b1[at / 2u]);
  return select(pair.x, pair.y, (at & 1u) == 1u);
}

fn read_b(at: u32, left: u32) -> vec4<f32> {
  if (WIDE_B) {
    var v: vec4<f32>;
    if (DTYPE_B == 0u) {
      v = b4[at / 4u];
    } else {
      let words = b2[at / 4u];
      v = vec4(unpack(words.x), unpack(words.y));
    }
    if (RAGGED_K) {
      return select(vec4<f32>(), v, left > 0u);
    }
    return v;
  }
  let v = vec4(read_b1(at), read_b1(at + 1u), read_b1(at + 2u), read_b1(at + 3u));
  return select(vec4<f32>(), v, vec4(0u, 1u, 2u, 3u) < vec4(left));
}

// How many of four elements from `at` on lie below `end`, for line k of the sum.
fn left_of(at: u32, end: u32, k: u32) -> u32 {
  return select(0u, end - min(at, end), k < params.K);
}

// The lane's vectors of a for the terms k to k + 3. Straight: rows m, m + 8, …; `start` has the first
// elements of these rows. Transposed: the four rows from m on.
fn load_a(start: vec4<u32>, m: u32, k: u32) -> mat4x4<f32> {
  if (TRANSPOSE_A) {
    let at = start.x + k * params.M;
    return transpose(mat4x4<f32>(
      read_a(at, left_of(m, params.M, k)),
      read_a(at + params.M, left_of(m, params.M, k + 1u)),
      read_a(at + 2u * params.M, left_of(m, params.M, k + 2u)),
      read_a(at + 3u * params.M, left_of(m, params.M, k + 3u)),
    ));
  }
  let left = params.K - k;
  var v: mat4x4<f32>;
  v[0] = read_a(start.x + k, left);
  if (ROWS > 8u) {
    v[1] = read_a(start.y + k, left);
  }
  if (ROWS > 16u) {
    v[2] = read_a(start.z + k, left);
    v[3] = read_a(start.w + k, left);
  }
  return v;
}

// The lane's four columns of b from n on, for the terms k to k + 3: one vector per term.
fn load_b(start: vec4<u32>, n: u32, k: u32) -> mat4x4<f32> {
  if (TRANSPOSE_B) {
    let left = params.K - k;
    return transpose(mat4x4<f32>(
      read_b(start.x + k, left),
      read_b(start.y + k, left),
      read_b(start.z + k, left),
      read_b(start.w + k, left),
    ));
  }
  let at = start.x + k * params.N;
  return mat4x4<f32>(
    read_b(at, left_of(n, params.N, k)),
    read_b(at + params.N, left_of(n, params.N, k + 1u)),
    read_b(at + 2u * params.N, left_of(n, params.N, k + 2u)),
    read_b(at + 3u * params.N, left_of(n, params.N, k + 3u)),
  );
}

// c + the product of one row of a with the lane's columns. The row lies in lane `lane` of `straight`,
// or where a is stored transposed in lane `turned_lane` of `turned`.
fn row(c: vec4<f32>, w: mat4x4<f32>, straight: vec4<f32>, lane: u32, turned: vec4<f32>, turned_lane: u32) -> vec4<f32> {
  var v: vec4<f32>;
  if (TRANSPOSE_A) {
    v = subgroupShuffle(turned, turned_lane);
  } else {
    v = subgroupShuffle(straight, lane);
  }
  return fma(vec4(v.w), w[3], fma(vec4(v.z), w[2], fma(vec4(v.y), w[1], fma(vec4(v.x), w[0], c))));
}

fn put1(m: u32, n: u32, to: u32, value: f32) {
  if (n >= params.N) {
    return;
  }
  let at = to + m * params.N + n;
  if (ACCUMULATE) {
    y[at] += value;
  } else {
    y[at] = value;
  }
}

// Stores four neighbours of row m.
fn put(m: u32, n: u32, to: u32, extra: vec4<f32>, c: vec4<f32>) {
  if (m >= params.M) {
    return;
  }
  let v = params.alpha * c + extra;
  put1(m, n, to, v.x);
  put1(m, n + 1u, to, v.y);
  put1(m, n + 2u, to, v.z);
  put1(m, n + 3u, to, v.w);
}

fn bias_of(n: u32, split: u32) -> vec4<f32> {
  if (params.has_bias == 1u && split == 0u) {
    let last = params.N - 1u;
    return vec4(bias[min(n, last)], bias[min(n + 1u, last)], bias[min(n + 2u, last)], bias[min(n + 3u, last)]);
  }
  return vec4<f32>();
}

// First elements of the lines that a lane reads; beyond the edge it reads the last line again.
fn starts_a(start: u32, m: u32) -> vec4<u32> {
  if (TRANSPOSE_A) {
    return vec4(start + select(m, min(m, params.M - 4u), WIDE_A));
  }
  return start + params.K * min(m + vec4(0u, 8u, 16u, 24u), vec4(params.M - 1u));
}

fn starts_b(start: u32, n: u32) -> vec4<u32> {
  if (TRANSPOSE_B) {
    return start + params.K * min(n + vec4(0u, 1u, 2u, 3u), vec4(params.N - 1u));
  }
  return vec4(start + select(n, min(n, params.N - 4u), WIDE_B));
}

@compute @workgroup_size(8)
fn matmul_subgroup8(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let batch = group.z / params.splits;
  let m0 = group.x * ROWS;
  let n = group.y * 32u + 4u * lane;
  let split = group.z % params.splits;
  let to = group.z * params.M * params.N;
  let a_at = batch * params.a_batch;
  let b_at = batch * params.b_batch;
  let m = m0 + select(lane, 4u * lane, TRANSPOSE_A);
  let from_a = starts_a(a_at, m);
  let from_b = starts_b(b_at, n);
  let k0 = split * params.k_slice;
  let k1 = min(k0 + params.k_slice, params.K);
  var c0 = vec4<f32>(); var c1 = vec4<f32>(); var c2 = vec4<f32>(); var c3 = vec4<f32>();
  var c4 = vec4<f32>(); var c5 = vec4<f32>(); var c6 = vec4<f32>(); var c7 = vec4<f32>();
  var c8 = vec4<f32>(); var c9 = vec4<f32>(); var c10 = vec4<f32>(); var c11 = vec4<f32>();
  var c12 = vec4<f32>(); var c13 = vec4<f32>(); var c14 = vec4<f32>(); var c15 = vec4<f32>();
  var c16 = vec4<f32>(); var c17 = vec4<f32>(); var c18 = vec4<f32>(); var c19 = vec4<f32>();
  var c20 = vec4<f32>(); var c21 = vec4<f32>(); var c22 = vec4<f32>(); var c23 = vec4<f32>();
  var c24 = vec4<f32>(); var c25 = vec4<f32>(); var c26 = vec4<f32>(); var c27 = vec4<f32>();
  var c28 = vec4<f32>(); var c29 = vec4<f32>(); var c30 = vec4<f32>(); var c31 = vec4<f32>();
  for (var k = k0; k < k1; k += 4u) {
    let a = load_a(from_a, m, k);
    let w = load_b(from_b, n, k);
    c0 = row(c0, w, a[0], 0u, a[0], 0u);
    c1 = row(c1, w, a[0], 1u, a[1], 0u);
    c2 = row(c2, w, a[0], 2u, a[2], 0u);
    c3 = row(c3, w, a[0], 3u, a[3], 0u);
    if (ROWS > 4u) {
      c4 = row(c4, w, a[0], 4u, a[0], 1u);
      c5 = row(c5, w, a[0], 5u, a[1], 1u);
      c6 = row(c6, w, a[0], 6u, a[2], 1u);
      c7 = row(c7, w, a[0], 7u, a[3], 1u);
    }
    if (ROWS > 8u) {
      c8 = row(c8, w, a[1], 0u, a[0], 2u);
      c9 = row(c9, w, a[1], 1u, a[1], 2u);
      c10 = row(c10, w, a[1], 2u, a[2], 2u);
      c11 = row(c11, w, a[1], 3u, a[3], 2u);
      c12 = row(c12, w, a[1], 4u, a[0], 3u);
      c13 = row(c13, w, a[1], 5u, a[1], 3u);
      c14 = row(c14, w, a[1], 6u, a[2], 3u);
      c15 = row(c15, w, a[1], 7u, a[3], 3u);
    }
    if (ROWS > 16u) {
      c16 = row(c16, w, a[2], 0u, a[0], 4u);
      c17 = row(c17, w, a[2], 1u, a[1], 4u);
      c18 = row(c18, w, a[2], 2u, a[2], 4u);
      c19 = row(c19, w, a[2], 3u, a[3], 4u);
      c20 = row(c20, w, a[2], 4u, a[0], 5u);
      c21 = row(c21, w, a[2], 5u, a[1], 5u);
      c22 = row(c22, w, a[2], 6u, a[2], 5u);
      c23 = row(c23, w, a[2], 7u, a[3], 5u);
      c24 = row(c24, w, a[3], 0u, a[0], 6u);
      c25 = row(c25, w, a[3], 1u, a[1], 6u);
      c26 = row(c26, w, a[3], 2u, a[2], 6u);
      c27 = row(c27, w, a[3], 3u, a[3], 6u);
      c28 = row(c28, w, a[3], 4u, a[0], 7u);
      c29 = row(c29, w, a[3], 5u, a[1], 7u);
      c30 = row(c30, w, a[3], 6u, a[2], 7u);
      c31 = row(c31, w, a[3], 7u, a[3], 7u);
    }
  }
  let extra = bias_of(n, split);
  put(m0 + 0u, n, to, extra, c0);
  put(m0 + 1u, n, to, extra, c1);
  put(m0 + 2u, n, to, extra, c2);
  put(m0 + 3u, n, to, extra, c3);
  if (ROWS > 4u) {
    put(m0 + 4u, n, to, extra, c4);
    put(m0 + 5u, n, to, extra, c5);
    put(m0 + 6u, n, to, extra, c6);
    put(m0 + 7u, n, to, extra, c7);
  }
  if (ROWS > 8u) {
    put(m0 + 8u, n, to, extra, c8);
    put(m0 + 9u, n, to, extra, c9);
    put(m0 + 10u, n, to, extra, c10);
    put(m0 + 11u, n, to, extra, c11);
    put(m0 + 12u, n, to, extra, c12);
    put(m0 + 13u, n, to, extra, c13);
    put(m0 + 14u, n, to, extra, c14);
    put(m0 + 15u, n, to, extra, c15);
  }
  if (ROWS > 16u) {
    put(m0 + 16u, n, to, extra, c16);
    put(m0 + 17u, n, to, extra, c17);
    put(m0 + 18u, n, to, extra, c18);
    put(m0 + 19u, n, to, extra, c19);
    put(m0 + 20u, n, to, extra, c20);
    put(m0 + 21u, n, to, extra, c21);
    put(m0 + 22u, n, to, extra, c22);
    put(m0 + 23u, n, to, extra, c23);
    put(m0 + 24u, n, to, extra, c24);
    put(m0 + 25u, n, to, extra, c25);
    put(m0 + 26u, n, to, extra, c26);
    put(m0 + 27u, n, to, extra, c27);
    put(m0 + 28u, n, to, extra, c28);
    put(m0 + 29u, n, to, extra, c29);
    put(m0 + 30u, n, to, extra, c30);
    put(m0 + 31u, n, to, extra, c31);
  }
}
