"""What every surrogate promises, under all four ways of averaging at once."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning import losses
from rl_reasoning.losses import INVARIANT_AGGREGATIONS as AGGREGATIONS
from rl_reasoning.losses import SurrogateInputs, aggregate, reduce
from tests.compiling import COMPILE_FAST

ROWS, LENGTH, MAX_LENGTH = 8, 5, 9
LENGTHS = np.array([5, 2, 0, 1, 3, 4, 5, 2])  # an empty row and a one-token row: T19
GROUPS = np.array([7, 3, 3, 7, 3, 7, 3, 7])

SURROGATES = {
    "clipped": losses.clipped,
    "clipped_higher_dual": functools.partial(losses.clipped, clip_high=0.28, dual_clip=3.0),
    "reinforce": losses.reinforce,
    "cispo": functools.partial(losses.cispo, cap=1.3, floor=0.8),
    "sapo": losses.sapo,
    "gppo": losses.gppo,
    "ce_gppo": functools.partial(losses.gppo, clip_high=0.2, beta_low=0.5, dual_clip=10.0),
    "gspo": functools.partial(losses.gspo, clip_low=0.1, clip_high=0.1),
    "luspo": functools.partial(losses.luspo, clip_low=0.1, clip_high=0.1),
    "gmpo": losses.gmpo,
    "vespo": losses.vespo,
    "clip_cov": functools.partial(losses.clip_cov, fraction=0.2, covariance_low=-1.0),
    "kl_cov": functools.partial(losses.kl_cov, fraction=0.2),
    "pacs": losses.pacs,
    "pacs_grpo_actor": functools.partial(losses.pacs, coupling="grpo", balanced=False, actor_term=True),
}
PACS_MODE = AGGREGATIONS.index("sequence_mean_token_mean")
READS_REWARDS = ("pacs", "pacs_grpo_actor")
VALUE_IS_NOT_THE_INTEGRAL = ("cispo", "vespo", "gppo", "ce_gppo", "pacs_grpo_actor")
FIELDS = ("logp", "old_logp", "advantages", "rewards", "ref_logp")
STATISTICS = {"tokens", "ratio_excess_sum", "ratio_excess_square_sum", "kl_behaviour_sum", "clipped_positive",
              "clipped_negative"}

every_surrogate = pytest.mark.parametrize("name", SURROGATES)


def random_inputs(seed=0, spread=0.4):
    rng = np.random.default_rng(seed)
    mask = np.arange(LENGTH)[None, :] < LENGTHS[:, None]
    logp = -rng.exponential(size=(ROWS, LENGTH))
    return SurrogateInputs(
        logp=logp, old_logp=logp - spread * rng.normal(size=logp.shape),
        advantages=np.broadcast_to(rng.normal(size=(ROWS, 1)), logp.shape), mask=mask, groups=GROUPS,
        rewards=rng.integers(0, 2, ROWS).astype(float), ref_logp=logp + rng.normal(size=logp.shape),
        selected=mask & (rng.random(logp.shape) < 0.3))


def evaluate(surrogate, inputs):
    """The sums over [4] aggregations, their derivatives [4, N, T] by every field, [4] denominators, statistics."""
    def numerators(fields):
        terms = surrogate(inputs._replace(**fields))
        shares = [aggregate(terms.weights, mode, max_length=MAX_LENGTH) for mode in AGGREGATIONS]
        sums = jnp.stack([(terms.values * weights).sum() for weights, _ in shares])
        return sums, (sums, jnp.stack([denominator for _, denominator in shares]), terms.sums)

    fields = {field: getattr(inputs, field) for field in FIELDS}
    derivatives, (sums, denominators, statistics) = jax.jacrev(numerators, has_aux=True)(fields)
    return sums, derivatives, denominators, statistics


@functools.cache
def compiled(name):
    return jax.jit(functools.partial(evaluate, SURROGATES[name]), compiler_options=COMPILE_FAST)


def run(name, inputs, denominators=None):
    """Losses [4], one for each aggregation, their gradients [4, N, T], and the statistics."""
    sums, derivatives, own, statistics = jax.tree.map(np.asarray, compiled(name)(on_device(inputs)))
    total = np.maximum(own if denominators is None else denominators, 1)
    return sums / total, derivatives["logp"] / total[:, None, None], statistics


def on_device(inputs):
    return jax.tree.map(jnp.asarray, inputs)


def take(inputs, rows):
    return jax.tree.map(lambda x: x[rows], inputs)


def widen(inputs):
    return jax.tree.map(lambda x: np.pad(x, ((0, 0), (0, 7))) if x.ndim == 2 else x, inputs)


def assert_same(actual, expected, atol=1e-12):
    for a, e in zip(actual[:2], expected[:2], strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-9, atol=atol)
    assert actual[2].keys() == expected[2].keys()
    for key in expected[2]:
        np.testing.assert_allclose(actual[2][key], expected[2][key], rtol=1e-9, atol=1e-12, err_msg=key)


def on_policy(inputs):
    return inputs._replace(old_logp=inputs.logp, selected=np.zeros_like(inputs.mask))


@pytest.mark.parametrize("name", [name for name in SURROGATES if name not in READS_REWARDS])
def test_no_advantage_no_gradient(name, x64):
    inputs = on_policy(random_inputs())
    value, gradient, _ = run(name, inputs._replace(advantages=np.zeros_like(inputs.logp)))
    assert not value.any()
    assert not gradient.any()


@pytest.mark.parametrize("reward", [0.0, 1.0])
def test_equal_rewards_no_gradient(reward, x64):
    inputs = on_policy(random_inputs())._replace(rewards=np.full(ROWS, reward))
    np.testing.assert_allclose(run("pacs", inputs)[1][PACS_MODE], 0, atol=1e-16)


@pytest.mark.parametrize("name", [name for name in SURROGATES if name not in READS_REWARDS])
def test_t24_on_policy_gradient_is_that_of_reinforce(name, x64):
    """At the old policy all surrogates push by -A logp, whatever they do away from it."""
    inputs = on_policy(random_inputs())
    share = inputs.mask / inputs.mask.sum()
    np.testing.assert_allclose(run(name, inputs)[1][0], -inputs.advantages * share, atol=1e-14)


@every_surrogate
def test_only_the_trained_policy_is_differentiated(name, x64):
    derivatives = compiled(name)(on_device(random_inputs()))[1]
    assert derivatives.pop("logp").any()
    assert derivatives.keys() == {field for field in FIELDS if field != "logp"}
    assert all(not derivative.any() for derivative in derivatives.values())


def with_garbage(inputs, garbage):
    """The inputs with something else in the masked slots."""
    return inputs._replace(**{field: np.where(inputs.mask, getattr(inputs, field), garbage)
                              for field in ("logp", "old_logp", "advantages", "ref_logp")})


@every_surrogate
@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e4])
def test_masked_slots_are_never_read(name, garbage, x64):
    inputs = random_inputs()
    assert_same(run(name, with_garbage(inputs, garbage)), run(name, inputs), atol=0)


@every_surrogate
def test_t19_t22_empty_rows_and_columns_are_absent(name, x64):
    """A group alone, padded to the right, is the same as that group among rows that are masked out."""
    inputs, rows = random_inputs(), np.flatnonzero(GROUPS == 3)
    masked = inputs._replace(mask=inputs.mask & (GROUPS == 3)[:, None], selected=inputs.selected)
    value, gradient, sums = run(name, masked)
    alone = run(name, widen(take(inputs, rows)))
    assert np.isfinite(gradient).all()
    assert not alone[1][:, :, LENGTH:].any()
    assert_same((alone[0], alone[1][:, :, :LENGTH], alone[2]), (value, gradient[:, rows], sums))


@every_surrogate
def test_t19_nothing_but_empty_rows(name, x64):
    inputs = random_inputs()
    value, gradient, sums = run(name, inputs._replace(mask=np.zeros_like(inputs.mask)))
    assert not value.any()
    assert not gradient.any()
    assert all(total == 0 for total in sums.values())


@every_surrogate
def test_t21_micro_batches_add_up(name, x64):
    """Split between groups, with the denominators of the whole, in every aggregation."""
    inputs = random_inputs()
    value, gradient, sums = run(name, inputs)
    parts = [np.flatnonzero(group == GROUPS) for group in (7, 3)]
    denominators = sum(np.asarray(compiled(name)(on_device(widen(take(inputs, part))))[2]) for part in parts)
    results = [run(name, widen(take(inputs, part)), denominators) for part in parts]
    joined = np.zeros_like(gradient)
    for part, result in zip(parts, results, strict=True):
        joined[:, part] = result[1][:, :, :LENGTH]
    total = jax.tree.map(np.add, results[0][2], results[1][2])
    assert_same((results[0][0] + results[1][0], joined, total), (value, gradient, sums))


@every_surrogate
def test_t21_rows_in_any_order(name, x64):
    inputs, order = random_inputs(), np.random.default_rng(1).permutation(ROWS)
    value, gradient, sums = run(name, inputs)
    assert_same(run(name, take(inputs, order)), (value, gradient[:, order], sums))


@every_surrogate
def test_t22_where_the_padding_is(name, x64):
    """Left padding, right padding and holes inside: the tokens of a row may stand anywhere."""
    inputs, order = random_inputs(), np.random.default_rng(2).permutation(LENGTH)
    value, gradient, sums = run(name, inputs)
    moved = jax.tree.map(lambda x: x[:, order] if x.ndim == 2 else x, inputs)
    assert_same(run(name, moved), (value, gradient[:, :, order], sums))


@every_surrogate
def test_compiled_is_the_same(name, x64):
    """The plain call gets NaN in its masked slots: a compiler may turn a product with a mask into a choice."""
    inputs = random_inputs()
    terms = SURROGATES[name](on_device(with_garbage(inputs, np.nan)))
    value, _, sums = run(name, inputs)
    plain = [reduce(terms, mode, max_length=MAX_LENGTH) for mode in AGGREGATIONS]
    assert_same((value, np.zeros(1), sums), (np.array(plain), np.zeros(1), terms.sums))


@every_surrogate
def test_t20_far_ratios_stay_finite(name):
    """float32: log-ratios of +-1e4, and tokens that one of the policies never gives."""
    inputs = jax.tree.map(lambda x: x.astype(np.float32) if x.dtype == np.float64 else x, random_inputs())
    logp, old_logp = inputs.logp.copy(), inputs.old_logp.copy()
    logp[0, 0], old_logp[0, 1], old_logp[0, 2] = -1e4, -1e4, -np.inf
    logp[5, 0], logp[5, 1], logp[6, 0], old_logp[6, 0], old_logp[7, 0] = -np.inf, -1e4, -np.inf, -np.inf, -np.inf
    value, gradient, sums = run(name, inputs._replace(logp=logp, old_logp=old_logp))
    assert np.isfinite(value).all()
    assert np.isfinite(gradient).all()
    assert all(np.isfinite(total) for total in sums.values())
    if name in ("clipped", "gppo", "cispo", "gspo", "luspo", "gmpo"):
        assert sums["clipped_positive"] + sums["clipped_negative"] > 0


@pytest.mark.parametrize("name", [name for name in SURROGATES if name not in VALUE_IS_NOT_THE_INTEGRAL])
def test_t24_finite_differences(name, x64):
    inputs = random_inputs()
    _, gradient, _ = run(name, inputs)
    step = 1e-6
    for row, column in ((0, 0), (1, 1), (3, 0), (4, 2), (6, 4)):
        moved = [inputs.logp.copy(), inputs.logp.copy()]
        moved[0][row, column] += step
        moved[1][row, column] -= step
        up, down = (run(name, inputs._replace(logp=logp))[0] for logp in moved)
        np.testing.assert_allclose((up - down) / (2 * step), gradient[:, row, column], atol=2e-9)


@every_surrogate
def test_statistics(name, x64):
    inputs = random_inputs()
    sums = run(name, inputs)[2]
    assert sums.keys() >= STATISTICS
    assert sums["tokens"] == LENGTHS.sum()
    log_ratio = (inputs.logp - inputs.old_logp)[inputs.mask]
    np.testing.assert_allclose(sums["kl_behaviour_sum"], (np.exp(log_ratio) - 1 - log_ratio).sum())
    assert sums["clipped_positive"] + sums["clipped_negative"] <= LENGTHS.sum()
