#!/bin/sh
# Writes the lock files of the images anew: every version pinned, every file by its hash.
#
#   make lock                      newest versions that pyproject.toml allows
#
# Needs uv. Only metadata is read. TORCH_INDEX_URL names the index of torch's CPU wheels; empty means
# that UV_FIND_LINKS names a folder that holds one.
set -eu
cd "$(dirname "$0")/../.."

UV=${UV:-uv}
TORCH_INDEX_URL=${TORCH_INDEX_URL-https://download.pytorch.org/whl/cpu}
PYTHON_VERSION=3.11 # that of the Dockerfile's BASE

compile() {
  "$UV" pip compile --quiet --upgrade --generate-hashes --no-config \
    --python-version "$PYTHON_VERSION" --python-platform x86_64-manylinux_2_28 \
    --custom-compile-command "make lock" "$@"
}

compile deploy/docker/requirements-build.in --output-file deploy/docker/requirements-build.lock
compile pyproject.toml --extra structured --extra otel --output-file deploy/docker/requirements-cpu.lock \
  ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL" --index-strategy unsafe-best-match}
# torch's CUDA wheels are those of PyPI itself.
unset UV_FIND_LINKS
compile pyproject.toml --extra structured --extra otel --extra cuda \
  --output-file deploy/docker/requirements-cuda.lock
