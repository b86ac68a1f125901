// What the host has to know of the device's structures and constants, and Philox by itself.
#include "decode_shape.cuh"
#include "philox.cuh"

extern "C" __global__ void layout_probe(u64* out) {
    out[0] = sizeof(Step), out[1] = sizeof(Row), out[2] = sizeof(Result), out[3] = sizeof(Layer);
    out[4] = THREADS, out[5] = STATISTICS + u64(MAX_ROWS) * 8 * gridDim.x, out[6] = MAX_SPLITS;
    out[7] = PHASED_WORDS;
}

extern "C" __global__ void philox_probe(u64 seed, u64 draw, u32* out) { *out = philox_bits(seed, draw); }

TRENI_SHIM_EXPORT(layout_probe)
TRENI_SHIM_EXPORT(philox_probe)
