// Merge of a low-rank update into a weight, in place: W_o = g_o·W_o + s·B_o·A, with f32 accumulation.
// W: [out, in], or [in, out] where TRANSPOSED; A: [r, in], B: [out, r]; g: [out], or 1. W holds f32, or pairs of f16
// or bf16, low half first, rounded to the nearest, ties to even. One thread makes one word of W.

override TRANSPOSED: bool = false;
override DTYPE: u32 = 0; // 0 f32, 1 f16, 2 bf16
override GAIN: bool = false;

struct Params {
  n: u32,
  rows: u32,
  columns: u32,
  first: u32, // row of W that is the first of `weight`
  r: u32,
  scale: f32,
}

@group(0) @binding(0) var<storage> a: array<f32>;
@group(0) @binding(1) var<storage> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> weight: array<u32>;
@group(0) @binding(3) var<storage> gain: array<f32>;
var<immediate> params: Params;

// Element i of the merged weight, seen as W is stored, from the one before.
fn merged(before: f32, i: u32) -> f32 {
  let row = params.first + i / params.columns;
  let column = i % params.columns;
  let o = select(row, column, TRANSPOSED);
  let k = select(column, row, TRANSPOSED);
  let width = select(params.columns, params.rows, TRANSPOSED);
  var sum = 0.0;
  for (var j = 0u; j < params.r; j++) {
    sum += b[o * params.r + j] * a[j * width + k];
  }
  return select(before, before * gain[o], GAIN) + params.scale * sum;
}

fn to_bf16(v: f32) -> u32 {
  let bits = bitcast<u32>(v);
  return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}

// f32 to f16 by integers, for pack2x16float may round as it likes. Overflow becomes infinity.
fn to_f16(v: f32) -> u32 {
  let bits = bitcast<u32>(v);
  let sign = (bits >> 16u) & 0x8000u;
  let magnitude = bits & 0x7fffffffu;
  if (magnitude >= 0x477ff000u) {
    return sign | 0x7c00u;
  }
  if (magnitude < 0x38800000u) {
    // Below 2^-14: the spacing is 2^-24, and the hardware rounds to integers, ties to even.
    let steps = u32(round(bitcast<f32>(magnitude) * 16777216.0));
    return sign | steps;
  }
  let rounded = magnitude + 0xfffu + ((magnitude >> 13u) & 1u);
  return sign | ((rounded - 0x38000000u) >> 13u);
}

@compute @workgroup_size(64)
fn lora_merge(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (DTYPE == 0u) {
    if (i < params.n) {
      weight[i] = bitcast<u32>(merged(bitcast<f32>(weight[i]), i));
    }
    return;
  }
  if (i * 2u >= params.n) {
    return;
  }
  let word = weight[i];
  var pair = vec2<f32>(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u));
  if (DTYPE == 1u) {
    pair = unpack2x16float(word);
  }
  pair.x = merged(pair.x, i * 2u);
  let has_second = i * 2u + 1u < params.n;
  if (has_second) {
    pair.y = merged(pair.y, i * 2u + 1u);
  }
  var low = to_bf16(pair.x);
  var high = to_bf16(pair.y);
  if (DTYPE == 1u) {
    low = to_f16(pair.x);
    high = to_f16(pair.y);
  }
  weight[i] = low | (select(word >> 16u, high, has_second) << 16u);
}
