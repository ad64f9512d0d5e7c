// Matrix product from registers: no workgroup memory, no barrier. Formula as in matmul.naive.wgsl.
// The fast axes of a, b and y must be multiples of 4: all loads and stores are vec4.
// One thread computes 4 rows × 8 columns of y.

override TRANSPOSE_A: bool = false;
override TRANSPOSE_B: bool = false;
override DTYPE_B: u32 = 0; // 0 f32, 1 f16, 2 bf16

struct Params {
  M: u32,
  N: u32,
  K: u32,
  k_start: u32,
  k_end: u32,
  a_batch: u32,
  b_batch: u32,
  accumulate: u32,
  has_bias: u32,
  alpha: f32,
}

@group(0) @binding(0) var<storage> a: array<vec4<f32>>;
// The same memory twice: four f32, or four halves in two words.
@group(0) @binding(1) var<storage> b: array<vec4<f32>>;
@group(0) @binding(2) var<storage> b_pairs: array<vec2<u32>>;
@group(0) @binding(3) var<storage> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;
var<immediate> params: Params;

fn load_b(i: u32) -> vec4<f32> {
  if (DTYPE_B == 0u) {
    return b[i];
  }
  let words = b_pairs[i];
  if (DTYPE_B == 1u) {
    return vec4<f32>(unpack2x16float(words.x), unpack2x16float(words.y));
  }
  return bitcast<vec4<f32>>(vec4<u32>(
    words.x << 16u, words.x & 0xffff0000u, words.y << 16u, words.y & 0xffff0000u));
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

fn store(batch: u32, row: u32, column: u32, sum: vec4<f32>) {
  if (row >= params.M || column >= params.N) {
    return;
  }
  let at = ((batch * params.M + row) * params.N + column) / 4u;
  var total = params.alpha * sum;
  if (params.has_bias == 1u) {
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
  let batch = id.z;
  if (row >= params.M) {
    return;
  }
  let base_a = batch * params.a_batch / 4u;
  let base_b = batch * params.b_batch / 4u;
  var l0 = vec4<f32>();
  var l1 = vec4<f32>();
  var l2 = vec4<f32>();
  var l3 = vec4<f32>();
  var r0 = vec4<f32>();
  var r1 = vec4<f32>();
  var r2 = vec4<f32>();
  var r3 = vec4<f32>();
  for (var k = params.k_start / 4u; k < params.k_end / 4u; k++) {
    let left = load_b_block(base_b, k, column);
    let right = load_b_block(base_b, k, column + 4u);
    let rows = load_a_block(base_a, k, row);
    l0 += left * rows[0];
    l1 += left * rows[1];
    l2 += left * rows[2];
    l3 += left * rows[3];
    r0 += right * rows[0];
    r1 += right * rows[1];
    r2 += right * rows[2];
    r3 += right * rows[3];
  }
  store(batch, row, column, l0);
  store(batch, row + 1u, column, l1);
  store(batch, row + 2u, column, l2);
  store(batch, row + 3u, column, l3);
  store(batch, row, column + 4u, r0);
  store(batch, row + 1u, column + 4u, r1);
  store(batch, row + 2u, column + 4u, r2);
  store(batch, row + 3u, column + 4u, r3);
}
