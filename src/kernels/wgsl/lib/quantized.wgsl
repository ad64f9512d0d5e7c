
// Elements of a quantised matrix of n elements, for kernels that define `quantized_word(i)`, its i-th word.
// int8: codes, four to a word; then the largest magnitude of each row.
// nf4: codes, eight to a word, the first of two in the high half of a byte; a byte for each block of 64
// elements; a magnitude for each 256 blocks; their mean; the 256 values that a byte may stand for.

fn int8_codes(word: u32) -> vec4<f32> {
  return vec4<f32>(bitcast<vec4<i32>>(vec4(word << 24u, word << 16u, word << 8u, word)) >> vec4(24u));
}

fn int8_scale(row: u32, n: u32) -> f32 {
  return bitcast<f32>(quantized_word((n + 3u) / 4u + row)) * 0.007874015718698502;
}

// Four codes in the low half of a word.
fn nf4_codes(half: u32) -> vec4<u32> {
  return vec4(half >> 4u, half, half >> 12u, half >> 8u) & vec4(15u);
}

// The level of each code, chosen bit by bit: a table in memory would cost a load for each.
fn nf4_levels(code: vec4<u32>) -> vec4<f32> {
  let b0 = (code & vec4(1u)) != vec4(0u);
  let b1 = (code & vec4(2u)) != vec4(0u);
  let b2 = (code & vec4(4u)) != vec4(0u);
  let b3 = (code & vec4(8u)) != vec4(0u);
  let c0 = select(vec4(-1.0), vec4(-0.6961928009986877), b0);
  let c1 = select(vec4(-0.5250730514526367), vec4(-0.39491748809814453), b0);
  let c2 = select(vec4(-0.28444138169288635), vec4(-0.18477343022823334), b0);
  let c3 = select(vec4(-0.09105003625154495), vec4(0.0), b0);
  let c4 = select(vec4(0.07958029955625534), vec4(0.16093020141124725), b0);
  let c5 = select(vec4(0.24611230194568634), vec4(0.33791524171829224), b0);
  let c6 = select(vec4(0.44070982933044434), vec4(0.5626170039176941), b0);
  let c7 = select(vec4(0.7229568362236023), vec4(1.0), b0);
  let low = select(select(c0, c1, b1), select(c2, c3, b1), b2);
  let high = select(select(c4, c5, b1), select(c6, c7, b1), b2);
  return select(low, high, b3);
}

// The scale of the block that holds element `at`.
fn nf4_scale(at: u32, n: u32) -> f32 {
  let block = at / 64u;
  let blocks = (n + 63u) / 64u;
  let bytes = (n + 7u) / 8u;
  let nested = bytes + (blocks + 3u) / 4u;
  let mean = nested + (blocks + 255u) / 256u;
  let code = (quantized_word(bytes + block / 4u) >> (8u * (block % 4u))) & 255u;
  let value = bitcast<f32>(quantized_word(mean + 1u + code)) * bitcast<f32>(quantized_word(nested + block / 256u));
  return value + bitcast<f32>(quantized_word(mean));
}

// The codes of four neighbours from element `at`, a multiple of 4, on.
fn quantized_codes(at: u32, nf4: bool) -> vec4<f32> {
  if (nf4) {
    return nf4_levels(nf4_codes(quantized_word(at / 8u) >> (4u * (at % 8u))));
  }
  return int8_codes(quantized_word(at / 4u));
}

// What multiplies the codes: element `at`, of row `row`.
fn quantized_scale(at: u32, row: u32, n: u32, nf4: bool) -> f32 {
  if (nf4) {
    return nf4_scale(at, n);
  }
  return int8_scale(row, n);
}

fn quantized_element(at: u32, row: u32, n: u32, nf4: bool) -> f32 {
  return quantized_scale(at, row, n, nf4) * quantized_codes(at & ~3u, nf4)[at & 3u];
}
