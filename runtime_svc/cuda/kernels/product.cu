// Products of rows of activations with a matrix of weights: out (rows, outputs) = x (rows, depth) weight^T, by warpgroup
// products on tiles of 128 rows that one warp fetches ahead through a ring in shared memory.
//
// Blocks work in pairs on neighbouring tiles and share what both need: two tiles of columns the same rows of x, or two
// tiles of rows the same weights. Each fetches half of that for both. The weights do not depend on earlier kernels: the
// first tiles of them are on their way before `wait_previous`.
#include "bf16.cuh"
#include "overlap.cuh"
#include "tensor.cuh"
#include "wgmma.cuh"

constexpr int ROWS = 128;   // of a tile; a warpgroup 64 of them
constexpr int DEPTH = 64;   // of a slot of the ring
constexpr int WARPGROUPS = 2;
constexpr int FETCHER = WARPGROUPS * 4;  // the warp that fetches
constexpr int THREADS = (FETCHER + 1) * 32;

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
}

// Of a lane's four neighbours' values: four columns of one block of eight instead of two of each of two. The even lanes
// of a quad get those of the first block.
__device__ __forceinline__ uint2 four_columns(u32 first, u32 second) {
  bool odd = threadIdx.x % 2 == 1;
  u32 other = __shfl_xor_sync(0xffffffffu, odd ? first : second, 1);
  return odd ? uint2{other, second} : uint2{first, other};
}

// The sums of a lane's two rows go out. d[n] as of `wgmma_64_rows_of_k`.
template <int N>
__device__ __forceinline__ void put_float(const Problem& p, const Unit& unit, int row, float (&d)[N / 8][4], float* out) {
  int pair = threadIdx.x % 4 * 2;
#pragma unroll
  for (int r = 0; r < 2; r++) {
    if (row + 8 * r >= p.rows) continue;
    float* to = out + (static_cast<long long>(unit.split) * p.rows + row + 8 * r) * p.outputs + unit.column + pair;
#pragma unroll
    for (int n = 0; n < N / 8; n++) {
      if (unit.column + 8 * n >= p.outputs) continue;
      float2 sum = {d[n][2 * r], d[n][2 * r + 1]};
      if (p.add) add_pair(to + 8 * n, sum);
      else *reinterpret_cast<float2*>(to + 8 * n) = sum;
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

template <int N, bool GATED>
__device__ __forceinline__ void multiply_all(const Problem& p, const unsigned char* ring, Mbarrier* full,
                                             Mbarrier* empty, void* out) {
  using T = Tile<N, GATED>;
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int units = units_of<T::COLUMNS>(p), pairs = gridDim.x / 2;
  Turn turn;
  for (int index = blockIdx.x / 2; index < units; index += pairs) {
    Unit unit = unit_of<T::COLUMNS>(p, index);
    float d[N / 8][4] = {};
    int last = -1;
#pragma unroll 1
    for (int block = unit.first; block < unit.end; block++) {
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
    int row = unit.row + warp * 16 + lane / 4;
    if constexpr (GATED) {
      put_gated<N>(p, unit, row, d, static_cast<bf16*>(out));
    } else {
      put_float<N>(p, unit, row, d, static_cast<float*>(out));
    }
  }
}

template <int N, bool GATED>
__device__ __forceinline__ void product(const TensorMap& x, const TensorMap& weight, const Problem& p, void* out) {
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
  if (threadIdx.x / 32 == FETCHER) {
    if (elect_one()) fetch_all<N, GATED>(p, ring, full, empty, x, weight);
  } else {
    multiply_all<N, GATED>(p, ring, full, empty, out);
  }
  __syncwarp();
  pair_sync();  // the other block may still write here and arrive on our barriers
}

// Maps of boxes of 64 rows of x (rows, depth) and N / 2 rows of weight. Blocks: an even number, in clusters of two.
// Dynamic shared memory: slots of 128 (128 + N) bytes and of two mbarriers.
#define PRODUCT(name, N, GATED)                                                                                \
  extern "C" __global__ void __launch_bounds__(THREADS, 1)                                                     \
      name(const __grid_constant__ TensorMap x, const __grid_constant__ TensorMap weight, int rows, int outputs, \
           int blocks, int splits, int slots, int share_weight, int add, void* out) {                            \
    product<N, GATED>(x, weight, {rows, outputs, blocks, splits, slots, share_weight, add}, out);              \
  }                                                                                                            \
  TRENI_SHIM_EXPORT(name)

// Sums in float32: out (splits, rows, outputs).
PRODUCT(product_64, 64, false)
PRODUCT(product_96, 96, false)
PRODUCT(product_128, 128, false)
PRODUCT(product_160, 160, false)
PRODUCT(product_256, 256, false)
// Out (rows, outputs) bf16 = silu(gate) * up, of weight (2 outputs, depth).
PRODUCT(gated_48, 48, true)
PRODUCT(gated_96, 96, true)
PRODUCT(gated_160, 160, true)
PRODUCT(gated_176, 176, true)
PRODUCT(gated_192, 192, true)
PRODUCT(gated_256, 256, true)
