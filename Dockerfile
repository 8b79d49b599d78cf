# The images of the service and of the trainer, for CPU and CUDA.
#
#   docker build -t latentd .                                 the service, with torch from the package index: CUDA on x86-64
#   docker build -t latentd --build-arg TORCH_INDEX=URL .     torch from another index, for example PyTorch's CPU wheels
#   docker build -t latentd --build-arg WITH_DIFFUSERS=1 .    the service, with the library for models of diffusers
#   docker build -t latentd-training --target training --build-arg GIT_COMMIT=$(git rev-parse HEAD) .     the trainer
#
# Every Python package is installed by the hash in deploy/locks (`make locks` writes them). Python handles SIGTERM as
# process 1; an `init`, as in the compose file, is better: it also reaps what a `docker exec` leaves behind.

# the tag for readers; the digest decides: it is the index of all platforms, as it was on 2026-09-24 (Python 3.11.16)
ARG BASE=docker.io/library/python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

FROM ${BASE} AS build
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_NO_DEPS=1
RUN python -m venv /opt/latentd
WORKDIR /source
COPY deploy/locks deploy/locks
# torch alone comes from TORCH_INDEX, and from no other index. Only a torch with CUDA needs the packages of CUDA.
RUN /opt/latentd/bin/pip install ${TORCH_INDEX:+--index-url "${TORCH_INDEX}"} --require-hashes -r deploy/locks/torch.txt \
 && if grep -q '^Requires-Dist: nvidia' /opt/latentd/lib/python3*/site-packages/torch-*.dist-info/METADATA; \
    then /opt/latentd/bin/pip install --require-hashes -r deploy/locks/cuda.txt; fi
# torch's headers, tools and tests are not used at run time
RUN /opt/latentd/bin/pip install --require-hashes -r deploy/locks/service.txt \
 && cd /opt/latentd/lib/python3*/site-packages \
 && rm -rf torch/include torch/share torch/test \
 && find torch/bin -type f ! -name torch_shm_manager -delete
ARG WITH_DIFFUSERS=""
RUN if [ -n "${WITH_DIFFUSERS}" ]; then /opt/latentd/bin/pip install --require-hashes -r deploy/locks/diffusers.txt; fi
RUN python -m venv /opt/build && /opt/build/bin/pip install --require-hashes -r deploy/locks/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY model_store model_store
COPY service service
COPY training training
# Models live in the volume /models, not in the package.
RUN /opt/build/bin/pip wheel --no-build-isolation --wheel-dir /wheels . \
 && /opt/latentd/bin/pip install --no-index /wheels/*.whl \
 && /opt/latentd/bin/pip check \
 && rm -rf /opt/latentd/lib/python3*/site-packages/model_store/models

FROM build AS build-training
RUN /opt/latentd/bin/pip install --require-hashes -r deploy/locks/training.txt && /opt/latentd/bin/pip check

FROM ${BASE} AS base
ENV PATH=/opt/latentd/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 LATENTD_STORE=/models
RUN mkdir /models /runs /cache && chown 65532:65532 /models /runs /cache
COPY --chown=65532:65532 model_store/models /models
# No VOLUME: the compose file and orchestrators name their volumes; an anonymous one would hide where the models went.
WORKDIR /runs
USER 65532:65532

FROM base AS training
COPY --from=build-training /opt/latentd /opt/latentd
ARG GIT_COMMIT=""
ENV GIT_COMMIT=${GIT_COMMIT} MPLCONFIGDIR=/tmp
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "training", "--runs", "/runs", "--cache", "/cache"]

FROM base AS service
# tcmalloc keeps the memory of large maps for the next ones, where the system's allocator gives it back: large pictures
# took 10 to 24 % less time (docs/benchmarks.md), and small requests the same time and memory. It is Debian's package of
# the day of the build.
USER root
RUN apt-get update && apt-get install --yes --no-install-recommends libtcmalloc-minimal4 && rm -rf /var/lib/apt/lists/*
USER 65532:65532
COPY --from=build /opt/latentd /opt/latentd
ENV LATENTD_HOST=0.0.0.0 LATENTD_CACHE=/cache LD_PRELOAD=libtcmalloc_minimal.so.4
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=4s --start-period=60s --retries=3 CMD ["python", "-m", "service.probe"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "service"]
