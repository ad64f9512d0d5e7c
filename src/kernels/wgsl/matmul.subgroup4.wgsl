// Matrix product for software devices whose subgroups have 4 lanes (SwiftShader). Not for GPUs.
// Formula, shapes and switches as in matmul.naive.wgsl. With splits of K, y is [batch, splits, M, N]: the
// host adds the splits up, and bias enters the first alone.
//
// A workgroup is one subgroup and computes ROWS × 32 elements of y, in registers: a lane owns
// 4 neighbouring columns in each half of 16. For every 4 terms of the sum, each lane loads 8 vectors of a and of b; a
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

// The lane's vectors of a for the terms k to k + 3. Straight: rows m, m + 4, …; `start` has the first
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
  if (ROWS > 4u) {
    v[1] = read_a(start.y + k, left);
  }
  if (ROWS > 8u) {
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
  return start + params.K * min(m + vec4(0u, 4u, 8u, 12u), vec4(params.M - 1u));
}

fn starts_b(start: u32, n: u32) -> vec4<u32> {
  if (TRANSPOSE_B) {
    return start + params.K * min(n + vec4(0u, 1u, 2u, 3u), vec4(params.N - 1u));
  }
  return vec4(start + select(n, min(n, params.N - 4u), WIDE_B));
}

@compute @workgroup_size(4)
fn matmul_subgroup4(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let batch = group.z / params.splits;
  let m0 = group.x * ROWS;
  let n = group.y * 32u + 4u * lane;
  let split = group.z % params.splits;
  let to = group.z * params.M * params.N;
  let a_at = batch * params.a_batch;
  let b_at = batch * params.b_batch;
  let m = m0 + select(lane, 4u * lane, TRANSPOSE_A);
  let from_a = starts_a(a_at, m);
  let from_e = starts_a(a_at, m + 16u);
  let from_p = starts_b(b_at, n);
  let from_q = starts_b(b_at, n + 16u);
  let k0 = split * params.k_slice;
  let k1 = min(k0 + params.k_slice, params.K);
  var c0p = vec4<f32>(); var c0q = vec4<f32>(); var c1p = vec4<f32>(); var c1q = vec4<f32>();
  var c2p = vec4<f32>(); var c2q = vec4<f32>(); var c3p = vec4<f32>(); var c3q = vec4<f32>();
  var c4p = vec4<f32>(); var c4q = vec4<f32>(); var c5p = vec4<f32>(); var c5q = vec4<f32>();
  var c6p = vec4<f32>(); var c6q = vec4<f32>(); var c7p = vec4<f32>(); var c7q = vec4<f32>();
  var c8p = vec4<f32>(); var c8q = vec4<f32>(); var c9p = vec4<f32>(); var c9q = vec4<f32>();
  var c10p = vec4<f32>(); var c10q = vec4<f32>(); var c11p = vec4<f32>(); var c11q = vec4<f32>();
  var c12p = vec4<f32>(); var c12q = vec4<f32>(); var c13p = vec4<f32>(); var c13q = vec4<f32>();
  var c14p = vec4<f32>(); var c14q = vec4<f32>(); var c15p = vec4<f32>(); var c15q = vec4<f32>();
  var c16p = vec4<f32>(); var c16q = vec4<f32>(); var c17p = vec4<f32>(); var c17q = vec4<f32>();
  var c18p = vec4<f32>(); var c18q = vec4<f32>(); var c19p = vec4<f32>(); var c19q = vec4<f32>();
  var c20p = vec4<f32>(); var c20q = vec4<f32>(); var c21p = vec4<f32>(); var c21q = vec4<f32>();
  var c22p = vec4<f32>(); var c22q = vec4<f32>(); var c23p = vec4<f32>(); var c23q = vec4<f32>();
  var c24p = vec4<f32>(); var c24q = vec4<f32>(); var c25p = vec4<f32>(); var c25q = vec4<f32>();
  var c26p = vec4<f32>(); var c26q = vec4<f32>(); var c27p = vec4<f32>(); var c27q = vec4<f32>();
  var c28p = vec4<f32>(); var c28q = vec4<f32>(); var c29p = vec4<f32>(); var c29q = vec4<f32>();
  var c30p = vec4<f32>(); var c30q = vec4<f32>(); var c31p = vec4<f32>(); var c31q = vec4<f32>();
  for (var k = k0; k < k1; k += 4u) {
    let a = load_a(from_a, m, k);
    var e: mat4x4<f32>;
    if (ROWS > 16u) {
      e = load_a(from_e, m + 16u, k);
    }
    let wp = load_b(from_p, n, k);
    let wq = load_b(from_q, n + 16u, k);
    c0p = row(c0p, wp, a[0], 0u, a[0], 0u);
    c0q = row(c0q, wq, a[0], 0u, a[0], 0u);
    c1p = row(c1p, wp, a[0], 1u, a[1], 0u);
    c1q = row(c1q, wq, a[0], 1u, a[1], 0u);
    c2p = row(c2p, wp, a[0], 2u, a[2], 0u);
    c2q = row(c2q, wq, a[0], 2u, a[2], 0u);
    c3p = row(c3p, wp, a[0], 3u, a[3], 0u);
    c3q = row(c3q, wq, a[0], 3u, a[3], 0u);
    if (ROWS > 4u) {
      c4p = row(c4p, wp, a[1], 0u, a[0], 1u);
      c4q = row(c4q, wq, a[1], 0u, a[0], 1u);
      c5p = row(c5p, wp, a[1], 1u, a[1], 1u);
      c5q = row(c5q, wq, a[1], 1u, a[1], 1u);
      c6p = row(c6p, wp, a[1], 2u, a[2], 1u);
      c6q = row(c6q, wq, a[1], 2u, a[2], 1u);
      c7p = row(c7p, wp, a[1], 3u, a[3], 1u);
      c7q = row(c7q, wq, a[1], 3u, a[3], 1u);
    }
    if (ROWS > 8u) {
      c8p = row(c8p, wp, a[2], 0u, a[0], 2u);
      c8q = row(c8q, wq, a[2], 0u, a[0], 2u);
      c9p = row(c9p, wp, a[2], 1u, a[1], 2u);
      c9q = row(c9q, wq, a[2], 1u, a[1], 2u);
      c10p = row(c10p, wp, a[2], 2u, a[2], 2u);
      c10q = row(c10q, wq, a[2], 2u, a[2], 2u);
      c11p = row(c11p, wp, a[2], 3u, a[3], 2u);
      c11q = row(c11q, wq, a[2], 3u, a[3], 2u);
      c12p = row(c12p, wp, a[3], 0u, a[0], 3u);
      c12q = row(c12q, wq, a[3], 0u, a[0], 3u);
      c13p = row(c13p, wp, a[3], 1u, a[1], 3u);
      c13q = row(c13q, wq, a[3], 1u, a[1], 3u);
      c14p = row(c14p, wp, a[3], 2u, a[2], 3u);
      c14q = row(c14q, wq, a[3], 2u, a[2], 3u);
      c15p = row(c15p, wp, a[3], 3u, a[3], 3u);
      c15q = row(c15q, wq, a[3], 3u, a[3], 3u);
    }
    if (ROWS > 16u) {
      c16p = row(c16p, wp, e[0], 0u, e[0], 0u);
      c16q = row(c16q, wq, e[0], 0u, e[0], 0u);
      c17p = row(c17p, wp, e[0], 1u, e[1], 0u);
      c17q = row(c17q, wq, e[0], 1u, e[1], 0u);
      c18p = row(c18p, wp, e[0], 2u, e[2], 0u);
      c18q = row(c18q, wq, e[0], 2u, e[2], 0u);
      c19p = row(c19p, wp, e[0], 3u, e[3], 0u);
      c19q = row(c19q, wq, e[0], 3u, e[3], 0u);
      c20p = row(c20p, wp, e[1], 0u, e[0], 1u);
      c20q = row(c20q, wq, e[1], 0u, e[0], 1u);
      c21p = row(c21p, wp, e[1], 1u, e[1], 1u);
      c21q = row(c21q, wq, e[1], 1u, e[1], 1u);
      c22p = row(c22p, wp, e[1], 2u, e[2], 1u);
      c22q = row(c22q, wq, e[1], 2u, e[2], 1u);
      c23p = row(c23p, wp, e[1], 3u, e[3], 1u);
      c23q = row(c23q, wq, e[1], 3u, e[3], 1u);
      c24p = row(c24p, wp, e[2], 0u, e[0], 2u);
      c24q = row(c24q, wq, e[2], 0u, e[0], 2u);
      c25p = row(c25p, wp, e[2], 1u, e[1], 2u);
      c25q = row(c25q, wq, e[2], 1u, e[1], 2u);
      c26p = row(c26p, wp, e[2], 2u, e[2], 2u);
      c26q = row(c26q, wq, e[2], 2u, e[2], 2u);
      c27p = row(c27p, wp, e[2], 3u, e[3], 2u);
      c27q = row(c27q, wq, e[2], 3u, e[3], 2u);
      c28p = row(c28p, wp, e[3], 0u, e[0], 3u);
      c28q = row(c28q, wq, e[3], 0u, e[0], 3u);
      c29p = row(c29p, wp, e[3], 1u, e[1], 3u);
      c29q = row(c29q, wq, e[3], 1u, e[1], 3u);
      c30p = row(c30p, wp, e[3], 2u, e[2], 3u);
      c30q = row(c30q, wq, e[3], 2u, e[2], 3u);
      c31p = row(c31p, wp, e[3], 3u, e[3], 3u);
      c31q = row(c31q, wq, e[3], 3u, e[3], 3u);
    }
  }
  let extra_p = bias_of(n, split);
  let extra_q = bias_of(n + 16u, split);
  put(m0 + 0u, n, to, extra_p, c0p);
  put(m0 + 0u, n + 16u, to, extra_q, c0q);
  put(m0 + 1u, n, to, extra_p, c1p);
  put(m0 + 1u, n + 16u, to, extra_q, c1q);
  put(m0 + 2u, n, to, extra_p, c2p);
  put(m0 + 2u, n + 16u, to, extra_q, c2q);
  put(m0 + 3u, n, to, extra_p, c3p);
  put(m0 + 3u, n + 16u, to, extra_q, c3q);
  if (ROWS > 4u) {
    put(m0 + 4u, n, to, extra_p, c4p);
    put(m0 + 4u, n + 16u, to, extra_q, c4q);
    put(m0 + 5u, n, to, extra_p, c5p);
    put(m0 + 5u, n + 16u, to, extra_q, c5q);
    put(m0 + 6u, n, to, extra_p, c6p);
    put(m0 + 6u, n + 16u, to, extra_q, c6q);
    put(m0 + 7u, n, to, extra_p, c7p);
    put(m0 + 7u, n + 16u, to, extra_q, c7q);
  }
  if (ROWS > 8u) {
    put(m0 + 8u, n, to, extra_p, c8p);
    put(m0 + 8u, n + 16u, to, extra_q, c8q);
    put(m0 + 9u, n, to, extra_p, c9p);
    put(m0 + 9u, n + 16u, to, extra_q, c9q);
    put(m0 + 10u, n, to, extra_p, c10p);
    put(m0 + 10u, n + 16u, to, extra_q, c10q);
    put(m0 + 11u, n, to, extra_p, c11p);
    put(m0 + 11u, n + 16u, to, extra_q, c11q);
    put(m0 + 12u, n, to, extra_p, c12p);
    put(m0 + 12u, n + 16u, to, extra_q, c12q);
    put(m0 + 13u, n, to, extra_p, c13p);
    put(m0 + 13u, n + 16u, to, extra_q, c13q);
    put(m0 + 14u, n, to, extra_p, c14p);
    put(m0 + 14u, n + 16u, to, extra_q, c14q);
    put(m0 + 15u, n, to, extra_p, c15p);
    put(m0 + 15u, n + 16u, to, extra_q, c15q);
  }
  if (ROWS > 16u) {
    put(m0 + 16u, n, to, extra_p, c16p);
    put(m0 + 16u, n + 16u, to, extra_q, c16q);
    put(m0 + 17u, n, to, extra_p, c17p);
    put(m0 + 17u, n + 16u, to, extra_q, c17q);
    put(m0 + 18u, n, to, extra_p, c18p);
    put(m0 + 18u, n + 16u, to, extra_q, c18q);
    put(m0 + 19u, n, to, extra_p, c19p);
    put(m0 + 19u, n + 16u, to, extra_q, c19q);
    put(m0 + 20u, n, to, extra_p, c20p);
    put(m0 + 20u, n + 16u, to, extra_q, c20q);
    put(m0 + 21u, n, to, extra_p, c21p);
    put(m0 + 21u, n + 16u, to, extra_q, c21q);
    put(m0 + 22u, n, to, extra_p, c22p);
    put(m0 + 22u, n + 16u, to, extra_q, c22q);
    put(m0 + 23u, n, to, extra_p, c23p);
    put(m0 + 23u, n + 16u, to, extra_q, c23q);
    put(m0 + 24u, n, to, extra_p, c24p);
    put(m0 + 24u, n + 16u, to, extra_q, c24q);
    put(m0 + 25u, n, to, extra_p, c25p);
    put(m0 + 25u, n + 16u, to, extra_q, c25q);
    put(m0 + 26u, n, to, extra_p, c26p);
    put(m0 + 26u, n + 16u, to, extra_q, c26q);
    put(m0 + 27u, n, to, extra_p, c27p);
    put(m0 + 27u, n + 16u, to, extra_q, c27q);
    put(m0 + 28u, n, to, extra_p, c28p);
    put(m0 + 28u, n + 16u, to, extra_q, c28q);
    put(m0 + 29u, n, to, extra_p, c29p);
    put(m0 + 29u, n + 16u, to, extra_q, c29q);
    put(m0 + 30u, n, to, extra_p, c30p);
    put(m0 + 30u, n + 16u, to, extra_q, c30q);
    put(m0 + 31u, n, to, extra_p, c31p);
    put(m0 + 31u, n + 16u, to, extra_q, c31q);
  }
}
