"""The maths example on a tiny model and a tiny file: from the files to the report."""

import importlib.util
import json
import pathlib
import sys

import numpy as np
import pytest

from experiments.configs import math as example
from rl_reasoning import rollouts
from rl_reasoning.config import Math as Settings
from rl_reasoning.edge import ConfigError, read_experiment
from rl_reasoning.evaluation.evaluate import sample_records
from rl_reasoning.evaluation.summary import Tally
from rl_reasoning.loop import run_experiment
from rl_reasoning.loop.reinforce import describe
from rl_reasoning.loop.setup import build
from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.reporting.run_folder import RunFolder
from rl_reasoning.tasks.maths.task import Math
from rl_reasoning.tasks.pool import InProcess
from rl_reasoning.tokenizers.symbols import SymbolTokenizer
from rl_reasoning.types import Completions, Problem, Prompts

TESTS = pathlib.Path(__file__).parents[1]


def helper(folder, name):
    """A helper module of another test folder."""
    spec = importlib.util.spec_from_file_location(name, TESTS / folder / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(name="files", scope="module")
def model_and_problems(tmp_path_factory):
    folder = tmp_path_factory.mktemp("math")
    maths_files = helper("data", "maths_files")
    return {"model": str(helper("models", "gguf_fixture").write(folder / "tiny.gguf")),
            "train": maths_files.write_lines(folder / "train.jsonl", [
                *({**row, "level": "Level 1"} for row in maths_files.sums(range(6))), "{broken",
                {"problem": "long " * 300, "answer": "1", "level": "Level 1"}]),
            "held_out": maths_files.write_lines(folder / "test.jsonl", [
                {**row, "level": 1} for row in maths_files.sums(range(100, 106))]), "workdir": str(folder / "runs")}


def smoke(files, **changes):
    config = example.get_config("smoke")
    config.model.source, config.workdir = files["model"], files["workdir"]
    config.task.math.train, config.task.math.held_out = (files["train"],), (files["held_out"],)
    with config.ignore_type():
        config.task.math.update(changes)
    return read_experiment(config)


@pytest.mark.slow
def test_the_example_runs_and_says_what_it_found_in_the_data(files, capsys):
    assert run_experiment(smoke(files)) == 0
    told = capsys.readouterr().err
    assert "7 of 8 rows used, 1 bad, 0 repeated" in told
    assert "overlap of 7 training and 6 held-out problems: 0 with the same text" in told
    assert told.index("1 dropped (longer than 256)") < told.index("run folder:")
    folder = RunFolder(pathlib.Path(files["workdir"]) / "math-smoke-w_reinforce-seed0")
    record = json.loads((folder.path / "data.json").read_text())
    assert record["train"]["bad"][0].startswith(f"{files['train']}:7: broken JSON")
    assert len(record["train"]["dropped"]) == 1
    assert [line["step"] for line in folder.metrics("rl")] == [1]
    assert "format/share" in folder.metrics("rl")[0]


def test_t45_strict_data_end_the_run_before_it_starts(files):
    with pytest.raises(ConfigError, match=r"train\.jsonl:7: broken JSON"):
        build(smoke(files, strict=True))


def test_t48_an_overlap_ends_the_run_before_it_starts(files):
    with pytest.raises(ConfigError, match=r"set task\.math\.overlap to drop"):
        build(smoke(files | {"held_out": files["train"]}, overlap="refuse"))


@pytest.mark.parametrize(("changes", "named"), [
    ({"train": ()}, r"task\.math\.train = \(\)"),
    ({"weights": ("1", "2")}, r"task\.math\.weights .* one for each of 1"),
    ({"weights": ("-1",)}, r"'-1' is not"), ({"grader": "best"}, r"task\.math\.grader = 'best'.*exact, math_verify"),
    ({"second_share": 1.5}, r"task\.math\.second_share = 1.5.*0\.0 to 1\.0")])
def test_t61_settings_that_cannot_be(files, changes, named):
    with pytest.raises(ConfigError, match=named):
        smoke(files, **changes)


def test_t39_disagreement_of_two_graders_is_counted():
    """Of four answers to 3, the published rules take 0.03 and 300 for right, too."""
    task = Math(Settings(grader="exact", second_grader="math_equal", second_share=1.0))
    words = [r"\boxed{3}", r"\boxed{4}", r"\boxed{0.03}", r"\boxed{300}"]
    policy = rollouts.Policy(DecoderConfig(8, 1, 8, 1, 1, 8, 8), SymbolTokenizer(words), 1)
    ids = np.asarray([[policy.tokenizer.encode(word) for word in words]], np.int32)
    ones = np.ones((1, 4), np.int32)
    problem = Problem("math:0", "?", "3", "math", {"question": "?"})
    prompts = Prompts(np.ones((1, 1), np.int32), np.ones(1, np.int32))
    scored = rollouts.verify(policy, InProcess(task), [problem], prompts,
                             Completions(ids, np.zeros(ids.shape, np.float32), ones, 0 * ones))
    tally = Tally()
    tally.add(sample_records(scored))
    for found in (describe(scored, np.zeros(4, int)), tally.summary(samples=4, resamples=10, seed=0)):
        assert (found["grader/second"], found["grader/disagreement"]) == (4.0, 0.5)
    assert [record["second"] for record in sample_records(scored)] == ["right", "wrong", "right", "right"]
