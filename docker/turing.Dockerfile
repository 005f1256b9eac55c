# RTX 2080, T4, V100: torch 2.7.1 for CUDA 12.6, half precision. The wheels bring CUDA's libraries and the host its driver, so a slim Python is base enough.
FROM python:3.11.14-slim-bookworm AS base

FROM base AS builder
ARG PIP_INDEX_URL
ARG TORCH_INDEX
ARG PIP_EXTRA_INDEX_URL=${TORCH_INDEX}
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# the image needs no pip of its own
RUN python3 -m venv /pip && python3 -m venv --without-pip /opt/worker
WORKDIR /source

FROM builder AS code
COPY pyproject.toml README.md LICENSE ./
COPY worker worker
RUN /pip/bin/pip --python /opt/worker install --no-deps --prefix /code .

FROM builder AS libraries
COPY env/locks/turing.txt .
RUN /pip/bin/pip --python /opt/worker install -r turing.txt

FROM builder AS quantisers
COPY env/locks/quantise-turing.txt .
RUN /pip/bin/pip --python /opt/worker install -r quantise-turing.txt

FROM base AS machine
LABEL org.opencontainers.image.title="gpu-batch-worker (turing)" \
      org.opencontainers.image.description="Turing and Volta cards: torch 2.7.1 for CUDA 12.6" \
      org.opencontainers.image.licenses="Apache-2.0"
# whoever runs it, with --user too, may write here
RUN useradd --uid 1000 --home-dir /cache --no-create-home worker && install -d -m 1777 /queue /cache
ENV PATH=/opt/worker/bin:$PATH HOME=/cache USER=worker HF_HOME=/cache/huggingface
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
VOLUME ["/queue", "/cache"]
WORKDIR /queue
USER 1000:1000
HEALTHCHECK --start-period=5m CMD ["python", "-m", "worker.health"]
ENTRYPOINT ["worker"]

FROM machine AS quantise
COPY --from=quantisers /opt/worker /opt/worker
COPY --from=code /code /opt/worker

FROM machine AS worker
COPY --from=libraries /opt/worker /opt/worker
COPY --from=code /code /opt/worker
