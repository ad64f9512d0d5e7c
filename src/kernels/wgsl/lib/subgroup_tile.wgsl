// What the matrix products of software devices share: how a lane reads its part of the matrices, and how it stores
// its rows of y. For kernels that declare the switches, parameters and bindings of matmul.subgroup4.wgsl, and LANES,
// the lanes of a subgroup.

// Which of four neighbours from element `at` on stay.
fn kept(at: u32, wide: bool) -> vec4<bool> {
  if (wide) {
    return draws(at / 4u, key) >= vec4(params.threshold);
  }
  var stays: vec4<bool>;
  for (var j = 0u; j < 4u; j++) {
    stays[j] = draws((at + j) / 4u, key)[(at + j) % 4u] >= params.threshold;
  }
  return stays;
}

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

fn quantized_word(i: u32) -> u32 {
  return b1[i];
}

fn read_b1(at: u32) -> f32 {
  if (DTYPE_B == 0u) {
    return bitcast<f32>(b1[at]);
  }
  if (DTYPE_B >= 3u) {
    return quantized_element(at, at / select(params.N, params.K, TRANSPOSE_B), params.N * params.K, DTYPE_B == 4u);
  }
  let pair = unpack(b1[at / 2u]);
  return select(pair.x, pair.y, (at & 1u) == 1u);
}

fn read_b(at: u32, left: u32) -> vec4<f32> {
  var v: vec4<f32>;
  if (!WIDE_B) {
    v = vec4(read_b1(at), read_b1(at + 1u), read_b1(at + 2u), read_b1(at + 3u));
    v = select(vec4<f32>(), v, vec4(0u, 1u, 2u, 3u) < vec4(left));
  } else if (DTYPE_B == 0u) {
    v = b4[at / 4u];
  } else if (DTYPE_B >= 3u) {
    let row = at / select(params.N, params.K, TRANSPOSE_B);
    v = quantized_scale(at, row, params.N * params.K, DTYPE_B == 4u) * quantized_codes(at, DTYPE_B == 4u);
  } else {
    let words = b2[at / 4u];
    v = vec4(unpack(words.x), unpack(words.y));
  }
  if (WIDE_B && RAGGED_K) {
    v = select(vec4<f32>(), v, left > 0u);
  }
  if (DROP == 1u) {
    return select(vec4<f32>(), params.keep * v, kept(at, WIDE_B));
  }
  return v;
}

fn read_p(at: u32, left: u32) -> vec4<f32> {
  if (WIDE_TAIL) {
    return p[at / 4u];
  }
  let v = vec4(p[at / 4u][at % 4u], p[(at + 1u) / 4u][(at + 1u) % 4u], p[(at + 2u) / 4u][(at + 2u) % 4u], p[(at + 3u) / 4u][(at + 3u) % 4u]);
  return select(vec4<f32>(), v, vec4(0u, 1u, 2u, 3u) < vec4(left));
}

fn read_q(at: u32, left: u32) -> vec4<f32> {
  if (WIDE_TAIL) {
    return q[at / 4u];
  }
  let v = vec4(q[at / 4u][at % 4u], q[(at + 1u) / 4u][(at + 1u) % 4u], q[(at + 2u) / 4u][(at + 2u) % 4u], q[(at + 3u) / 4u][(at + 3u) % 4u]);
  return select(vec4<f32>(), v, vec4(0u, 1u, 2u, 3u) < vec4(left));
}

// How many of four elements from `at` on lie below `end`, for term k of `terms`.
fn left_of(at: u32, end: u32, k: u32, terms: u32) -> u32 {
  return select(0u, end - min(at, end), k < terms);
}

// Terms k to k + 3 of the rows of a that the lane reads, from the first elements of these rows on.
fn load_rows(start: vec4<u32>, k: u32) -> mat4x4<f32> {
  let left = params.K - k;
  var v: mat4x4<f32>;
  v[0] = read_a(start.x + k, left);
  if (ROWS > LANES) {
    v[1] = read_a(start.y + k, left);
  }
  if (ROWS > 2u * LANES) {
    v[2] = read_a(start.z + k, left);
    v[3] = read_a(start.w + k, left);
  }
  return v;
}

fn load_p(start: vec4<u32>, k: u32) -> mat4x4<f32> {
  let left = params.R - k;
  var v: mat4x4<f32>;
  v[0] = read_p(start.x + k, left);
  if (ROWS > LANES) {
    v[1] = read_p(start.y + k, left);
  }
  if (ROWS > 2u * LANES) {
    v[2] = read_p(start.z + k, left);
    v[3] = read_p(start.w + k, left);
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
    read_b(at, left_of(n, params.N, k, params.K)),
    read_b(at + params.N, left_of(n, params.N, k + 1u, params.K)),
    read_b(at + 2u * params.N, left_of(n, params.N, k + 2u, params.K)),
    read_b(at + 3u * params.N, left_of(n, params.N, k + 3u, params.K)),
  );
}

fn load_q(start: vec4<u32>, n: u32, k: u32) -> mat4x4<f32> {
  if (TRANSPOSE_Q) {
    let left = params.R - k;
    return transpose(mat4x4<f32>(
      read_q(start.x + k, left),
      read_q(start.y + k, left),
      read_q(start.z + k, left),
      read_q(start.w + k, left),
    ));
  }
  let at = start.x + k * params.N;
  return mat4x4<f32>(
    read_q(at, left_of(n, params.N, k, params.R)),
    read_q(at + params.N, left_of(n, params.N, k + 1u, params.R)),
    read_q(at + 2u * params.N, left_of(n, params.N, k + 2u, params.R)),
    read_q(at + 3u * params.N, left_of(n, params.N, k + 3u, params.R)),
  );
}

// First elements of the lines that a lane reads, each `length` long; beyond the edge the last line again.
fn starts_of_rows(start: u32, length: u32, m: u32) -> vec4<u32> {
  return start + length * min(m + vec4(0u, LANES, 2u * LANES, 3u * LANES), vec4(params.M - 1u));
}

fn starts_of_columns(start: u32, length: u32, n: u32, transposed: bool, wide: bool) -> vec4<u32> {
  if (transposed) {
    return start + length * min(n + vec4(0u, 1u, 2u, 3u), vec4(params.N - 1u));
  }
  return vec4(start + select(n, min(n, params.N - 4u), wide));
}

fn starts_of_a(start: u32, m: u32) -> vec4<u32> {
  if (TRANSPOSE_A) {
    return vec4(start + select(m, min(m, params.M - 4u), WIDE_A));
  }
  return starts_of_rows(start, params.K, m);
}

// c + the product of one row of a with the lane's columns. The row lies in lane `lane` of `straight`,
// or where a is stored transposed in lane `turned_lane` of `turned`.
fn row(c: vec4<f32>, w: mat4x4<f32>, straight: vec4<f32>, lane: u32, turned: vec4<f32>, turned_lane: u32, is_turned: bool) -> vec4<f32> {
  var v: vec4<f32>;
  if (is_turned) {
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
  let at = to + select(m * params.N + n, n * params.M + m, params.transpose_y == 1u);
  if (params.accumulate == 1u) {
    y1[at] += value;
  } else {
    y1[at] = value;
  }
}

// Stores four neighbours of row m.
fn put(m: u32, n: u32, to: u32, extra: vec4<f32>, c: vec4<f32>) {
  var v = params.alpha * c + extra;
  if (!WIDE_Y) {
    put1(m, n, to, v.x);
    put1(m, n + 1u, to, v.y);
    put1(m, n + 2u, to, v.z);
    put1(m, n + 3u, to, v.w);
  } else if (n < params.N) {
    let at = (to + m * params.N + n) / 4u;
    if (params.accumulate == 1u) {
      v += y4[at];
    }
    y4[at] = v;
  }
}

fn bias_of(n: u32, split: u32) -> vec4<f32> {
  if (params.has_bias == 1u && split == 0u) {
    let last = params.N - 1u;
    var v: vec4<f32>;
    for (var j = 0u; j < 4u; j++) {
      v[j] = bias[min(n + j, last)];
    }
    return v;
  }
  return vec4<f32>();
}

// Bit i of each word: whether row m0 + i of the lane's four columns stays.
fn kept_rows(m0: u32, n: u32) -> vec4<u32> {
  var bits = vec4<u32>();
  var i = 0u;
  loop {
    bits |= select(vec4<u32>(), vec4(1u << i), kept((m0 + i) * params.N + n, WIDE_Y));
    i += 1u;
    if (i >= ROWS || m0 + i >= params.M) {
      break;
    }
  }
  return bits;
}

fn dropped(c: vec4<f32>, bits: vec4<u32>, i: u32) -> vec4<f32> {
  return select(vec4<f32>(), params.keep * c, (bits & vec4(1u << i)) != vec4<u32>());
}
