// The reducer warps: they add up the consumers' partial sums, do what follows each product, and hand the values on.
// A lane has column lane % 8 of a tile; lane / 8 is its row of the batch, or that less 4, of one tile. In the kernel
// for one row lane / 8 is its tile of a group.
#pragma once

#include "decode_shape.cuh"

constexpr u32 REDUCER_BARRIER = 2;

struct Reducer {
    const Step& step;
    LayerCursor cursor;
    u32 warp = threadIdx.x / 32 - 1 - CONSUMERS, lane = threadIdx.x % 32;
    u32 column = lane % TILE;
    u32 norms = 0, group_number = 0;
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
        u32 size = group_size(tiles.count);
#pragma unroll 1
        for (u32 begin = 0; begin < tiles.count; begin += size, group_number++) {
            u32 count = min(size, tiles.count - begin);
            bool turn = group_number % REDUCERS == warp;
            u32 units = SINGLE && stage != HEAD ? 1 : !SINGLE && step.rows > 4 ? 2 * count : count;
            if (SINGLE) {
                if (turn) finish_units(stage, layer, tiles, begin, count, bias, 0, 1, units);
            } else if (stage == HEAD) {
                // A whole group to one warp, so that a lane sees the same logits of its row whatever the rows.
                finish_units(stage, layer, tiles, begin, count, bias, turn ? 0 : units, 1, units);
            } else {
                finish_units(stage, layer, tiles, begin, count, bias, warp, REDUCERS, units);
            }
        }
        if (normed(stage)) norms++;
    }

    // Joins the splits of 16 elements of a head: 8 lanes have a pair each, 4 lanes a quarter of a pair's splits each.
    __device__ __forceinline__ void attention(u32 layer, u32 place) {
        settle();
        u32 tag = step.epoch + layer;
        constexpr u32 PARTS = HEAD_DIM / 16;
#pragma unroll 1
        for (u32 i = place + warp * gridDim.x; i < rows_of(step) * HEADS * PARTS; i += gridDim.x * REDUCERS) {
            u32 head_row = i / PARTS, row = head_row / HEADS, element = i % PARTS * 16 + lane % 8 * 2;
            u32 splits = step.row[row].splits;
            u64 at = u64(head_row) * MAX_SPLITS;
            const u64* scales = step.exchange + SPLIT_SCALES + (at + lane) * 2;
            const u64* sums = step.exchange + SPLIT_SUMS + (at + lane / 8) * HEAD_DIM + element;
            constexpr int LOADS = (MAX_SPLITS + 3) / 4;
            Pair64 word[LOADS], scale_word = {u64(tag) << 32 | 0xff800000u, u64(tag) << 32};
            if (lane < splits) scale_word = load_relaxed_pair(scales);
            while (!has_tag(scale_word, tag)) {
                spin_pause();
                scale_word = load_relaxed_pair(scales);
            }
#pragma unroll
            for (int j = 0; j < LOADS; j++) {
                word[j] = {u64(tag) << 32, u64(tag) << 32};
                if (lane / 8 + 4 * j < splits) word[j] = load_relaxed_pair(sums + 4 * j * HEAD_DIM);
            }
            float peak = value_of(scale_word.x), top = peak;
#pragma unroll
            for (int mask = 16; mask > 0; mask /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, mask));
            float scale = exp2_fast(peak - top), total = value_of(scale_word.y) * scale;
#pragma unroll
            for (int mask = 16; mask > 0; mask /= 2) total += __shfl_xor_sync(0xffffffffu, total, mask);
            float2 sum = {0, 0};
#pragma unroll
            for (int j = 0; j < LOADS; j++) {
                float weight = __shfl_sync(0xffffffffu, scale, lane / 8 + 4 * j);
                while (!has_tag(word[j], tag)) {
                    spin_pause();
                    word[j] = load_relaxed_pair(sums + 4 * j * HEAD_DIM);
                }
                sum.x += value_of(word[j].x) * weight, sum.y += value_of(word[j].y) * weight;
            }
#pragma unroll
            for (int mask = 8; mask < 32; mask *= 2) {
                sum.x += __shfl_xor_sync(0xffffffffu, sum.x, mask);
                sum.y += __shfl_xor_sync(0xffffffffu, sum.y, mask);
            }
            if (lane < 8)
                store_relaxed_pair(step.exchange + MIXED + head_row * HEAD_DIM + element,
                                   {tagged(__fdividef(sum.x, total), tag), tagged(__fdividef(sum.y, total), tag)});
        }
    }

    // The rows' results, once all blocks have seen their logits.
    __device__ __forceinline__ void finish() {
        u32 tag = step.epoch + step.layer_count;
#pragma unroll
        for (int half = 0; half < (SINGLE ? 1 : 2); half++) {
#pragma unroll
            for (int mask = 1; mask < TILE; mask *= 2) seen[half].merge(seen[half].of_lane(mask));
            if (column == 0) save_half(half);
        }
        named_barrier_sync(REDUCER_BARRIER, 32 * REDUCERS);
        if (warp != 0) return;
        if (lane < rows_of(step)) {
            Seen all;
            for (u32 w = 0; w < REDUCERS; w++) all.merge(saved(shared().statistics[w][lane]));
            u64* to = statistics(lane, blockIdx.x);
            store_relaxed_pair(to, {tagged(all.peak, tag), tagged(all.second, tag)});
            store_relaxed_pair(to + 2, {tagged(all.total, tag), tagged(all.weighted, tag)});
            store_relaxed_pair(to + 4, {tagged(__uint_as_float(u32(all.id)), tag), tagged(float(all.finite), tag)});
        }
        for (u32 row = blockIdx.x; row < rows_of(step); row += gridDim.x) {
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

    __device__ __forceinline__ void write_result(u32 row, const Seen& all) {
        Result result = result_of(all, step.row[row].slot);
        step.results[row] = result;
        step.last_token[step.row[row].slot] = result.id;
    }

    __device__ __forceinline__ void save_half(int half) {
        if (!SINGLE)
            save(seen[half], shared().statistics[warp][half * 4 + lane / TILE]);
        else if (lane == 0)
            save(seen[0], shared().statistics[warp][0]);
    }

    // Units `first`, `first` + `stride`, ... under `end` of a group of tiles: a tile for 4 rows of the batch, or all
    // tiles for the one row.
    __device__ __forceinline__ void finish_units(Stage stage, u32 layer, Tiles tiles, u32 begin, u32 count,
                                                 const float* bias, u32 first, u32 stride, u32 end) {
        u32 tag = step.epoch + layer, slot = group_number % PARTIALS;
        bool waited = false, wide = SINGLE && stage != HEAD, halves = !SINGLE && step.rows > 4;
#pragma unroll 1
        for (u32 unit = first; unit < end || !waited; unit += stride) {
            u32 half = halves ? unit % 2 : 0, row = wide ? 0 : lane / TILE + 4 * half;
            u32 at = wide ? lane / TILE : halves ? unit / 2 : unit;
            bool mine = wide ? at < count : unit < end && row < rows_of(step);
            u32 output = tiles[begin + at] * TILE + column;
            float before = 0;  // what the sum is added to
            if (mine) {
                if (stage == PROJECT && bias != nullptr) before = bias[output];
                if (stage == OUTPUT) before = poll(step.exchange + X_IN + row * HIDDEN + output, tag);
                if (stage == DOWN) before = poll(step.exchange + X_MIDDLE + row * HIDDEN + output, tag);
            }
            if (!waited) mbarrier_wait(&shared().partial_full[slot], group_number / PARTIALS & 1);
            waited = true;
            float sum = 0;
            if (mine) {
                const float* partial = &shared().partial[slot][at][row * TILE + column];
#pragma unroll
                for (int w = 0; w < CONSUMERS; w++) sum += partial[w * ROWS * TILE];
                if (normed(stage)) {
                    float squares = 0;
#pragma unroll
                    for (int w = 0; w < CONSUMERS; w++) squares += shared().squares[norms & 1][w][row];
                    sum *= rsqrtf(squares * (1.0f / HIDDEN) + step.eps);
                }
            }
            emit(stage, tag, mine, row, output, before + sum, half);
        }
        __syncwarp();
        if (lane == 0) mbarrier_arrive(&shared().partial_empty[slot]);
    }

    __device__ __forceinline__ void emit(Stage stage, u32 tag, bool mine, u32 row, u32 output, float value, u32 half) {
        float up = 0;
        if (stage == GATE_UP) up = __shfl_xor_sync(0xffffffffu, value, TILE / 2);
        if (!mine) return;
        if (stage == PROJECT) store_relaxed(step.exchange + PROJECTED + row * QKV + output, tagged(value, tag));
        if (stage == OUTPUT) store_relaxed(step.exchange + X_MIDDLE + row * HIDDEN + output, tagged(value, tag));
        if (stage == DOWN) store_relaxed(step.exchange + X_IN + row * HIDDEN + output, tagged(value, tag + 1));
        if (stage == GATE_UP && column < TILE / 2) {
            float gated = __fdividef(value, 1.0f + exp2_fast(-LOG2E * value)) * up;
            u32 tile = output / TILE;
            store_relaxed(step.exchange + GATED + row * FFN + tile * (TILE / 2) + column, tagged(gated, tag));
        }
        if (stage == HEAD && output < step.vocabulary) {
            step.logits[u64(row) * step.vocabulary + output] = value;
            if (half == 0)
                seen[0].add(value, int(output));
            else
                seen[1].add(value, int(output));
        }
    }
};
