"""A base trained on text: it learns it, is kept under the text's digest, and is refused when that cannot be."""

import dataclasses
import os
import pathlib
import signal

import numpy as np
import pytest

from rl_reasoning import edge
from rl_reasoning.edge import ConfigError
from rl_reasoning.loop import warm_start
from rl_reasoning.loop.setup import build
from rl_reasoning.loop.stops import Stops
from rl_reasoning.reporting.run_folder import RunFolder
from rl_reasoning.training import manifest

CONFIG = pathlib.Path(__file__).parents[2] / "experiments" / "configs" / "countdown.py"


def experiment(tmp_path, *changes):
    return edge.read_command(["run.py", f"--config={CONFIG}:smoke", f"--config.workdir={tmp_path}",
                              f"--config.warm_start.text={tmp_path / 'text.txt'}", "--config.warm_start.window=16",
                              "--config.warm_start.batch=16", *changes], "")


@pytest.fixture(name="text")
def text_file(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("1 2 > 3 : 1 + 2 = 3 2 4 > 8 : 2 * 4 = 8 " * 20)
    return path


def test_a_policy_learns_a_text_and_the_base_is_kept_under_its_digest(tmp_path, text):
    settings = experiment(tmp_path)
    warm_start.base(build(settings))
    losses = [line["loss/supervised"] for line in RunFolder(warm_start.base_path(settings)).metrics("warm_start")]
    assert losses[0] > 0.5
    assert losses[-1] < 0.15  # a period of 18 tokens is known after its first ones
    kept = warm_start.base_key(settings)
    kernels = experiment(tmp_path, "--config.model.attention=splash", "--config.model.decode_attention=kernel")
    assert warm_start.base_key(kernels) == kept
    text.write_text("1 + 2 = 3")
    assert warm_start.base_key(settings) != kept


@pytest.mark.slow
def test_averaged_weights_are_the_base_where_they_are_asked_for(tmp_path, text):
    short = ["--config.warm_start.steps=8", "--config.warm_start.refine_steps=0"]
    bases = [warm_start.base(build(experiment(tmp_path, *short, f"--config.warm_start.optimizer.average={rate}")))
             for rate in (0.0, 0.9)]
    plain, averaged = (np.asarray(each["embed"]["embedding"]) for each in bases)
    assert plain.shape == averaged.shape
    assert np.abs(plain - averaged).max() > 1e-4


@pytest.fixture(name="short")
def short_experiment(tmp_path, text):
    """Settings of 25 updates, saved after every 10."""
    return lambda place, *changes: dataclasses.replace(experiment(
        tmp_path, "--config.warm_start.steps=15", "--config.warm_start.refine_steps=10",
        "--config.checkpoint.warm_start_every=10", "--config.checkpoint.background=False", *changes),
        workdir=str(tmp_path / place))


def left(settings):
    """What a warm start leaves: the base's arrays and its metrics."""
    path = warm_start.base_path(settings)
    assert not (path / "checkpoints").exists()
    record = manifest.read(path / "checkpoint")
    return record["arrays"], (path / "metrics.jsonl").read_bytes()


def broken_off(settings, monkeypatch, at, how):
    """A warm start to which something happens before an update."""
    original, calls, lab = warm_start.make_update, [], build(settings)

    def made(*args, **kwargs):
        update = original(*args, **kwargs)

        def passing(*arguments):
            calls.append(1)
            if len(calls) == at:
                how()
            return update(*arguments)

        return passing

    with monkeypatch.context() as patched, Stops(30) as stops:
        patched.setattr(warm_start, "make_update", made)
        with pytest.raises(BaseException, match=r"stopped by SIGTERM|killed") as error:
            warm_start.base(lab, stops)
    assert not (warm_start.base_path(settings) / "checkpoint").exists()
    return error.value


def killed():
    raise RuntimeError("killed")  # nothing in the way saves or tidies up after it


def test_t1_t2_a_warm_start_goes_on_to_the_same_bits_however_it_was_broken_off(short, monkeypatch, capsys):
    """A kill after update 23 goes on after the save of 20, one after update 4 begins again, SIGTERM saves at once;
    then twice on the same run."""
    whole = short("whole")
    warm_start.base(build(whole))
    for place, breaks in (("late", [(24, killed)]), ("early", [(5, killed)]),
                          ("both", [(13, lambda: os.kill(os.getpid(), signal.SIGTERM)), (3, killed)])):
        settings = short(place)
        for at, how in breaks:
            error = broken_off(settings, monkeypatch, at, how)
            assert getattr(error, "code", 75) == 75
        warm_start.base(build(settings))
        assert left(settings) == left(whole), place
    said = capsys.readouterr().err
    assert said.count("goes on after step 20") == 1
    assert said.count("goes on after step 13") == 2


def test_a_warm_start_of_other_code_begins_again_and_says_so(short, monkeypatch, capsys):
    settings = short("run")
    broken_off(settings, monkeypatch, 12, killed)
    with monkeypatch.context() as patched:
        patched.setattr(warm_start.fingerprints, "code_digest", lambda: "f" * 64)
        broken_off(settings, monkeypatch, 12, killed)
    said = capsys.readouterr().err
    assert "the warm start begins again: " in said
    assert "-> ffffffff" in said
    broken_off(short("run", "--config.resume=never"), monkeypatch, 12, killed)
    assert "goes on after" not in capsys.readouterr().err


@pytest.mark.parametrize(("content", "changes", "named"), [
    ("1 2 > 3 : 1 plus 2", {}, r"warm_start\.text: .*text\.txt: 'plus' is not one of the"),
    (None, {}, r"there is no file .*text\.txt"),
    ("1 2", {"window": 10**6}, r"warm_start\.window=1000000: the model was made for"),
])
def test_t61_text_that_cannot_be_trained_on(tmp_path, content, changes, named):
    settings = experiment(tmp_path)
    settings = dataclasses.replace(settings, warm_start=dataclasses.replace(settings.warm_start, **changes))
    if content:
        (tmp_path / "text.txt").write_text(content)
    with pytest.raises(ConfigError, match=named):
        warm_start.base(build(settings))
