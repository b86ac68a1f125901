// Causal attention of a prefill: rows of queries against everything in the slot up to themselves.
//
// A block takes 64 queries of one head, a warp 16 of them, and walks the keys 64 at a time with a running maximum and
// sum (FlashAttention-2, arXiv:2307.08691, algorithm 1), so that scores never leave registers. Values travel while
// scores are computed, the next keys while values are used; three blocks on a multiprocessor hide what is left.
#include "control.cuh"
#include "elements.cuh"
#include "overlap.cuh"

constexpr int QUERIES = 64;
constexpr int KEYS = 64;
constexpr int THREADS = 128;
constexpr float LOWEST = -3.402823466e38f;  // what a query does not see: its weight is 0

// 64 rows of D elements, `stride` apart, into rows of W + 8: an odd number of 16-byte units, so that eight rows at one
// column lie in eight different groups of banks. Rows from `limit` on, and columns from D on, are zeros.
template <int D, int W>
__device__ __forceinline__ void fetch(f16* tile, const f16* from, long long stride, int first, int limit) {
#pragma unroll
  for (int i = threadIdx.x; i < KEYS * (W / 8); i += THREADS) {
    int row = i / (W / 8), column = i % (W / 8) * 8;
    bool present = first + row < limit && column < D;
    cp_async16(tile + row * (W + 8) + column, present ? from + (first + row) * stride + column : from,
               present ? 16 : 0);
  }
}

template <int D>
__device__ __forceinline__ void attend(const Control* control, const f16* queries, int heads, int kv_heads, int slots,
                                       int capacity, const f16* layer, float scale, bf16* out) {
  start_next();
  constexpr int W = D < 16 ? 16 : D;  // the tensor cores contract 16 at a time
  constexpr int PITCH = W + 8;
  f16* tile = reinterpret_cast<f16*>(dynamic_shared());
  f16* keys = tile + QUERIES * PITCH;
  f16* values = keys + KEYS * PITCH;

  // The tiles with most keys first: what runs last is short.
  int first = (gridDim.y - 1 - blockIdx.y) * QUERIES;
  int rows = control->rows, start = control->start;
  if (first >= rows) return;
  wait_previous();
  int head = blockIdx.x, kv_head = head / (heads / kv_heads);
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  long long cached = static_cast<long long>(kv_head) * capacity * D;
  const f16* all_keys = part_of(layer, 0, slots, control->slot, kv_heads, capacity, D) + cached;
  const f16* all_values = part_of(layer, 1, slots, control->slot, kv_heads, capacity, D) + cached;
  int end = start + min(first + QUERIES, rows);

  fetch<D, W>(tile, queries + head * D, static_cast<long long>(heads) * D, first, rows);
  fetch<D, W>(keys, all_keys, D, 0, end);
  cp_async_commit();

  float sum[W / 8][4] = {};
  float highest[2] = {LOWEST, LOWEST};
  float total[2] = {};
  int position = start + first + warp * 16 + lane / 4;  // of this lane's first query; its second is 8 on
  for (int base = 0; base < end; base += KEYS) {
    cp_async_wait<0>();
    __syncthreads();  // keys are there, and nobody reads the last values any more
    fetch<D, W>(values, all_values, D, base, end);
    cp_async_commit();

    float scores[KEYS / 8][4] = {};
#pragma unroll
    for (int k = 0; k < W; k += 16) {
      u32 query[4];
      ldmatrix_x4(query, tile + (warp * 16 + lane % 16) * PITCH + k + lane / 16 * 8);
#pragma unroll
      for (int n = 0; n < KEYS; n += 16) {
        u32 key[4];
        ldmatrix_x4(key, keys + (n + lane / 16 * 8 + lane % 8) * PITCH + k + lane / 8 % 2 * 8);
        mma_f16_16816(scores[n / 8], query, {key[0], key[1]});
        mma_f16_16816(scores[n / 8 + 1], query, {key[2], key[3]});
      }
    }
    if (base + KEYS - 1 > start + first + warp * 16) {
#pragma unroll
      for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          int key = base + n * 8 + lane % 4 * 2 + i % 2;
          if (key > position + i / 2 * 8) scores[n][i] = LOWEST;
        }
      }
    }

#pragma unroll
    for (int r = 0; r < 2; r++) {
      float peak = highest[r];
#pragma unroll
      for (int n = 0; n < KEYS / 8; n++) peak = fmaxf(peak, fmaxf(scores[n][2 * r], scores[n][2 * r + 1]));
      peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, 1));
      peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, 2));
      float shrink = exp2_fast((highest[r] - peak) * scale);
      highest[r] = peak;
      total[r] *= shrink;
      float shift = peak * scale;
#pragma unroll
      for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
        for (int i = 2 * r; i < 2 * r + 2; i++) {
          scores[n][i] = exp2_fast(scores[n][i] * scale - shift);
          total[r] += scores[n][i];
        }
      }
#pragma unroll
      for (int n = 0; n < W / 8; n++) sum[n][2 * r] *= shrink, sum[n][2 * r + 1] *= shrink;
    }

    cp_async_wait<0>();
    __syncthreads();  // values are there, and nobody reads these keys any more
    if (base + KEYS < end) {
      fetch<D, W>(keys, all_keys, D, base + KEYS, end);
      cp_async_commit();
    }
#pragma unroll
    for (int k = 0; k < KEYS; k += 16) {
      const float(&left)[4] = scores[k / 8];
      const float(&right)[4] = scores[k / 8 + 1];
      u32 weight[4] = {f16_pair(left[0], left[1]), f16_pair(left[2], left[3]), f16_pair(right[0], right[1]),
                       f16_pair(right[2], right[3])};
#pragma unroll
      for (int n = 0; n < W; n += 16) {
        u32 value[4];
        ldmatrix_x4_transposed(value, values + (k + lane % 16) * PITCH + n + lane / 16 * 8);
        mma_f16_16816(sum[n / 8], weight, {value[0], value[1]});
        mma_f16_16816(sum[n / 8 + 1], weight, {value[2], value[3]});
      }
    }
  }

  // As bf16 through this warp's own rows of the query tile, so that the stores to memory are 16 bytes wide.
#pragma unroll
  for (int r = 0; r < 2; r++) {
    total[r] += __shfl_xor_sync(0xffffffffu, total[r], 1);
    total[r] += __shfl_xor_sync(0xffffffffu, total[r], 2);
    float inverse = 1.0f / total[r];
    f16* row = tile + (warp * 16 + lane / 4 + 8 * r) * PITCH + lane % 4 * 2;
#pragma unroll
    for (int n = 0; n < W / 8; n++) {
      *reinterpret_cast<u32*>(row + n * 8) = bf16_pair(sum[n][2 * r] * inverse, sum[n][2 * r + 1] * inverse);
    }
  }
  __syncwarp();
  for (int i = lane; i < 16 * (D / 8); i += 32) {
    int row = warp * 16 + i / (D / 8), column = i % (D / 8) * 8;
    if (first + row < rows) {
      *reinterpret_cast<uint4*>(out + (static_cast<long long>(first + row) * heads + head) * D + column) =
          *reinterpret_cast<const uint4*>(tile + row * PITCH + column);
    }
  }
}

// Out (rows, heads, D) bf16 from queries (rows, heads, D) f16 and a layer of the cache. `scale` is
// log2(e) / sqrt(D). Blocks: (heads, tiles of 64 rows). Dynamic shared memory: 3 * 64 * (max(D, 16) + 8) * 2 bytes.
#define ATTEND(D)                                                                                                  \
  extern "C" __global__ void __launch_bounds__(THREADS, 3)                                                         \
      attend_##D(const Control* control, const f16* queries, int heads, int kv_heads, int slots, int capacity,     \
                 const f16* layer, float scale, bf16* out) {                                                      \
    attend<D>(control, queries, heads, kv_heads, slots, capacity, layer, scale, out);                              \
  }                                                                                                                \
  TRENI_SHIM_EXPORT(attend_##D)
ATTEND(8)
ATTEND(16)
ATTEND(32)
ATTEND(64)
