#!/usr/bin/env bash
# Resolve pyproject.toml into requirements.lock (demo) and requirements-dev.lock (demo and dev), for Python 3.11 to 3.13.
# PyTorch and the CUDA packages that some of its builds ask for are left out: scripts/install.py chooses the build.
set -euo pipefail
cd "$(dirname "$0")/.."
UV=${UV:-.venv/bin/uv}
TORCH=${TORCH:-2.13.0}
constraint=$(mktemp)
trap 'rm -f "$constraint"' EXIT
echo "torch==$TORCH" >"$constraint"
lock() {
  local out=$1 && shift
  {
    echo "# Made by scripts/lock.sh; not edited by hand."
    echo "# torch==$TORCH"
    "$UV" pip compile pyproject.toml "$@" --universal --python-version 3.11 --constraint "$constraint" \
      --no-annotate --no-header -q | grep -vE '^(torch|triton|nvidia-|cuda-)[^ ]*=='
  } >"$out.new"
  mv "$out.new" "$out"
}
lock requirements.lock --extra demo --extra wandb
lock requirements-dev.lock --extra demo --extra wandb --extra dev
wc -l requirements.lock requirements-dev.lock
