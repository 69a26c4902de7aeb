"""A short soak: a run that is killed and one that is not end alike; what differs is named."""

import importlib.util
import json
import pathlib
import random
import shutil

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(name="soak", scope="module")
def soak_script():
    spec = importlib.util.spec_from_file_location("soak", ROOT / "scripts" / "soak.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_t1_t2_t65_killed_processes_end_as_the_one_that_was_not(soak, capsys):
    """SIGKILL and SIGTERM on real processes, each in another environment, through the command that people use."""
    assert soak.main(["--steps=24", "--kills=2", "--seed=15"]) == 0
    out = capsys.readouterr().out
    assert "killed 2 times (0 while starting, 1 SIGKILL, 1 SIGTERM)" in out
    assert "the same, byte for byte" in out


def test_what_differs_is_named(soak, tmp_path):
    run = tmp_path / "one" / soak.NAME
    (run / "evaluations").mkdir(parents=True)
    (run / "checkpoints" / "step_0003").mkdir(parents=True)
    (run / "metrics.jsonl").write_text("{}\n")
    for name in ("base", "step_0003", "summary"):
        (run / "evaluations" / f"{name}.jsonl").write_text(name)
    record = run / "checkpoints" / "step_0003" / "record.json"
    record.write_text(json.dumps({"arrays": {"a": {"sha256": "1"}, "b": {"sha256": "2"}}}))
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    assert soak.differences(tmp_path / "one", tmp_path / "other", 3) == []
    record.write_text(json.dumps({"arrays": {"a": {"sha256": "1"}, "b": {"sha256": "3"}}}))
    (run / "metrics.jsonl").write_text("{}\n{}\n")
    assert soak.differences(tmp_path / "one", tmp_path / "other", 3) == ["metrics.jsonl", "the parameters' b"]
    assert soak.done(tmp_path / "one") == 2
    assert not soak.finished(tmp_path / "one")


def test_t64_growth_is_between_a_quarter_and_the_end(soak):
    found = [soak.Usage(memory, 9, 20, 30) for memory in (500, 100, 100, 100, 100, 100, 100, 110)]
    found[2] = soak.Usage(100, 9, 21, 30)
    assert soak.growth(found) == ("memory 100.0 -> 110.0 MiB (+10.00 %), descriptors 9 -> 9, threads 21 -> 20, "
                                  "compiled programs 30 -> 30")


def test_moments_derive_from_the_seed(soak):
    kinds = [soak.kind_of_kill(random.Random(5)) for _ in range(3)]
    assert len(set(kinds)) == 1
    assert {soak.kind_of_kill(random.Random(seed)) for seed in range(40)} == {"while starting", "SIGKILL", "SIGTERM"}
