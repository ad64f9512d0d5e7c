// Threefry-4x32-13 (Salmon et al., SC 2011): four random words for a counter and a key, by additions, rotations and
// exclusive ors alone. Twelve rounds are the fewest that pass BigCrush (table 2 there). WGSL has no 32 × 32 bit product of
// 64 bits, which makes the multiplications of Philox, the generator on the CPU, the dearer ones.

// Four words are kept as (x0, x2, x1, x3), of which the second two change places after each round.
fn threefry_round(x: vec4<u32>, by: vec2<u32>) -> vec4<u32> {
  let sums = x.xy + x.zw;
  let turned = (x.zw << by) | (x.zw >> (32u - by));
  return vec4(sums, (turned ^ sums).yx);
}

fn threefry_rounds(x: vec4<u32>, first: vec4<u32>, second: vec4<u32>) -> vec4<u32> {
  let y = threefry_round(threefry_round(x, first.xy), first.zw);
  return threefry_round(threefry_round(y, second.xy), second.zw);
}

fn threefry4x32(counter: vec4<u32>, k: vec4<u32>) -> vec4<u32> {
  let parity = 0x1bd11bdau ^ k.x ^ k.y ^ k.z ^ k.w;
  let odd = array(vec4(10u, 26u, 11u, 21u), vec4(13u, 27u, 23u, 5u));
  let even = array(vec4(6u, 20u, 17u, 11u), vec4(25u, 10u, 18u, 20u));
  var x = (counter + k).xzyw;
  x = threefry_rounds(x, odd[0], odd[1]) + vec4(k.y, k.w, k.z, parity + 1u);
  x = threefry_rounds(x, even[0], even[1]) + vec4(k.z, parity, k.w, k.x + 2u);
  x = threefry_rounds(x, odd[0], odd[1]) + vec4(k.w, k.x, parity, k.y + 3u);
  return threefry_round(x, even[0].xy).xwyz;
}

// The words that decide over four neighbours, the quad-th ones of what is dropped from by this key.
fn draws(quad: u32, key: vec2<u32>) -> vec4<u32> {
  return threefry4x32(vec4(quad, 0u, 0u, 0u), vec4(key, 0u, 0u));
}
