# Environment of XLA on TPUs; `source` it. Checked against libtpu 0.0.52, which refuses unknown flags.
# The compiler's defaults are kept but for what only several slices need: gradients are summed over
# the network between slices while the backward pass goes on.
export LIBTPU_INIT_ARGS="${LIBTPU_INIT_ARGS:-} \
--xla_tpu_enable_data_parallel_all_reduce_opt=true \
--xla_tpu_data_parallel_opt_different_sized_ops=true"
# A second start compiles nothing. A folder of each host; a bucket works too.
export JAX_COMPILATION_CACHE_DIR="${JAX_COMPILATION_CACHE_DIR:-$HOME/.cache/maskjax/jax}"
