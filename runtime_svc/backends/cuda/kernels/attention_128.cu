// Causal attention of a prefill for heads 128 wide: `attention.cu` with the matrix units' own warpgroup products.
//
// A block takes 128 queries of one head at a time, a warpgroup 64 of them; or, where there are few, one warpgroup works and
// the units are of 64. One warp fetches keys and values ahead, and
// nothing else holds the warpgroups together: one's weights are computed while the other multiplies. Within a warpgroup
// the weights of one tile are multiplied with its values while the scores of the next are turned into weights
// (FlashAttention-3, arXiv:2407.08608, sections 3.1 and 3.2).
#include "control.cuh"
#include "elements.cuh"
#include "overlap.cuh"
#include "tensor.cuh"
#include "wgmma.cuh"

constexpr int D = 128;
constexpr int QUERIES = 64;                   // of a warpgroup
constexpr int KEYS = 128;
constexpr int SLOTS = 2;                      // of keys, and as many of values
constexpr int TILE = KEYS * D * 2;            // bytes; two panels of 64 columns, of queries too
constexpr int PANEL = KEYS * 128;
constexpr int GROUPS = 2;                     // warpgroups that multiply, at most
constexpr int FETCHER = 4 * GROUPS;           // the warp that fetches, in a warpgroup that does nothing else
constexpr int THREADS = (FETCHER + 4) * 32;
constexpr float LOWEST = -3.402823466e38f;  // what a query does not see: its weight is 0

struct Barriers {
  Mbarrier full_queries, empty_queries;
  Mbarrier full_keys[SLOTS], empty_keys[SLOTS];
  Mbarrier full_values[SLOTS], empty_values[SLOTS];
};

// 64 or 128 queries of one head, from `first` on.
struct Unit {
  int head, first;
};

// The units in the order of their keys, most first. The blocks take them there and back again: all have about as many.
struct Schedule {
  int heads, units, queries;

  __device__ __forceinline__ int index(int round) const {
    int blocks = gridDim.x, block = blockIdx.x;
    return round * blocks + (round % 2 == 0 ? block : blocks - 1 - block);
  }
  __device__ __forceinline__ Unit unit(int index) const {
    return {index % heads, (units / heads - 1 - index / heads) * queries};
  }
};

// Where in a ring of SLOTS a warp is.
struct Turn {
  int slot = 0;
  u32 parity = 0;
  __device__ __forceinline__ void next() {
    if (++slot == SLOTS) slot = 0, parity ^= 1;
  }
};

__device__ __forceinline__ void fetch_tile(unsigned char* to, const TensorMap& cache, int row, Mbarrier* full,
                                           Mbarrier* empty, Turn& turn) {
  mbarrier_wait(&empty[turn.slot], turn.parity ^ 1);
  mbarrier_arrive_expect(&full[turn.slot], TILE);
  for (int panel = 0; panel < 2; panel++) {
    tensor_copy(to + turn.slot * TILE + panel * PANEL, cache, panel * 64, row, &full[turn.slot], cache_evict_normal());
  }
  turn.next();
}

// Zeros in the last tile's values from row `present` on: whatever else lies there, 0 times it is to be 0.
__device__ __forceinline__ void clear_rest(unsigned char* values, int present, int threads) {
  for (int i = present * 8 + threadIdx.x; i < KEYS * 8; i += threads) {
    for (int panel = 0; panel < 2; panel++) *reinterpret_cast<uint4*>(values + panel * PANEL + i * 16) = {0, 0, 0, 0};
  }
  fence_copy_engine();
  named_barrier_sync(1, threads);
}

// The scores of a warpgroup's queries and one tile of keys.
__device__ __forceinline__ void score(float (&scores)[KEYS / 8][4], const unsigned char* query,
                                      const unsigned char* keys) {
#pragma unroll
  for (int k = 0; k < D / 16; k++) {
    wgmma_64_rows_of_k<KEYS, f16>(scores, {query + k / 4 * (TILE / 4) + k % 4 * 32, 0, 1024},
                                  {keys + k / 4 * PANEL + k % 4 * 32, 0, 1024});
  }
  wgmma_commit();
}

__device__ __forceinline__ void add_weighted(float (&sum)[D / 8][4], const u32 (&weight)[KEYS / 16][4],
                                             const unsigned char* values) {
#pragma unroll
  for (int k = 0; k < KEYS / 16; k++) wgmma_64x128_rows_of_n(sum, weight[k], {values + k * 2048, PANEL, 1024});
  wgmma_commit();
}

// The running softmax of a lane's two queries.
struct Softmax {
  float highest[2] = {LOWEST, LOWEST};
  float total[2] = {};
  float shrink[2];  // of what was summed before the last tile

  // Scores into weights. The first query sees the keys up to `position`, the second eight more.
  __device__ __forceinline__ void add(float (&scores)[KEYS / 8][4], float scale, int base, int position, bool all_seen) {
    if (!all_seen) {
#pragma unroll
      for (int n = 0; n < KEYS / 8; n++) {
#pragma unroll
        for (int i = 0; i < 4; i++) {
          int key = base + n * 8 + threadIdx.x % 4 * 2 + i % 2;
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
  }
};

__device__ __forceinline__ void pack(const float (&scores)[KEYS / 8][4], u32 (&weight)[KEYS / 16][4]) {
#pragma unroll
  for (int k = 0; k < KEYS / 16; k++) {
    const float(&left)[4] = scores[2 * k];
    const float(&right)[4] = scores[2 * k + 1];
    weight[k][0] = f16_pair(left[0], left[1]), weight[k][1] = f16_pair(left[2], left[3]);
    weight[k][2] = f16_pair(right[0], right[1]), weight[k][3] = f16_pair(right[2], right[3]);
  }
}

// Out (rows, heads, 128) bf16 from queries (rows, heads, 128) f16 and a layer of the cache, (2, slots, kv_heads,
// capacity, 128) f16. `query_map`: boxes of 64 rows of (rows, heads * 128); `cache`: boxes of 128 rows of the layer's positions.
// `scale` is log2(e) / sqrt(128), `groups` 1 or 2 warpgroups that work. Dynamic shared memory: 160 KiB and the barriers.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
    attend_128(const Control* control, const __grid_constant__ TensorMap query_map,
               const __grid_constant__ TensorMap cache, int heads, int kv_heads, int slots, int capacity, float scale,
               int groups, bf16* out) {
  unsigned char* queries = dynamic_shared();
  unsigned char* keys = queries + TILE;
  unsigned char* values = keys + SLOTS * TILE;
  Barriers& barriers = *reinterpret_cast<Barriers*>(values + SLOTS * TILE);
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  if (threadIdx.x == 0) {
    prefetch_map(query_map);
    prefetch_map(cache);
    mbarrier_init(&barriers.full_queries, 1);
    mbarrier_init(&barriers.empty_queries, 4 * groups);
    for (int i = 0; i < SLOTS; i++) {
      mbarrier_init(&barriers.full_keys[i], 1);
      mbarrier_init(&barriers.empty_keys[i], 4 * groups);
      mbarrier_init(&barriers.full_values[i], 1);
      mbarrier_init(&barriers.empty_values[i], 4 * groups);
    }
    mbarrier_init_fence();
  }
  start_next();
  __syncthreads();
  int rows = control->rows, start = control->start;
  int queries_each = groups * QUERIES;
  Schedule schedule = {heads, heads * ((rows + queries_each - 1) / queries_each), queries_each};
  u32 parity = 0;  // of the queries' one slot
  Turn key_turn, value_turn;

  if (warp >= FETCHER) {
    lower_registers<24>();
    if (warp > FETCHER || !elect_one()) return;
    wait_previous();
    for (int round = 0; schedule.index(round) < schedule.units; round++, parity ^= 1) {
      Unit unit = schedule.unit(schedule.index(round));
      int kv_head = unit.head / (heads / kv_heads);
      int first_key = (control->slot * kv_heads + kv_head) * capacity;
      int first_value = first_key + slots * kv_heads * capacity;
      int tiles = (start + min(unit.first + queries_each, rows) + KEYS - 1) / KEYS;
      mbarrier_wait(&barriers.empty_queries, parity ^ 1);
      mbarrier_arrive_expect(&barriers.full_queries, groups * (TILE / 2));
      for (int part = 0; part < 2 * groups; part++) {
        tensor_copy(queries + part * (TILE / 4), query_map, unit.head * D + part % 2 * 64, unit.first + part / 2 * 64,
                    &barriers.full_queries, cache_evict_first());
      }
      for (int tile = 0; tile < tiles; tile++) {
        fetch_tile(keys, cache, first_key + tile * KEYS, barriers.full_keys, barriers.empty_keys, key_turn);
        fetch_tile(values, cache, first_value + tile * KEYS, barriers.full_values, barriers.empty_values, value_turn);
      }
    }
  } else {
    raise_registers<240>();
    if (warp >= 4 * groups) return;
    for (int round = 0; schedule.index(round) < schedule.units; round++, parity ^= 1) {
      Unit unit = schedule.unit(schedule.index(round));
      int end = start + min(unit.first + queries_each, rows), tiles = (end + KEYS - 1) / KEYS;
      int row = unit.first + warp * 16 + lane / 4;  // of this lane's first query; its second is 8 on
      int all_see = start + unit.first + warp * 16;  // the last key that all queries of the warp see
      const unsigned char* query = queries + warp / 4 * (TILE / 2);
      float sum[D / 8][4] = {};
      u32 weight[KEYS / 16][4];
      Softmax softmax;

      mbarrier_wait(&barriers.full_queries, parity);
      {
        float scores[KEYS / 8][4] = {};
        mbarrier_wait(&barriers.full_keys[key_turn.slot], key_turn.parity);
        wgmma_fence();
        score(scores, query, keys + key_turn.slot * TILE);
        wgmma_wait<0>();
        if (lane == 0) mbarrier_arrive(&barriers.empty_keys[key_turn.slot]);
        key_turn.next();
        softmax.add(scores, scale, 0, start + row, KEYS - 1 <= all_see);
        pack(scores, weight);
      }
#pragma unroll 1
      for (int tile = 1; tile < tiles; tile++) {
        float scores[KEYS / 8][4] = {};
        mbarrier_wait(&barriers.full_values[value_turn.slot], value_turn.parity);
        mbarrier_wait(&barriers.full_keys[key_turn.slot], key_turn.parity);
        wgmma_fence();
        score(scores, query, keys + key_turn.slot * TILE);
        add_weighted(sum, weight, values + value_turn.slot * TILE);
        wgmma_wait<1>();
        if (lane == 0) mbarrier_arrive(&barriers.empty_keys[key_turn.slot]);
        key_turn.next();
        softmax.add(scores, scale, tile * KEYS, start + row, tile * KEYS + KEYS - 1 <= all_see);
        compute_now(softmax.total[0] + softmax.total[1]);
        wgmma_wait<0>();
        if (lane == 0) mbarrier_arrive(&barriers.empty_values[value_turn.slot]);
        value_turn.next();
#pragma unroll
        for (int n = 0; n < D / 8; n++) {
#pragma unroll
          for (int i = 0; i < 4; i++) sum[n][i] *= softmax.shrink[i / 2];
        }
        pack(scores, weight);
      }
      if (lane == 0) mbarrier_arrive(&barriers.empty_queries);
      mbarrier_wait(&barriers.full_values[value_turn.slot], value_turn.parity);
      unsigned char* last = values + value_turn.slot * TILE;
      if (end % KEYS != 0) clear_rest(last, end % KEYS, groups * 128);
      wgmma_fence();
      add_weighted(sum, weight, last);
      wgmma_wait<0>();
      if (lane == 0) mbarrier_arrive(&barriers.empty_values[value_turn.slot]);
      value_turn.next();

      wait_previous();
#pragma unroll
      for (int r = 0; r < 2; r++) {
        float total = softmax.total[r];
        total += __shfl_xor_sync(0xffffffffu, total, 1);
        total += __shfl_xor_sync(0xffffffffu, total, 2);
        float inverse = 1.0f / total;
        bf16* to = out + (static_cast<long long>(row + 8 * r) * heads + unit.head) * D;
#pragma unroll
        for (int n = 0; n < D / 8; n += 2) {
          uint2 four = four_columns(bf16_pair(sum[n][2 * r] * inverse, sum[n][2 * r + 1] * inverse),
                                    bf16_pair(sum[n + 1][2 * r] * inverse, sum[n + 1][2 * r + 1] * inverse));
          if (row + 8 * r < rows) *reinterpret_cast<uint2*>(to + 8 * (n + lane % 2) + lane % 4 / 2 * 4) = four;
        }
      }
    }
  }
}
TRENI_SHIM_EXPORT(attend_128)
