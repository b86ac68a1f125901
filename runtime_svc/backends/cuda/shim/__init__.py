"""Runs the CUDA kernels of this package on the CPU: see `build.Library`."""
