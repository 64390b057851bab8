#!/bin/sh
# Prints the path of the first interpreter that really runs, out of the versions asked for:
#     tools/find_python.sh 3.12 3.11
# A name on PATH is not enough: pyenv's shims are there for versions that are not selected, and fail when called.
for version in "$@"; do
    pyenv_root=${PYENV_ROOT:-$HOME/.pyenv}
    for candidate in "python$version" "$pyenv_root/versions/$version".*/bin/python python3 python; do
        found=$("$candidate" -c "import sys, venv
if '%d.%d' % sys.version_info[:2] == '$version': print(sys.executable)" 2>/dev/null) || continue
        if [ -n "$found" ]; then
            echo "$found"
            exit 0
        fi
    done
done
exit 1
