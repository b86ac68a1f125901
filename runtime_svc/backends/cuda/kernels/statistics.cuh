// What is kept of a row's logits: the most likely token, and the statistics of all of them.
#pragma once
#include "ptx.cuh"

constexpr float LOG2E = 1.4426950408889634f;

// Of the logits seen so far. Ties go to the lower index.
struct Seen {
    float peak = -infinity(), second = -infinity(), total = 0, weighted = 0;
    int id = 0x7fffffff;
    int finite = 1;

    __device__ __forceinline__ void add(float logit, int index) {
        Seen one;
        one.finite = fabsf(logit) < infinity();
        if (one.finite) one.peak = logit, one.total = 1, one.id = index;
        merge(one);
    }

    __device__ __forceinline__ void merge(Seen other) {
        finite &= other.finite;
        bool better = other.peak > peak || (other.peak == peak && other.id < id);
        Seen top = better ? other : *this, low = better ? *this : other;
        peak = top.peak, id = top.id;
        second = fmaxf(top.second, low.peak);
        total = top.total, weighted = top.weighted;
        if (low.total > 0) {
            float difference = low.peak - top.peak, scale = exp2_fast(difference * LOG2E);
            total += low.total * scale;
            weighted += scale * (low.weighted + difference * low.total);
        }
    }

    __device__ __forceinline__ Seen of_lane(int mask) const {
        Seen other;
        other.peak = __shfl_xor_sync(0xffffffffu, peak, mask);
        other.second = __shfl_xor_sync(0xffffffffu, second, mask);
        other.total = __shfl_xor_sync(0xffffffffu, total, mask);
        other.weighted = __shfl_xor_sync(0xffffffffu, weighted, mask);
        other.id = __shfl_xor_sync(0xffffffffu, id, mask);
        other.finite = __shfl_xor_sync(0xffffffffu, finite, mask);
        return other;
    }
};

// The same in memory: `Seen` has a constructor, which shared memory cannot have.
struct Statistics {
    float peak, second, total, weighted;  // total: sum of exp(logit - peak); weighted: that times (logit - peak)
    int id;
    int finite;
};

__device__ __forceinline__ void save(const Seen& seen, Statistics& to) {
    to = {seen.peak, seen.second, seen.total, seen.weighted, seen.id, seen.finite};
}

__device__ __forceinline__ Seen saved(const Statistics& from) {
    Seen seen;
    seen.peak = from.peak, seen.second = from.second, seen.total = from.total, seen.weighted = from.weighted;
    seen.id = from.id, seen.finite = from.finite;
    return seen;
}

struct Result {
    int id;
    float logprob, entropy, margin;
    float peak, log_total;  // the largest logit, and the logarithm of the sum of exp(logit - peak)
    int finite;
    int slot;
};

// The most likely token, with natural logarithms. `id` is 0 where a logit is not finite.
__device__ __forceinline__ Result result_of(const Seen& all, int slot) {
    float log_total = logf(all.total);
    float entropy = fmaxf(log_total - all.weighted / all.total, 0.0f);
    int id = all.finite ? all.id : 0;
    return {id, -log_total, entropy, all.peak - all.second, all.peak, log_total, all.finite, slot};
}
