// requires: threefry, quantized
// Matrix product on tensor cores: a, b, p and q rounded to f16, sums in f32. Formula, shapes and
// switches as in matmul.naive.wgsl.
//
// A workgroup of 4 subgroups of 32 computes 128 × 128 elements of y; a subgroup 64 × 64 of them, as 4 × 4
// fragments of 16 × 16. For every 32 terms of the sum the threads bring both operands into workgroup
// memory, neighbours reading neighbours in memory, and in the order in which they are stored: the
// fragments' loads turn them. A pitch of 40 or 136 halves keeps the banks apart and rows at 16 bytes.
enable f16;
enable chromium_experimental_subgroup_matrix;
diagnostic(off, chromium.subgroup_matrix_uniformity);

override TRANSPOSE_A: bool = false;
override TRANSPOSE_B: bool = false;
override TRANSPOSE_Q: bool = false;
override WIDE_A: bool = true; // stored rows of a are whole vec4
override WIDE_B: bool = true; // stored rows of b are whole vec4, or four packed values
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

@group(0) @binding(0) var<storage> a: array<vec4<f32>>;
@group(0) @binding(1) var<storage> b: array<vec4<u32>>; // four f32, or eight halves
@group(0) @binding(2) var<storage> p: array<f32>;
@group(0) @binding(3) var<storage> q: array<f32>;
@group(0) @binding(4) var<storage> bias: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
var<immediate> params: Params;
var<private> key: vec2<u32>; // of the matrix's dropout

alias Left = subgroup_matrix_left<f16, 16, 16>;
alias Right = subgroup_matrix_right<f16, 16, 16>;
alias Sum = subgroup_matrix_result<f32, 16, 16>;

const ALONG_K: u32 = 10; // vec4 from a row of 32 terms to the next
const ACROSS: u32 = 34; // vec4 from a term's 128 rows or columns to the next term's

var<workgroup> tile_a: array<vec4<f16>, 1280>;
var<workgroup> tile_b: array<vec4<f16>, 1280>;
var<workgroup> scratch: array<f32, 1024>; // a fragment of each subgroup

fn kept(at: u32) -> bool {
  let words = draws(at / 4u, key);
  return words[at % 4u] >= params.threshold;
}

fn unpack(word: u32) -> vec2<f32> {
  if (DTYPE_B == 1u) {
    return unpack2x16float(word);
  }
  return bitcast<vec2<f32>>(vec2(word << 16u, word & 0xffff0000u));
}

fn quantized_word(i: u32) -> u32 {
  return b[i / 4u][i % 4u];
}

fn b_at(at: u32) -> f32 {
  if (DTYPE_B == 0u) {
    return bitcast<f32>(b[at / 4u][at % 4u]);
  }
  if (DTYPE_B >= 3u) {
    return quantized_element(at, at / select(params.N, params.K, TRANSPOSE_B), params.N * params.K, DTYPE_B == 4u);
  }
  return unpack(b[at / 8u][(at / 2u) % 4u])[at % 2u];
}

// Four neighbours from element `at` on, of which the first `left` belong to the matrix; 0 for the others.
fn read_a(at: u32, left: u32) -> vec4<f32> {
  if (left == 0u) {
    return vec4<f32>();
  }
  if (WIDE_A) {
    return a[at / 4u];
  }
  var v: vec4<f32>;
  for (var j = 0u; j < min(left, 4u); j++) {
    v[j] = a[(at + j) / 4u][(at + j) % 4u];
  }
  return v;
}

fn read_b(at: u32, left: u32) -> vec4<f32> {
  if (left == 0u) {
    return vec4<f32>();
  }
  var v: vec4<f32>;
  if (WIDE_B && DTYPE_B == 0u) {
    v = bitcast<vec4<f32>>(b[at / 4u]);
  } else if (WIDE_B && DTYPE_B >= 3u) {
    let row = at / select(params.N, params.K, TRANSPOSE_B);
    v = quantized_scale(at, row, params.N * params.K, DTYPE_B == 4u) * quantized_codes(at, DTYPE_B == 4u);
  } else if (WIDE_B) {
    let words = b[at / 8u];
    let pair = select(words.xy, words.zw, at % 8u == 4u);
    v = vec4(unpack(pair.x), unpack(pair.y));
  } else {
    for (var j = 0u; j < min(left, 4u); j++) {
      v[j] = b_at(at + j);
    }
  }
  if (DROP == 1u) {
    for (var j = 0u; j < min(left, 4u); j++) {
      v[j] = select(0.0, params.keep * v[j], kept(at + j));
    }
  }
  return v;
}

// Quad i of a tile of 128 lines and 32 terms: line and term, four terms or four lines together.
fn place(i: u32, across: bool) -> vec2<u32> {
  return select(vec2(i / 8u, 4u * (i % 8u)), vec2(4u * (i % 32u), i / 32u), across);
}

fn slot(at: vec2<u32>, across: bool) -> u32 {
  return select(at.x * ALONG_K + at.y / 4u, at.y * ACROSS + at.x / 4u, across);
}

fn left_below(at: u32, end: u32, inside: bool) -> u32 {
  return select(0u, end - min(at, end), inside);
}

fn stage(base_a: u32, base_b: u32, m0: u32, n0: u32, k0: u32, end: u32, thread: u32) {
  for (var i = thread; i < 1024u; i += 128u) {
    let at_a = place(i, TRANSPOSE_A);
    let m = m0 + at_a.x;
    let ka = k0 + at_a.y;
    if (TRANSPOSE_A) {
      tile_a[slot(at_a, true)] = vec4<f16>(read_a(base_a + ka * params.M + m, left_below(m, params.M, ka < end)));
    } else {
      tile_a[slot(at_a, false)] = vec4<f16>(read_a(base_a + m * params.K + ka, left_below(ka, end, m < params.M)));
    }
    let at_b = place(i, !TRANSPOSE_B);
    let n = n0 + at_b.x;
    let kb = k0 + at_b.y;
    if (TRANSPOSE_B) {
      tile_b[slot(at_b, false)] = vec4<f16>(read_b(base_b + n * params.K + kb, left_below(kb, end, n < params.N)));
    } else {
      tile_b[slot(at_b, true)] = vec4<f16>(read_b(base_b + kb * params.N + n, left_below(n, params.N, kb < end)));
    }
  }
}

// The tail's tiles, in the order of a straight a and of a transposed b.
fn stage_tail(m0: u32, n0: u32, k0: u32, thread: u32) {
  for (var i = thread; i < 1024u; i += 128u) {
    let at = place(i, false);
    var v: vec4<f32>;
    var w: vec4<f32>;
    for (var j = 0u; j < 4u; j++) {
      let r = k0 + at.y + j;
      if (r < params.R && m0 + at.x < params.M) {
        v[j] = p[(m0 + at.x) * params.R + r];
      }
      if (r < params.R && n0 + at.x < params.N) {
        w[j] = q[select(r * params.N + n0 + at.x, (n0 + at.x) * params.R + r, TRANSPOSE_Q)];
      }
    }
    tile_a[slot(at, false)] = vec4<f16>(v);
    tile_b[slot(at, false)] = vec4<f16>(w);
  }
}

fn left_fragment(m: u32, k: u32, across: bool) -> Left {
  if (across) {
    return subgroupMatrixLoad<Left, col_major>(&tile_a, k * ACROSS + m / 4u, ACROSS);
  }
  return subgroupMatrixLoad<Left, row_major>(&tile_a, m * ALONG_K + k / 4u, ALONG_K);
}

fn right_fragment(k: u32, n: u32, across: bool) -> Right {
  if (across) {
    return subgroupMatrixLoad<Right, row_major>(&tile_b, k * ACROSS + n / 4u, ACROSS);
  }
  return subgroupMatrixLoad<Right, col_major>(&tile_b, n * ALONG_K + k / 4u, ALONG_K);
}

// The 32 terms of the staged tiles, for the subgroup's 64 × 64 from (m, n) of the tile on.
fn multiply(c: ptr<function, array<Sum, 16>>, m: u32, n: u32, across_a: bool, across_b: bool) {
  for (var k = 0u; k < 32u; k += 16u) {
    var w: array<Right, 4>;
    for (var j = 0u; j < 4u; j++) {
      w[j] = right_fragment(k, n + 16u * j, across_b);
    }
    for (var i = 0u; i < 4u; i++) {
      let v = left_fragment(m + 16u * i, k, across_a);
      for (var j = 0u; j < 4u; j++) {
        (*c)[4u * i + j] = subgroupMatrixMultiplyAccumulate(v, w[j], (*c)[4u * i + j]);
      }
    }
  }
}

fn put(m: u32, n: u32, to: u32, split: u32, c: f32) {
  if (m >= params.M || n >= params.N) {
    return;
  }
  let at = to + select(m * params.N + n, n * params.M + m, params.transpose_y == 1u);
  var value = params.alpha * c;
  if (params.has_bias == 1u && split == 0u) {
    value += bias[n];
  }
  if (params.accumulate == 1u) {
    value += y[at];
  }
  y[at] = value;
}

@compute @workgroup_size(128)
fn matmul_subgroup_matrix(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
  @builtin(subgroup_id) subgroup: u32,
  @builtin(subgroup_invocation_id) lane: u32,
) {
  let batch = group.z / params.splits;
  key = vec2(params.key0, params.key1 + batch);
  let split = group.z % params.splits;
  let m0 = group.x * 128u;
  let n0 = group.y * 128u;
  let m = 64u * (subgroup / 2u);
  let n = 64u * (subgroup % 2u);
  let own = 256u * subgroup;
  var c: array<Sum, 16>;
  if (TAIL && split == 0u) {
    for (var k0 = 0u; k0 < params.R; k0 += 32u) {
      stage_tail(m0, n0, k0, thread);
      workgroupBarrier();
      multiply(&c, m, n, false, false);
      workgroupBarrier();
    }
    if (DROP == 2u) {
      for (var f = 0u; f < 16u; f++) {
        subgroupMatrixStore<row_major>(&scratch, own, c[f], 16u);
        workgroupBarrier();
        for (var i = lane; i < 256u; i += 32u) {
          let at = (m0 + m + 16u * (f / 4u) + i / 16u) * params.N + n0 + n + 16u * (f % 4u) + i % 16u;
          scratch[own + i] = select(0.0, params.keep * scratch[own + i], kept(at));
        }
        workgroupBarrier();
        c[f] = subgroupMatrixLoad<Sum, row_major>(&scratch, own, 16u);
        workgroupBarrier();
      }
    }
  }
  let end = min((split + 1u) * params.k_slice, params.K);
  for (var k0 = split * params.k_slice; k0 < end; k0 += 32u) {
    stage(batch * params.a_batch, batch * params.b_batch, m0, n0, k0, end, thread);
    workgroupBarrier();
    multiply(&c, m, n, TRANSPOSE_A, !TRANSPOSE_B);
    workgroupBarrier();
  }
  let to = group.z * params.M * params.N;
  for (var f = 0u; f < 16u; f++) {
    subgroupMatrixStore<row_major>(&scratch, own, c[f], 16u);
    workgroupBarrier();
    for (var i = lane; i < 256u; i += 32u) {
      put(m0 + m + 16u * (f / 4u) + i / 16u, n0 + n + 16u * (f % 4u) + i % 16u, to, split, scratch[own + i]);
    }
    workgroupBarrier();
  }
}
