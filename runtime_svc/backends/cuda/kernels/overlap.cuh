// A kernel that starts while the one before it still runs (programmatic dependent launch).
//
// The launch has to say so (`device.launch`, overlap), and the kernel must not read what others wrote, nor write
// anything, before `wait_previous`. By then all earlier work is done: each kernel waits for the one before it.
#pragma once

// Lets the next kernel's blocks start as soon as every block of this one has called it, where there is room for them.
__device__ __forceinline__ void start_next() {
#ifndef TRENI_SHIM
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}

// Until everything before this kernel is done and can be read.
__device__ __forceinline__ void wait_previous() {
#ifndef TRENI_SHIM
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
