#!/bin/sh
# Makes a virtual environment, or adds to one that is there; nothing happens where it has everything already:
#     tools/environment.sh FOLDER PYTHON REQUIREMENT...        REQUIREMENT: what `pip install` takes
# It is made anew when the interpreter or pyproject.toml changed. An empty PYTHON means python3 where that is new
# enough, else the newest one found.
set -eu
cd "$(dirname "$0")/.."
folder=$1
python=$2
shift 2

if [ -z "$python" ]; then
    python=$(python3 -c 'import sys; sys.version_info >= (3, 11) and print(sys.executable)' 2>/dev/null || true)
    [ -n "$python" ] || python=$(tools/find_python.sh 3.14 3.13 3.12 3.11) || {
        echo "error: approxtrain needs Python 3.11 or later; set PYTHON to its path: make PYTHON=/path/to/python" >&2
        exit 1
    }
fi

# The stamp: what the environment was made from, and a line for each set of requirements that it got.
stamp=$folder/stamp
made_from="$("$python" -c 'import sys; print(sys.base_prefix, sys.version)' | tr '\n' ' ') $(cksum < pyproject.toml)"
if [ -d "$folder" ] && [ ! -f "$stamp" ]; then
    echo "error: $folder was not made by this script, so it is left alone: remove it, or give it another name" >&2
    exit 1
fi
if [ "$(head -n 1 "$stamp" 2>/dev/null)" != "$made_from" ]; then
    echo "making $folder with $("$python" -V); the packages take about 800 MB, so that the first time may last minutes"
    rm -rf "$folder"
    "$python" -m venv "$folder"
    echo "not finished" > "$stamp"
    "$folder/bin/python" -m pip install -qq --disable-pip-version-check "uv>=0.9" || true # slower without it
    echo "$made_from" > "$stamp"
fi
if ! grep -qF -- "$*" "$stamp"; then
    # By uv in seconds; where that cannot, as with an index that only pip is told of, by pip in minutes.
    VIRTUAL_ENV=$folder "$folder/bin/uv" pip install -q "$@" 2>/dev/null || {
        # Older ones do not know dependency groups.
        "$folder/bin/python" -m pip install -qq --upgrade "pip>=25.1"
        "$folder/bin/python" -m pip install -qq --disable-pip-version-check "$@"
    }
    echo "$*" >> "$stamp"
fi
