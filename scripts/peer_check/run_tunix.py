"""Runs in tunix's environment: its own loss functions, on given log-probabilities, loss and gradient out.

    python run_tunix.py INPUTS OUTPUTS    both folders; INPUTS holds cases.json and one npz a seed

The model returns logits over two tokens: the token in question at log p and the other at log(1 - p), so that the
log-softmax is log p and its derivative with respect to log p is 1. tunix casts to float32.
"""

from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np
import tunix
from flax import nnx
from runner import run
from tunix.rl import algo_core, common
from tunix.rl.grpo.dapo_learner import DAPOConfig, reward_shaping
from tunix.rl.grpo.drgrpo_learner import DrGRPOConfig
from tunix.rl.grpo.grpo_learner import GRPOConfig
from tunix.rl.ppo.ppo_learner import PPOConfig
from tunix.rl.ppo.ppo_learner import TrainExample as PPOExample
from tunix.sft.dpo import dpo_trainer

CONFIGS = {"grpo": GRPOConfig, "dapo": DAPOConfig, "dr_grpo": DrGRPOConfig, "ppo": PPOConfig}
NO_TOKEN = {"pad_id": 0, "eos_id": 2}


class Given(nnx.Module):
    """A model that scores token 1 with these log-probabilities [rows, T] at the T positions before the last."""

    def __init__(self, logp):
        self.logp = nnx.Param(jnp.asarray(logp, jnp.float32))

    def __call__(self, tokens, **_):
        logp = self.logp[...]
        scores = jnp.stack([jnp.log(-jnp.expm1(logp)), logp], axis=-1)
        return jnp.concatenate([scores, jnp.zeros_like(scores[:, :1])], axis=1), None


class Critic(nnx.Module):
    """A critic whose values of T tokens are these [rows, T]."""

    def __init__(self, values):
        self.values = nnx.Param(jnp.asarray(values, jnp.float32))

    def __call__(self, tokens, **_):
        values = self.values[...]
        return jnp.concatenate([values, jnp.zeros_like(values[:, :1])], axis=1)[..., None]


def differentiated(loss, model):
    value, gradient = nnx.value_and_grad(loss)(model)
    return {"loss": np.asarray(value), "gradient": np.asarray(jax.tree.leaves(gradient)[0])}


def configuration(settings):
    """tunix's own configuration, the given fields aside."""
    return CONFIGS[settings["config_class"]](**settings.get("config", {}))


def example(inputs, settings, advantages, kind=common.TrainExample, **extra):
    mask = jnp.asarray(inputs[settings.get("mask", "mask")], jnp.float32)
    prompt = jnp.ones((len(mask), 1), jnp.int32)
    return kind(
        prompt_ids=prompt, prompt_mask=prompt, completion_ids=jnp.ones(mask.shape, jnp.int32), completion_mask=mask,
        advantages=jnp.asarray(advantages, jnp.float32), ref_per_token_logps=jnp.asarray(inputs["ref_logp"]),
        old_per_token_logps=jnp.asarray(inputs["old_logp"]), **extra)


def grpo_loss(inputs, settings):
    config, batch = configuration(settings), example(inputs, settings, inputs["advantages"])
    config.temperature = 1.0  # its learner sets it from the rollout's
    return differentiated(lambda model: algo_core.grpo_loss_fn(model, batch, config, **NO_TOKEN)[0],
                          Given(inputs["logp"]))


def ppo_loss(inputs, settings):
    config = configuration(settings)
    advantages = np.broadcast_to(inputs["advantages"][:, None], inputs["logp"].shape)
    batch = example(inputs, settings, advantages)
    return differentiated(lambda model: algo_core.ppo_policy_loss_fn(model, batch, config, **NO_TOKEN)[0],
                          Given(inputs["logp"]))


def value_loss(inputs, settings):
    batch = example(inputs, settings, inputs["advantages"], PPOExample,
                    old_values=jnp.asarray(inputs["old_values"]), returns=jnp.asarray(inputs["returns"]))
    return differentiated(lambda model: algo_core.ppo_value_loss_fn(model, batch, settings["clip"], **NO_TOKEN)[0],
                          Critic(inputs["values"]))


def kl(inputs, settings):
    mask, reference = jnp.asarray(inputs["mask"], jnp.float32), jnp.asarray(inputs["ref_logp"], jnp.float32)

    def total(logp):
        return (common.compute_kl_divergence(logp, reference, settings["method"]) * mask).sum()

    loss, gradient = jax.value_and_grad(total)(jnp.asarray(inputs["logp"], jnp.float32))
    return {"loss": np.asarray(loss), "gradient": np.asarray(gradient)}


def group_advantages(inputs, settings):
    estimator = {"grpo": algo_core.compute_advantages, "rloo": algo_core.compute_rloo_advantages,
                 "dr_grpo": algo_core.compute_drgrpo_advantages}[settings["estimator"]]
    rewards = inputs[settings["rewards"]].astype(np.float64)  # as its reward manager gives them
    return {"advantages": np.asarray(estimator(rewards, settings["group"]))}


def gae(inputs, settings):
    mask, rewards = inputs["mask"], inputs["token_rewards"].copy()
    rewards[np.arange(len(mask)), mask.sum(axis=1) - 1] += inputs["rewards"]
    advantages, returns = algo_core.compute_gae_advantages(
        jnp.asarray(rewards), jnp.asarray(inputs["values"]), jnp.asarray(mask, jnp.float32), settings["gamma"],
        settings["gae_lambda"])
    return {"advantages": np.asarray(advantages), "returns": np.asarray(returns)}


def overlong(inputs, settings):
    texts = ["x" * (settings["characters"] * int(length)) for length in inputs["mask"].sum(axis=1)]
    scores = reward_shaping([], texts, None, overlong_buffer=settings["buffer"])
    return {"penalty": np.asarray(scores, np.float64)}


def pair_loss(inputs, settings):
    mask = jnp.asarray(inputs["pair_mask"], jnp.float32)
    tokens = jnp.ones((mask.shape[0], mask.shape[1] + 1), jnp.int32)
    reference = (jnp.asarray(inputs["pair_ref"], jnp.float32) * mask).sum(axis=1)
    half = len(reference) // 2
    batch = dpo_trainer.TrainExample(
        input_ids=tokens, positions=tokens, attention_mask=tokens, ref_chosen_logps=reference[:half],
        ref_rejected_logps=reference[half:], completion_mask=mask, logits_to_keep=mask.shape[1])
    return differentiated(lambda model: dpo_trainer.dpo_loss_fn(model, batch, **settings["arguments"])[0],
                          Given(inputs["pair_logp"]))


# What a case may name, with the code of tunix that gives its numbers.
CASES = {
    "grpo_loss": (grpo_loss, algo_core.grpo_loss_fn),
    "ppo_loss": (ppo_loss, algo_core.ppo_policy_loss_fn),
    "value_loss": (value_loss, algo_core.ppo_value_loss_fn),
    "kl": (kl, common.compute_kl_divergence),
    "group_advantages": (group_advantages, algo_core.compute_advantages),
    "gae": (gae, algo_core.compute_gae_advantages),
    "overlong": (overlong, reward_shaping),
    "pair_loss": (pair_loss, dpo_trainer.dpo_loss_fn),
}


if __name__ == "__main__":
    run(CASES, tunix, {"tunix": version("google-tunix"), "jax": jax.__version__, "flax": version("flax")})
