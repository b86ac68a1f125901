// What becomes of the logits that a decode step left: `likely_rows` finds the most likely tokens of rows that tell them,
// `hold_rows` leaves out what is not allowed, and `sample_rows` draws for rows that have a temperature. In this order.
//
// Weights are integers, exp(scaled) in units of 2^-40, so that sums do not depend on the order in which threads
// add. "Most likely first, ties by index" is a radix descent over the bits of the scaled logit, 11 at a time, with a
// histogram of counts or weights; the token is then the n-th of those with the bits that were found.
#include "decode_step.cuh"
#include "philox.cuh"

constexpr u32 SAMPLE_THREADS = 1024;
constexpr u32 BINS = 2048;
constexpr u32 MAX_TOP = 20;  // `ops.MAX_TOP`

struct SampleShared {
    u64 histogram[BINS];
    u64 warp_sums[33];
    u64 below;  // of what a search looked for, what lies before the place found
    u32 found;
};

// The logits of a row, as weights in an order.
struct Weights {
    const float* logits;
    u32 count;
    float peak, temperature;

    __device__ __forceinline__ float scaled(u32 i) const { return (logits[i] - peak) / temperature; }
    // Larger for more likely tokens.
    __device__ __forceinline__ u32 key(u32 i) const {
        u32 bits = __float_as_uint(scaled(i));
        return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
    }
    __device__ __forceinline__ static u64 of_key(u32 key) {
        float value = __uint_as_float(key >> 31 != 0 ? key & 0x7fffffffu : ~key);
        return u64(exp2_fast(value * LOG2E) * 1099511627776.0f);
    }
};

// Inclusive sum over the threads of the block; `all` is that of all threads.
__device__ __forceinline__ u64 block_scan(SampleShared& s, u64 value, u64& all) {
    u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    for (u32 step = 1; step < 32; step *= 2) {
        u64 other = __shfl_up_sync(0xffffffffu, value, step);
        if (lane >= step) value += other;
    }
    if (lane == 31) s.warp_sums[warp + 1] = value;
    if (threadIdx.x == 0) s.warp_sums[0] = 0;
    __syncthreads();
    if (warp == 0) {
        u64 sum = s.warp_sums[lane + 1];
        for (u32 step = 1; step < 32; step *= 2) {
            u64 other = __shfl_up_sync(0xffffffffu, sum, step);
            if (lane >= step) sum += other;
        }
        s.warp_sums[lane + 1] = sum;
    }
    __syncthreads();
    value += s.warp_sums[warp];
    all = s.warp_sums[32];
    __syncthreads();
    return value;
}

// The first token, by index, at which the sum of `weight` passes `target`.
template <class Weight>
__device__ __forceinline__ u32 by_index(SampleShared& s, u32 count, u64 target, Weight weight) {
    u32 each = (count + SAMPLE_THREADS - 1) / SAMPLE_THREADS;
    u32 begin = min(threadIdx.x * each, count), end = min(begin + each, count);
    u64 mine = 0, all;
    for (u32 i = begin; i < end; i++) mine += weight(i);
    u64 through = block_scan(s, mine, all), sum = through - mine;
    if (sum <= target && target < through) {
        u32 i = begin;
        while (sum + weight(i) <= target) sum += weight(i++);
        s.found = i;
    }
    __syncthreads();
    return s.found;
}

// The key, from the largest down, at which the sum of `weight` passes `target`; s.below is the sum over larger ones.
template <class Weight>
__device__ __forceinline__ u32 by_key(SampleShared& s, const Weights& w, u64 target, Weight weight) {
    u32 prefix = 0;
    u64 below = 0;
    for (int shift = 21, width = 11; shift >= 0; width = shift == 10 ? 10 : 11, shift = shift == 0 ? -1 : shift - width) {
        for (u32 i = threadIdx.x; i < BINS; i += SAMPLE_THREADS) s.histogram[i] = 0;
        __syncthreads();
        // Neighbouring tokens often fall into one bin: they are added up before they are added to it.
        u64 run = 0;
        u32 bin = 0;
        for (u32 i = threadIdx.x; i < w.count; i += SAMPLE_THREADS) {
            u32 key = w.key(i);
            if (u64(key) >> (shift + width) != u64(prefix) >> (shift + width)) continue;
            u32 at = key >> shift & ((1u << width) - 1);
            if (at != bin && run > 0) atomicAdd(&s.histogram[bin], run), run = 0;
            bin = at;
            run += weight(key);
        }
        if (run > 0) atomicAdd(&s.histogram[bin], run);
        __syncthreads();
        u32 first = BINS - 1 - 2 * threadIdx.x;
        u64 upper = s.histogram[first], lower = s.histogram[first - 1], all;
        u64 through = below + block_scan(s, upper + lower, all), before = through - upper - lower;
        if (before <= target && target < through) {
            bool second = before + upper <= target;
            s.found = first - second;
            s.below = second ? before + upper : before;
        }
        __syncthreads();
        prefix |= s.found << shift;
        below = s.below;
        __syncthreads();
    }
    return prefix;
}

// Grid: rows of the step; block: SAMPLE_THREADS. Rows without a temperature, or whose logits are not finite, stay.
// The token of a result is the most likely one that may be drawn.
extern "C" __global__ void __launch_bounds__(SAMPLE_THREADS) sample_rows(const __grid_constant__ Step step) {
    SampleShared& s = *reinterpret_cast<SampleShared*>(dynamic_shared());
    const Row& row = step.row[blockIdx.x];
    Result& result = step.results[blockIdx.x];
    if (!(row.temperature > 0) || !result.finite) return;
    const float* logits = step.logits + u64(blockIdx.x) * step.vocabulary;
    Weights w{logits, step.vocabulary, logits[result.id], row.temperature};
    u64 bits = philox_bits(row.seed, row.draw);
    u32 token;
    if (row.top_k <= 0 && !(row.top_p < 1)) {
        u64 total = 0, mine = 0;
        for (u32 i = threadIdx.x; i < w.count; i += SAMPLE_THREADS) mine += Weights::of_key(w.key(i));
        block_scan(s, mine, total);
        u64 target = (total >> 24) * bits + ((total & 0xffffffu) * bits >> 24);
        token = by_index(s, w.count, target, [&](u32 i) { return Weights::of_key(w.key(i)); });
    } else {
        u32 least = 0;  // kept are the keys over it, and of those equal to it as many as make up `total`
        u64 total;
        if (row.top_k > 0 && u32(row.top_k) < w.count) {
            least = by_key(s, w, u64(row.top_k) - 1, [](u32) { return u64(1); });
            u64 ties = u64(row.top_k) - s.below, mine = 0;
            __syncthreads();
            for (u32 i = threadIdx.x; i < w.count; i += SAMPLE_THREADS)
                if (w.key(i) > least) mine += Weights::of_key(w.key(i));
            block_scan(s, mine, total);
            total += ties * Weights::of_key(least);
        } else {
            u64 mine = 0;
            for (u32 i = threadIdx.x; i < w.count; i += SAMPLE_THREADS) mine += Weights::of_key(w.key(i));
            block_scan(s, mine, total);
        }
        auto kept = [&](u32 key) { return key >= least ? Weights::of_key(key) : u64(0); };
        if (row.top_p < 1) {
            double share = row.top_p * double(total);
            u64 wanted = u64(share);
            wanted += double(wanted) < share;
            if (wanted < 1) wanted = 1;
            if (wanted > total) wanted = total;
            least = by_key(s, w, wanted - 1, kept);
            u64 weight = Weights::of_key(least);
            total = s.below + (wanted - s.below + weight - 1) / weight * weight;
            __syncthreads();
        }
        u64 target = (total >> 24) * bits + ((total & 0xffffffu) * bits >> 24);
        u32 key = by_key(s, w, target, kept);
        u64 place = (target - s.below) / Weights::of_key(key);
        __syncthreads();
        token = by_index(s, w.count, place, [&](u32 i) { return u64(w.key(i) == key); });
    }
    if (threadIdx.x == 0) {
        result.id = int(token);
        result.logprob = (w.logits[token] - result.peak) - result.log_total;
        step.last_token[row.slot] = int(token);
    }
}
TRENI_SHIM_EXPORT(sample_rows)

// Leaves the tokens of held rows that are not `allowed`, (rows, ceil(vocabulary / 32)) bits, minus infinity for a logit,
// and the most likely other one in the result; what that says of all logits stays. The same grid.
extern "C" __global__ void __launch_bounds__(SAMPLE_THREADS)
hold_rows(const __grid_constant__ Step step, const u32* allowed) {
    SampleShared& s = *reinterpret_cast<SampleShared*>(dynamic_shared());
    const Row& row = step.row[blockIdx.x];
    Result& result = step.results[blockIdx.x];
    if (!row.held || !result.finite) return;
    float* logits = step.logits + u64(blockIdx.x) * step.vocabulary;
    const u32* words = allowed + u64(blockIdx.x) * ((step.vocabulary + 31) / 32);
    Weights w{logits, step.vocabulary, 0, 1};  // the logits as they are
    u64 best = 0;                              // a key, and an index that is larger for earlier tokens
    for (u32 i = threadIdx.x; i < w.count; i += SAMPLE_THREADS) {
        if (words[i / 32] >> i % 32 & 1u) {
            u64 here = u64(w.key(i)) << 32 | (0xffffffffu - i);
            best = here > best ? here : best;
        } else {
            logits[i] = -infinity();
        }
    }
    for (u32 step_ = 16; step_ > 0; step_ /= 2) {
        u64 other = __shfl_xor_sync(0xffffffffu, best, step_);
        best = other > best ? other : best;
    }
    if (threadIdx.x % 32 == 0) s.warp_sums[threadIdx.x / 32] = best;
    __syncthreads();
    if (threadIdx.x > 0) return;
    for (u32 i = 0; i < SAMPLE_THREADS / 32; i++) best = s.warp_sums[i] > best ? s.warp_sums[i] : best;
    if (best == 0) {  // nothing is allowed: as if nothing were finite
        result.finite = 0;
        return;
    }
    u32 token = 0xffffffffu - u32(best);
    result.id = int(token);
    result.logprob = (logits[token] - result.peak) - result.log_total;
    step.last_token[row.slot] = int(token);
}
TRENI_SHIM_EXPORT(hold_rows)

struct Likely {
    int id;
    float logit;
};

// The most likely tokens of rows that tell any, in no order, ties by index: `likely` (rows, MAX_TOP). The same grid.
extern "C" __global__ void __launch_bounds__(SAMPLE_THREADS)
likely_rows(const __grid_constant__ Step step, Likely* likely) {
    SampleShared& s = *reinterpret_cast<SampleShared*>(dynamic_shared());
    const Row& row = step.row[blockIdx.x];
    if (row.top == 0 || !step.results[blockIdx.x].finite) return;
    Weights w{step.logits + u64(blockIdx.x) * step.vocabulary, step.vocabulary, 0, 1};
    u32 wanted = min(u32(row.top), w.count);
    u32 least = by_key(s, w, wanted - 1, [](u32) { return u64(1); });
    u32 over = u32(s.below);
    __syncthreads();
    u32 each = (w.count + SAMPLE_THREADS - 1) / SAMPLE_THREADS;
    u32 begin = min(threadIdx.x * each, w.count), end = min(begin + each, w.count);
    u64 found = 0, all;  // larger ones below, equal ones above
    for (u32 i = begin; i < end; i++) {
        u32 key = w.key(i);
        found += u64(key > least) + (u64(key == least) << 32);
    }
    u64 before = block_scan(s, found, all) - found;
    u32 at = u32(before), tie = over + u32(before >> 32);
    Likely* mine = likely + blockIdx.x * MAX_TOP;
    for (u32 i = begin; i < end; i++) {
        u32 key = w.key(i);
        if (key > least) mine[at++] = {int(i), w.logits[i]};
        if (key == least && tie < wanted) mine[tie++] = {int(i), w.logits[i]};
    }
}
TRENI_SHIM_EXPORT(likely_rows)
