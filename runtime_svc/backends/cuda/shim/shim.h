// Runs CUDA kernels on the CPU: every thread of a block is a fiber, and one OS thread runs them in turn.
//
// Compiled in front of a .cu file (c++ -x c++ -include shim.h -DTRENI_SHIM -fno-strict-aliasing). What a fiber
// would wait for (a barrier, the other lanes of its warp, a value in memory) it waits for by yielding, so a
// kernel whose blocks wait for each other runs too, provided that it is launched with `resident` set. With a seed
// (shim_schedule) warps run in random order and at random speeds, which finds what only works in step. Memory is
// sequentially consistent here: the shim checks arithmetic, indexing and protocol, not fences.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include <sys/mman.h>

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
struct uint2 {
    unsigned x, y;
};
struct uint4 {
    unsigned x, y, z, w;
};
struct float2 {
    float x, y;
};
struct float4 {
    float x, y, z, w;
};
struct int2 {
    int x, y;
};
struct int4 {
    int x, y, z, w;
};
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

namespace shim {

struct Warp {
    unsigned width = 0;             // lanes that exist: the last warp of a block can be short
    unsigned arrived = 0;
    unsigned long generation = 0;
    alignas(16) unsigned char slots[2][32][64];
};

struct Barrier {
    unsigned arrived = 0;
    unsigned long generation = 0;
};

struct Block {
    dim3 index;
    unsigned threads = 0;
    std::vector<Warp> warps;
    Barrier barriers[16];
    unsigned char* shared = nullptr;
};

struct Fiber {
    void* stack_pointer = nullptr;
    Block* block = nullptr;
    Warp* warp = nullptr;
    dim3 thread;
    unsigned lane = 0;
    bool done = false;
};

inline Fiber* current = nullptr;
inline void* scheduler_stack = nullptr;
inline unsigned long progress = 0;
inline uint64_t schedule = 0;  // 0: in order; else the state of a xorshift generator
inline dim3 grid_size, block_size;
inline void (*body)(void*) = nullptr;
inline void* body_argument = nullptr;

#if !defined(__x86_64__)
#error "the shim's context switch is written for x86-64"
#endif
extern "C" void treni_shim_switch(void** save, void* load);
asm(R"(
    .text
    .globl treni_shim_switch
    .hidden treni_shim_switch
treni_shim_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

inline void yield() { treni_shim_switch(&current->stack_pointer, scheduler_stack); }

inline void fiber_main() {
    body(body_argument);
    current->done = true;
    progress++;
    yield();
    abort();
}

constexpr size_t STACK = 64 * 1024;
constexpr unsigned long IDLE_ROUNDS = 20000;

// Runs these fibers to the end. False when they wait for something that none of them will do.
inline bool run(std::vector<Fiber>& fibers) {
    auto* stacks = static_cast<unsigned char*>(mmap(nullptr, STACK * fibers.size(), PROT_READ | PROT_WRITE,
                                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (stacks == MAP_FAILED) return false;
    for (size_t i = 0; i < fibers.size(); i++) {
        // Six callee-saved registers, then the address that `ret` takes; the stack is then at 8 mod 16, as after a call.
        auto** top = reinterpret_cast<void**>(stacks + STACK * (i + 1) - 16);
        *top = reinterpret_cast<void*>(&fiber_main);
        fibers[i].stack_pointer = top - 6;
    }
    size_t left = fibers.size();
    unsigned long seen = progress, idle = 0, rounds = 0;
    while (left > 0 && idle < IDLE_ROUNDS) {
        bool held = false;
        rounds++;
        for (auto& fiber : fibers) {
            if (fiber.lane == 0 && schedule != 0) {
                schedule ^= schedule << 13, schedule ^= schedule >> 7, schedule ^= schedule << 17;
                // A warp sits out some rounds or nearly all of them; which, changes now and then.
                uint64_t pace = (uint64_t(&fiber - fibers.data()) + rounds / 512) * 0x9e3779b97f4a7c15 >> 60;
                held = (schedule >> 32) % 16 < pace;
            }
            if (fiber.done || held) continue;
            current = &fiber;
            treni_shim_switch(&scheduler_stack, fiber.stack_pointer);
            if (fiber.done) left--;
        }
        idle = progress == seen ? idle + 1 : 0;
        seen = progress;
    }
    munmap(stacks, STACK * fibers.size());
    return left == 0;
}

inline bool launch(dim3 grid, dim3 threads, size_t shared_bytes, bool resident, void (*entry)(void*), void* argument) {
    grid_size = grid, block_size = threads, body = entry, body_argument = argument;
    unsigned count = threads.x * threads.y * threads.z;
    unsigned blocks = grid.x * grid.y * grid.z, together = resident ? blocks : 1;
    for (unsigned first = 0; first < blocks; first += together) {
        std::vector<Block> batch(together);
        std::vector<Fiber> fibers(size_t(together) * count);
        for (unsigned b = 0; b < together; b++) {
            unsigned number = first + b;
            Block& block = batch[b];
            block.index = {number % grid.x, number / grid.x % grid.y, number / (grid.x * grid.y)};
            block.threads = count;
            block.warps = std::vector<Warp>((count + 31) / 32);
            block.shared = static_cast<unsigned char*>(aligned_alloc(1024, (shared_bytes + 2047) & ~size_t(1023)));
            memset(block.shared, 0xff, shared_bytes);  // NaN in bf16 and float32: nothing may rely on it
            for (unsigned t = 0; t < count; t++) {
                Fiber& fiber = fibers[size_t(b) * count + t];
                fiber.block = &block;
                fiber.warp = &block.warps[t / 32];
                fiber.warp->width++;
                fiber.lane = t % 32;
                fiber.thread = {t % threads.x, t / threads.x % threads.y, t / (threads.x * threads.y)};
            }
        }
        bool finished = run(fibers);
        for (auto& block : batch) free(block.shared);
        if (!finished) return false;
    }
    return true;
}

// What each lane of the warp put in, once all of them have. A lane cannot be two exchanges ahead of another,
// so two sets of slots do. Kernels call warp functions with all lanes of the warp.
template <class T>
const T* exchange(const T& value, T* out) {
    static_assert(sizeof(T) <= 64, "the warp's slots");
    Warp& warp = *current->warp;
    unsigned long generation = warp.generation;
    auto& slots = warp.slots[generation & 1];
    memcpy(slots[current->lane], &value, sizeof(T));
    if (++warp.arrived == warp.width) {
        warp.arrived = 0;
        warp.generation++;
        progress++;
    } else {
        while (warp.generation == generation) yield();
    }
    for (unsigned lane = 0; lane < warp.width; lane++) memcpy(&out[lane], slots[lane], sizeof(T));
    return out;
}

inline void barrier_arrive(unsigned id, unsigned threads) {
    Barrier& barrier = current->block->barriers[id];
    progress++;
    if (++barrier.arrived == threads) {
        barrier.arrived = 0;
        barrier.generation++;
    }
}

inline void barrier_sync(unsigned id, unsigned threads) {
    Barrier& barrier = current->block->barriers[id];
    unsigned long generation = barrier.generation;
    barrier_arrive(id, threads);
    while (barrier.generation == generation) yield();
}

// The argument at an address of any alignment, as CUDA's driver takes it.
template <class T>
T argument_at(const void* from) {
    T value;
    memcpy(&value, from, sizeof value);
    return value;
}

// A CUDA-style list of pointers to the arguments, unpacked for the kernel's own signature.
template <class... Args>
struct Call {
    void (*kernel)(Args...);
    void** arguments;
    template <size_t... I>
    void apply(std::index_sequence<I...>) {
        kernel(argument_at<std::remove_cv_t<std::remove_reference_t<Args>>>(arguments[I])...);
    }
    static void entry(void* self) { static_cast<Call*>(self)->apply(std::index_sequence_for<Args...>{}); }
};

template <class... Args>
int launch_kernel(void (*kernel)(Args...), const unsigned* grid, const unsigned* threads, size_t shared_bytes,
                  int resident, void** arguments) {
    Call<Args...> call{kernel, arguments};
    return launch({grid[0], grid[1], grid[2]}, {threads[0], threads[1], threads[2]}, shared_bytes, resident != 0,
                  &Call<Args...>::entry, &call)
               ? 0
               : 1;
}

}  // namespace shim

#define threadIdx (shim::current->thread)
#define blockIdx (shim::current->block->index)
#define blockDim (shim::block_size)
#define gridDim (shim::grid_size)
#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __noinline__
#define __restrict__
#define __grid_constant__
#define __launch_bounds__(...)
// Blocks that are not resident together run one after the other and can share one copy of a static array.
#define __shared__ static

#define __syncthreads() shim::barrier_sync(0, shim::current->block->threads)

inline void __syncwarp(unsigned = 0xffffffffu) {
    int all[32];
    shim::exchange(0, all);
}
template <class T>
T __shfl_sync(unsigned, T value, int source, int width = 32) {
    T all[32];
    shim::exchange(value, all);
    int lane = int(shim::current->lane);
    return all[(lane & ~(width - 1)) | (source & (width - 1))];
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask, int width = 32) {
    T all[32];
    shim::exchange(value, all);
    int lane = int(shim::current->lane), source = lane ^ mask;
    return (source & ~(width - 1)) > (lane & ~(width - 1)) ? value : all[source];
}
template <class T>
T __shfl_down_sync(unsigned, T value, int delta, int width = 32) {
    T all[32];
    shim::exchange(value, all);
    int lane = int(shim::current->lane);
    return (lane & (width - 1)) + delta < width ? all[lane + delta] : value;
}
template <class T>
T __shfl_up_sync(unsigned, T value, int delta, int width = 32) {
    T all[32];
    shim::exchange(value, all);
    int lane = int(shim::current->lane);
    return (lane & (width - 1)) - delta >= 0 ? all[lane - delta] : value;
}
inline unsigned __ballot_sync(unsigned, int predicate) {
    int all[32] = {};
    shim::exchange(predicate, all);
    unsigned bits = 0;
    for (unsigned lane = 0; lane < shim::current->warp->width; lane++) bits |= unsigned(all[lane] != 0) << lane;
    return bits;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, !predicate) == 0; }

template <class T>
T atomicAdd(T* address, T value) {
    T old = *address;
    *address = old + value;
    shim::progress++;
    return old;
}
template <class T>
T atomicMax(T* address, T value) {
    T old = *address;
    if (value > old) *address = value;
    shim::progress++;
    return old;
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __nanosleep(unsigned) { shim::yield(); }

inline unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, 4);
    return bits;
}
inline float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}
inline int __popc(unsigned value) { return __builtin_popcount(value); }
inline int __clz(int value) { return value == 0 ? 32 : __builtin_clz(unsigned(value)); }
inline int __ffs(int value) { return __builtin_ffs(value); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((uint64_t(a) * b) >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return static_cast<unsigned long long>((static_cast<unsigned __int128>(a) * b) >> 64);
}
inline float rsqrtf(float value) { return 1.0f / sqrtf(value); }
inline float __fdividef(float a, float b) { return a / b; }
template <class T>
T min(T a, T b) {
    return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
    return a < b ? b : a;
}

extern "C" void shim_schedule(uint64_t seed) { shim::schedule = seed; }

// Makes a kernel callable from outside the library as shim_NAME(grid, block, shared bytes, resident, arguments).
#define TRENI_SHIM_EXPORT(name)                                                                                 \
    extern "C" int shim_##name(const unsigned* grid, const unsigned* threads, size_t shared_bytes, int resident, \
                               void** arguments) {                                                              \
        return shim::launch_kernel(&name, grid, threads, shared_bytes, resident, arguments);                    \
    }
