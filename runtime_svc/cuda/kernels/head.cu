// The last row's logits: final norm and LM head, as one pass over the head's rows.
#include "bf16.cuh"
#include "control.cuh"

// Logits (vocabulary,) float32 of the last of x (rows, width) float32; weight (vocabulary, width). Four rows of the
// head a warp at a time. Dynamic shared memory: width floats.
extern "C" __global__ void __launch_bounds__(256) head(const Control* control, const float* x, const float* gain,
                                                       float eps, int width, const bf16* weight, int vocabulary,
                                                       float* logits) {
  // First the low halves of all groups of eight, then the high ones: neighbouring lanes read neighbouring banks.
  float4* normed = reinterpret_cast<float4*>(dynamic_shared());
  __shared__ float parts[8];
  const float* row = x + static_cast<long long>(control->rows - 1) * width;
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, groups = width / 8;
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

  constexpr int ROWS = 4;
  for (int first = (blockIdx.x * 8 + warp) * ROWS; first < vocabulary; first += gridDim.x * 8 * ROWS) {
    float dots[ROWS] = {};
#pragma unroll 2
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
      if (lane == 0 && first + r < vocabulary) logits[first + r] = dots[r] * scale;
    }
  }
}
TRENI_SHIM_EXPORT(head)
