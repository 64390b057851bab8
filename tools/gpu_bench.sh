#!/bin/sh
# `make gpu-bench`: with the interpreter GPU_PYTHON, which has jax for CUDA and the other packages already, or in an
# environment .venv-gpu of its own. What follows goes to tools/gpu_bench.py.
set -eu
cd "$(dirname "$0")/.."
if [ -z "${GPU_PYTHON:-}" ]; then
    case " $* " in *" --dry-run "*) extra= ;; *) extra=[cuda] ;; esac
    if [ -n "$extra" ] && ! nvidia-smi -L > /dev/null 2>&1; then
        echo "error: no NVIDIA GPU answers here (nvidia-smi -L), and every stage needs one." >&2
        echo "What can be known without one: make gpu-check" >&2
        exit 2
    fi
    folder=.venv${extra:+-gpu}
    [ -d "$folder" ] || [ -z "$extra" ] || echo "jax for CUDA is a download of about 3 GB; once"
    tools/environment.sh "$folder" "${PYTHON:-}" -e ".$extra" --group dev # with pytest, for the stage `right`
    GPU_PYTHON=$PWD/$folder/bin/python
fi
exec "$GPU_PYTHON" tools/gpu_bench.py "$@"
