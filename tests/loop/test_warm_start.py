"""A base trained on text: it learns it, is kept under the text's digest, and is refused when that cannot be."""

import dataclasses
import pathlib

import numpy as np
import pytest

from rl_reasoning import edge
from rl_reasoning.edge import ConfigError
from rl_reasoning.loop import warm_start
from rl_reasoning.loop.setup import build
from rl_reasoning.reporting.run_folder import RunFolder

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
    text.write_text("1 + 2 = 3")
    assert warm_start.base_key(settings) != kept


def test_averaged_weights_are_the_base_where_they_are_asked_for(tmp_path, text):
    short = ["--config.warm_start.steps=8", "--config.warm_start.refine_steps=0"]
    bases = [warm_start.base(build(experiment(tmp_path, *short, f"--config.warm_start.optimizer.average={rate}")))
             for rate in (0.0, 0.9)]
    plain, averaged = (np.asarray(each["embed"]["embedding"]) for each in bases)
    assert plain.shape == averaged.shape
    assert np.abs(plain - averaged).max() > 1e-4


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
