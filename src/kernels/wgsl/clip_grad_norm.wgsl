// The norm over all gradients together, and the factor that brings it down to maxNorm.
//   norm = √Σ g²          factor = min(1, maxNorm / (norm + 1e-6))
// Two stages in a fixed order, so equal gradients give equal bits: "sums" is called once for each
// gradient and leaves one partial sum per invocation behind the others; "factor" adds them up.

override LANES: u32 = 8;

struct Params {
  n: u32, // elements of x; for "factor": partial sums
  parts: u32, // invocations that share x
  offset: u32, // of the first partial sum
  max_norm: f32,
}

@group(0) @binding(0) var<storage> x: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> partials: array<f32>;
@group(0) @binding(2) var<storage> partials_in: array<f32>;
@group(0) @binding(3) var<storage, read_write> norm: array<f32>; // [1]
@group(0) @binding(4) var<storage, read_write> factor: array<f32>; // [1]
@group(0) @binding(5) var<storage> factor_in: array<f32>; // [1]
@group(0) @binding(6) var<storage, read_write> scaled: array<f32>;
var<immediate> params: Params;

const BLOCK = 64u; // terms that are added up before they join the total: keeps rounding small

// The elements of vec4 i, with zeros past the end.
fn four(i: u32) -> vec4<f32> {
  let at = 4u * i + vec4<u32>(0u, 1u, 2u, 3u);
  return select(vec4<f32>(), x[i], at < vec4<u32>(params.n));
}

// An invocation takes the vec4s part, part + parts, …
@compute @workgroup_size(LANES)
fn clip_grad_norm_sums(@builtin(global_invocation_id) id: vec3<u32>) {
  let part = id.x;
  let n4 = (params.n + 3u) / 4u;
  var total = 0.0;
  for (var start = part; start < n4; start += BLOCK * params.parts) {
    let end = min(n4, start + BLOCK * params.parts);
    var sum = 0.0;
    for (var i = start; i < end; i += params.parts) {
      let g = four(i);
      sum += dot(g, g);
    }
    total += sum;
  }
  if (part < params.parts) {
    partials[params.offset + part] = total;
  }
}

const WIDTH = 64u;
var<workgroup> sums: array<f32, WIDTH>;

@compute @workgroup_size(WIDTH)
fn clip_grad_norm_factor(@builtin(local_invocation_index) lane: u32) {
  var own = 0.0;
  for (var i = lane; i < params.n; i += WIDTH) {
    own += partials_in[i];
  }
  sums[lane] = own;
  workgroupBarrier();
  if (lane > 0u) {
    return;
  }
  var total = 0.0;
  for (var i = 0u; i < WIDTH; i++) {
    total += sums[i];
  }
  norm[0] = sqrt(total);
  factor[0] = min(1.0, params.max_norm / (sqrt(total) + 1e-6));
}

// scaled *= factor, in place. One thread scales one element.
@compute @workgroup_size(64)
fn clip_grad_norm_scale(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let i = id.y * groups.x * 64u + id.x;
  if (i < params.n) {
    scaled[i] *= factor_in[0];
  }
}
