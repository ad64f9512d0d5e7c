// y = mask ≠ 0 ? a : b under NumPy's broadcasting. Elements of 4 bytes are moved as they are; a and b may
// be parameters. One thread computes one element.

alias C = u32;
override RANK: u32 = 3;
override A_SCALAR: bool = false;
override B_SCALAR: bool = false;

struct Params {
  n: u32,
  a_value: u32,
  b_value: u32,
  size1: u32,
  size2: u32,
  c_outer: u32,
  c1: u32,
  c2: u32,
  a_outer: u32,
  a1: u32,
  a2: u32,
  b_outer: u32,
  b1: u32,
  b2: u32,
}

@group(0) @binding(0) var<storage> mask: array<C>;
@group(0) @binding(1) var<storage> a: array<u32>;
@group(0) @binding(2) var<storage> b: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;
var<immediate> params: Params;

@compute @workgroup_size(64)
fn where_forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.n) {
    return;
  }
  let p = params;
  var rest = i;
  var at = vec3(0u); // of mask, a, b
  if (RANK > 1u) {
    at += rest % p.size1 * vec3(p.c1, p.a1, p.b1);
    rest /= p.size1;
  }
  if (RANK > 2u) {
    at += rest % p.size2 * vec3(p.c2, p.a2, p.b2);
    rest /= p.size2;
  }
  at += rest * vec3(p.c_outer, p.a_outer, p.b_outer);
  if (mask[at.x] != C(0)) {
    if (A_SCALAR) {
      y[i] = p.a_value;
    } else {
      y[i] = a[at.y];
    }
  } else {
    if (B_SCALAR) {
      y[i] = p.b_value;
    } else {
      y[i] = b[at.z];
    }
  }
}
