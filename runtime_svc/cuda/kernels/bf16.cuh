// bfloat16 as 16-bit integers: eight at a time through 16-byte loads and stores, float32 in between.
#pragma once

typedef unsigned short bf16;

__device__ __forceinline__ float widen(bf16 value) { return __uint_as_float(static_cast<unsigned>(value) << 16); }

// Two values rounded to nearest even, `low` in the lower half.
__device__ __forceinline__ unsigned pack(float low, float high) {
  unsigned both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
  return both;
}

// N = 4 or 8 neighbours, aligned to their size.
template <int N>
__device__ __forceinline__ void load(const bf16* from, float (&to)[N]) {
  unsigned words[N / 2];
  if constexpr (N == 8) {
    uint4 raw = *reinterpret_cast<const uint4*>(from);
    words[0] = raw.x, words[1] = raw.y, words[2] = raw.z, words[3] = raw.w;
  } else {
    uint2 raw = *reinterpret_cast<const uint2*>(from);
    words[0] = raw.x, words[1] = raw.y;
  }
#pragma unroll
  for (int i = 0; i < N / 2; i++) {
    to[2 * i] = __uint_as_float(words[i] << 16);
    to[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
}

template <int N>
__device__ __forceinline__ void store(bf16* to, const float (&from)[N]) {
  if constexpr (N == 8) {
    uint4 raw = {pack(from[0], from[1]), pack(from[2], from[3]), pack(from[4], from[5]), pack(from[6], from[7])};
    *reinterpret_cast<uint4*>(to) = raw;
  } else {
    uint2 raw = {pack(from[0], from[1]), pack(from[2], from[3])};
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
