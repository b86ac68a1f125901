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
    u32 gains = 0, group_number = 0;

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
        u32 size = group_size(tiles.count);
        if (norm) mbarrier_wait(&shared().gain_full, gains & 1);
#pragma unroll 1
        for (u32 begin = 0; begin < tiles.count; begin += size) {
            u32 count = min(size, tiles.count - begin);
            float sums[GROUP_TILES][2][4] = {};
            u32 weights[GROUP_TILES][CHUNK_STEPS][4];
#pragma unroll 1
            for (int chunk = 0; chunk < cut.chunks; chunk += chunks) {
                int end = min(chunk + chunks, cut.chunks);
                // There is time for the first chunk's weights until the activations come; but with several rows not
                // the registers.
                if (SINGLE) take_weights(weights, count, cut, chunk);
                // Once a stage where all chunks fit, else for each group again.
                if (begin == 0 || chunks < cut.chunks) {
                    load_activations(source, step.epoch + layer, cut, chunk, end, norm);
                    __syncwarp();
                }
#if GROUP_TILES == 4
                if (count == 4) multiply<4>(sums, weights, cut, chunk, end);
                if (count == 3) multiply<3>(sums, weights, cut, chunk, end);
#endif
                if (count == 2) multiply<2>(sums, weights, cut, chunk, end);
                if (count == 1) multiply<1>(sums, weights, cut, chunk, end);
                if (norm && begin == 0 && end == cut.chunks) add_squares();
                __syncwarp();
            }
            store_partials(sums, count);
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

    __device__ __forceinline__ static void store_query(u32 head, u32 element, float x, float y);
    __device__ __forceinline__ void add_fresh(unsigned char* rows, u32 part, u32 at);
    __device__ __forceinline__ void add_values(Running& run, const unsigned char* rows, const float (&p)[2], float shrink,
                                               u32 count);
    __device__ __forceinline__ void finish_task(const Running& run, Task task, u32 tag);

    // Adds to `sums` the products of `tiles` tiles over the chunks `first` to `end`, the first of which is in `b`
    // already in the kernel for one row. Where there are few tiles each has several sums, so that the matrix units
    // need not wait for one product to start the next: tile t has those at t, t + tiles, ...
    template <int tiles>
    __device__ __forceinline__ void multiply(float (&sums)[GROUP_TILES][2][4], u32 (&b)[GROUP_TILES][CHUNK_STEPS][4],
                                             Cut cut, int first, int end) {
#pragma unroll 1
        for (int chunk = first; chunk < end; chunk++) {
            constexpr int spread = GROUP_TILES / tiles;
            u32 a[CHUNK_STEPS][8];
            if (!SINGLE || chunk > first) take_weights(b, tiles, cut, chunk);
            load_fragments(a, (chunk - first) * cut.chunk_steps, cut.chunk_steps);
#pragma unroll
            for (int j = 0; j < CHUNK_STEPS; j++) {
                if (j >= cut.chunk_steps) break;
                u32 a_low[4] = {a[j][0], a[j][1], a[j][2], a[j][3]}, a_high[4] = {a[j][4], a[j][5], a[j][6], a[j][7]};
#pragma unroll
                for (int tile = 0; tile < tiles; tile++) {
                    u32 b_low[2] = {b[tile][j][0], b[tile][j][1]}, b_high[2] = {b[tile][j][2], b[tile][j][3]};
                    float(&sum)[2][4] = sums[tile + j % spread * tiles];
                    mma_bf16_16816(sum[0], a_low, b_low);
                    mma_bf16_16816(sum[1], a_high, b_high);
                }
            }
        }
    }

    // This warp's part of a chunk of each of the next `tiles` tiles from the ring to registers.
    __device__ __forceinline__ void take_weights(u32 (&b)[GROUP_TILES][CHUNK_STEPS][4], u32 tiles, Cut cut, int chunk) {
        Ring at = ring;
#pragma unroll
        for (u32 tile = 0; tile < GROUP_TILES; tile++) {
            if (tile >= tiles) break;
            load_weights(b[tile], at, cut, chunk);
            at.advance();
        }
        __syncwarp();
        if (lane < tiles) {
            u32 slot = ring.slot + lane;
            mbarrier_arrive(&Ring::empty()[slot < RING_SLOTS ? slot : slot - RING_SLOTS]);
        }
        ring = at;
    }

    // A fragments of `steps` steps of activations, those from `at` on in scratch.
    __device__ __forceinline__ void load_fragments(u32 (&a)[CHUNK_STEPS][8], int at, int steps) {
        u32 rows = rows_of(step);
        const unsigned char* from = shared().scratch[warp] + (at * rows + group) * STEP_BYTES + quarter * 16;
        u32 first = (group & 1) * (STEP_BYTES / 2);
#pragma unroll
        for (int j = 0; j < CHUNK_STEPS; j++) {
            uint4 low = {0, 0, 0, 0}, high = {0, 0, 0, 0};
            if (group < rows && j < steps) {
                low = *reinterpret_cast<const uint4*>(from + j * rows * STEP_BYTES + first);
                high = *reinterpret_cast<const uint4*>(from + j * rows * STEP_BYTES + (first ^ (STEP_BYTES / 2)));
            }
            a[j][0] = low.x, a[j][1] = low.y, a[j][2] = low.z, a[j][3] = low.w;
            a[j][4] = high.x, a[j][5] = high.y, a[j][6] = high.z, a[j][7] = high.w;
        }
    }

    // This warp's part of a chunk of a tile, when it has come: each lane takes 16 bytes of a row at once, so the inner
    // elements of a lane's fragments are neighbours.
    __device__ __forceinline__ void load_weights(u32 (&b)[CHUNK_STEPS][4], const Ring& at, Cut cut, int chunk) {
        const unsigned char* row = at.data() + group * PITCH + warp * (WARP_STEP * 2) + quarter * 16;
        int k = (chunk * cut.chunk_steps * CONSUMERS + int(warp)) * WARP_STEP + int(quarter) * 8;
        mbarrier_wait(&Ring::full()[at.slot], at.phase);
#pragma unroll
        for (int j = 0; j < CHUNK_STEPS; j++) {
            uint4 words = {0, 0, 0, 0};
            if (j < cut.chunk_steps && (WHOLE_CHUNKS || k + j * BLOCK_STEP < cut.inner))
                words = *reinterpret_cast<const uint4*>(row + j * BLOCK_STEP * 2);
            b[j][0] = words.x, b[j][1] = words.y, b[j][2] = words.z, b[j][3] = words.w;
        }
    }

    // Hands this warp's sums of a group's tiles to the reducers: all sums of a tile and a row's two products added.
    __device__ __forceinline__ void store_partials(float (&sums)[GROUP_TILES][2][4], u32 count) {
        u32 slot = group_number % PARTIALS;
#if GROUP_TILES == 4
        if (count == 1) add(sums[0], sums[1]), add(sums[2], sums[3]), add(sums[0], sums[2]);
        if (count == 2) add(sums[0], sums[2]), add(sums[1], sums[3]);
#else
        if (count == 1) add(sums[0], sums[1]);
#endif
        mbarrier_wait(&shared().partial_empty[slot], (group_number / PARTIALS & 1) ^ 1);
        u32 at = (warp * ROWS + group) * TILE + quarter * 2;
#pragma unroll
        for (int tile = 0; tile < GROUP_TILES; tile++) {
            if (tile >= int(count)) break;
            const float(&s)[2][4] = sums[tile];
            float2 value = {(s[0][0] + s[0][2]) + (s[1][0] + s[1][2]), (s[0][1] + s[0][3]) + (s[1][1] + s[1][3])};
            if (group < rows_of(step)) *reinterpret_cast<float2*>(&shared().partial[slot][tile][at]) = value;
        }
        __syncwarp();
        if (lane == 0) mbarrier_arrive(&shared().partial_full[slot]);
        group_number++;
    }

    __device__ __forceinline__ static void add(float (&to)[2][4], const float (&from)[2][4]) {
#pragma unroll
        for (int i = 0; i < 8; i++) to[i / 4][i % 4] += from[i / 4][i % 4];
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
        // On their way at once: as many as there are registers for.
        constexpr int LOADS = SINGLE ? (ALL_STEPS > 12 ? 5 : 6) : CHUNK_STEPS > 4 ? 6 : HEADS_AT_ONCE > 4 ? 7 : 8;
        constexpr bool simple = WHOLE_CHUNKS && COMMON_STEPS > 0 && COMMON_STEPS % 2 == 0;
        int first_step = first * cut.chunk_steps;
        // Half a warp takes even steps, the other half odd ones, wherever the chunks begin: which lane adds up which
        // squares must not depend on the number of rows.
        u32 rows = rows_of(step), steps = (end - first) * cut.chunk_steps;
        u32 first_pair = first_step / 2, pairs = (first_step + steps + 1) / 2 - first_pair;
        u32 units = rows * pairs, inverse = SINGLE ? 0 : (65536 + pairs - 1) / pairs;
        u32 half = lane / 16, element = lane % 16 * 2, lead = simple ? 0 : first_step % 2;
        int k = ((2 * int(first_pair) + int(half)) * CONSUMERS + int(warp)) * WARP_STEP + int(element);
        float squares = 0;
        source += k;
#pragma unroll 1
        for (u32 begin = 0; begin < units; begin += LOADS) {
            Pair64 word[LOADS];
            u32 waiting = 0;
            auto row_of = [&](int i) { return SINGLE ? 0 : (begin + i) * inverse >> 16; };
            auto pair_of = [&](int i) { return SINGLE ? begin + i : begin + i - row_of(i) * pairs; };
            auto step_of = [&](int i) { return 2 * pair_of(i) + half - lead; };  // of these chunks; may be outside
            auto exists = [&](int i) {
                return simple || (step_of(i) < steps && k + int(pair_of(i)) * (2 * BLOCK_STEP) < cut.inner);
            };
            auto load = [&](u32 first_unit, int i) {
                if (SINGLE) return load_relaxed_pair(source + u64(first_unit) * (2 * BLOCK_STEP) + i * (2 * BLOCK_STEP));
                u32 unit = first_unit + i, row = unit * inverse >> 16;
                return load_relaxed_pair(source + (row * cut.inner + (unit - row * pairs) * (2 * BLOCK_STEP)));
            };
#pragma unroll
            for (int i = 0; i < LOADS; i++) {
                if (begin + i >= units) break;
                word[i] = {u64(tag) << 32, u64(tag) << 32};
                if (exists(i)) {
                    waiting |= 1u << i;
                    word[i] = load(begin, i);
                }
            }
#pragma unroll 1
            while (true) {
#pragma unroll
                for (int i = 0; i < LOADS; i++) {
                    if (begin + i >= units) break;
                    if (has_tag(word[i], tag)) waiting &= ~(1u << i);
                }
                if (waiting == 0) break;
                spin_pause();
                u32 again = begin;
                forget(again);  // addresses are worked out anew rather than kept
#pragma unroll
                for (int i = 0; i < LOADS; i++) {
                    if (begin + i >= units) break;
                    if (waiting >> i & 1) word[i] = load(again, i);
                }
            }
#pragma unroll
            for (int i = 0; i < LOADS; i++) {
                if (begin + i >= units) break;
                u32 row = row_of(i), pair = pair_of(i);
                float x = value_of(word[i].x), y = value_of(word[i].y);
                if (norm) {
                    float* sum = &shared().lane_squares[warp][row][lane];
                    if (pair == 0) squares = first == 0 ? 0 : *sum;
                    squares += x * x + y * y;
                    if (pair == pairs - 1) *sum = squares;
                    if (exists(i)) {
                        float2 gain = *reinterpret_cast<const float2*>(shared().gain + k + pair * (2 * BLOCK_STEP));
                        x *= gain.x, y *= gain.y;
                    }
                }
                if (simple || step_of(i) < steps) {
                    unsigned char* to = shared().scratch[warp] + (step_of(i) * rows + row) * STEP_BYTES;
                    u32 side = (lane % 4 / 2) ^ (row & 1);
                    u32 rounded = bf16_pair(x, y);
                    *reinterpret_cast<uint2*>(to + side * (STEP_BYTES / 2) + lane % 16 / 4 * 16 + lane % 2 * 8) = {
                        rounded, bf16_pair(x - bf16_low(rounded), y - bf16_high(rounded))};
                }
            }
        }
    }

    // The warp's sum of each row's squares: 4 lanes a row add up what each lane saw.
    __device__ __forceinline__ void add_squares() {
        float sum = 0;
        u32 row = SINGLE ? 0 : group;
#pragma unroll
        for (int i = 0; i < 8; i++) sum += shared().lane_squares[warp][row][quarter + 4 * i];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        if (quarter == 0 && group < rows_of(step)) shared().squares[gains & 1][warp][group] = sum;
    }
};
