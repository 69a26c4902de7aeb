#!/usr/bin/env bash
# Runs one experiment on all workers of a TPU pod together, or on several processes of this machine that play one.
#
#   scripts/tpu_pod.sh NAME --zone=ZONE [--project=P] [--dir=rl_reasoning] [--dry-run] -- --config=FILE --config.KEY=VALUE ...
#   scripts/tpu_pod.sh --local 2 [--devices=1] [--dry-run] -- --config=FILE --config.KEY=VALUE ...
#
# What follows -- goes to experiments/run.py. On a pod each worker has the project in DIR of its home, installed in .venv
# (docs/tpu.md). With --local the processes meet over loopback on the CPU, each with so many devices; PYTHON=PATH chooses another
# interpreter than that of .venv. The mesh is all devices on fsdp unless it is given. --dry-run prints what would be run and
# runs nothing. The exit code is the first one that is not 0.
set -euo pipefail

root="$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)"

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 2
}

name="" zone="" project="" folder="rl_reasoning" processes=0 devices=1 dry=""
while [ $# -gt 0 ]; do
    case "$1" in
        --zone=*) zone="${1#*=}" ;;
        --project=*) project="${1#*=}" ;;
        --dir=*) folder="${1#*=}" ;;
        --devices=*) devices="${1#*=}" ;;
        --local=*) processes="${1#*=}" ;;
        --local) [ $# -gt 1 ] || fail "--local needs how many processes"; processes="$2"; shift ;;
        --dry-run) dry=1 ;;
        --) shift; break ;;
        -*) fail "$1: unknown; what goes to experiments/run.py comes after --" ;;
        *) [ -z "$name" ] || fail "$1: the pod is named already, $name"; name="$1" ;;
    esac
    shift
done

# All devices are on fsdp unless the arguments say where they are.
case " $*" in
    *" --config.mesh."*) ;;
    *) set -- "$@" --config.mesh.fsdp=0 ;;
esac

# Prints a command as it could be typed.
shown() { printf '%q ' "$@"; printf '\n'; }

pod() {
    [ -n "$zone" ] || fail "give --zone=ZONE, where the pod $name is"
    local remote
    remote="cd $(printf %q "$folder") && $(shown .venv/bin/python experiments/run.py "$@" \
        --config.distributed.coordinator=auto)"
    local command=(gcloud compute tpus tpu-vm ssh "$name" "--zone=$zone" ${project:+"--project=$project"} --worker=all
        "--command=$remote")
    if [ -n "$dry" ]; then
        shown "${command[@]}"
    else
        command -v gcloud >/dev/null || fail "gcloud is not on PATH: https://cloud.google.com/sdk/docs/install"
        exec "${command[@]}"
    fi
}

local_processes() {
    local python="${PYTHON:-$root/.venv/bin/python}" port number pids=() code=0 found
    port="$("$python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')"
    for ((number = 0; number < processes; number++)); do
        local command=(env JAX_PLATFORMS=cpu "JAX_NUM_CPU_DEVICES=$devices" "$python" "$root/experiments/run.py"
            "$@" "--config.distributed.coordinator=127.0.0.1:$port"
            "--config.distributed.processes=$processes" "--config.distributed.process=$number")
        if [ -n "$dry" ]; then
            shown "${command[@]}"
        else
            "${command[@]}" &
            pids+=($!)
        fi
    done
    # A signal to this script goes to all; each then saves what all have done, and says so by its code.
    trap 'kill -TERM "${pids[@]}" 2>/dev/null || true' TERM
    trap ':' INT # a terminal sends it to all by itself
    for number in "${pids[@]+"${pids[@]}"}"; do
        found=0
        while wait "$number" || { found=$?; kill -0 "$number" 2>/dev/null; }; do
            [ "$found" -eq 0 ] && break
            found=0
        done
        [ "$code" -ne 0 ] || code=$found
    done
    return "$code"
}

case "$processes" in
    *[!0-9]* | "") fail "--local=$processes: must be a number of processes" ;;
    0) [ -n "$name" ] || fail "name a pod, or give --local N"; pod "$@" ;;
    *) [ -z "$name" ] || fail "--local and the pod $name do not go together"; local_processes "$@" ;;
esac
