// Causal attention of a prefill for heads 128 wide: `attention.cu` with the matrix units' own warpgroup products.
//
// A block takes 128 queries of one head, a warpgroup 64 of them. Keys and values travel one tile ahead of their use;
// the weights of one tile are multiplied with its values while the scores of the next are turned into weights
// (FlashAttention-3, arXiv:2407.08608, section 3.2).
#include "bf16.cuh"
#include "control.cuh"
#include "overlap.cuh"
#include "wgmma.cuh"

constexpr int D = 128;
constexpr int QUERIES = 128;
constexpr int KEYS = 64;
constexpr int THREADS = 256;
constexpr int TILE = KEYS * D;           // elements of a tile of keys or values: two panels of 64 columns
constexpr int PANEL = KEYS * 64;
constexpr float LOWEST = -3.402823466e38f;  // what a query does not see: its weight is 0

// Rows `first`.. of keys or values into two panels in the permuted order of `wgmma.cuh`; zeros from `limit` on.
__device__ __forceinline__ void fetch(bf16* tile, const bf16* from, int first, int limit) {
#pragma unroll
  for (int i = 0; i < TILE / 8 / THREADS; i++) {
    int unit = threadIdx.x + i * THREADS;
    int row = unit / 16, column = unit % 16;
    bool present = first + row < limit;
    bf16* to = tile + column / 8 * PANEL + row * 64 + (column % 8 ^ row % 8) * 8;
    cp_async16(to, present ? from + static_cast<long long>(first + row) * D + column * 8 : from, present ? 16 : 0);
  }
}

// Out (rows, heads, 128) bf16 from queries (rows, heads, 128) and a layer of the cache. `scale` is log2(e) / sqrt(128).
// Blocks: (heads, tiles of 128 rows). Dynamic shared memory: 96 KiB.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    attend_128(const Control* control, const bf16* queries, int heads, int kv_heads, int slots, int capacity,
               const bf16* layer, float scale, bf16* out) {
  start_next();
  bf16* keys = reinterpret_cast<bf16*>(dynamic_shared());
  bf16* values = keys + 2 * TILE;
  bf16* staged = values + 2 * TILE;  // queries on the way in, outputs on the way out

  // The tiles with most keys first: what runs last is short.
  int first = (gridDim.y - 1 - blockIdx.y) * QUERIES;
  int rows = control->rows, start = control->start;
  if (first >= rows) return;
  wait_previous();
  int head = blockIdx.x, kv_head = head / (heads / kv_heads);
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  long long cached = static_cast<long long>(kv_head) * capacity * D;
  const bf16* all_keys = part_of(layer, 0, slots, control->slot, kv_heads, capacity, D) + cached;
  const bf16* all_values = part_of(layer, 1, slots, control->slot, kv_heads, capacity, D) + cached;
  int end = start + min(first + QUERIES, rows);

  fetch(keys, all_keys, 0, end);
  cp_async_commit();
  // A warp's own 16 rows, unit u of row r at u ^ r % 8: both the way in and the fragments' way out meet all banks.
  bf16* own = staged + warp * 16 * D;
  for (int i = lane; i < 16 * (D / 8); i += 32) {
    int row = i / (D / 8), unit = i % (D / 8);
    bool present = first + warp * 16 + row < rows;
    const bf16* from = queries + (static_cast<long long>(first + warp * 16 + row) * heads + head) * D + unit * 8;
    cp_async16(own + row * D + (unit ^ row % 8) * 8, present ? from : queries, present ? 16 : 0);
  }
  cp_async_commit();
  cp_async_wait<0>();
  __syncwarp();
  u32 query[D / 16][4];
#pragma unroll
  for (int k = 0; k < D / 16; k++) {
    int row = lane % 16;
    ldmatrix_x4(query[k], own + row * D + ((2 * k + lane / 16) ^ row % 8) * 8);
  }

  float sum[D / 8][4] = {};
  float highest[2] = {LOWEST, LOWEST};
  float total[2] = {};
  u32 weight[KEYS / 16][4];
  int position = start + first + warp * 16 + lane / 4;  // of this lane's first query; its second is 8 on
  int tiles = (end + KEYS - 1) / KEYS;
  for (int tile = 0; tile < tiles; tile++) {
    cp_async_wait<0>();
    fence_copy_engine();
    __syncthreads();  // these keys and the last values are there, and what is overwritten next is no longer read
    if (tile + 1 < tiles) fetch(keys + (tile + 1) % 2 * TILE, all_keys, (tile + 1) * KEYS, end);
    fetch(values + tile % 2 * TILE, all_values, tile * KEYS, end);
    cp_async_commit();

    float scores[KEYS / 8][4] = {};
    wgmma_fence();
#pragma unroll
    for (int k = 0; k < D / 16; k++) {
      const bf16* panel = keys + tile % 2 * TILE + k / 4 * PANEL + k % 4 * 16;
      wgmma_64x64_rows_of_k(scores, query[k], {panel, 0, 8 * 128});
    }
    wgmma_commit();
    if (tile > 0) {
      const bf16* last = values + (tile - 1) % 2 * TILE;
#pragma unroll
      for (int k = 0; k < KEYS / 16; k++) {
        wgmma_64x128_rows_of_n(sum, weight[k], {last + k * 16 * 64, PANEL * 2, 8 * 128});
      }
    }
    wgmma_commit();
    wgmma_wait<1>();

    int base = tile * KEYS;
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
    float shrink[2];
#pragma unroll
    for (int r = 0; r < 2; r++) {
      float peak = highest[r];
#pragma unroll
      for (int n = 0; n < KEYS / 8; n++) peak = fmaxf(peak, fmaxf(scores[n][2 * r], scores[n][2 * r + 1]));
      peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, 1));
      peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, 2));
      shrink[r] = exp2_fast((highest[r] - peak) * scale);
      highest[r] = peak;
      total[r] *= shrink[r];
      float shift = peak * scale;
#pragma unroll
      for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
        for (int i = 2 * r; i < 2 * r + 2; i++) {
          scores[n][i] = exp2_fast(scores[n][i] * scale - shift);
          total[r] += scores[n][i];
        }
      }
    }
    wgmma_wait<0>();
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
#pragma unroll
      for (int i = 0; i < 4; i++) sum[n][i] *= shrink[i / 2];
    }
#pragma unroll
    for (int k = 0; k < KEYS / 16; k++) {
      const float(&left)[4] = scores[2 * k];
      const float(&right)[4] = scores[2 * k + 1];
      weight[k][0] = bf16_pair(left[0], left[1]), weight[k][1] = bf16_pair(left[2], left[3]);
      weight[k][2] = bf16_pair(right[0], right[1]), weight[k][3] = bf16_pair(right[2], right[3]);
    }
  }
  cp_async_wait<0>();
  fence_copy_engine();
  __syncthreads();
  wgmma_fence();
#pragma unroll
  for (int k = 0; k < KEYS / 16; k++) {
    const bf16* last = values + (tiles - 1) % 2 * TILE;
    wgmma_64x128_rows_of_n(sum, weight[k], {last + k * 16 * 64, PANEL * 2, 8 * 128});
  }
  wgmma_commit();
  wgmma_wait<0>();

#pragma unroll
  for (int r = 0; r < 2; r++) {
    total[r] += __shfl_xor_sync(0xffffffffu, total[r], 1);
    total[r] += __shfl_xor_sync(0xffffffffu, total[r], 2);
    float inverse = 1.0f / total[r];
    int row = lane / 4 + 8 * r;
#pragma unroll
    for (int n = 0; n < D / 8; n++) {
      u32* to = reinterpret_cast<u32*>(own + row * D + (n ^ row % 8) * 8 + lane % 4 * 2);
      *to = bf16_pair(sum[n][2 * r] * inverse, sum[n][2 * r + 1] * inverse);
    }
  }
  __syncwarp();
  for (int i = lane; i < 16 * (D / 8); i += 32) {
    int row = i / (D / 8), unit = i % (D / 8), at = first + warp * 16 + row;
    if (at < rows) {
      *reinterpret_cast<uint4*>(out + (static_cast<long long>(at) * heads + head) * D + unit * 8) =
          *reinterpret_cast<const uint4*>(own + row * D + (unit ^ row % 8) * 8);
    }
  }
}
TRENI_SHIM_EXPORT(attend_128)
