"""Numbers that an update tells, made of its sums when they are read; and the compiler's options that it asks for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.losses.objective import Totals
from rl_reasoning.losses.surrogate import SurrogateInputs, added, prepare, terms
from rl_reasoning.training import compiler
from rl_reasoning.training.metrics import Metrics, Told

SUMS = {"ratio_excess_sum": 4.0, "ratio_excess_square_sum": 8.0, "kl_behaviour_sum": 1.0, "clipped_positive": 2.0,
        "clipped_negative": 3.0, "entropy_sum": 5.0, "gradient_right": 1.0, "gradient_all": 4.0, "loss/policy": -0.5}
READ = {"ratio/mean": 2.0, "ratio/std": 1.0, "policy/kl_behaviour": 0.25, "ratio/clipped_positive": 0.5,
        "ratio/clipped_negative": 0.75, "policy/entropy": 1.0, "gradient/right_share": 0.25, "loss/policy": -0.5,
        "ratio/log_max": 0.7, "optimizer/gradient_norm": 3.0, "optimizer/skipped": 0.0, "optimizer/idle": 0.0}


def told(sums, norm, busy=True):
    return jax.tree.map(jnp.asarray, Metrics(Told(sums, Totals(4.0, 4.0, 1.0, 5.0), 0.7, busy), norm))


def test_means_are_of_the_whole_updates_tokens():
    assert dict(told(SUMS, 3.0)) == pytest.approx(READ)
    more = dict(told(SUMS | {"kl_reference_sum": 6.0, "selected": 1.0}, 3.0))
    assert (more["policy/kl_reference"], more["tokens/selected"]) == (1.5, 0.25)


@pytest.mark.parametrize(("norm", "busy", "skipped", "idle"), [
    (np.nan, True, 1, 0), (np.inf, True, 1, 0), (0.0, False, 0, 1)])
def test_an_update_that_changed_nothing_says_why(norm, busy, skipped, idle):
    metrics = told(SUMS, norm, busy)
    assert (metrics["optimizer/skipped"], metrics["optimizer/idle"]) == (skipped, idle)


@pytest.mark.parametrize("spread", [0.0, 1e-5, 1e-3])
def test_the_ratios_spread_close_to_the_policy_is_not_their_rounding(spread):
    """Squares of float32 numbers near 1 would say up to 3e-4 of ratios that are all 1."""
    log_ratio = np.float32(spread) * np.random.default_rng(0).standard_normal((8, 64), np.float32)
    rows = jnp.zeros((8, 64))
    prepared = prepare(SurrogateInputs(logp=jnp.asarray(log_ratio), old_logp=rows, advantages=rows, mask=rows == 0,
                                       groups=rows[:, 0], rewards=rows[:, 0]))
    ratio = jnp.exp(prepared.log_ratio)
    sums = SUMS | terms(rows, prepared, ratio, rows > 0).sums
    metrics = jax.tree.map(jnp.asarray, Metrics(Told(sums, Totals(*[float(rows.size)] * 4), 0.7, True), 3.0))
    assert metrics["ratio/std"] == pytest.approx(np.std(np.asarray(ratio, np.float64)), rel=1e-3)


def test_no_right_answers_and_rounded_variances_are_no_faults():
    metrics = told(SUMS | {"gradient_right": 0.0, "gradient_all": 0.0, "ratio_excess_square_sum": 3.9999}, 3.0)
    assert (metrics["gradient/right_share"], metrics["ratio/std"]) == (0, 0)


def test_within_another_program_they_are_read_the_same():
    inside = jax.jit(lambda metrics: dict(metrics))(told(SUMS, 3.0))
    assert {name: float(value) for name, value in inside.items()} == pytest.approx(READ)


def test_sums_in_float32_count_every_token():
    """One running sum of ones would stay at 2^24."""
    ones = jnp.ones((3000, 6000), bool)
    sums = jax.jit(lambda x: added({"all": x, "half": x * 0.5}))(ones)
    assert float(sums["all"]) == ones.size > 2**24
    assert float(sums["half"]) == ones.size / 2
    assert added({}) == {}


def test_options_that_a_compiler_does_not_know_are_left_out(monkeypatch):
    monkeypatch.setitem(compiler._WANTED, "xla_cpu_of_a_later_version", True)
    compiler.options_for_cpu.cache_clear()
    found = compiler.options_for_cpu()
    compiler.options_for_cpu.cache_clear()
    assert found == {name: value for name, value in compiler._WANTED.items() if name != "xla_cpu_of_a_later_version"}
