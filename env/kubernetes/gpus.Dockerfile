# The GPU manager in a cluster: no GPU, no torch. From the repository's root: docker build -f env/kubernetes/gpus.Dockerfile .
FROM python:3.11.14-slim-bookworm
ARG PIP_INDEX_URL
WORKDIR /source
COPY env/locks/core.txt env/locks/gpus.txt env/locks/kubernetes.txt ./
RUN pip install --no-cache-dir --no-deps -r core.txt -r gpus.txt -r kubernetes.txt
COPY pyproject.toml README.md LICENSE ./
COPY worker worker
RUN pip install --no-cache-dir --no-deps .
USER 1000:1000
WORKDIR /log
ENTRYPOINT ["worker"]
