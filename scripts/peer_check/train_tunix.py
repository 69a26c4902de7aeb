"""Runs in tunix's environment: its GRPO loss and an AdamW step, timed on request.

The first line of standard input is the case as JSON (`scripts/bench_trainer.py`). One line of JSON comes back when the
step is compiled and warm, {"compile": CPU seconds}, and one for each further line of input: {"cpu": seconds, "wall":
seconds}.
"""

import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from tunix.models.llama3.model import Llama3, ModelConfig
from tunix.rl import algo_core, common
from tunix.rl.grpo.grpo_learner import GRPOConfig

PAD, EOS = 0, 1


def model_of(case):
    c = case["config"]
    config = ModelConfig(
        num_layers=c["layers"], vocab_size=c["vocabulary"], embed_dim=c["width"], hidden_dim=c["mlp"],
        num_heads=c["heads"], head_dim=c["head_dim"], num_kv_heads=c["kv_heads"], rope_theta=int(c["rope_theta"]),
        norm_eps=c["norm_epsilon"], weight_tying=c["tied"])
    model = Llama3(config, rngs=nnx.Rngs(0))
    nnx.update(model, jax.tree.map(lambda leaf: leaf.astype(case["dtype"]), nnx.state(model, nnx.Param)))
    return model


def example_of(case):
    """Every answer padded to the longest allowed, as its learner pads them."""
    rng, rows = np.random.default_rng(0), case["rows"]
    mask = np.arange(case["answer"]) < np.asarray(case["lengths"])[:, None]
    tokens = rng.integers(2, case["config"]["vocabulary"], (rows, case["prompt"] + case["answer"]))
    prompt, completion = tokens[:, :case["prompt"]], np.where(mask, tokens[:, case["prompt"]:], PAD)
    return common.TrainExample(
        prompt_ids=jnp.asarray(prompt, jnp.int32), prompt_mask=jnp.ones(prompt.shape, jnp.int32),
        completion_ids=jnp.asarray(completion, jnp.int32), completion_mask=jnp.asarray(mask, jnp.int32),
        advantages=jnp.asarray(rng.normal(size=rows), jnp.float32), ref_per_token_logps=None,
        old_per_token_logps=jnp.full(mask.shape, -8.0, jnp.float32))


def main():
    case = json.loads(sys.stdin.readline())
    config = GRPOConfig(beta=0.0)
    config.temperature = 1.0  # its learner sets it from the rollout's
    model, example = model_of(case), example_of(case)
    optimizer = nnx.Optimizer(model, optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-5)), wrt=nnx.Param)

    @nnx.jit(donate_argnums=(0, 1))
    def step(model, optimizer, example):
        def loss(model):
            return algo_core.grpo_loss_fn(model, example, config, PAD, EOS)

        (value, _), gradient = nnx.value_and_grad(loss, has_aux=True)(model)
        optimizer.update(model, gradient)
        return value

    def timed(function):
        cpu, wall = time.process_time(), time.perf_counter()
        found = function()
        return found, {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}

    def run():
        jax.block_until_ready((compiled(model, optimizer, example), nnx.state(model)))

    # The first weights and moments are there before compiling is timed; while they are made that is counted, too.
    jax.block_until_ready((nnx.state(model), nnx.state(optimizer), example))
    compiled, spent = timed(lambda: step.lower(model, optimizer, example).compile())
    run()  # warm
    print(json.dumps({"compile": spent["cpu"]}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(timed(run)[1]), flush=True)


if __name__ == "__main__":
    main()
