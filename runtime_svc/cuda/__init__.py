"""The GPU backend, `--backend cupy`: no module of it imports CuPy before it is asked to touch a device."""
