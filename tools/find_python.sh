#!/bin/sh
# Print the Python for the environment: $PYTHON where it is set, else the environment's own, else the first that fits.
minimum=10 maximum=13
for candidate in ${PYTHON:-.venv/bin/python python3 python3.13 python3.12 python3.11 python3.10}; do
    found=$("$candidate" -c 'import sys; print(*sys.version_info[:2])' 2>/dev/null) || continue
    if [ "${found% *}" = 3 ] && [ "${found#* }" -ge $minimum ] && [ "${found#* }" -le $maximum ]; then
        echo "$candidate"
        exit 0
    fi
    seen="$seen $candidate is $(echo "$found" | tr ' ' .),"
done
seen=${seen:- found none,}
echo "setup: expected Python 3.$minimum to 3.$maximum,${seen%,}; install one (on Debian and Ubuntu: sudo apt install" \
    "python3 python3-venv python3-dev) or name it: make setup PYTHON=/path/to/python" >&2
exit 1
