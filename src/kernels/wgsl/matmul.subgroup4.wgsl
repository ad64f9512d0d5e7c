// requires: threefry, quantized, subgroup_tile
// Matrix product for software devices whose subgroups have 4 lanes (SwiftShader). Not for GPUs.
// Formula, shapes and switches as in matmul.naive.wgsl.
//
// A workgroup is one subgroup and computes ROWS × 32 elements of y, in registers: a lane owns
// 4 neighbouring columns in each half of 16. For every 4 terms of the sum, each lane loads 8 vectors of a and of b; a
// shuffle from a constant lane then hands a row of a to all lanes. A load costs as much as a hundred
// multiply-adds here, because the device does it lane by lane: so each loaded vector is used 32
// times, there is no workgroup memory and no barrier, and all is unrolled by hand, since an array of
// registers in a loop would be kept in memory (5 times slower). What is done once a tile is a loop over its
// rows that no compiler can unroll: 32 stores in the text took it three times as long.
enable subgroups;

override TRANSPOSE_A: bool = false;
override TRANSPOSE_B: bool = false;
override TRANSPOSE_Q: bool = false;
override WIDE_A: bool = true; // stored rows of a are whole vec4
override WIDE_B: bool = true; // stored rows of b are whole vec4, or four packed values
override WIDE_TAIL: bool = true; // stored rows of p and q are whole vec4
override WIDE_Y: bool = true; // rows of y are whole vec4, and y is not transposed
override RAGGED_K: bool = false; // K is no multiple of 4
override DTYPE_B: u32 = 0; // 0 f32, 1 f16, 2 bf16, 3 int8, 4 nf4
override ROWS: u32 = 32; // 4, 8, 16 or 32
override TAIL: bool = false;
override DROP: u32 = 0; // 0 nothing, 1 b, 2 the tail
const LANES: u32 = 4; // of a subgroup

struct Params {
  M: u32,
  N: u32,
  K: u32,
  R: u32, // terms of the tail
  k_slice: u32, // terms of the sum in each split, a multiple of 4
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

// a, b and y are each bound in the widths in which they may be used.
@group(0) @binding(0) var<storage> a4: array<vec4<f32>>;
@group(0) @binding(1) var<storage> a1: array<f32>;
@group(0) @binding(2) var<storage> b4: array<vec4<f32>>;
@group(0) @binding(3) var<storage> b2: array<vec2<u32>>;
@group(0) @binding(4) var<storage> b1: array<u32>;
@group(0) @binding(5) var<storage> p: array<vec4<f32>>;
@group(0) @binding(6) var<storage> q: array<vec4<f32>>;
@group(0) @binding(7) var<storage> bias: array<f32>;
@group(0) @binding(8) var<storage, read_write> y4: array<vec4<f32>>;
@group(0) @binding(9) var<storage, read_write> y1: array<f32>;
var<immediate> params: Params;
var<private> key: vec2<u32>; // of the matrix's dropout

// The lane's vectors of a for the terms k to k + 3. Straight: rows m, m + 4, …; `start` has the first
// elements of these rows. Transposed: the four rows from m on.
fn load_a(start: vec4<u32>, m: u32, k: u32) -> mat4x4<f32> {
  if (TRANSPOSE_A) {
    let at = start.x + k * params.M;
    return transpose(mat4x4<f32>(
      read_a(at, left_of(m, params.M, k, params.K)),
      read_a(at + params.M, left_of(m, params.M, k + 1u, params.K)),
      read_a(at + 2u * params.M, left_of(m, params.M, k + 2u, params.K)),
      read_a(at + 3u * params.M, left_of(m, params.M, k + 3u, params.K)),
    ));
  }
  return load_rows(start, k);
}

// The lane's part of y: left and right half.
struct Tile {
  c0l: vec4<f32>,
  c0r: vec4<f32>,
  c1l: vec4<f32>,
  c1r: vec4<f32>,
  c2l: vec4<f32>,
  c2r: vec4<f32>,
  c3l: vec4<f32>,
  c3r: vec4<f32>,
  c4l: vec4<f32>,
  c4r: vec4<f32>,
  c5l: vec4<f32>,
  c5r: vec4<f32>,
  c6l: vec4<f32>,
  c6r: vec4<f32>,
  c7l: vec4<f32>,
  c7r: vec4<f32>,
  c8l: vec4<f32>,
  c8r: vec4<f32>,
  c9l: vec4<f32>,
  c9r: vec4<f32>,
  c10l: vec4<f32>,
  c10r: vec4<f32>,
  c11l: vec4<f32>,
  c11r: vec4<f32>,
  c12l: vec4<f32>,
  c12r: vec4<f32>,
  c13l: vec4<f32>,
  c13r: vec4<f32>,
  c14l: vec4<f32>,
  c14r: vec4<f32>,
  c15l: vec4<f32>,
  c15r: vec4<f32>,
  c16l: vec4<f32>,
  c16r: vec4<f32>,
  c17l: vec4<f32>,
  c17r: vec4<f32>,
  c18l: vec4<f32>,
  c18r: vec4<f32>,
  c19l: vec4<f32>,
  c19r: vec4<f32>,
  c20l: vec4<f32>,
  c20r: vec4<f32>,
  c21l: vec4<f32>,
  c21r: vec4<f32>,
  c22l: vec4<f32>,
  c22r: vec4<f32>,
  c23l: vec4<f32>,
  c23r: vec4<f32>,
  c24l: vec4<f32>,
  c24r: vec4<f32>,
  c25l: vec4<f32>,
  c25r: vec4<f32>,
  c26l: vec4<f32>,
  c26r: vec4<f32>,
  c27l: vec4<f32>,
  c27r: vec4<f32>,
  c28l: vec4<f32>,
  c28r: vec4<f32>,
  c29l: vec4<f32>,
  c29r: vec4<f32>,
  c30l: vec4<f32>,
  c30r: vec4<f32>,
  c31l: vec4<f32>,
  c31r: vec4<f32>,
}

// Four terms of the sum: rows of a in a and e, columns of b in w and x.
fn step(c: ptr<function, Tile>, a: mat4x4<f32>, e: mat4x4<f32>, w: mat4x4<f32>, x: mat4x4<f32>, is_turned: bool) {
  (*c).c0l = row((*c).c0l, w, a[0], 0u, a[0], 0u, is_turned);
  (*c).c0r = row((*c).c0r, x, a[0], 0u, a[0], 0u, is_turned);
  (*c).c1l = row((*c).c1l, w, a[0], 1u, a[1], 0u, is_turned);
  (*c).c1r = row((*c).c1r, x, a[0], 1u, a[1], 0u, is_turned);
  (*c).c2l = row((*c).c2l, w, a[0], 2u, a[2], 0u, is_turned);
  (*c).c2r = row((*c).c2r, x, a[0], 2u, a[2], 0u, is_turned);
  (*c).c3l = row((*c).c3l, w, a[0], 3u, a[3], 0u, is_turned);
  (*c).c3r = row((*c).c3r, x, a[0], 3u, a[3], 0u, is_turned);
  if (ROWS > 4u) {
    (*c).c4l = row((*c).c4l, w, a[1], 0u, a[0], 1u, is_turned);
    (*c).c4r = row((*c).c4r, x, a[1], 0u, a[0], 1u, is_turned);
    (*c).c5l = row((*c).c5l, w, a[1], 1u, a[1], 1u, is_turned);
    (*c).c5r = row((*c).c5r, x, a[1], 1u, a[1], 1u, is_turned);
    (*c).c6l = row((*c).c6l, w, a[1], 2u, a[2], 1u, is_turned);
    (*c).c6r = row((*c).c6r, x, a[1], 2u, a[2], 1u, is_turned);
    (*c).c7l = row((*c).c7l, w, a[1], 3u, a[3], 1u, is_turned);
    (*c).c7r = row((*c).c7r, x, a[1], 3u, a[3], 1u, is_turned);
  }
  if (ROWS > 8u) {
    (*c).c8l = row((*c).c8l, w, a[2], 0u, a[0], 2u, is_turned);
    (*c).c8r = row((*c).c8r, x, a[2], 0u, a[0], 2u, is_turned);
    (*c).c9l = row((*c).c9l, w, a[2], 1u, a[1], 2u, is_turned);
    (*c).c9r = row((*c).c9r, x, a[2], 1u, a[1], 2u, is_turned);
    (*c).c10l = row((*c).c10l, w, a[2], 2u, a[2], 2u, is_turned);
    (*c).c10r = row((*c).c10r, x, a[2], 2u, a[2], 2u, is_turned);
    (*c).c11l = row((*c).c11l, w, a[2], 3u, a[3], 2u, is_turned);
    (*c).c11r = row((*c).c11r, x, a[2], 3u, a[3], 2u, is_turned);
    (*c).c12l = row((*c).c12l, w, a[3], 0u, a[0], 3u, is_turned);
    (*c).c12r = row((*c).c12r, x, a[3], 0u, a[0], 3u, is_turned);
    (*c).c13l = row((*c).c13l, w, a[3], 1u, a[1], 3u, is_turned);
    (*c).c13r = row((*c).c13r, x, a[3], 1u, a[1], 3u, is_turned);
    (*c).c14l = row((*c).c14l, w, a[3], 2u, a[2], 3u, is_turned);
    (*c).c14r = row((*c).c14r, x, a[3], 2u, a[2], 3u, is_turned);
    (*c).c15l = row((*c).c15l, w, a[3], 3u, a[3], 3u, is_turned);
    (*c).c15r = row((*c).c15r, x, a[3], 3u, a[3], 3u, is_turned);
  }
  if (ROWS > 16u) {
    (*c).c16l = row((*c).c16l, w, e[0], 0u, e[0], 0u, is_turned);
    (*c).c16r = row((*c).c16r, x, e[0], 0u, e[0], 0u, is_turned);
    (*c).c17l = row((*c).c17l, w, e[0], 1u, e[1], 0u, is_turned);
    (*c).c17r = row((*c).c17r, x, e[0], 1u, e[1], 0u, is_turned);
    (*c).c18l = row((*c).c18l, w, e[0], 2u, e[2], 0u, is_turned);
    (*c).c18r = row((*c).c18r, x, e[0], 2u, e[2], 0u, is_turned);
    (*c).c19l = row((*c).c19l, w, e[0], 3u, e[3], 0u, is_turned);
    (*c).c19r = row((*c).c19r, x, e[0], 3u, e[3], 0u, is_turned);
    (*c).c20l = row((*c).c20l, w, e[1], 0u, e[0], 1u, is_turned);
    (*c).c20r = row((*c).c20r, x, e[1], 0u, e[0], 1u, is_turned);
    (*c).c21l = row((*c).c21l, w, e[1], 1u, e[1], 1u, is_turned);
    (*c).c21r = row((*c).c21r, x, e[1], 1u, e[1], 1u, is_turned);
    (*c).c22l = row((*c).c22l, w, e[1], 2u, e[2], 1u, is_turned);
    (*c).c22r = row((*c).c22r, x, e[1], 2u, e[2], 1u, is_turned);
    (*c).c23l = row((*c).c23l, w, e[1], 3u, e[3], 1u, is_turned);
    (*c).c23r = row((*c).c23r, x, e[1], 3u, e[3], 1u, is_turned);
    (*c).c24l = row((*c).c24l, w, e[2], 0u, e[0], 2u, is_turned);
    (*c).c24r = row((*c).c24r, x, e[2], 0u, e[0], 2u, is_turned);
    (*c).c25l = row((*c).c25l, w, e[2], 1u, e[1], 2u, is_turned);
    (*c).c25r = row((*c).c25r, x, e[2], 1u, e[1], 2u, is_turned);
    (*c).c26l = row((*c).c26l, w, e[2], 2u, e[2], 2u, is_turned);
    (*c).c26r = row((*c).c26r, x, e[2], 2u, e[2], 2u, is_turned);
    (*c).c27l = row((*c).c27l, w, e[2], 3u, e[3], 2u, is_turned);
    (*c).c27r = row((*c).c27r, x, e[2], 3u, e[3], 2u, is_turned);
    (*c).c28l = row((*c).c28l, w, e[3], 0u, e[0], 3u, is_turned);
    (*c).c28r = row((*c).c28r, x, e[3], 0u, e[0], 3u, is_turned);
    (*c).c29l = row((*c).c29l, w, e[3], 1u, e[1], 3u, is_turned);
    (*c).c29r = row((*c).c29r, x, e[3], 1u, e[1], 3u, is_turned);
    (*c).c30l = row((*c).c30l, w, e[3], 2u, e[2], 3u, is_turned);
    (*c).c30r = row((*c).c30r, x, e[3], 2u, e[2], 3u, is_turned);
    (*c).c31l = row((*c).c31l, w, e[3], 3u, e[3], 3u, is_turned);
    (*c).c31r = row((*c).c31r, x, e[3], 3u, e[3], 3u, is_turned);
  }
}

fn drop_all(c: ptr<function, Tile>, left: vec4<u32>, right: vec4<u32>) {
  (*c).c0l = dropped((*c).c0l, left, 0u);
  (*c).c0r = dropped((*c).c0r, right, 0u);
  (*c).c1l = dropped((*c).c1l, left, 1u);
  (*c).c1r = dropped((*c).c1r, right, 1u);
  (*c).c2l = dropped((*c).c2l, left, 2u);
  (*c).c2r = dropped((*c).c2r, right, 2u);
  (*c).c3l = dropped((*c).c3l, left, 3u);
  (*c).c3r = dropped((*c).c3r, right, 3u);
  if (ROWS > 4u) {
    (*c).c4l = dropped((*c).c4l, left, 4u);
    (*c).c4r = dropped((*c).c4r, right, 4u);
    (*c).c5l = dropped((*c).c5l, left, 5u);
    (*c).c5r = dropped((*c).c5r, right, 5u);
    (*c).c6l = dropped((*c).c6l, left, 6u);
    (*c).c6r = dropped((*c).c6r, right, 6u);
    (*c).c7l = dropped((*c).c7l, left, 7u);
    (*c).c7r = dropped((*c).c7r, right, 7u);
  }
  if (ROWS > 8u) {
    (*c).c8l = dropped((*c).c8l, left, 8u);
    (*c).c8r = dropped((*c).c8r, right, 8u);
    (*c).c9l = dropped((*c).c9l, left, 9u);
    (*c).c9r = dropped((*c).c9r, right, 9u);
    (*c).c10l = dropped((*c).c10l, left, 10u);
    (*c).c10r = dropped((*c).c10r, right, 10u);
    (*c).c11l = dropped((*c).c11l, left, 11u);
    (*c).c11r = dropped((*c).c11r, right, 11u);
    (*c).c12l = dropped((*c).c12l, left, 12u);
    (*c).c12r = dropped((*c).c12r, right, 12u);
    (*c).c13l = dropped((*c).c13l, left, 13u);
    (*c).c13r = dropped((*c).c13r, right, 13u);
    (*c).c14l = dropped((*c).c14l, left, 14u);
    (*c).c14r = dropped((*c).c14r, right, 14u);
    (*c).c15l = dropped((*c).c15l, left, 15u);
    (*c).c15r = dropped((*c).c15r, right, 15u);
  }
  if (ROWS > 16u) {
    (*c).c16l = dropped((*c).c16l, left, 16u);
    (*c).c16r = dropped((*c).c16r, right, 16u);
    (*c).c17l = dropped((*c).c17l, left, 17u);
    (*c).c17r = dropped((*c).c17r, right, 17u);
    (*c).c18l = dropped((*c).c18l, left, 18u);
    (*c).c18r = dropped((*c).c18r, right, 18u);
    (*c).c19l = dropped((*c).c19l, left, 19u);
    (*c).c19r = dropped((*c).c19r, right, 19u);
    (*c).c20l = dropped((*c).c20l, left, 20u);
    (*c).c20r = dropped((*c).c20r, right, 20u);
    (*c).c21l = dropped((*c).c21l, left, 21u);
    (*c).c21r = dropped((*c).c21r, right, 21u);
    (*c).c22l = dropped((*c).c22l, left, 22u);
    (*c).c22r = dropped((*c).c22r, right, 22u);
    (*c).c23l = dropped((*c).c23l, left, 23u);
    (*c).c23r = dropped((*c).c23r, right, 23u);
    (*c).c24l = dropped((*c).c24l, left, 24u);
    (*c).c24r = dropped((*c).c24r, right, 24u);
    (*c).c25l = dropped((*c).c25l, left, 25u);
    (*c).c25r = dropped((*c).c25r, right, 25u);
    (*c).c26l = dropped((*c).c26l, left, 26u);
    (*c).c26r = dropped((*c).c26r, right, 26u);
    (*c).c27l = dropped((*c).c27l, left, 27u);
    (*c).c27r = dropped((*c).c27r, right, 27u);
    (*c).c28l = dropped((*c).c28l, left, 28u);
    (*c).c28r = dropped((*c).c28r, right, 28u);
    (*c).c29l = dropped((*c).c29l, left, 29u);
    (*c).c29r = dropped((*c).c29r, right, 29u);
    (*c).c30l = dropped((*c).c30l, left, 30u);
    (*c).c30r = dropped((*c).c30r, right, 30u);
    (*c).c31l = dropped((*c).c31l, left, 31u);
    (*c).c31r = dropped((*c).c31r, right, 31u);
  }
}

@compute @workgroup_size(4)
fn matmul_subgroup4(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let batch = group.z / params.splits;
  key = vec2(params.key0, params.key1 + batch);
  let m0 = group.x * ROWS;
  let n = group.y * 32u + 4u * lane;
  let split = group.z % params.splits;
  let to = group.z * params.M * params.N;
  let m = m0 + select(lane, 4u * lane, TRANSPOSE_A);
  var c: Tile;
  if (TAIL && split == 0u) {
    let from_p = starts_of_rows(0u, params.R, m0 + lane);
    let from_pe = starts_of_rows(0u, params.R, m0 + lane + 16u);
    let from_q = starts_of_columns(0u, params.R, n, TRANSPOSE_Q, WIDE_TAIL);
    let from_qx = starts_of_columns(0u, params.R, n + 16u, TRANSPOSE_Q, WIDE_TAIL);
    for (var k = 0u; k < params.R; k += 4u) {
      var e: mat4x4<f32>;
      if (ROWS > 16u) {
        e = load_p(from_pe, k);
      }
      step(&c, load_p(from_p, k), e, load_q(from_q, n, k), load_q(from_qx, n + 16u, k), false);
    }
    if (DROP == 2u) {
      drop_all(&c, kept_rows(m0, n), kept_rows(m0, n + 16u));
    }
  }
  let from_a = starts_of_a(batch * params.a_batch, m);
  let from_e = starts_of_a(batch * params.a_batch, m + 16u);
  let from_b = starts_of_columns(batch * params.b_batch, params.K, n, TRANSPOSE_B, WIDE_B);
  let from_x = starts_of_columns(batch * params.b_batch, params.K, n + 16u, TRANSPOSE_B, WIDE_B);
  let k1 = min((split + 1u) * params.k_slice, params.K);
  for (var k = split * params.k_slice; k < k1; k += 4u) {
    var e: mat4x4<f32>;
    if (ROWS > 16u) {
      e = load_a(from_e, m + 16u, k);
    }
    step(&c, load_a(from_a, m, k), e, load_b(from_b, n, k), load_b(from_x, n + 16u, k), TRANSPOSE_A);
  }
  let left = bias_of(n, split);
  let right = bias_of(n + 16u, split);
  var left_rows = array<vec4<f32>, 32>(
    c.c0l, c.c1l, c.c2l, c.c3l, c.c4l, c.c5l, c.c6l, c.c7l,
    c.c8l, c.c9l, c.c10l, c.c11l, c.c12l, c.c13l, c.c14l, c.c15l,
    c.c16l, c.c17l, c.c18l, c.c19l, c.c20l, c.c21l, c.c22l, c.c23l,
    c.c24l, c.c25l, c.c26l, c.c27l, c.c28l, c.c29l, c.c30l, c.c31l,
  );
  var right_rows = array<vec4<f32>, 32>(
    c.c0r, c.c1r, c.c2r, c.c3r, c.c4r, c.c5r, c.c6r, c.c7r,
    c.c8r, c.c9r, c.c10r, c.c11r, c.c12r, c.c13r, c.c14r, c.c15r,
    c.c16r, c.c17r, c.c18r, c.c19r, c.c20r, c.c21r, c.c22r, c.c23r,
    c.c24r, c.c25r, c.c26r, c.c27r, c.c28r, c.c29r, c.c30r, c.c31r,
  );
  var i = 0u;
  loop {
    put(m0 + i, n, to, left, left_rows[i]);
    put(m0 + i, n + 16u, to, right, right_rows[i]);
    i += 1u;
    if (i >= ROWS || m0 + i >= params.M) {
      break;
    }
  }
}
