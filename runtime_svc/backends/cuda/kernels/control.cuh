// What changes from one prefill to the next, read from device memory so that a captured graph can be replayed.
#pragma once

struct Control {
  int rows;   // tokens of this pass; a pass is launched for at least as many
  int start;  // tokens in the slot before them
  int slot;
  int unused;
};

// A cache slot's keys (part 0) or values (part 1) of one layer: (kv_heads, capacity, width) of
// (2, slots, kv_heads, capacity, width) at `layer`.
template <typename T>
__device__ __forceinline__ T* part_of(T* layer, int part, int slots, int slot, int kv_heads, int capacity, int width) {
  return layer + static_cast<long long>(part * slots + slot) * kv_heads * capacity * width;
}
