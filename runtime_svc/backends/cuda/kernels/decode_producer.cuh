// The producer warp: streams weights and cached keys and values into shared memory, as far ahead as the
// ring is deep.
#pragma once

#include "decode_shape.cuh"

// One lane does it all: the copy engine takes its operands from registers that a warp has in common, and copies
// issued by several lanes of a warp go through a loop that is much slower than one lane that issues them in a row.
struct Producer {
    const Step& step;
    LayerCursor cursor;
    Ring ring;
    u32 started = 0;  // slots, as far as it matters
    u64 once = cache_evict_first();

    __device__ __forceinline__ explicit Producer(const Step& step) : step(step) { cursor.start(step); }

    __device__ __forceinline__ void enter(u32 layer) { cursor.enter(step, layer); }

    __device__ __forceinline__ void run(Stage stage, u32, Tiles tiles) {
        const u16* weight = stage == HEAD ? step.head : cursor.pointer<const u16>(stage);
        if (tiles.count > 0) fetch(stage, weight, tiles);
    }

    // Old positions' keys and values; this step's own are added by the consumer that reads them.
    __device__ __forceinline__ void attention(u32 layer, u32 place) {
        for_each_task(step, place, [&](Task task) {
            const f16* keys = cache_rows(step, layer, 0, task.row, task.kv_head);
            const f16* values = cache_rows(step, layer, 1, task.row, task.kv_head);
#pragma unroll 1
            for (u32 i = task.first_split; i <= task.last_split; i++) {
                Split split(step.row[task.row], i);
                u32 old = split.last ? split.end - 1 : split.end;
#pragma unroll 1
                for (u32 begin = split.begin; begin < split.end; begin += POSITIONS) {
                    u32 bytes = (min(begin + POSITIONS, old) - begin) * HEAD_DIM * 2;
                    fetch_positions(keys + u64(begin) * HEAD_DIM, bytes);
                    fetch_positions(values + u64(begin) * HEAD_DIM, bytes);
                }
            }
        });
    }

  private:
    __device__ __forceinline__ void fetch(Stage stage, const u16* weight, Tiles tiles) {
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

    // Until the slot is empty and few enough are on their way: what is asked for at once queues up in front of the words
    // that blocks wait for, so no more should be than keeps the memory busy.
    __device__ __forceinline__ void wait_for_room(u32 most) {
        mbarrier_wait(&Ring::empty()[ring.slot], ring.phase ^ 1);
        if (started >= most) {
            u32 wrapped = ring.slot < most, earlier = ring.slot + wrapped * RING_SLOTS - most;
            mbarrier_wait(&Ring::full()[earlier], ring.phase ^ wrapped);
        }
        started = min(started + 1, u32(HEAD_IN_FLIGHT));
    }

    // A tile's rows are neighbours, but for gate and up: 4 rows of one half of the matrix, and the same 4 of the other.
    __device__ __forceinline__ void fetch_tile(Stage stage, const u16* weight, u32 tile, Cut cut, int chunk) {
        int width = cut.chunk_steps * BLOCK_STEP, at = chunk * width;
        u32 bytes = (WHOLE_CHUNKS ? width : min(width, cut.inner - at)) * 2;
        u32 half = stage == GATE_UP ? u32(FFN) : TILE / 2, first = tile * (stage == GATE_UP ? TILE / 2 : TILE);
        u32 last = stage == HEAD ? step.vocabulary - 1 : 0xffffffffu;
        Mbarrier* full = &Ring::full()[ring.slot];
        wait_for_room(stage == HEAD ? HEAD_IN_FLIGHT : IN_FLIGHT);
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

    __device__ __forceinline__ void fetch_positions(const f16* from, u32 bytes) {
        Mbarrier* full = &Ring::full()[ring.slot];
        wait_for_room(IN_FLIGHT);
        if (elect_one()) {
            mbarrier_arrive_expect(full, bytes);
            if (bytes > 0) bulk_copy(ring.data(), from, bytes, full, once);
        }
        ring.advance();
    }
};
