# The images of the service and of the trainer, for CPU and CUDA.
#
#   docker build -t latentd .                                 the service, with torch from the package index: CUDA on x86-64
#   docker build -t latentd --build-arg TORCH_INDEX=URL .     torch from another index, for example PyTorch's CPU wheels
#   docker build -t latentd-training --target training --build-arg GIT_COMMIT=$(git rev-parse HEAD) .     the trainer
#
# Python is process 1 in both images and needs no `init`: it handles SIGTERM itself and reaps the processes it starts.

ARG BASE=docker.io/library/python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG TORCH_INDEX=""
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/latentd
WORKDIR /source
COPY constraints.txt ./
RUN /opt/latentd/bin/pip install ${TORCH_INDEX:+--extra-index-url "${TORCH_INDEX}"} --constraint constraints.txt torch
COPY pyproject.toml README.md LICENSE ./
COPY model_store model_store
COPY service service
COPY training training
# Models live in the volume /models, not in the package. torch's headers, tools and tests are not used at run time.
RUN /opt/latentd/bin/pip install --constraint constraints.txt '.[onnxruntime]' \
 && cd /opt/latentd/lib/python3*/site-packages \
 && rm -rf model_store/models torch/include torch/share torch/test \
 && find torch/bin -type f ! -name torch_shm_manager -delete

FROM build AS build-training
RUN /opt/latentd/bin/pip install --constraint constraints.txt '.[training]' \
 && rm -rf /opt/latentd/lib/python3*/site-packages/model_store/models

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
COPY --from=build /opt/latentd /opt/latentd
ENV LATENTD_HOST=0.0.0.0 LATENTD_CACHE=/cache
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=4s --start-period=60s --retries=3 CMD ["python", "-m", "service.probe"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["python", "-m", "service"]
