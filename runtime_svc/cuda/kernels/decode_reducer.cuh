// The reducer warps: they add up the consumers' partial sums, do what follows each product, and hand the values on.
// A lane has row lane / 8 of the batch and column lane % 8 of the tile, and then row lane / 8 + 4.
#pragma once

#include "decode_shape.cuh"

constexpr u32 REDUCER_BARRIER = 2;
constexpr float LN_2 = 0.6931471805599453f;

// Of the logits seen so far. Ties go to the lower index.
struct Seen {
    float peak = -infinity(), second = -infinity(), total = 0, weighted = 0;
    int id = 0x7fffffff;
    int finite = 1;

    __device__ __forceinline__ void add(float logit, int index) {
        Seen one;
        one.finite = fabsf(logit) < infinity();
        if (one.finite) one.peak = logit, one.total = 1, one.id = index;
        merge(one);
    }

    __device__ __forceinline__ void merge(Seen other) {
        finite &= other.finite;
        bool better = other.peak > peak || (other.peak == peak && other.id < id);
        Seen top = better ? other : *this, low = better ? *this : other;
        peak = top.peak, id = top.id;
        second = fmaxf(top.second, low.peak);
        total = top.total, weighted = top.weighted;
        if (low.total > 0) {
            float difference = low.peak - top.peak, scale = exp2_fast(difference / LN_2);
            total += low.total * scale;
            weighted += scale * (low.weighted + difference * low.total);
        }
    }

    __device__ __forceinline__ Seen of_lane(int mask) const {
        Seen other;
        other.peak = __shfl_xor_sync(0xffffffffu, peak, mask);
        other.second = __shfl_xor_sync(0xffffffffu, second, mask);
        other.total = __shfl_xor_sync(0xffffffffu, total, mask);
        other.weighted = __shfl_xor_sync(0xffffffffu, weighted, mask);
        other.id = __shfl_xor_sync(0xffffffffu, id, mask);
        other.finite = __shfl_xor_sync(0xffffffffu, finite, mask);
        return other;
    }
};

struct Reducer {
    const Step& step;
    LayerCursor cursor;
    u32 warp = threadIdx.x / 32 - 1 - CONSUMERS, lane = threadIdx.x % 32;
    u32 column = lane % TILE;
    u32 norms = 0, tile_number = 0;
    Seen seen[2];

    __device__ __forceinline__ explicit Reducer(const Step& step) : step(step) { cursor.start(step); }

    __device__ __forceinline__ void enter(u32 layer) { cursor.enter(step, layer); }

    __device__ __forceinline__ void settle() {
        forget(warp), forget(lane);
        column = lane % TILE;
    }

    // Hands out the rows' embeddings.
    __device__ __forceinline__ void embed() {
        u32 thread = threadIdx.x - 32 * (1 + CONSUMERS) + blockIdx.x * (32 * REDUCERS);
        for (u32 i = thread; i < step.rows * (HIDDEN / 2); i += gridDim.x * (32 * REDUCERS)) {
            u32 row = i / (HIDDEN / 2), pair = i % (HIDDEN / 2);
            int token = step.row[row].token;
            if (token < 0) token = step.last_token[step.row[row].slot];
            u32 words = reinterpret_cast<const u32*>(step.embedding + u64(token) * HIDDEN)[pair];
            store_relaxed_pair(step.exchange + X_IN + row * HIDDEN + 2 * pair,
                               {tagged(bf16_low(words), step.epoch), tagged(bf16_high(words), step.epoch)});
        }
    }

    __device__ __forceinline__ void run(Stage stage, u32 layer, Tiles tiles) {
        settle();
        const float* bias = cursor.pointer<const float>(6);
        if (tiles.count == 0) return;
        for (u32 i = 0; i < tiles.count; i++)
            if ((tile_number + i) % REDUCERS == warp) finish_tile(stage, layer, tiles[i], tile_number + i, bias);
        tile_number += tiles.count;
        if (normed(stage)) norms++;
    }

    // Joins the splits of 32 elements of a head: 16 lanes have a pair each, two lanes half of a pair's splits each.
    __device__ __forceinline__ void attention(u32 layer, u32 place) {
        settle();
        u32 tag = step.epoch + layer;
        constexpr u32 PARTS = HEAD_DIM / 32;
        for (u32 i = place + warp * gridDim.x; i < step.rows * HEADS * PARTS; i += gridDim.x * REDUCERS) {
            u32 head_row = i / PARTS, row = head_row / HEADS, element = i % PARTS * 32 + lane % 16 * 2;
            u32 splits = splits_of(u32(step.row[row].position) + 1);
            u64 at = u64(head_row) * MAX_SPLITS;
            float peak = -infinity(), total = 0;
            if (lane < splits) {
                const u64* from = step.exchange + SPLIT_SCALES + (at + lane) * 2;
                Pair64 words = load_relaxed_pair(from);
                while (!has_tag(words, tag)) {
                    spin_pause();
                    words = load_relaxed_pair(from);
                }
                peak = value_of(words.x), total = value_of(words.y);
            }
            float top = peak;
#pragma unroll
            for (int mask = 16; mask > 0; mask /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, mask));
            float scale = exp2_fast(peak - top);
            total *= scale;
#pragma unroll
            for (int mask = 16; mask > 0; mask /= 2) total += __shfl_xor_sync(0xffffffffu, total, mask);
            float2 sum = {0, 0};
            for (u32 first = 0; first < splits; first += 16) {
                const u64* from = step.exchange + SPLIT_SUMS + (at + first + lane / 16) * HEAD_DIM + element;
                join(sum, from, first + lane / 16, splits, scale, tag);
            }
            sum.x += __shfl_xor_sync(0xffffffffu, sum.x, 16);
            sum.y += __shfl_xor_sync(0xffffffffu, sum.y, 16);
            if (lane < 16)
                store_relaxed_pair(step.exchange + MIXED + head_row * HEAD_DIM + element,
                                   {tagged(sum.x / total, tag), tagged(sum.y / total, tag)});
        }
    }

    // The rows' results, once all blocks have seen their logits.
    __device__ __forceinline__ void finish() {
        u32 tag = step.epoch + step.layer_count;
#pragma unroll
        for (int half = 0; half < 2; half++) {
#pragma unroll
            for (int mask = 1; mask < TILE; mask *= 2) seen[half].merge(seen[half].of_lane(mask));
            if (column == 0) save(seen[half], shared().statistics[warp][half * 4 + lane / TILE]);
        }
        named_barrier_sync(REDUCER_BARRIER, 32 * REDUCERS);
        if (warp != 0) return;
        if (lane < step.rows) {
            Seen all;
            for (u32 w = 0; w < REDUCERS; w++) all.merge(saved(shared().statistics[w][lane]));
            u64* to = statistics(lane, blockIdx.x);
            store_relaxed_pair(to, {tagged(all.peak, tag), tagged(all.second, tag)});
            store_relaxed_pair(to + 2, {tagged(all.total, tag), tagged(all.weighted, tag)});
            store_relaxed_pair(to + 4, {tagged(__uint_as_float(u32(all.id)), tag), tagged(float(all.finite), tag)});
        }
        for (u32 row = blockIdx.x; row < step.rows; row += gridDim.x) {
            Seen all;
            for (u32 block = lane; block < gridDim.x; block += 32) {
                const u64* from = statistics(row, block);
                Pair64 words[3];
                do {
                    spin_pause();
#pragma unroll
                    for (int i = 0; i < 3; i++) words[i] = load_relaxed_pair(from + 2 * i);
                } while (!has_tag(words[0], tag) || !has_tag(words[1], tag) || !has_tag(words[2], tag));
                Seen other;
                other.peak = value_of(words[0].x), other.second = value_of(words[0].y);
                other.total = value_of(words[1].x), other.weighted = value_of(words[1].y);
                other.id = int(__float_as_uint(value_of(words[2].x))), other.finite = value_of(words[2].y) != 0;
                all.merge(other);
            }
#pragma unroll
            for (int mask = 1; mask < 32; mask *= 2) all.merge(all.of_lane(mask));
            if (lane == 0) write_result(row, all);
        }
    }

  private:
    __device__ __forceinline__ u64* statistics(u32 row, u32 block) const {
        return step.exchange + STATISTICS + (u64(row) * gridDim.x + block) * 8;
    }

    __device__ __forceinline__ static void save(const Seen& seen, Statistics& to) {
        to = {seen.peak, seen.second, seen.total, seen.weighted, seen.id, seen.finite};
    }

    __device__ __forceinline__ static Seen saved(const Statistics& from) {
        Seen seen;
        seen.peak = from.peak, seen.second = from.second, seen.total = from.total, seen.weighted = from.weighted;
        seen.id = from.id, seen.finite = from.finite;
        return seen;
    }

    __device__ __forceinline__ void write_result(u32 row, const Seen& all) {
        float log_total = logf(all.total);
        Result result = {all.id, -log_total, fmaxf(log_total - all.weighted / all.total, 0.0f), all.peak - all.second,
                         all.peak, log_total, all.finite, step.row[row].slot};
        if (!all.finite) result.id = 0;
        step.results[row] = result;
        step.last_token[step.row[row].slot] = result.id;
    }

    // Adds every second of up to 16 splits.
    __device__ __forceinline__ static void join(float2& sum, const u64* from, u32 split, u32 splits, float scale,
                                                u32 tag) {
        Pair64 words[8];
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (split + 2 * i < splits) words[i] = load_relaxed_pair(from + 2 * i * HEAD_DIM);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float weight = __shfl_sync(0xffffffffu, scale, (split + 2 * i) % 32);
            if (split + 2 * i < splits) {
                while (!has_tag(words[i], tag)) {
                    spin_pause();
                    words[i] = load_relaxed_pair(from + 2 * i * HEAD_DIM);
                }
                sum.x += value_of(words[i].x) * weight, sum.y += value_of(words[i].y) * weight;
            }
        }
    }

    __device__ __forceinline__ void finish_tile(Stage stage, u32 layer, u32 tile, u32 number, const float* bias) {
        u32 tag = step.epoch + layer, slot = number % PARTIALS;
        u32 output = tile * TILE + column;
        float before[2] = {0, 0};  // what the sum is added to
#pragma unroll
        for (int half = 0; half < 2; half++) {
            u32 row = lane / TILE + 4 * half;
            if (row >= step.rows) continue;
            if (stage == PROJECT && bias != nullptr) before[half] = bias[output];
            if (stage == OUTPUT) before[half] = poll(step.exchange + X_IN + row * HIDDEN + output, tag);
            if (stage == DOWN) before[half] = poll(step.exchange + X_MIDDLE + row * HIDDEN + output, tag);
        }
        mbarrier_wait(&shared().partial_full[slot], number / PARTIALS & 1);
        float sum[2] = {0, 0};
#pragma unroll
        for (int half = 0; half < 2; half++) {
            u32 row = lane / TILE + 4 * half;
            if (row >= step.rows) continue;
#pragma unroll
            for (int w = 0; w < CONSUMERS; w++) sum[half] += shared().partial[slot][w][row][column];
            if (normed(stage)) {
                float squares = 0;
#pragma unroll
                for (int w = 0; w < CONSUMERS; w++) squares += shared().squares[norms & 1][w][row];
                sum[half] *= 1.0f / sqrtf(squares / HIDDEN + step.eps);
            }
        }
        __syncwarp();
        if (lane == 0) mbarrier_arrive(&shared().partial_empty[slot]);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            u32 row = lane / TILE + 4 * half;
            float up = 0;
            if (stage == GATE_UP) up = __shfl_xor_sync(0xffffffffu, sum[half], TILE / 2);
            if (row >= step.rows) continue;
            float value = before[half] + sum[half];
            if (stage == PROJECT) store_relaxed(step.exchange + PROJECTED + row * QKV + output, tagged(value, tag));
            if (stage == OUTPUT) store_relaxed(step.exchange + X_MIDDLE + row * HIDDEN + output, tagged(value, tag));
            if (stage == DOWN) store_relaxed(step.exchange + X_IN + row * HIDDEN + output, tagged(value, tag + 1));
            if (stage == GATE_UP && column < TILE / 2) {
                float silu = value / (1.0f + exp2_fast(value / -LN_2));
                store_relaxed(step.exchange + GATED + row * FFN + tile * (TILE / 2) + column, tagged(silu * up, tag));
            }
            if (stage == HEAD && output < step.vocabulary) {
                step.logits[u64(row) * step.vocabulary + output] = value;
                seen[half].add(value, int(output));
            }
        }
    }
};
