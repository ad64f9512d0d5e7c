// requires: threefry, quantized, subgroup_tile
// Matrix product for software devices whose subgroups have 8 lanes (lavapipe). Not for GPUs.
// Formula, shapes and switches as in matmul.naive.wgsl.
//
// A workgroup is one subgroup and computes ROWS × 32 elements of y, in registers: a lane owns
// 4 neighbouring columns. For every 4 terms of the sum, each lane loads 4 vectors of a and of b; a
// shuffle from a constant lane then hands a row of a to all lanes. A load costs as much as a hundred
// multiply-adds here, because the device does it lane by lane: so each loaded vector is used 32
// times, there is no workgroup memory and no barrier, and all is unrolled by hand, since an array of
// registers in a loop would be kept in memory (5 times slower). Loops ask at their ends whether to go on: one
// that asks at its start costs lavapipe a last round with all lanes masked, a fifth of a tail of r = 16. What is
// done once a tile is a loop over its rows that no compiler can unroll: 32 stores in the text took it 5 s, not 1.
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
const LANES: u32 = 8; // of a subgroup

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

// Four rows of a transposed a from m on, for one term.
fn read_turned(start: u32, m: u32, term: u32) -> vec4<f32> {
  return read_a(start + term * params.M, left_of(m, params.M, term, params.K));
}

// The lane's vectors of a for the terms k to k + 3. Straight: rows m, m + 8, …; `start` has the first
// elements of these rows. Transposed: the four rows from m on. A tile of 16 rows or less has fewer such fours than
// lanes: then the lanes load several terms at once, and shuffles hand them out.
fn load_a(start: vec4<u32>, m: u32, k: u32, lane: u32) -> mat4x4<f32> {
  if (TRANSPOSE_A && ROWS == 32u) {
    return transpose(mat4x4<f32>(
      read_turned(start.x, m, k),
      read_turned(start.x, m, k + 1u),
      read_turned(start.x, m, k + 2u),
      read_turned(start.x, m, k + 3u),
    ));
  }
  if (TRANSPOSE_A && ROWS == 16u) {
    let near = read_turned(start.x, m, k + lane / 4u);
    let far = read_turned(start.x, m, k + 2u + lane / 4u);
    return transpose(mat4x4<f32>(
      subgroupShuffle(near, lane % 4u),
      subgroupShuffle(near, 4u + lane % 4u),
      subgroupShuffle(far, lane % 4u),
      subgroupShuffle(far, 4u + lane % 4u),
    ));
  }
  if (TRANSPOSE_A) {
    let fours = ROWS / 4u;
    let all = read_turned(start.x, m, k + lane / fours % 4u);
    return transpose(mat4x4<f32>(
      subgroupShuffle(all, lane % fours),
      subgroupShuffle(all, fours + lane % fours),
      subgroupShuffle(all, 2u * fours + lane % fours),
      subgroupShuffle(all, 3u * fours + lane % fours),
    ));
  }
  return load_rows(start, k);
}

// The lane's part of y.
struct Tile {
  c0: vec4<f32>,
  c1: vec4<f32>,
  c2: vec4<f32>,
  c3: vec4<f32>,
  c4: vec4<f32>,
  c5: vec4<f32>,
  c6: vec4<f32>,
  c7: vec4<f32>,
  c8: vec4<f32>,
  c9: vec4<f32>,
  c10: vec4<f32>,
  c11: vec4<f32>,
  c12: vec4<f32>,
  c13: vec4<f32>,
  c14: vec4<f32>,
  c15: vec4<f32>,
  c16: vec4<f32>,
  c17: vec4<f32>,
  c18: vec4<f32>,
  c19: vec4<f32>,
  c20: vec4<f32>,
  c21: vec4<f32>,
  c22: vec4<f32>,
  c23: vec4<f32>,
  c24: vec4<f32>,
  c25: vec4<f32>,
  c26: vec4<f32>,
  c27: vec4<f32>,
  c28: vec4<f32>,
  c29: vec4<f32>,
  c30: vec4<f32>,
  c31: vec4<f32>,
}

// Four terms of the sum.
fn step(c: ptr<function, Tile>, a: mat4x4<f32>, w: mat4x4<f32>, is_turned: bool) {
  (*c).c0 = row((*c).c0, w, a[0], 0u, a[0], 0u, is_turned);
  (*c).c1 = row((*c).c1, w, a[0], 1u, a[1], 0u, is_turned);
  (*c).c2 = row((*c).c2, w, a[0], 2u, a[2], 0u, is_turned);
  (*c).c3 = row((*c).c3, w, a[0], 3u, a[3], 0u, is_turned);
  if (ROWS > 4u) {
    (*c).c4 = row((*c).c4, w, a[0], 4u, a[0], 1u, is_turned);
    (*c).c5 = row((*c).c5, w, a[0], 5u, a[1], 1u, is_turned);
    (*c).c6 = row((*c).c6, w, a[0], 6u, a[2], 1u, is_turned);
    (*c).c7 = row((*c).c7, w, a[0], 7u, a[3], 1u, is_turned);
  }
  if (ROWS > 8u) {
    (*c).c8 = row((*c).c8, w, a[1], 0u, a[0], 2u, is_turned);
    (*c).c9 = row((*c).c9, w, a[1], 1u, a[1], 2u, is_turned);
    (*c).c10 = row((*c).c10, w, a[1], 2u, a[2], 2u, is_turned);
    (*c).c11 = row((*c).c11, w, a[1], 3u, a[3], 2u, is_turned);
    (*c).c12 = row((*c).c12, w, a[1], 4u, a[0], 3u, is_turned);
    (*c).c13 = row((*c).c13, w, a[1], 5u, a[1], 3u, is_turned);
    (*c).c14 = row((*c).c14, w, a[1], 6u, a[2], 3u, is_turned);
    (*c).c15 = row((*c).c15, w, a[1], 7u, a[3], 3u, is_turned);
  }
  if (ROWS > 16u) {
    (*c).c16 = row((*c).c16, w, a[2], 0u, a[0], 4u, is_turned);
    (*c).c17 = row((*c).c17, w, a[2], 1u, a[1], 4u, is_turned);
    (*c).c18 = row((*c).c18, w, a[2], 2u, a[2], 4u, is_turned);
    (*c).c19 = row((*c).c19, w, a[2], 3u, a[3], 4u, is_turned);
    (*c).c20 = row((*c).c20, w, a[2], 4u, a[0], 5u, is_turned);
    (*c).c21 = row((*c).c21, w, a[2], 5u, a[1], 5u, is_turned);
    (*c).c22 = row((*c).c22, w, a[2], 6u, a[2], 5u, is_turned);
    (*c).c23 = row((*c).c23, w, a[2], 7u, a[3], 5u, is_turned);
    (*c).c24 = row((*c).c24, w, a[3], 0u, a[0], 6u, is_turned);
    (*c).c25 = row((*c).c25, w, a[3], 1u, a[1], 6u, is_turned);
    (*c).c26 = row((*c).c26, w, a[3], 2u, a[2], 6u, is_turned);
    (*c).c27 = row((*c).c27, w, a[3], 3u, a[3], 6u, is_turned);
    (*c).c28 = row((*c).c28, w, a[3], 4u, a[0], 7u, is_turned);
    (*c).c29 = row((*c).c29, w, a[3], 5u, a[1], 7u, is_turned);
    (*c).c30 = row((*c).c30, w, a[3], 6u, a[2], 7u, is_turned);
    (*c).c31 = row((*c).c31, w, a[3], 7u, a[3], 7u, is_turned);
  }
}

fn drop_all(c: ptr<function, Tile>, bits: vec4<u32>) {
  (*c).c0 = dropped((*c).c0, bits, 0u);
  (*c).c1 = dropped((*c).c1, bits, 1u);
  (*c).c2 = dropped((*c).c2, bits, 2u);
  (*c).c3 = dropped((*c).c3, bits, 3u);
  if (ROWS > 4u) {
    (*c).c4 = dropped((*c).c4, bits, 4u);
    (*c).c5 = dropped((*c).c5, bits, 5u);
    (*c).c6 = dropped((*c).c6, bits, 6u);
    (*c).c7 = dropped((*c).c7, bits, 7u);
  }
  if (ROWS > 8u) {
    (*c).c8 = dropped((*c).c8, bits, 8u);
    (*c).c9 = dropped((*c).c9, bits, 9u);
    (*c).c10 = dropped((*c).c10, bits, 10u);
    (*c).c11 = dropped((*c).c11, bits, 11u);
    (*c).c12 = dropped((*c).c12, bits, 12u);
    (*c).c13 = dropped((*c).c13, bits, 13u);
    (*c).c14 = dropped((*c).c14, bits, 14u);
    (*c).c15 = dropped((*c).c15, bits, 15u);
  }
  if (ROWS > 16u) {
    (*c).c16 = dropped((*c).c16, bits, 16u);
    (*c).c17 = dropped((*c).c17, bits, 17u);
    (*c).c18 = dropped((*c).c18, bits, 18u);
    (*c).c19 = dropped((*c).c19, bits, 19u);
    (*c).c20 = dropped((*c).c20, bits, 20u);
    (*c).c21 = dropped((*c).c21, bits, 21u);
    (*c).c22 = dropped((*c).c22, bits, 22u);
    (*c).c23 = dropped((*c).c23, bits, 23u);
    (*c).c24 = dropped((*c).c24, bits, 24u);
    (*c).c25 = dropped((*c).c25, bits, 25u);
    (*c).c26 = dropped((*c).c26, bits, 26u);
    (*c).c27 = dropped((*c).c27, bits, 27u);
    (*c).c28 = dropped((*c).c28, bits, 28u);
    (*c).c29 = dropped((*c).c29, bits, 29u);
    (*c).c30 = dropped((*c).c30, bits, 30u);
    (*c).c31 = dropped((*c).c31, bits, 31u);
  }
}

@compute @workgroup_size(8)
fn matmul_subgroup8(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let batch = group.z / params.splits;
  key = vec2(params.key0, params.key1 + batch);
  let m0 = group.x * ROWS;
  let n = group.y * 32u + 4u * lane;
  let split = group.z % params.splits;
  let to = group.z * params.M * params.N;
  let m = m0 + select(lane, 4u * (lane % (ROWS / 4u)), TRANSPOSE_A);
  var stays: vec4<u32>;
  if (DROP == 2u) {
    stays = kept_rows(m0, n);
  }
  var c: Tile;
  if (TAIL) { // in every split: with a tail there must be one
    let from_p = starts_of_rows(0u, params.R, m0 + lane);
    let from_q = starts_of_columns(0u, params.R, n, TRANSPOSE_Q, WIDE_TAIL);
    var k = 0u;
    loop {
      step(&c, load_p(from_p, k), load_q(from_q, n, k), false);
      k += 4u;
      if (k >= params.R) {
        break;
      }
    }
    if (DROP == 2u) {
      drop_all(&c, stays);
    }
  }
  let from_a = starts_of_a(batch * params.a_batch, m);
  let from_b = starts_of_columns(batch * params.b_batch, params.K, n, TRANSPOSE_B, WIDE_B);
  let k1 = min((split + 1u) * params.k_slice, params.K);
  var k = split * params.k_slice;
  loop { // of K > 0: an if around it or the tail costs up to a sixth
    let w = load_b(from_b, n, k);
    step(&c, load_a(from_a, m, k, lane), w, TRANSPOSE_A);
    k += 4u;
    if (k >= k1) {
      break;
    }
  }
  let extra = bias_of(n, split);
  var rows = array<vec4<f32>, 32>(
    c.c0, c.c1, c.c2, c.c3, c.c4, c.c5, c.c6, c.c7,
    c.c8, c.c9, c.c10, c.c11, c.c12, c.c13, c.c14, c.c15,
    c.c16, c.c17, c.c18, c.c19, c.c20, c.c21, c.c22, c.c23,
    c.c24, c.c25, c.c26, c.c27, c.c28, c.c29, c.c30, c.c31,
  );
  var i = 0u;
  loop {
    put(m0 + i, n, to, extra, rows[i]);
    i += 1u;
    if (i >= ROWS || m0 + i >= params.M) {
      break;
    }
  }
}
