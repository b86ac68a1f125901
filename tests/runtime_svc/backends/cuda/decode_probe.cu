// What the host has to know of the device's structures and constants, and Philox and rounding by themselves.
#include "decode_shape.cuh"
#include "philox.cuh"

extern "C" __global__ void layout_probe(u64* out) {
    out[0] = sizeof(Step), out[1] = sizeof(Row), out[2] = sizeof(Result), out[3] = sizeof(Layer);
    out[4] = THREADS, out[5] = STATISTICS + u64(MAX_ROWS) * 8 * gridDim.x, out[6] = MAX_SPLITS;
    out[7] = PHASED_WORDS;
}

extern "C" __global__ void philox_probe(u64 seed, u64 draw, u32* out) { *out = philox_bits(seed, draw); }

extern "C" __global__ void f16_probe(const float* from, u32* rounded, u32* or_nan, u32 count) {
    u32 i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) rounded[i] = f16_pair(from[2 * i], from[2 * i + 1]), or_nan[i] = f16_pair_or_nan(from[2 * i], from[2 * i + 1]);
}

TRENI_SHIM_EXPORT(f16_probe)
TRENI_SHIM_EXPORT(layout_probe)
TRENI_SHIM_EXPORT(philox_probe)
