enable subgroups;
// Attention for adapters whose subgroups have 8 invocations (lavapipe), where one load costs as much
// as a hundred multiply-adds. Formulas, shapes and bindings: attention.wgsl.
// A workgroup is one subgroup and owns 8 rows (for dk and dv: 8 keys). It walks along the other side
// in tiles of 8, one for each invocation, in two steps:
//   scores    each invocation loads a vec4 of its own row and one of its own key; the rows' values are
//             broadcast, so that each gets the scores of all 8 rows with its key
//   products  each invocation owns the vec4 columns lane, lane + 8, … of the results of all 8 rows; it
//             loads them for one key after another, whose 8 weights are broadcast

const COLUMNS: u32 = 2; // vec4 columns of an invocation: d / 32, rounded up

struct Params {
  T: u32,
  S: u32,
  H: u32,
  Hkv: u32,
  keys: u32,
  scale: f32,
  D4: u32,
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

alias Eight = array<vec4<f32>, 2>; // one number for each of 8 rows
alias Sums = array<vec4<f32>, 8 * COLUMNS>; // [column][row]

// How many keys query i sees.
fn keys_seen(i: u32) -> u32 {
  return select(params.keys, params.keys - params.T + i + 1u, params.causal != 0u);
}

// Where the vector of a row begins in q, y and their gradients.
fn row_at(b: u32, kv: u32, row: u32) -> u32 {
  let G = params.H / params.Hkv;
  return ((b * params.T + row / G) * params.H + kv * G + row % G) * params.D4;
}

fn key_at(b: u32, kv: u32, key: u32) -> u32 {
  return ((b * params.S + key) * params.Hkv + kv) * params.D4;
}

// The value of each invocation, told to all.
fn spread(x: f32) -> Eight {
  return Eight(
    vec4<f32>(subgroupBroadcast(x, 0u), subgroupBroadcast(x, 1u), subgroupBroadcast(x, 2u), subgroupBroadcast(x, 3u)),
    vec4<f32>(subgroupBroadcast(x, 4u), subgroupBroadcast(x, 5u), subgroupBroadcast(x, 6u), subgroupBroadcast(x, 7u)));
}

// totals[r] += the vector a of invocation r · the own vector b.
fn add_dots(totals: ptr<function, Eight>, a: vec4<f32>, b: vec4<f32>) {
  totals[0] += vec4<f32>(
    dot(subgroupBroadcast(a, 0u), b), dot(subgroupBroadcast(a, 1u), b),
    dot(subgroupBroadcast(a, 2u), b), dot(subgroupBroadcast(a, 3u), b));
  totals[1] += vec4<f32>(
    dot(subgroupBroadcast(a, 4u), b), dot(subgroupBroadcast(a, 5u), b),
    dot(subgroupBroadcast(a, 6u), b), dot(subgroupBroadcast(a, 7u), b));
}

// sums[column][r] += w[r] · x.
fn add_products(sums: ptr<function, Sums>, column: u32, w: Eight, x: vec4<f32>) {
  let at = 8u * column;
  sums[at] += w[0].x * x;
  sums[at + 1u] += w[0].y * x;
  sums[at + 2u] += w[0].z * x;
  sums[at + 3u] += w[0].w * x;
  sums[at + 4u] += w[1].x * x;
  sums[at + 5u] += w[1].y * x;
  sums[at + 6u] += w[1].z * x;
  sums[at + 7u] += w[1].w * x;
}

fn rescale(sums: ptr<function, Sums>, w: Eight) {
  for (var column = 0u; column < COLUMNS; column++) {
    let at = 8u * column;
    sums[at] *= w[0].x;
    sums[at + 1u] *= w[0].y;
    sums[at + 2u] *= w[0].z;
    sums[at + 3u] *= w[0].w;
    sums[at + 4u] *= w[1].x;
    sums[at + 5u] *= w[1].y;
    sums[at + 6u] *= w[1].z;
    sums[at + 7u] *= w[1].w;
  }
}

// What invocation "other" knows of the rows.
fn told(x: Eight, other: u32) -> Eight {
  return Eight(subgroupShuffle(x[0], other), subgroupShuffle(x[1], other));
}

fn hidden_where(x: Eight, replacement: f32, seen: Eight, key: u32) -> Eight {
  let at = vec4<f32>(f32(key));
  let r = vec4<f32>(replacement);
  return Eight(select(r, x[0], at < seen[0]), select(r, x[1], at < seen[1]));
}

fn exp_of(x: vec4<f32>) -> vec4<f32> {
  return exp(clamp(x, vec4<f32>(-80.0), vec4<f32>(0.0)));
}

@compute @workgroup_size(8)
fn attention_forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let b = group.z;
  let kv = group.y;
  let G = params.H / params.Hkv;
  let rows = params.T * G;
  let first = 8u * group.x;
  let row = min(first + lane, rows - 1u);
  let at = row_at(b, kv, row);
  let seen = spread(f32(keys_seen(row / G))); // exact in f32
  let end = keys_seen(min(first + 7u, rows - 1u) / G);
  var sums: Sums;
  var highest = Eight(vec4<f32>(HIDDEN), vec4<f32>(HIDDEN));
  var weight = Eight(); // of this invocation's keys
  for (var key = 0u; key < end; key += 8u) {
    let own = key_at(b, kv, min(key + lane, params.keys - 1u));
    var p = Eight(); // without "= Eight()" it is not cleared again in every round
    for (var j = 0u; j < params.D4; j++) {
      add_dots(&p, q[at + j], k[own + j]);
    }
    let s = hidden_where(Eight(params.scale * p[0], params.scale * p[1]), HIDDEN, seen, key + lane);
    let top = Eight(max(highest[0], subgroupMax(s[0])), max(highest[1], subgroupMax(s[1])));
    let keep = Eight(exp_of(highest[0] - top[0]), exp_of(highest[1] - top[1]));
    p = hidden_where(Eight(exp_of(s[0] - top[0]), exp_of(s[1] - top[1])), 0.0, seen, key + lane);
    weight[0] = weight[0] * keep[0] + p[0];
    weight[1] = weight[1] * keep[1] + p[1];
    highest = top;
    rescale(&sums, keep);
    for (var other = 0u; other < 8u; other++) {
      let w = told(p, other);
      let start = subgroupShuffle(own, other) + lane;
      for (var column = 0u; column < COLUMNS; column++) {
        add_products(&sums, column, w, v[start + 8u * column]);
      }
    }
  }
  let total = Eight(subgroupAdd(weight[0]), subgroupAdd(weight[1]));
  for (var r = 0u; r < 8u; r++) {
    let start = subgroupShuffle(at, r);
    let w = total[r / 4u][r % 4u];
    if (first + r < rows) {
      for (var column = 0u; column < COLUMNS; column++) {
        if (lane + 8u * column < params.D4) {
          y[start + lane + 8u * column] = select(vec4<f32>(), sums[8u * column + r] / w, w > 0.0);
        }
      }
      lse[(b * params.Hkv + kv) * rows + first + r] = select(0.0, highest[r / 4u][r % 4u] + log(w), w > 0.0);
    }
  }
}

@compute @workgroup_size(8)
fn attention_backward_q(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let b = group.z;
  let kv = group.y;
  let G = params.H / params.Hkv;
  let rows = params.T * G;
  let first = 8u * group.x;
  let row = min(first + lane, rows - 1u);
  let at = row_at(b, kv, row);
  let seen = spread(f32(keys_seen(row / G)));
  let end = keys_seen(min(first + 7u, rows - 1u) / G);
  var own_dot = 0.0;
  for (var j = 0u; j < params.D4; j++) {
    own_dot += dot(dy[at + j], y_in[at + j]);
  }
  if (first + lane < rows) {
    dot_out[(b * params.Hkv + kv) * rows + row] = own_dot;
  }
  let D = spread(own_dot);
  let log_sum = spread(lse_in[(b * params.Hkv + kv) * rows + row]);
  var sums: Sums;
  for (var key = 0u; key < end; key += 8u) {
    let own = key_at(b, kv, min(key + lane, params.keys - 1u));
    var s = Eight();
    var dp = Eight();
    for (var j = 0u; j < params.D4; j++) {
      add_dots(&s, q[at + j], k[own + j]);
      add_dots(&dp, dy[at + j], v[own + j]);
    }
    let p0 = exp_of(params.scale * s[0] - log_sum[0]);
    let p1 = exp_of(params.scale * s[1] - log_sum[1]);
    let ds = hidden_where(Eight(p0 * (dp[0] - D[0]), p1 * (dp[1] - D[1])), 0.0, seen, key + lane);
    for (var other = 0u; other < 8u; other++) {
      let w = told(ds, other);
      let start = subgroupShuffle(own, other) + lane;
      for (var column = 0u; column < COLUMNS; column++) {
        add_products(&sums, column, w, k[start + 8u * column]);
      }
    }
  }
  for (var r = 0u; r < 8u; r++) {
    let start = subgroupShuffle(at, r);
    if (first + r < rows) {
      for (var column = 0u; column < COLUMNS; column++) {
        if (lane + 8u * column < params.D4) {
          dq[start + lane + 8u * column] = params.scale * sums[8u * column + r];
        }
      }
    }
  }
}

@compute @workgroup_size(8)
fn attention_backward_kv(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let b = group.z;
  let kv = group.y;
  let G = params.H / params.Hkv;
  let rows = params.T * G;
  let first = 8u * group.x; // the first of the workgroup's keys
  let at = key_at(b, kv, min(first + lane, params.S - 1u));
  // The first row that sees any of these keys.
  let begin = select(0u, (first - min(first, params.keys - params.T)) * G, params.causal != 0u);
  let keys = vec4<u32>(first, first + 1u, first + 2u, first + 3u);
  var sums_k: Sums;
  var sums_v: Sums;
  for (var start = begin; start < rows; start += 8u) {
    let row = min(start + lane, rows - 1u);
    let own = row_at(b, kv, row);
    var s = Eight();
    var dp = Eight();
    for (var j = 0u; j < params.D4; j++) {
      add_dots(&s, k[at + j], q[own + j]);
      add_dots(&dp, v[at + j], dy[own + j]);
    }
    let log_sum = lse_in[(b * params.Hkv + kv) * rows + row];
    let D = dot_in[(b * params.Hkv + kv) * rows + row];
    // None where there is no such row.
    let seen = vec4<u32>(select(0u, keys_seen(row / G), start + lane < rows));
    let p = Eight(
      select(vec4<f32>(), exp_of(params.scale * s[0] - log_sum), keys < seen),
      select(vec4<f32>(), exp_of(params.scale * s[1] - log_sum), keys + 4u < seen));
    let ds = Eight(p[0] * (dp[0] - D), p[1] * (dp[1] - D));
    for (var other = 0u; other < 8u; other++) {
      let w = told(p, other);
      let dw = told(ds, other);
      let begins = subgroupShuffle(own, other) + lane;
      for (var column = 0u; column < COLUMNS; column++) {
        add_products(&sums_v, column, w, dy[begins + 8u * column]);
        add_products(&sums_k, column, dw, q[begins + 8u * column]);
      }
    }
  }
  for (var r = 0u; r < 8u; r++) {
    let start = subgroupShuffle(at, r);
    if (first + r < params.S) {
      for (var column = 0u; column < COLUMNS; column++) {
        if (lane + 8u * column < params.D4) {
          dk[start + lane + 8u * column] = params.scale * sums_k[8u * column + r];
          dv[start + lane + 8u * column] = sums_v[8u * column + r];
        }
      }
    }
  }
}
