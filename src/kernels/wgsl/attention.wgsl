// Attention with grouped key/value heads, without a [T, keys] buffer (Dao 2023, arXiv 2307.08691).
//   q, y: [B, T, H, d]   k, v: [B, S, Hkv, d], of which the first "keys" rows count
//   x = scale · q·kᵀ     s = x, or softcap · tanh(x/softcap)
//   p = softmax(s)       y = p·v     lse = log Σ exp(s)
//   D = Σ dy·y           ds = p · (dy·vᵀ − D)     dx = ds, or ds · (1 − (s/softcap)²)
//   dv = pᵀ·dy           dq = scale · dx·k     dk = scale · dxᵀ·q
// Query i stands at position p = keys − T + i and sees the keys from p − before to p + after, but none
// before its "starts" and none from its "ends" on. One that sees none gets y = 0 and no gradient.
// The G = H/Hkv query heads of a key/value head, and their queries, are its rows: row = i·G + g.
// One invocation holds one row (or, for dk and dv, one key) in registers and walks along the other
// side four at a time. All of a workgroup walk together, so that what they read is the same for all:
// software adapters load it once, GPUs broadcast it. There is no workgroup memory and no barrier.
// A dispatch walks along a part of the other side, keys or queries part_begin to part_end; a later part
// goes on from what the parts before have left.

override LANES: u32 = 8; // invocations in a workgroup
const D4: u32 = 16; // d / 4
const CAPPED = false; // whether there is a softcap

struct Params {
  T: u32,
  S: u32,
  H: u32,
  Hkv: u32,
  keys: u32,
  scale: f32,
  softcap: f32,
  before: i32,
  after: i32,
  starts: u32, // 0: there are none, 1: one for each batch, 2: one for each query
  ends: u32,
  part_begin: u32,
  part_end: u32,
}

@group(0) @binding(0) var<storage> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage> k: array<vec4<f32>>;
@group(0) @binding(2) var<storage> v: array<vec4<f32>>;
@group(0) @binding(3) var<storage> dy: array<vec4<f32>>;
@group(0) @binding(4) var<storage> y_in: array<vec4<f32>>;
@group(0) @binding(5) var<storage> lse_in: array<f32>; // [B, Hkv, rows]
@group(0) @binding(6) var<storage> stats: array<vec4<f32>>; // [B, Hkv, rows]: lse, D, first key, key after the last
@group(0) @binding(7) var<storage> starts: array<i32>; // [B] or [B, T]
@group(0) @binding(8) var<storage> ends: array<i32>; // [B] or [B, T]
@group(0) @binding(9) var<storage, read_write> lse: array<f32>;
@group(0) @binding(10) var<storage, read_write> stats_out: array<vec4<f32>>;
@group(0) @binding(11) var<storage, read_write> out: array<vec4<f32>>; // y, dq or dk
@group(0) @binding(12) var<storage, read_write> dv: array<vec4<f32>>;
var<immediate> params: Params;

const HIDDEN = -1e30; // finite: WGSL may assume that there are no infinities
const NOTHING = -1e29; // what is lower is hidden

// The keys that query i sees: from x on, before y.
fn keys_of(b: u32, i: u32) -> vec2<i32> {
  let p = i32(params.keys + i) - i32(params.T);
  var seen = vec2<i32>(max(p - params.before, 0), min(p + params.after + 1, i32(params.keys)));
  if (params.starts > 0u) {
    seen.x = max(seen.x, starts[select(b, b * params.T + i, params.starts > 1u)]);
  }
  if (params.ends > 0u) {
    seen.y = min(seen.y, ends[select(b, b * params.T + i, params.ends > 1u)]);
  }
  return seen;
}

// What the queries from "first" to "last" see together, of this part: the same for the whole workgroup.
fn keys_of_all(b: u32, first: u32, last: u32) -> vec2<u32> {
  var all = vec2<i32>(keys_of(b, first).x, keys_of(b, last).y);
  if (params.starts > 1u || params.ends > 1u) {
    for (var i = first; i <= last; i++) {
      let seen = keys_of(b, i);
      all = vec2<i32>(min(all.x, seen.x), max(all.y, seen.y));
    }
  }
  return vec2<u32>(max(u32(all.x), params.part_begin), min(u32(max(all.y, 0)), params.part_end));
}

// Where the vectors of one query and one key begin, counted in vec4s.
fn query_at(b: u32, i: u32, head: u32) -> u32 {
  return ((b * params.T + i) * params.H + head) * D4;
}

fn key_at(b: u32, key: u32, kv: u32) -> u32 {
  return ((b * params.S + min(key, params.keys - 1u)) * params.Hkv + kv) * D4;
}

fn four_from(n: u32) -> vec4<u32> {
  return vec4<u32>(n, n + 1u, n + 2u, n + 3u);
}

// Which of the four keys from "key" on lie in the range and in the part.
fn sees(range: vec2<i32>, key: u32) -> vec4<bool> {
  let keys = vec4<i32>(four_from(key));
  return (keys >= vec4(range.x)) & (keys < vec4(min(range.y, i32(params.part_end))));
}

// The scores from the products.
fn score(x: vec4<f32>) -> vec4<f32> {
  if (CAPPED) {
    return params.softcap * tanh(clamp(x / params.softcap, vec4<f32>(-10.0), vec4<f32>(10.0)));
  }
  return x;
}

// dx from ds.
fn through_cap(ds: vec4<f32>, s: vec4<f32>) -> vec4<f32> {
  if (CAPPED) {
    let t = s / params.softcap;
    return ds * (1.0 - t * t);
  }
  return ds;
}

fn exp_of(x: vec4<f32>) -> vec4<f32> {
  return exp(clamp(x, vec4<f32>(-80.0), vec4<f32>(0.0)));
}

@compute @workgroup_size(LANES)
fn attention_forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let b = group.z;
  let kv = group.y;
  let G = params.H / params.Hkv;
  let rows = params.T * G;
  let first = group.x * LANES;
  let row = min(first + lane, rows - 1u);
  let statistics = (b * params.Hkv + kv) * rows + row;
  let at = query_at(b, row / G, kv * G + row % G);
  let range = keys_of(b, row / G);
  let all = keys_of_all(b, first / G, min(first + LANES - 1u, rows - 1u) / G);
  var query: array<vec4<f32>, D4>;
  var sum: array<vec4<f32>, D4>;
  for (var j = 0u; j < D4; j++) {
    query[j] = params.scale * q[at + j];
  }
  var highest = HIDDEN;
  var weight = 0.0;
  if (params.part_begin > 0u) {
    // What the parts before have seen counts as one key with the score lse and the value y.
    highest = lse_in[statistics];
    weight = select(0.0, 1.0, highest > NOTHING);
    for (var j = 0u; j < D4; j++) {
      sum[j] = out[at + j];
    }
  }
  for (var key = all.x; key < all.y; key += 4u) {
    let k0 = key_at(b, key, kv);
    let k1 = key_at(b, key + 1u, kv);
    let k2 = key_at(b, key + 2u, kv);
    let k3 = key_at(b, key + 3u, kv);
    var x = vec4<f32>();
    for (var j = 0u; j < D4; j++) {
      let a = query[j];
      x += vec4<f32>(dot(a, k[k0 + j]), dot(a, k[k1 + j]), dot(a, k[k2 + j]), dot(a, k[k3 + j]));
    }
    let visible = sees(range, key);
    let s = select(vec4<f32>(HIDDEN), score(x), visible);
    let top = max(highest, max(max(s.x, s.y), max(s.z, s.w)));
    let keep = exp(max(highest - top, -80.0));
    let p = select(vec4<f32>(), exp_of(s - top), visible);
    weight = weight * keep + ((p.x + p.y) + (p.z + p.w));
    for (var j = 0u; j < D4; j++) {
      sum[j] = sum[j] * keep
        + ((p.x * v[k0 + j] + p.y * v[k1 + j]) + (p.z * v[k2 + j] + p.w * v[k3 + j]));
    }
    highest = top;
  }
  if (first + lane >= rows) {
    return;
  }
  let inverse = select(0.0, 1.0 / weight, weight > 0.0);
  for (var j = 0u; j < D4; j++) {
    out[at + j] = sum[j] * inverse;
  }
  lse[statistics] = select(HIDDEN, highest + log(weight), weight > 0.0);
}

// What backward needs to know of each row.
@compute @workgroup_size(LANES)
fn attention_backward_rows(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let b = group.z;
  let kv = group.y;
  let G = params.H / params.Hkv;
  let rows = params.T * G;
  let row = group.x * LANES + lane;
  if (row >= rows) {
    return;
  }
  let at = query_at(b, row / G, kv * G + row % G);
  let statistics = (b * params.Hkv + kv) * rows + row;
  var D = 0.0;
  for (var j = 0u; j < D4; j++) {
    D += dot(dy[at + j], y_in[at + j]);
  }
  // Positions are exact in f32.
  stats_out[statistics] = vec4<f32>(lse_in[statistics], D, vec2<f32>(keys_of(b, row / G)));
}

@compute @workgroup_size(LANES)
fn attention_backward_q(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let b = group.z;
  let kv = group.y;
  let G = params.H / params.Hkv;
  let rows = params.T * G;
  let first = group.x * LANES;
  let row = min(first + lane, rows - 1u);
  let at = query_at(b, row / G, kv * G + row % G);
  let of_row = stats[(b * params.Hkv + kv) * rows + row];
  let range = vec2<i32>(of_row.zw);
  let all = keys_of_all(b, first / G, min(first + LANES - 1u, rows - 1u) / G);
  var query: array<vec4<f32>, D4>;
  var gradient: array<vec4<f32>, D4>;
  var sum: array<vec4<f32>, D4>;
  for (var j = 0u; j < D4; j++) {
    query[j] = params.scale * q[at + j];
    gradient[j] = dy[at + j];
  }
  for (var key = all.x; key < all.y; key += 4u) {
    let k0 = key_at(b, key, kv);
    let k1 = key_at(b, key + 1u, kv);
    let k2 = key_at(b, key + 2u, kv);
    let k3 = key_at(b, key + 3u, kv);
    var x = vec4<f32>();
    var dp = vec4<f32>();
    for (var j = 0u; j < D4; j++) {
      let a = query[j];
      x += vec4<f32>(dot(a, k[k0 + j]), dot(a, k[k1 + j]), dot(a, k[k2 + j]), dot(a, k[k3 + j]));
      let c = gradient[j];
      dp += vec4<f32>(dot(c, v[k0 + j]), dot(c, v[k1 + j]), dot(c, v[k2 + j]), dot(c, v[k3 + j]));
    }
    let s = score(x);
    let p = exp_of(s - of_row.x);
    let dx = select(vec4<f32>(), through_cap(p * (dp - of_row.y), s), sees(range, key));
    for (var j = 0u; j < D4; j++) {
      sum[j] += (dx.x * k[k0 + j] + dx.y * k[k1 + j]) + (dx.z * k[k2 + j] + dx.w * k[k3 + j]);
    }
  }
  if (first + lane >= rows) {
    return;
  }
  for (var j = 0u; j < D4; j++) {
    if (params.part_begin > 0u) {
      out[at + j] += params.scale * sum[j];
    } else {
      out[at + j] = params.scale * sum[j];
    }
  }
}

@compute @workgroup_size(LANES)
fn attention_backward_kv(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let b = group.z;
  let kv = group.y;
  let G = params.H / params.Hkv;
  let first = group.x * LANES;
  let key = first + lane;
  let at = ((b * params.S + min(key, params.S - 1u)) * params.Hkv + kv) * D4;
  // The queries that see any key of this workgroup, but for starts and ends.
  let behind = min(first + LANES, params.keys);
  let shift = i32(params.T) - i32(params.keys);
  let begin = max(i32(params.part_begin), i32(first) - params.after + shift);
  let end = select(0u, u32(max(min(i32(params.part_end), i32(behind) + params.before + shift), 0)), first < behind);
  var own_k: array<vec4<f32>, D4>;
  var own_v: array<vec4<f32>, D4>;
  var sum_k: array<vec4<f32>, D4>;
  var sum_v: array<vec4<f32>, D4>;
  for (var j = 0u; j < D4; j++) {
    own_k[j] = params.scale * k[at + j];
    own_v[j] = v[at + j];
  }
  for (var g = 0u; g < G; g++) {
    let head = kv * G + g;
    for (var i = u32(begin); i < end; i += 4u) {
      let queries = four_from(i);
      let real = min(queries, vec4<u32>(end - 1u));
      let r = ((b * params.Hkv + kv) * params.T + real) * G + g;
      let of_queries = transpose(mat4x4<f32>(stats[r.x], stats[r.y], stats[r.z], stats[r.w]));
      // Passes over queries none of which sees a key of this workgroup.
      if (!any((of_queries[2] < vec4(f32(behind))) & (of_queries[3] > vec4(f32(first))))) {
        continue;
      }
      let i0 = query_at(b, real.x, head);
      let i1 = query_at(b, real.y, head);
      let i2 = query_at(b, real.z, head);
      let i3 = query_at(b, real.w, head);
      var x = vec4<f32>();
      var dp = vec4<f32>();
      for (var j = 0u; j < D4; j++) {
        let a = own_k[j];
        x += vec4<f32>(dot(a, q[i0 + j]), dot(a, q[i1 + j]), dot(a, q[i2 + j]), dot(a, q[i3 + j]));
        let c = own_v[j];
        dp += vec4<f32>(dot(c, dy[i0 + j]), dot(c, dy[i1 + j]), dot(c, dy[i2 + j]), dot(c, dy[i3 + j]));
      }
      let seen = (vec4(f32(key)) >= of_queries[2]) & (vec4(f32(key)) < of_queries[3]);
      let s = score(x);
      let p = select(vec4<f32>(), exp_of(s - of_queries[0]), (queries == real) & seen);
      let dx = through_cap(p * (dp - of_queries[1]), s);
      for (var j = 0u; j < D4; j++) {
        sum_v[j] += (p.x * dy[i0 + j] + p.y * dy[i1 + j]) + (p.z * dy[i2 + j] + p.w * dy[i3 + j]);
        sum_k[j] += (dx.x * q[i0 + j] + dx.y * q[i1 + j]) + (dx.z * q[i2 + j] + dx.w * q[i3 + j]);
      }
    }
  }
  if (key >= params.S) {
    return;
  }
  for (var j = 0u; j < D4; j++) {
    if (params.part_begin > 0u) {
      out[at + j] += params.scale * sum_k[j];
      dv[at + j] += sum_v[j];
    } else {
      out[at + j] = params.scale * sum_k[j];
      dv[at + j] = sum_v[j];
    }
  }
}
