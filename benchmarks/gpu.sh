#!/usr/bin/env bash
# What a GPU makes of this project, measured in one command that ends within ten minutes:
#
#     bash benchmarks/gpu.sh                          everything, into runs/gpu
#     bash benchmarks/gpu.sh --seconds 300 --output DIR
#     bash benchmarks/gpu.sh --dry-run                tiny, also on a CPU: does it run through?
#     WHEELS=FOLDER bash benchmarks/gpu.sh            packages that the machine lacks, as wheels
#
# It takes PYTHON (python3 where not given), and no network. What it does stands in gpu.py.
set -u
GPU_BEGUN=$(date +%s)
export GPU_BEGUN
python=${PYTHON:-python3}
if [ -n "${WHEELS:-}" ]; then
    site=$(mktemp -d)
    trap 'rm -rf "$site"' EXIT
    "$python" -m pip install -q --no-index --no-deps --no-compile --target "$site" "$WHEELS"/*.whl ||
        echo "the wheels in $WHEELS could not be installed: going on without them"
    export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH}
fi
"$python" "$(dirname "$0")/gpu.py" "$@"
