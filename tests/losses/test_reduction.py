import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.losses import AGGREGATIONS, INVARIANT_AGGREGATIONS, Terms, aggregate, clipped, reduce

# The same per-token PPO loss under the names of other libraries.
NAMED = {
    "token_mean": -0.3274382,  # TRL dapo, verl token-mean
    "part_token_mean": -0.3274382,  # TRL bnpo; one micro-batch
    "sequence_mean_token_mean": -0.1565207,  # TRL grpo, OpenRLHF sample mode
    "sequence_mean_token_sum": -0.9823146,  # tunix sequence-mean-token-sum-norm at its default norm
    "sequence_sum_token_norm": -0.2455787,  # TRL dr_grpo
}


def random_terms(seed, rows=6, length=5):
    rng = np.random.default_rng(seed)
    mask = np.arange(length)[None, :] < rng.integers(0, length + 1, rows)[:, None]
    return Terms(jnp.where(mask, rng.normal(size=(rows, length)), 0.0), jnp.asarray(mask, jnp.float32), {})


@pytest.mark.parametrize("mode", AGGREGATIONS)
def test_names_of_other_libraries(mode, example, loss_and_gradient):
    loss, _ = loss_and_gradient(clipped, example, mode)
    np.testing.assert_allclose(loss, NAMED[mode], atol=1e-7)


def test_verl_sum_norm_is_denominator_one(example):
    loss = reduce(clipped(example), "sequence_sum_token_norm", max_length=4, denominator=1)
    np.testing.assert_allclose(loss, -0.7367360, atol=1e-7)


@pytest.mark.parametrize("mode", AGGREGATIONS)
def test_definitions(mode):
    terms = random_terms(1)
    values, mask = np.asarray(terms.values, np.float64), np.asarray(terms.weights) > 0
    used = [row[keep] for row, keep in zip(values, mask, strict=True) if keep.any()]
    truth = {"token_mean": np.concatenate(used).mean(), "part_token_mean": np.concatenate(used).mean(),
             "sequence_mean_token_mean": np.mean([r.mean() for r in used]),
             "sequence_mean_token_sum": np.mean([r.sum() for r in used]),
             "sequence_sum_token_norm": np.mean([r.sum() / 7 for r in used])}[mode]
    np.testing.assert_allclose(reduce(terms, mode, max_length=7), truth, rtol=1e-5)


@pytest.mark.parametrize("mode", INVARIANT_AGGREGATIONS)
def test_denominators_add_up_over_micro_batches(mode):
    """T21: any split gives the loss of the whole when the denominator is the sum of the parts'."""
    terms = random_terms(2)
    whole = reduce(terms, mode, max_length=5)
    for cut in (1, 2, 5):
        parts = [Terms(terms.values[s], terms.weights[s], {}) for s in (slice(None, cut), slice(cut, None))]
        total = sum(aggregate(part.weights, mode, max_length=5)[1] for part in parts)
        split = sum(reduce(part, mode, max_length=5, denominator=total) for part in parts)
        np.testing.assert_allclose(split, whole, rtol=1e-5)


@pytest.mark.parametrize("mode", AGGREGATIONS)
def test_empty_batch_is_zero(mode):
    """T19: nothing but masked rows."""
    def loss(values):
        return reduce(Terms(values, jnp.zeros((2, 3)), {}), mode, max_length=3)

    value, gradient = jax.value_and_grad(loss)(jnp.ones((2, 3)))
    assert value == 0
    assert not np.any(gradient)


def test_equal_lengths_make_token_and_sequence_means_equal():
    terms = Terms(random_terms(3).values, jnp.ones((6, 5)), {})
    np.testing.assert_allclose(reduce(terms, "token_mean", max_length=5),
                               reduce(terms, "sequence_mean_token_mean", max_length=5), rtol=1e-5)


@pytest.mark.parametrize(("mode", "max_length", "match"), [
    ("mean", 5, "mode is 'mean'; allowed: token_mean"), ("token_mean", 0, "max_length is 0; allowed: max_length >= 1")])
def test_bad_options(mode, max_length, match):
    with pytest.raises(ValueError, match=match):
        aggregate(jnp.ones((1, 1)), mode, max_length=max_length)
