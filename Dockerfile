# kipper with JAX for CUDA 12, for the coordinator and the workers of a cluster:
#
#   docker build --tag=kipper .
#   docker run --gpus=all --network=host kipper worker --coordinator=HOST:PORT
#
# JAX's wheels include CUDA; the host needs only NVIDIA's driver and container toolkit.

FROM python:3.10-slim-bookworm AS build
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends g++ \
  && rm -rf /var/lib/apt/lists/*
WORKDIR /source
COPY . .
# The pip that comes with Python 3.10 leaves out the CUDA libraries of jax[cuda12].
RUN pip install --no-cache-dir pip==26.3 \
  && pip wheel --no-cache-dir --no-deps --wheel-dir=/wheels .

FROM python:3.10-slim-bookworm
COPY --from=build /wheels /wheels
COPY constraints.txt /wheels/
RUN pip install --no-cache-dir pip==26.3 \
  && pip install --no-cache-dir --constraint=/wheels/constraints.txt \
    "$(ls /wheels/kipper-*.whl)[cuda]" \
  && rm -rf /wheels \
  && useradd --uid=1000 --create-home kipper
# The same user as in launch/cluster/manifests.py, who owns the volumes.
USER 1000
WORKDIR /home/kipper
ENTRYPOINT ["kipper"]
CMD ["--help"]
