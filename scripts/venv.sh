# Sourced by the other scripts: makes .venv at the project's root and installs the project into it, once.
# Needs `root`, the project's root. PYTHON=/path/to/python3 in the environment chooses the interpreter.

readonly OLDEST="3.11"

say() { printf '== %s\n' "$*" >&2; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

new_enough() { "$1" -c "import sys; sys.exit(sys.version_info < (${OLDEST/./, }))" >/dev/null 2>&1; }

# Debian ships venv without ensurepip, in which case `python -m venv` cannot install pip.
has_venv() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

# Sets `python` to the newest interpreter that is new enough, one that can make environments if there is any.
find_python() {
    local candidate without_venv=""
    python=""
    for candidate in ${PYTHON:+"$PYTHON"} python3.13 python3.12 python3.11 python3 python; do
        # A command may exist and still not run, as a version manager's shim for a version it does not have.
        new_enough "$candidate" || continue
        if has_venv "$candidate"; then
            python="$candidate"
            return
        fi
        : "${without_venv:=$candidate}"
    done
    python="$without_venv"
    [ -n "$python" ] ||
        fail "no Python $OLDEST or newer on PATH; on Debian or Ubuntu: sudo apt install python3 python3-venv"
}

make_venv() {
    find_python
    say "making .venv with $("$python" --version)"
    if has_venv "$python"; then
        "$python" -m venv --clear "$root/.venv"
    elif command -v virtualenv >/dev/null; then
        virtualenv --quiet --clear --python "$python" "$root/.venv"
    else
        local version
        version="$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')"
        fail "$python cannot make environments; on Debian or Ubuntu: sudo apt install python$version-venv"
    fi
}

# What an installation depends on: the requirements, the extras, the place and the interpreter.
fingerprint() {
    {
        cat "$root/setup.py" "$root/pyproject.toml"
        printf '%s\n' "$1" "$root"
        "$root/.venv/bin/python" --version
    } | cksum
}

# prepare_venv EXTRAS: .venv exists and holds the project with these extras ("" or "[dev]").
prepare_venv() {
    local stamp="$root/.venv/installed$1" python_inside="$root/.venv/bin/python"
    if [ -f "$stamp" ] && new_enough "$python_inside" && [ "$(<"$stamp")" = "$(fingerprint "$1")" ]; then
        return
    fi
    # An interrupted run can leave an environment without pip, and an upgrade of the system one without a python.
    if ! new_enough "$python_inside" || ! "$python_inside" -m pip --version >/dev/null 2>&1; then
        make_venv
    fi
    say "installing rl_reasoning$1 into .venv; the first time takes a few minutes"
    "$python_inside" -m pip install --quiet --disable-pip-version-check --editable "$root$1" ||
        fail "the installation failed; the lines above say why; a proxy is named by HTTPS_PROXY"
    fingerprint "$1" >"$stamp"
}
