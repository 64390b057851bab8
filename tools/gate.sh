#!/usr/bin/env bash
# The three gates, the same here and in CI:
#     tools/gate.sh check    format, lint, types, and the tests of a few minutes, on one Python
#     tools/gate.sh test     that; the built wheel used from another folder; what depends on versions on the other Python
#     tools/gate.sh all      every case on both Pythons, programs compiled as a user gets them; the wheel; the installs
# The Pythons are 3.11 with jax 0.10.2 and 3.12 with the newest jax; PYTEST_ARGS adds to each call of pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
gate=${1:-}
case $gate in check | test | all) ;; *) echo "usage: tools/gate.sh check|test|all" >&2; exit 2 ;; esac

# A machine that keeps no bytecode would compile jax's sources in each of a hundred processes.
unset PYTHONDONTWRITEBYTECODE

step() { printf '\n== %s  (after %d s)\n' "$1" "$SECONDS"; }

# The tests of environment $1 that markers $2 choose, on all cores, file by file in the order of tests/conftest.py.
tests() { "$1/bin/python" -m pytest -q -n logical --dist loadfile --no-loadscope-reorder -m "($2) and not compiler" ${PYTEST_ARGS:-}; }

environment() {
    tools/environment.sh "$1" "$2" -e . --group dev
    "$1/bin/python" -c 'import jax, sys; print("Python", sys.version.split()[0], "with jax", jax.__version__)'
}

on_other_python() { # $1: markers
    local this other
    this=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    for version in 3.11 3.12; do
        [ "$version" != "$this" ] || continue
        if other=$(tools/find_python.sh "$version"); then
            step "pytest on Python $version: $1"
            environment ".venv-$version" "$other"
            tests ".venv-$version" "$1"
        else
            step "no Python $version found: its tests are left out"
        fi
    done
}

wheel() {
    step "wheel in a fresh environment, from another folder"
    rm -rf dist
    .venv/bin/python -m build --no-isolation --outdir dist . > /dev/null # the sdist, and the wheel from the sdist
    tools/environment.sh .venv-wheel "$PWD/.venv/bin/python" ./dist/*.whl
    .venv-wheel/bin/python -m pip install -q --force-reinstall --no-deps dist/*.whl
    tools/try_wheel.sh "$PWD/.venv-wheel/bin"
}

types() {
    step "pyright"
    .venv/bin/pyright --pythonpath .venv/bin/python
}

# Function $1, which leaves a core free, beside the command that follows; what it prints comes after that.
beside() {
    local log pid failed=
    log=$(mktemp)
    "$1" > "$log" 2>&1 &
    pid=$!
    "${@:2}" || failed=$?
    wait "$pid" || failed=$?
    cat "$log"
    rm "$log"
    [ -z "$failed" ] || exit "$failed"
}

step "environment"
environment .venv "${PYTHON:-}"
step "ruff format"
.venv/bin/ruff format --check .
step "ruff check"
.venv/bin/ruff check .

case $gate in
    check)
        step "pytest, and pyright beside it"
        beside types tests .venv "not long and not gate and not install"
        ;;
    test)
        step "pytest, and pyright beside it"
        beside types tests .venv "not long and not install"
        beside wheel on_other_python "both and not long and not gate"
        ;;
    all)
        export APPROXTRAIN_TEST_OPTIMIZED=1
        types
        step "pytest: every case"
        tests .venv "not install"
        wheel
        on_other_python "not install"
        step "pytest: the installs"
        tests .venv "install"
        ;;
esac

step "all passed"
