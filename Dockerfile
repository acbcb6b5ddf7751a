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
# A file whose hash the locks do not list is refused. Without isolation, because pip would fetch
# packages for the build that no lock lists.
RUN pip install --no-cache-dir --require-hashes --requirement=locks/pip.txt \
  && pip install --no-cache-dir --require-hashes --no-deps --requirement=locks/build.txt \
  && pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir=/wheels .

FROM python:3.10-slim-bookworm
COPY --from=build /wheels /wheels
COPY locks /locks
RUN pip install --no-cache-dir --require-hashes --requirement=/locks/pip.txt \
  && pip install --no-cache-dir --require-hashes --no-deps --requirement=/locks/cuda.txt \
  && pip install --no-cache-dir --no-deps /wheels/kipper-*.whl \
  && rm -rf /wheels /locks \
  && useradd --uid=1000 --create-home kipper
USER 1000
WORKDIR /home/kipper
ENTRYPOINT ["kipper"]
CMD ["--help"]
