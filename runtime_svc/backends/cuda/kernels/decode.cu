// One decode step of a Qwen2.5 or Qwen3 model for up to 8 rows, in one launch. See decode_shape.cuh.
#include "decode_attention.cuh"
#include "decode_consumer.cuh"
#include "decode_producer.cuh"
#include "decode_reducer.cuh"

// Grid: any number of blocks that are all resident at once; block: THREADS; shared memory: SHARED_BYTES.
extern "C" __global__ void __launch_bounds__(THREADS, 1) decode_step(const __grid_constant__ Step step) {
    check_fixed_shared();
    if (threadIdx.x == 0) {
        for (int i = 0; i < RING_SLOTS; i++) {
            mbarrier_init(&Ring::full()[i], 1);
            mbarrier_init(&Ring::empty()[i], CONSUMERS * RELEASES);
        }
        for (int i = 0; i < PARTIALS; i++) {
            mbarrier_init(&shared().partial_full[i], CONSUMERS * 4 * ROWS);  // every lane that stores
            mbarrier_init(&shared().partial_empty[i], (SINGLE ? 1 : REDUCERS) * 32);
        }
        mbarrier_init_fence();
    }
    __syncthreads();
    // Consumers hold a block of activations in registers; the other roles give theirs up for that.
    if (threadIdx.x < 32 * CONSUMERS) {
        raise_registers<CONSUMER_REGISTERS>();
        Consumer consumer(step);
        walk(step, consumer);
    } else {
        lower_registers<OTHER_REGISTERS>();
        if (threadIdx.x / 32 == PRODUCER_WARP) {
            Producer producer(step);
            walk(step, producer);
        } else {
            Reducer reducer(step);
            reducer.embed();
            walk(step, reducer);
            reducer.finish();
        }
    }
}
TRENI_SHIM_EXPORT(decode_step)
