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
    Ring ring;
    u32 warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    u32 group = lane / 4, quarter = lane % 4;  // of the matrix fragments
    u32 group_number = 0;

    __device__ __forceinline__ explicit Consumer(const Step& step) : step(step) {}

    __device__ __forceinline__ void enter(u32 layer) { keep_up(step, layer); }

    __device__ __forceinline__ void run(Stage stage, u32 layer, Tiles tiles) {
        if (tiles.count == 0) return;
        settle();
        const u32* source = phased(step) + (stage == OUTPUT    ? MIXED
                                            : stage == DOWN    ? GATED
                                            : stage == GATE_UP ? NORMED_MIDDLE
                                                               : NORMED_IN);
        u32 phase = stage == PROJECT || stage == HEAD ? phase_in(step, layer) : phase_of(step, layer);
        Cut cut = cut_of(stage);
        int chunks = chunks_at_once(step, cut);
        u32 size = group_size(tiles.count);
#pragma unroll 1
        for (u32 begin = 0; begin < tiles.count; begin += size) {
            u32 count = min(size, tiles.count - begin);
            float sums[GROUP_TILES][2][4] = {};
            u32 weights[GROUP_TILES][CHUNK_STEPS][4];
            // Where the sums will go; empty by now, as a rule, and there is time to ask.
            mbarrier_wait(&shared().partial_empty[group_number % PARTIALS], (group_number / PARTIALS & 1) ^ 1);
#pragma unroll 1
            for (int chunk = 0; chunk < cut.chunks; chunk += chunks) {
                int end = min(chunk + chunks, cut.chunks);
                // There is time for the first weights until the activations come; but not always the registers.
                if (EARLY_WEIGHTS) take_weights(weights, count, count * min(GROUP_TILES / int(count), end - chunk), cut, chunk);
                // Once a stage where all chunks fit, else for each group again.
                if (begin == 0 || chunks < cut.chunks) {
                    load_activations(source, phase, cut, chunk, end);
                    __syncwarp();
                }
                if constexpr (GROUP_TILES == 4) {
                    if (count == 4) multiply<4>(sums, weights, cut, chunk, end);
                    if (count == 3) multiply<3>(sums, weights, cut, chunk, end);
                }
                if (count == 2) multiply<2>(sums, weights, cut, chunk, end);
                if (count == 1) multiply<1>(sums, weights, cut, chunk, end);
                __syncwarp();
            }
            store_partials(sums, count);
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
    __device__ __forceinline__ void finish_split(const Running& run, const Task& task, const Split& split, u32 tag);

    // Adds to `sums` the products of `tiles` tiles over the chunks `first` to `end`, as many chunks at a time as there are
    // registers for; the first of their weights are in `b` already if they were taken early. Where there are few
    // tiles each has several sums, so that the matrix units need not wait for one product to start the next: tile t has
    // those at t, t + tiles, ...
    template <int tiles>
    __device__ __forceinline__ void multiply(float (&sums)[GROUP_TILES][2][4], u32 (&b)[GROUP_TILES][CHUNK_STEPS][4],
                                             Cut cut, int first, int end) {
        constexpr int spread = GROUP_TILES / tiles, at_once = EARLY_WEIGHTS ? spread : 1;  // sums of a tile, and chunks
#pragma unroll 1
        for (int chunk = first; chunk < end; chunk += at_once) {
            if (!EARLY_WEIGHTS || chunk > first) take_weights(b, tiles, tiles * min(at_once, end - chunk), cut, chunk);
#pragma unroll
            for (int ahead = 0; ahead < at_once; ahead++) {
                if (chunk + ahead >= end) break;
                u32 a[CHUNK_STEPS][8];
                load_fragments(a, (chunk + ahead - first) * cut.chunk_steps, cut.chunk_steps);
#pragma unroll
                for (int j = 0; j < CHUNK_STEPS; j++) {
                    if (j >= cut.chunk_steps) break;
                    u32 a_low[4] = {a[j][0], a[j][1], a[j][2], a[j][3]}, a_high[4] = {a[j][4], a[j][5], a[j][6], a[j][7]};
#pragma unroll
                    for (int tile = 0; tile < tiles; tile++) {
                        u32(&w)[4] = b[ahead * tiles + tile][j];
                        u32 b_low[2] = {w[0], w[1]}, b_high[2] = {w[2], w[3]};
                        float(&sum)[2][4] = sums[tile + j % spread * tiles];
                        mma_bf16_16816(sum[0], a_low, b_low);
                        mma_bf16_16816(sum[1], a_high, b_high);
                    }
                }
            }
        }
    }

    // This warp's part of the next `slots` slots of the ring, `tiles` to a chunk, to registers.
    __device__ __forceinline__ void take_weights(u32 (&b)[GROUP_TILES][CHUNK_STEPS][4], u32 tiles, u32 slots, Cut cut,
                                                 int chunk) {
        Ring at = ring;
#pragma unroll
        for (u32 i = 0; i < GROUP_TILES; i++) {
            if (i >= slots) break;
            load_weights(b[i], at, cut, WHOLE_CHUNKS ? 0 : chunk + int(i / tiles));
            at.advance();
        }
        __syncwarp();
        if (RELEASES == 1) {
            if (lane < slots) release_slot(ring.slot + lane);
        } else {
            for (u32 i = 0; i < slots; i++) release_slot(ring.slot + i);
        }
        ring = at;
    }

    __device__ __forceinline__ static void release_slot(u32 slot) {
        mbarrier_arrive(&Ring::empty()[slot < RING_SLOTS ? slot : slot - RING_SLOTS]);
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
        if constexpr (GROUP_TILES == 4) {
            if (count == 1) add(sums[0], sums[1]), add(sums[2], sums[3]), add(sums[0], sums[2]);
            if (count == 2) add(sums[0], sums[2]), add(sums[1], sums[3]);
        } else if (count == 1) {
            add(sums[0], sums[1]);
        }
        u32 at = (warp * ROWS + group) * TILE + quarter * 2;
#pragma unroll
        for (int tile = 0; tile < GROUP_TILES; tile++) {
            if (tile >= int(count)) break;
            const float(&s)[2][4] = sums[tile];
            float2 value = {(s[0][0] + s[0][2]) + (s[1][0] + s[1][2]), (s[0][1] + s[0][3]) + (s[1][1] + s[1][3])};
            if (group < rows_of(step)) *reinterpret_cast<float2*>(&shared().partial[slot][tile][at]) = value;
        }
        if (group < ROWS) mbarrier_arrive(&shared().partial_full[slot]);
        group_number++;
    }

    __device__ __forceinline__ static void add(float (&to)[2][4], const float (&from)[2][4]) {
#pragma unroll
        for (int i = 0; i < 8; i++) to[i / 4][i % 4] += from[i / 4][i % 4];
    }

    __device__ __forceinline__ void release() {
        __syncwarp();
        if (lane < RELEASES) release_slot(ring.slot);
        ring.advance();
    }

    // Waits for this warp's share of some chunks of the activations, and leaves them in scratch as (step, row, 32):
    // for lane (group, quarter) of the A fragments the words of its first 4 elements lie in one half of the 128 bytes,
    // those of the next 4 in the other, which is which by the row's parity, because of the banks.
    __device__ __forceinline__ void load_activations(const u32* source, u32 phase, Cut cut, int first, int end) {
        if constexpr (SINGLE) {
            load_parts<1, smaller(ceil_div(SCRATCH_STEPS, 4), WHOLE_CHUNKS ? 5 : 4)>(source, phase, cut, first, end);
        } else if constexpr (!SMALL) {
#pragma unroll 1
            for (u32 row = 0; row < step.rows; row += 2) load_parts<2, 3>(source, phase, cut, first, end, row);
        } else {
            if (step.rows <= 2)
                load_parts<2, 4>(source, phase, cut, first, end);
            else if (step.rows <= 4)
                load_parts<4, 2>(source, phase, cut, first, end);
            else
                load_parts<8, 1>(source, phase, cut, first, end);
        }
    }

    // The same for `ROWS_AT_ONCE` rows from `from_row`, an even one, on, with `PARTS` parts on their way at once. A part is 4
    // steps, of which a lane has 4 elements. All warps pass through every instruction here in each stage, between the
    // arrival of a value and its use.
    template <int ROWS_AT_ONCE, int PARTS>
    __device__ __forceinline__ void load_parts(const u32* source, u32 phase, Cut cut, int first, int end,
                                               u32 from_row = 0) {
        constexpr int WORDS = ROWS_AT_ONCE * PARTS;
        // Whether each part that begins is there as a whole.
        constexpr bool whole = WHOLE_CHUNKS && COMMON_STEPS > 0 && COMMON_STEPS % 4 == 0;
        u32 rows = rows_of(step), steps = (end - first) * cut.chunk_steps, own = lane / 8;
        int k = ((first * cut.chunk_steps + int(own)) * CONSUMERS + int(warp)) * WARP_STEP + int(lane % 8) * 4;
        unsigned char* scratch = shared().scratch[warp] + lane % 8 / 2 * 16;
        source += k;
#pragma unroll 1
        for (u32 begin = 0; 4 * begin < steps; begin += PARTS) {
            auto step_of = [&](int i) { return 4 * (begin + i / ROWS_AT_ONCE) + own; };  // of these chunks
            auto row_of = [&](int i) { return from_row + i % ROWS_AT_ONCE; };
            auto exists = [&](int i) {
                u32 part = begin + i / ROWS_AT_ONCE;
                bool inside = whole ? 4 * part < steps : step_of(i) < steps && k + int(part) * (4 * BLOCK_STEP) < cut.inner;
                return (SINGLE || row_of(i) < rows) && inside;
            };
            auto load = [&](const u32* from, int i) {
                return load_relaxed_quad(from + u64(row_of(i) * u32(cut.inner) + i / ROWS_AT_ONCE * (4 * BLOCK_STEP)));
            };
            const u32* from = source + begin * (4 * BLOCK_STEP);
            uint4 words[WORDS];
#pragma unroll
            for (int i = 0; i < WORDS; i++) {
                if (!whole) words[i] = {phase, phase, phase, phase};  // as zeros
                if (exists(i)) words[i] = load(from, i);
            }
#pragma unroll 1
            while (true) {
                u32 late = 0;
#pragma unroll
                for (int i = 0; i < WORDS; i++)
                    if (exists(i)) late |= lateness(words[i], phase);
                if ((late & 1) == 0) break;
                spin_pause();
                const u32* again = from;
                forget(again);  // addresses are worked out anew rather than kept
#pragma unroll
                for (int i = 0; i < WORDS; i++)
                    if (exists(i) && (lateness(words[i], phase) & 1)) words[i] = load(again, i);
            }
#pragma unroll
            for (int i = 0; i < WORDS; i++) {
                unsigned char* to = scratch + (step_of(i) * rows + row_of(i)) * STEP_BYTES;
                u32 side = (lane & 1) ^ (i % ROWS_AT_ONCE & 1);
                const uint4& w = words[i];
                if (step_of(i) < steps && row_of(i) < rows)
                    *reinterpret_cast<uint4*>(to + side * (STEP_BYTES / 2)) = {w.x & ~1u, w.y & ~1u, w.z & ~1u, w.w & ~1u};
            }
        }
    }
};
