// Boxes of a bf16 matrix into shared memory by the copy engine, and pairs of blocks that share what it brings.
//
// A box has 64 columns and the rows its map says. It arrives as rows of 128 bytes whose 16-byte units are permuted
// (unit u of row r at u ^ r % 8), as `wgmma.cuh` reads them; what lies outside the matrix arrives as zeros. The target
// starts at a multiple of 1,024 bytes.
#pragma once
#include "ptx.cuh"

#ifdef TRENI_SHIM
// What the CPU build makes of a map; the real one is CUDA's own secret.
struct alignas(64) TensorMap {
  const u16* base;
  long long rows, columns, stride, box_rows;
  u64 unused[11];
};
#else
struct alignas(64) TensorMap {
  u64 words[16];
};
#endif
static_assert(sizeof(TensorMap) == 128, "CUtensorMap");

// Blocks 2 i and 2 i + 1 of a launch in pairs: this one's place in its pair.
__device__ __forceinline__ u32 pair_rank() { return blockIdx.x % 2; }

#ifdef TRENI_SHIM
namespace shim {
inline Block* block_of_pair(u32 rank) { return current->block - pair_rank() + rank; }

// The address in the other block's shared memory that this one has in ours.
template <class T>
T* in_block(T* pointer, u32 rank) {
  auto offset = reinterpret_cast<unsigned char*>(pointer) - current->block->shared;
  return reinterpret_cast<T*>(block_of_pair(rank)->shared + offset);
}

inline void copy_box(void* shared, const TensorMap& map, int column, int row, Mbarrier* barrier) {
  auto* to = static_cast<unsigned char*>(shared);
  for (int r = 0; r < map.box_rows; r++) {
    for (int c = 0; c < 64; c++) {
      bool inside = row + r < map.rows && column + c < map.columns;
      u16 value = inside ? map.base[(row + r) * map.stride + column + c] : 0;
      memcpy(to + r * 128 + (c / 8 ^ r % 8) * 16 + c % 8 * 2, &value, 2);
    }
  }
  phase_of(barrier)->bytes -= int(map.box_rows * 128);
  settle(phase_of(barrier));
}
}  // namespace shim
#endif

// Until all threads of both blocks are here. Orders initialised mbarriers, after `mbarrier_init_fence`, and nothing else.
__device__ __forceinline__ void pair_sync() {
#ifdef TRENI_SHIM
  shim::Barrier& barrier = shim::block_of_pair(0)->barriers[15];
  unsigned long generation = barrier.generation;
  shim::progress++;
  if (++barrier.arrived == 2 * shim::current->block->threads) {
    barrier.arrived = 0;
    barrier.generation++;
  }
  while (barrier.generation == generation) shim::yield();
#else
  asm volatile("barrier.cluster.arrive.relaxed.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
#endif
}

// Arrives on the barrier that has this address in block `rank` of the pair. Of this thread's ordinary accesses it orders
// none that the other block sees.
__device__ __forceinline__ void mbarrier_arrive_in(Mbarrier* barrier, u32 rank) {
#ifdef TRENI_SHIM
  mbarrier_arrive(shim::in_block(barrier, rank));
#else
  asm volatile(
      "{\n.reg .b32 remote;\nmapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n}" ::"r"(shared_address(barrier)),
      "r"(rank)
      : "memory");
#endif
}

__device__ __forceinline__ u64 cache_evict_last() {
#ifdef TRENI_SHIM
  return 0;
#else
  u64 policy;
  asm("createpolicy.fractional.L2::evict_last.b64 %0, 1.0;" : "=l"(policy));
  return policy;
#endif
}

__device__ __forceinline__ u64 cache_evict_normal() {
#ifdef TRENI_SHIM
  return 0;
#else
  u64 policy;
  asm("createpolicy.fractional.L2::evict_normal.b64 %0, 1.0;" : "=l"(policy));
  return policy;
#endif
}

// Brings the map itself near, ahead of its first copy.
__device__ __forceinline__ void prefetch_map(const TensorMap& map) {
#ifndef TRENI_SHIM
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
#endif
}

// Starts a copy of the box whose first element is (row, column), counted by `barrier` as it lands.
__device__ __forceinline__ void tensor_copy(void* shared, const TensorMap& map, int column, int row, Mbarrier* barrier,
                                            u64 policy) {
#ifdef TRENI_SHIM
  shim::copy_box(shared, map, column, row, barrier);
#else
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
      " [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(shared_address(shared)),
      "l"(&map), "r"(column), "r"(row), "r"(shared_address(barrier)), "l"(policy)
      : "memory");
#endif
}

// The same into both blocks of the pair, each counting on its own barrier.
__device__ __forceinline__ void tensor_copy_to_pair(void* shared, const TensorMap& map, int column, int row,
                                                    Mbarrier* barrier, u64 policy) {
#ifdef TRENI_SHIM
  for (u32 rank = 0; rank < 2; rank++) {
    shim::copy_box(shim::in_block(static_cast<unsigned char*>(shared), rank), map, column, row,
                   shim::in_block(barrier, rank));
  }
#else
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint"
      " [%0], [%1, {%2, %3}], [%4], %5, %6;" ::"r"(shared_address(shared)),
      "l"(&map), "r"(column), "r"(row), "r"(shared_address(barrier)), "h"(u16(3)), "l"(policy)
      : "memory");
#endif
}
