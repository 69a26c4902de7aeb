"""Mode evaluate: what it writes, that it goes on after a kill, and what it refuses."""

import dataclasses
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import pytest

from experiments.configs import countdown, evaluate, path
from rl_reasoning.config import Evaluation, Sampling, WarmStart
from rl_reasoning.edge import ConfigError, read_experiment
from rl_reasoning.loop import evaluate_policy, evaluating, run_experiment
from rl_reasoning.loop.restore import export_run
from rl_reasoning.reporting.run_folder import RunFolder
from rl_reasoning.reporting.sample_file import SampleFile

ROOT = pathlib.Path(__file__).parents[2]
SMALL = Evaluation(problems=5, samples=6, batch=12, bootstrap=50, traced=2, sampling=Sampling(max_tokens=6))


def smoke(workdir, **changes):
    experiment = dataclasses.replace(read_experiment(countdown.get_config("smoke")), workdir=str(workdir))
    return dataclasses.replace(experiment, **changes)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run folder of one step and its work folder."""
    workdir = tmp_path_factory.mktemp("runs")
    experiment = smoke(workdir)
    assert run_experiment(dataclasses.replace(experiment, rl=dataclasses.replace(experiment.rl, steps=1),
                                              evaluation=SMALL)) == 0
    return workdir / "countdown-smoke-w_reinforce-seed0"


def asked(trained, **changes):
    return smoke(trained.parent, mode="evaluate",
                 evaluation=dataclasses.replace(SMALL, run=str(trained), **changes))


@pytest.fixture(scope="module")
def whole(trained):
    return evaluate_policy(asked(trained))


def content(folder):
    return {name: (folder.path / "evaluations" / name).read_bytes()
            for name in ("step_0001.jsonl", "step_0001-pass_at_k.csv", "summary.jsonl")}


def test_a_run_s_policy_gives_what_its_run_found(trained, whole):
    """Same problems, same draws: the answers are those of the run's own last evaluation, and so are the numbers."""
    own, again = RunFolder(trained).evaluations()[-1], whole.evaluations()[0]
    assert (own["right"], own["pass_at_k"], own["ids"]) == (again["right"], again["pass_at_k"], again["ids"])
    assert list(RunFolder(trained).samples("step_0001")) == list(whole.samples("step_0001"))


def test_a_hugging_face_folder_gives_the_answers_of_the_policy_that_it_was_exported_from(trained, whole, tmp_path):
    """The same records, but for how tokens changed from a base, which a folder has not; and the same summary."""
    export_run(trained, tmp_path / "hf")
    model = dataclasses.replace(smoke(tmp_path).model, source=str(tmp_path / "hf"))
    assert run_experiment(smoke(tmp_path, mode="evaluate", model=model, evaluation=SMALL,
                                warm_start=WarmStart(steps=0, refine_steps=0))) == 0
    [path] = tmp_path.glob("*-evaluate-*")
    folder = RunFolder(path)
    expected = [record | {"tokens": [row[:2] for row in record["tokens"]]} if "tokens" in record else record
                for record in whole.samples("step_0001")]
    assert len(expected) == 30
    assert list(folder.samples("policy")) == expected
    own, again = whole.evaluations()[0], folder.evaluations()[0]
    assert again["algorithm"] == "hf"
    assert [own[name] for name in ("right", "pass_at_k", "ids", "entropy")] == [
        again[name] for name in ("right", "pass_at_k", "ids", "entropy")]
    assert folder.report_path.exists()


def test_some_answers_carry_their_tokens(whole):
    """Two a problem: the first right and the first other one where there are both, else the first two."""
    records = list(whole.samples("step_0001"))
    for at in range(0, 30, 6):
        rights = [record["reward"] == 1 for record in records[at:at + 6]]
        both = True in rights and False in rights
        expected = {rights.index(True), rights.index(False)} if both else {0, 1}
        assert {i for i in range(6) if "tokens" in records[at + i]} == expected
    for record in records:
        if "tokens" in record:
            texts, logprobs, _ = zip(*record["tokens"], strict=True)
            assert len(texts) == record["length"]
            assert " ".join(filter(None, texts)) == record["text"]
            assert sum(logprobs) == pytest.approx(record["logprob"], abs=1e-3)
    assert any(change != 0 for record in records for _, _, change in record.get("tokens", ()))


def test_a_second_call_finds_it_done(trained, whole, monkeypatch):
    before = content(whole)
    monkeypatch.setattr(evaluating, "answers", None)
    assert evaluate_policy(asked(trained)).path == whole.path
    # Nor does a setting that no answer depends on make it another evaluation, or an error.
    assert evaluate_policy(dataclasses.replace(asked(trained), resume="never")).path == whole.path
    assert content(whole) == before


class Killed(BaseException):
    pass


def stopped_after(monkeypatch, calls, torn):
    """SampleFile.append that dies in its last call after `torn` bytes of what it was to write."""
    append, left = SampleFile.append, [calls]

    def dying(self, records):
        left[0] -= 1
        append(self, records)
        if left[0] == 0:
            os.truncate(self.path, max(0, self.path.stat().st_size - torn))
            raise Killed

    monkeypatch.setattr(SampleFile, "append", dying)


def test_killed_anywhere_it_ends_in_the_same_bytes(trained, whole, monkeypatch, tmp_path):
    expected, rng = content(whole), random.Random(0)
    for calls, torn in [(1, 10**6), (2, 0), *((calls, rng.randrange(1, 4000)) for calls in (1, 2, 3))]:
        experiment = dataclasses.replace(asked(trained), workdir=str(tmp_path / f"{calls}-{torn}"))
        with monkeypatch.context() as patch:
            stopped_after(patch, calls, torn)
            with pytest.raises(Killed):
                evaluate_policy(experiment)
        assert content(evaluate_policy(experiment)) == expected


def test_answers_that_do_not_fit_the_batch_are_drawn_in_parts(trained, whole, tmp_path):
    """More answers a problem than a batch holds: the same answers in the end."""
    experiment = dataclasses.replace(asked(trained, batch=4), workdir=str(tmp_path))
    assert [record["text"] for record in evaluate_policy(experiment).samples("step_0001")] == \
        [record["text"] for record in whole.samples("step_0001")]


def test_a_file_of_something_else_is_not_continued(trained, tmp_path):
    experiment = dataclasses.replace(asked(trained), workdir=str(tmp_path))
    file = RunFolder(tmp_path / evaluating.folder_name(experiment)).samples_path("step_0001")
    file.write_text('{"problem": "x", "sample": 0, "outcome": "right", "reward": 1}\n')
    with pytest.raises(ConfigError, match="line 1 is not what this evaluation wrote"):
        evaluate_policy(experiment)


def test_one_process_at_a_time(tmp_path):
    with SampleFile(tmp_path / "x.jsonl"), pytest.raises(BlockingIOError, match="by another process"), \
            SampleFile(tmp_path / "x.jsonl"):
        pass


def test_problems_in_other_words_are_refused(trained):
    experiment = dataclasses.replace(read_experiment(path.get_config("smoke")), mode="evaluate")
    experiment = dataclasses.replace(experiment, evaluation=dataclasses.replace(
        experiment.evaluation, run=str(trained)))
    with pytest.raises(ConfigError, match=r"config\.evaluation\.run = .*knows the words of task\.kind = 'countdown'"):
        evaluate_policy(experiment)


def test_a_run_that_is_not_there_is_named(trained):
    with pytest.raises(ConfigError, match=r"config\.evaluation\.run = 'nowhere'"):
        evaluate_policy(dataclasses.replace(asked(trained), evaluation=dataclasses.replace(SMALL, run="nowhere")))


def test_the_config_file_asks_a_run_its_own_problems_and_protocols_are_whole(trained):
    found = read_experiment(evaluate.get_config(str(trained)))
    own = json.loads((trained / "config.json").read_text())["config"]
    assert (found.mode, found.evaluation.run, found.evaluation.problems) == ("evaluate", str(trained), 5)
    assert dataclasses.asdict(found.task) == {**own["task"], "math": dataclasses.asdict(found.task.math)}
    for preset in ("", *evaluate.PRESETS):
        assert read_experiment(evaluate.get_config(preset)).mode == "evaluate"


def test_a_policy_without_a_run_is_asked_as_it_is(tmp_path, capsys):
    experiment = smoke(tmp_path, mode="evaluate", evaluation=SMALL)
    untrained = dataclasses.replace(experiment.warm_start, steps=0, refine_steps=0)
    assert run_experiment(dataclasses.replace(experiment, warm_start=untrained)) == 0
    folder = RunFolder(next(tmp_path.glob("countdown-smoke-evaluate-*")))
    assert folder.evaluations()[0]["label"] == "policy"
    shown = capsys.readouterr().out
    assert "RANDOM" in shown
    assert "maj@n" in shown
    assert folder.report_path.exists()


@pytest.mark.slow
def test_sigkill_and_the_same_command_again(trained, whole):
    """The command line, killed by the system once some answers are written, and started again."""
    folder = whole.path
    expected = content(whole)
    for name in expected:
        (folder / "evaluations" / name).unlink()
    command = [sys.executable, "experiments/run.py", "--config=experiments/configs/countdown.py:smoke",
               "--config.mode=evaluate", f"--config.workdir={trained.parent}", f"--config.evaluation.run={trained}",
               "--config.evaluation.problems=5", "--config.evaluation.samples=6", "--config.evaluation.batch=12",
               "--config.evaluation.bootstrap=50", "--config.evaluation.traced=2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    file = folder / "evaluations" / "step_0001.jsonl"
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE) as process:
        while process.poll() is None and not (file.exists() and file.stat().st_size):
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    again = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=True)
    assert content(whole) == expected
    assert "answers are there already" in again.stderr
    assert "maj@n" in again.stdout
