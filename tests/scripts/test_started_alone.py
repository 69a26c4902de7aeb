"""Scripts that use the experiments' configs start from any folder, as the documentation starts them."""

import os
import subprocess
import sys

import pytest

from tests.scripts.loading import SCRIPTS

USING = sorted(path.name for path in SCRIPTS.glob("*.py") if "experiments.configs" in path.read_text())


@pytest.mark.parametrize("name", USING)
def test_a_script_finds_the_experiments(name, tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ended = subprocess.run([sys.executable, str(SCRIPTS / name), "--help"], capture_output=True, text=True,
                           cwd=tmp_path, env=environment, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.startswith("usage")


def test_there_are_such_scripts():
    assert "bench_step.py" in USING
