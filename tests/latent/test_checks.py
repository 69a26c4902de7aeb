"""Self-verification: verdicts come from generated text alone, with the published weights; no fault is a low reward."""

import numpy as np
import pytest

from rl_reasoning import keys
from rl_reasoning.config import Sampling
from rl_reasoning.latent import checks
from rl_reasoning.latent.attempts import Answered
from rl_reasoning.latent.checks import SelfChecks, check_prompt, read_verdict
from rl_reasoning.models.decoder import DecoderConfig
from rl_reasoning.rollouts import Policy
from rl_reasoning.sampling.scripted import ScriptedEngine
from rl_reasoning.types import Message, Problem
from tests.latent import tiny

PROBLEMS = (Problem("a", (Message("user", "shot"), Message("user", "1 + 1 = ?")), None, "t"),
            Problem("b", (Message("user", "2 + 2 = ?"),), None, "t"))


class Characters:
    """A tokenizer of one id a character."""

    eos_id, vocabulary_size = 0, 0x110000

    def encode_prompt(self, prompt):
        return [ord(letter) for message in prompt for letter in message.content]

    def decode(self, ids):
        return "".join(map(chr, ids))


@pytest.fixture(name="make")
def make_checks():
    """SelfChecks of a policy that says what a function of the question answers; and the questions put to it."""
    def make(says, context=1000, **changes):
        asked = []

        def answer(ids, number, sample):
            question = "".join(map(chr, ids))
            asked.append((number, question))
            return [ord(letter) for letter in says(question)]

        policy = Policy(DecoderConfig(300, 1, 8, 1, 1, 8, 8, context=context), Characters(), 10,
                        ScriptedEngine(answer, eos_id=0))
        found = SelfChecks(policy, None, PROBLEMS, max_tokens=8, sampling=Sampling(max_tokens=200),
                           key=keys.derive(0, keys.Role.SEARCH, 1), batch=4, **changes)
        return found, asked

    return make


def answered(*texts):
    return Answered(PROBLEMS[:len(texts)], texts, None, np.zeros((len(texts), 8)), np.ones(len(texts)),
                    np.arange(len(texts)))


@pytest.mark.parametrize(("text", "verdict"), [
    ("VERDICT: true", True), ("so.\nVerdict: FALSE.", False), ("**VERDICT:** **true**", True),
    ("VERDICT: true\nno, wait. VERDICT: false", False), ("VERDICT: falsehood", None), ("it is true", None), ("", None),
    ("VERDICT: maybe", None), ("VERDICT: true or false", True)])
def test_the_last_verdict_counts(text, verdict):
    assert read_verdict(text) is verdict


def test_no_verdict_is_read_from_the_question_or_the_solution(make):
    """The published code reads the prompt too, where a silent check approves itself."""
    self_checks, asked = make(lambda question: "I cannot say.")
    found = self_checks(answered("VERDICT: true", "\\boxed{4}"))
    assert found.rewards.tolist() == [-1, -1]
    assert found.tokens.tolist() == [52, 52]
    assert "VERDICT: true" in asked[0][1]
    assert self_checks.counts["silent"] == self_checks.counts["asked"] == 8


@pytest.mark.parametrize(("refused", "reward"), [
    ((), 0), (("calculation",), -2 / 6), (("answer",), -1 / 6), (("completeness", "understanding"), -3 / 6),
    (tuple(checks.WEIGHTS), -1)])
def test_weights_are_the_published_ones(make, refused, reward):
    wrong = [checks.QUESTIONS[name] for name in refused]
    self_checks, _ = make(lambda question: f"VERDICT: {not any(part in question for part in wrong)}")
    assert self_checks(answered("x")).rewards[0] == pytest.approx(reward)
    assert f"calculation {0 if 'calculation' in refused else 100} %" in self_checks.described()


def test_the_question_holds_the_last_turn_and_the_solution():
    (turn,) = check_prompt(PROBLEMS[0], "2, I think", "answer")
    assert "1 + 1 = ?" in turn.content
    assert "2, I think" in turn.content
    assert "shot" not in turn.content
    assert isinstance(check_prompt(Problem("c", "1 2 >", None, "t"), "1", "answer"), str)


def test_each_question_has_a_key_of_its_own(make):
    self_checks, asked = make(lambda question: "VERDICT: true")
    self_checks(answered("x", "x"))
    self_checks(answered("x", "x")._replace(numbers=np.array([2, 3])))
    assert len({number for number, _ in asked}) == 16


def test_an_unreadable_answer_can_cost_more(make):
    self_checks, _ = make(lambda question: "VERDICT: true", penalty=2.0, readable=lambda problem, text: text == "x")
    assert self_checks(answered("x", "y")).rewards.tolist() == pytest.approx([0, -2 / 6])


def test_a_question_that_does_not_fit_gives_no_reward(make):
    self_checks, _ = make(lambda question: "VERDICT: true")
    found = self_checks(answered("x" * 99, "x"))
    assert np.isnan(found.rewards[0])
    assert found.rewards[1] == 0
    assert found.tokens.tolist() == [0, 52]


def test_a_policy_without_words_or_room_is_refused(make):
    with pytest.raises(ValueError, match=r"latent\.reward='self' asks the policy in words, which it has not"):
        SelfChecks(tiny.POLICY, None, tiny.PROBLEMS, max_tokens=8, sampling=Sampling(), key=tiny.KEY, batch=4)
    with pytest.raises(ValueError, match=r"200 of its own \(latent\.checks\.max_tokens\); .* made for 300"):
        make(lambda question: "", context=300)
