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

    template <Stage stage>
    __device__ __forceinline__ void run(u32 layer, Tiles tiles) {
        settle();
        const u64* source = step.exchange + (stage == OUTPUT    ? MIXED
                                             : stage == DOWN    ? GATED
                                             : stage == GATE_UP ? X_MIDDLE
                                                                : X_IN);
        multiply<inner_of<stage>, normed<stage>>(source, step.epoch + layer, tiles.count);
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

    template <int inner, bool norm>
    __device__ __forceinline__ void multiply(const u64* source, u32 tag, u32 tiles) {
        using C = Cut<inner>;
        if (tiles == 0) return;
        float squares = 0;
        if (norm) mbarrier_wait(&shared().gain_full, gains & 1);
        u32 at_once = C::blocks == 1 ? tiles : PARTIALS;
#pragma unroll 1
        for (u32 begin = 0; begin < tiles; begin += at_once) {
            u32 count = min(at_once, tiles - begin);
#pragma unroll 1
            for (int block = 0; block < C::blocks; block++) {
                u32 a[C::block_steps][8];
                settle();
                float sum = load_activations<inner, norm>(a, source, tag, block);
                if (norm && begin == 0) {
                    squares += sum;
                    if (block == C::blocks - 1) {
                        squares += __shfl_xor_sync(0xffffffffu, squares, 1);
                        squares += __shfl_xor_sync(0xffffffffu, squares, 2);
                        if (quarter == 0) shared().squares[gains & 1][warp][group] = squares;
                    }
                }
                settle();
                multiply_block<inner>(a, count, block);
            }
            tile_number += count;
        }
        if (norm) {
            if (lane == 0) mbarrier_arrive(&shared().gain_empty);
            gains++;
        }
    }

    // One block of the inner dimension, for `count` tiles.
    template <int inner>
    __device__ __forceinline__ void multiply_block(const u32 (&a)[Cut<inner>::block_steps][8], u32 count, int block) {
        using C = Cut<inner>;
        int steps = C::steps_of(block);
        u32 b[C::chunk_steps][4];
        load_weights<inner>(b, block, 0);
#pragma unroll 1
        for (u32 i = 0; i < count; i++) {
            float sums[4][4] = {};
#pragma unroll
            for (int chunk = 0; chunk < C::chunks; chunk++) {
                constexpr int width = C::chunk_steps;
                int at = chunk * width;
                if (!C::even && at >= steps) break;
                // The next chunk is fetched before this one is multiplied, also where that means waiting: only
                // the last chunk of the stage must not be held up, and nothing follows it.
                u32 next[width][4];
                bool tile_ends = chunk == C::chunks - 1 || (!C::even && at + width >= steps);
                if (!tile_ends)
                    load_weights<inner>(next, block, at + width);
                else if (i + 1 < count)
                    load_weights<inner>(next, block, 0);
#pragma unroll
                for (int j = 0; j < width; j++) {
                    if (at + j >= C::block_steps) break;
                    const u32(&x)[8] = a[at + j];
                    u32 low[4] = {x[0], x[1], x[2], x[3]}, high[4] = {x[4], x[5], x[6], x[7]};
                    u32 b_low[2] = {b[j][0], b[j][1]}, b_high[2] = {b[j][2], b[j][3]};
                    mma_bf16_16816(sums[j % 2 * 2], low, b_low);
                    mma_bf16_16816(sums[j % 2 * 2 + 1], high, b_high);
                }
#pragma unroll
                for (int j = 0; j < width; j++)
#pragma unroll
                    for (int word = 0; word < 4; word++) b[j][word] = next[j][word];
            }
            store_partial(sums, tile_number + i, block == 0, block == C::blocks - 1);
        }
    }

    // This warp's part of a chunk: each lane takes 16 bytes of a row at once, so the inner elements of a lane's
    // fragments are neighbours. `at` is the chunk's first step within the block.
    template <int inner>
    __device__ __forceinline__ void load_weights(u32 (&b)[Cut<inner>::chunk_steps][4], int block, int at) {
        using C = Cut<inner>;
        const unsigned char* row = ring.data() + group * C::pitch + warp * (WARP_STEP * 2) + quarter * 16;
        int steps = C::steps_of(block);
        mbarrier_wait(&Ring::full()[ring.slot], ring.phase);
#pragma unroll
        for (int j = 0; j < C::chunk_steps; j++) {
            bool there = at + j < (C::even ? C::block_steps : steps);
            if (!C::whole)
                there = there && ((block * C::block_steps + at + j) * CONSUMERS + int(warp)) * WARP_STEP + int(quarter) * 8 < inner;
            uint4 words = {0, 0, 0, 0};
            if (there) words = *reinterpret_cast<const uint4*>(row + j * BLOCK_STEP * 2);
            b[j][0] = words.x, b[j][1] = words.y, b[j][2] = words.z, b[j][3] = words.w;
        }
        release();
    }

    __device__ __forceinline__ void release() {
        __syncwarp();
        if (lane == 0) mbarrier_arrive(&Ring::empty()[ring.slot]);
        ring.advance();
    }

    __device__ __forceinline__ void store_partial(const float (&sums)[4][4], u32 tile, bool first, bool last) {
        u32 slot = tile % PARTIALS;
        if (first) mbarrier_wait(&shared().partial_empty[slot], (tile / PARTIALS & 1) ^ 1);
        float2* to = reinterpret_cast<float2*>(&shared().partial[slot][warp][group][quarter * 2]);
        float2 value;
        value.x = (sums[0][0] + sums[0][2]) + (sums[1][0] + sums[1][2]) +
                  ((sums[2][0] + sums[2][2]) + (sums[3][0] + sums[3][2]));
        value.y = (sums[0][1] + sums[0][3]) + (sums[1][1] + sums[1][3]) +
                  ((sums[2][1] + sums[2][3]) + (sums[3][1] + sums[3][3]));
        if (group < step.rows) {
            if (!first) {
                float2 before = *to;
                value.x += before.x, value.y += before.y;
            }
            *to = value;
        }
        if (last) {
            __syncwarp();
            if (lane == 0) mbarrier_arrive(&shared().partial_full[slot]);
        }
    }

    // Waits for this warp's share of one block of the activations and makes A fragments of it, times the gain
    // where there is a norm. Returns this lane's part of the sum of its row's squares.
    template <int inner, bool norm>
    __device__ __forceinline__ float load_activations(u32 (&a)[Cut<inner>::block_steps][8], const u64* source, u32 tag,
                                                      int block) {
        using C = Cut<inner>;
        u32 rows = step.rows, at_once = SCRATCH_STEPS / rows, pitch = at_once * WARP_STEP + 4;
        float* scratch = shared().scratch[warp];
        int steps = C::steps_of(block);
        float squares = 0;
#pragma unroll 1
        for (int begin = 0; begin < steps; begin += at_once) {
            u32 count = min(int(at_once), steps - begin);
            stage_activations<inner>(source, tag, block * C::block_steps + begin, count, pitch);
            __syncwarp();
#pragma unroll
            for (int j = 0; j < C::block_steps; j++) {
                if (j < begin || j >= begin + int(count)) continue;
                int k = ((block * C::block_steps + j) * CONSUMERS + int(warp)) * WARP_STEP + int(quarter) * 8;
                float value[8] = {};
                if (group < rows) {
                    const float4* from =
                        reinterpret_cast<const float4*>(scratch + group * pitch + (j - begin) * WARP_STEP + quarter * 8);
                    float4 low = from[0], high = from[1];
                    value[0] = low.x, value[1] = low.y, value[2] = low.z, value[3] = low.w;
                    value[4] = high.x, value[5] = high.y, value[6] = high.z, value[7] = high.w;
                    if (norm && (C::whole || k < inner)) {
                        const float4* gain = reinterpret_cast<const float4*>(shared().gain + k);
                        float4 gain_low = gain[0], gain_high = gain[1];
#pragma unroll
                        for (int i = 0; i < 8; i++) squares += value[i] * value[i];
                        value[0] *= gain_low.x, value[1] *= gain_low.y, value[2] *= gain_low.z, value[3] *= gain_low.w;
                        value[4] *= gain_high.x, value[5] *= gain_high.y, value[6] *= gain_high.z, value[7] *= gain_high.w;
                    }
                }
                fragments(a[j], value);
            }
            __syncwarp();
        }
        if (!C::even) {
#pragma unroll
            for (int j = 0; j < C::block_steps; j++)
                if (j >= steps)
#pragma unroll
                    for (int i = 0; i < 8; i++) a[j][i] = 0;
        }
        return squares;
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

    // `count` steps of all rows, from `first` on, from the exchange to scratch: (row, step, 32), rows `pitch` apart.
    template <int inner>
    __device__ __forceinline__ void stage_activations(const u64* source, u32 tag, int first, u32 count, u32 pitch) {
        constexpr int LOADS = SCRATCH_STEPS / 2;
        u32 rows = step.rows, inverse = (65536 + rows - 1) / rows;
        const u64* address[LOADS];
        float* to[LOADS];
        Pair64 word[LOADS];
        u32 waiting = 0;
#pragma unroll
        for (int i = 0; i < LOADS; i++) {
            u32 unit = 2 * i + lane / 16, j = unit * inverse >> 16, row = unit - j * rows;
            u32 k = ((first + j) * CONSUMERS + warp) * WARP_STEP + lane % 16 * 2;
            bool there = unit < count * rows && (Cut<inner>::whole || k < inner);
            address[i] = source + row * inner + k;
            to[i] = shared().scratch[warp] + row * pitch + j * WARP_STEP + lane % 16 * 2;
            if (there) {
                waiting |= 1u << i;
                word[i] = load_relaxed_pair(address[i]);
            } else if (!Cut<inner>::whole && unit < count * rows) {
                *reinterpret_cast<float2*>(to[i]) = {0, 0};
            }
        }
#pragma unroll 1
        while (true) {
#pragma unroll
            for (int i = 0; i < LOADS; i++) {
                if ((waiting >> i & 1) && has_tag(word[i], tag)) {
                    waiting &= ~(1u << i);
                    *reinterpret_cast<float2*>(to[i]) = {value_of(word[i].x), value_of(word[i].y)};
                }
            }
            if (waiting == 0) break;
            spin_pause();
#pragma unroll
            for (int i = 0; i < LOADS; i++)
                if (waiting >> i & 1) word[i] = load_relaxed_pair(address[i]);
        }
    }
};
