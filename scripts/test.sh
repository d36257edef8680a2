#!/usr/bin/env bash
# Make the environment once, then run the tests: `bash scripts/test.sh [pytest arguments]`.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

make_environment
cd "$ROOT"
exec "$VENV/bin/python" -m pytest "$@"
