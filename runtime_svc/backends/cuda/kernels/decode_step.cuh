// One decode step's parameter, as the host fills it: `decode_layout.py` has the other half.
#pragma once

#include "ptx.cuh"
#include "statistics.cuh"

struct Layer {
    const u16* qkv;      // (QKV, HIDDEN)
    const u16* output;   // (HIDDEN, QUERIES)
    const u16* gate_up;  // (2 FFN, HIDDEN)
    const u16* down;     // (HIDDEN, FFN)
    const float* attention_gain;
    const float* ffn_gain;
    const float* qkv_bias;  // null without
    const float* q_gain;    // null without
    const float* k_gain;
};
constexpr int MAX_ROWS = 8;
constexpr int LAYER_WORDS = sizeof(Layer) / 8;

struct Row {
    u64 seed, draw;
    double top_p;  // 1: off
    int slot, position;
    int token;  // -1: the last one drawn for the slot
    int top_k;           // 0: off
    float temperature;   // 0: greedy
    u32 split_length, splits;  // how attention cuts the row's positions
    u32 span, tasks;           // how many parts a block takes, and how often that is, over all heads
    u16 held, top;             // whether its token is one of those allowed; how many of the most likely ones to tell
};

struct Step {
    const Layer* layers;
    const u16* embedding;     // (vocabulary, HIDDEN)
    const u16* head;          // (vocabulary, HIDDEN)
    const float* final_gain;  // (HIDDEN,)
    const float* rope;        // (capacity, HEAD_DIM / 2, 2), cosine and sine
    f16* cache;               // (layers, 2, slots, KV_HEADS, capacity, HEAD_DIM)
    u64* exchange;            // zero before the first launch; its first PHASED_WORDS also when `turn` is 0
    float* logits;            // (MAX_ROWS, vocabulary)
    int* last_token;          // (slots,)
    Result* results;          // (MAX_ROWS,)
    u32 layer_count, vocabulary, capacity, slots, rows;
    u32 epoch;  // grows by at least layer_count + 1 from launch to launch
    float eps;
    u32 turn;  // launches over as many rows before this one, since the phased words were zero
    u32 whole[4];  // tiles over blocks: to hidden, to queries, keys and values, to the ffn, to the vocabulary
    Row row[MAX_ROWS];
};
