// Every PTX instruction that the kernels use, each in a function of its own; under TRENI_SHIM its meaning in C++.
#pragma once

using u16 = unsigned short;
using u32 = unsigned int;
using u64 = unsigned long long;

__device__ __forceinline__ float infinity() { return __uint_as_float(0x7f800000u); }

// ---- bfloat16 and IEEE half, in pairs: the element with the lower index in the lower half of the word

using bf16 = u16;
struct f16 {
    u16 bits;
};
template <class T>
constexpr bool is_f16 = false;
template <>
constexpr bool is_f16<f16> = true;

__device__ __forceinline__ float bf16_low(u32 pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float bf16_high(u32 pair) { return __uint_as_float(pair & 0xffff0000u); }
__device__ __forceinline__ float bf16_float(u16 value) { return __uint_as_float(u32(value) << 16); }

// Rounds to nearest, ties to even.
__device__ __forceinline__ u32 bf16_pair(float low, float high) {
#ifdef TRENI_SHIM
    auto round = [](float value) -> u32 {
        u32 bits = __float_as_uint(value);
        if (value != value) return 0x7fffu;
        return (bits + 0x7fffu + (bits >> 16 & 1)) >> 16;
    };
    return round(low) | round(high) << 16;
#else
    u32 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#endif
}

#ifdef TRENI_SHIM
namespace shim {
inline float f16_float(u32 bits) {
    u32 exponent = bits >> 10 & 31, fraction = bits & 1023, sign = (bits & 0x8000) << 16;
    if (exponent == 0)  // zero or subnormal
        return __uint_as_float(__float_as_uint(float(fraction) * 5.9604644775390625e-8f) | sign);
    return __uint_as_float(sign | (exponent == 31 ? 255 : exponent + 112) << 23 | fraction << 13);
}

inline u32 f16_bits(float value) {
    u32 bits = __float_as_uint(value), sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return 0x7fff;
    if (magnitude >= 0x477ff000) return sign | 0x7c00;  // 65,520, midway between the largest half and the next
    if (magnitude < 0x38800000) return sign | u32(nearbyintf(__uint_as_float(magnitude) * 16777216.0f));  // subnormal
    return sign | ((magnitude + 0xfff + (magnitude >> 13 & 1)) >> 13) - (112 << 10);
}
}  // namespace shim
#endif

__device__ __forceinline__ float f16_float(u16 value) {
#ifdef TRENI_SHIM
    return shim::f16_float(value);
#else
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value));
    return result;
#endif
}

__device__ __forceinline__ float f16_low(u32 pair) { return f16_float(u16(pair)); }
__device__ __forceinline__ float f16_high(u32 pair) { return f16_float(u16(pair >> 16)); }

// Rounds to nearest, ties to even; infinity from 65,520 on.
__device__ __forceinline__ u32 f16_pair(float low, float high) {
#ifdef TRENI_SHIM
    return shim::f16_bits(low) | shim::f16_bits(high) << 16;
#else
    u32 pair;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#endif
}

// The same, but NaN where a half would be infinite: a softmax can hide an infinite score, but not one that is no number.
__device__ __forceinline__ u32 f16_pair_or_nan(float low, float high) {
    constexpr float MIDWAY = 65520.0f;  // between the largest half and what would be the next
    float nan = __uint_as_float(0x7fffffffu);
    return f16_pair(fabsf(low) < MIDWAY ? low : nan, fabsf(high) < MIDWAY ? high : nan);
}

// 2^value; relative error under 2^-22, subnormal results flushed to 0.
__device__ __forceinline__ float exp2_fast(float value) {
#ifdef TRENI_SHIM
    return exp2f(value);
#else
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(value));
    return result;
#endif
}

// ---- matrix units

#ifdef TRENI_SHIM
namespace shim {
template <float low(u32), float high(u32)>
inline void mma_16816(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
    struct Operands {
        u32 a[4], b[2];
    } mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}}, all[32];
    exchange(mine, all);
    int group = current->lane / 4, pair = current->lane % 4;
    for (int i = 0; i < 4; i++) {
        int row = group + i / 2 * 8, column = pair * 2 + i % 2;
        float sum = 0;
        for (int k = 0; k < 16; k++) {
            int lane = k % 8 / 2, half = k / 8;
            u32 x = all[row % 8 * 4 + lane].a[row / 8 + 2 * half];
            u32 y = all[column * 4 + lane].b[half];
            sum += k % 2 == 0 ? low(x) * low(y) : high(x) * high(y);
        }
        d[i] += sum;
    }
}
}  // namespace shim
#endif

// d (16, 8) += a (16, 16) b (16, 8), bf16 into float32. Lane l = 4 g + t holds of a the pairs (row g, columns
// 2t, 2t+1), (g+8, same), (g, 2t+8, 2t+9), (g+8, same); of b the pairs (rows 2t, 2t+1, column g), (2t+8, 2t+9);
// of d (g, 2t), (g, 2t+1), (g+8, 2t), (g+8, 2t+1).
__device__ __forceinline__ void mma_bf16_16816(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
#ifdef TRENI_SHIM
    shim::mma_16816<bf16_low, bf16_high>(d, a, b);
#else
    asm(
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// The same of halves.
__device__ __forceinline__ void mma_f16_16816(float (&d)[4], const u32 (&a)[4], const u32 (&b)[2]) {
#ifdef TRENI_SHIM
    shim::mma_16816<f16_low, f16_high>(d, a, b);
#else
    asm(
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

#ifndef TRENI_SHIM
__device__ __forceinline__ u32 shared_address(const void* pointer) {
    return static_cast<u32>(__cvta_generic_to_shared(pointer));
}
#else
namespace shim {
// Each lane gives the address of one row of 8 elements; lane l gets of matrix m the pair l % 4 of row l / 4.
inline void ldmatrix(u32 (&r)[4], const void* row, bool transposed) {
    const u16* rows[32];
    exchange(static_cast<const u16*>(row), rows);
    unsigned group = current->lane / 4, pair = current->lane % 4;
    for (unsigned m = 0; m < 4; m++) {
        u32 low = transposed ? rows[8 * m + 2 * pair][group] : rows[8 * m + group][2 * pair];
        u32 high = transposed ? rows[8 * m + 2 * pair + 1][group] : rows[8 * m + group][2 * pair + 1];
        r[m] = low | high << 16;
    }
}
}  // namespace shim
#endif

// Four 8x8 matrices of bf16 or f16 from shared memory; lane l gives the address of row l % 8 of matrix l / 8.
__device__ __forceinline__ void ldmatrix_x4(u32 (&r)[4], const void* row) {
#ifdef TRENI_SHIM
    shim::ldmatrix(r, row, false);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}

__device__ __forceinline__ void ldmatrix_x4_transposed(u32 (&r)[4], const void* row) {
#ifdef TRENI_SHIM
    shim::ldmatrix(r, row, true);
#else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
#endif
}

// ---- asynchronous copies of 16 bytes, in groups of one thread

// Copies `bytes` (0 to 16) and fills the rest of the 16 with zeros.
__device__ __forceinline__ void cp_async16(void* shared, const void* global, u32 bytes = 16) {
#ifdef TRENI_SHIM
    memset(shared, 0, 16);
    memcpy(shared, global, bytes);
#else
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global), "r"(bytes)
                 : "memory");
#endif
}

__device__ __forceinline__ void cp_async_commit() {
#ifndef TRENI_SHIM
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Until all but the last `pending` groups of this thread have landed.
template <int pending>
__device__ __forceinline__ void cp_async_wait() {
#ifndef TRENI_SHIM
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

// ---- mbarriers, and bulk copies that complete on them

using Mbarrier = u64;

#ifdef TRENI_SHIM
namespace shim {
// An mbarrier in its 64 bits. The phase ends when no arrival and no byte is outstanding.
struct Phase {
    u32 phase : 1, pending : 15, count : 16;
    int bytes;
};
static_assert(sizeof(Phase) == sizeof(Mbarrier));
inline void settle(Phase* barrier) {
    progress++;
    if (barrier->pending == 0 && barrier->bytes == 0) {
        barrier->phase ^= 1;
        barrier->pending = barrier->count;
    }
}
inline Phase* phase_of(Mbarrier* barrier) { return reinterpret_cast<Phase*>(barrier); }
}  // namespace shim
#endif

__device__ __forceinline__ void mbarrier_init(Mbarrier* barrier, u32 count) {
#ifdef TRENI_SHIM
    *shim::phase_of(barrier) = {0, count, count, 0};
#else
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(count) : "memory");
#endif
}

// Makes initialised mbarriers visible to the copy engine; a block barrier must follow.
__device__ __forceinline__ void mbarrier_init_fence() {
#ifndef TRENI_SHIM
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#endif
}

__device__ __forceinline__ void mbarrier_arrive(Mbarrier* barrier) {
#ifdef TRENI_SHIM
    shim::phase_of(barrier)->pending--;
    shim::settle(shim::phase_of(barrier));
#else
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
#endif
}

// Arrives, and makes the phase wait for `bytes` more bytes of bulk copies.
__device__ __forceinline__ void mbarrier_arrive_expect(Mbarrier* barrier, u32 bytes) {
#ifdef TRENI_SHIM
    shim::phase_of(barrier)->bytes += int(bytes);
    mbarrier_arrive(barrier);
#else
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
                 : "memory");
#endif
}

// Whether the phase with this parity has ended.
__device__ __forceinline__ bool mbarrier_test(Mbarrier* barrier, u32 parity) {
#ifdef TRENI_SHIM
    return shim::phase_of(barrier)->phase != parity;
#else
    u32 done;
    asm volatile(
        "{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
        : "=r"(done)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
    return done != 0;
#endif
}

__device__ __forceinline__ void mbarrier_wait(Mbarrier* barrier, u32 parity) {
    while (!mbarrier_test(barrier, parity)) {
#ifdef TRENI_SHIM
        shim::yield();
#endif
    }
}

// Starts a copy of `bytes`, a multiple of 16 like both addresses, counted by `barrier` as it lands.
// `policy`: of `cache_evict_first()` or like it.
__device__ __forceinline__ void bulk_copy(void* shared, const void* global, u32 bytes, Mbarrier* barrier, u64 policy) {
#ifdef TRENI_SHIM
    memcpy(shared, global, bytes);
    shim::phase_of(barrier)->bytes -= int(bytes);
    shim::settle(shim::phase_of(barrier));
#else
    asm volatile(
        "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;" ::"r"(
            shared_address(shared)),
        "l"(global), "r"(bytes), "r"(shared_address(barrier)), "l"(policy)
        : "memory");
#endif
}

__device__ __forceinline__ u64 cache_evict_first() {
#ifdef TRENI_SHIM
    return 0;
#else
    u64 policy;
    asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
    return policy;
#endif
}

// True in one lane of the warp, the same one each time; all lanes call it. The compiler knows that there is only one,
// and need not loop over the lanes that start a copy.
__device__ __forceinline__ bool elect_one() {
#ifdef TRENI_SHIM
    int all[32];
    shim::exchange(0, all);  // as there, no lane is ahead of another
    return shim::current->lane == 0;
#else
    u32 elected;
    asm volatile("{\n.reg .pred p;\nelect.sync _|p, 0xffffffff;\nselp.u32 %0, 1, 0, p;\n}" : "=r"(elected));
    return elected != 0;
#endif
}

// Orders this thread's ordinary accesses to shared memory before later ones of the copy engine.
__device__ __forceinline__ void fence_copy_engine() {
#ifndef TRENI_SHIM
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
}

// ---- barriers over some warps of the block; ids 1 to 15, 0 is __syncthreads

__device__ __forceinline__ void named_barrier_sync(u32 id, u32 threads) {
#ifdef TRENI_SHIM
    shim::barrier_sync(id, threads);
#else
    asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
#endif
}

// ---- global memory between blocks of one launch

// A load that the compiler leaves where it is written: several are under way at once where it would wait for each.
__device__ __forceinline__ float4 load_here(const float* address) {
#ifdef TRENI_SHIM
    return *reinterpret_cast<const float4*>(address);
#else
    float4 value;
    asm volatile("ld.global.v4.f32 {%0, %1, %2, %3}, [%4];"
                 : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w)
                 : "l"(address)
                 : "memory");
    return value;
#endif
}

struct Pair64 {
    u64 x, y;
};

// Two 8-byte words, each read at once.
__device__ __forceinline__ Pair64 load_relaxed_pair(const u64* address) {
    Pair64 value;
#ifdef TRENI_SHIM
    value = {address[0], address[1]};
#else
    asm volatile("ld.relaxed.gpu.global.v2.b64 {%0, %1}, [%2];" : "=l"(value.x), "=l"(value.y) : "l"(address) : "memory");
#endif
    return value;
}

// Four 4-byte words, each read at once.
__device__ __forceinline__ uint4 load_relaxed_quad(const u32* address) {
    uint4 value;
#ifdef TRENI_SHIM
    value = {address[0], address[1], address[2], address[3]};
#else
    asm volatile("ld.relaxed.gpu.global.v4.b32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w)
                 : "l"(address)
                 : "memory");
#endif
    return value;
}

__device__ __forceinline__ u64 load_relaxed(const u64* address) {
#ifdef TRENI_SHIM
    return *address;
#else
    u64 value;
    asm volatile("ld.relaxed.gpu.global.b64 %0, [%1];" : "=l"(value) : "l"(address) : "memory");
    return value;
#endif
}

__device__ __forceinline__ void store_relaxed(u64* address, u64 value) {
#ifdef TRENI_SHIM
    *address = value;
    shim::progress++;
#else
    asm volatile("st.relaxed.gpu.global.b64 [%0], %1;" ::"l"(address), "l"(value) : "memory");
#endif
}

__device__ __forceinline__ void store_relaxed(u32* address, u32 value) {
#ifdef TRENI_SHIM
    *address = value;
    shim::progress++;
#else
    asm volatile("st.relaxed.gpu.global.b32 [%0], %1;" ::"l"(address), "r"(value) : "memory");
#endif
}

__device__ __forceinline__ void store_relaxed_pair(u32* address, uint2 value) {
#ifdef TRENI_SHIM
    address[0] = value.x, address[1] = value.y;
    shim::progress++;
#else
    asm volatile("st.relaxed.gpu.global.v2.b32 [%0], {%1, %2};" ::"l"(address), "r"(value.x), "r"(value.y) : "memory");
#endif
}

__device__ __forceinline__ void store_relaxed_pair(u64* address, Pair64 value) {
#ifdef TRENI_SHIM
    address[0] = value.x, address[1] = value.y;
    shim::progress++;
#else
    asm volatile("st.relaxed.gpu.global.v2.b64 [%0], {%1, %2};" ::"l"(address), "l"(value.x), "l"(value.y) : "memory");
#endif
}

// Registers a thread of this warpgroup may use from here on: a multiple of 8. All its warps call it.
template <int registers>
__device__ __forceinline__ void raise_registers() {
#ifndef TRENI_SHIM
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
#endif
}

template <int registers>
__device__ __forceinline__ void lower_registers() {
#ifndef TRENI_SHIM
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
#endif
}

// The same value, of which the compiler no longer knows where it comes from: what is computed from it stays where it
// is written, instead of in a register for the whole kernel.
__device__ __forceinline__ void forget(u32& value) {
#ifndef TRENI_SHIM
    asm volatile("" : "+r"(value));
#endif
}

__device__ __forceinline__ void forget(const u32*& pointer) {
#ifndef TRENI_SHIM
    asm volatile("" : "+l"(pointer));
#endif
}

// (a ^ c) | (b ^ c), and a | (b ^ c), in the one instruction that each can be: of comparisons of bits the compiler makes
// many.
__device__ __forceinline__ u32 differ(u32 a, u32 b, u32 c) {
#ifdef TRENI_SHIM
    return (a ^ c) | (b ^ c);
#else
    u32 result;
    asm("lop3.b32 %0, %1, %2, %3, 0x7e;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
    return result;
#endif
}

__device__ __forceinline__ u32 or_differ(u32 a, u32 b, u32 c) {
#ifdef TRENI_SHIM
    return a | (b ^ c);
#else
    u32 result;
    asm("lop3.b32 %0, %1, %2, %3, 0xf6;" : "=r"(result) : "r"(a), "r"(b), "r"(c));
    return result;
#endif
}

// In a loop that waits for other blocks.
__device__ __forceinline__ void spin_pause() {
#ifdef TRENI_SHIM
    shim::yield();
#endif
}

// The block's dynamic shared memory, aligned to 1024 bytes.
__device__ __forceinline__ unsigned char* dynamic_shared() {
#ifdef TRENI_SHIM
    return shim::current->block->shared;
#else
    extern __shared__ __align__(1024) unsigned char treni_dynamic_shared[];
    return treni_dynamic_shared;
#endif
}

// The same for a kernel with no other shared memory and outside clusters, where it has a fixed address: `dynamic_shared` is
// worked out anew from a slow special register at every use. `check_fixed_shared` says whether it is there.
constexpr u32 FIXED_SHARED = 1024;
__device__ __forceinline__ unsigned char* fixed_shared() {
#ifdef TRENI_SHIM
    return dynamic_shared();
#else
    return static_cast<unsigned char*>(__cvta_shared_to_generic(FIXED_SHARED));
#endif
}

__device__ __forceinline__ void check_fixed_shared() {
#ifndef TRENI_SHIM
    if (shared_address(dynamic_shared()) != FIXED_SHARED) asm volatile("trap;");
#endif
}

#ifndef TRENI_SHIM
#define TRENI_SHIM_EXPORT(name)
#endif
