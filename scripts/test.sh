#!/usr/bin/env bash
# Makes .venv, installs with the development tools, and runs the tests on the CPU.
#
#   scripts/test.sh                    everything but the slow tests
#   scripts/test.sh --slow             the slow tests alone
#   scripts/test.sh tests/losses -x    any argument of pytest, paths relative to the project's root; -m chooses markers
#
# Tests run in as many processes as there are cores, four at most; `-n 0` runs them in one.
set -euo pipefail

root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"
. "$root/scripts/venv.sh"

markers=(-m "not slow")
arguments=()
for argument in "$@"; do
    case "$argument" in
        --slow) markers=(-m slow) ;;
        -m*) markers=() && arguments+=("$argument") ;;
        *) arguments+=("$argument") ;;
    esac
done

prepare_venv "[dev]"
cd -- "$root"
say "running pytest ${markers[*]} ${arguments[*]}"
exec "$root/.venv/bin/python" -m pytest -n auto --maxprocesses 4 --dist worksteal "${markers[@]}" "${arguments[@]}"
