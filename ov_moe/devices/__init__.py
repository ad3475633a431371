"""What runs a kernel: any OpenCL device through pyopencl, or the GPU plugin."""
