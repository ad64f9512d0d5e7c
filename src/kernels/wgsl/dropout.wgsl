// requires: threefry
// Dropout (Srivastava et al. 2014). x, y: [n].
//   y_i = x_i / (1 − p) where word_i ≥ p·2³², else 0; word_i: word i mod 4 of Threefry-4x32-13
//   (Salmon et al. 2011) for counter i div 4 and the key of this call. dx is made from dy in the same
//   way, so that no mask is stored. One thread makes four elements.

struct Params {
  n: u32,
  key0: u32,
  key1: u32,
  threshold: u32,
  scale: f32,
}

@group(0) @binding(0) var<storage> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
var<immediate> params: Params;

@compute @workgroup_size(64)
fn dropout_forward(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let quad = id.y * groups.x * 64u + id.x;
  if (quad * 4u >= params.n) {
    return;
  }
  let words = draws(quad, vec2(params.key0, params.key1));
  for (var j = 0u; j < min(4u, params.n - quad * 4u); j++) {
    let i = quad * 4u + j;
    y[i] = select(0.0, x[i] * params.scale, words[j] >= params.threshold);
  }
}
