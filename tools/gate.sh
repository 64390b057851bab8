#!/usr/bin/env bash
# The one gate, the same here and in CI: format, lint, types, tests, and the built wheel used from another folder;
# then the tests once more on the other Python (3.11 with jax 0.10.2, 3.12 with the newest jax) where there is one.
set -euo pipefail
cd "$(dirname "$0")/.."

step() { printf '\n== %s  (after %d s)\n' "$1" "$SECONDS"; }

# The suite in environment $1, with what follows; PYTEST_ARGS adds to it: make test PYTEST_ARGS="-k schedule"
tests() { "$1/bin/python" -m pytest -q -x "${@:2}" ${PYTEST_ARGS:-}; }

step "environment"
tools/environment.sh .venv "${PYTHON:-}" -e . --group dev
bin=$PWD/.venv/bin
"$bin/python" -c 'import jax, sys; print("Python", sys.version.split()[0], "with jax", jax.__version__)'

step "ruff format"
"$bin/ruff" format --check .
step "ruff check"
"$bin/ruff" check .
step "pyright"
"$bin/pyright" --pythonpath "$bin/python"

step "pytest"
tests .venv

step "wheel in a fresh environment, from another folder"
rm -rf dist
"$bin/python" -m build --no-isolation --outdir dist . > /dev/null # the sdist, and the wheel from the sdist
tools/environment.sh .venv-wheel "$bin/python" ./dist/*.whl
.venv-wheel/bin/python -m pip install -q --force-reinstall --no-deps dist/*.whl
tools/try_wheel.sh "$PWD/.venv-wheel/bin"

this=$("$bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
for version in 3.11 3.12; do
    [ "$version" != "$this" ] || continue
    if other=$(tools/find_python.sh "$version"); then
        step "pytest on Python $version"
        tools/environment.sh ".venv-$version" "$other" -e . --group dev
        ".venv-$version/bin/python" -c 'import jax; print("jax", jax.__version__)'
        tests ".venv-$version" -m "not install and not one_python"
    else
        step "no Python $version found: its tests are left out"
    fi
done

step "all passed"
