// Attention with grouped key/value heads, without a [T, keys] buffer (Dao 2023, arXiv 2307.08691).
//   q, y: [B, T, H, d]   k, v: [B, S, Hkv, d], of which the first "keys" rows count
//   s = scale · q·kᵀ     p = softmax(s)     y = p·v     lse = log Σ exp(s)
//   D = Σ dy·y           ds = p · (dy·vᵀ − D)
//   dv = pᵀ·dy           dq = scale · ds·k     dk = scale · dsᵀ·q
// Causal: query i stands at position keys − T + i and sees the keys up to that one.
// The G = H/Hkv query heads of a key/value head, and their queries, are its rows: row = i·G + g.
// One invocation holds one row (or, for dk and dv, one key) in registers and walks along the other
// side four at a time. All of a workgroup walk together, so that what they read is the same for all:
// software adapters load it once, GPUs broadcast it. There is no workgroup memory and no barrier.

override LANES: u32 = 8; // invocations in a workgroup
const D4: u32 = 16; // d / 4

struct Params {
  T: u32,
  S: u32,
  H: u32,
  Hkv: u32,
  keys: u32,
  scale: f32,
  causal: u32,
}

@group(0) @binding(0) var<storage> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage> k: array<vec4<f32>>;
@group(0) @binding(2) var<storage> v: array<vec4<f32>>;
@group(0) @binding(3) var<storage> dy: array<vec4<f32>>;
@group(0) @binding(4) var<storage> y_in: array<vec4<f32>>;
@group(0) @binding(5) var<storage> lse_in: array<f32>; // [B, Hkv, rows]
@group(0) @binding(6) var<storage> dot_in: array<f32>; // D, [B, Hkv, rows]
@group(0) @binding(7) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> lse: array<f32>;
@group(0) @binding(9) var<storage, read_write> dq: array<vec4<f32>>;
@group(0) @binding(10) var<storage, read_write> dot_out: array<f32>;
@group(0) @binding(11) var<storage, read_write> dk: array<vec4<f32>>;
@group(0) @binding(12) var<storage, read_write> dv: array<vec4<f32>>;
var<immediate> params: Params;

const HIDDEN = -1e30; // finite: WGSL may assume that there are no infinities

// How many keys query i sees.
fn keys_seen(i: u32) -> u32 {
  return select(params.keys, params.keys - params.T + i + 1u, params.causal != 0u);
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

@compute @workgroup_size(LANES)
fn attention_forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let b = group.z;
  let kv = group.y;
  let G = params.H / params.Hkv;
  let rows = params.T * G;
  let first = group.x * LANES;
  let row = min(first + lane, rows - 1u);
  let at = query_at(b, row / G, kv * G + row % G);
  let seen = keys_seen(row / G);
  // What its last row sees: the same for the whole workgroup.
  let end = keys_seen(min(first + LANES - 1u, rows - 1u) / G);
  var query: array<vec4<f32>, D4>;
  var sum: array<vec4<f32>, D4>;
  for (var j = 0u; j < D4; j++) {
    query[j] = params.scale * q[at + j];
  }
  var highest = HIDDEN;
  var weight = 0.0;
  for (var key = 0u; key < end; key += 4u) {
    let k0 = key_at(b, key, kv);
    let k1 = key_at(b, key + 1u, kv);
    let k2 = key_at(b, key + 2u, kv);
    let k3 = key_at(b, key + 3u, kv);
    var s = vec4<f32>();
    for (var j = 0u; j < D4; j++) {
      let a = query[j];
      s += vec4<f32>(dot(a, k[k0 + j]), dot(a, k[k1 + j]), dot(a, k[k2 + j]), dot(a, k[k3 + j]));
    }
    let visible = four_from(key) < vec4<u32>(seen);
    s = select(vec4<f32>(HIDDEN), s, visible);
    let top = max(highest, max(max(s.x, s.y), max(s.z, s.w)));
    let keep = exp(max(highest - top, -80.0));
    let p = select(vec4<f32>(), exp(max(s - top, vec4<f32>(-80.0))), visible);
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
    y[at + j] = sum[j] * inverse;
  }
  lse[(b * params.Hkv + kv) * rows + row] = select(0.0, highest + log(weight), weight > 0.0);
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
  let seen = keys_seen(row / G);
  let end = keys_seen(min(first + LANES - 1u, rows - 1u) / G);
  var query: array<vec4<f32>, D4>;
  var gradient: array<vec4<f32>, D4>;
  var sum: array<vec4<f32>, D4>;
  var D = 0.0;
  for (var j = 0u; j < D4; j++) {
    query[j] = params.scale * q[at + j];
    gradient[j] = dy[at + j];
    D += dot(gradient[j], y_in[at + j]);
  }
  let statistics = (b * params.Hkv + kv) * rows + row;
  let log_weight = lse_in[statistics];
  for (var key = 0u; key < end; key += 4u) {
    let k0 = key_at(b, key, kv);
    let k1 = key_at(b, key + 1u, kv);
    let k2 = key_at(b, key + 2u, kv);
    let k3 = key_at(b, key + 3u, kv);
    var s = vec4<f32>();
    var dp = vec4<f32>();
    for (var j = 0u; j < D4; j++) {
      let a = query[j];
      s += vec4<f32>(dot(a, k[k0 + j]), dot(a, k[k1 + j]), dot(a, k[k2 + j]), dot(a, k[k3 + j]));
      let c = gradient[j];
      dp += vec4<f32>(dot(c, v[k0 + j]), dot(c, v[k1 + j]), dot(c, v[k2 + j]), dot(c, v[k3 + j]));
    }
    let p = exp(clamp(s - log_weight, vec4<f32>(-80.0), vec4<f32>(0.0)));
    let ds = select(vec4<f32>(), p * (dp - D), four_from(key) < vec4<u32>(seen));
    for (var j = 0u; j < D4; j++) {
      sum[j] += (ds.x * k[k0 + j] + ds.y * k[k1 + j]) + (ds.z * k[k2 + j] + ds.w * k[k3 + j]);
    }
  }
  if (first + lane >= rows) {
    return;
  }
  for (var j = 0u; j < D4; j++) {
    dq[at + j] = params.scale * sum[j];
  }
  dot_out[statistics] = D;
}

@compute @workgroup_size(LANES)
fn attention_backward_kv(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let b = group.z;
  let kv = group.y;
  let G = params.H / params.Hkv;
  let first = group.x * LANES;
  let key = first + lane;
  let at = ((b * params.S + min(key, params.S - 1u)) * params.Hkv + kv) * D4;
  // The first query that sees any key of this workgroup.
  let begin = select(0u, first - min(first, params.keys - params.T), params.causal != 0u);
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
    for (var i = begin; i < params.T; i += 4u) {
      let queries = four_from(i);
      let real = min(queries, vec4<u32>(params.T - 1u));
      let i0 = query_at(b, real.x, head);
      let i1 = query_at(b, real.y, head);
      let i2 = query_at(b, real.z, head);
      let i3 = query_at(b, real.w, head);
      var s = vec4<f32>();
      var dp = vec4<f32>();
      for (var j = 0u; j < D4; j++) {
        let a = own_k[j];
        s += vec4<f32>(dot(a, q[i0 + j]), dot(a, q[i1 + j]), dot(a, q[i2 + j]), dot(a, q[i3 + j]));
        let c = own_v[j];
        dp += vec4<f32>(dot(c, dy[i0 + j]), dot(c, dy[i1 + j]), dot(c, dy[i2 + j]), dot(c, dy[i3 + j]));
      }
      let r = ((b * params.Hkv + kv) * params.T + real) * G + g;
      let log_weight = vec4<f32>(lse_in[r.x], lse_in[r.y], lse_in[r.z], lse_in[r.w]);
      let D = vec4<f32>(dot_in[r.x], dot_in[r.y], dot_in[r.z], dot_in[r.w]);
      let seen = vec4<u32>(keys_seen(real.x), keys_seen(real.y), keys_seen(real.z), keys_seen(real.w));
      let visible = (queries == real) & (vec4<u32>(key) < seen);
      let p = select(vec4<f32>(), exp(clamp(s - log_weight, vec4<f32>(-80.0), vec4<f32>(0.0))), visible);
      let ds = p * (dp - D);
      for (var j = 0u; j < D4; j++) {
        sum_v[j] += (p.x * dy[i0 + j] + p.y * dy[i1 + j]) + (p.z * dy[i2 + j] + p.w * dy[i3 + j]);
        sum_k[j] += (ds.x * q[i0 + j] + ds.y * q[i1 + j]) + (ds.z * q[i2 + j] + ds.w * q[i3 + j]);
      }
    }
  }
  if (key >= params.S) {
    return;
  }
  for (var j = 0u; j < D4; j++) {
    dk[at + j] = params.scale * sum_k[j];
    dv[at + j] = sum_v[j];
  }
}
