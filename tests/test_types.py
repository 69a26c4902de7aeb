"""The annotations are checked, all of them."""

import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent


def test_types_are_right_in_package_and_experiments(tmp_path):
    """`[tool.mypy]` of pyproject.toml says what is asked; 18 processor seconds with nothing known from before."""
    ended = subprocess.run([sys.executable, "-m", "mypy", "--cache-dir", str(tmp_path)], cwd=ROOT, timeout=600,
                           capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_what_is_wrong_is_found(tmp_path):
    """Errors fail the run, functions without types among them."""
    (tmp_path / "wrong.py").write_text("def add(a, b):\n    return a\n\n\ndef text() -> str:\n    return 1\n")
    ended = subprocess.run([sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "--cache-dir",
                            str(tmp_path / "cache"), str(tmp_path / "wrong.py")], cwd=ROOT, timeout=300,
                           capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "[no-untyped-def]" in ended.stdout
    assert "[return-value]" in ended.stdout
