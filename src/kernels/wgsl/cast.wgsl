// Between element types. f16 and bf16 are pairs in words of 32 bits, low half first. Rounding is to
// nearest, ties to even, in integer arithmetic: pack2x16float may round either way. x, y: [n].
//   cast_unpack:  f16, bf16 → f32     one thread per element
//   cast_pack:    f32 → f16, bf16     one thread per word of two
//   cast_convert: f32, i32, u32 → f32, i32, u32, towards zero       one thread per element

alias From = f32;
alias To = i32;
override HALF: bool = true; // f16, else bf16

struct Params {
  n: u32,
}

@group(0) @binding(0) var<storage> words: array<u32>;
@group(0) @binding(1) var<storage> x: array<From>;
@group(0) @binding(2) var<storage, read_write> y: array<To>;
@group(0) @binding(3) var<storage, read_write> bits: array<u32>;
var<immediate> params: Params;

// The bits of the f32 that a half stands for; subnormals are exact.
fn bits_of_half(h: u32) -> u32 {
  let sign = (h & 0x8000u) << 16u;
  let exponent = (h >> 10u) & 31u;
  let mantissa = h & 0x3ffu;
  if (exponent == 31u) {
    return sign | 0x7f800000u | (mantissa << 13u);
  }
  if (exponent == 0u) {
    return sign | bitcast<u32>(f32(mantissa) * 0x1p-24f);
  }
  return sign | ((exponent + 112u) << 23u) | (mantissa << 13u);
}

// u / 2^shift to nearest, ties to even; shift is 1 … 31.
fn round_shift(u: u32, shift: u32) -> u32 {
  let half = 1u << (shift - 1u);
  let rest = u & ((1u << shift) - 1u);
  let down = u >> shift;
  return down + select(0u, 1u, rest > half || (rest == half && (down & 1u) == 1u));
}

fn half_of_bits(u: u32) -> u32 {
  let sign = (u >> 16u) & 0x8000u;
  let size = u & 0x7fffffffu;
  if (size > 0x7f800000u) {
    return sign | 0x7e00u;
  }
  if (size >= 0x477ff000u) { // at least 65,520: infinity
    return sign | 0x7c00u;
  }
  if (size >= 0x38800000u) { // normal; a carry out of the mantissa raises the exponent rightly
    return sign | (round_shift(size, 13u) - (112u << 10u));
  }
  let exponent = size >> 23u;
  if (exponent < 102u) {
    return sign;
  }
  return sign | round_shift((size & 0x7fffffu) | 0x800000u, 126u - exponent);
}

fn bfloat_of_bits(u: u32) -> u32 {
  if ((u & 0x7fffffffu) > 0x7f800000u) {
    return (u >> 16u) | 0x40u;
  }
  return round_shift(u, 16u);
}

fn packed(u: u32) -> u32 {
  if (HALF) {
    return half_of_bits(u);
  }
  return bfloat_of_bits(u);
}

@compute @workgroup_size(64)
fn cast_unpack(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.n) {
    return;
  }
  let h = (words[i / 2u] >> (16u * (i % 2u))) & 0xffffu;
  if (HALF) {
    bits[i] = bits_of_half(h);
  } else {
    bits[i] = h << 16u;
  }
}

@compute @workgroup_size(64)
fn cast_pack(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  let at = 2u * i;
  if (at >= params.n) {
    return;
  }
  var word = packed(words[at]);
  if (at + 1u < params.n) {
    word |= packed(words[at + 1u]) << 16u;
  }
  bits[i] = word;
}

@compute @workgroup_size(64)
fn cast_convert(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i < params.n) {
    y[i] = To(x[i]);
  }
}
