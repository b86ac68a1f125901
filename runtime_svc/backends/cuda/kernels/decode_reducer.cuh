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

    __device__ __forceinline__ void enter(u32 layer) {
        cursor.enter(step, layer);
        keep_up(step, layer);
    }

    __device__ __forceinline__ void settle() {
        forget(warp), forget(lane);
        column = lane % TILE;
    }

    // Hands out the rows' embeddings, a warp 32 elements.
    __device__ __forceinline__ void embed() {
        const float* gain = cursor.next_pointer<const float>(4);
        constexpr u32 PARTS = ceil_div(HIDDEN, 32);
#pragma unroll 1
        for (u32 i = blockIdx.x + warp * gridDim.x; i < rows_of(step) * PARTS; i += gridDim.x * REDUCERS) {
            u32 row = i / PARTS, element = i % PARTS * 32 + lane;
            bool mine = element < HIDDEN;
            int token = step.row[row].token;
            if (token < 0) token = step.last_token[step.row[row].slot];
            float value = mine ? bf16_float(step.embedding[u64(token) * HIDDEN + element]) : 0;
            hand_on(X_IN, NORMED_IN, SQUARES_IN, step.epoch, phase_in(step, 0), mine, row, element, value,
                    mine ? gain[element] : 0);
        }
    }

    __device__ __forceinline__ void run(Stage stage, u32 layer, Tiles tiles) {
        settle();
        // What a sum starts from, or what the norm after it multiplies with.
        const float* vector = cursor.pointer<const float>(stage == OUTPUT ? 5 : 6);
        const float* next_gain = cursor.next_pointer<const float>(4);
        if (stage == DOWN) vector = next_gain != nullptr ? next_gain : step.final_gain;
        if (tiles.count == 0) return;
        if (normed(stage)) take_scales(stage, layer);
        u32 size = group_size(tiles.count);
#pragma unroll 1
        for (u32 begin = 0; begin < tiles.count; begin += size, group_number++) {
            u32 count = min(size, tiles.count - begin);
            bool turn = group_number % REDUCERS == warp;
            u32 units = SINGLE && stage != HEAD ? 1 : !SINGLE && step.rows > 4 ? 2 * count : count;
            if (SINGLE) {
                if (turn) finish_units(stage, layer, tiles, begin, count, vector, 0, 1, units);
            } else if (stage == HEAD) {
                // A whole group to one warp, so that a lane sees the same logits of its row whatever the rows.
                finish_units(stage, layer, tiles, begin, count, vector, turn ? 0 : units, 1, units);
            } else {
                finish_units(stage, layer, tiles, begin, count, vector, warp, REDUCERS, units);
            }
        }
        if (normed(stage)) norms++;
    }

    // Joins the splits of 64 elements of a head, a lane two.
    __device__ __forceinline__ void attention(u32 layer, u32 place) {
        settle();
        u32 tag = step.epoch + layer;
        constexpr u32 PARTS = ceil_div(HEAD_DIM, 64);
        constexpr int LOADS = smaller(MAX_SPLITS, 6);
#pragma unroll 1
        for (u32 i = place + warp * gridDim.x; i < rows_of(step) * HEADS * PARTS; i += gridDim.x * REDUCERS) {
            u32 head_row = i / PARTS, row = head_row / HEADS, element = i % PARTS * 64 + lane * 2;
            u32 splits = step.row[row].splits;
            bool mine = element < HEAD_DIM;
            u64 at = u64(head_row) * MAX_SPLITS;
            const u64* scales = step.exchange + SPLIT_SCALES + (at + lane) * 2;
            const u64* sums = step.exchange + SPLIT_SUMS + at * HEAD_DIM + element;
            Pair64 scale_word = {u64(tag) << 32 | 0xff800000u, u64(tag) << 32};
            if (lane < splits) scale_word = load_relaxed_pair(scales);
            float2 sum = {0, 0};
            float scale = 0, total = 0;
#pragma unroll 1
            for (u32 first = 0; first < splits; first += LOADS) {
                Pair64 word[LOADS];
#pragma unroll
                for (int j = 0; j < LOADS; j++) {
                    word[j] = {u64(tag) << 32, u64(tag) << 32};
                    if (mine && first + j < splits) word[j] = load_relaxed_pair(sums + (first + j) * HEAD_DIM);
                }
#pragma unroll 1
                while (true) {
                    bool all = has_tag(scale_word, tag);
#pragma unroll
                    for (int j = 0; j < LOADS; j++) all = all && has_tag(word[j], tag);
                    if (all) break;
                    spin_pause();
                    if (!has_tag(scale_word, tag)) scale_word = load_relaxed_pair(scales);
#pragma unroll
                    for (int j = 0; j < LOADS; j++)
                        if (!has_tag(word[j], tag)) word[j] = load_relaxed_pair(sums + (first + j) * HEAD_DIM);
                }
                __syncwarp();
                if (first == 0) {
                    float peak = value_of(scale_word.x), top = peak;
#pragma unroll
                    for (int mask = 16; mask > 0; mask /= 2) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, mask));
                    scale = exp2_fast(peak - top), total = value_of(scale_word.y) * scale;
#pragma unroll
                    for (int mask = 16; mask > 0; mask /= 2) total += __shfl_xor_sync(0xffffffffu, total, mask);
                }
#pragma unroll
                for (int j = 0; j < LOADS; j++) {
                    float weight = __shfl_sync(0xffffffffu, scale, first + j);
                    sum.x += value_of(word[j].x) * weight, sum.y += value_of(word[j].y) * weight;
                }
            }
            if (mine)
                store_split(phased(step) + MIXED + head_row * HEAD_DIM + element, __fdividef(sum.x, total),
                            __fdividef(sum.y, total), phase_of(step, layer));
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
                                                 const float* vector, u32 first, u32 stride, u32 end) {
        u32 tag = step.epoch + layer, slot = group_number % PARTIALS;
        bool waited = false, wide = SINGLE && stage != HEAD, halves = !SINGLE && step.rows > 4;
#pragma unroll 1
        for (u32 unit = first; unit < end || !waited; unit += stride) {
            u32 half = halves ? unit % 2 : 0, row = wide ? 0 : lane / TILE + 4 * half;
            u32 at = wide ? lane / TILE : halves ? unit / 2 : unit;
            bool mine = wide ? at < count : unit < end && row < rows_of(step);
            u32 output = tiles[begin + at] * TILE + column;
            float before = 0, gain = 0;  // what the sum is added to, and what the norm after it multiplies with
            if (mine) {
                if (stage == PROJECT && vector != nullptr) before = vector[output];
                if (stage == OUTPUT || stage == DOWN) gain = vector[output];
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
                if (normed(stage)) sum *= shared().scale[norms & 1][row];
            }
            emit(stage, layer, mine, row, output, before + sum, gain, half);
        }
        mbarrier_arrive(&shared().partial_empty[slot]);
    }

    __device__ __forceinline__ void emit(Stage stage, u32 layer, bool mine, u32 row, u32 output, float value, float gain,
                                         u32 half) {
        u32 tag = step.epoch + layer;
        if (stage == PROJECT && mine) store_relaxed(step.exchange + PROJECTED + row * QKV + output, tagged(value, tag));
        if (stage == OUTPUT)
            hand_on(X_MIDDLE, NORMED_MIDDLE, SQUARES_MIDDLE, tag, phase_of(step, layer), mine, row, output, value, gain);
        if (stage == DOWN)
            hand_on(X_IN, NORMED_IN, SQUARES_IN, tag + 1, phase_in(step, layer + 1), mine, row, output, value, gain);
        if (stage == GATE_UP) {
            float up = __shfl_xor_sync(0xffffffffu, value, TILE / 2);
            float gated = __fdividef(value, 1.0f + exp2_fast(-LOG2E * value)) * up;
            float other = __shfl_xor_sync(0xffffffffu, gated, 1);
            u32 element = output / TILE * (TILE / 2) + column;
            if (mine && column < TILE / 2 && column % 2 == 0)
                store_split(phased(step) + GATED + row * FFN + element, gated, other, phase_of(step, layer));
        }
        if (stage == HEAD && mine && output < step.vocabulary) {
            step.logits[u64(row) * step.vocabulary + output] = value;
            if (half == 0)
                seen[0].add(value, int(output));
            else
                seen[1].add(value, int(output));
        }
    }

    // An element of the residual stream: itself for who adds to it, times the gain for the next product, and the sum of
    // squares of 8 neighbours for the norm. `element` is lane % 8 from a multiple of 8.
    __device__ __forceinline__ void hand_on(u64 plain, u64 normed, u64 squares, u32 tag, u32 phase, bool mine, u32 row,
                                            u32 element, float value, float gain) {
        float gained = value * gain, other = __shfl_xor_sync(0xffffffffu, gained, 1);
        // What most wait for goes first.
        if (mine && column % 2 == 0) store_split(phased(step) + normed + row * HIDDEN + element, gained, other, phase);
        float square = value * value;
#pragma unroll
        for (int mask = 1; mask < TILE; mask *= 2) square += __shfl_xor_sync(0xffffffffu, square, mask);
        if (!mine) return;
        if (column == 0)
            store_relaxed(phased(step) + squares + row * SQUARE_WORDS + element / TILE,
                          (__float_as_uint(square) & ~1u) | phase);
        store_relaxed(step.exchange + plain + row * HIDDEN + element, tagged(value, tag));
    }

    // The rows' scales for a norm, from the squares of the elements: a row to a warp.
    __device__ __forceinline__ void take_scales(Stage stage, u32 layer) {
        u32 phase = stage == GATE_UP ? phase_of(step, layer) : phase_in(step, layer);
        const u32* squares = phased(step) + (stage == GATE_UP ? SQUARES_MIDDLE : SQUARES_IN);
        constexpr int QUADS = ceil_div(SQUARE_WORDS / 4, 32);
        constexpr int AT_ONCE = SINGLE || QUADS > 1 ? 1 : (MAX_ROWS + REDUCERS - 1) / REDUCERS;  // rows on their way
#pragma unroll 1
        for (u32 first = warp; first < rows_of(step); first += AT_ONCE * REDUCERS) {
            uint4 words[AT_ONCE][QUADS];
            auto row_of = [&](int r) { return first + r * REDUCERS; };
            auto load = [&](int r, int i) {
                bool there = row_of(r) < rows_of(step) && int(lane) + 32 * i < SQUARE_WORDS / 4;
                return there ? load_squares(squares + row_of(r) * SQUARE_WORDS, i, phase) : uint4{phase, phase, phase, phase};
            };
#pragma unroll
            for (int r = 0; r < AT_ONCE; r++)
#pragma unroll
                for (int i = 0; i < QUADS; i++) words[r][i] = load(r, i);
#pragma unroll
            for (int r = 0; r < AT_ONCE; r++) {
                float sum = 0;
#pragma unroll
                for (int i = 0; i < QUADS; i++) {
                    while (!has_phase(words[r][i], phase)) {
                        spin_pause();
                        words[r][i] = load(r, i);
                    }
                    uint4 w = words[r][i];
                    sum += (square_of(w.x) + square_of(w.y)) + (square_of(w.z) + square_of(w.w));
                }
                __syncwarp();
#pragma unroll
                for (int mask = 16; mask > 0; mask /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, mask);
                if (lane == 0 && row_of(r) < rows_of(step))
                    shared().scale[norms & 1][row_of(r)] = rsqrtf(sum * (1.0f / HIDDEN) + step.eps);
            }
        }
        named_barrier_sync(REDUCER_BARRIER, 32 * REDUCERS);
    }

    __device__ __forceinline__ static float square_of(u32 word) { return __uint_as_float(word & ~1u); }

    // This lane's quad number `i`; the words behind the last one count as there, and as 0.
    __device__ __forceinline__ uint4 load_squares(const u32* from, int i, u32 phase) const {
        u32 first = 4 * (lane + 32 * i), left = HIDDEN / TILE - first;
        uint4 words = load_relaxed_quad(from + first);
        if (HIDDEN / TILE % 4 != 0 && left < 4) {
            words.w = phase;
            if (left < 3) words.z = phase;
            if (left < 2) words.y = phase;
        }
        return words;
    }
};
