#!/usr/bin/env bash
# Make the environment once, then run the tests: `bash scripts/test.sh [pytest arguments]`.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

make_environment
cd "$ROOT"
# One process a core, each with one thread: the networks of the tests are too small for more. Tests start processes, too:
# threads that wait for work are not to keep the others from theirs. `-n 0` runs all in one process.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
exec "$VENV/bin/python" -m pytest -n auto --maxprocesses 8 --dist worksteal "$@"
