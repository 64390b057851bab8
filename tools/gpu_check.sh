#!/bin/sh
# Compiles for an NVIDIA H200 on a machine without a GPU: `make gpu-check`, which is the tests in tests/gpu. What they
# need beside the environment .venv lies in .venv-gpu-check: XLA's CUDA compiler in jax's own version, and the ptxas
# that reads what it writes. Nothing of it is seen by any other command. Arguments go to pytest; without any,
# results/gpu/check-h200.json is written.
set -eu
cd "$(dirname "$0")/.."
folder=.venv-gpu-check
ptxas=nvidia-cuda-nvcc==13.0.88 # CUDA 13.0, as XLA's: PTX 9.0

tools/environment.sh .venv "${PYTHON:-}" -e . --group dev
python=$PWD/.venv/bin/python
jax=$("$python" -c 'from importlib.metadata import version; print(version("jax"))')
wanted="$("$python" -V) jax-cuda13-plugin==$jax jax-cuda13-pjrt==$jax $ptxas"
if [ "$(cat "$folder/stamp" 2>/dev/null)" != "$wanted" ]; then
    echo "making $folder: a download of about 170 MB that takes 600 MB of disk; once"
    rm -rf "$folder"
    # --no-deps: cuDNN and the other libraries, 2 GB, are for running only
    "$python" -m pip install -qq --disable-pip-version-check --no-deps --target "$folder" \
        "jax-cuda13-plugin==$jax" "jax-cuda13-pjrt==$jax" "$ptxas" || {
        echo "error: XLA's CUDA compiler cannot be had here; there are packages for Linux on x86-64 and aarch64" >&2
        exit 2
    }
    chmod +x "$folder"/nvidia/cu13/bin/*
    echo "$wanted" > "$folder/stamp"
fi
[ $# -gt 0 ] || export APPROXTRAIN_GPU_CHECK_JSON="$PWD/results/gpu/check-h200.json"
# On the CPU, or the plugin looks for a GPU, finds none and fails; optimised, as a user gets it; from no cache, since
# only what is compiled is dumped.
export PYTHONPATH="$PWD/$folder" JAX_PLATFORMS=cpu APPROXTRAIN_TEST_OPTIMIZED=1 JAX_ENABLE_COMPILATION_CACHE=false
exec "$python" -m pytest -q -m compiler tests/gpu "$@"
