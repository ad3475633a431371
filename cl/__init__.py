"""The OpenCL C sources: one file a stage, a micro-kernel, the schedule; ``ov_moe.kernels.compose`` joins them."""
