// requires: quantized
// A quantised matrix as f32: y = scale·code, as lib/quantized.wgsl reads it.
// w: [rows, columns], y: [rows, columns] of f32. One thread makes four neighbours.

override NF4: bool = false;
override WIDE: bool = true; // rows are whole vec4

struct Params {
  n: u32,
  columns: u32,
}

@group(0) @binding(0) var<storage> w: array<u32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
var<immediate> params: Params;

fn quantized_word(i: u32) -> u32 {
  return w[i];
}

@compute @workgroup_size(64)
fn dequantize(@builtin(global_invocation_id) id: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let at = (id.y * groups.x * 64u + id.x) * 4u;
  if (at >= params.n) {
    return;
  }
  let codes = quantized_codes(at, NF4);
  if (WIDE) {
    let v = quantized_scale(at, at / params.columns, params.n, NF4) * codes;
    y[at] = v.x;
    y[at + 1u] = v.y;
    y[at + 2u] = v.z;
    y[at + 3u] = v.w;
    return;
  }
  for (var j = 0u; j < min(4u, params.n - at); j++) {
    y[at + j] = quantized_scale(at + j, (at + j) / params.columns, params.n, NF4) * codes[j];
  }
}
