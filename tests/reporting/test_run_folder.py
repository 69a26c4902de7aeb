"""What a run leaves behind survives kills, restarts and other runs, and reads back as it was written."""

import dataclasses
import json
import logging
import math
import time

import numpy as np
import pytest

from rl_reasoning.reporting.run_folder import RunFolder, differing_settings, installed_versions

VALUES = {"reward/mean": np.float32(0.1), "length/mean": 11, "ratio/max": np.float64(1.5), "loss/policy": math.nan}


def lines(path):
    return path.read_bytes().splitlines(keepends=True)


def test_create_never_overwrites(tmp_path):
    folders = [RunFolder.create(tmp_path / "runs", "countdown") for _ in range(3)]
    assert [folder.path.name for folder in folders] == ["countdown", "countdown-2", "countdown-3"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../up", "a\\b"])
def test_create_refuses_what_is_no_folder_name(tmp_path, name):
    with pytest.raises(ValueError, match="cannot name a run folder"):
        RunFolder.create(tmp_path, name)


def test_t65_equal_values_give_equal_bytes(tmp_path):
    """Whatever the order of the names and the kind of number, and with no clock in it."""
    for name, values in (("a", VALUES), ("b", dict(reversed(VALUES.items())))):
        RunFolder(tmp_path / name).append_metrics(1, "rl", values)
    first = (tmp_path / "a" / "metrics.jsonl").read_bytes()
    assert first == (tmp_path / "b" / "metrics.jsonl").read_bytes()
    assert first == (
        b'{"step": 1, "phase": "rl", "length/mean": 11, "loss/policy": null, "ratio/max": 1.5, '
        b'"reward/mean": 0.10000000149011612}\n'
    )


def test_null_reads_back_as_nan(tmp_path):
    folder = RunFolder(tmp_path)
    folder.append_metrics(1, "rl", {"a": math.inf, "b": 2.5})
    (record,) = folder.metrics()
    assert math.isnan(record["a"])
    assert record["b"] == 2.5


@pytest.mark.parametrize(
    ("step", "phase", "values", "message"),
    [
        (1, "rl", {"time/rollout": 1.0}, "append_timings"),
        (1, "rl", {"tokens_per_second": 1.0}, "append_timings"),
        (1, "evaluation", {}, "unknown phase 'evaluation'; one of warm_start, rl"),
        (1, "rl", {"step": 2}, "cannot be called 'step'"),
        (1, "rl", {"a": "1.0"}, "a is '1.0'"),
        (1, "rl", {"a": None}, "a is None"),
        (1, "rl", {"a": np.zeros(2)}, "must be one number"),
    ],
)
def test_metrics_that_are_refused(tmp_path, step, phase, values, message):
    folder = RunFolder(tmp_path)
    with pytest.raises(ValueError, match=message):
        folder.append_metrics(step, phase, values)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_phases_are_read_apart(tmp_path):
    folder = RunFolder(tmp_path)
    folder.append_metrics(1, "warm_start", {"loss/supervised": 2.0})
    folder.append_metrics(1, "rl", {"reward/mean": 0.5})
    assert [record["phase"] for record in folder.metrics()] == ["warm_start", "rl"]
    assert folder.metrics("rl") == [{"step": 1, "phase": "rl", "reward/mean": 0.5}]
    assert folder.timings() == []


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_cut_last_line_is_named_and_left_out(tmp_path, caplog, cut):
    folder = RunFolder(tmp_path)
    for step in (1, 2):
        folder.append_metrics(step, "rl", {"reward/mean": 0.5})
    path = tmp_path / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[: -1 - cut])
    with caplog.at_level(logging.WARNING):
        assert [record["step"] for record in folder.metrics()] == [1]
    assert f"{path}, line 2 was cut short" in caplog.text
    folder.append_metrics(2, "rl", {"reward/mean": 0.5})
    assert path.read_bytes() == whole


def test_a_lost_newline_loses_no_record(tmp_path):
    folder = RunFolder(tmp_path)
    folder.append_metrics(1, "rl", {"a": 1})
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    assert len(folder.metrics()) == 1
    folder.append_metrics(2, "rl", {"a": 1})
    assert [record["step"] for record in folder.metrics()] == [1, 2]


def test_a_broken_line_elsewhere_is_an_error_that_names_it(tmp_path):
    folder = RunFolder(tmp_path)
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1, "phase": "rl"}\n{"step": 2,\n{"step": 3, "phase": "rl"}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2 is no JSON"):
        folder.metrics()


def test_t1_a_rewound_run_ends_with_the_bytes_of_an_uninterrupted_one(tmp_path, make_run):
    whole = make_run()
    again = RunFolder(whole.path)
    expected = (whole.path / "metrics.jsonl").read_bytes()
    for stop in (10, 7, 1):
        again.rewind("rl", stop)
        assert again.metrics()[-1]["step"] == stop
        assert [record["label"] for record in again.evaluations()] == ["base", "step_0010"][: 1 + (stop == 10)]
        for step in range(stop + 1, 11):
            again.append_metrics(step, "rl", {"reward/mean": 0.1 * step, "policy/entropy": 1.0 / step, "loss/kl": 0.0})
        assert (whole.path / "metrics.jsonl").read_bytes() == expected
    again.rewind("warm_start", 2)
    assert [record["step"] for record in again.metrics()] == [1, 2]
    assert again.timings() == []
    assert again.evaluations() == []


def test_config_is_written_once(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Settings:
        steps: int
        ks: tuple[int, ...] = (1, 2)

    folder = RunFolder(tmp_path)
    assert folder.config() == {"config": {}, "versions": {}, "command": []}
    folder.write_config(Settings(70), ["run.py", "--config", "x.py"], {"jax": "1"})
    before = (tmp_path / "config.json").read_bytes()
    folder.write_config(Settings(70), ["run.py"], {"jax": "2"})
    assert (tmp_path / "config.json").read_bytes() == before
    assert folder.config()["config"] == {"steps": 70, "ks": [1, 2]}
    with pytest.raises(ValueError, match=r"other settings \(steps\)"):
        folder.write_config(Settings(80), ["run.py"])


def test_t60_config_holds_nothing_of_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "canary-5f1c")
    RunFolder(tmp_path).write_config({"steps": 1}, ["run.py"])
    assert "canary" not in (tmp_path / "config.json").read_text()


def test_versions_name_what_is_missing():
    versions = installed_versions(["numpy", "no-such-package"])
    assert versions["numpy"] == np.__version__
    assert versions["no-such-package"] == "not installed"


def test_differing_settings():
    here = {"seed": 0, "rl": {"steps": 70, "samples": 8}}
    there = {"seed": 0, "rl": {"steps": 80, "samples": 8}, "name": "x"}
    assert differing_settings([here, there]) == {"name": [None, "x"], "rl.steps": [70, 80]}
    assert differing_settings([here, here]) == {}


def test_an_evaluation_reads_back(tmp_path):
    folder = RunFolder(tmp_path)
    odd = 'quote " newline \n snowman \u2603 lone surrogate \ud800 separator \u2028'
    samples = [{"problem": "p", "sample": 0, "text": odd, "reward": math.nan, "outcome": "timeout"}]
    folder.write_evaluation({"label": "base", "step": 0, "right": np.array([0]), "entropy": np.float32(0.5)}, samples)
    assert list(folder.samples("base")) == [{**samples[0], "reward": None}]
    (record,) = folder.evaluations()
    assert (record["right"], record["entropy"]) == ([0], 0.5)
    assert (tmp_path / "evaluations" / "base.jsonl").read_bytes().isascii()
    assert list(folder.samples("step_0001")) == []


def test_a_repeated_evaluation_takes_the_place_of_the_first(tmp_path):
    folder = RunFolder(tmp_path)
    for step, label in ((0, "base"), (10, "step_0010"), (0, "base")):
        folder.write_evaluation({"label": label, "step": step}, [{"problem": "p"}, {"problem": "q"}])
    assert [record["label"] for record in folder.evaluations()] == ["base", "step_0010"]
    assert len(list(folder.samples("base"))) == 2
    assert len(list(folder.samples("base", limit=1))) == 1


def test_the_problem_set_tells_problems_and_their_order_apart(tmp_path):
    folder = RunFolder(tmp_path)
    for step, problems in enumerate(("ppqq", "pq", "qp", "pr")):
        folder.write_evaluation({"label": f"e{step}", "step": step}, [{"problem": problem} for problem in problems])
    first, same, turned, other = (record["problem_set"] for record in folder.evaluations())
    assert first == same
    assert len({first, turned, other}) == 3


@pytest.mark.parametrize("label", ["", "../x", "summary", "a b"])
def test_labels_that_are_refused(tmp_path, label):
    with pytest.raises(ValueError, match="cannot name an evaluation"):
        RunFolder(tmp_path).write_evaluation({"label": label, "step": 0}, [])


def test_a_failed_evaluation_leaves_the_old_one(tmp_path):
    folder = RunFolder(tmp_path)
    folder.write_evaluation({"label": "base", "step": 0}, [{"problem": "p"}])

    def breaks():
        yield {"problem": "q"}
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        folder.write_evaluation({"label": "base", "step": 0}, breaks())
    assert list(folder.samples("base")) == [{"problem": "p"}]


def test_thirty_thousand_samples_take_about_a_second(tmp_path):
    """32,768 lines, as 128 problems with 256 answers; processor time, with room for a slow machine."""
    sample = {
        "problem": "countdown-1",
        "sample": 0,
        "prompt": "1 2 3 > 9 :",
        "text": "1 + 2 = 3 3 * 3 = 9",
        "answer": "9",
        "outcome": "right",
        "reward": 1.0,
        "reason": "reaches the target",
        "logprob": -3.25,
        "length": 11,
        "stop_reason": "eos",
    }
    start = time.process_time()
    RunFolder(tmp_path).write_evaluation({"label": "base", "step": 0}, (sample for _ in range(32768)))
    assert time.process_time() - start < 4.0


def test_lines_are_complete_as_soon_as_they_are_appended(tmp_path):
    """Another process that reads at any moment sees whole lines."""
    folder = RunFolder(tmp_path)
    for step in range(1, 4):
        folder.append_timings(step, "rl", {"time/rollout": 0.5})
        seen = lines(tmp_path / "timings.jsonl")
        assert len(seen) == step
        assert json.loads(seen[-1]) == {"step": step, "phase": "rl", "time/rollout": 0.5}
