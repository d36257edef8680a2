#!/usr/bin/env bash
# Make the environment once, then quantize the embedded network with AdaBM and show what it costs and gives:
# `bash scripts/quickstart.sh`. Variables that steer the installation are described in common.sh.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

began=$(date +%s)
make_environment
cd "$ROOT"
exec "$VENV/bin/python" scripts/quickstart.py --began "$began" --installed "$(date +%s)"
