"""The decode loop against teacher forcing, and that an answer depends on its own key alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning import keys
from rl_reasoning.config import Sampling
from rl_reasoning.models.decoder import DecoderConfig, branch_mask, hidden_states, initialize, logits
from rl_reasoning.sampling.decode import generate
from rl_reasoning.sampling.draw import support_logprobs
from rl_reasoning.types import Prompts, StopReason

CONFIG = DecoderConfig(vocabulary=19, layers=2, width=16, heads=4, kv_heads=2, head_dim=6, mlp=24)
PARAMETERS = initialize(CONFIG, jax.random.key(0))
EOS = 4
PROMPTS = Prompts(np.array([[3, 1, 2, 9], [7, EOS, 0, 0], [5, 0, 0, 0]], np.int32), np.array([4, 2, 1], np.int32))
NUMBERS = np.array([11, 22, 33], np.uint32)


def run(sampling=None, prompts=PROMPTS, numbers=NUMBERS, samples=4, step=1, parameters=PARAMETERS, eos=EOS):
    answer_keys = keys.per_sample(keys.derive(0, keys.Role.ROLLOUT, step), numbers, jnp.arange(samples))
    sampling = sampling or Sampling(max_tokens=7)
    out = generate(parameters, prompts, answer_keys, config=CONFIG, sampling=sampling, eos_id=eos)
    return jax.tree.map(np.asarray, out)


@pytest.mark.parametrize("sampling", [
    Sampling(max_tokens=7), Sampling(temperature=0.6, max_tokens=7), Sampling(top_k=5, max_tokens=7),
    Sampling(temperature=0.6, top_p=0.95, max_tokens=7)])
def test_log_probabilities_equal_teacher_forced_ones(sampling):
    """T26: ragged prompts, a prompt that holds the end token, early ends; on the support that was sampled."""
    out = run(sampling)
    assert (out.stop_reasons == StopReason.EOS).any()
    assert (out.stop_reasons == StopReason.LENGTH).any()
    for p, n in np.ndindex(out.lengths.shape):
        prompt, answer = PROMPTS.ids[p, :PROMPTS.lengths[p]], out.ids[p, n, :out.lengths[p, n]]
        row = jnp.concatenate([prompt, answer])[None]
        mask = branch_mask(jnp.ones_like(row), jnp.zeros_like(row))
        hidden = hidden_states(CONFIG, PARAMETERS, row, jnp.arange(row.shape[1])[None], mask)[0][0]
        logp = support_logprobs(logits(CONFIG, PARAMETERS, hidden[len(prompt) - 1:-1]), sampling)
        np.testing.assert_allclose(out.logprobs[p, n, :len(answer)], logp[np.arange(len(answer)), answer], atol=1e-5)


def test_lengths_stop_reasons_and_what_lies_beyond():
    """T30: the end token counts, nothing after it does, and only rows that hold it say EOS."""
    out = run(samples=16)
    for ids, logp, length, reason in zip(*(field.reshape(48, *field.shape[2:]) for field in out), strict=True):
        assert EOS not in ids[:length - 1]
        assert (ids[length - 1] == EOS) == (reason == StopReason.EOS)
        assert reason == StopReason.EOS or length == 7
        assert (logp[length:] == 0).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_end_at_once_and_never(sign):
    """T30: a policy that always ends gives one-token answers; one that never does is cut at the limit."""
    biased = jax.tree.map(lambda x: x, PARAMETERS)
    hidden_scale = PARAMETERS["final_norm"]["scale"] * 0 + 1e-3
    biased["final_norm"] = {"scale": hidden_scale}
    biased["embed"] = {"embedding": PARAMETERS["embed"]["embedding"]}
    untied = DecoderConfig(**{**vars(CONFIG), "tied": False})
    head = jnp.zeros((CONFIG.width, CONFIG.vocabulary))
    # A constant direction in every hidden state makes the head's column of the end token decide.
    biased["embed"]["embedding"] = biased["embed"]["embedding"].at[:, 0].set(100.0)
    biased["head"] = {"kernel": head.at[0, EOS].set(sign * 1e6)}
    answer_keys = keys.per_sample(jax.random.key(0), NUMBERS, jnp.arange(2))
    out = generate(biased, PROMPTS, answer_keys, config=untied, sampling=Sampling(max_tokens=5), eos_id=EOS)
    assert set(np.asarray(out.lengths).ravel()) == ({1} if sign > 0 else {5})
    assert set(np.asarray(out.stop_reasons).ravel()) == {StopReason.EOS if sign > 0 else StopReason.LENGTH}


def test_an_answer_depends_on_its_problem_and_number_alone():
    """T28: other order, fewer problems, other sample counts, wider padding: the same tokens."""
    whole = run()
    turned = run(prompts=Prompts(*(x[::-1] for x in PROMPTS)), numbers=NUMBERS[::-1])
    alone = run(prompts=Prompts(*(x[1:2] for x in PROMPTS)), numbers=NUMBERS[1:2])
    fewer = run(samples=2)
    wide = run(prompts=Prompts(np.pad(PROMPTS.ids, ((0, 0), (0, 5)), constant_values=13), PROMPTS.lengths))
    np.testing.assert_array_equal(turned.ids[::-1], whole.ids)
    np.testing.assert_array_equal(alone.ids[0], whole.ids[1])
    np.testing.assert_array_equal(fewer.ids, whole.ids[:, :2])
    np.testing.assert_array_equal(wide.ids, whole.ids)


def test_noise_changes_with_step_problem_and_sample_and_with_nothing_else():
    """T27: no noise is replayed."""
    same = Prompts(np.tile(PROMPTS.ids[:1], (2, 1)), np.tile(PROMPTS.lengths[:1], 2))
    out = run(prompts=same, numbers=NUMBERS[:2], samples=8)
    again = run(prompts=same, numbers=NUMBERS[:2], samples=8)
    later = run(prompts=same, numbers=NUMBERS[:2], samples=8, step=2)
    np.testing.assert_array_equal(out.ids, again.ids)
    np.testing.assert_array_equal(out.logprobs, again.logprobs)
    assert (out.ids[0] != out.ids[1]).any()
    assert (out.ids != later.ids).any()
    assert len({tuple(row) for row in out.ids[0]}) > 1


def test_one_program_serves_any_lengths():
    """T31: other prompts, lengths and parameters do not compile again."""
    run()
    before = generate._cache_size()
    run(prompts=Prompts(PROMPTS.ids[:, ::-1], np.array([1, 4, 3], np.int32)), step=9)
    run(parameters=jax.tree.map(lambda x: x * 1.1, PARAMETERS))
    assert generate._cache_size() == before
