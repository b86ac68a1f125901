// The decode step's model shape and launch shape (macros, set by the host), its structures in memory, and the
// one description of the order in which every role of every block walks through the step.
//
// A step is one launch of one block per multiprocessor. Each block has a producer warp, which streams the weights
// of the block's tiles (8 output rows each) through a ring in shared memory and never waits for another block;
// CONSUMERS warps, which split the inner dimension of a tile between them; and REDUCERS warps, which add up
// the consumers' partial sums and do what follows a product.
//
// Between blocks there are no barriers. Values travel through global memory in words that say themselves whether
// they are new, written and read at once: a reader polls the words it needs until they are. A buffer can be written
// again one layer later without further ado, because no block can come that far before every block has read what
// it needs: each value depends on all values of the stage before. There are two kinds of words.
//
// What every block reads, the activations that go into a product, is in 4-byte words, because the traffic of
// 132 blocks that read the same few kilobytes is what a hop between them costs: two elements in a word of their
// values in bf16 and a word of what that rounding left, just as the matrix units take them, and in bit 0 of each
// a phase, which flips from one use of the buffer to the next. What few read is in 8-byte words, float32 and a tag, which
// names the layer and the launch.
#pragma once

#include "decode_step.cuh"
#include "ptx.cuh"

#ifndef CONSUMERS
#define CONSUMERS 8  // at least 8: a tile of 64 cached positions gives each warp 8
#endif
#ifndef REDUCERS
#define REDUCERS 3
#endif
#ifndef CHUNK_STEPS
#define CHUNK_STEPS 4  // of 32 CONSUMERS inner elements each, in a slot of the ring at most
#endif
#ifndef SINGLE
#define SINGLE 0  // 1: compiled for one row, with the same bits as for more
#endif
#ifndef HEAD_IN_FLIGHT
#define HEAD_IN_FLIGHT 3  // slots of the ring whose bytes may be on their way at once, for the LM head
#endif
#ifndef RELEASES
#define RELEASES 1  // lanes, 1 or 32, by which a warp gives a slot of the ring back; racecheck follows those that arrive
#endif
#ifndef SHARED_BYTES
#define SHARED_BYTES 232448
#endif

constexpr int ROWS = SINGLE ? 1 : MAX_ROWS;  // that this kernel is compiled for
constexpr int TILE = 8;
constexpr int WARP_STEP = 32;                      // inner elements that a warp takes of a row at once
constexpr int BLOCK_STEP = WARP_STEP * CONSUMERS;  // and the block
constexpr int GROUP = HEADS / KV_HEADS;            // query heads of one key-value head
constexpr int HEADS_AT_ONCE = GROUP < 8 ? GROUP : 8;
constexpr int HEAD_GROUPS = (GROUP + 7) / 8;
constexpr int QUERIES = HEADS * HEAD_DIM;
constexpr int QKV = (HEADS + 2 * KV_HEADS) * HEAD_DIM;
constexpr int SPLITS_WANTED = 128 / (KV_HEADS * HEAD_GROUPS);
constexpr int MAX_SPLITS = SPLITS_WANTED > 32 ? 32 : SPLITS_WANTED < 1 ? 1 : SPLITS_WANTED;
constexpr int PRODUCER_WARP = CONSUMERS;  // after the consumers, before the reducers
constexpr int THREADS = 32 * (CONSUMERS + 1 + REDUCERS);
static_assert(CONSUMERS % 4 == 0 && (1 + REDUCERS) % 4 == 0, "registers are moved between groups of 4 warps");
#ifndef OTHER_REGISTERS
#define OTHER_REGISTERS 88
#endif
constexpr int REGISTERS_LEFT =
    (65536 / THREADS / 8 * 8 * THREADS - 32 * (1 + REDUCERS) * OTHER_REGISTERS) / (32 * CONSUMERS) / 8 * 8;
constexpr int CONSUMER_REGISTERS = REGISTERS_LEFT > 240 ? 240 : REGISTERS_LEFT;
static_assert(HIDDEN % 8 == 0 && FFN % 8 == 0 && HEADS % KV_HEADS == 0);
static_assert(HEAD_DIM == 32 || HEAD_DIM == 64 || HEAD_DIM == 128);

constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }
constexpr int larger(int a, int b) { return a > b ? a : b; }
constexpr int smaller(int a, int b) { return a < b ? a : b; }

// How the inner dimension of a product is cut into chunks, one to a slot of the ring. A sum runs within a chunk and
// then over the chunks in order, whatever the number of rows, so that it does not affect a row's bits.
struct Cut {
    int inner, chunks, chunk_steps;
};
constexpr Cut cut(int inner) {
    int steps = ceil_div(inner, BLOCK_STEP), chunks = ceil_div(steps, CHUNK_STEPS);
    return {inner, chunks, ceil_div(steps, chunks)};
}
constexpr Cut HIDDEN_CUT = cut(HIDDEN), QUERIES_CUT = cut(QUERIES), FFN_CUT = cut(FFN);
// Where all chunks are whole and of one size, much is known when the kernel is compiled.
constexpr bool whole(Cut cut) { return cut.inner == cut.chunks * cut.chunk_steps * BLOCK_STEP; }
constexpr bool WHOLE_CHUNKS = whole(HIDDEN_CUT) && whole(QUERIES_CUT) && whole(FFN_CUT);
constexpr int COMMON_STEPS =
    HIDDEN_CUT.chunk_steps == QUERIES_CUT.chunk_steps && QUERIES_CUT.chunk_steps == FFN_CUT.chunk_steps
        ? HIDDEN_CUT.chunk_steps
        : 0;

// Rows in a slot lie 64 modulo 128 bytes apart, so that the 8 lanes that read shared memory together touch every
// bank once.
constexpr int PITCH = larger(larger(HIDDEN_CUT.chunk_steps, QUERIES_CUT.chunk_steps), FFN_CUT.chunk_steps) *
                          (BLOCK_STEP * 2) + 64;
constexpr int SLOT_BYTES = TILE * PITCH;
// The same for the layers, see the producer: as many as keep the memory busy; where that is not what limits a step, one.
#ifndef IN_FLIGHT
constexpr long long LAYER_BYTES = 2ll * HIDDEN * (QKV + QUERIES + 3 * FFN);
constexpr int IN_FLIGHT = LAYER_BYTES < 40000000 ? 1 : smaller(larger(1, (49152 + SLOT_BYTES / 2) / SLOT_BYTES), HEAD_IN_FLIGHT);
#endif
static_assert(IN_FLIGHT <= HEAD_IN_FLIGHT);
// Steps of activations that a consumer holds at once, over all rows.
constexpr int ALL_STEPS = larger(larger(HIDDEN_CUT.chunks * HIDDEN_CUT.chunk_steps, QUERIES_CUT.chunks * QUERIES_CUT.chunk_steps),
                                 FFN_CUT.chunks * FFN_CUT.chunk_steps);
// A model so narrow that all activations of a stage fit a consumer's scratch, whatever the rows.
constexpr bool SMALL = ALL_STEPS <= 12;
// Tiles that the consumers work on together at most; the order of a sum depends on it. Where activations are read again
// for each group, larger ones are better.
#ifndef GROUP_TILES
constexpr int GROUP_TILES = SMALL ? 2 : 4;
#endif
static_assert(GROUP_TILES == 2 || GROUP_TILES == 4);
// Groups of tiles between consumers and reducers; a power of 2.
constexpr int PARTIALS = SINGLE || SMALL ? 4 : 2;
// Reducers that take groups in turn: the group before in a slot must be done when a reducer waits for its next one, or
// it takes the end of an older phase of the barrier for that of its own.
static_assert(!SINGLE || PARTIALS >= REDUCERS);
// Whether there are registers for a group's weights while the consumers wait for activations.
constexpr bool EARLY_WEIGHTS = SINGLE || SMALL;
constexpr int SCRATCH_STEPS = SINGLE ? smaller(ALL_STEPS, 48) : MAX_ROWS * smaller(ALL_STEPS, 12);
constexpr int SLOT_POSITIONS = SLOT_BYTES / (2 * HEAD_DIM) / 8 * 8;
constexpr int POSITIONS = SLOT_POSITIONS < 8 * CONSUMERS ? SLOT_POSITIONS : 8 * CONSUMERS;
static_assert(POSITIONS >= 8);

__device__ __forceinline__ u32 rows_of(const Step& step) { return SINGLE ? 1 : step.rows; }

// ---- the exchange, first its phased words

constexpr int SQUARE_WORDS = ceil_div(HIDDEN, 4 * TILE) * 4;             // a row's, in whole quads
constexpr u64 NORMED_IN = 0;                                             // (MAX_ROWS, HIDDEN) times the gain, before attention
constexpr u64 NORMED_MIDDLE = NORMED_IN + MAX_ROWS * HIDDEN;             // (MAX_ROWS, HIDDEN) times the gain, before the ffn
constexpr u64 MIXED = NORMED_MIDDLE + MAX_ROWS * HIDDEN;                 // (MAX_ROWS, QUERIES)
constexpr u64 GATED = MIXED + MAX_ROWS * QUERIES;                        // (MAX_ROWS, FFN)
// Of each 8 elements the sum of their squares, in float32 but for bit 0.
constexpr u64 SQUARES_IN = GATED + MAX_ROWS * FFN;                       // (MAX_ROWS, SQUARE_WORDS)
constexpr u64 SQUARES_MIDDLE = SQUARES_IN + MAX_ROWS * SQUARE_WORDS;     // (MAX_ROWS, SQUARE_WORDS)
constexpr u64 PHASED_WORDS = (SQUARES_MIDDLE + MAX_ROWS * SQUARE_WORDS) / 2;  // of 8 bytes

// The phase of a buffer that is used once a layer, and of one that the embedding fills before that.
__device__ __forceinline__ u32 phase_of(const Step& step, u32 layer) { return (step.turn * step.layer_count + layer + 1) & 1; }
__device__ __forceinline__ u32 phase_in(const Step& step, u32 layer) {
    return (step.turn * (step.layer_count + 1) + layer + 1) & 1;
}
__device__ __forceinline__ u32* phased(const Step& step) { return reinterpret_cast<u32*>(step.exchange); }
// Bit 0 says whether a word has not this phase.
__device__ __forceinline__ u32 lateness(uint4 words, u32 phase) {
    return or_differ(or_differ(differ(words.x, words.y, phase), words.z, phase), words.w, phase);
}
__device__ __forceinline__ bool has_phase(uint4 words, u32 phase) { return (lateness(words, phase) & 1) == 0; }

// Two neighbouring elements; `first`, the place of the one with the lower index, is even.
__device__ __forceinline__ void store_split(u32* first, float x, float y, u32 phase) {
    u32 rounded = bf16_pair(x, y) & ~1u;
    u32 left = bf16_pair(x - bf16_low(rounded), y - bf16_high(rounded)) & ~1u;
    store_relaxed_pair(first, {rounded | phase, left | phase});
}

// ---- then its tagged words, in this order

constexpr u64 X_IN = PHASED_WORDS;                                       // (MAX_ROWS, HIDDEN) before attention
constexpr u64 X_MIDDLE = X_IN + MAX_ROWS * HIDDEN;                       // (MAX_ROWS, HIDDEN) before the ffn
constexpr u64 PROJECTED = X_MIDDLE + MAX_ROWS * HIDDEN;                  // (MAX_ROWS, QKV)
constexpr u64 SPLIT_SUMS = PROJECTED + MAX_ROWS * QKV;                   // (MAX_ROWS, HEADS, MAX_SPLITS, HEAD_DIM)
constexpr u64 SPLIT_SCALES = SPLIT_SUMS + u64(MAX_ROWS) * HEADS * MAX_SPLITS * HEAD_DIM;  // (..., MAX_SPLITS, 2)
constexpr u64 STATISTICS = SPLIT_SCALES + u64(MAX_ROWS) * HEADS * MAX_SPLITS * 2;  // (MAX_ROWS, blocks, 8)

__device__ __forceinline__ u64 tagged(float value, u32 tag) { return u64(tag) << 32 | __float_as_uint(value); }
__device__ __forceinline__ float value_of(u64 word) { return __uint_as_float(u32(word)); }
__device__ __forceinline__ bool has_tag(u64 word, u32 tag) { return u32(word >> 32) == tag; }
__device__ __forceinline__ bool has_tag(Pair64 pair, u32 tag) { return has_tag(pair.x, tag) && has_tag(pair.y, tag); }

__device__ __forceinline__ float poll(const u64* address, u32 tag) {
    u64 word = load_relaxed(address);
    while (!has_tag(word, tag)) {
        spin_pause();
        word = load_relaxed(address);
    }
    return value_of(word);
}

// A phase tells the last use from the one before, so nobody may be more than a layer ahead or behind. A warp that has read
// something in a layer cannot be. But a block without tiles reads nothing, nor does a warp whose share of a narrow inner
// dimension is empty: they wait here, once a layer, until the layer has begun. Where every warp has a share of the ffn's
// input, and every block a tile of it, there is nothing to wait for.
__device__ __forceinline__ void keep_up(const Step& step, u32 layer) {
    if (HIDDEN >= BLOCK_STEP && FFN / (TILE / 2) >= gridDim.x) return;
    while (int(u32(load_relaxed(step.exchange + X_IN) >> 32) - (step.epoch + layer)) < 0) spin_pause();
    __syncwarp();
}

// ---- shared memory

constexpr int STEP_BYTES = WARP_STEP * 4;  // of one row's activations, each in two bf16
constexpr int SCRATCH = larger(SCRATCH_STEPS * STEP_BYTES, HEADS_AT_ONCE * HEAD_DIM * 4);
constexpr int QUERY_PITCH = HEAD_DIM + 4;

struct Shared {
    Mbarrier partial_full[PARTIALS], partial_empty[PARTIALS];
    float scale[2][ROWS];  // of this norm and the last: one over the root of the mean square
    alignas(16) float partial[PARTIALS][GROUP_TILES][CONSUMERS * ROWS * TILE + TILE];  // (consumer, row, output)
    alignas(16) unsigned char scratch[CONSUMERS][SCRATCH];
    alignas(16) u32 query[HEADS_AT_ONCE][QUERY_PITCH];  // fragments of A
    alignas(16) u32 fresh[2][HEAD_DIM / 2];  // this step's key and value, in f16 pairs
    float split_peak[CONSUMERS][8], split_total[CONSUMERS][8];
    Statistics statistics[REDUCERS][ROWS];
};
#ifndef RING_BYTES
#define RING_BYTES (SHARED_BYTES - int(sizeof(Shared)) - 1024)  // all that is left
#endif
constexpr int RING_SLOTS = RING_BYTES / (SLOT_BYTES + 16);
constexpr int RING_OFFSET = ceil_div(int(sizeof(Shared)) + RING_SLOTS * 16, 128) * 128;
static_assert(RING_SLOTS >= 4 && RING_OFFSET + RING_SLOTS * SLOT_BYTES <= SHARED_BYTES);

__device__ __forceinline__ Shared& shared() { return *reinterpret_cast<Shared*>(fixed_shared()); }

// A position in the ring; each role moves its own.
struct Ring {
    u32 slot = 0, phase = 0;
    __device__ __forceinline__ static Mbarrier* full() {
        return reinterpret_cast<Mbarrier*>(fixed_shared() + sizeof(Shared));
    }
    __device__ __forceinline__ static Mbarrier* empty() { return full() + RING_SLOTS; }
    __device__ __forceinline__ unsigned char* data() const { return fixed_shared() + RING_OFFSET + slot * SLOT_BYTES; }
    __device__ __forceinline__ void advance() {
        if (++slot == RING_SLOTS) slot = 0, phase ^= 1;
    }
};
static_assert(RING_SLOTS >= GROUP_TILES && RING_SLOTS > HEAD_IN_FLIGHT);
static_assert(sizeof(Shared) % 8 == 0);

// ---- the walk

// The tiles of one stage that this block does: `first`, `first + gridDim.x`, ... ; `count` of them.
struct Tiles {
    u32 first, count;
    __device__ __forceinline__ u32 operator[](u32 i) const { return first + i * gridDim.x; }
};

enum Stage { PROJECT, OUTPUT, GATE_UP, DOWN, HEAD };

__device__ __forceinline__ Cut cut_of(Stage stage) {
    // Member by member: a constant as a whole has no address on the device.
    constexpr int common = COMMON_STEPS;
    if (stage == OUTPUT) return {QUERIES_CUT.inner, QUERIES_CUT.chunks, common > 0 ? common : QUERIES_CUT.chunk_steps};
    if (stage == DOWN) return {FFN_CUT.inner, FFN_CUT.chunks, common > 0 ? common : FFN_CUT.chunk_steps};
    return {HIDDEN_CUT.inner, HIDDEN_CUT.chunks, common > 0 ? common : HIDDEN_CUT.chunk_steps};
}
__device__ __forceinline__ bool normed(Stage stage) { return stage == PROJECT || stage == GATE_UP || stage == HEAD; }

// Each stage's tiles begin at the block after the one where the last stage's ended, so that the bytes that blocks
// stream differ little over a few stages.
struct Turn {
    u32 place = blockIdx.x;  // of this block, counted from where the stage begins

    __device__ __forceinline__ Tiles take(const Step& step, Stage stage) {
        if (stage == PROJECT) return take(QKV / TILE, step.whole[1]);
        if (stage == GATE_UP) return take(FFN / (TILE / 2), step.whole[2]);
        if (stage == HEAD) return take((step.vocabulary + TILE - 1) / TILE, step.whole[3]);
        return take(HIDDEN / TILE, step.whole[0]);
    }

  private:
    // `whole` tiles for each block, and one more for the first of those that are left.
    __device__ __forceinline__ Tiles take(u32 tiles, u32 whole) {
        u32 rest = tiles - whole * gridDim.x;
        Tiles mine{place, whole + (place < rest)};
        place = place >= rest ? place - rest : place + gridDim.x - rest;
        return mine;
    }
};

// Chunks of activations that fit a consumer's scratch at once.
__device__ __forceinline__ int chunks_at_once(const Step& step, Cut cut) {
    if (SMALL) return cut.chunks;
    if (SINGLE) return min(cut.chunks, SCRATCH_STEPS / cut.chunk_steps);
    return min(cut.chunks, int(SCRATCH_STEPS / (step.rows * cut.chunk_steps)));
}

// How many of `tiles` make a group: groups of nearly the same size.
__device__ __forceinline__ u32 group_size(u32 tiles) {
    if (tiles <= GROUP_TILES) return tiles;
    if (tiles <= 2 * GROUP_TILES) return (tiles + 1) / 2;
    return GROUP_TILES;
}

// The stages of all layers, then the head's. One loop, and one copy of each role's code for all stages: the code
// of a step is run through once a layer and should stay in the instruction cache.
template <class Role>
__device__ __forceinline__ void walk(const Step& step, Role& role) {
    Turn turn;
#pragma unroll 1
    for (u32 i = 0; i < 4 * step.layer_count; i++) {
        u32 layer = i / 4;
        Stage stage = Stage(i % 4);
        if (stage == PROJECT) role.enter(layer);
        role.run(stage, layer, turn.take(step, stage));
        // Does not move the turn: where a tile is done must not depend on how many rows there are.
        if (stage == PROJECT) role.attention(layer, turn.place);
    }
    role.enter(step.layer_count);
    role.run(HEAD, step.layer_count, turn.take(step, HEAD));
}

// The pointers of one layer, a lane each, with the next layer's on the way.
struct LayerCursor {
    u64 now = 0, ahead = 0;
    __device__ __forceinline__ void start(const Step& step) { ahead = word(step, 0); }
    __device__ __forceinline__ void enter(const Step& step, u32 layer) {
        now = ahead;
        ahead = layer + 1 < step.layer_count ? word(step, layer + 1) : 0;
    }
    template <class T>
    __device__ __forceinline__ T* pointer(int which) const {
        return reinterpret_cast<T*>(__shfl_sync(0xffffffffu, now, which));
    }
    // Of the next layer; null behind the last.
    template <class T>
    __device__ __forceinline__ T* next_pointer(int which) const {
        return reinterpret_cast<T*>(__shfl_sync(0xffffffffu, ahead, which));
    }

  private:
    __device__ __forceinline__ static u64 word(const Step& step, u32 layer) {
        u32 lane = threadIdx.x % 32;
        return lane < LAYER_WORDS ? reinterpret_cast<const u64*>(step.layers + layer)[lane] : 0;
    }
};

// ---- attention's tasks: one row, one key-value head, up to 8 of its query heads, one or more parts of its positions

struct Task {
    u32 row, kv_head, first_head, heads;  // query heads first_head .. first_head + heads
    u32 first_split, last_split;          // one after the other
};

// One part of a row's positions.
struct Split {
    u32 index, begin, end;
    bool last;  // holds the position of this step
    __device__ __forceinline__ Split(const Row& row, u32 index) : index(index) {
        u32 positions = u32(row.position) + 1;
        begin = index * row.split_length, end = min(begin + row.split_length, positions), last = end == positions;
    }
};

template <class Do>
__device__ __forceinline__ void for_each_task(const Step& step, u32 place, Do&& act) {
    u32 i = place;
#pragma unroll 1
    for (u32 row = 0; row < rows_of(step); row++) {
        u32 splits = step.row[row].splits, span = step.row[row].span, tasks = step.row[row].tasks;
#pragma unroll 1
        for (; i < tasks; i += gridDim.x) {
            u32 kv_head = i % KV_HEADS, part = i / KV_HEADS % HEAD_GROUPS, first = i / (KV_HEADS * HEAD_GROUPS) * span;
            act(Task{row, kv_head, kv_head * GROUP + part * 8, min(u32(8), GROUP - part * 8), first,
                     min(first + span, splits) - 1});
        }
        i -= tasks;
    }
}

__device__ __forceinline__ f16* cache_rows(const Step& step, u32 layer, u32 part, u32 row, u32 kv_head) {
    u64 index = ((u64(layer) * 2 + part) * step.slots + step.row[row].slot) * KV_HEADS + kv_head;
    return step.cache + index * step.capacity * HEAD_DIM;
}
