"""The shell scripts: what they run, once, from anywhere; and what they say when they cannot."""

import os
import pathlib
import re
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parent.parent
SCRIPTS = [ROOT / "scripts" / "quickstart.sh", ROOT / "scripts" / "test.sh", ROOT / "scripts" / "venv.sh",
           ROOT / "scripts" / "tpu_pod.sh", ROOT / ".ci" / "run"]

# Everything that the scripts may use besides a python.
TOOLS = ["bash", "cat", "cksum", "dirname", "env"]

# Stands in for Python: writes down how it was called, and makes environments that hold a copy of itself.
FAKE_PYTHON = """#!/usr/bin/env bash
case "$1 ${2-}" in
    "-c import sys; sys.exit("*) [ "$FAKE_VERSION" != 3.10 ] ;;
    "-c import ensurepip"*) [ -z "${FAKE_NO_ENSUREPIP-}" ] ;;
    "-c "*) echo "$FAKE_VERSION" ;;
    "--version "*) echo "Python $FAKE_VERSION" ;;
    "-m venv") echo "venv $*" >>"$FAKE_LOG"; /bin/rm -rf "$4"; /bin/mkdir -p "$4/bin"; /bin/cp "$0" "$4/bin/python" ;;
    "-m pip") [ "$3" = --version ] || { echo "pip $*" >>"$FAKE_LOG"; exit "${FAKE_PIP_CODE:-0}"; } ;;
    *) printf -v line ' [%s]' "$@"; echo "run in $PWD:$line" >>"$FAKE_LOG"  # written at once: some run side by side
       exit "${FAKE_RUN_CODE:-0}" ;;
esac
"""


class Machine:
    """A copy of the project on a machine whose PATH holds a few tools and the pythons that a test asks for."""

    def __init__(self, home, pythons=("python3",), **environment):
        self.project, self.path, self.elsewhere = home / "a project", home / "bin", home / "elsewhere"
        self.log = home / "log"
        for folder in (self.project, self.path, self.elsewhere):
            folder.mkdir()
        shutil.copytree(ROOT / "scripts", self.project / "scripts")
        for name in ("setup.py", "pyproject.toml"):
            shutil.copy(ROOT / name, self.project)
        for tool in TOOLS:
            (self.path / tool).symlink_to(shutil.which(tool))
        for python in pythons:
            self.install(python)
        self.environment = {"PATH": str(self.path), "HOME": str(home), "FAKE_LOG": str(self.log),
                            "FAKE_VERSION": "3.12", **environment}

    def install(self, command, text=FAKE_PYTHON):
        (self.path / command).write_text(text)
        (self.path / command).chmod(0o755)

    def run(self, script, *arguments, **environment):
        """Runs a script and returns its result and what the fake Python wrote down meanwhile."""
        self.log.write_text("")
        ended = subprocess.run([str(self.project / "scripts" / script), *arguments], capture_output=True, text=True,
                               env=self.environment | environment, cwd=self.elsewhere, timeout=60, check=False)
        return ended, self.log.read_text().splitlines()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_strict_bash(script):
    subprocess.run(["bash", "-n", str(script)], check=True, timeout=60)
    if script.name != "venv.sh":
        assert os.access(script, os.X_OK)
        assert "set -euo pipefail" in script.read_text()


def test_quickstart_makes_an_environment_installs_and_runs(tmp_path):
    machine = Machine(tmp_path)
    ended, calls = machine.run("quickstart.sh", "--config.workdir=my runs", "--config.rl.steps=3")
    project = machine.project
    assert ended.returncode == 0, ended.stderr
    assert calls == [
        f"venv -m venv --clear {project}/.venv",
        f"pip -m pip install --quiet --disable-pip-version-check --editable {project}",
        f"run in {machine.elsewhere}: [{project}/experiments/run.py] [--config.workdir=my runs] [--config.rl.steps=3]",
    ]
    assert [line[:3] for line in ended.stderr.splitlines()] == ["== "] * 3


def test_a_second_run_installs_nothing(tmp_path):
    machine = Machine(tmp_path)
    machine.run("quickstart.sh")
    _, calls = machine.run("quickstart.sh")
    assert [call.split()[0] for call in calls] == ["run"]


@pytest.mark.parametrize("change", ["requirements", "python", "place"])
def test_what_the_installation_depends_on_installs_again(tmp_path, change):
    machine = Machine(tmp_path)
    machine.run("quickstart.sh")
    if change == "requirements":
        with (machine.project / "setup.py").open("a") as file:
            file.write("# changed\n")
    elif change == "python":
        machine.environment["FAKE_VERSION"] = "3.13"
    else:
        machine.project = machine.project.rename(tmp_path / "moved")
    _, calls = machine.run("quickstart.sh")
    assert [call.split()[0] for call in calls] == ["pip", "run"]


def test_a_failed_installation_is_tried_again(tmp_path):
    machine = Machine(tmp_path)
    ended, calls = machine.run("quickstart.sh", FAKE_PIP_CODE="1")
    assert ended.returncode == 1
    assert "the installation failed" in ended.stderr
    assert [call.split()[0] for call in calls] == ["venv", "pip"]
    ended, calls = machine.run("quickstart.sh")
    assert ended.returncode == 0
    assert [call.split()[0] for call in calls] == ["pip", "run"]


def test_a_broken_environment_is_made_again(tmp_path):
    machine = Machine(tmp_path)
    machine.run("quickstart.sh")
    (machine.project / ".venv" / "bin" / "python").unlink()
    _, calls = machine.run("quickstart.sh")
    assert [call.split()[0] for call in calls] == ["venv", "pip", "run"]


def test_the_exit_code_is_the_programs_own(tmp_path):
    ended, _ = Machine(tmp_path).run("quickstart.sh", "--config.algoritm=nsr", FAKE_RUN_CODE="2")
    assert ended.returncode == 2


@pytest.mark.parametrize(("arguments", "expected"), [
    ((), "[-m] [not slow]"),
    (("--slow",), "[-m] [slow]"),
    (("--slow", "-x"), "[-m] [slow] [-x]"),
    (("tests/losses", "-k", "a or b"), "[-m] [not slow] [tests/losses] [-k] [a or b]"),
    (("-m", "slow or not slow"), "[-m] [slow or not slow]"),
])
def test_test_sh_runs_pytest_at_the_root(tmp_path, arguments, expected):
    machine = Machine(tmp_path)
    ended, calls = machine.run("test.sh", *arguments)
    assert ended.returncode == 0, ended.stderr
    assert calls[1].endswith(f"--editable {machine.project}[dev]")
    parallel = "[-n] [auto] [--maxprocesses] [4] [--dist] [worksteal]"
    assert calls[2] == f"run in {machine.project}: [-m] [pytest] {parallel} {expected}"


def test_the_newest_python_that_runs_is_chosen(tmp_path):
    machine = Machine(tmp_path, pythons=("python3.11", "python3.12", "python3"))
    # A version manager's shim for a version that is not there.
    machine.install("python3.13", "#!/usr/bin/env bash\nexit 127\n")
    machine.install("python3.12", FAKE_PYTHON.replace('"venv $*"', '"venv by 3.12"'))
    _, calls = machine.run("quickstart.sh")
    assert calls[0] == "venv by 3.12"


@pytest.mark.parametrize("pythons", [(), ("python3", "python3.11")])
def test_no_python_that_is_new_enough(tmp_path, pythons):
    ended, calls = Machine(tmp_path, pythons, FAKE_VERSION="3.10").run("quickstart.sh")
    assert ended.returncode == 1
    assert ended.stderr == ("error: no Python 3.11 or newer on PATH; on Debian or Ubuntu: "
                            "sudo apt install python3 python3-venv\n")
    assert calls == []


def test_debian_without_its_venv_package(tmp_path):
    ended, calls = Machine(tmp_path, FAKE_NO_ENSUREPIP="1").run("quickstart.sh")
    assert ended.returncode == 1
    assert "sudo apt install python3.12-venv" in ended.stderr
    assert calls == []


def test_virtualenv_stands_in_for_a_missing_venv(tmp_path):
    machine = Machine(tmp_path, FAKE_NO_ENSUREPIP="1")
    machine.install("virtualenv", '#!/usr/bin/env bash\necho "virtualenv $*" >>"$FAKE_LOG"\n'
                    '/bin/mkdir -p "$5/bin"; /bin/cp "${0%/*}/python3" "$5/bin/python"\n')
    ended, calls = machine.run("quickstart.sh")
    assert ended.returncode == 0, ended.stderr
    assert calls[0] == f"virtualenv --quiet --clear --python python3 {machine.project}/.venv"


@pytest.mark.parametrize(("codes", "expected"), [(("0", "0"), 0), (("1", "0"), 1), (("0", "5"), 5)])
def test_ci_runs_both_suites_and_fails_if_either_does(tmp_path, codes, expected):
    (place,) = re.findall(r'-d "\$root/../(.+?)"', (ROOT / ".ci" / "run").read_text())
    data = tmp_path / place
    for folder in (tmp_path / "project" / ".ci", tmp_path / "project" / "scripts", data):
        folder.mkdir(parents=True)
    shutil.copy(ROOT / ".ci" / "run", tmp_path / "project" / ".ci")
    stub = tmp_path / "project" / "scripts" / "test.sh"
    stub.write_text(f'#!/usr/bin/env bash\necho "$RL_REASONING_DATA $*"\n[ -n "${{1-}}" ] && exit {codes[1]}\n'
                    f"exit {codes[0]}\n")
    stub.chmod(0o755)
    ended = subprocess.run([str(tmp_path / "project" / ".ci" / "run")], capture_output=True, text=True, timeout=60,
                           check=False)
    assert ended.returncode == expected
    assert ended.stdout.splitlines() == [f"{data} ", f"{data} --slow"]


@pytest.mark.slow
def test_quickstart_for_real(tmp_path):
    """A copy of the project, an empty HOME, and the network: two smoke runs, of which the second installs nothing."""
    ignored = shutil.ignore_patterns(".venv", ".git", ".cache", "runs", "*.egg-info", "__pycache__", ".pytest_cache")
    project = tmp_path / "project"
    shutil.copytree(ROOT, project, ignore=ignored)
    (tmp_path / "home").mkdir()
    command = [str(project / "scripts" / "quickstart.sh"), f"--config={project}/experiments/configs/countdown.py:smoke",
               "--config.workdir=results"]
    environment = {"HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
    for expected in (True, False):
        ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=1500,
                               check=False)
        assert ended.returncode == 0, ended.stderr
        assert ("installing" in ended.stderr) is expected
    assert list((tmp_path / "results").iterdir())


def test_a_pods_workers_all_run_one_command(tmp_path):
    """gcloud is stood in for: what it is asked to run on every worker is one line for a shell."""
    machine = Machine(tmp_path, pythons=())
    machine.install("gcloud", '#!/usr/bin/env bash\nprintf "[%s]" "$@" >>"$FAKE_LOG"; exit 7\n')
    given = ["--zone=us-central2-b", "--dir=my copy", "--", "--config=a.py:b", "--config.model.source=a b"]
    ended, calls = machine.run("tpu_pod.sh", "pod-1", *given)
    assert ended.returncode == 7
    assert calls == ["[compute][tpus][tpu-vm][ssh][pod-1][--zone=us-central2-b][--worker=all][--command="
                     "cd my\\ copy && .venv/bin/python experiments/run.py --config=a.py:b "
                     "--config.model.source=a\\ b --config.mesh.fsdp=0 --config.distributed.coordinator=auto ]"]
    ended, calls = machine.run("tpu_pod.sh", "pod-1", "--dry-run", *given)
    assert (ended.returncode, calls) == (0, [])
    assert ended.stdout.startswith("gcloud compute tpus tpu-vm ssh pod-1 --zone=us-central2-b --worker=all --command=")


def test_a_pod_of_this_machines_processes(tmp_path):
    machine = Machine(tmp_path)
    environment = {"PYTHON": str(machine.path / "python3"), "FAKE_VERSION": "4567", "FAKE_RUN_CODE": "75"}
    ended, calls = machine.run("tpu_pod.sh", "--local=3", "--", "--config.rl.steps=3", **environment)
    assert ended.returncode == 75, ended.stderr
    assert sorted(calls) == [
        f"run in {machine.elsewhere}: [{machine.project}/experiments/run.py] [--config.rl.steps=3] "
        "[--config.mesh.fsdp=0] [--config.distributed.coordinator=127.0.0.1:4567] [--config.distributed.processes=3] "
        f"[--config.distributed.process={number}]" for number in range(3)]
    ended, calls = machine.run("tpu_pod.sh", "--local", "2", "--devices=4", "--dry-run", "--", "--config.mesh.data=8",
                               **environment)
    assert (ended.returncode, calls, len(ended.stdout.splitlines())) == (0, [], 2)
    assert "fsdp" not in ended.stdout  # the mesh is the caller's
    assert ended.stdout.startswith("env JAX_PLATFORMS=cpu JAX_NUM_CPU_DEVICES=4 ")


@pytest.mark.parametrize(("arguments", "named"), [
    ((), "name a pod, or give --local N"), (("pod-1",), "give --zone=ZONE"), (("--local=two",), "--local=two: must be"),
    (("pod-1", "--local=2"), "do not go together"), (("--zone=z", "--steps=3"), "--steps=3: unknown; what goes to"),
    (("a", "b"), "the pod is named already, a"),
])
def test_a_pod_that_cannot_be(tmp_path, arguments, named):
    ended, calls = Machine(tmp_path).run("tpu_pod.sh", *arguments)
    assert (ended.returncode, calls) == (2, [])
    assert named in ended.stderr
