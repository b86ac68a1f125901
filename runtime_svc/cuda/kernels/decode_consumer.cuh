// The consumer warps' part of the products: tile by tile, each warp over its share of the inner dimension.
//
// A product runs on the matrix units with the weights as B, 8 rows of them to a tile, and the activations as A: row
// b of the batch is rows b and b + 8 of A, the activation rounded to bf16 and what the rounding left. The two
// products added give nearly float32 precision, and a row's result does not depend on the other rows.
#pragma once

#include "decode_shape.cuh"

struct Running;

struct Consumer {
    const Step& step;
    LayerCursor cursor;
    Ring ring;
    u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    u32 group = lane / 4, quarter = lane % 4;  // of the matrix fragments
    u32 gains = 0, tile_number = 0;

    __device__ __forceinline__ explicit Consumer(const Step& step) : step(step) { cursor.start(step); }

    __device__ __forceinline__ void enter(u32 layer) { cursor.enter(step, layer); }

    __device__ __forceinline__ void run(Stage stage, u32 layer, Tiles tiles) {
        if (tiles.count == 0) return;
        settle();
        const u64* source = step.exchange + (stage == OUTPUT    ? MIXED
                                             : stage == DOWN    ? GATED
                                             : stage == GATE_UP ? X_MIDDLE
                                                                : X_IN);
        Cut cut = cut_of(stage);
        bool norm = normed(stage);
        int chunks = chunks_at_once(step, cut);
        u32 at_once = tiles_at_once(tiles.count, cut, chunks);
        if (norm) mbarrier_wait(&shared().gain_full, gains & 1);
#pragma unroll 1
        for (u32 begin = 0; begin < tiles.count; begin += at_once) {
            u32 count = min(at_once, tiles.count - begin);
#pragma unroll 1
            for (int chunk = 0; chunk < cut.chunks; chunk += chunks) {
                int end = min(chunk + chunks, cut.chunks);
                load_activations(source, step.epoch + layer, cut, chunk, end, norm);
                if (norm && begin == 0 && end == cut.chunks) add_squares();
                __syncwarp();
                multiply(cut, chunk, end, count);
                __syncwarp();
            }
            tile_number += count;
        }
        if (norm) {
            if (lane == 0) mbarrier_arrive(&shared().gain_empty);
            gains++;
        }
    }

    __device__ __forceinline__ void attention(u32 layer, u32 place);

  private:
    __device__ __forceinline__ void settle() {
        forget(warp), forget(lane);
        group = lane / 4, quarter = lane % 4;
    }

    __device__ __forceinline__ void add_fresh(unsigned char* rows, u32 part, u32 at);
    __device__ __forceinline__ void add_values(Running& run, const unsigned char* rows, const float (&p)[2], float shrink,
                                               u32 count);
    __device__ __forceinline__ void finish_task(const Running& run, Task task, u32 tag);

    // Chunks `first` to `end` of the inner dimension, for the next `count` tiles.
    __device__ __forceinline__ void multiply(Cut cut, int first, int end, u32 count) {
        u32 b[CHUNK_STEPS][4];
        load_weights(b, cut, first);
#pragma unroll 1
        for (u32 i = 0; i < count; i++) {
            u32 slot = (tile_number + i) % PARTIALS;
            float2* partial = reinterpret_cast<float2*>(&shared().partial[slot][warp][group][quarter * 2]);
            float2 total = {0, 0};
            if (first > 0) {
                if (group < step.rows) total = *partial;
            } else {
                mbarrier_wait(&shared().partial_empty[slot], ((tile_number + i) / PARTIALS & 1) ^ 1);
            }
#pragma unroll 1
            for (int chunk = first; chunk < end; chunk++) {
                // The next chunk is fetched before this one is multiplied, also where that means waiting: only the
                // last chunk of the stage must not be held up, and nothing follows it.
                u32 next[CHUNK_STEPS][4];
                if (chunk + 1 < end)
                    load_weights(next, cut, chunk + 1);
                else if (i + 1 < count)
                    load_weights(next, cut, first);
                add_product(total, b, (chunk - first) * cut.chunk_steps, cut.chunk_steps);
#pragma unroll
                for (int j = 0; j < CHUNK_STEPS; j++)
#pragma unroll
                    for (int word = 0; word < 4; word++) b[j][word] = next[j][word];
            }
            if (group < step.rows) *partial = total;
            if (end == cut.chunks) {
                __syncwarp();
                if (lane == 0) mbarrier_arrive(&shared().partial_full[slot]);
            }
        }
    }

    // Adds to `total`, outputs 2 quarter and 2 quarter + 1 of row `group`, the product of a chunk's weights with the
    // activations of `steps` steps, those from `at` on in scratch.
    __device__ __forceinline__ void add_product(float2& total, const u32 (&b)[CHUNK_STEPS][4], int at, int steps) {
        float sums[4][4] = {};
        bool there = group < step.rows;
        const unsigned char* from = shared().scratch[warp] + (at * step.rows + group) * STEP_BYTES + quarter * 16;
        u32 first = (group & 1) * (STEP_BYTES / 2);
#pragma unroll
        for (int j = 0; j < CHUNK_STEPS; j++) {
            uint4 low = {0, 0, 0, 0}, high = {0, 0, 0, 0};
            if (there && j < steps) {
                const unsigned char* step_from = from + j * step.rows * STEP_BYTES;
                low = *reinterpret_cast<const uint4*>(step_from + first);
                high = *reinterpret_cast<const uint4*>(step_from + (first ^ (STEP_BYTES / 2)));
            }
            u32 a_low[4] = {low.x, low.y, low.z, low.w}, a_high[4] = {high.x, high.y, high.z, high.w};
            u32 b_low[2] = {b[j][0], b[j][1]}, b_high[2] = {b[j][2], b[j][3]};
            mma_bf16_16816(sums[j % 2 * 2], a_low, b_low);
            mma_bf16_16816(sums[j % 2 * 2 + 1], a_high, b_high);
        }
        total.x += (sums[0][0] + sums[0][2]) + (sums[1][0] + sums[1][2]) +
                   ((sums[2][0] + sums[2][2]) + (sums[3][0] + sums[3][2]));
        total.y += (sums[0][1] + sums[0][3]) + (sums[1][1] + sums[1][3]) +
                   ((sums[2][1] + sums[2][3]) + (sums[3][1] + sums[3][3]));
    }

    // This warp's part of a chunk: each lane takes 16 bytes of a row at once, so the inner elements of a lane's
    // fragments are neighbours.
    __device__ __forceinline__ void load_weights(u32 (&b)[CHUNK_STEPS][4], Cut cut, int chunk) {
        const unsigned char* row = ring.data() + group * PITCH + warp * (WARP_STEP * 2) + quarter * 16;
        int k = (chunk * cut.chunk_steps * CONSUMERS + int(warp)) * WARP_STEP + int(quarter) * 8;
        mbarrier_wait(&Ring::full()[ring.slot], ring.phase);
#pragma unroll
        for (int j = 0; j < CHUNK_STEPS; j++) {
            uint4 words = {0, 0, 0, 0};
            if (j < cut.chunk_steps && k + j * BLOCK_STEP < cut.inner)
                words = *reinterpret_cast<const uint4*>(row + j * BLOCK_STEP * 2);
            b[j][0] = words.x, b[j][1] = words.y, b[j][2] = words.z, b[j][3] = words.w;
        }
        release();
    }

    __device__ __forceinline__ void release() {
        __syncwarp();
        if (lane == 0) mbarrier_arrive(&Ring::empty()[ring.slot]);
        ring.advance();
    }

    // Waits for this warp's share of some chunks of the activations, and leaves them in scratch as (step, row, 32)
    // in two bf16 each, times the gain where there is a norm: for lane (group, quarter) of the A fragments the words
    // of its first 4 elements lie in one half of the 128 bytes, those of the next 4 in the other, which is which by
    // the row's parity, because of the banks.
    __device__ __forceinline__ void load_activations(const u64* source, u32 tag, Cut cut, int first, int end, bool norm) {
        constexpr int LOADS = 8;
        int first_step = first * cut.chunk_steps;
        u32 steps = (end - first) * cut.chunk_steps, pairs = (steps + 1) / 2, units = step.rows * pairs;
        u32 inverse = (65536 + pairs - 1) / pairs;
        u32 element = lane % 16 * 2;
        source += ((first_step + lane / 16) * CONSUMERS + warp) * WARP_STEP + element;
        float squares = 0;
#pragma unroll 1
        for (u32 begin = 0; begin < units; begin += LOADS) {
            Pair64 word[LOADS];
            u32 waiting = 0;
            auto address = [&](int i) {
                u32 row = (begin + i) * inverse >> 16, pair = begin + i - row * pairs;
                return source + row * cut.inner + pair * (2 * BLOCK_STEP);
            };
            auto inside = [&](int i) {
                u32 row = (begin + i) * inverse >> 16, pair = begin + i - row * pairs;
                int k = ((first_step + 2 * pair + lane / 16) * CONSUMERS + warp) * WARP_STEP + element;
                return begin + i < units && 2 * pair + lane / 16 < steps && k < cut.inner;
            };
#pragma unroll
            for (int i = 0; i < LOADS; i++) {
                word[i] = {u64(tag) << 32, u64(tag) << 32};
                if (inside(i)) {
                    waiting |= 1u << i;
                    word[i] = load_relaxed_pair(address(i));
                }
            }
#pragma unroll 1
            while (true) {
#pragma unroll
                for (int i = 0; i < LOADS; i++)
                    if (has_tag(word[i], tag)) waiting &= ~(1u << i);
                if (waiting == 0) break;
                spin_pause();
#pragma unroll
                for (int i = 0; i < LOADS; i++)
                    if (waiting >> i & 1) word[i] = load_relaxed_pair(address(i));
            }
#pragma unroll
            for (int i = 0; i < LOADS; i++) {
                if (begin + i >= units) break;
                u32 row = (begin + i) * inverse >> 16, pair = begin + i - row * pairs;
                float x = value_of(word[i].x), y = value_of(word[i].y);
                if (norm) {
                    float* sum = &shared().lane_squares[warp][row][lane];
                    if (pair == 0) squares = first == 0 ? 0 : *sum;
                    squares += x * x + y * y;
                    if (pair == pairs - 1) *sum = squares;
                    if (inside(i)) {
                        int k = ((first_step + 2 * pair + lane / 16) * CONSUMERS + warp) * WARP_STEP + element;
                        float2 gain = *reinterpret_cast<const float2*>(shared().gain + k);
                        x *= gain.x, y *= gain.y;
                    }
                }
                if (2 * pair + lane / 16 < steps) {
                    unsigned char* to = shared().scratch[warp] + ((2 * pair + lane / 16) * step.rows + row) * STEP_BYTES;
                    u32 half = (lane % 4 / 2) ^ (row & 1);
                    u32 rounded = bf16_pair(x, y);
                    *reinterpret_cast<uint2*>(to + half * (STEP_BYTES / 2) + lane % 16 / 4 * 16 + lane % 2 * 8) = {
                        rounded, bf16_pair(x - bf16_low(rounded), y - bf16_high(rounded))};
                }
            }
        }
    }

    // The warp's sum of each row's squares: 4 lanes a row add up what each lane saw.
    __device__ __forceinline__ void add_squares() {
        __syncwarp();
        float sum = 0;
#pragma unroll
        for (int i = 0; i < 8; i++) sum += shared().lane_squares[warp][group][quarter + 4 * i];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        if (quarter == 0 && group < step.rows) shared().squares[gains & 1][warp][group] = sum;
    }

    // 8 neighbouring activations as two A fragments: rows g hold the rounded values, rows g + 8 the rest.
    __device__ __forceinline__ static void fragments(u32 (&a)[8], const float (&value)[8]) {
#pragma unroll
        for (int pair = 0; pair < 4; pair++) {
            float x = value[2 * pair], y = value[2 * pair + 1];
            u32 rounded = bf16_pair(x, y);
            a[2 * pair] = rounded;
            a[2 * pair + 1] = bf16_pair(x - bf16_low(rounded), y - bf16_high(rounded));
        }
    }

};
