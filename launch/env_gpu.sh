# Environment of XLA on GPUs; `source` it. Checked against jaxlib 0.10.2, which refuses unknown flags.
# Collectives of gradients and parameters are combined to pieces of 128 MiB, large enough for the
# network between nodes, and run beside the computation.
export XLA_FLAGS="${XLA_FLAGS:-} \
--xla_gpu_enable_latency_hiding_scheduler=true \
--xla_gpu_all_reduce_combine_threshold_bytes=134217728 \
--xla_gpu_all_gather_combine_threshold_bytes=134217728 \
--xla_gpu_reduce_scatter_combine_threshold_bytes=134217728"
# The rest is for NCCL and cuDNN.
export XLA_PYTHON_CLIENT_MEM_FRACTION="${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.92}"
export NCCL_DEBUG="${NCCL_DEBUG:-WARN}"
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$HOME/.cache/maskjax/jax}"
