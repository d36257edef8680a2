# Sourced by the scripts beside it: `make_environment` leaves a virtual environment in $VENV, with everything installed.
#
#   DYNQ_PYTHON       the Python to use; one that has torch keeps it (default: the python3 that has torch, else 3.11,
#                     3.12, 3.10, whichever is found first)
#   DYNQ_VENV         where the environment lies (default: .venv in the repository)
#   DYNQ_TORCH_INDEX  address of a package index that offers CPU builds of torch, where the default one does not
#   DYNQ_ALLOW_CUDA   1: take CUDA packages (gigabytes) though no GPU is here

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=${DYNQ_VENV:-$ROOT/.venv}
TORCH_PINS=(torch==2.13.0 torchvision==0.28.0)

fail() { echo "dynq_basicsr: error: $*" >&2; exit 1; }

runs_python() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1; }

# The folder that holds the torch of Python $1; nothing where it has none.
torch_of() {
  "$1" -c 'import importlib.util as u, os; s = u.find_spec("torch"); print(os.path.dirname(os.path.dirname(s.origin)))' \
    2>/dev/null || true
}

choose_python() {
  local candidate
  if [ -n "${DYNQ_PYTHON:-}" ]; then
    runs_python "$DYNQ_PYTHON" || fail "DYNQ_PYTHON=$DYNQ_PYTHON is not a Python 3.10 or newer."
    echo "$DYNQ_PYTHON"
    return
  fi
  if runs_python python3 && [ -n "$(torch_of python3)" ]; then echo python3; return; fi
  for candidate in python3.11 python3.12 python3.10 python3 python3.13 python3.14 python; do
    if runs_python "$candidate"; then echo "$candidate"; return; fi
  done
  fail "no Python 3.10 or newer was found; install one, or name it in DYNQ_PYTHON."
}

create_venv() {
  local python host free
  python=$(choose_python) || exit 1
  host=$(torch_of "$python")
  mkdir -p "$VENV" || fail "cannot create $VENV; name another folder in DYNQ_VENV."
  free=$(df -Pk "$VENV" | awk 'NR == 2 {print int($4 / 1024)}')
  [ -n "$host" ] || [ "$free" -ge 2500 ] || fail "$VENV needs 2.5 GB and its disk has $free MB free; make room or set DYNQ_VENV."
  echo "Creating $VENV with $("$python" --version 2>&1)${host:+ and the torch in $host}"
  "$python" -m venv --clear "$VENV" >"$VENV.log" 2>&1 ||
    fail "$python cannot make virtual environments ($(tail -n 1 "$VENV.log")); install its venv and ensurepip modules (package python3-venv on Debian and Ubuntu)."
  rm -f "$VENV.log"
  # Works for any host, a virtual or conda environment too, and nothing in it is ever changed.
  [ -z "$host" ] || echo "import site; site.addsitedir('$host')" \
    >"$("$VENV/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/host_torch.pth"
}

pip_install() {
  local log="$VENV/pip.log"
  # Without byte-compiling everything: Python does it for what is really imported, and the installation is faster.
  if ! "$VENV/bin/python" -m pip install --no-compile "$@" >"$log" 2>&1; then
    tail -n 15 "$log" >&2
    if grep -q 'No space left' "$log"; then fail "the disk of $VENV is full; make room or set DYNQ_VENV."; fi
    if grep -qE 'Connection|Temporary failure|Name or service|ProxyError|SSLError|timed out' "$log"; then
      fail "pip cannot reach the package index; check the network and pip's configuration, then run this again."
    fi
    fail "pip could not install $* (log: $log)."
  fi
}

has() { "$VENV/bin/python" -c "import importlib.metadata as m; m.version('$1')" >/dev/null 2>&1; }

has_gpu() { [ "$(uname)" = Darwin ] || [ -e /dev/nvidia0 ] || nvidia-smi -L >/dev/null 2>&1; }

install_torch() {
  local wanted=("${TORCH_PINS[@]}") plan
  [ -z "${DYNQ_TORCH_INDEX:-}" ] || wanted+=(--extra-index-url "$DYNQ_TORCH_INDEX")
  if ! has_gpu && [ "${DYNQ_ALLOW_CUDA:-0}" != 1 ]; then
    pip_install --dry-run "${wanted[@]}"
    plan=$(grep '^Would install' "$VENV/pip.log" || true)
    ! grep -qE ' (nvidia-|cuda-|triton-)' <<<"$plan" ||
      fail "no GPU is here, but pip's index offers only a CUDA build of ${TORCH_PINS[0]} (gigabytes); set DYNQ_TORCH_INDEX to the CPU index that PyTorch's installation page names, or DYNQ_ALLOW_CUDA=1 to take it."
  fi
  echo "Installing ${TORCH_PINS[*]} (about half a minute)"
  # In one command, so that pip matches the two.
  pip_install "${wanted[@]}"
}

make_environment() {
  local stamp
  # The option files' paths start at datasets/; where there is real data beside the checkout, it is linked there.
  [ ! -d "$ROOT/../shared/data" ] || bash "$ROOT/scripts/link_datasets.sh" >/dev/null || true
  stamp=$(cat "$ROOT/setup.py" "$ROOT/scripts/common.sh" | cksum)
  [ "$(cat "$VENV/dynq.stamp" 2>/dev/null)" != "$stamp" ] || return 0
  runs_python "$VENV/bin/python" || create_venv
  pip_install 'pip>=22.3' 'setuptools>=77'  # for --dry-run, and to build BasicSR and this package
  has torch || install_torch
  echo "Installing BasicSR and dynq_basicsr (about half a minute)"
  # The torchvision that belongs to this torch, and BasicSR: first, since spandrel would bring a torchvision of its own.
  (cd "$ROOT" && "$VENV/bin/python" -m dynq_basicsr doctor --fix >/dev/null) || exit 1
  pip_install --no-build-isolation -e "$ROOT[train,deploy,export,community,dev]"
  (cd "$VENV" && DYNQ_BASICSR_AUTOLOAD=strict bin/python -c 'import basicsr') ||
    fail "the environment in $VENV is incomplete; delete that folder and run this again."
  echo "$stamp" >"$VENV/dynq.stamp"
}
