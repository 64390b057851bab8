#!/usr/bin/env bash
# Uses an installed approxtrain as a user does, from an empty folder that has nothing to do with the checkout:
#     tools/try_wheel.sh BIN
set -euo pipefail
bin=$1
tools=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
unset PYTHONPATH

"$bin/approxtrain" --version
"$bin/approxtrain" --help > /dev/null
"$bin/approxtrain" ls presets | grep quickstart
"$bin/approxtrain" schedule-show quickstart > /dev/null
"$bin/python" - << 'CHECK'
from importlib.resources import files

for package in ("approxtrain", "approxtrain_cli", "approxtrain_kernels"):
    root = files(package)
    assert "site-packages" in str(root), f"{package} comes from {root}, not from the wheel"
    assert (root / "py.typed").is_file(), f"{package} lacks py.typed"
CHECK
"$bin/approxtrain" train quickstart train.epochs=1 data.holdout=9000 --out run
for paper in "" --paper; do # the pages come from templates that the wheel has to hold
    "$bin/approxtrain" report $paper run --out report
    test -s report/report.html || { echo "error: no report was written" >&2; exit 1; }
done
for file in config.toml metrics.jsonl summary.json curves.png; do
    test -s "run/$file" || { echo "error: the run wrote no $file" >&2; exit 1; }
done

mkdir own && cd own && "$tools/try_own.sh" "$bin"
