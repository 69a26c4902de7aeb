"""Training adapters alone: what an update changes, what it leaves, and what is kept on disk."""

import dataclasses

import jax
import numpy as np
import pytest

from rl_reasoning import losses, optim
from rl_reasoning.config import Optimizer
from rl_reasoning.losses.objective import Objective
from rl_reasoning.models import lora
from rl_reasoning.models.architecture import DecoderConfig, LoRA, Precision
from rl_reasoning.models.decoder import initialize
from rl_reasoning.training import checkpoints
from rl_reasoning.training.batch import Answers
from rl_reasoning.training.minibatches import minibatches
from rl_reasoning.training.state import start
from rl_reasoning.training.states import Memory
from rl_reasoning.training.update import make_update

PLAIN = DecoderConfig(vocabulary=11, layers=2, width=16, heads=2, kv_heads=1, head_dim=8, mlp=24)


@pytest.fixture(name="batch", scope="module")
def four_answers():
    rng = np.random.default_rng(0)
    names = ("old_logprobs", "advantages", "weights", "scale", "ref_logprobs", "values", "returns")
    extras = {name: np.ones((4, 3), np.float32) for name in names} | {"rewards": np.ones(4, np.float32)}
    groups = np.repeat(np.arange(2, dtype=np.int32), 2)
    answers = Answers(rng.integers(0, 11, (2, 2)).astype(np.int32), np.full(2, 2), groups,
                      rng.integers(0, 11, (4, 3)).astype(np.int32), np.full(4, 3, np.int32), extras=extras)
    return minibatches(answers, 1, 2, 8, order=None)[0]


@pytest.mark.parametrize(("kind", "critic"), [("int8", "separate"), ("bfloat16", None)])
def test_an_update_moves_adapters_and_nothing_else(tmp_path, batch, kind, critic):
    config = dataclasses.replace(PLAIN, precision=Precision(kind), lora=LoRA(2, 4.0, ("attention.*",)))
    policy = lora.prepare(config, initialize(config.plain(), jax.random.key(0)), jax.random.key(1))
    trained, frozen = lora.split(config, policy)
    optimizer = optim.policy_and_critic(Optimizer(learning_rate=0.01, warmup=0), 10, 1.0)
    update = make_update(config, Objective(losses.reinforce, "token_mean", 3), optimizer, temperature=1.0,
                         memory=Memory("block"), key=jax.random.key(2))
    state = start(config, policy, optimizer, critic=critic)
    # Two moments for each array that is trained: adapters, a critic's own adapters, and its read-out.
    sizes = [leaf.size for leaf in jax.tree.leaves(state.parameters) if leaf.ndim]
    assert sum(leaf.size for leaf in jax.tree.leaves(state.optimizer) if leaf.ndim) == 2 * sum(sizes)
    assert sum(sizes) < 1000 < sum(leaf.size for leaf in jax.tree.leaves(frozen))
    for _ in range(2):
        state, metrics = update(state, batch)
    assert float(metrics["optimizer/skipped"]) == 0
    assert float(metrics["optimizer/gradient_norm"]) > 0
    assert all(a is b for a, b in zip(jax.tree.leaves(state.frozen), jax.tree.leaves(frozen), strict=True))
    assert jax.tree.structure(state.whole["policy"]) == jax.tree.structure(policy)
    for before, after in zip(jax.tree.leaves(trained), jax.tree.leaves(state.parameters["policy"]), strict=True):
        assert np.abs(np.asarray(after) - np.asarray(before)).max() > 1e-3
    checkpoints.save(tmp_path / "kept", checkpoints.on_host({"parameters": state.parameters}))
    again = checkpoints.restore_policy(tmp_path / "kept", config)
    jax.tree.map(np.testing.assert_array_equal, again, state.parameters["policy"])
