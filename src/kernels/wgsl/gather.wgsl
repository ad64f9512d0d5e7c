// Reading by index. Ids that lie outside are clamped, so that nothing beyond an array is read.
//   rows:  table [V, D], ids [N] → y[n, d] = table[ids[n], d]                one thread per element
//          `table` holds rows start … end − 1, which is all of them where one binding does
//   axis:  x [outer, A, inner], ids [outer, K, inner] → y[o, k, i] = x[o, ids[o, k, i], i]
// Backward sums in a fixed order and needs no atomics.

override FORMAT: u32 = 0; // of the table: 0 f32, 1 f16, 2 bf16; the last two are pairs, low half first

struct Params {
  n: u32,
  rows: u32,
  columns: u32,
  K: u32,
  start: u32,
  end: u32,
}

@group(0) @binding(0) var<storage> table: array<u32>;
@group(0) @binding(1) var<storage> ids: array<u32>;
@group(0) @binding(2) var<storage> dy: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;
@group(0) @binding(5) var<storage> links: array<u32>;
@group(0) @binding(6) var<storage, read_write> new_links: array<u32>;
@group(0) @binding(7) var<storage> x: array<u32>;
@group(0) @binding(8) var<storage, read_write> picked: array<u32>;
var<immediate> params: Params;

// A negative i32 is a large u32 and lands on the last row.
fn id_at(n: u32) -> u32 {
  return min(ids[n], params.rows - 1u);
}

fn table_at(at: u32) -> f32 {
  if (FORMAT == 0u) {
    return bitcast<f32>(table[at]);
  }
  let word = table[at / 2u];
  if (FORMAT == 1u) {
    let pair = unpack2x16float(word);
    return select(pair.x, pair.y, at % 2u == 1u);
  }
  return bitcast<f32>(select(word << 16u, word & 0xffff0000u, at % 2u == 1u));
}

@compute @workgroup_size(64)
fn gather_rows(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.n) {
    return;
  }
  let D = params.columns;
  let row = id_at(i / D);
  if (row >= params.start && row < params.end) {
    y[i] = table_at((row - params.start) * D + i % D);
  }
}

const END = 0x7fffffffu;
const FIRST = 0x80000000u;

// For each position of a block start … end − 1 of ids: where the same id comes next in the block, and
// in the top bit whether it is the first of its kind there. One thread per position.
@compute @workgroup_size(64)
fn gather_rows_links(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let n = params.start + id.y * groups.x * 64u + id.x;
  if (n >= params.end) {
    return;
  }
  let own = id_at(n);
  var link = FIRST | END;
  for (var k = params.start; k < n; k++) {
    if (id_at(k) == own) {
      link = END;
      break;
    }
  }
  for (var k = n + 1u; k < params.end; k++) {
    if (id_at(k) == own) {
      link = (link & FIRST) | k;
      break;
    }
  }
  new_links[n] = link;
}

// dx[v, d] += Σ dy[n, d] over the positions n of v, in their order: the thread of the first follows the
// links. One thread per position and column.
@compute @workgroup_size(64)
fn gather_rows_backward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.n) {
    return;
  }
  let D = params.columns;
  let d = i % D;
  let n = params.start + i / D;
  var link = links[n];
  if ((link & FIRST) == 0u) {
    return;
  }
  let to = id_at(n) * D + d;
  var total = dx[to] + dy[n * D + d];
  for (link = link & END; link != END; link = links[link] & END) {
    total += dy[link * D + d];
  }
  dx[to] = total;
}

// Along an axis: rows = A, columns = inner.
@compute @workgroup_size(64)
fn gather_axis(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i < params.n) {
    let o = i / (params.K * params.columns);
    picked[i] = x[(o * params.rows + id_at(i)) * params.columns + i % params.columns];
  }
}

// dx[o, a, i] += Σ dy[o, k, i] over those k in start … end − 1 with ids[o, k, i] = a.
// One thread per element of x.
@compute @workgroup_size(64)
fn gather_axis_backward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i >= params.n) {
    return;
  }
  let line = i / params.columns;
  let a = line % params.rows;
  var at = (line / params.rows * params.K + params.start) * params.columns + i % params.columns;
  var total = dx[i];
  for (var k = params.start; k < params.end; k++) {
    if (id_at(at) == a) {
      total += dy[at];
    }
    at += params.columns;
  }
  dx[i] = total;
}
