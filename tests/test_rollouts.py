"""Between problems, an engine and a verifier: what is unscorable, and weights that are not the policy's."""

import jax
import numpy as np
import pytest

from rl_reasoning.config import Sampling
from rl_reasoning.models.decoder import DecoderConfig, initialize
from rl_reasoning.rollouts import Policy, sample, verify
from rl_reasoning.sampling.scripted import ScriptedEngine
from rl_reasoning.sampling.weights import StaleWeights, fingerprint
from rl_reasoning.tasks.pool import InProcess
from rl_reasoning.types import Outcome, Problem, StopReason, Verdict

CONFIG = DecoderConfig(vocabulary=8, layers=1, width=4, heads=1, kv_heads=1, head_dim=2, mlp=4)
PARAMETERS = initialize(CONFIG, jax.random.key(0))
PROBLEMS = [Problem("a", "1", 3, "copy"), Problem("b", "12", 4, "copy")]


class Digits:
    vocabulary_size, eos_id = 8, 0

    def encode_prompt(self, prompt):
        return [int(digit) for digit in prompt]

    def decode(self, ids):
        return "".join(map(str, ids)).rstrip("0")


class Copy:
    name, in_process = "copy", True

    def verify(self, problem, text):
        assert text, "an answer without a token never gets here"
        right = text == str(problem.answer)
        return Verdict(Outcome.RIGHT if right else Outcome.WRONG, float(right), text, "")


def policy(**options):
    engine = ScriptedEngine(lambda prompt, number, answer: [2 + answer] * len(prompt) + [0], 0, **options)
    return Policy(CONFIG, Digits(), 2, engine)


def draw(policy):
    return sample(policy, PARAMETERS, PROBLEMS, range(1, 3), jax.random.key(0), Sampling(max_tokens=3))


def test_answers_come_by_problem_and_number():
    prompts, completions = draw(policy())
    assert completions.ids[:, :, 0].tolist() == [[3, 4], [3, 4]]
    assert completions.lengths.tolist() == [[2, 2], [3, 3]]
    assert (completions.stop_reasons == StopReason.EOS).all()
    rollouts = verify(policy(), InProcess(Copy()), PROBLEMS, prompts, completions)
    assert rollouts.rewards.tolist() == [[1, 0], [0, 0]]


@pytest.mark.parametrize("reason", [StopReason.NAN, StopReason.CANCELLED])
def test_an_answer_that_was_not_brought_to_its_end_is_unscorable_and_not_wrong(reason):
    prompts, completions = draw(policy())
    completions.stop_reasons[0, 1], completions.lengths[0, 1] = reason, 0
    verdict = verify(policy(), InProcess(Copy()), PROBLEMS, prompts, completions).verdicts[0][1]
    assert verdict.outcome == Outcome.CRASH
    assert np.isnan(verdict.reward)
    assert ("finite" if reason == StopReason.NAN else "cancelled") in verdict.reason


def test_an_engine_that_skips_an_update_is_found():
    """T32."""
    draw(policy(fingerprint=fingerprint(PARAMETERS)))
    stale = policy(fingerprint=fingerprint(jax.tree.map(lambda leaf: leaf + 1, PARAMETERS)))
    with pytest.raises(StaleWeights):
        draw(stale)
