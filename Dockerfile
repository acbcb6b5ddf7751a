# kipper for clusters, with Ray, on a Python without Launchpad. Two images:
#
#   docker build --tag=kipper .                      # with JAX for CUDA 12, for workers
#   docker build --tag=kipper-cpu --target=cpu .     # without CUDA, for the coordinator
#
#   docker run --gpus=all --network=host kipper worker --coordinator=HOST:PORT …
#
# JAX's wheels include CUDA; the host needs only NVIDIA's driver and container toolkit. Both builds
# end with `kipper doctor`, which fails them if anything is missing, such as a library that the
# native kernels need.

FROM python:3.13-slim-bookworm AS build
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

FROM python:3.13-slim-bookworm AS cpu
# KubeRay's probes run wget, before KubeRay 1.6.
# hadolint ignore=DL3008
RUN apt-get update \
  && apt-get install --yes --no-install-recommends wget \
  && rm -rf /var/lib/apt/lists/*
COPY --from=build /wheels /wheels
COPY locks /locks
RUN pip install --no-cache-dir --require-hashes --requirement=/locks/pip.txt \
  && pip install --no-cache-dir --require-hashes --no-deps --requirement=/locks/image.txt \
  && pip install --no-cache-dir --no-deps /wheels/kipper-*.whl \
  && useradd --uid=1000 --create-home kipper
# The user of examples/kubernetes/rayjob.yaml, who owns the volume.
USER 1000
WORKDIR /home/kipper
RUN kipper doctor
ENTRYPOINT ["kipper"]
CMD ["--help"]

FROM cpu
USER 0
RUN pip install --no-cache-dir --require-hashes --no-deps --requirement=/locks/cuda.txt
USER 1000
RUN kipper doctor
