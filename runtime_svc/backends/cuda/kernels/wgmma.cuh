// Matrix products of a warpgroup (four warps, the first a multiple of four): a from registers or from shared memory, b
// from shared memory.
//
// Asynchronous: between `wgmma_fence` and the `wgmma_wait` that covers a product nobody may touch its registers, nor
// write what it reads. b lies in rows of 128 bytes whose 16-byte units are permuted (unit u of row r at u ^ r % 8), and
// starts at a multiple of 1,024 bytes, or some whole k steps on. Under TRENI_SHIM a product is done at once.
#pragma once
#include "ptx.cuh"

// A part of shared memory as a right-hand side, strides in bytes. Rows of k (`k_major`, 64 of them at most): eight rows
// of n at 128, the next eight at `stride`. Rows of n: eight rows of k at 128, the next eight at `stride`, columns of n
// from the 64th on at `leading`.
struct SharedTile {
  const void* base;
  u32 leading;
  u32 stride;
};

#ifdef TRENI_SHIM
namespace shim {
// Adds a (16 rows of this warp, 16) b (16, 8 N) to d, b's element (k, n) found by `at`.
template <int N, class At>
void wgmma(float (&d)[N][4], const u32 (&a)[4], At at) {
  struct Fragment {
    u32 a[4];
  } mine = {{a[0], a[1], a[2], a[3]}}, all[32];
  exchange(mine, all);
  int group = current->lane / 4, pair = current->lane % 4;
  for (int n = 0; n < N; n++) {
    for (int i = 0; i < 4; i++) {
      float sum = 0;
      for (int k = 0; k < 16; k++) {
        u32 word = all[group * 4 + k % 8 / 2].a[i / 2 + k / 8 * 2];
        uintptr_t address = reinterpret_cast<uintptr_t>(at(k, n * 8 + pair * 2 + i % 2));
        address ^= (address >> 7 & 7) << 4;
        sum += (k % 2 == 0 ? f16_low(word) : f16_high(word)) * ::f16_float(*reinterpret_cast<const u16*>(address));
      }
      d[n][i] += sum;
    }
  }
}

inline float widened(bf16 value) { return bf16_float(value); }
inline float widened(f16 value) { return f16_float(value.bits); }

template <class Element>
float element_of_k_rows(const void* base, u32 stride, int row, int k) {
  uintptr_t address = reinterpret_cast<uintptr_t>(base) + row / 8 * stride + row % 8 * 128 + k * 2;
  address ^= (address >> 7 & 7) << 4;
  return widened(*reinterpret_cast<const Element*>(address));
}
}  // namespace shim
#else
__device__ __forceinline__ u64 descriptor_of(SharedTile tile) {
  // PTX ISA, "Matrix Descriptor Format": all in units of 16 bytes; the top bits name the permutation of 128 bytes.
  return u64(1) << 62 | u64(tile.stride >> 4) << 32 | u64(tile.leading >> 4) << 16 |
         (shared_address(tile.base) & 0x3ffff) >> 4;
}
#endif

// Before the first product, and after the threads changed registers that the next product uses.
__device__ __forceinline__ void wgmma_fence() {
#ifndef TRENI_SHIM
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

// Closes a group of products.
__device__ __forceinline__ void wgmma_commit() {
#ifndef TRENI_SHIM
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

// Until all but the newest `pending` groups are done.
template <int pending>
__device__ __forceinline__ void wgmma_wait() {
#ifndef TRENI_SHIM
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
#endif
}

// d (64, 128) += a (64, 16) b (16, 128) of halves: a in fragments as of `mma_f16_16816`, each warp its 16 rows; d[n] the
// same instruction's d for columns 8 n .. 8 n + 7. b in rows of n.
__device__ __forceinline__ void wgmma_64x128_rows_of_n(float (&d)[16][4], const u32 (&a)[4], SharedTile b) {
#ifdef TRENI_SHIM
  shim::wgmma(d, a, [b](int k, int n) {
    return static_cast<const char*>(b.base) + n / 64 * b.leading + n % 64 * 2 + k / 8 * b.stride + k % 8 * 128;
  });
#else
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {"
        "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
        "}, {%64, %65, %66, %67}, %68, 1, 1, 1, 1;"
        : "+f"(d[0][0]), "+f"(d[0][1]), "+f"(d[0][2]), "+f"(d[0][3]), "+f"(d[1][0]), "+f"(d[1][1]),
          "+f"(d[1][2]), "+f"(d[1][3]), "+f"(d[2][0]), "+f"(d[2][1]), "+f"(d[2][2]), "+f"(d[2][3]),
          "+f"(d[3][0]), "+f"(d[3][1]), "+f"(d[3][2]), "+f"(d[3][3]), "+f"(d[4][0]), "+f"(d[4][1]),
          "+f"(d[4][2]), "+f"(d[4][3]), "+f"(d[5][0]), "+f"(d[5][1]), "+f"(d[5][2]), "+f"(d[5][3]),
          "+f"(d[6][0]), "+f"(d[6][1]), "+f"(d[6][2]), "+f"(d[6][3]), "+f"(d[7][0]), "+f"(d[7][1]),
          "+f"(d[7][2]), "+f"(d[7][3]), "+f"(d[8][0]), "+f"(d[8][1]), "+f"(d[8][2]), "+f"(d[8][3]),
          "+f"(d[9][0]), "+f"(d[9][1]), "+f"(d[9][2]), "+f"(d[9][3]), "+f"(d[10][0]), "+f"(d[10][1]),
          "+f"(d[10][2]), "+f"(d[10][3]), "+f"(d[11][0]), "+f"(d[11][1]), "+f"(d[11][2]), "+f"(d[11][3]),
          "+f"(d[12][0]), "+f"(d[12][1]), "+f"(d[12][2]), "+f"(d[12][3]), "+f"(d[13][0]), "+f"(d[13][1]),
          "+f"(d[13][2]), "+f"(d[13][3]), "+f"(d[14][0]), "+f"(d[14][1]), "+f"(d[14][2]), "+f"(d[14][3]),
          "+f"(d[15][0]), "+f"(d[15][1]), "+f"(d[15][2]), "+f"(d[15][3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(descriptor_of(b)));
#endif
}

// d (64, N) += a (64, 16) b (16, N), both in rows of k; d[n] as above. Of halves for N = 128 only.
template <int N, class Element = bf16>
__device__ __forceinline__ void wgmma_64_rows_of_k(float (&d)[N / 8][4], SharedTile a, SharedTile b) {
#ifdef TRENI_SHIM
  int lane = shim::current->lane, warp = threadIdx.x / 32 % 4;
  for (int n = 0; n < N / 8; n++) {
    for (int i = 0; i < 4; i++) {
      float sum = 0;
      for (int k = 0; k < 16; k++) {
        sum += shim::element_of_k_rows<Element>(a.base, a.stride, warp * 16 + lane / 4 + i / 2 * 8, k) *
               shim::element_of_k_rows<Element>(b.base, b.stride, n * 8 + lane % 4 * 2 + i % 2, k);
      }
      d[n][i] += sum;
    }
  }
#else
  u64 left = descriptor_of(a), right = descriptor_of(b);
#define TRENI_D(n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define TRENI_D2(n) TRENI_D(n), TRENI_D(n + 1)
#define TRENI_D8(n) TRENI_D2(n), TRENI_D2(n + 2), TRENI_D2(n + 4), TRENI_D2(n + 6)
#define TRENI_WGMMA(columns, type, registers, left_at, right_at, ...)                                           \
  asm volatile("wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." #type "." #type " {" registers "}, " left_at \
               ", " right_at ", 1, 1, 1, 0, 0;"                                                             \
               : __VA_ARGS__                                                                                \
               : "l"(left), "l"(right))
#define TRENI_R0 "%0, %1, %2, %3, %4, %5, %6, %7"
#define TRENI_R1 "%8, %9, %10, %11, %12, %13, %14, %15"
#define TRENI_R2 "%16, %17, %18, %19, %20, %21, %22, %23"
#define TRENI_R3 "%24, %25, %26, %27, %28, %29, %30, %31"
#define TRENI_R4 "%32, %33, %34, %35, %36, %37, %38, %39"
#define TRENI_R5 "%40, %41, %42, %43, %44, %45, %46, %47"
#define TRENI_R6 "%48, %49, %50, %51, %52, %53, %54, %55"
#define TRENI_R7 "%56, %57, %58, %59, %60, %61, %62, %63"
#define TRENI_R8 "%64, %65, %66, %67, %68, %69, %70, %71"
#define TRENI_R9 "%72, %73, %74, %75, %76, %77, %78, %79"
#define TRENI_R10 "%80, %81, %82, %83, %84, %85, %86, %87"
#define TRENI_R11 "%88, %89, %90, %91, %92, %93, %94, %95"
#define TRENI_R12 "%96, %97, %98, %99, %100, %101, %102, %103"
#define TRENI_R13 "%104, %105, %106, %107, %108, %109, %110, %111"
#define TRENI_R14 "%112, %113, %114, %115, %116, %117, %118, %119"
#define TRENI_R15 "%120, %121, %122, %123, %124, %125, %126, %127"
#define TRENI_R32 TRENI_R0 ", " TRENI_R1 ", " TRENI_R2 ", " TRENI_R3
#define TRENI_R64 TRENI_R32 ", " TRENI_R4 ", " TRENI_R5 ", " TRENI_R6 ", " TRENI_R7
  if constexpr (N == 48) {
    TRENI_WGMMA(48, bf16, TRENI_R0 ", " TRENI_R1 ", " TRENI_R2, "%24", "%25",
                TRENI_D2(0), TRENI_D2(2), TRENI_D2(4));
  }
  if constexpr (N == 64) {
    TRENI_WGMMA(64, bf16, TRENI_R32, "%32", "%33",
                TRENI_D8(0));
  }
  if constexpr (N == 96) {
    TRENI_WGMMA(96, bf16, TRENI_R32 ", " TRENI_R4 ", " TRENI_R5, "%48", "%49",
                TRENI_D8(0), TRENI_D2(8), TRENI_D2(10));
  }
  if constexpr (N == 128 && is_f16<Element>) {
    TRENI_WGMMA(128, f16, TRENI_R64, "%64", "%65",
                TRENI_D8(0), TRENI_D8(8));
  }
  if constexpr (N == 128 && !is_f16<Element>) {
    TRENI_WGMMA(128, bf16, TRENI_R64, "%64", "%65",
                TRENI_D8(0), TRENI_D8(8));
  }
  if constexpr (N == 160) {
    TRENI_WGMMA(160, bf16, TRENI_R64 ", " TRENI_R8 ", " TRENI_R9, "%80", "%81",
                TRENI_D8(0), TRENI_D8(8), TRENI_D2(16), TRENI_D2(18));
  }
  if constexpr (N == 176) {
    TRENI_WGMMA(176, bf16, TRENI_R64 ", " TRENI_R8 ", " TRENI_R9 ", " TRENI_R10, "%88", "%89",
                TRENI_D8(0), TRENI_D8(8), TRENI_D2(16), TRENI_D2(18), TRENI_D2(20));
  }
  if constexpr (N == 192) {
    TRENI_WGMMA(192, bf16, TRENI_R64 ", " TRENI_R8 ", " TRENI_R9 ", " TRENI_R10 ", " TRENI_R11, "%96", "%97",
                TRENI_D8(0), TRENI_D8(8), TRENI_D8(16));
  }
  if constexpr (N == 256) {
    TRENI_WGMMA(256, bf16, TRENI_R64 ", " TRENI_R8 ", " TRENI_R9 ", " TRENI_R10 ", " TRENI_R11 ", " TRENI_R12 ", " TRENI_R13 ", " TRENI_R14 ", " TRENI_R15, "%128", "%129",
                TRENI_D8(0), TRENI_D8(8), TRENI_D8(16), TRENI_D8(24));
  }
#undef TRENI_D
#undef TRENI_D2
#undef TRENI_D8
#undef TRENI_WGMMA
#endif
}

// What this value is made of is computed before what follows: the assembler else moves work that is to run beside a
// product behind the wait for it. A branch, which it does not move a wait across; never taken.
__device__ __forceinline__ void compute_now(float never_negative) {
#ifndef TRENI_SHIM
  if (never_negative < 0.0f) asm volatile("nanosleep.u32 1;");
#endif
}

// For the way out of products: a lane has two columns of each of two neighbouring blocks of eight and gets four of one,
// even lanes of the first, odd ones of the second; of four lanes the first two get columns 0 to 3.
__device__ __forceinline__ uint2 four_columns(u32 first, u32 second) {
  bool odd = threadIdx.x % 2 == 1;
  u32 other = __shfl_xor_sync(0xffffffffu, odd ? first : second, 1);
  return odd ? uint2{other, second} : uint2{first, other};
}

__device__ __forceinline__ float4 four_columns(float first, float first_next, float second, float second_next) {
  bool odd = threadIdx.x % 2 == 1;
  float other = __shfl_xor_sync(0xffffffffu, odd ? first : second, 1);
  float other_next = __shfl_xor_sync(0xffffffffu, odd ? first_next : second_next, 1);
  return odd ? float4{other, other_next, second, second_next} : float4{first, first_next, other, other_next};
}
