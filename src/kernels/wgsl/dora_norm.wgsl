// Row norms of an adapted weight, which is not built: n_o = ‖W_o + s·B_o·A‖ (Liu et al. 2024, arXiv 2402.09353).
// W: [out, in], or [in, out] where TRANSPOSED, of f32 or of pairs of f16 or bf16; A: [r, in], B: [out, r];
// squares: [segments, out]. A thread takes four rows and every LANES-th quad of columns of its segment;
// 64/LANES groups of LANES threads make a workgroup, and each group adds up its sums in a fixed order.
// The fast entry wants `in` and `out` in whole vec4; the plain one takes one row and single columns.

override TRANSPOSED: bool = false;
override DTYPE: u32 = 0; // 0 f32, 1 f16, 2 bf16
override LANES: u32 = 16;

struct Params {
  rows: u32, // out
  columns: u32, // in
  r: u32,
  span: u32, // quads of columns (plain: columns) of one segment
  segments: u32,
  scale: f32,
}

@group(0) @binding(0) var<storage> weight: array<vec4<f32>>;
@group(0) @binding(1) var<storage> weight_pairs: array<vec2<u32>>; // the same memory
@group(0) @binding(2) var<storage> a: array<vec4<f32>>;
@group(0) @binding(3) var<storage> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> squares: array<f32>;
@group(0) @binding(5) var<storage> weight_words: array<u32>; // the same memory as weight
@group(0) @binding(6) var<storage> a_single: array<f32>; // the same memory as a
@group(0) @binding(7) var<storage, read_write> norm: array<f32>; // [out]
var<immediate> params: Params;

var<workgroup> sums: array<vec4<f32>, 64>;

fn load_w(i: u32) -> vec4<f32> {
  if (DTYPE == 0u) {
    return weight[i];
  }
  let words = weight_pairs[i];
  if (DTYPE == 1u) {
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
  }
  return bitcast<vec4<f32>>(vec4<u32>(
    words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u));
}

// Four columns of W, starting at quad k of four, for four rows: one vec4 of columns for each row.
fn load_block(row: u32, k: u32) -> mat4x4<f32> {
  if (TRANSPOSED) {
    let stride = params.rows / 4u;
    let at = k * 4u * stride + row / 4u;
    return transpose(mat4x4<f32>(
      load_w(at), load_w(at + stride), load_w(at + 2u * stride), load_w(at + 3u * stride)));
  }
  let stride = params.columns / 4u;
  let at = row * stride + k;
  return mat4x4<f32>(
    load_w(at), load_w(at + stride), load_w(at + 2u * stride), load_w(at + 3u * stride));
}

fn outer(columns: vec4<f32>, rows: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(rows.x * columns, rows.y * columns, rows.z * columns, rows.w * columns);
}

fn squared(m: mat4x4<f32>) -> vec4<f32> {
  return vec4<f32>(dot(m[0], m[0]), dot(m[1], m[1]), dot(m[2], m[2]), dot(m[3], m[3]));
}

@compute @workgroup_size(64)
fn dora_norm(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) local: u32,
) {
  let teams = 64u / LANES;
  // Neighbours read neighbouring words: columns of W as it lies, rows where it lies transposed.
  let team = select(local / LANES, local % teams, TRANSPOSED);
  let lane = select(local % LANES, local / teams, TRANSPOSED);
  let row = (group.x * teams + team) * 4u;
  let quads = params.columns / 4u;
  let end = min(quads, (group.y + 1u) * params.span);
  var square = vec4<f32>();
  if (row < params.rows) {
    for (var first = group.y * params.span + lane; first < end; first += 4u * LANES) {
      // Four quads at once, so that what is read of B serves 16 columns.
      let k = min(first + vec4<u32>(0u, LANES, 2u * LANES, 3u * LANES), vec4<u32>(end - 1u));
      var m0 = load_block(row, k.x);
      var m1 = load_block(row, k.y);
      var m2 = load_block(row, k.z);
      var m3 = load_block(row, k.w);
      for (var j = 0u; j < params.r; j++) {
        let at = row * params.r + j;
        let rows = params.scale
          * vec4<f32>(b[at], b[at + params.r], b[at + 2u * params.r], b[at + 3u * params.r]);
        m0 += outer(a[j * quads + k.x], rows);
        m1 += outer(a[j * quads + k.y], rows);
        m2 += outer(a[j * quads + k.z], rows);
        m3 += outer(a[j * quads + k.w], rows);
      }
      square += squared(m0);
      square += select(vec4<f32>(), squared(m1), first + LANES < end);
      square += select(vec4<f32>(), squared(m2), first + 2u * LANES < end);
      square += select(vec4<f32>(), squared(m3), first + 3u * LANES < end);
    }
  }
  sums[team * LANES + lane] = square;
  workgroupBarrier();
  if (lane != 0u || row >= params.rows) {
    return;
  }
  var total = vec4<f32>();
  for (var i = 0u; i < LANES; i++) {
    total += sums[team * LANES + i];
  }
  for (var i = 0u; i < 4u; i++) {
    squares[group.y * params.rows + row + i] = total[i];
  }
}

fn load_single(i: u32) -> f32 {
  if (DTYPE == 0u) {
    return bitcast<f32>(weight_words[i]);
  }
  let word = weight_words[i / 2u];
  if (DTYPE == 1u) {
    let pair = unpack2x16float(word);
    return select(pair.x, pair.y, i % 2u == 1u);
  }
  return bitcast<f32>(select(word << 16u, word & 0xffff0000u, i % 2u == 1u));
}

@compute @workgroup_size(64)
fn dora_norm_plain(
  @builtin(global_invocation_id) id: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
) {
  let at = id.y * groups.x * 64u + id.x;
  let row = at % params.rows;
  let segment = at / params.rows;
  if (segment >= params.segments) {
    return;
  }
  let end = min(params.columns, (segment + 1u) * params.span);
  var square = 0.0;
  for (var k = segment * params.span; k < end; k++) {
    var v = load_single(select(row * params.columns + k, k * params.rows + row, TRANSPOSED));
    for (var j = 0u; j < params.r; j++) {
      v += params.scale * a_single[j * params.columns + k] * b[row * params.r + j];
    }
    square += v * v;
  }
  squares[segment * params.rows + row] = square;
}

@compute @workgroup_size(64)
fn dora_norm_root(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let row = id.y * groups.x * 64u + id.x;
  if (row >= params.rows) {
    return;
  }
  var total = 0.0;
  for (var i = 0u; i < params.segments; i++) {
    total += squares[i * params.rows + row];
  }
  norm[row] = sqrt(total);
}
