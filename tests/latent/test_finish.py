"""Answers of which the first tokens are given."""

import numpy as np
import pytest

from rl_reasoning.latent.finish import finish
from rl_reasoning.rollouts import Policy
from rl_reasoning.sampling.scripted import ScriptedEngine
from rl_reasoning.types import Prompts, StopReason
from tests.latent import tiny

PROMPTS = tiny.POLICY.encode(tiny.PROBLEMS[:4])


def given(beginnings, sizes):
    return finish(tiny.POLICY, tiny.PARAMETERS, PROMPTS, np.asarray(beginnings, np.int32), np.asarray(sizes, np.int32),
                  tiny.MOST)


def test_an_answers_own_beginning_gives_that_answer():
    whole = given(np.zeros((4, 4)), np.zeros(4))
    again = given(whole.ids[:, :4], np.minimum(whole.lengths, [4, 2, 0, 3]))
    for one, other in zip(again, whole, strict=True):
        np.testing.assert_array_equal(one, other)
    assert {StopReason.EOS, StopReason.LENGTH} == set(whole.reasons)


def test_an_answer_ends_where_its_beginning_ends():
    beginnings = [[1, tiny.EOS, 3, 4], [tiny.EOS, 2, 3, 4], [1, tiny.EOS, 3, 4], [1, 2, 3, tiny.EOS]]
    answers = given(beginnings, [4, 4, 1, 3])
    assert answers.lengths[:2].tolist() == [2, 1]
    assert answers.reasons[:2].tolist() == [StopReason.EOS] * 2
    assert (answers.ids[0] == [1] + [tiny.EOS] * 7).all()
    assert answers.ids[2, 0] == 1  # its end of sequence is not part of the beginning
    assert answers.ids[3, :3].tolist() == [1, 2, 3]


@pytest.mark.parametrize(("rest", "length", "reason"), [
    ([5, 6, 0], 5, StopReason.EOS), ([5, 6, 7, 0], 6, StopReason.EOS), ([5, 6, 7, 8, 0], 6, StopReason.LENGTH),
    ([5] * 9, 6, StopReason.LENGTH)])
def test_beginning_and_continuation_share_the_room(rest, length, reason):
    """The engine is asked for what follows prompt and beginning, and its answer is cut at what is left."""
    seen = []
    engine = ScriptedEngine(lambda ids, number, sample: seen.append(ids) or rest, eos_id=0)
    policy = Policy(tiny.CONFIG, type("Ends", (), {"eos_id": 0})(), 3, engine)
    answers = finish(policy, None, Prompts(np.array([[9, 8, 0]], np.int32), np.array([2], np.int32)),
                     np.array([[3, 4, 1]], np.int32), np.array([2], np.int32), 6)
    assert seen == [[9, 8, 3, 4]]
    assert answers.lengths.tolist() == [length]
    assert answers.reasons.tolist() == [reason]
    assert answers.ids[0].tolist() == ([3, 4, *rest] + [0] * 6)[:6]
