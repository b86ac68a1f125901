// The last row's logits: final norm and LM head, as one pass over the head's rows.
#include "control.cuh"
#include "elements.cuh"
#include "overlap.cuh"
#include "statistics.cuh"

// Blocks that are done, and what each of them saw; all zero before the first launch, and left so.
struct Tally {
  u32 done;
  u32 unused[7];
  Statistics seen[1];
};

// Logits (vocabulary,) float32 of the last of x (rows, width) float32, and what they say of the most likely token;
// weight (vocabulary, width). Four rows of the head a warp at a time. `tally` has room for gridDim.x blocks. Dynamic
// shared memory: width floats.
extern "C" __global__ void __launch_bounds__(256, 4) head(const Control* control, const float* x, const float* gain,
                                                       float eps, int width, const bf16* weight, int vocabulary,
                                                       float* logits, Tally* tally, Result* result) {
  // First the low halves of all groups of eight, then the high ones: neighbouring lanes read neighbouring banks.
  float4* normed = reinterpret_cast<float4*>(dynamic_shared());
  __shared__ float parts[8];
  const float* row = x + static_cast<long long>(control->rows - 1) * width;
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, groups = width / 8;
  wait_previous();
  float sum = 0.0f;
  for (int i = threadIdx.x; i < groups; i += 256) {
    float values[8], gains[8];
    load(row + 8 * i, values);
    load(gain + 8 * i, gains);
#pragma unroll
    for (int j = 0; j < 8; j++) {
      sum += values[j] * values[j];
      values[j] *= gains[j];
    }
    normed[i] = {values[0], values[1], values[2], values[3]};
    normed[groups + i] = {values[4], values[5], values[6], values[7]};
  }
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  if (lane == 0) parts[warp] = sum;
  __syncthreads();
  float total = 0.0f;
  for (int i = 0; i < 8; i++) total += parts[i];
  float scale = rsqrtf(total / width + eps);

  Seen seen;
  constexpr int ROWS = 4;
  for (int first = (blockIdx.x * 8 + warp) * ROWS; first < vocabulary; first += gridDim.x * 8 * ROWS) {
    float dots[ROWS] = {};
#pragma unroll 1
    for (int i = lane; i < groups; i += 32) {
      float values[ROWS][8];
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        int id = first + r < vocabulary ? first + r : vocabulary - 1;
        load(weight + static_cast<long long>(id) * width + 8 * i, values[r]);
      }
      float4 low = normed[i], high = normed[groups + i];
#pragma unroll
      for (int r = 0; r < ROWS; r++) {
        dots[r] += values[r][0] * low.x + values[r][1] * low.y + values[r][2] * low.z + values[r][3] * low.w +
                   values[r][4] * high.x + values[r][5] * high.y + values[r][6] * high.z + values[r][7] * high.w;
      }
    }
#pragma unroll
    for (int r = 0; r < ROWS; r++) {
      for (int step = 16; step > 0; step /= 2) dots[r] += __shfl_xor_sync(0xffffffffu, dots[r], step);
      if (lane == r && first + r < vocabulary) {
        logits[first + r] = dots[r] * scale;
        seen.add(dots[r] * scale, first + r);
      }
    }
  }

  __shared__ Statistics of_warps[8];
  __shared__ bool last;
  seen.merge(seen.of_lane(1));
  seen.merge(seen.of_lane(2));
  if (lane == 0) save(seen, of_warps[warp]);
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int i = 1; i < 8; i++) seen.merge(saved(of_warps[i]));
    save(seen, tally->seen[blockIdx.x]);
    __threadfence();
    last = atomicAdd(&tally->done, 1u) == gridDim.x - 1;
  }
  __syncthreads();
  if (!last || warp > 0) return;
  // Whichever block is last merges them in the same order: the same bits, whoever it is.
  __threadfence();
  Seen all;
  for (int i = lane; i < static_cast<int>(gridDim.x); i += 32) all.merge(saved(tally->seen[i]));
  for (int step = 1; step < 32; step *= 2) all.merge(all.of_lane(step));
  if (lane == 0) {
    *result = result_of(all, control->slot);
    tally->done = 0;
  }
}
TRENI_SHIM_EXPORT(head)
