// requires: threefry
// Low-rank updates that differ from sequence to sequence of a batch; the base's product is made before, for
// all of them at once. Rows m = b·T + t; x: [rows, K], y: [rows, N].
//   S_m = (D(x_m)·Aᵀ)     y_m += s·S_m·Bᵀ        of the adapters of sequence b
//   dS_m = s·dy_m·B       dx_m += D'(dS_m·A)     dA = Σ dS_mᵀ·D(x_m)     dB = Σ s·dy_mᵀ·S_m
// Ranks go in fours: `fours` holds for each sequence the same number of them, 12 words each (see lora_mixed.ts).
// All adapters' A's [r, K] lie in `a`, all B's [N, r] in `b`; S and dS: [rows, fours] of vec4. K, N: multiples of 4.
// Dropping keeps an element where its word of Threefry reaches the threshold; its 1/(1 − p) is part of s.

struct Params {
  sequences: u32,
  T: u32,
  K4: u32,
  N4: u32,
  fours: u32, // of one sequence
  groups: u32, // fours of all adapters, each once
}

@group(0) @binding(0) var<storage> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage> a: array<vec4<f32>>;
@group(0) @binding(2) var<storage> b: array<f32>;
@group(0) @binding(3) var<storage> fours: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> S: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> y: array<vec4<f32>>;
@group(0) @binding(6) var<storage> dy: array<vec4<f32>>;
@group(0) @binding(7) var<storage> S_in: array<vec4<f32>>;
@group(0) @binding(8) var<storage> uses: array<u32>;
@group(0) @binding(9) var<storage, read_write> da: array<vec4<f32>>;
@group(0) @binding(10) var<storage, read_write> db: array<f32>;
var<immediate> params: Params;

struct Four {
  a_at: u32, // vec4s before its first row of A
  b_at: u32, // numbers before its first column of B
  r: u32, // of its adapter
  valid: u32, // ranks, 0 to 4
  scale: f32,
  threshold: u32, // 0: nothing is dropped
  key: vec2<u32>,
  first: u32, // rows of its adapter before this sequence
}

fn four_of(sequence: u32, q: u32) -> Four {
  let at = (sequence * params.fours + q) * 3u;
  let w = fours[at];
  let v = fours[at + 1u];
  return Four(w.x, w.y, w.z, w.w, bitcast<f32>(v.x), v.y, v.zw, fours[at + 2u].x);
}

// 1 for kept elements of quad k of a row of its adapter, 0 for dropped ones.
fn kept(f: Four, row: u32, k: u32) -> vec4<f32> {
  if (f.threshold == 0u) {
    return vec4<f32>(1.0);
  }
  let words = draws((f.first + row) * params.K4 + k, f.key);
  return select(vec4<f32>(), vec4<f32>(1.0), words >= vec4<u32>(f.threshold));
}

fn ranks(valid: u32) -> vec4<f32> {
  return select(vec4<f32>(), vec4<f32>(1.0), vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(valid));
}

// Four ranks of column n of Bᵀ; those past its own are 0.
fn load_b(f: Four, n: u32) -> vec4<f32> {
  let at = f.b_at + n * f.r;
  let last = max(f.valid, 1u) - 1u;
  return ranks(f.valid)
    * vec4<f32>(b[at], b[at + min(1u, last)], b[at + min(2u, last)], b[at + min(3u, last)]);
}

// Rank j of quad k of A; the last one stands for those past it.
fn load_a(f: Four, j: u32, k: u32) -> vec4<f32> {
  return a[f.a_at + min(j, max(f.valid, 1u) - 1u) * params.K4 + k];
}

// What a thread of (four rows of a sequence) × (item of `width`) works on.
struct Place {
  sequence: u32,
  t: u32,
  item: u32,
  inside: bool,
}

fn place(id: vec3<u32>, groups: vec3<u32>, width: u32) -> Place {
  let at = id.y * groups.x * 64u + id.x;
  let blocks = (params.T + 3u) / 4u;
  let block = at / width;
  return Place(block / blocks, (block % blocks) * 4u, at % width, block / blocks < params.sequences);
}

fn rows_of(p: Place) -> vec4<u32> {
  let t = min(vec4<u32>(p.t, p.t + 1u, p.t + 2u, p.t + 3u), vec4<u32>(params.T - 1u));
  return t + vec4<u32>(p.sequence * params.T);
}

@compute @workgroup_size(64)
fn lora_mixed_forward_s(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let p = place(id, groups, params.fours);
  if (!p.inside) {
    return;
  }
  let f = four_of(p.sequence, p.item);
  let rows = rows_of(p);
  var sums = mat4x4<f32>(); // one column for each row
  if (f.valid > 0u) {
    for (var k = 0u; k < params.K4; k++) {
      let ranks = transpose(mat4x4<f32>(load_a(f, 0u, k), load_a(f, 1u, k), load_a(f, 2u, k), load_a(f, 3u, k)));
      for (var i = 0u; i < 4u; i++) {
        let t = rows[i] - p.sequence * params.T;
        sums[i] += ranks * (x[rows[i] * params.K4 + k] * kept(f, t, k));
      }
    }
  }
  for (var i = 0u; i < min(4u, params.T - p.t); i++) {
    S[rows[i] * params.fours + p.item] = sums[i] * ranks(f.valid);
  }
}

@compute @workgroup_size(64)
fn lora_mixed_forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let p = place(id, groups, params.N4);
  if (!p.inside) {
    return;
  }
  let rows = rows_of(p);
  var sums = mat4x4<f32>(); // one column for each row
  for (var q = 0u; q < params.fours; q++) {
    let f = four_of(p.sequence, q);
    if (f.valid == 0u) {
      continue;
    }
    let n = p.item * 4u;
    let block = transpose(mat4x4<f32>(load_b(f, n), load_b(f, n + 1u), load_b(f, n + 2u), load_b(f, n + 3u)));
    for (var i = 0u; i < 4u; i++) {
      sums[i] += f.scale * (block * S_in[rows[i] * params.fours + q]);
    }
  }
  for (var i = 0u; i < min(4u, params.T - p.t); i++) {
    y[rows[i] * params.N4 + p.item] += sums[i];
  }
}

@compute @workgroup_size(64)
fn lora_mixed_backward_s(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let p = place(id, groups, params.fours);
  if (!p.inside) {
    return;
  }
  let f = four_of(p.sequence, p.item);
  let rows = rows_of(p);
  var sums = mat4x4<f32>(); // one column for each row
  if (f.valid > 0u) {
    for (var n = 0u; n < params.N4; n++) {
      let block = mat4x4<f32>(
        load_b(f, 4u * n), load_b(f, 4u * n + 1u), load_b(f, 4u * n + 2u), load_b(f, 4u * n + 3u));
      for (var i = 0u; i < 4u; i++) {
        sums[i] += block * dy[rows[i] * params.N4 + n];
      }
    }
  }
  for (var i = 0u; i < min(4u, params.T - p.t); i++) {
    S[rows[i] * params.fours + p.item] = f.scale * sums[i];
  }
}

// y is dx here, with the base's part in it.
@compute @workgroup_size(64)
fn lora_mixed_backward_x(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let p = place(id, groups, params.K4);
  if (!p.inside) {
    return;
  }
  let rows = rows_of(p);
  var sums = mat4x4<f32>();
  for (var q = 0u; q < params.fours; q++) {
    let f = four_of(p.sequence, q);
    if (f.valid == 0u) {
      continue;
    }
    let k = p.item;
    let block = mat4x4<f32>(load_a(f, 0u, k), load_a(f, 1u, k), load_a(f, 2u, k), load_a(f, 3u, k));
    for (var i = 0u; i < 4u; i++) {
      let t = rows[i] - p.sequence * params.T;
      sums[i] += kept(f, t, k) * (block * S_in[rows[i] * params.fours + q]);
    }
  }
  for (var i = 0u; i < min(4u, params.T - p.t); i++) {
    y[rows[i] * params.K4 + p.item] += sums[i];
  }
}

// S_in is dS. uses: for each group where its list begins, and where the last ends; then pairs (sequence, q).
@compute @workgroup_size(64)
fn lora_mixed_backward_a(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let at = id.y * groups.x * 64u + id.x;
  let group = at / params.K4;
  let k = at % params.K4;
  if (group >= params.groups) {
    return;
  }
  var sums = mat4x4<f32>(); // one column for each rank
  var f = Four();
  for (var u = uses[group]; u < uses[group + 1u]; u++) {
    let pair = params.groups + 1u + 2u * u;
    let sequence = uses[pair];
    let q = uses[pair + 1u];
    f = four_of(sequence, q);
    for (var t = 0u; t < params.T; t++) {
      let row = sequence * params.T + t;
      let values = x[row * params.K4 + k] * kept(f, t, k);
      let d = S_in[row * params.fours + q];
      sums += mat4x4<f32>(d.x * values, d.y * values, d.z * values, d.w * values);
    }
  }
  for (var j = 0u; j < f.valid; j++) {
    da[f.a_at + j * params.K4 + k] = sums[j];
  }
}

@compute @workgroup_size(64)
fn lora_mixed_backward_b(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let at = id.y * groups.x * 64u + id.x;
  let group = at / params.N4;
  let n = at % params.N4;
  if (group >= params.groups) {
    return;
  }
  var sums = mat4x4<f32>(); // one column of ranks for each of four n
  var f = Four();
  for (var u = uses[group]; u < uses[group + 1u]; u++) {
    let pair = params.groups + 1u + 2u * u;
    let sequence = uses[pair];
    let q = uses[pair + 1u];
    f = four_of(sequence, q);
    for (var t = 0u; t < params.T; t++) {
      let row = sequence * params.T + t;
      let d = f.scale * dy[row * params.N4 + n];
      let s = S_in[row * params.fours + q];
      sums += mat4x4<f32>(d.x * s, d.y * s, d.z * s, d.w * s);
    }
  }
  for (var i = 0u; i < 4u; i++) {
    for (var j = 0u; j < f.valid; j++) {
      db[f.b_at + (4u * n + i) * f.r + j] = sums[i][j];
    }
  }
}
