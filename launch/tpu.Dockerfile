# docker build -f launch/tpu.Dockerfile -t maskjax:tpu .
FROM python:3.11-slim
WORKDIR /maskjax
# The dependencies first: a change of the code then rebuilds only the last layer.
COPY setup.py constraints.txt README.md ./
COPY maskjax/__init__.py maskjax/__init__.py
COPY configs configs
RUN pip install --no-cache-dir -c constraints.txt '.[tpu,gcs,s3,fast]' && pip uninstall -y maskjax
COPY . .
RUN pip install --no-cache-dir --no-deps -e .
ENV LIBTPU_INIT_ARGS="--xla_tpu_enable_data_parallel_all_reduce_opt=true --xla_tpu_data_parallel_opt_different_sized_ops=true" \
    PYTHONUNBUFFERED=1
# As an exec form, so that SIGTERM reaches maskjax and not a shell.
ENTRYPOINT ["maskjax"]
