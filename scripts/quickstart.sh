#!/usr/bin/env bash
# From a fresh clone to a result: makes .venv, installs, and runs an experiment on the CPU or whatever jax finds.
#
#   scripts/quickstart.sh                                                    the default experiment
#   scripts/quickstart.sh --config.algorithm=nsr --config.workdir=my-runs    any argument of experiments/run.py
#
# Works from any folder; relative paths are relative to that folder.
set -euo pipefail

root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
. "$root/scripts/venv.sh"

prepare_venv ""
say "running experiments/run.py $*"
exec "$root/.venv/bin/python" "$root/experiments/run.py" "$@"
