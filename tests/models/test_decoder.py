"""The decoder against an independent numpy transformer, and the properties that packing relies on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning.models import attention
from rl_reasoning.models.decoder import branch_mask, hidden_states, initialize, logits, rotate, rotation


def forward(config, parameters, tokens, remat="none"):
    """Hidden states of one plain sequence."""
    ids = jnp.asarray(tokens)[None]
    ones = jnp.ones_like(ids)
    mask = branch_mask(ones, jnp.zeros_like(ids))
    return hidden_states(config, parameters, ids, jnp.arange(ids.shape[1])[None], mask, remat=remat)[0]


def numpy_forward(config, parameters, tokens):
    """The same transformer written again, token by token, head by head, in float64."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), parameters)
    h, groups = config.head_dim, config.heads // config.kv_heads

    def norm(x, scale):
        return x / np.sqrt((x * x).mean() + config.norm_epsilon) * scale

    def turn(vector, position):
        pairs = vector[: h // 2] + 1j * vector[h // 2:]
        angle = position * config.rope_theta ** (-np.arange(h // 2) / (h // 2))
        turned = pairs * np.exp(1j * angle)
        return np.concatenate([turned.real, turned.imag])

    xs = [p["embed"]["embedding"][t].copy() for t in tokens]
    for layer in range(config.layers):
        w = jax.tree.map(lambda leaf, i=layer: leaf[i], p["layers"])
        normed = [norm(x, w["attention_norm"]["scale"]) for x in xs]
        q, k, v = ([n @ w["attention"][name]["kernel"] for n in normed] for name in ("query", "key", "value"))
        for t, x in enumerate(xs):
            heads = []
            for head in range(config.heads):
                kv = slice(head // groups * h, head // groups * h + h)
                query = turn(q[t][head * h:(head + 1) * h], t)
                scores = np.array([query @ turn(k[s][kv], s) for s in range(t + 1)]) / np.sqrt(h)
                weights = np.exp(scores - scores.max())
                heads.append(weights / weights.sum() @ np.array([v[s][kv] for s in range(t + 1)]))
            x += np.concatenate(heads) @ w["attention"]["output"]["kernel"]
        for x in xs:
            n = norm(x, w["mlp_norm"]["scale"])
            gate = n @ w["mlp"]["gate"]["kernel"]
            x += (gate / (1 + np.exp(-gate)) * (n @ w["mlp"]["up"]["kernel"])) @ w["mlp"]["down"]["kernel"]
    return np.array([norm(x, p["final_norm"]["scale"]) for x in xs])


def test_equals_a_plain_numpy_transformer(config, parameters):
    tokens = [3, 7, 7, 1, 22, 0, 9]
    expected = numpy_forward(config, parameters, tokens)
    np.testing.assert_allclose(forward(config, parameters, tokens), expected, atol=2e-5)


@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_the_head_times_the_hidden_state(config, tied):
    config = dataclasses.replace(config, tied=tied)
    parameters = initialize(config, jax.random.key(1))
    hidden = jax.random.normal(jax.random.key(2), (3, config.width))
    head = parameters["embed"]["embedding"].T if tied else parameters["head"]["kernel"]
    np.testing.assert_allclose(logits(config, parameters, hidden), hidden @ head, rtol=1e-5, atol=1e-6)
    assert ("head" in parameters) == (not tied)


def test_no_position_sees_a_later_token(config, parameters):
    """The gradient of the hidden state at t with respect to the embeddings after t is exactly zero."""
    tokens = jnp.arange(6)  # distinct, so an embedding row stands for a position

    def at(parameters, t):
        return forward(config, parameters, tokens)[t].sum()

    for t in range(6):
        rows = jax.grad(at)(parameters, t)["embed"]["embedding"]
        reached = np.abs(np.asarray(rows[:6])).sum(axis=1) > 0
        assert reached.tolist() == [s <= t for s in range(6)]


def test_packed_answers_equal_separate_sequences(config, parameters):
    """A prompt stored once with two answers, and a second segment, give what four plain sequences give."""
    prompt, first, second, other = [5, 9, 2], [4, 4], [8, 1, 3], [6, 6]
    row = [*prompt, *first, *second, *other, 0]
    positions = [0, 1, 2, 3, 4, 3, 4, 5, 0, 1, 0]
    segments = [1] * 8 + [2] * 2 + [0]
    branches = [0] * 3 + [1] * 2 + [2] * 3 + [0] * 3
    mask = branch_mask(jnp.array([segments]), jnp.array([branches]))
    packed = hidden_states(config, parameters, jnp.array([row]), jnp.array([positions]), mask)[0]
    np.testing.assert_allclose(packed[:5], forward(config, parameters, prompt + first), atol=1e-5)
    np.testing.assert_allclose(packed[5:8], forward(config, parameters, prompt + second)[3:], atol=1e-5)
    np.testing.assert_allclose(packed[8:10], forward(config, parameters, other), atol=1e-5)
    assert np.isfinite(packed).all()


@pytest.mark.parametrize("name", ["dots", "block", "full", "offload"])
def test_remat_changes_neither_value_nor_gradient(config, parameters, name):
    def total(parameters, remat):
        return jnp.sin(forward(config, parameters, [1, 2, 3, 4], remat=remat)).sum()

    plain, again = (jax.jit(jax.value_and_grad(total), static_argnums=1)(parameters, kept) for kept in ("none", name))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), plain, again)


def test_compiled_program_does_not_grow_with_depth(config):
    def size(layers):
        deep = dataclasses.replace(config, layers=layers)
        shapes = jax.eval_shape(lambda: initialize(deep, jax.random.key(0)))
        return len(jax.jit(lambda p: forward(deep, p, [1, 2])).lower(shapes).as_text().splitlines())

    assert size(12) == size(3)


@pytest.mark.parametrize(("change", "named"), [({"kv_heads": 3}, "kv_heads=3"), ({"head_dim": 5}, "head_dim=5")])
def test_impossible_sizes_are_refused(config, change, named):
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(config, **change)


def test_rotation_keeps_relative_positions(config):
    """Scores of rotated queries and keys depend on the distance alone."""
    q, k = jax.random.normal(jax.random.key(3), (2, 1, 1, 1, config.head_dim))

    def score(at_q, at_k):
        turned = (rotate(x, rotation(config, jnp.array([[at]]))) for x, at in ((q, at_q), (k, at_k)))
        return jnp.vdot(*turned)

    np.testing.assert_allclose(score(2, 5), score(102, 105), rtol=1e-4)
    assert abs(score(2, 5) - score(2, 6)) > 1e-3


def test_attention_for_some_queries_at_a_time_is_the_same(monkeypatch, config, parameters):
    tokens = list(range(11))

    def total(parameters):
        out = forward(config, parameters, tokens)
        return jnp.sin(out).sum(), out

    whole = jax.jit(jax.grad(total, has_aux=True))(parameters)
    monkeypatch.setattr(attention, "QUERIES", 3)
    parts = jax.jit(jax.grad(lambda p: total(p), has_aux=True))(parameters)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), whole, parts)
