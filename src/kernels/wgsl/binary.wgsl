// Elementwise arithmetic and comparison of two arrays under NumPy's broadcasting. a, b: any shapes that
// broadcast to y's. The axes that both walk alike are merged by the host, so that RANK is mostly 1 or 2.
// V is one element, or four neighbours where all arrays are aligned. One operand may be a parameter.
// One thread computes one V.

alias T = f32;
alias V = f32;
alias M = u32;
override OP: u32 = 0; // 0 add, 1 sub, 2 mul, 3 div, 4 maximum, 5 minimum; or 0 eq, 1 ne, 2 lt, 3 le, 4 gt, 5 ge
override RANK: u32 = 5;
override SCALAR: u32 = 0; // 0: both are arrays, 1: b is params.scalar, 2: a is

struct Params {
  n: u32,
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

struct Pair {
  a: V,
  b: V,
}

// The operands of the i-th element of y. Axis 1 is the innermost; the outermost needs no size.
fn operands(i: u32) -> Pair {
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
  at += rest * vec2(p.a_outer, p.b_outer);
  let scalar = V(bitcast<T>(p.scalar));
  if (SCALAR == 1u) {
    return Pair(a[at.x], scalar);
  }
  if (SCALAR == 2u) {
    return Pair(scalar, b[at.y]);
  }
  return Pair(a[at.x], b[at.y]);
}

@compute @workgroup_size(64)
fn binary_forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.n) {
    return;
  }
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

// d = ∂y/∂b for div; ∂y/∂a for maximum and minimum, where equals share evenly, or ∂y/∂b with the
// operands exchanged by the host.
@compute @workgroup_size(64)
fn binary_backward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.n) {
    return;
  }
  let o = operands(i);
  let g = dy[i];
  let zero = V(T(0));
  switch OP {
    case 3u: { d[i] = (zero - g / o.b) * (o.a / o.b); }
    case 4u: { d[i] = select(select(zero, g, o.a > o.b), g / V(T(2)), o.a == o.b); }
    default: { d[i] = select(select(zero, g, o.a < o.b), g / V(T(2)), o.a == o.b); }
  }
}

@compute @workgroup_size(64)
fn binary_compare(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.n) {
    return;
  }
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
