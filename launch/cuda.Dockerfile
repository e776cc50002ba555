# docker build -f launch/cuda.Dockerfile -t maskjax:cuda .
# CUDA, cuDNN and NCCL come with jax's wheels; the host needs the driver and nvidia-container-toolkit.
FROM python:3.11-slim
WORKDIR /maskjax
# The dependencies first: a change of the code then rebuilds only the last layer.
COPY setup.py constraints.txt README.md ./
COPY maskjax/__init__.py maskjax/__init__.py
COPY configs configs
RUN pip install --no-cache-dir -c constraints.txt '.[cuda,gcs,s3,fast]' && pip uninstall -y maskjax
COPY . .
RUN pip install --no-cache-dir --no-deps -e .
ENV XLA_FLAGS="--xla_gpu_enable_latency_hiding_scheduler=true --xla_gpu_all_reduce_combine_threshold_bytes=134217728 --xla_gpu_all_gather_combine_threshold_bytes=134217728 --xla_gpu_reduce_scatter_combine_threshold_bytes=134217728" \
    XLA_PYTHON_CLIENT_MEM_FRACTION=0.92 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility,video \
    PYTHONUNBUFFERED=1
# As an exec form, so that SIGTERM reaches maskjax and not a shell.
ENTRYPOINT ["maskjax"]
