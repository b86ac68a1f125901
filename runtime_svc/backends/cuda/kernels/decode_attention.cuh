// The consumer warps' part of attention: one task at a time, 8 cached positions a warp at once.
#pragma once

#include "decode_consumer.cuh"

constexpr u32 CONSUMER_BARRIER = 1;

// One head's vector as it comes from the projection, normed and rotated; lanes under HEAD_DIM / 4 hold the
// elements 2 lane, 2 lane + 1 and the two half a head later.
struct HeadVector {
    float low[2], high[2];
};

struct HeadLoader {
    const Step& step;
    u32 lane, tag;
    float4 turns;  // cosine and sine of this lane's two pairs

    __device__ __forceinline__ HeadLoader(const Step& step, u32 lane, u32 tag, u32 row)
        : step(step), lane(lane), tag(tag), turns{1, 0, 1, 0} {
        if (active())
            turns = reinterpret_cast<const float4*>(step.rope + u64(step.row[row].position) * HEAD_DIM)[lane];
    }

    __device__ __forceinline__ bool active() const { return lane < HEAD_DIM / 4; }

    // `gain` null: no norm, `rotate` false: as it is.
    __device__ __forceinline__ HeadVector load(u32 row, u32 head, const float* gain, bool rotate) const {
        HeadVector v = {};
        float2 gain_low = {1, 1}, gain_high = {1, 1};
        if (active()) {
            if (gain != nullptr) {
                gain_low = reinterpret_cast<const float2*>(gain)[lane];
                gain_high = reinterpret_cast<const float2*>(gain + HEAD_DIM / 2)[lane];
            }
            const u64* from = step.exchange + PROJECTED + row * QKV + head * HEAD_DIM + 2 * lane;
            Pair64 low = load_relaxed_pair(from), high = load_relaxed_pair(from + HEAD_DIM / 2);
            while (!has_tag(low, tag) || !has_tag(high, tag)) {
                spin_pause();
                low = load_relaxed_pair(from), high = load_relaxed_pair(from + HEAD_DIM / 2);
            }
            v.low[0] = value_of(low.x), v.low[1] = value_of(low.y);
            v.high[0] = value_of(high.x), v.high[1] = value_of(high.y);
        }
        if (gain != nullptr) {
            float sum = v.low[0] * v.low[0] + v.low[1] * v.low[1] + v.high[0] * v.high[0] + v.high[1] * v.high[1];
#pragma unroll
            for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
            float scale = rsqrtf(sum * (1.0f / HEAD_DIM) + step.eps);
            v.low[0] *= scale * gain_low.x, v.low[1] *= scale * gain_low.y;
            v.high[0] *= scale * gain_high.x, v.high[1] *= scale * gain_high.y;
        }
        if (rotate) {
            HeadVector r;
            r.low[0] = v.low[0] * turns.x - v.high[0] * turns.y, r.high[0] = v.high[0] * turns.x + v.low[0] * turns.y;
            r.low[1] = v.low[1] * turns.z - v.high[1] * turns.w, r.high[1] = v.high[1] * turns.z + v.low[1] * turns.w;
            v = r;
        }
        return v;
    }
};

// Softmax over positions as they come, for the 8 heads of a task: lanes 4 g .. 4 g + 3 hold head g's scale and, of
// every head, HEAD_DIM / 32 neighbouring elements of the sum.
struct Running {
    static constexpr int WIDTH = HEAD_DIM / 32;
    float peak = -infinity(), total = 0;
    float sum[HEADS_AT_ONCE][WIDTH] = {};
};

__device__ __forceinline__ void Consumer::attention(u32 layer, u32 place) {
    settle();
    u32 tag = step.epoch + layer;
    for_each_task(step, place, [&](Task task) {
        Split newest(step.row[task.row], task.last_split);
        const float* q_gain = step.layers[layer].q_gain;
        const float* k_gain = step.layers[layer].k_gain;
        HeadLoader loader(step, lane, tag, task.row);
#pragma unroll 1
        for (u32 i = warp; i < task.heads + (newest.last ? 2 : 0); i += CONSUMERS) {
            if (i < task.heads) {
                HeadVector q = loader.load(task.row, task.first_head + i, q_gain, true);
                float scale = LOG2E / sqrtf(float(HEAD_DIM));
                if (loader.active()) {
                    store_query(i, 2 * lane, q.low[0] * scale, q.low[1] * scale);
                    store_query(i, HEAD_DIM / 2 + 2 * lane, q.high[0] * scale, q.high[1] * scale);
                }
            } else {
                u32 part = i - task.heads;  // 0 key, 1 value
                u32 head = HEADS + part * KV_HEADS + task.kv_head;
                HeadVector v = loader.load(task.row, head, part == 0 ? k_gain : nullptr, part == 0);
                if (loader.active()) {
                    u32 low = f16_pair_or_nan(v.low[0], v.low[1]), high = f16_pair_or_nan(v.high[0], v.high[1]);
                    shared().fresh[part][lane] = low, shared().fresh[part][HEAD_DIM / 4 + lane] = high;
                    if (task.first_head % GROUP == 0) {
                        u32* to = reinterpret_cast<u32*>(cache_rows(step, layer, part, task.row, task.kv_head) +
                                                         u64(newest.end - 1) * HEAD_DIM);
                        to[lane] = low, to[HEAD_DIM / 4 + lane] = high;
                    }
                }
            }
        }
        named_barrier_sync(CONSUMER_BARRIER, 32 * CONSUMERS);

        u32 q[HEAD_DIM / 32][8];
#pragma unroll
        for (int j = 0; j < HEAD_DIM / 32; j++) {
            uint4 low = {0, 0, 0, 0}, high = {0, 0, 0, 0};
            if (group < task.heads) {
                const uint4* from = reinterpret_cast<const uint4*>(&shared().query[group][j * 32 + quarter * 8]);
                low = from[0], high = from[1];
            }
            q[j][0] = low.x, q[j][1] = low.y, q[j][2] = low.z, q[j][3] = low.w;
            q[j][4] = high.x, q[j][5] = high.y, q[j][6] = high.z, q[j][7] = high.w;
        }

#pragma unroll 1
        for (u32 i = task.first_split; i <= task.last_split; i++) {
            Split split(step.row[task.row], i);
            Running run;
#pragma unroll 1
            for (u32 begin = split.begin; begin < split.end; begin += POSITIONS) {
                u32 positions = min(u32(POSITIONS), split.end - begin);
                bool mine = warp * 8 < positions;
                u32 fresh = split.last && split.end - 1 - begin < POSITIONS ? split.end - 1 - begin - warp * 8 : 8;  // of mine
                float p[2] = {0, 0}, shrink = 1;

                mbarrier_wait(&Ring::full()[ring.slot], ring.phase);
                if (mine) {
                    unsigned char* rows = ring.data() + warp * 8 * HEAD_DIM * 2;
                    add_fresh(rows, 0, fresh);
                    float s[4][4] = {};
#pragma unroll
                    for (int j = 0; j < HEAD_DIM / 32; j++) {
                        uint4 k = *reinterpret_cast<const uint4*>(rows + group * HEAD_DIM * 2 + j * 64 + quarter * 16);
                        u32 low[4] = {q[j][0], q[j][1], q[j][2], q[j][3]}, high[4] = {q[j][4], q[j][5], q[j][6], q[j][7]};
                        u32 k_low[2] = {k.x, k.y}, k_high[2] = {k.z, k.w};
                        mma_f16_16816(s[j % 2 * 2], low, k_low);
                        mma_f16_16816(s[j % 2 * 2 + 1], high, k_high);
                    }
                    u32 left = positions - warp * 8;  // of this warp's 8, those from `left` on are not there
                    float s0 = ((s[0][0] + s[0][2]) + (s[1][0] + s[1][2])) + ((s[2][0] + s[2][2]) + (s[3][0] + s[3][2]));
                    float s1 = ((s[0][1] + s[0][3]) + (s[1][1] + s[1][3])) + ((s[2][1] + s[2][3]) + (s[3][1] + s[3][3]));
                    if (2 * quarter >= left) s0 = -infinity();
                    if (2 * quarter + 1 >= left) s1 = -infinity();
                    float peak = fmaxf(s0, s1);
                    peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, 1));
                    peak = fmaxf(peak, __shfl_xor_sync(0xffffffffu, peak, 2));
                    peak = fmaxf(peak, run.peak);
                    shrink = exp2_fast(run.peak - peak);
                    p[0] = exp2_fast(s0 - peak), p[1] = exp2_fast(s1 - peak);
                    float sum = p[0] + p[1];
                    sum += __shfl_xor_sync(0xffffffffu, sum, 1);
                    sum += __shfl_xor_sync(0xffffffffu, sum, 2);
                    run.total = run.total * shrink + sum;
                    run.peak = peak;
                }
                release();

                mbarrier_wait(&Ring::full()[ring.slot], ring.phase);
                if (mine) {
                    unsigned char* rows = ring.data() + warp * 8 * HEAD_DIM * 2;
                    add_fresh(rows, 1, fresh);
                    add_values(run, rows, p, shrink, min(u32(8), positions - warp * 8));
                }
                release();
            }
            finish_split(run, task, split, tag);
        }
    });
}

// Two neighbouring elements of a query as fragments of A hold them: rounded, and what the rounding left.
__device__ __forceinline__ void Consumer::store_query(u32 head, u32 element, float x, float y) {
    u32 rounded = f16_pair(x, y);
    *reinterpret_cast<uint2*>(&shared().query[head][element]) = {
        rounded, f16_pair(x - f16_low(rounded), y - f16_high(rounded))};
}

// Puts this step's key or value among this warp's 8 rows, where it belongs there.
__device__ __forceinline__ void Consumer::add_fresh(unsigned char* rows, u32 part, u32 at) {
    if (at >= 8) return;
    u32* to = reinterpret_cast<u32*>(rows + at * HEAD_DIM * 2);
    for (u32 i = lane; i < HEAD_DIM / 2; i += 32) to[i] = shared().fresh[part][i];
    fence_copy_engine();
    __syncwarp();
}

__device__ __forceinline__ void Consumer::add_values(Running& run, const unsigned char* rows, const float (&p)[2],
                                                     float shrink, u32 count) {
    constexpr int WIDTH = Running::WIDTH;
#pragma unroll
    for (int g = 0; g < HEADS_AT_ONCE; g++) {
        float by = __shfl_sync(0xffffffffu, shrink, 4 * g);
#pragma unroll
        for (int e = 0; e < WIDTH; e++) run.sum[g][e] *= by;
    }
#pragma unroll (HEADS_AT_ONCE > 4 ? 4 : 8)
    for (int position = 0; position < 8; position++) {
        float value[WIDTH];
        const unsigned char* from = rows + position * HEAD_DIM * 2 + lane * (WIDTH * 2);
        if (WIDTH == 4) {
            uint2 words = *reinterpret_cast<const uint2*>(from);
            value[0] = f16_low(words.x), value[1 % WIDTH] = f16_high(words.x);
            value[2 % WIDTH] = f16_low(words.y), value[3 % WIDTH] = f16_high(words.y);
        } else if (WIDTH == 2) {
            u32 word = *reinterpret_cast<const u32*>(from);
            value[0] = f16_low(word), value[1 % WIDTH] = f16_high(word);
        } else {
            value[0] = f16_float(*reinterpret_cast<const u16*>(from));
        }
        bool there = position < int(count);  // what lies in the slot after the last position is not a number
#pragma unroll
        for (int g = 0; g < HEADS_AT_ONCE; g++) {
            float weight = __shfl_sync(0xffffffffu, p[position % 2], 4 * g + position / 2);
#pragma unroll
            for (int e = 0; e < WIDTH; e++)
                if (there) run.sum[g][e] += weight * value[e];
        }
    }
}

// Adds up the warps' sums and hands them on, not yet divided.
__device__ __forceinline__ void Consumer::finish_split(const Running& run, const Task& task, const Split& split,
                                                       u32 tag) {
    constexpr int WIDTH = Running::WIDTH;
    float* mine = reinterpret_cast<float*>(shared().scratch[warp]);
#pragma unroll
    for (int g = 0; g < HEADS_AT_ONCE; g++)
#pragma unroll
        for (int e = 0; e < WIDTH; e++) mine[g * HEAD_DIM + lane * WIDTH + e] = run.sum[g][e];
    if (quarter == 0) shared().split_peak[warp][group] = run.peak, shared().split_total[warp][group] = run.total;
    named_barrier_sync(CONSUMER_BARRIER, 32 * CONSUMERS);
    u32 warps = min(u32(CONSUMERS), (split.end - split.begin + 7) / 8);  // that had positions
#pragma unroll 1
    for (u32 i = threadIdx.x; i < task.heads * (HEAD_DIM / 2); i += 32 * CONSUMERS) {
        u32 head = i / (HEAD_DIM / 2), pair = i % (HEAD_DIM / 2);
        float peak = -infinity(), total = 0, scale[CONSUMERS];
        float2 sum = {0, 0};
#pragma unroll
        for (u32 w = 0; w < CONSUMERS; w++) {
            scale[w] = w < warps ? shared().split_peak[w][head] : -infinity();
            peak = fmaxf(peak, scale[w]);
        }
#pragma unroll
        for (u32 w = 0; w < CONSUMERS; w++) {
            scale[w] = exp2_fast(scale[w] - peak);
            float2 part = {0, 0};
            if (w < warps) {
                part = reinterpret_cast<const float2*>(shared().scratch[w] + head * HEAD_DIM * 4)[pair];
                total += shared().split_total[w][head] * scale[w];
            }
            sum.x += part.x * scale[w], sum.y += part.y * scale[w];
        }
        u64 at = (u64(task.row) * HEADS + task.first_head + head) * MAX_SPLITS + split.index;
        store_relaxed_pair(step.exchange + SPLIT_SUMS + at * HEAD_DIM + 2 * pair, {tagged(sum.x, tag), tagged(sum.y, tag)});
        if (pair == 0)
            store_relaxed_pair(step.exchange + SPLIT_SCALES + at * 2, {tagged(peak, tag), tagged(total, tag)});
    }
    named_barrier_sync(CONSUMER_BARRIER, 32 * CONSUMERS);
}
