// bfloat16, half and float32 through loads and stores of up to 16 bytes.
#pragma once

#include "ptx.cuh"

// N = 4 or 8 neighbours, aligned to their size.
template <int N>
__device__ __forceinline__ void load(const bf16* from, float (&to)[N]) {
  u32 words[N / 2];
  if constexpr (N == 8) {
    uint4 raw = *reinterpret_cast<const uint4*>(from);
    words[0] = raw.x, words[1] = raw.y, words[2] = raw.z, words[3] = raw.w;
  } else {
    uint2 raw = *reinterpret_cast<const uint2*>(from);
    words[0] = raw.x, words[1] = raw.y;
  }
#pragma unroll
  for (int i = 0; i < N / 2; i++) {
    to[2 * i] = bf16_low(words[i]);
    to[2 * i + 1] = bf16_high(words[i]);
  }
}

template <int N>
__device__ __forceinline__ void store(bf16* to, const float (&from)[N]) {
  if constexpr (N == 8) {
    uint4 raw = {bf16_pair(from[0], from[1]), bf16_pair(from[2], from[3]), bf16_pair(from[4], from[5]), bf16_pair(from[6], from[7])};
    *reinterpret_cast<uint4*>(to) = raw;
  } else {
    uint2 raw = {bf16_pair(from[0], from[1]), bf16_pair(from[2], from[3])};
    *reinterpret_cast<uint2*>(to) = raw;
  }
}

// What a half cannot hold becomes NaN.
template <int N>
__device__ __forceinline__ void store(f16* to, const float (&from)[N]) {
  if constexpr (N == 8) {
    uint4 raw = {f16_pair_or_nan(from[0], from[1]), f16_pair_or_nan(from[2], from[3]),
                 f16_pair_or_nan(from[4], from[5]), f16_pair_or_nan(from[6], from[7])};
    *reinterpret_cast<uint4*>(to) = raw;
  } else {
    uint2 raw = {f16_pair_or_nan(from[0], from[1]), f16_pair_or_nan(from[2], from[3])};
    *reinterpret_cast<uint2*>(to) = raw;
  }
}

template <int N>
__device__ __forceinline__ void load(const float* from, float (&to)[N]) {
#pragma unroll
  for (int i = 0; i < N; i += 4) {
    float4 raw = *reinterpret_cast<const float4*>(from + i);
    to[i] = raw.x, to[i + 1] = raw.y, to[i + 2] = raw.z, to[i + 3] = raw.w;
  }
}

template <int N>
__device__ __forceinline__ void store(float* to, const float (&from)[N]) {
#pragma unroll
  for (int i = 0; i < N; i += 4) {
    float4 raw = {from[i], from[i + 1], from[i + 2], from[i + 3]};
    *reinterpret_cast<float4*>(to + i) = raw;
  }
}
