// The element-wise steps of a prefill over rows of tokens; blocks beyond `control->rows` do nothing.
#include "control.cuh"
#include "elements.cuh"
#include "overlap.cuh"

// Residual (rows, width) float32 = rows of the table (vocabulary, width); zeros in rows that are not there, to which
// the products add all the same. A block a row.
extern "C" __global__ void embed(const Control* control, const int* tokens, const bf16* table, int width, float* out) {
  start_next();
  int row = blockIdx.x;
  bool present = row < control->rows;
  const bf16* from = table + static_cast<long long>(present ? tokens[row] : 0) * width;
  for (int i = threadIdx.x * 8; i < width; i += blockDim.x * 8) {
    float values[8] = {};
    if (present) load(from + i, values);
    store(out + static_cast<long long>(row) * width + i, values);
  }
}
TRENI_SHIM_EXPORT(embed)

// Adds `splits` parts, `stride` apart, to N neighbours each at two places. Up to BATCH parts are under way at once.
template <int BATCH, int N>
__device__ __forceinline__ void add_parts(const float* first, const float* second, long long stride, int splits,
                                          float (&low)[N], float (&high)[N]) {
  for (int done = 0; done < splits; done += BATCH) {
    float low_part[BATCH][N], high_part[BATCH][N];
#pragma unroll
    for (int i = 0; i < BATCH; i++) {
      if (done + i < splits) {
        load(first + (done + i) * stride, low_part[i]);
        load(second + (done + i) * stride, high_part[i]);
      }
    }
#pragma unroll
    for (int i = 0; i < BATCH; i++) {
      if (done + i < splits) {
#pragma unroll
        for (int j = 0; j < N; j++) low[j] += low_part[i][j], high[j] += high_part[i][j];
      }
    }
  }
}

template <bool SUM>
__device__ __forceinline__ void normalize(const Control* control, float* x, const float* parts, int splits,
                                          const float* gain, float eps, int width, bf16* out) {
  __shared__ float sums[32];
  start_next();
  int row = blockIdx.x, i = threadIdx.x * 8;
  if (row >= control->rows) return;
  bool present = i < width;
  float low[4] = {}, high[4] = {}, gains[8] = {};
  if (present) load(gain + i, gains);
  wait_previous();
  long long at = static_cast<long long>(row) * width + i, all = static_cast<long long>(gridDim.x) * width;
  float sum = 0.0f;
  if (present) {
    load(x + at, low);
    load(x + at + 4, high);
    if (SUM) {
      add_parts<8>(parts + at, parts + at + 4, all, splits, low, high);
      store(x + at, low);
      store(x + at + 4, high);
    }
#pragma unroll
    for (int j = 0; j < 4; j++) sum += low[j] * low[j] + high[j] * high[j];
  }
  for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (!present) return;
  float total = 0.0f;
  for (int w = 0; w < static_cast<int>(blockDim.x) / 32; w++) total += sums[w];
  float scale = rsqrtf(total / width + eps);
  float values[8];
#pragma unroll
  for (int j = 0; j < 4; j++) {
    values[j] = low[j] * scale * gains[j];
    values[j + 4] = high[j] * scale * gains[j + 4];
  }
  store(out + at, values);
}

// Out (rows, width) bf16 = x / sqrt(mean(x^2) + eps) * gain, of x (rows, width) float32. A block of at least width / 8
// threads a row.
extern "C" __global__ void __launch_bounds__(640) rms(const Control* control, float* x, const float* gain, float eps,
                                                      int width, bf16* out) {
  normalize<false>(control, x, nullptr, 0, gain, eps, width, out);
}
TRENI_SHIM_EXPORT(rms)

// The same of x after x += its parts (splits, gridDim.x, width) float32.
extern "C" __global__ void __launch_bounds__(640)
    rms_of_sum(const Control* control, float* x, const float* parts, int splits, const float* gain, float eps, int width,
               bf16* out) {
  normalize<true>(control, x, parts, splits, gain, eps, width, out);
}
TRENI_SHIM_EXPORT(rms_of_sum)

// Bias and norm where there are any, then rotation of queries and keys, of the sum of the parts of `qkv` (splits, padded
// rows, heads + 2 kv_heads, D) float32: it is rounded once, here, to f16. Queries go to `queries` (rows, heads, D), keys
// and values to the slot from `start` on. `bias` is as wide as a row of qkv, `query_gain` and `key_gain` (D,), `turns`
// (capacity, D / 2, 2) cosine and sine. D / 16 lanes a head.
template <int D>
__device__ __forceinline__ void rotate(const Control* control, const float* qkv, int splits, int padded,
                                       const float* bias, const float* query_gain, const float* key_gain, float eps,
                                       const float* turns, int heads, int kv_heads, int slots, int capacity,
                                       f16* layer, f16* queries) {
  constexpr int N = D < 16 ? D / 2 : 8;
  constexpr int LANES = D / 2 / N;
  start_next();
  int all = heads + 2 * kv_heads;
  int item = blockIdx.x * blockDim.x + threadIdx.x;
  int at = item % LANES * N, head = item / LANES % all, row = item / LANES / all;
  bool present = row < control->rows;
  if (!present) row = 0;  // still takes part in the exchange below
  bool turned = head < heads + kv_heads;
  int position = control->start + row;

  // What earlier kernels have no part in comes first.
  float low[N] = {}, high[N] = {}, low_gain[N], high_gain[N], turn[2 * N];
  if (bias != nullptr) {
    load(bias + head * D + at, low);
    load(bias + head * D + D / 2 + at, high);
  }
  if (turned) {
    if (query_gain != nullptr) {
      const float* gain = head < heads ? query_gain : key_gain;
      load(gain + at, low_gain);
      load(gain + D / 2 + at, high_gain);
    }
    load(turns + (static_cast<long long>(position) * (D / 2) + at) * 2, turn);
  }
  wait_previous();
  const float* from = qkv + (static_cast<long long>(row) * all + head) * D + at;
  long long part_size = static_cast<long long>(padded) * all * D;
  add_parts<D < 128 ? 2 : 3>(from, from + D / 2, part_size, splits, low, high);
  if (query_gain != nullptr) {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < N; i++) sum += low[i] * low[i] + high[i] * high[i];
#pragma unroll
    for (int step = LANES / 2; step > 0; step /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, step);
    if (turned) {
      float scale = rsqrtf(sum / D + eps);
#pragma unroll
      for (int i = 0; i < N; i++) low[i] *= scale * low_gain[i], high[i] *= scale * high_gain[i];
    }
  }
  if (!present) return;

  if (turned) {
#pragma unroll
    for (int i = 0; i < N; i++) {
      float cosine = turn[2 * i], sine = turn[2 * i + 1], first = low[i];
      low[i] = first * cosine - high[i] * sine;
      high[i] = high[i] * cosine + first * sine;
    }
  }
  f16* to;
  if (head < heads) {
    to = queries + (static_cast<long long>(row) * heads + head) * D + at;
  } else {
    int part = head >= heads + kv_heads;
    int kv_head = head - heads - part * kv_heads;
    to = part_of(layer, part, slots, control->slot, kv_heads, capacity, D) +
         (static_cast<long long>(kv_head) * capacity + position) * D + at;
  }
  store(to, low);
  store(to + D / 2, high);
}

#define ROTATE(D)                                                                                                   \
  extern "C" __global__ void rotate_##D(const Control* control, const float* qkv, int splits, int padded,           \
                                        const float* bias, const float* query_gain, const float* key_gain,          \
                                        float eps, const float* turns, int heads, int kv_heads, int slots,          \
                                        int capacity, f16* layer, f16* queries) {                                   \
    rotate<D>(control, qkv, splits, padded, bias, query_gain, key_gain, eps, turns, heads, kv_heads, slots,         \
              capacity, layer, queries);                                                                            \
  }                                                                                                                 \
  TRENI_SHIM_EXPORT(rotate_##D)
ROTATE(8)
ROTATE(16)
ROTATE(32)
ROTATE(64)
ROTATE(128)

// The first `length` positions of one slot into another. Blocks: (chunks, kv_heads, 2 layers); `cache` is
// (layers, 2, slots, kv_heads, capacity, width).
extern "C" __global__ void copy_prefix(f16* cache, int slots, int source, int target, int length, int capacity,
                                       int width) {
  int kv_heads = gridDim.y;
  long long head = static_cast<long long>(capacity) * width;
  f16* base = cache + (static_cast<long long>(blockIdx.z) * slots * kv_heads + blockIdx.y) * head;
  const uint4* from = reinterpret_cast<const uint4*>(base + source * kv_heads * head);
  uint4* to = reinterpret_cast<uint4*>(base + target * kv_heads * head);
  int count = length * (width / 8);
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) to[i] = from[i];
}
TRENI_SHIM_EXPORT(copy_prefix)
