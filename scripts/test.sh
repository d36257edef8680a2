#!/usr/bin/env bash
# Make the environment once, then run the tests: `bash scripts/test.sh [pytest arguments]`.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

make_environment
cd "$ROOT"
# Tests start processes: threads that wait for work are not to keep the others from theirs.
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-PASSIVE}
exec "$VENV/bin/python" -m pytest "$@"
