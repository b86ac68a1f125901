// Weights for benches: numbers that look like a model's, made where they are used.
#include "elements.cuh"

// Nearly normal, mean 0 and deviation 1: the sum of four uniforms that a hash (Wellons' lowbias32) draws from a counter.
__device__ __forceinline__ float draw(u32 seed, u64 index) {
  u32 x = static_cast<u32>(index) ^ static_cast<u32>(index >> 32) * 0x9e3779b9u ^ seed * 0x85ebca6bu;
  float sum = 0.0f;
  for (int i = 0; i < 2; i++) {
    x = (x ^ x >> 16) * 0x7feb352du;
    x = (x ^ x >> 15) * 0x846ca68bu;
    x ^= x >> 16;
    sum += static_cast<float>(x & 0xffffu) + static_cast<float>(x >> 16);
  }
  return (sum - 131070.0f) * (1.7320508f / 65536.0f);
}

extern "C" __global__ void fill_bf16(bf16* out, long long count, u32 seed, float mean, float deviation) {
  long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) out[i] = static_cast<bf16>(bf16_pair(mean + deviation * draw(seed, i), 0.0f));
}
TRENI_SHIM_EXPORT(fill_bf16)

extern "C" __global__ void fill_float(float* out, long long count, u32 seed, float mean, float deviation) {
  long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i < count) out[i] = mean + deviation * draw(seed, i);
}
TRENI_SHIM_EXPORT(fill_float)
