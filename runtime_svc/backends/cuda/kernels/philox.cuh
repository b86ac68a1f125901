// Counter-based random bits: Philox 4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3").
#pragma once

#include "ptx.cuh"

#ifndef TRENI_SHIM
__device__ __forceinline__ u64 high_product(u64 a, u64 b) { return __umul64hi(a, b); }
#else
inline u64 high_product(u64 a, u64 b) { return __umul64hi(a, b); }
#endif

// The upper 24 bits of the first number of a generator with this key that stands at `counter`. NumPy's moves on
// before it draws.
__device__ __forceinline__ u32 philox_bits(u64 key, u64 counter) {
    constexpr u64 M0 = 0xd2e7470ee14c6c93, M1 = 0xca5a826395121157;
    constexpr u64 W0 = 0x9e3779b97f4a7c15, W1 = 0xbb67ae8584caa73b;
    u64 c[4] = {counter + 1, counter + 1 == 0, 0, 0}, k0 = key, k1 = 0;
    for (int round = 0; round < 10; round++) {
        u64 high0 = high_product(M0, c[0]), low0 = M0 * c[0];
        u64 high1 = high_product(M1, c[2]), low1 = M1 * c[2];
        c[0] = high1 ^ c[1] ^ k0, c[1] = low1;
        c[2] = high0 ^ c[3] ^ k1, c[3] = low0;
        k0 += W0, k1 += W1;
    }
    return u32(c[0] >> 40);
}
