// Philox-4x32-7 (Salmon et al., SC 2011): four random words for a counter and a key. Seven rounds are the fewest
// that pass BigCrush (table 2 there): enough for dropout, which draws anew for each element and each product.
// The one text that kernels share; src/tensor/philox.ts is its twin on the CPU.

fn philox_mul_high(a: u32, b: u32) -> u32 {
  let low = (a & 0xffffu) * (b & 0xffffu);
  let mid = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
  let carry = (a & 0xffffu) * (b >> 16u) + (mid & 0xffffu);
  return (a >> 16u) * (b >> 16u) + (mid >> 16u) + (carry >> 16u);
}

fn philox4x32(counter: vec4<u32>, key: vec2<u32>) -> vec4<u32> {
  var c = counter;
  var k = key;
  for (var round = 0u; round < 7u; round++) {
    let high0 = philox_mul_high(0xD2511F53u, c.x);
    let high1 = philox_mul_high(0xCD9E8D57u, c.z);
    c = vec4(high1 ^ c.y ^ k.x, 0xCD9E8D57u * c.z, high0 ^ c.w ^ k.y, 0xD2511F53u * c.x);
    k += vec2(0x9E3779B9u, 0xBB67AE85u);
  }
  return c;
}
