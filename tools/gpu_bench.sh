#!/usr/bin/env bash
# Everything that needs a GPU, in one go: `make gpu-bench`.
#     tools/gpu_bench.sh [--minutes 8] [--only STAGE,...] [--data FOLDER [--name NAME]] [--out FOLDER] [--dry-run]
# Each stage has its own time, JSON and log in results/gpu; one that fails does not stop the others, unless it is facts.
# The first matter most: the limit cuts off the last. GPU_PYTHON is an interpreter that has jax for CUDA and the other
# packages already; without it an environment .venv-gpu is made. Exits with 1 where a stage failed, 2 without a GPU.
set -euo pipefail
cd "$(dirname "$0")/.."
minutes=8 only="" data="" name=cifar10 out=results/gpu dry=""
while [ $# -gt 0 ]; do
    case $1 in
        --dry-run) dry=yes && shift && continue ;;
        --minutes) minutes=$2 ;;
        --only) only=$2 ;;
        --data) data=$2 ;;
        --name) name=$2 ;;
        --out) out=$2 ;;
        *) echo "error: $1 is no option; see the head of tools/gpu_bench.sh" >&2 && exit 2 ;;
    esac
    shift 2
done

stages() { # calls $1 with: the name of a stage, its seconds, what it finds out, its command
    measured() { "$do" "$1" "$2" "$3" "$GPU_PYTHON" tools/gpu_measure.py "$1" --json "$out/$1.json" "${@:4}"; }
    table1() { # one each: the command writes its JSON at the end
        "$do" "table1-$1" 130 "the paper's Table 1 in $1" "$GPU_PYTHON" -m approxtrain_cli bench-kernel \
            --method approx --rounds 8 --dtype "$1" --json "$out/table1-$1.json"
    }
    sanitized() { # each array in an allocation of its own, so that reading past its end is seen
        "$do" "sanitizer-$1" 70 "compute-sanitizer $1 over the smallest case of each form" \
            env XLA_PYTHON_CLIENT_ALLOCATOR=platform XLA_PYTHON_CLIENT_PREALLOCATE=false \
            compute-sanitizer --tool "$1" --error-exitcode 9 "${right[@]}" -k small
    }
    local do=$1 right=("$GPU_PYTHON" -m pytest -q -m gpu tests/kernels/test_pallas_gpu.py)
    measured facts 60 "the device and its limits"
    "$do" right 90 "every form of approx against float64; the same bits" "${right[@]}"
    table1 tf32
    table1 bfloat16
    table1 float32
    measured step-resnet20 110 "a step by each method; in a loop, switched; plain"
    measured step-resnet20-bfloat16 110 "the same in bfloat16"
    measured seeds 110 "images a second of one ResNet-20, and of several in one step"
    measured forms 110 "each form of approx at the paper's shapes, for the cost model"
    measured drift 60 "how far two roundings of 20 steps are apart" ${data:+--data "$data" --name "$name"}
    sanitized memcheck
    sanitized racecheck
    measured step-cnn2 110 "as step-resnet20"
    measured step-vgg19 110 "as step-resnet20"
    measured step-resnet14 110 "as step-resnet20"
}

chosen() { case ",${only:-$1},facts," in *",$1,"*) ;; *) return 1 ;; esac }

list() { if chosen "$1"; then printf '%-23s at most %3d s  %s\n' "${@:1:3}"; fi; }

named() { echo "$1"; }

forget() { if chosen "$1"; then rm -f "$out/$1.json" "$out/$1.log"; fi; } # or it would pass for this run's

run() {
    chosen "$1" || return 0
    local left=$((deadline - SECONDS)) start=$SECONDS code=0 status=ok
    printf '\n== %s: %s\n' "$1" "$3"
    if [ -n "$stop" ] || [ "$left" -le 0 ]; then
        status="not run: ${stop:-no time was left}"
    else
        [ "$left" -lt "$2" ] || left=$2
        timeout -k 5 "$left" "${@:4}" > "$out/$1.log" 2>&1 < /dev/null || code=$?
        case $code in 0) ;; 124 | 137) status="out of time" ;; *) status="failed with exit code $code" ;; esac
        cat "$out/$1.log"
    fi
    printf '%-23s %4d s  %s\n' "$1" $((SECONDS - start)) "$status" | tee -a "$out/stages.txt"
    if [ "$status" != ok ]; then
        failed=1
        [ "$1" != facts ] || stop="facts has to succeed first"
    fi
}

PATH=$PATH:/usr/local/cuda/bin:/opt/cuda/bin # where compute-sanitizer may lie
: "${GPU_PYTHON:=}"
for stage in ${only//,/ }; do
    grep -qx -- "$stage" <<< "$(stages named)" || { echo "error: there is no stage $stage; see --dry-run" >&2 && exit 2; }
done
if [ -n "$dry" ]; then
    stages list
    exit
fi
if ! nvidia-smi -L 2> /dev/null | grep "GPU 0" > /dev/null; then
    echo "error: no NVIDIA GPU answers here (nvidia-smi -L), and every stage needs one." >&2
    echo "What can be known without one: make gpu-check" >&2
    exit 2
fi
if [ -z "$GPU_PYTHON" ]; then
    [ -d .venv-gpu ] || echo "jax for CUDA is a download of about 3 GB; once"
    tools/environment.sh .venv-gpu "${PYTHON:-}" -e ".[cuda]" --group dev # with pytest, for the stage `right`
    GPU_PYTHON=$PWD/.venv-gpu/bin/python
fi

# Programs that one stage has compiled are read back by the others.
JAX_COMPILATION_CACHE_DIR=$(mktemp -d)
trap 'rm -rf "$JAX_COMPILATION_CACHE_DIR"' EXIT
export JAX_COMPILATION_CACHE_DIR JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0
export PYTHONPATH="$PWD:$PWD/cli:$PWD/kernels${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 NO_COLOR=1
export APPROXTRAIN_TEST_OPTIMIZED=1 # for the stages that are tests

deadline=$((SECONDS + $(awk "BEGIN { print int(60 * $minutes) }"))) stop="" failed=0
mkdir -p "$out"
stages forget
: > "$out/stages.txt"
stages run
exit "$failed"
