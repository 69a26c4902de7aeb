"""Slots that share a prompt's cache: when they do, and that nobody can tell from the answers."""

import dataclasses

import jax
import numpy as np
import pytest

from rl_reasoning.config import Mesh, Sampling
from rl_reasoning.parallel import make_layout
from rl_reasoning.sampling import decode
from rl_reasoning.sampling.engine import Buckets, JaxEngine
from rl_reasoning.types import StopReason
from tests.sampling.replay import teacher_forced
from tests.sampling.test_engine import CONFIG, EOS, PARAMETERS, PROMPTS, Spy, assert_equal, run

SETTINGS = Sampling(max_tokens=7)


@pytest.fixture
def shares(monkeypatch):
    """How many slots share a prompt, in each fill."""
    found = []
    monkeypatch.setattr(decode, "fill", Spy(decode.fill, lambda *arguments: found.append(arguments[-1])))
    return found


@pytest.mark.parametrize(("counts", "share"), [
    ((8, 4, 0), 4), ((3, 1, 4), 1), pytest.param((4, 4, 4), 4, marks=pytest.mark.slow),
    pytest.param((6, 2, 4), 2, marks=pytest.mark.slow)])
def test_answers_do_not_tell_that_they_share(shares, counts, share):
    """T28: as many slots as answers, which share prompts, or four, which are refilled; log-probs are right (T26)."""
    found = run(SETTINGS, counts=counts, engine=JaxEngine(CONFIG, EOS))
    assert shares == [share]
    assert_equal(found, run(counts=counts))
    forced = teacher_forced(CONFIG, PARAMETERS, PROMPTS, list(counts), found, SETTINGS, EOS)
    np.testing.assert_allclose(found.logprobs, forced, atol=1e-5)


@pytest.mark.parametrize("block", [64, 3])
def test_the_last_answers_take_copies_of_their_prompts_along(monkeypatch, shares, block):
    """Of caches in one block or in several."""
    monkeypatch.setattr("rl_reasoning.models.cache.BLOCK", block)
    monkeypatch.setattr("rl_reasoning.sampling.engine.LEAST", 2)
    monkeypatch.setattr("rl_reasoning.sampling.engine.WORTH", 0)
    moved = []
    monkeypatch.setattr(decode, "narrow", Spy(decode.narrow, lambda config, _, chosen: moved.append(chosen.size)))
    limits = [1, 2, 1, 7, 2, 1, 3, 2, 1, 7, 2, 3]
    config = dataclasses.replace(CONFIG, context=block)  # says nothing here, but compiles anew
    found = run(SETTINGS, counts=(4, 4, 4), limits=limits, engine=JaxEngine(config, EOS))
    assert (shares, moved) == ([4], [3])
    assert_equal(found, run(counts=(4, 4, 4), limits=limits))


@pytest.mark.parametrize("devices", [1, 4])
def test_when_slots_share(devices):
    layout = make_layout(Mesh(data=devices), CONFIG.sizes) if devices > 1 else None
    engine, windows = JaxEngine(CONFIG, EOS, layout=layout), dataclasses.replace(CONFIG, windows=(0, 3))

    def share(counts, slots, engine=engine):
        return engine._share(np.asarray(counts), slots)

    assert share([4] * 4, 16) == 4
    assert share([8, 8], 16) == {1: 8, 4: 4}[devices], "a device has four slots, and no other's prompts"
    assert share([8, 4], 16) == 4, "slots beyond the answers repeat the last"
    assert share([4, 3], 16) == 1
    assert share([4] * 5, 16) == 1, "slots are refilled"
    assert share([4] * 4, 16, JaxEngine(windows, EOS)) == 1
    assert share([4] * 4, 16, JaxEngine(CONFIG, EOS, buckets=Buckets(slots=(16,)))) == 1, "declared shapes only"
    assert share([4] * 4, 16, JaxEngine(CONFIG, EOS, buckets=Buckets(slots=(16,), shared=(1, 2)))) == 2


def test_shared_on_a_mesh():
    """T28: the same tokens on eight devices, each of which has one prompt."""
    layout = make_layout(Mesh(data=4, fsdp=2), CONFIG.sizes)
    prompts = jax.tree.map(lambda x: np.concatenate([x, x[::-1], x[:2]]), PROMPTS)
    options = {"prompts": prompts, "numbers": list(range(8)), "counts": [4] * 8}
    found = run(SETTINGS, engine=JaxEngine(CONFIG, EOS, layout=layout), **options)
    alone = run(SETTINGS, engine=JaxEngine(CONFIG, EOS), **options)
    np.testing.assert_array_equal(found.ids, alone.ids)
    np.testing.assert_array_equal(found.stop_reasons, alone.stop_reasons)
    np.testing.assert_allclose(found.logprobs, alone.logprobs, atol=1e-5)


def test_an_answer_without_numbers_does_not_spoil_those_that_share_its_prompt():
    broken = jax.tree.map(lambda leaf: leaf, PARAMETERS)
    broken["embed"] = {"embedding": PARAMETERS["embed"]["embedding"].at[9].set(np.nan)}
    found = run(Sampling(max_tokens=7, forbidden_tokens=("9",)), counts=(4, 4, 4), parameters=broken,
                engine=JaxEngine(CONFIG, EOS))
    sick = found.stop_reasons == StopReason.NAN
    np.testing.assert_array_equal(sick[:4], True)  # the first prompt ends with that token
    well = run(Sampling(max_tokens=7, forbidden_tokens=("9",)), counts=(4, 4, 4), parameters=broken)
    assert_equal(found, well)
