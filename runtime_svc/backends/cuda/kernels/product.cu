// Products of rows of activations with a matrix of weights: out (rows, outputs) = x (rows, depth) weight^T, by warpgroup
// products on tiles of 128 rows that one warp fetches ahead through a ring in shared memory.
//
// Blocks work in pairs on neighbouring tiles and share what both need: two tiles of columns the same rows of x, or two
// tiles of rows the same weights. Each fetches half of that for both. The weights do not depend on earlier kernels: the
// first tiles of them are on their way before `wait_previous`.
#include "control.cuh"
#include "elements.cuh"
#include "overlap.cuh"
#include "tensor.cuh"
#include "wgmma.cuh"

constexpr int ROWS = 128;   // of a tile; a warpgroup 64 of them
constexpr int DEPTH = 64;   // of a slot of the ring
constexpr int WARPGROUPS = 2;
constexpr int FETCHER = WARPGROUPS * 4;  // the warp that fetches

// A tile of 256 columns needs more registers than a ninth warp leaves: the fetching warp then has a warpgroup to itself,
// which gives its registers to the others.
constexpr bool crowded(int columns) { return columns == 256; }
constexpr int threads_for(int columns) { return (FETCHER + (crowded(columns) ? 4 : 1)) * 32; }

struct Problem {
  int rows;
  int outputs;      // columns of out
  int blocks;       // of DEPTH
  int splits;       // parts of the depth, each a sum of its own
  int slots;        // of the ring
  int share_weight; // else the pair shares x
  int add;          // to what out holds; only with one split
};

// Where in the ring a warp is.
struct Turn {
  int slot = 0;
  u32 parity = 0;
  __device__ __forceinline__ void next(int slots) {
    if (++slot == slots) slot = 0, parity ^= 1;
  }
};

// One tile's place: `column` in columns of out.
struct Unit {
  int row, column, first, end, split;
};

// Rows before columns: what runs at the same time reads the same weights. N columns of out to a tile.
template <int N>
__device__ __forceinline__ Unit unit_of(const Problem& p, int index) {
  int rank = static_cast<int>(pair_rank());
  int row_tiles = (p.rows + ROWS - 1) / ROWS, column_tiles = (p.outputs + N - 1) / N;
  int across = p.share_weight ? (row_tiles + 1) / 2 : row_tiles;
  int along = p.share_weight ? column_tiles : (column_tiles + 1) / 2;
  int row = index % across, column = index / across % along, split = index / across / along;
  if (p.share_weight) row = 2 * row + rank;
  else column = 2 * column + rank;
  return {row * ROWS, column * N, split * p.blocks / p.splits, (split + 1) * p.blocks / p.splits, split};
}

template <int N>
__device__ __forceinline__ int units_of(const Problem& p) {
  int row_tiles = (p.rows + ROWS - 1) / ROWS, column_tiles = (p.outputs + N - 1) / N;
  return (p.share_weight ? (row_tiles + 1) / 2 * column_tiles : row_tiles * ((column_tiles + 1) / 2)) * p.splits;
}

// `N` weight rows to a tile. GATED: the first half of them gate, the other up, `outputs` rows further down in `weight`.
template <int N, bool GATED>
struct Tile {
  static constexpr int COLUMNS = GATED ? N / 2 : N;  // of out
  static constexpr int SLOT = (ROWS + N) * DEPTH * 2;
  static constexpr int X_HALF = ROWS * DEPTH, WEIGHT_HALF = N * DEPTH;  // bytes
};

template <int N, bool GATED>
__device__ __forceinline__ void fetch_weight(const Problem& p, const Unit& unit, int block, unsigned char* slot,
                                             const TensorMap& map, Mbarrier* full, u64 policy) {
  using T = Tile<N, GATED>;
  unsigned char* to = slot + 2 * T::X_HALF;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    int row = unit.column + half * (GATED ? p.outputs : N / 2);
    if (!p.share_weight) {
      tensor_copy(to + half * T::WEIGHT_HALF, map, block * DEPTH, row, full, policy);
    } else if (half == static_cast<int>(pair_rank())) {
      tensor_copy_to_pair(to + half * T::WEIGHT_HALF, map, block * DEPTH, row, full, policy);
    }
  }
}

template <int N, bool GATED>
__device__ __forceinline__ void fetch_x(const Problem& p, const Unit& unit, int block, unsigned char* slot,
                                        const TensorMap& map, Mbarrier* full, u64 policy) {
  using T = Tile<N, GATED>;
#pragma unroll
  for (int half = 0; half < 2; half++) {
    int row = unit.row + half * (ROWS / 2);
    if (p.share_weight) {
      tensor_copy(slot + half * T::X_HALF, map, block * DEPTH, row, full, policy);
    } else if (half == static_cast<int>(pair_rank())) {
      tensor_copy_to_pair(slot + half * T::X_HALF, map, block * DEPTH, row, full, policy);
    }
  }
}

// One lane fetches everything that this block is to fetch.
template <int N, bool GATED>
__device__ __forceinline__ void fetch_all(const Problem& p, unsigned char* ring, Mbarrier* full, Mbarrier* empty,
                                          const TensorMap& x, const TensorMap& weight) {
  using T = Tile<N, GATED>;
  u64 weights_stay = p.rows > ROWS ? cache_evict_normal() : cache_evict_first();
  u64 x_stays = cache_evict_last();
  int units = units_of<T::COLUMNS>(p), pairs = gridDim.x / 2;
  Turn turn;
  int ahead = 0;
  for (int index = blockIdx.x / 2; index < units; index += pairs) {
    Unit unit = unit_of<T::COLUMNS>(p, index);
    if (index == static_cast<int>(blockIdx.x) / 2) {
      ahead = min(p.slots, unit.end - unit.first);
      for (int i = 0; i < ahead; i++) {
        mbarrier_arrive_expect(&full[i], T::SLOT);
        fetch_weight<N, GATED>(p, unit, unit.first + i, ring + i * T::SLOT, weight, &full[i], weights_stay);
      }
      wait_previous();
      for (int i = 0; i < ahead; i++) {
        fetch_x<N, GATED>(p, unit, unit.first + i, ring + i * T::SLOT, x, &full[i], x_stays);
        turn.next(p.slots);
      }
    }
    for (int block = unit.first + ahead; block < unit.end; block++) {
      mbarrier_wait(&empty[turn.slot], turn.parity ^ 1);
      mbarrier_arrive_expect(&full[turn.slot], T::SLOT);
      unsigned char* slot = ring + turn.slot * T::SLOT;
      fetch_weight<N, GATED>(p, unit, block, slot, weight, &full[turn.slot], weights_stay);
      fetch_x<N, GATED>(p, unit, block, slot, x, &full[turn.slot], x_stays);
      turn.next(p.slots);
    }
    ahead = 0;
  }
  // Until both blocks are done with every slot: what the other still sends to our barriers must find us here.
  for (int i = 0; i < p.slots; i++) {
    mbarrier_wait(&empty[turn.slot], turn.parity ^ 1);
    turn.next(p.slots);
  }
}

// The sums of a lane's two rows go out, `add`ed to what is there. d[n] as of `wgmma_64_rows_of_k`.
template <int N>
__device__ __forceinline__ void put_float(const Problem& p, const Unit& unit, int row, float (&d)[N / 8][4], float* out) {
  constexpr int BATCH = N == 256 ? 8 : N / 16;  // loads that are under way at once
  int lane = threadIdx.x % 4;
  int first = unit.column + lane % 2 * 8 + lane / 2 * 4;  // of four columns of every sixteen
#pragma unroll
  for (int r = 0; r < 2; r++) {
    bool present = row + 8 * r < p.rows;
    long long at = static_cast<long long>(unit.split) * p.rows + row + 8 * r;
    float* to = out + (present ? at * p.outputs + first : 0);
#pragma unroll
    for (int batch = 0; batch < N / 16; batch += BATCH) {
      float4 before[BATCH] = {};
      if (p.add) {
#pragma unroll
        for (int i = 0; i < BATCH; i++) {
          int column = 16 * (batch + i);
          before[i] = load_here(present && first + column < p.outputs ? to + column : out);
        }
      }
#pragma unroll
      for (int i = 0; i < BATCH; i++) {
        int n = 2 * (batch + i), column = 16 * (batch + i);
        float4 sum = four_columns(d[n][2 * r], d[n][2 * r + 1], d[n + 1][2 * r], d[n + 1][2 * r + 1]);
        sum.x += before[i].x, sum.y += before[i].y, sum.z += before[i].z, sum.w += before[i].w;
        if (present && first + column < p.outputs) *reinterpret_cast<float4*>(to + column) = sum;
      }
    }
  }
}

__device__ __forceinline__ float gated(float gate, float up) {
  return __fdividef(gate * up, 1.0f + exp2_fast(gate * -1.4426950408889634f));
}

template <int N>
__device__ __forceinline__ void put_gated(const Problem& p, const Unit& unit, int row, float (&d)[N / 8][4], bf16* out) {
  constexpr int H = N / 16;  // blocks of eight columns
  int lane = threadIdx.x % 4;
#pragma unroll
  for (int r = 0; r < 2; r++) {
    bf16* to = out + static_cast<long long>(row + 8 * r) * p.outputs + unit.column;
    bool present = row + 8 * r < p.rows;
    u32 words[H];
#pragma unroll
    for (int n = 0; n < H; n++) {
      words[n] = bf16_pair(gated(d[n][2 * r], d[n + H][2 * r]), gated(d[n][2 * r + 1], d[n + H][2 * r + 1]));
    }
#pragma unroll
    for (int n = 0; n + 1 < H; n += 2) {
      uint2 four = four_columns(words[n], words[n + 1]);
      int column = 8 * (n + lane % 2) + lane / 2 * 4;
      if (present && unit.column + column < p.outputs) *reinterpret_cast<uint2*>(to + column) = four;
    }
    if (H % 2 == 1) {
      int column = 8 * (H - 1) + 2 * lane;
      if (present && unit.column + column < p.outputs) *reinterpret_cast<u32*>(to + column) = words[H - 1];
    }
  }
}

// What comes after the product of queries, keys and values: bias and norm where there are any, rotation, and the places
// they go to. As `rotate` in prefill.cu, for heads 128 wide.
struct Heads {
  const Control* control;
  const float* bias;        // as wide as out, or null
  const float* query_gain;  // (128,), or null like the keys'
  const float* key_gain;
  const float* turns;       // (capacity, 64, 2) cosine and sine
  f16* layer;               // of the cache
  f16* queries;             // (rows, heads, 128)
  float eps;
  int heads, kv_heads, slots, capacity;
};

// One head of one row: v[n][0] and v[n][1] are columns 8 n + 2 (lane % 4) and the next.
__device__ __forceinline__ void put_head(const Heads& h, int head, int row, float (&v)[16][2]) {
  constexpr int D = 128;
  bool present = row < h.control->rows, turned = head < h.heads + h.kv_heads;
  int lane = threadIdx.x % 4, position = h.control->start + (present ? row : 0);
  if (h.bias != nullptr) {
#pragma unroll
    for (int n = 0; n < 16; n++) {
      float2 bias = *reinterpret_cast<const float2*>(h.bias + head * D + 8 * n + 2 * lane);
      v[n][0] += bias.x, v[n][1] += bias.y;
    }
  }
  if (turned && h.query_gain != nullptr) {
    float sum = 0.0f;
#pragma unroll
    for (int n = 0; n < 16; n++) sum += v[n][0] * v[n][0] + v[n][1] * v[n][1];
    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
    float scale = rsqrtf(sum / D + h.eps);
    const float* gains = head < h.heads ? h.query_gain : h.key_gain;
#pragma unroll
    for (int n = 0; n < 16; n++) {
      float2 gain = *reinterpret_cast<const float2*>(gains + 8 * n + 2 * lane);
      v[n][0] *= scale * gain.x, v[n][1] *= scale * gain.y;
    }
  }
  if (turned) {
    const float4* turns = reinterpret_cast<const float4*>(h.turns + static_cast<long long>(position) * D + 4 * lane);
#pragma unroll
    for (int n = 0; n < 8; n++) {
      float4 turn = turns[4 * n];  // of columns 8 n + 2 lane and the next
      float low = v[n][0], high = v[n + 8][0];
      v[n][0] = low * turn.x - high * turn.y, v[n + 8][0] = high * turn.x + low * turn.y;
      low = v[n][1], high = v[n + 8][1];
      v[n][1] = low * turn.z - high * turn.w, v[n + 8][1] = high * turn.z + low * turn.w;
    }
  }
  f16* to;
  if (head < h.heads) {
    to = h.queries + (static_cast<long long>(row) * h.heads + head) * D;
  } else {
    int part = head >= h.heads + h.kv_heads, kv_head = head - h.heads - part * h.kv_heads;
    to = part_of(h.layer, part, h.slots, h.control->slot, h.kv_heads, h.capacity, D) +
         (static_cast<long long>(kv_head) * h.capacity + position) * D;
  }
#pragma unroll
  for (int n = 0; n < 16; n += 2) {
    uint2 four = four_columns(f16_pair_or_nan(v[n][0], v[n][1]), f16_pair_or_nan(v[n + 1][0], v[n + 1][1]));
    if (present) *reinterpret_cast<uint2*>(to + 8 * (n + lane % 2) + lane / 2 * 4) = four;
  }
}

template <int N>
__device__ __forceinline__ void put_heads(const Problem& p, const Unit& unit, int row, float (&d)[N / 8][4],
                                          const Heads& h) {
#pragma unroll
  for (int i = 0; i < N / 128; i++) {
    int head = unit.column / 128 + i;
    if (head >= h.heads + 2 * h.kv_heads) continue;
#pragma unroll
    for (int r = 0; r < 2; r++) {
      float v[16][2];
#pragma unroll
      for (int n = 0; n < 16; n++) v[n][0] = d[16 * i + n][2 * r], v[n][1] = d[16 * i + n][2 * r + 1];
      put_head(h, head, row + 8 * r, v);
    }
  }
}

// `put(unit, row, d)` takes the sums of a lane's two rows, `row` and eight on, d[n] as of `wgmma_64_rows_of_k`.
template <int N, bool GATED, class Put>
__device__ __forceinline__ void multiply_all(const Problem& p, const unsigned char* ring, Mbarrier* full,
                                             Mbarrier* empty, Put put) {
  using T = Tile<N, GATED>;
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  Turn turn;
  for (int index = blockIdx.x / 2; index < units_of<T::COLUMNS>(p); index += gridDim.x / 2) {
    Unit unit = unit_of<T::COLUMNS>(p, index);
    float d[N / 8][4] = {};
    int last = -1;
#pragma unroll 1
    for (int left = unit.end - unit.first; left > 0; left--) {
      mbarrier_wait(&full[turn.slot], turn.parity);
      const unsigned char* x = ring + turn.slot * T::SLOT + warp / 4 * T::X_HALF;
      const unsigned char* weight = ring + turn.slot * T::SLOT + 2 * T::X_HALF;
      wgmma_fence();
#pragma unroll
      for (int k = 0; k < DEPTH / 16; k++) wgmma_64_rows_of_k<N>(d, {x + 32 * k, 0, 1024}, {weight + 32 * k, 0, 1024});
      wgmma_commit();
      wgmma_wait<1>();
      if (last >= 0 && lane < 2) mbarrier_arrive_in(&empty[last], lane);
      last = turn.slot;
      turn.next(p.slots);
    }
    wgmma_wait<0>();
    if (lane < 2) mbarrier_arrive_in(&empty[last], lane);
    wait_previous();
    put(unit, unit.row + warp * 16 + lane / 4, d);
  }
}

template <int N, bool GATED, class Put>
__device__ __forceinline__ void product(const TensorMap& x, const TensorMap& weight, const Problem& p, Put put) {
  unsigned char* ring = dynamic_shared();
  Mbarrier* full = reinterpret_cast<Mbarrier*>(ring + p.slots * Tile<N, GATED>::SLOT);
  Mbarrier* empty = full + p.slots;
  if (threadIdx.x == 0) {
    prefetch_map(x);
    prefetch_map(weight);
    for (int i = 0; i < p.slots; i++) {
      mbarrier_init(&full[i], 1);
      mbarrier_init(&empty[i], 2 * FETCHER);  // the multiplying warps of both blocks
    }
    mbarrier_init_fence();
  }
  start_next();
  pair_sync();
  if (threadIdx.x / 32 >= FETCHER) {
    if constexpr (crowded(N)) lower_registers<40>();
    if (threadIdx.x / 32 == FETCHER && elect_one()) fetch_all<N, GATED>(p, ring, full, empty, x, weight);
  } else {
    if constexpr (crowded(N)) raise_registers<232>();
    multiply_all<N, GATED>(p, ring, full, empty, put);
  }
}

// Maps of boxes of 64 rows of x (rows, depth) and N / 2 rows of weight. Blocks: an even number, in clusters of two.
// Dynamic shared memory: slots of 128 (128 + N) bytes and of two mbarriers.
#define PARAMETERS                                                                                                  \
  const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap weight, int rows, int outputs, int blocks, \
      int splits, int slots, int share_weight, int add
#define KERNEL(N) extern "C" __global__ void __launch_bounds__(threads_for(N), 1)

// Sums in float32: out (splits, rows, outputs).
#define PRODUCT(N)                                                                                               \
  KERNEL(N) product_##N(PARAMETERS, float* out) {                                                                   \
    Problem p = {rows, outputs, blocks, splits, slots, share_weight, add};                                       \
    product<N, false>(x, weight, p, [&](const Unit& unit, int row, float (&d)[N / 8][4]) {                       \
      put_float<N>(p, unit, row, d, out);                                                                        \
    });                                                                                                          \
  }                                                                                                              \
  TRENI_SHIM_EXPORT(product_##N)
PRODUCT(64)
PRODUCT(96)
PRODUCT(128)
PRODUCT(160)
PRODUCT(192)
PRODUCT(256)

// Out (rows, outputs) bf16 = silu(gate) * up, of weight (2 outputs, depth).
#define GATED(N)                                                                                                 \
  KERNEL(N) gated_##N(PARAMETERS, bf16* out) {                                                                      \
    Problem p = {rows, outputs, blocks, splits, slots, share_weight, add};                                       \
    product<N, true>(x, weight, p, [&](const Unit& unit, int row, float (&d)[N / 8][4]) {                        \
      put_gated<N>(p, unit, row, d, out);                                                                        \
    });                                                                                                          \
  }                                                                                                              \
  TRENI_SHIM_EXPORT(gated_##N)
GATED(48)
GATED(96)
GATED(160)
GATED(176)
GATED(192)
GATED(256)

// Queries, keys and values to where they belong, heads 128 wide.
#define HEADS(N)                                                                                                 \
  KERNEL(N) heads_##N(PARAMETERS, const Control* control, const float* bias, const float* query_gain,               \
                   const float* key_gain, float eps, const float* turns, int heads, int kv_heads,                \
                   int cache_slots, int capacity, f16* layer, f16* queries) {                                    \
    Problem p = {rows, outputs, blocks, splits, slots, share_weight, add};                                       \
    Heads h = {control, bias, query_gain, key_gain,  turns,   layer, queries,                                    \
               eps,     heads, kv_heads, cache_slots, capacity};                                                 \
    product<N, false>(x, weight, p, [&](const Unit& unit, int row, float (&d)[N / 8][4]) {                       \
      put_heads<N>(p, unit, row, d, h);                                                                          \
    });                                                                                                          \
  }                                                                                                              \
  TRENI_SHIM_EXPORT(heads_##N)
HEADS(128)
HEADS(256)
