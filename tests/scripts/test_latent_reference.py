"""The published algorithm, one problem at a time, gives the answers of the batched search."""

import importlib.util
import pathlib

import pytest

from rl_reasoning.latent import latent_search
from rl_reasoning.latent.rewards import by_function
from tests.latent import tiny

ROOT = pathlib.Path(__file__).parents[2]
TOY = [f"--config={ROOT}/experiments/configs/latent.py:smoke", "--config.warm_start.steps=0",
       "--config.evaluation.problems=2"]


@pytest.fixture(name="script", scope="module")
def reference_script():
    spec = importlib.util.spec_from_file_location("latent_reference", ROOT / "scripts" / "latent_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_answers_are_those_of_the_published_algorithm(script):
    reward, settings = by_function(tiny.odd), tiny.settings()
    search = script.one_at_a_time(tiny.POLICY, tiny.PARAMETERS, reward, settings, tiny.MOST)
    made = latent_search(tiny.POLICY, tiny.PARAMETERS, tiny.PROBLEMS, reward, settings, max_tokens=tiny.MOST,
                         key=tiny.KEY)
    for row, problem in enumerate(tiny.PROBLEMS):
        assert search(problem) == [made.text(row, i) for i in range(made.counts[row])]
    assert made.counts.max() == 5


@pytest.mark.slow
def test_it_times_both_and_refuses_what_is_not_published(script, tmp_path, capsys):
    assert script.main(["x", *TOY, f"--config.workdir={tmp_path}"]) == 0
    first, *_, last = capsys.readouterr().out.splitlines()
    assert "2 problems with the same ones" in first
    assert float(last.removeprefix("ratio ")) > 0
    assert script.main(["x", *TOY, "--config.latent.tokens=sample"]) == 2
    assert "latent.tokens=argmax" in capsys.readouterr().err
