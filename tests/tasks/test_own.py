"""Own verifiers: what a function's value means, and that the README's lines do what they say."""

import math
import pathlib
import re
import textwrap

import pytest

from rl_reasoning import config
from rl_reasoning.tasks.countdown import Countdown
from rl_reasoning.tasks.own import OwnVerifier, as_verdict
from rl_reasoning.tasks.pool import VerifierPool
from rl_reasoning.types import Outcome, Verdict

README = pathlib.Path(__file__).parent.parent.parent / "README.md"


def test_the_readme_shows_a_verifier_in_ten_lines_and_it_works(tmp_path, monkeypatch):
    """The lines are cut out of the README, written to the file they name, and used as a config would."""
    section = README.read_text().split("## Your own verifier")[1].split("\n## ")[0]
    code = textwrap.dedent(re.search(r"    # my_reward\.py\n(?:    .*\n)+", section)[0])
    assert len(code.strip().splitlines()) <= 10
    (function,) = re.findall(r"--config\.verifier\.function=(\S+)", section)
    (tmp_path / "my_reward.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    task = Countdown(config.Countdown())
    problem = task.problem((3, 5, 7), 26)
    with VerifierPool(task, config.Verifier(function=function, workers=1)) as pool:
        verdicts = pool.verify_all([(problem, text) for text in ("21 + 5 = 26", "3 + 5 = 8", "", "\ud800")])
    assert [v.reward for v in verdicts] == [1.0, 0.1, 0.0, 0.0]
    assert [v.outcome for v in verdicts] == [Outcome.RIGHT, Outcome.PARTIAL, Outcome.WRONG, Outcome.WRONG]


@pytest.mark.parametrize(("value", "outcome", "reward"), [
    (1, "right", 1.0), (True, "right", 1.0), (0.0, "wrong", 0.0), (False, "wrong", 0.0), (0.25, "partial", 0.25),
    (-1, "partial", -1.0), ("0.5", "partial", 0.5)])
def test_a_number_is_a_reward(value, outcome, reward):
    verdict = as_verdict(value)
    assert (verdict.outcome, verdict.reward) == (outcome, reward)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), "right", [1.0], 10**400, object()])
def test_what_is_no_number_is_unscorable(value):
    verdict = as_verdict(value)
    assert verdict.outcome == Outcome.CRASH
    assert math.isnan(verdict.reward)


def test_a_verdict_stays_as_it_is():
    verdict = Verdict(Outcome.UNPARSABLE, 0.0, None, "no box")
    assert as_verdict(verdict) is verdict


@pytest.mark.parametrize("name", ["", "module", "module:", ":f", "a b:c", "m:f:g", "m:f()", "../m:f"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match="module:function"):
        OwnVerifier(name)
