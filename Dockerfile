# The images of Octavo, for linux/amd64.
#
#   docker build --tag octavo:cpu .                       CPU, with the embedded model (the default)
#   docker build --target cuda --tag octavo:cuda .        NVIDIA GPUs
#   docker build --target sbom --output . .               writes sbom.cdx.json, what the CPU image holds
#   docker run --read-only --tmpfs /tmp --publish 127.0.0.1:8000:8000 octavo:cpu
#   docker run … octavo:cpu serve --max-model-len 4096    flags follow the command
#
# Everything runs as user 10001 and writes only to /tmp, and what it fetches from a model hub to
# /models: `--volume octavo-models:/models`. The environment's OCTAVO_… variables are settings.
#
# The same list of either image: docker run --rm --entrypoint python3 octavo:cuda /usr/local/lib/octavo/sbom.py
#
# Arguments: EMBEDDED_MODEL=off leaves the model out (0.1 GB); TORCH_INDEX_URL names another index
# for torch's CPU wheels (empty: none); BASE another base with Python; VERSION, REVISION and CREATED
# go into the labels. A private package index: --secret id=pip_conf,src=FILE with a pip.conf,
# which may name `cert = /run/secrets/ca_certificates` and come with --secret id=ca_certificates,src=FILE.
# Neither stays in an image.

ARG BASE=python:3.11-slim-bookworm

# ------------------------------------------------------------------ what both images share
FROM ${BASE} AS runtime
# tini as process 1: a signal that comes before Python has handlers ends the server too (the kernel
# keeps it from a process 1 that has none), and orphans are reaped. libgomp1: the native kernels.
# Versions are not pinned: Debian's mirrors keep only the newest security fix of a release.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libgomp1 tini \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log \
 && groupadd --gid 10001 octavo \
 && useradd --uid 10001 --gid octavo --home-dir /tmp --no-create-home --shell /usr/sbin/nologin octavo \
 && install --directory --owner=octavo --group=octavo /models
COPY deploy/docker/healthcheck.py deploy/docker/sbom.py /usr/local/lib/octavo/
# /tmp is the one place that is written to; /models is for a volume that keeps what is fetched from
# a model hub and the GPU kernels once compiled. Python's bytecode is there already.
ENV PATH=/opt/octavo/bin:$PATH \
    HOME=/tmp \
    HF_HOME=/models/huggingface \
    TRITON_CACHE_DIR=/models/triton \
    PYTHONDONTWRITEBYTECODE=1 \
    OCTAVO_CACHE_DIR=/usr/share/octavo \
    OCTAVO_HOST=0.0.0.0
WORKDIR /models
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=6s --start-period=10m --retries=6 \
    CMD ["python3", "/usr/local/lib/octavo/healthcheck.py"]
ENTRYPOINT ["tini", "--", "octavo"]
CMD ["serve"]

# ------------------------------------------------------------------ compiler, pip, empty environment
FROM ${BASE} AS tools
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/*
ENV PIP_CACHE_DIR=/var/cache/pip \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_PROGRESS_BAR=off
COPY deploy/docker/requirements-build.lock /build/
# pip stays in /build: the images' own environment, /opt/octavo, has none.
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca_certificates,target=/run/secrets/ca_certificates \
    --mount=type=cache,target=/var/cache/pip \
    python3 -m venv /build \
 && /build/bin/pip install --require-hashes --requirement /build/requirements-build.lock \
 && python3 -m venv --without-pip /opt/octavo

# ------------------------------------------------------------------ the project, and its model
FROM tools AS project
WORKDIR /source
COPY . .
# The C kernels are optional to setuptools, but not here. Files land as an overlay on /opt/octavo,
# apart from the dependencies, so that a new version changes one small layer.
RUN /build/bin/pip wheel --quiet --no-index --no-build-isolation --no-deps --wheel-dir /build/wheels . \
 && /build/bin/pip --python /opt/octavo/bin/python install --no-index --no-deps \
        --prefix /overlay /build/wheels/octavo-*.whl \
 && test -n "$(find /overlay -name '_native*.so')"

FROM project AS model
WORKDIR /
ARG EMBEDDED_MODEL=on
# Fetched as a wheel, checked against the hash in models/embedded.py, readable by all.
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca_certificates,target=/run/secrets/ca_certificates \
    --mount=type=cache,target=/var/cache/pip \
    mkdir --parents /share/octavo \
 && if [ "$EMBEDDED_MODEL" = on ]; then \
        PYTHONPATH=$(echo /overlay/lib/python3*/site-packages) /build/bin/python -c \
            'import pathlib, octavo.models.embedded as m; m.embedded_model(pathlib.Path("/share/octavo"))'; \
    fi \
 && chmod --recursive a+rX /share

# ------------------------------------------------------------------ dependencies, by hash
FROM tools AS dependencies-cpu
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
COPY deploy/docker/requirements-cpu.lock /build/
# Of torch, its tests, its C++ headers and its programs go (190 MB): nothing here compiles against it.
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca_certificates,target=/run/secrets/ca_certificates \
    --mount=type=cache,target=/var/cache/pip \
    /build/bin/pip --python /opt/octavo/bin/python install --require-hashes --only-binary=:all: --no-deps \
        ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} --requirement /build/requirements-cpu.lock \
 && /build/bin/pip --python /opt/octavo/bin/python check \
 && rm -rf /opt/octavo/lib/python3*/site-packages/torch/test \
        /opt/octavo/lib/python3*/site-packages/torch/include \
 && find /opt/octavo/lib/python3*/site-packages/torch/bin -type f ! -name torch_shm_manager -delete \
 && PYTHONDONTWRITEBYTECODE=1 /opt/octavo/bin/python -c 'import torch'

FROM tools AS dependencies-cuda
COPY deploy/docker/requirements-cuda.lock /build/
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf \
    --mount=type=secret,id=ca_certificates,target=/run/secrets/ca_certificates \
    --mount=type=cache,target=/var/cache/pip \
    /build/bin/pip --python /opt/octavo/bin/python install --require-hashes --only-binary=:all: --no-deps \
        --requirement /build/requirements-cuda.lock \
 && /build/bin/pip --python /opt/octavo/bin/python check \
 && rm -rf /opt/octavo/lib/python3*/site-packages/torch/test \
        /opt/octavo/lib/python3*/site-packages/torch/include \
 && find /opt/octavo/lib/python3*/site-packages/torch/bin -type f ! -name torch_shm_manager -delete \
 && PYTHONDONTWRITEBYTECODE=1 /opt/octavo/bin/python -c 'import torch'

# ------------------------------------------------------------------ the images
# torch's wheels bring CUDA's libraries, the host's container toolkit the driver: a CUDA base image
# would hold most of them twice. Triton compiles a small C launcher when it starts, hence gcc; the
# headers of Python are in the base image.
FROM runtime AS cuda
USER 0:0
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends gcc libc6-dev \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log
USER 10001:10001
COPY --from=dependencies-cuda /opt/octavo /opt/octavo
COPY --from=model /share/octavo /usr/share/octavo
COPY --from=project /overlay /opt/octavo
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="Octavo" \
      org.opencontainers.image.description="OpenAI-compatible LLM serving with a paged KV cache, for NVIDIA GPUs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"

FROM runtime AS cpu-files
COPY --from=dependencies-cpu /opt/octavo /opt/octavo
COPY --from=model /share/octavo /usr/share/octavo
COPY --from=project /overlay /opt/octavo

# ------------------------------------------------------------------ the list of what is inside
FROM cpu-files AS sbom-list
RUN python3 /usr/local/lib/octavo/sbom.py > /tmp/sbom.cdx.json

FROM scratch AS sbom
COPY --from=sbom-list /tmp/sbom.cdx.json /

FROM cpu-files AS cpu
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=1970-01-01T00:00:00Z
LABEL org.opencontainers.image.title="Octavo" \
      org.opencontainers.image.description="OpenAI-compatible LLM serving with a paged KV cache, on CPUs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED"
