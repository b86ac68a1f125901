// The producer warp: streams weights, gains and cached keys and values into shared memory, as far ahead as the
// ring is deep.
#pragma once

#include "decode_shape.cuh"

// One lane does it all: the copy engine takes its operands from registers that a warp has in common, and copies
// issued by several lanes of a warp go through a loop that is much slower than one lane that issues them in a row.
struct Producer {
    const Step& step;
    LayerCursor cursor;
    Ring ring;
    u32 gains = 0;
    u64 once = cache_evict_first();
    u64 often = cache_evict_last();

    __device__ __forceinline__ explicit Producer(const Step& step) : step(step) { cursor.start(step); }

    __device__ __forceinline__ void enter(u32 layer) { cursor.enter(step, layer); }

    __device__ __forceinline__ void run(Stage stage, u32, Tiles tiles) {
        const u16* weight = stage == HEAD ? step.head : cursor.pointer<const u16>(stage);
        const float* gain = stage == HEAD ? step.final_gain : cursor.pointer<const float>(stage == PROJECT ? 4 : 5);
        if (tiles.count > 0) fetch(stage, weight, gain, tiles);
    }

    // Old positions' keys and values; this step's own are added by the consumer that reads them.
    __device__ __forceinline__ void attention(u32 layer, u32 place) {
        for_each_task(step, place, [&](Task task) {
                const u16* keys = cache_rows(step, layer, 0, task.row, task.kv_head);
                const u16* values = cache_rows(step, layer, 1, task.row, task.kv_head);
                u32 old = task.last ? task.end - 1 : task.end;
#pragma unroll 1
                for (u32 begin = task.begin; begin < task.end; begin += POSITIONS) {
                    u32 bytes = (min(begin + POSITIONS, old) - begin) * HEAD_DIM * 2;
                    fetch_positions(keys + u64(begin) * HEAD_DIM, bytes);
                    fetch_positions(values + u64(begin) * HEAD_DIM, bytes);
                }
            });
    }

  private:
    __device__ __forceinline__ void fetch(Stage stage, const u16* weight, const float* gain, Tiles tiles) {
        if (normed(stage)) {
            mbarrier_wait(&shared().gain_empty, (gains & 1) ^ 1);
            if (elect_one()) {
                mbarrier_arrive_expect(&shared().gain_full, HIDDEN * 4);
                bulk_copy(shared().gain, gain, HIDDEN * 4, &shared().gain_full, often);
            }
            gains++;
        }
        Cut cut = cut_of(stage);
        u32 size = group_size(tiles.count);
#pragma unroll 1
        for (u32 begin = 0; begin < tiles.count; begin += size)
#pragma unroll 1
            for (int chunk = 0; chunk < cut.chunks; chunk++)
#pragma unroll 1
                for (u32 i = begin; i < min(begin + size, tiles.count); i++)
                    fetch_tile(stage, weight, tiles[i], cut, chunk);
    }

    // A tile's rows are neighbours, but for gate and up: 4 rows of one half of the matrix, and the same 4 of the other.
    __device__ __forceinline__ void fetch_tile(Stage stage, const u16* weight, u32 tile, Cut cut, int chunk) {
        int width = cut.chunk_steps * BLOCK_STEP, at = chunk * width;
        u32 bytes = (WHOLE_CHUNKS ? width : min(width, cut.inner - at)) * 2;
        u32 half = stage == GATE_UP ? u32(FFN) : TILE / 2, first = tile * (stage == GATE_UP ? TILE / 2 : TILE);
        u32 last = stage == HEAD ? step.vocabulary - 1 : 0xffffffffu;
        Mbarrier* full = &Ring::full()[ring.slot];
        mbarrier_wait(&Ring::empty()[ring.slot], ring.phase ^ 1);
        if (elect_one()) {
            mbarrier_arrive_expect(full, bytes * TILE);
#pragma unroll
            for (int i = 0; i < TILE; i++) {
                u32 row = min(first + i % (TILE / 2) + i / (TILE / 2) * half, last);
                bulk_copy(ring.data() + i * PITCH, weight + u64(row) * u32(cut.inner) + at, bytes, full, once);
            }
        }
        ring.advance();
    }

    __device__ __forceinline__ void fetch_positions(const u16* from, u32 bytes) {
        Mbarrier* full = &Ring::full()[ring.slot];
        mbarrier_wait(&Ring::empty()[ring.slot], ring.phase ^ 1);
        if (elect_one()) {
            mbarrier_arrive_expect(full, bytes);
            if (bytes > 0) bulk_copy(ring.data(), from, bytes, full, once);
        }
        ring.advance();
    }
};
