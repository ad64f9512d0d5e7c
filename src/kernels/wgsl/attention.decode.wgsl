// Attention for few queries, as in generation: a workgroup owns one row and shares out its keys.
// Formulas, shapes and what a query sees: attention.wgsl. Invocation "lane" takes every LANES-th key
// as if there were no others; then the shares are weighed against each other.

const LANES: u32 = 16;
const D4: u32 = 16; // d / 4
const CAPPED = false;

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
  starts: u32,
  ends: u32,
}

@group(0) @binding(0) var<storage> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage> k: array<vec4<f32>>;
@group(0) @binding(2) var<storage> v: array<vec4<f32>>;
@group(0) @binding(7) var<storage> starts: array<i32>; // [B] or [B, T]
@group(0) @binding(8) var<storage> ends: array<i32>; // [B] or [B, T]
@group(0) @binding(9) var<storage, read_write> lse: array<f32>; // [B, Hkv, rows]
@group(0) @binding(11) var<storage, read_write> out: array<vec4<f32>>; // y
var<immediate> params: Params;

const HIDDEN = -1e30; // finite: WGSL may assume that there are no infinities
var<workgroup> highests: array<f32, LANES>;
var<workgroup> weights: array<f32, LANES>;
var<workgroup> sums: array<vec4<f32>, LANES * D4>;

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

@compute @workgroup_size(LANES)
fn attention_decode(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let b = group.z;
  let kv = group.y;
  let G = params.H / params.Hkv;
  let rows = params.T * G;
  let row = group.x;
  let at = ((b * params.T + row / G) * params.H + kv * G + row % G) * D4;
  let seen = keys_of(b, row / G);
  var query: array<vec4<f32>, D4>;
  var sum: array<vec4<f32>, D4>;
  for (var j = 0u; j < D4; j++) {
    query[j] = params.scale * q[at + j];
  }
  var highest = HIDDEN;
  var weight = 0.0;
  for (var key = u32(seen.x) + lane; key < u32(max(seen.y, 0)); key += LANES) {
    let own = ((b * params.S + key) * params.Hkv + kv) * D4;
    var s = 0.0;
    for (var j = 0u; j < D4; j++) {
      s += dot(query[j], k[own + j]);
    }
    if (CAPPED) {
      s = params.softcap * tanh(clamp(s / params.softcap, -10.0, 10.0));
    }
    let top = max(highest, s);
    let keep = exp(max(highest - top, -80.0));
    let p = exp(max(s - top, -80.0));
    weight = weight * keep + p;
    for (var j = 0u; j < D4; j++) {
      sum[j] = sum[j] * keep + p * v[own + j];
    }
    highest = top;
  }
  highests[lane] = highest;
  weights[lane] = weight;
  for (var j = 0u; j < D4; j++) {
    sums[j * LANES + lane] = sum[j];
  }
  workgroupBarrier();
  var top = HIDDEN;
  for (var other = 0u; other < LANES; other++) {
    top = max(top, highests[other]);
  }
  var total = 0.0;
  for (var other = 0u; other < LANES; other++) {
    total += weights[other] * exp(max(highests[other] - top, -80.0));
  }
  for (var j = lane; j < D4; j += LANES) {
    var value = vec4<f32>();
    for (var other = 0u; other < LANES; other++) {
      value += sums[j * LANES + other] * exp(max(highests[other] - top, -80.0));
    }
    out[at + j] = select(vec4<f32>(), value / total, total > 0.0);
  }
  if (lane == 0u) {
    lse[(b * params.Hkv + kv) * rows + row] = select(HIDDEN, top + log(total), total > 0.0);
  }
}
