// Elementwise arithmetic and comparison of two arrays under NumPy's broadcasting. a, b: any shapes that
// broadcast to y's. The axes that both walk alike are merged by the host, so that RANK is mostly 1 or 2.
// An item is a V: one element, or four neighbours where all arrays are aligned. One operand may be a
// parameter. Powers, at the end, are computed one element at a time.

alias T = f32;
alias V = f32;
alias M = u32;
override OP: u32 = 0; // 0 add, 1 sub, 2 mul, 3 div, 4 maximum, 5 minimum; or 0 eq, 1 ne, 2 lt, 3 le, 4 gt, 5 ge
override RANK: u32 = 5;
override SCALAR: u32 = 0; // 0: both are arrays, 1: b is params.scalar, 2: a is
override LANES: u32 = 64;
override ROUNDS: u32 = 1;

struct Params {
  n: u32, // items
  scalar: u32,
  size1: u32,
  size2: u32,
  size3: u32,
  size4: u32,
  a_outer: u32,
  a1: u32,
  a2: u32,
  a3: u32,
  a4: u32,
  b_outer: u32,
  b1: u32,
  b2: u32,
  b3: u32,
  b4: u32,
}

@group(0) @binding(0) var<storage> a: array<V>;
@group(0) @binding(1) var<storage> b: array<V>;
@group(0) @binding(2) var<storage> dy: array<V>;
@group(0) @binding(3) var<storage, read_write> y: array<V>;
@group(0) @binding(4) var<storage, read_write> d: array<V>;
@group(0) @binding(5) var<storage, read_write> mask: array<M>;
var<immediate> params: Params;

struct Thread {
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
}

// A workgroup takes LANES · ROUNDS items in a row; a thread the items first, first + LANES, …
fn first_of(t: Thread) -> u32 {
  return (t.group.y * t.groups.x + t.group.x) * LANES * ROUNDS + t.lane;
}

struct Pair {
  a: V,
  b: V,
}

// Where the operands of the i-th element of y lie. Axis 1 is the innermost; the outermost needs no size.
fn places(i: u32) -> vec2<u32> {
  let p = params;
  var rest = i;
  var at = vec2(0u);
  if (RANK > 1u) {
    at += rest % p.size1 * vec2(p.a1, p.b1);
    rest /= p.size1;
  }
  if (RANK > 2u) {
    at += rest % p.size2 * vec2(p.a2, p.b2);
    rest /= p.size2;
  }
  if (RANK > 3u) {
    at += rest % p.size3 * vec2(p.a3, p.b3);
    rest /= p.size3;
  }
  if (RANK > 4u) {
    at += rest % p.size4 * vec2(p.a4, p.b4);
    rest /= p.size4;
  }
  return at + rest * vec2(p.a_outer, p.b_outer);
}

fn operands(i: u32) -> Pair {
  let at = places(i);
  let scalar = V(bitcast<T>(params.scalar));
  if (SCALAR == 1u) {
    return Pair(a[at.x], scalar);
  }
  if (SCALAR == 2u) {
    return Pair(scalar, b[at.y]);
  }
  return Pair(a[at.x], b[at.y]);
}

@compute @workgroup_size(LANES)
fn binary_forward(t: Thread) {
  let first = first_of(t);
  for (var i = first; i < min(first + LANES * ROUNDS, params.n); i += LANES) {
    let o = operands(i);
    switch OP {
      case 0u: { y[i] = o.a + o.b; }
      case 1u: { y[i] = o.a - o.b; }
      case 2u: { y[i] = o.a * o.b; }
      case 3u: { y[i] = o.a / o.b; }
      case 4u: { y[i] = max(o.a, o.b); }
      default: { y[i] = min(o.a, o.b); }
    }
  }
}

// d = ∂y/∂b for div; ∂y/∂a for maximum and minimum, where equals share evenly, or ∂y/∂b with the
// operands exchanged by the host.
@compute @workgroup_size(LANES)
fn binary_backward(t: Thread) {
  let first = first_of(t);
  for (var i = first; i < min(first + LANES * ROUNDS, params.n); i += LANES) {
    let o = operands(i);
    let g = dy[i];
    let zero = V(T(0));
    switch OP {
      case 3u: { d[i] = (zero - g / o.b) * (o.a / o.b); }
      case 4u: { d[i] = select(select(zero, g, o.a > o.b), g / V(T(2)), o.a == o.b); }
      default: { d[i] = select(select(zero, g, o.a < o.b), g / V(T(2)), o.a == o.b); }
    }
  }
}

@compute @workgroup_size(LANES)
fn binary_compare(t: Thread) {
  let first = first_of(t);
  for (var i = first; i < min(first + LANES * ROUNDS, params.n); i += LANES) {
    let o = operands(i);
    switch OP {
      case 0u: { mask[i] = select(M(0), M(1), o.a == o.b); }
      case 1u: { mask[i] = select(M(0), M(1), o.a != o.b); }
      case 2u: { mask[i] = select(M(0), M(1), o.a < o.b); }
      case 3u: { mask[i] = select(M(0), M(1), o.a <= o.b); }
      case 4u: { mask[i] = select(M(0), M(1), o.a > o.b); }
      default: { mask[i] = select(M(0), M(1), o.a >= o.b); }
    }
  }
}

// Powers, of f32 alone: y = a^b as IEEE 754 has it. WGSL's pow knows no negative base, and loses b·log2 a
// units of its last place where it is 2^(b·log2 a) in f32; here log2 a has 30 bits, in two parts.

@group(0) @binding(6) var<storage> af: array<f32>;
@group(0) @binding(7) var<storage> bf: array<f32>;
@group(0) @binding(8) var<storage> dyf: array<f32>;
@group(0) @binding(9) var<storage, read_write> yf: array<f32>;

const ABOVE_FINITE = 0x7f800000u;

// The same number, through a bit that is 0, which only the host knows: the compiler cannot fold it, nor
// rearrange the sum that made it.
fn held(bits: u32) -> f32 {
  return bitcast<f32>(bits | (params.n >> 31u));
}

// v and what it leaves of 12 bits, so that the product of two such heads is exact.
fn split(v: f32) -> vec2<f32> {
  let head = held(bitcast<u32>(v) & 0xfffff000u);
  return vec2(head, v - head);
}

// log2 v in two parts, the first of 12 bits, for finite v > 0. v = 2^k·m with m in [√½, √2), then
// log2 m = 2/ln 2 · artanh s with s = (m − 1)/(m + 1).
fn log2_of(v: f32) -> vec2<f32> {
  let bits = bitcast<u32>(v);
  let k = i32(bits - 0x3f3504f3u) >> 23u;
  let m = bitcast<f32>(bits - (u32(k) << 23u));
  let d = split(m + 1.0).x;
  let d_tail = m - held(bitcast<u32>(d - 1.0)); // without the rounding of m + 1
  let s = split((m - 1.0) / (m + 1.0));
  let rest = held(bitcast<u32>((m - 1.0) - s.x * d));
  let s_tail = (rest - s.x * d_tail) / (m + 1.0);
  let t = (s.x + s_tail) * (s.x + s_tail);
  let series = t * (0.33333333 + t * (0.2 + t * (0.14285714 + t * (0.11111111 + t * (0.090909091
    + t * 0.076923077)))));
  let tail = s_tail + (s.x + s_tail) * series;
  let high = held(bitcast<u32>(s.x * 2.8847656)); // 12 bits of 2/ln 2
  let low = 2.8853901 * tail + s.x * 0.00062445679;
  let first = split(f32(k) + (high + low)).x;
  return vec2(first, low - (held(bitcast<u32>(first - f32(k))) - high));
}

// a^b for finite a > 0.
fn power_of_positive(a: f32, b: f32) -> f32 {
  let l = log2_of(a);
  let c = split(clamp(b, -0x1p34, 0x1p34)); // beyond, every a but 1 gives 0 or infinity, as here
  let high = held(bitcast<u32>(c.x * l.x));
  let low = c.y * l.x + (c.x + c.y) * l.y;
  let k = round(high + low);
  if (k > 128.0) {
    return held(ABOVE_FINITE);
  }
  if (k < -151.0) {
    return 0.0;
  }
  let r = held(bitcast<u32>(high - k)) + low;
  let p = 1.0 + r * (0.69314718 + r * (0.24022651 + r * (0.055504109 + r * (0.0096181291
    + r * (0.0013333558 + r * (0.00015403530 + r * 0.000015252734))))));
  let half = i32(k) / 2;
  return p * bitcast<f32>(u32(half + 127) << 23u) * bitcast<f32>(u32(i32(k) - half + 127) << 23u);
}

// a^b for whole b by squaring: exact where it is a whole number below 2^24, as 3^15 is.
fn power_by_squaring(a: f32, b: u32) -> f32 {
  var result = select(1.0, a, (b & 1u) == 1u);
  var square = a;
  for (var rest = b >> 1u; rest > 0u; rest >>= 1u) {
    square *= square;
    result *= select(1.0, square, (rest & 1u) == 1u);
  }
  return result;
}

// OP is b where the host knows it to be 1, 2, 3 or 4: SwiftShader runs through branches not taken.
fn power(a: f32, b: f32) -> f32 {
  if (OP > 0u) {
    return power_by_squaring(a, OP);
  }
  let size = abs(b);
  let whole = size >= 0x1p23 || floor(size) == size;
  if (whole && b >= 0.0 && b <= 15.0) {
    let y = power_by_squaring(a, u32(b));
    if (b <= 4.0 || (floor(a) == a && abs(y) < 0x1p24)) {
      return y;
    }
  }
  // Bits, because a shader may assume that neither NaN nor infinity occurs.
  let a_bits = bitcast<u32>(a) & 0x7fffffffu;
  let b_bits = bitcast<u32>(b) & 0x7fffffffu;
  if (a_bits > ABOVE_FINITE || b_bits > ABOVE_FINITE) {
    return select(held(0x7fc00000u), 1.0, a == 1.0);
  }
  let odd = whole && size < 0x1p24 && (u32(min(size, 0x1p24)) & 1u) == 1u;
  let minus = select(0u, bitcast<u32>(a) & 0x80000000u, odd);
  let vanishes = a_bits < 0x00800000u; // zero, and what devices may flush to it
  if (vanishes || a_bits == ABOVE_FINITE) {
    return held(minus | select(0u, ABOVE_FINITE, vanishes == (b < 0.0)));
  }
  if (a < 0.0 && !whole) {
    return held(0x7fc00000u);
  }
  return held(minus | bitcast<u32>(power_of_positive(abs(a), b)));
}

struct Scalars {
  a: f32,
  b: f32,
}

fn scalars(i: u32) -> Scalars {
  let at = places(i);
  let scalar = bitcast<f32>(params.scalar);
  if (SCALAR == 1u) {
    return Scalars(af[at.x], scalar);
  }
  if (SCALAR == 2u) {
    return Scalars(scalar, bf[at.y]);
  }
  return Scalars(af[at.x], bf[at.y]);
}

@compute @workgroup_size(LANES)
fn binary_pow(t: Thread) {
  let first = first_of(t);
  for (var i = first; i < min(first + LANES * ROUNDS, params.n); i += LANES) {
    let o = scalars(i);
    yf[i] = power(o.a, o.b);
  }
}

// dy·b·a^(b−1), and 0 where b = 0.
@compute @workgroup_size(LANES)
fn binary_pow_backward_a(t: Thread) {
  let first = first_of(t);
  for (var i = first; i < min(first + LANES * ROUNDS, params.n); i += LANES) {
    let o = scalars(i);
    if (o.b == 0.0) {
      yf[i] = 0.0;
    } else {
      yf[i] = dyf[i] * (o.b * power(o.a, o.b - 1.0));
    }
  }
}

// dy·a^b·ln a, and 0 where a = 0 and b ≥ 0, for there a^b is constant in b.
@compute @workgroup_size(LANES)
fn binary_pow_backward_b(t: Thread) {
  let first = first_of(t);
  for (var i = first; i < min(first + LANES * ROUNDS, params.n); i += LANES) {
    let o = scalars(i);
    let bits = bitcast<u32>(o.a);
    if ((bits & 0x7fffffffu) < 0x00800000u) {
      yf[i] = select(0.0, dyf[i] * held(0xff800000u), o.b < 0.0);
    } else if (bits > ABOVE_FINITE) {
      yf[i] = held(0x7fc00000u);
    } else {
      let l = log2_of(o.a);
      yf[i] = dyf[i] * (power(o.a, o.b) * (0.69314718 * (l.x + l.y)));
    }
  }
}
