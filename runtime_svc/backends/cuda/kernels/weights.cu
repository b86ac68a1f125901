// What happens to weights on their way into the slab: conversion where the file stores another type, and a check.
#include "elements.cuh"

// Elements that a file stores as bf16, f16 or float32, to bf16 or float32. `count` elements, a thread each.
extern "C" __global__ void bf16_to_float(const bf16* from, float* to, long long count) {
  long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) to[i] = bf16_float(from[i]);
}
TRENI_SHIM_EXPORT(bf16_to_float)

extern "C" __global__ void half_to_float(const u16* from, float* to, long long count) {
  long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) to[i] = f16_float(from[i]);
}
TRENI_SHIM_EXPORT(half_to_float)

extern "C" __global__ void half_to_bf16(const u16* from, bf16* to, long long count) {
  long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) to[i] = static_cast<bf16>(bf16_pair(f16_float(from[i]), 0.0f));
}
TRENI_SHIM_EXPORT(half_to_bf16)

extern "C" __global__ void float_to_bf16(const float* from, bf16* to, long long count) {
  long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) to[i] = static_cast<bf16>(bf16_pair(from[i], 0.0f));
}
TRENI_SHIM_EXPORT(float_to_bf16)

// Where a tensor lies in the slab: `bytes` from `offset` (16-byte aligned), float32 or bf16.
struct Stored {
  long long offset;
  long long bytes;
  long long is_float;
};

// flags[t] = 1 where tensor t holds NaN or infinity. Blocks: (any number, tensors). What lies between a tensor's
// end and the next multiple of 16 bytes is zero.
extern "C" __global__ void find_not_finite(const unsigned char* slab, const Stored* tensors, int* flags) {
  Stored tensor = tensors[blockIdx.y];
  const uint4* from = reinterpret_cast<const uint4*>(slab + tensor.offset);
  long long count = (tensor.bytes + 15) / 16;
  // An all-ones exponent: eight bits below the sign, of each half word or of each word.
  unsigned low = tensor.is_float ? 0u : 0x00007f80u, high = 0x7f800000u;
  bool found = false;
  for (long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x; i < count;
       i += static_cast<long long>(gridDim.x) * blockDim.x) {
    uint4 raw = from[i];
    unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int j = 0; j < 4; j++) {
      found |= (words[j] & high) == high;
      found |= low != 0 && (words[j] & low) == low;
    }
  }
  if (found) flags[blockIdx.y] = 1;
}
TRENI_SHIM_EXPORT(find_not_finite)
