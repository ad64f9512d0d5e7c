// Strided copies. One side is contiguous and counted by i; the other is walked by strides over up to
// six axes, the innermost first. An element is 4 bytes, or a run of 16 where everything is aligned.
//   copy_gather:     y[i] = x[at(i)]          permute, slice, broadcast (stride 0)
//   copy_scatter:    y[at(i)] = x[i]          concat, writes into a part of y
//   copy_transpose:  as copy_gather, where the second axis from within has stride 1: an item is a
//                    tile of 4×4, so that loads and stores are both whole runs

alias Element = u32;
override RANK: u32 = 6;
override LANES: u32 = 64;
override ROUNDS: u32 = 1;

struct Params {
  n: u32, // items: elements, or tiles
  offset: u32,
  outer: u32,
  size1: u32,
  size2: u32,
  size3: u32,
  size4: u32,
  size5: u32,
  stride1: u32,
  stride2: u32,
  stride3: u32,
  stride4: u32,
  stride5: u32,
}

@group(0) @binding(0) var<storage> x: array<Element>;
@group(0) @binding(1) var<storage, read_write> y: array<Element>;
@group(0) @binding(0) var<storage> x4: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> y4: array<vec4<u32>>;
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

// Where the i-th element of the walk lies. RANK is fixed per pipeline, so unused axes cost nothing.
fn at(i: u32) -> u32 {
  var rest = i;
  var sum = params.offset;
  if (RANK > 1u) {
    sum += rest % params.size1 * params.stride1;
    rest /= params.size1;
  }
  if (RANK > 2u) {
    sum += rest % params.size2 * params.stride2;
    rest /= params.size2;
  }
  if (RANK > 3u) {
    sum += rest % params.size3 * params.stride3;
    rest /= params.size3;
  }
  if (RANK > 4u) {
    sum += rest % params.size4 * params.stride4;
    rest /= params.size4;
  }
  if (RANK > 5u) {
    sum += rest % params.size5 * params.stride5;
    rest /= params.size5;
  }
  return sum + rest * params.outer;
}

@compute @workgroup_size(LANES)
fn copy_gather(t: Thread) {
  let first = first_of(t);
  for (var i = first; i < min(first + LANES * ROUNDS, params.n); i += LANES) {
    y[i] = x[at(i)];
  }
}

@compute @workgroup_size(LANES)
fn copy_scatter(t: Thread) {
  let first = first_of(t);
  for (var i = first; i < min(first + LANES * ROUNDS, params.n); i += LANES) {
    y[at(i)] = x[i];
  }
}

// Tiles are counted by i. Axis 1 has size1 tiles and walks x in rows stride1 apart (per tile of 4).
@compute @workgroup_size(LANES)
fn copy_transpose(t: Thread) {
  let first = first_of(t);
  for (var i = first; i < min(first + LANES * ROUNDS, params.n); i += LANES) {
    let origin = at(i);
    let row = params.stride1 / 4u;
    let r0 = x4[origin];
    let r1 = x4[origin + row];
    let r2 = x4[origin + 2u * row];
    let r3 = x4[origin + 3u * row];
    let line = i / params.size1;
    let to = line * 4u * params.size1 + i % params.size1;
    y4[to] = vec4(r0.x, r1.x, r2.x, r3.x);
    y4[to + params.size1] = vec4(r0.y, r1.y, r2.y, r3.y);
    y4[to + 2u * params.size1] = vec4(r0.z, r1.z, r2.z, r3.z);
    y4[to + 3u * params.size1] = vec4(r0.w, r1.w, r2.w, r3.w);
  }
}
