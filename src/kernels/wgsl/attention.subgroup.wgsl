enable subgroups;
diagnostic(off, subgroup_uniformity); // a workgroup is one subgroup: what all its lanes agree on is uniform
// Attention for software devices, whose subgroups have 8 lanes (lavapipe) or 4 (SwiftShader). Not for GPUs.
// Formulas, shapes, what a query sees, and parts: attention.wgsl.
//
// A workgroup is one subgroup and owns 16 rows (for dk and dv: 16 keys). It walks along the other side in
// tiles of 4 · LANES, of which each lane owns four neighbours:
//   scores    a product like matmul.subgroup8.wgsl's: for 4 terms of the sum each lane loads its share of
//             the rows and its own four; shuffles from constant lanes hand a row to all
//   products  each lane owns COLUMNS vec4 columns of the results of all rows; it loads them for four keys
//             at a time, whose weights a shuffle brings from the lane that has them
// Vectors longer than 4 · LANES · COLUMNS are divided among workgroups, which compute their scores anew.
// A number of each row lies with its owner: row s · LANES + lane in component s of a vec4. All is in
// registers, which no loop may index: an array would be kept in memory. Loops over quarters of a tile and over
// columns turn it round instead; their length is no constant, so that the compiler, which takes its time with
// long code, does not unroll them. Loops ask at their ends whether to go on: one that asks at its start costs
// lavapipe a last round with all lanes masked.

const LANES: u32 = 8; // or 4
const COLUMNS: u32 = 2; // 1, 2 or 4
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
  part_begin: u32,
  part_end: u32,
  D4: u32, // d / 4
  shares: u32, // workgroups among which the columns are divided
  columns: u32, // COLUMNS
}

@group(0) @binding(0) var<storage> q: array<vec4<f32>>;
@group(0) @binding(1) var<storage> k: array<vec4<f32>>;
@group(0) @binding(2) var<storage> v: array<vec4<f32>>;
@group(0) @binding(3) var<storage> dy: array<vec4<f32>>;
@group(0) @binding(4) var<storage> starts: array<i32>; // [B] or [B, T]
@group(0) @binding(5) var<storage> ends: array<i32>; // [B] or [B, T]
@group(0) @binding(6) var<storage> lse_in: array<f32>; // [B, Hkv, rows]
@group(0) @binding(7) var<storage> stats: array<vec4<f32>>; // [B, Hkv, rows]
@group(0) @binding(8) var<storage, read_write> lse: array<f32>;
@group(0) @binding(9) var<storage, read_write> out: array<vec4<f32>>; // y, dq or dk
@group(0) @binding(10) var<storage, read_write> dv: array<vec4<f32>>;
var<immediate> params: Params;

const HIDDEN = -1e30; // finite: WGSL may assume that there are no infinities
const NOTHING = -1e29; // what is lower is hidden
const ROWS = 16u;

// Four numbers for each of 16 rows: their scores with the lane's four keys, say. A column is a row.
struct Tile {
  a: mat4x4<f32>,
  b: mat4x4<f32>,
  c: mat4x4<f32>,
  d: mat4x4<f32>,
}

// The lane's vec4 columns of 16 rows, as many as there are.
struct Sums {
  a: Tile,
  b: Tile,
  c: Tile,
  d: Tile,
}

fn turned(t: Tile) -> Tile {
  return Tile(t.b, t.c, t.d, t.a);
}

fn turned_sums(s: Sums) -> Sums {
  if (COLUMNS == 1u) {
    return s;
  }
  if (COLUMNS == 2u) {
    return Sums(s.b, s.a, s.c, s.d);
  }
  return Sums(s.b, s.c, s.d, s.a);
}

// 4: the quarters of a tile, as a number that the compiler does not know.
fn quarters() -> u32 {
  return 4u * params.columns / COLUMNS;
}

// Blocks from the outside inwards, so that both halves of a grid have the same work under a causal mask.
fn first_of(group: u32, groups: u32) -> u32 {
  let at = group / params.shares;
  return ROWS * select(at / 2u, groups / params.shares - 1u - at / 2u, at % 2u == 1u);
}

// The keys that query i sees: from x on, before y.
fn keys_of(b: u32, i: u32) -> vec2<f32> {
  let p = i32(params.keys + i) - i32(params.T);
  var seen = vec2<i32>(max(p - params.before, 0), min(p + params.after + 1, i32(params.keys)));
  if (params.starts > 0u) {
    seen.x = max(seen.x, starts[select(b, b * params.T + i, params.starts > 1u)]);
  }
  if (params.ends > 0u) {
    seen.y = min(seen.y, ends[select(b, b * params.T + i, params.ends > 1u)]);
  }
  return vec2<f32>(seen); // exact
}

// Where vectors begin in q, y and their gradients, and in k, v and theirs.
fn rows_at(b: u32, kv: u32, row: vec4<u32>) -> vec4<u32> {
  let G = params.H / params.Hkv;
  return ((b * params.T + row / G) * params.H + kv * G + row % G) * params.D4;
}

fn keys_at(b: u32, kv: u32, key: vec4<u32>) -> vec4<u32> {
  return ((b * params.S + key) * params.Hkv + kv) * params.D4;
}

fn four_after(n: u32) -> vec4<u32> {
  return n + vec4<u32>(0u, 1u, 2u, 3u);
}

// The rows that the lane owns.
fn owned(first: u32, lane: u32) -> vec4<u32> {
  return first + lane + LANES * vec4<u32>(0u, 1u, 2u, 3u);
}

// c + x · w.
fn fma_row(c: vec4<f32>, x: vec4<f32>, w: mat4x4<f32>) -> vec4<f32> {
  return fma(vec4(x.w), w[3], fma(vec4(x.z), w[2], fma(vec4(x.y), w[1], fma(vec4(x.x), w[0], c))));
}

// t + four terms of the sums of four rows, which the lanes "begin" and on have in x; w has the lane's four, transposed.
fn four_dots(t: mat4x4<f32>, x: vec4<f32>, begin: u32, w: mat4x4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(
    fma_row(t[0], subgroupShuffle(x, begin), w), fma_row(t[1], subgroupShuffle(x, begin + 1u), w),
    fma_row(t[2], subgroupShuffle(x, begin + 2u), w), fma_row(t[3], subgroupShuffle(x, begin + 3u), w));
}

fn dots(t: Tile, x: mat4x4<f32>, w: mat4x4<f32>) -> Tile {
  if (LANES == 4u) {
    return Tile(four_dots(t.a, x[0], 0u, w), four_dots(t.b, x[1], 0u, w), four_dots(t.c, x[2], 0u, w), four_dots(t.d, x[3], 0u, w));
  }
  return Tile(four_dots(t.a, x[0], 0u, w), four_dots(t.b, x[0], 4u, w), four_dots(t.c, x[1], 0u, w), four_dots(t.d, x[1], 4u, w));
}

// c + the weights p of lane "other" · w, the columns of its four keys.
fn four_products(c: mat4x4<f32>, p: mat4x4<f32>, other: u32, w: mat4x4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(
    fma_row(c[0], subgroupShuffle(p[0], other), w), fma_row(c[1], subgroupShuffle(p[1], other), w),
    fma_row(c[2], subgroupShuffle(p[2], other), w), fma_row(c[3], subgroupShuffle(p[3], other), w));
}

fn products(c: Tile, p: Tile, other: u32, w: mat4x4<f32>) -> Tile {
  return Tile(four_products(c.a, p.a, other, w), four_products(c.b, p.b, other, w), four_products(c.c, p.c, other, w), four_products(c.d, p.d, other, w));
}

// A number of four rows, from their owners to all.
fn told_by(x: f32, begin: u32) -> vec4<f32> {
  return vec4<f32>(subgroupShuffle(x, begin), subgroupShuffle(x, begin + 1u), subgroupShuffle(x, begin + 2u), subgroupShuffle(x, begin + 3u));
}

// A number of all rows: column s of the result has rows 4 · s to 4 · s + 3.
fn told(x: vec4<f32>) -> mat4x4<f32> {
  if (LANES == 4u) {
    return mat4x4<f32>(told_by(x.x, 0u), told_by(x.y, 0u), told_by(x.z, 0u), told_by(x.w, 0u));
  }
  return mat4x4<f32>(told_by(x.x, 0u), told_by(x.x, 4u), told_by(x.y, 0u), told_by(x.y, 4u));
}

// Every row of all columns times a factor.
fn scaled(c: mat4x4<f32>, by: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(by.x * c[0], by.y * c[1], by.z * c[2], by.w * c[3]);
}

fn rescaled(sums: Sums, by: mat4x4<f32>) -> Sums {
  var all = sums;
  var c = 0u;
  loop {
    all.a = Tile(scaled(all.a.a, by[0]), scaled(all.a.b, by[1]), scaled(all.a.c, by[2]), scaled(all.a.d, by[3]));
    all = turned_sums(all);
    continuing {
      c++;
      break if c >= params.columns;
    }
  }
  return all;
}

// The scores from the products of the vectors.
fn score(x: vec4<f32>) -> vec4<f32> {
  let s = params.scale * x;
  if (CAPPED) {
    return params.softcap * tanh(clamp(s / params.softcap, vec4<f32>(-10.0), vec4<f32>(10.0)));
  }
  return s;
}

// The gradient of scale · q·k from that of the score s.
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

fn seen_score(x: vec4<f32>, at: vec4<f32>, begin: f32, end: f32) -> vec4<f32> {
  return select(vec4<f32>(HIDDEN), score(x), (at >= vec4<f32>(begin)) & (at < vec4<f32>(end)));
}

// The scores of four rows, whose keys begin and end there, with the keys "at".
fn four_scores(x: mat4x4<f32>, at: vec4<f32>, begins: vec4<f32>, ends_of: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(
    seen_score(x[0], at, begins.x, ends_of.x), seen_score(x[1], at, begins.y, ends_of.y),
    seen_score(x[2], at, begins.z, ends_of.z), seen_score(x[3], at, begins.w, ends_of.w));
}

fn weight_of(s: vec4<f32>, top: f32) -> vec4<f32> {
  return select(vec4<f32>(), exp_of(s - top), s > vec4<f32>(NOTHING));
}

fn four_weights(s: mat4x4<f32>, top: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(weight_of(s[0], top.x), weight_of(s[1], top.y), weight_of(s[2], top.z), weight_of(s[3], top.w));
}

// Over the lane's four keys, for each of four rows.
fn most_of(s: mat4x4<f32>) -> vec4<f32> {
  let t = transpose(s);
  return max(max(t[0], t[1]), max(t[2], t[3]));
}

fn sum_of(s: mat4x4<f32>) -> vec4<f32> {
  let t = transpose(s);
  return (t[0] + t[1]) + (t[2] + t[3]);
}

// A number of each of 8 rows, from every lane, is to be combined over all lanes, each with its row's owner. In
// each round a lane keeps the half that it answers for, and gives the other half to its neighbour. With 4
// lanes there are two rows for each: the first result is that of the low four, the second that of the high.
struct Halves {
  kept: vec4<f32>,
  given: vec4<f32>,
}

fn first_halves(low: vec4<f32>, high: vec4<f32>, lane: u32) -> Halves {
  let odd = (lane & 1u) != 0u;
  let even_rows = vec4(low.xz, high.xz);
  let odd_rows = vec4(low.yw, high.yw);
  return Halves(select(even_rows, odd_rows, odd), subgroupShuffleXor(select(odd_rows, even_rows, odd), 1u));
}

fn second_halves(x: vec4<f32>, lane: u32) -> Halves {
  let late = (lane & 2u) != 0u;
  let kept = select(x.xz, x.yw, late);
  let given = subgroupShuffleXor(select(x.yw, x.xz, late), 2u);
  return Halves(vec4(kept, 0.0, 0.0), vec4(given, 0.0, 0.0));
}

fn third_halves(x: vec4<f32>, lane: u32) -> Halves {
  let late = (lane & 4u) != 0u;
  return Halves(vec4(select(x.x, x.y, late)), vec4(subgroupShuffleXor(select(x.y, x.x, late), 4u)));
}

fn most_of_eight(low: vec4<f32>, high: vec4<f32>, lane: u32) -> vec2<f32> {
  let first = first_halves(low, high, lane);
  let second = second_halves(max(first.kept, first.given), lane);
  let two = max(second.kept, second.given);
  if (LANES == 4u) {
    return two.xy;
  }
  let third = third_halves(two, lane);
  return max(third.kept, third.given).xy;
}

fn sum_of_eight(low: vec4<f32>, high: vec4<f32>, lane: u32) -> vec2<f32> {
  let first = first_halves(low, high, lane);
  let second = second_halves(first.kept + first.given, lane);
  let two = second.kept + second.given;
  if (LANES == 4u) {
    return two.xy;
  }
  let third = third_halves(two, lane);
  return (third.kept + third.given).xy;
}

fn slots(low: vec2<f32>, high: vec2<f32>) -> vec4<f32> {
  if (LANES == 4u) {
    return vec4<f32>(low, high);
  }
  return vec4<f32>(low.x, high.x, 0.0, 0.0);
}

// The same for all rows, of which column s has 4 · s to 4 · s + 3.
fn maxima(m: mat4x4<f32>, lane: u32) -> vec4<f32> {
  return slots(most_of_eight(m[0], m[1], lane), most_of_eight(m[2], m[3], lane));
}

fn totals(m: mat4x4<f32>, lane: u32) -> vec4<f32> {
  return slots(sum_of_eight(m[0], m[1], lane), sum_of_eight(m[2], m[3], lane));
}

// The own rows' share of four terms: as many vectors as a lane owns rows.
fn rows_of_q(at: vec4<u32>, j: u32) -> mat4x4<f32> {
  if (LANES == 4u) {
    return mat4x4<f32>(q[at.x + j], q[at.y + j], q[at.z + j], q[at.w + j]);
  }
  return mat4x4<f32>(q[at.x + j], q[at.y + j], vec4<f32>(), vec4<f32>());
}

fn rows_of_dy(at: vec4<u32>, j: u32) -> mat4x4<f32> {
  if (LANES == 4u) {
    return mat4x4<f32>(dy[at.x + j], dy[at.y + j], dy[at.z + j], dy[at.w + j]);
  }
  return mat4x4<f32>(dy[at.x + j], dy[at.y + j], vec4<f32>(), vec4<f32>());
}

fn rows_of_k(at: vec4<u32>, j: u32) -> mat4x4<f32> {
  if (LANES == 4u) {
    return mat4x4<f32>(k[at.x + j], k[at.y + j], k[at.z + j], k[at.w + j]);
  }
  return mat4x4<f32>(k[at.x + j], k[at.y + j], vec4<f32>(), vec4<f32>());
}

fn rows_of_v(at: vec4<u32>, j: u32) -> mat4x4<f32> {
  if (LANES == 4u) {
    return mat4x4<f32>(v[at.x + j], v[at.y + j], v[at.z + j], v[at.w + j]);
  }
  return mat4x4<f32>(v[at.x + j], v[at.y + j], vec4<f32>(), vec4<f32>());
}

// Four vectors at the same column.
fn four_of_q(at: vec4<u32>) -> mat4x4<f32> {
  return mat4x4<f32>(q[at.x], q[at.y], q[at.z], q[at.w]);
}

fn four_of_dy(at: vec4<u32>) -> mat4x4<f32> {
  return mat4x4<f32>(dy[at.x], dy[at.y], dy[at.z], dy[at.w]);
}

fn four_of_k(at: vec4<u32>) -> mat4x4<f32> {
  return mat4x4<f32>(k[at.x], k[at.y], k[at.z], k[at.w]);
}

fn four_of_v(at: vec4<u32>) -> mat4x4<f32> {
  return mat4x4<f32>(v[at.x], v[at.y], v[at.z], v[at.w]);
}

// Row r of a tile, for any r; not for the hot loops.
fn row_of(t: Tile, r: u32) -> vec4<f32> {
  var m = t.a;
  if (r >= 12u) {
    m = t.d;
  } else if (r >= 8u) {
    m = t.c;
  } else if (r >= 4u) {
    m = t.b;
  }
  let low = select(m[0], m[1], r % 2u == 1u);
  let high = select(m[2], m[3], r % 2u == 1u);
  return select(low, high, r % 4u >= 2u);
}

// out = sums · fresh + out · old, of the rows that exist; what is old of a first part is not read.
fn put(sums: Sums, at: vec4<u32>, fresh: vec4<f32>, old: vec4<f32>, column: u32, left: u32) {
  var all = sums;
  for (var c = 0u; c < params.columns; c++) {
    let own = column + LANES * c;
    for (var r = 0u; r < min(ROWS, left); r++) {
      let to = subgroupShuffle(at[r / LANES], r % LANES) + own;
      var value = subgroupShuffle(fresh[r / LANES], r % LANES) * row_of(all.a, r);
      let share = subgroupShuffle(old[r / LANES], r % LANES);
      if (own < params.D4) {
        if (params.part_begin > 0u) {
          value += share * out[to];
        }
        out[to] = value;
      }
    }
    all = turned_sums(all);
  }
}

fn put_dv(sums: Sums, at: vec4<u32>, column: u32, left: u32) {
  var all = sums;
  for (var c = 0u; c < params.columns; c++) {
    let own = column + LANES * c;
    for (var r = 0u; r < min(ROWS, left); r++) {
      let to = subgroupShuffle(at[r / LANES], r % LANES) + own;
      var value = row_of(all.a, r);
      if (own < params.D4) {
        if (params.part_begin > 0u) {
          value += dv[to];
        }
        dv[to] = value;
      }
    }
    all = turned_sums(all);
  }
}

@compute @workgroup_size(LANES)
fn attention_forward(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let b = group.z;
  let kv = group.y;
  let G = params.H / params.Hkv;
  let rows = params.T * G;
  let first = first_of(group.x, groups.x);
  let column = lane + LANES * COLUMNS * (group.x % params.shares);
  let row = min(owned(first, lane), vec4<u32>(rows - 1u));
  let statistics = (b * params.Hkv + kv) * rows + row;
  let at = rows_at(b, kv, row);
  let seen = array<vec2<f32>, 4>(keys_of(b, row.x / G), keys_of(b, row.y / G), keys_of(b, row.z / G), keys_of(b, row.w / G));
  let begins = vec4<f32>(seen[0].x, seen[1].x, seen[2].x, seen[3].x);
  let ends_of = vec4<f32>(seen[0].y, seen[1].y, seen[2].y, seen[3].y);
  let begin = max(params.part_begin, u32(subgroupMin(min(min(begins.x, begins.y), min(begins.z, begins.w)))));
  let end = min(params.part_end, u32(max(0.0, subgroupMax(max(max(ends_of.x, ends_of.y), max(ends_of.z, ends_of.w))))));
  var from_key = told(begins);
  var to_key = told(ends_of);
  var highest = vec4<f32>(HIDDEN);
  var weight = vec4<f32>();
  var sums: Sums;
  for (var key = begin; key < end; key += 4u * LANES) {
    let mine = four_after(key + 4u * lane);
    let own = keys_at(b, kv, min(mine, vec4<u32>(params.keys - 1u)));
    var p = Tile();
    var j = 0u;
    loop {
      p = dots(p, rows_of_q(at, j), transpose(four_of_k(own + j)));
      continuing {
        j++;
        break if j >= params.D4;
      }
    }
    // Keys behind the part belong to the next.
    let position = select(vec4<f32>(1e9), vec4<f32>(mine), mine < vec4<u32>(params.part_end));
    var each: mat4x4<f32>;
    var i = 0u;
    loop {
      p.a = four_scores(p.a, position, from_key[0], to_key[0]);
      each = mat4x4<f32>(each[1], each[2], each[3], most_of(p.a));
      p = turned(p);
      from_key = mat4x4<f32>(from_key[1], from_key[2], from_key[3], from_key[0]);
      to_key = mat4x4<f32>(to_key[1], to_key[2], to_key[3], to_key[0]);
      continuing {
        i++;
        break if i >= quarters();
      }
    }
    let top = max(highest, maxima(each, lane));
    let keep = exp_of(highest - top);
    highest = top;
    var tops = told(top);
    i = 0u;
    loop {
      p.a = four_weights(p.a, tops[0]);
      each = mat4x4<f32>(each[1], each[2], each[3], sum_of(p.a));
      p = turned(p);
      tops = mat4x4<f32>(tops[1], tops[2], tops[3], tops[0]);
      continuing {
        i++;
        break if i >= quarters();
      }
    }
    weight = weight * keep + totals(each, lane);
    sums = rescaled(sums, told(keep));
    var c = 0u;
    loop {
      var other = 0u;
      loop {
        let theirs = subgroupShuffle(own, other) + column + LANES * c;
        sums.a = products(sums.a, p, other, four_of_v(theirs));
        continuing {
          other++;
          break if other >= LANES * params.columns / COLUMNS;
        }
      }
      sums = turned_sums(sums);
      continuing {
        c++;
        break if c >= params.columns;
      }
    }
  }
  // What the parts before have seen counts as one key with the score lse and the value y.
  var before = vec4<f32>();
  var fresh = vec4<f32>(1.0);
  if (params.part_begin > 0u) {
    let known = vec4<f32>(lse_in[statistics.x], lse_in[statistics.y], lse_in[statistics.z], lse_in[statistics.w]);
    let top = max(highest, known);
    fresh = exp_of(highest - top);
    weight *= fresh;
    before = select(vec4<f32>(), exp_of(known - top), known > vec4<f32>(NOTHING));
    highest = top;
  }
  let total = weight + before;
  let inverse = select(vec4<f32>(), 1.0 / total, total > vec4<f32>());
  put(sums, at, fresh * inverse, before * inverse, column, rows - first);
  if (group.x % params.shares == 0u) {
    for (var s = 0u; s < ROWS / LANES; s++) {
      if (owned(first, lane)[s] < rows) {
        lse[statistics[s]] = select(HIDDEN, highest[s] + log(total[s]), total[s] > 0.0);
      }
    }
  }
}

// The gradient of a row's scores s with the keys "at", from that of its weights.
fn row_gradient(x: vec4<f32>, dp: vec4<f32>, at: vec4<f32>, of_row: vec4<f32>) -> vec4<f32> {
  let s = score(x);
  let ds = through_cap(exp_of(s - of_row.x) * (dp - of_row.y), s);
  return select(vec4<f32>(), ds, (at >= vec4<f32>(of_row.z)) & (at < vec4<f32>(of_row.w)));
}

fn four_row_gradients(x: mat4x4<f32>, dp: mat4x4<f32>, at: vec4<f32>, of_rows: mat4x4<f32>) -> mat4x4<f32> {
  let each = transpose(of_rows);
  return mat4x4<f32>(
    row_gradient(x[0], dp[0], at, each[0]), row_gradient(x[1], dp[1], at, each[1]),
    row_gradient(x[2], dp[2], at, each[2]), row_gradient(x[3], dp[3], at, each[3]));
}

@compute @workgroup_size(LANES)
fn attention_backward_q(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let b = group.z;
  let kv = group.y;
  let rows = params.T * (params.H / params.Hkv);
  let first = first_of(group.x, groups.x);
  let column = lane + LANES * COLUMNS * (group.x % params.shares);
  let row = min(owned(first, lane), vec4<u32>(rows - 1u));
  let statistics = (b * params.Hkv + kv) * rows + row;
  let at = rows_at(b, kv, row);
  // lse, D, and where the keys begin and end.
  let of_rows = transpose(mat4x4<f32>(stats[statistics.x], stats[statistics.y], stats[statistics.z], stats[statistics.w]));
  let begins = of_rows[2];
  let ends_of = of_rows[3];
  let begin = max(params.part_begin, u32(subgroupMin(min(min(begins.x, begins.y), min(begins.z, begins.w)))));
  let end = min(params.part_end, u32(max(0.0, subgroupMax(max(max(ends_of.x, ends_of.y), max(ends_of.z, ends_of.w))))));
  let log_sums = told(of_rows[0]);
  let D = told(of_rows[1]);
  let from_key = told(begins);
  let to_key = told(ends_of);
  var of_row = Tile(
    mat4x4<f32>(log_sums[0], D[0], from_key[0], to_key[0]), mat4x4<f32>(log_sums[1], D[1], from_key[1], to_key[1]),
    mat4x4<f32>(log_sums[2], D[2], from_key[2], to_key[2]), mat4x4<f32>(log_sums[3], D[3], from_key[3], to_key[3]));
  var sums: Sums;
  for (var key = begin; key < end; key += 4u * LANES) {
    let mine = four_after(key + 4u * lane);
    let own = keys_at(b, kv, min(mine, vec4<u32>(params.keys - 1u)));
    var s = Tile();
    var dp = Tile();
    var j = 0u;
    loop {
      s = dots(s, rows_of_q(at, j), transpose(four_of_k(own + j)));
      continuing {
        j++;
        break if j >= params.D4;
      }
    }
    j = 0u;
    loop {
      dp = dots(dp, rows_of_dy(at, j), transpose(four_of_v(own + j)));
      continuing {
        j++;
        break if j >= params.D4;
      }
    }
    let position = select(vec4<f32>(1e9), vec4<f32>(mine), mine < vec4<u32>(params.part_end));
    var i = 0u;
    loop {
      s.a = four_row_gradients(s.a, dp.a, position, of_row.a);
      s = turned(s);
      dp = turned(dp);
      of_row = turned(of_row);
      continuing {
        i++;
        break if i >= quarters();
      }
    }
    var c = 0u;
    loop {
      var other = 0u;
      loop {
        let theirs = subgroupShuffle(own, other) + column + LANES * c;
        sums.a = products(sums.a, s, other, four_of_k(theirs));
        continuing {
          other++;
          break if other >= LANES * params.columns / COLUMNS;
        }
      }
      sums = turned_sums(sums);
      continuing {
        c++;
        break if c >= params.columns;
      }
    }
  }
  put(sums, at, vec4<f32>(params.scale), vec4<f32>(1.0), column, rows - first);
}

// The weights of four queries with the key "at": x the products, of_queries their numbers in columns.
fn key_weight(x: vec4<f32>, at: f32, of_queries: mat4x4<f32>) -> vec4<f32> {
  let seen = (vec4<f32>(at) >= of_queries[2]) & (vec4<f32>(at) < of_queries[3]);
  return select(vec4<f32>(), exp_of(score(x) - of_queries[0]), seen);
}

fn four_key_weights(x: mat4x4<f32>, at: f32, of_queries: mat4x4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(
    key_weight(x[0], at, of_queries), key_weight(x[1], at + 1.0, of_queries),
    key_weight(x[2], at + 2.0, of_queries), key_weight(x[3], at + 3.0, of_queries));
}

fn four_key_gradients(p: mat4x4<f32>, x: mat4x4<f32>, dp: mat4x4<f32>, D: vec4<f32>) -> mat4x4<f32> {
  return mat4x4<f32>(
    through_cap(p[0] * (dp[0] - D), score(x[0])), through_cap(p[1] * (dp[1] - D), score(x[1])),
    through_cap(p[2] * (dp[2] - D), score(x[2])), through_cap(p[3] * (dp[3] - D), score(x[3])));
}

// lse, D, and where the keys begin and end, of the lane's four rows; behind the last they see nothing.
fn of_four(statistics: u32, row: vec4<u32>, end: u32) -> mat4x4<f32> {
  let at = statistics + min(row, vec4<u32>(end - 1u));
  let all = transpose(mat4x4<f32>(stats[at.x], stats[at.y], stats[at.z], stats[at.w]));
  return mat4x4<f32>(all[0], all[1], all[2], select(vec4<f32>(), all[3], row < vec4<u32>(end)));
}

@compute @workgroup_size(LANES)
fn attention_backward_kv(@builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let b = group.z;
  let kv = group.y;
  let G = params.H / params.Hkv;
  let first = first_of(group.x, groups.x);
  let column = lane + LANES * COLUMNS * (group.x % params.shares);
  let at = keys_at(b, kv, min(owned(first, lane), vec4<u32>(params.S - 1u)));
  let statistics = (b * params.Hkv + kv) * params.T * G;
  // The queries that see any of these keys, but for starts and ends.
  let behind = min(first + ROWS, params.keys);
  let shift = i32(params.T) - i32(params.keys);
  let from_query = max(i32(params.part_begin), i32(first) - params.after + shift);
  let to_query = min(i32(params.part_end), i32(behind) + params.before + shift);
  let end = select(0u, u32(max(to_query, 0)) * G, first < behind);
  var sums_k: Sums;
  var sums_v: Sums;
  for (var row = u32(from_query) * G; row < end; row += 4u * LANES) {
    var mine = four_after(row + 4u * lane);
    var of_queries = of_four(statistics, mine, end);
    // Passes over queries none of which sees any of these keys.
    while (row + 4u * LANES < end && !subgroupAny(any((of_queries[2] < vec4<f32>(f32(behind))) & (of_queries[3] > vec4<f32>(f32(first)))))) {
      row += 4u * LANES;
      mine += 4u * LANES;
      of_queries = of_four(statistics, mine, end);
    }
    let own = rows_at(b, kv, min(mine, vec4<u32>(end - 1u)));
    var s = Tile();
    var dp = Tile();
    var j = 0u;
    loop {
      s = dots(s, rows_of_k(at, j), transpose(four_of_q(own + j)));
      continuing {
        j++;
        break if j >= params.D4;
      }
    }
    j = 0u;
    loop {
      dp = dots(dp, rows_of_v(at, j), transpose(four_of_dy(own + j)));
      continuing {
        j++;
        break if j >= params.D4;
      }
    }
    // From here on s has the weights and dp the gradients of the scores.
    var i = 0u;
    loop {
      let p = four_key_weights(s.a, f32(first + 4u * i), of_queries);
      dp.a = four_key_gradients(p, s.a, dp.a, of_queries[1]);
      s.a = p;
      s = turned(s);
      dp = turned(dp);
      continuing {
        i++;
        break if i >= quarters();
      }
    }
    var c = 0u;
    loop {
      var other = 0u;
      loop {
        let theirs = subgroupShuffle(own, other) + column + LANES * c;
        sums_v.a = products(sums_v.a, s, other, four_of_dy(theirs));
        continuing {
          other++;
          break if other >= LANES * params.columns / COLUMNS;
        }
      }
      other = 0u;
      loop {
        let theirs = subgroupShuffle(own, other) + column + LANES * c;
        sums_k.a = products(sums_k.a, dp, other, four_of_q(theirs));
        continuing {
          other++;
          break if other >= LANES * params.columns / COLUMNS;
        }
      }
      sums_v = turned_sums(sums_v);
      sums_k = turned_sums(sums_k);
      continuing {
        c++;
        break if c >= params.columns;
      }
    }
  }
  put(sums_k, at, vec4<f32>(params.scale), vec4<f32>(1.0), column, params.S - first);
  put_dv(sums_v, at, column, params.S - first);
}
