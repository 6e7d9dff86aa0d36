#!/bin/sh
# Installs locked requirements into a new virtual environment without pip; the Dockerfiles use it.
#   install.sh REQUIREMENTS VENV
# build.txt and wheel.cfg must lie beside this file. uv needs a fraction of pip's time and checks the same hashes.
set -eu
requirements=$1 venv=$2 here=$(dirname "$0")
python3 -m venv "$here/tools"
tools=$here/tools/bin
"$tools/pip" install --quiet --disable-pip-version-check --no-cache-dir --no-compile --require-hashes -r "$here/build.txt"
# uv does not read pip's configuration, where a company's mirror is usually named.
index=$("$tools/pip" config get global.index-url 2>/dev/null || true)
if [ -n "$index" ]; then export UV_DEFAULT_INDEX="$index"; fi
export UV_SYSTEM_CERTS=1 UV_LINK_MODE=copy UV_NO_PROGRESS=1 UV_PYTHON_DOWNLOADS=never DIST_EXTRA_CONFIG="$here/wheel.cfg"
python3 -m venv --without-pip "$venv"
install() {
    "$tools/uv" pip install "$@" --python "$venv/bin/python" --compile-bytecode --require-hashes \
        --build-constraints "$here/build.txt" --require-build-hashes -r "$requirements"
}
# The cache first: where the registry does not say for how long an answer is valid, uv would fetch and build pyspark again.
install --offline --quiet 2>/dev/null || install
rm -rf "$here/tools"
