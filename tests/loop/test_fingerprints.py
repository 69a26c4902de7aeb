"""What a run is made of: the same in every process, another one as soon as anything has changed."""

import dataclasses
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from two_arms import make_lab

from rl_reasoning.config import Checkpoint
from rl_reasoning.loop import fingerprints
from rl_reasoning.tokenizers.symbols import SymbolTokenizer
from rl_reasoning.types import Problem

PROBLEM = Problem("a 1", "two?", "2", "test", {"tests": [1, 2], "tags": {"b", "a", "c"}, "table": np.ones(2)})
PROGRAM = """
import numpy as np
from rl_reasoning.loop.fingerprints import problems_digest, code_digest
from rl_reasoning.types import Problem
print(problems_digest([Problem("a 1", "two?", "2", "test",
                               {"tests": [1, 2], "tags": {"b", "a", "c"}, "table": np.ones(2)})]), code_digest())
"""


def test_t65_digests_are_the_same_in_another_process(tmp_path):
    environment = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C",
                                "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", PROGRAM], cwd=tmp_path, env=environment, capture_output=True,
                           text=True, timeout=60, check=True)
    assert ended.stdout.split() == [fingerprints.problems_digest([PROBLEM]), fingerprints.code_digest()]


@pytest.mark.parametrize("change", [{"answer": "3"}, {"prompt": "2?"}, {"id": "a 2"}, {"metadata": {"tests": [1]}}])
def test_t6_data_is_all_that_a_problem_says(change):
    changed = dataclasses.replace(PROBLEM, **change)
    assert fingerprints.problems_digest([PROBLEM]) != fingerprints.problems_digest([changed])


def test_t6_what_differs_is_named_with_old_and_new():
    lab = make_lab(0)
    first = lab.first()
    before = fingerprints.fingerprints(lab, first)
    assert not fingerprints.changes(before, fingerprints.fingerprints(lab, jax.tree.map(np.asarray, first)))
    tokenizer = SymbolTokenizer(["?", "right", "left"])
    experiment = dataclasses.replace(lab.experiment, algorithm="grpo", workdir="elsewhere", checkpoint=Checkpoint(
        every=3), objective={"clip_low": 0.1})
    other = dataclasses.replace(lab, experiment=experiment, train=lab.train[:4],
                                policy=dataclasses.replace(lab.policy, tokenizer=tokenizer))
    found = fingerprints.changes(before, fingerprints.fingerprints(other, jax.tree.map(lambda leaf: leaf + 1, first)))
    assert set(found) == {"algorithm", "objective.clip_low", "data", "tokenizer", "base"}
    assert found["algorithm"] == ["reinforce", "grpo"]
    assert fingerprints.words(found, most=2).startswith("algorithm reinforce -> grpo, base ")
    assert "and 3 more" in fingerprints.words(found, most=2)


def test_a_verifier_of_the_users_own_is_part_of_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_reward.py").write_text("def score(problem, text): return 1.0\n")
    before = fingerprints.module_digest("my_reward:score")
    (tmp_path / "my_reward.py").write_text("def score(problem, text): return 0.0\n")
    assert fingerprints.module_digest("my_reward:score") != before
    assert fingerprints.module_digest("") == ""
