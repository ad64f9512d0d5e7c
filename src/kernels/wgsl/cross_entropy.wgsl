// Cross-entropy with log-softmax inside. logits: [N, V], targets: [N].
//   lse_i = log Σ_v exp(logits_iv)      loss_i = lse_i − logits_i,target      0 where ignored
//   dlogits_iv = dloss_i · (exp(logits_iv − lse_i) − [v = target])
// Runs: one thread folds the columns of a row that are `spans` apart. Rows: one thread joins the runs of a row.
// Backward: one thread computes the elements of a row that are 64 apart.

override REDUCTION: u32 = 0; // 0 mean, 1 sum, 2 none
override SPAN: u32 = 1024;

struct Params {
  n: u32,
  V: u32,
  ignore: i32,
  spans: u32, // runs of a row, and its workgroups in backward
}

@group(0) @binding(0) var<storage> logits: array<f32>;
@group(0) @binding(1) var<storage> targets: array<i32>;
@group(0) @binding(2) var<storage> lse: array<f32>;
@group(0) @binding(3) var<storage> total: array<f32>;
@group(0) @binding(4) var<storage> count: array<f32>;
@group(0) @binding(5) var<storage> dy: array<f32>;
@group(0) @binding(6) var<storage, read_write> losses: array<f32>;
@group(0) @binding(7) var<storage, read_write> counts: array<f32>;
@group(0) @binding(8) var<storage, read_write> lses: array<f32>;
@group(0) @binding(9) var<storage, read_write> y: array<f32>;
@group(0) @binding(10) var<storage, read_write> dlogits: array<f32>;
// Of each run of a row: its largest logit, and the sum of exp(logit − largest). [N, spans]
@group(0) @binding(11) var<storage, read_write> maxima: array<f32>;
@group(0) @binding(12) var<storage, read_write> sums: array<f32>;
@group(0) @binding(13) var<storage> maxima_in: array<f32>;
@group(0) @binding(14) var<storage> sums_in: array<f32>;
var<immediate> params: Params;

@compute @workgroup_size(16)
fn cross_entropy_runs(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 16u + id.x;
  let row = i / params.spans;
  if (row >= params.n) {
    return;
  }
  let first = i % params.spans;
  let start = row * params.V;
  var largest = -1e30;
  for (var v = first; v < params.V; v += params.spans) {
    largest = max(largest, logits[start + v]);
  }
  var sum = 0.0;
  for (var v = first; v < params.V; v += params.spans) {
    sum += exp(max(logits[start + v] - largest, -80.0));
  }
  maxima[i] = largest;
  sums[i] = sum;
}

@compute @workgroup_size(16)
fn cross_entropy_rows(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let row = id.y * groups.x * 16u + id.x;
  if (row >= params.n) {
    return;
  }
  let start = row * params.spans;
  var largest = -1e30;
  for (var s = start; s < start + params.spans; s++) {
    largest = max(largest, maxima_in[s]);
  }
  var sum = 0.0;
  for (var s = start; s < start + params.spans; s++) {
    sum += sums_in[s] * exp(max(maxima_in[s] - largest, -80.0));
  }
  let all = largest + log(sum);
  lses[row] = all;
  let t = targets[row];
  let counted = t != params.ignore;
  let at = u32(clamp(t, 0, i32(params.V) - 1));
  losses[row] = select(0.0, all - logits[row * params.V + at], counted);
  counts[row] = select(0.0, 1.0, counted);
}

// y = total / count, and 0 where nothing counts.
@compute @workgroup_size(1)
fn cross_entropy_mean() {
  y[0] = total[0] / max(count[0], 1.0);
}

// A workgroup takes SPAN columns of a row.
@compute @workgroup_size(64)
fn cross_entropy_backward(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let g = group.y * groups.x + group.x;
  let row = g / params.spans;
  if (row >= params.n) {
    return;
  }
  let t = targets[row];
  let all = lse[row];
  var scale = dy[select(0u, row, REDUCTION == 2u)];
  if (REDUCTION == 0u) {
    scale /= max(count[0], 1.0);
  }
  scale = select(0.0, scale, t != params.ignore);
  let first = (g - row * params.spans) * SPAN;
  let end = min(first + SPAN, params.V);
  for (var v = first + lane; v < end; v += 64u) {
    let at = row * params.V + v;
    let p = exp(clamp(logits[at] - all, -80.0, 0.0));
    dlogits[at] = scale * (p - select(0.0, 1.0, t == i32(v)));
  }
}
