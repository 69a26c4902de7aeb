"""Runs in tunix's environment: its GRPO update of a Qwen2 model, compiled for a TPU slice that is not there.

Standard input has the case as JSON (`scripts/bench_trainer.py --topology`), standard output what the compiler says of
the program: bytes of temporaries and arguments on a chip, CPU seconds. Its text goes to the file that the case names.
"""

import contextlib
import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tunix.models.qwen2 import model as qwen2
from tunix.rl import algo_core, common
from tunix.rl.grpo.grpo_learner import GRPOConfig

PAD, EOS = 0, 1


def model_of(case):
    """Shapes alone, each layer computed again."""
    c, dtype = case["config"], jnp.dtype(case["dtype"])
    config = qwen2.ModelConfig(
        num_layers=c["layers"], vocab_size=c["vocabulary"], embed_dim=c["width"], hidden_dim=c["mlp"],
        num_heads=c["heads"], head_dim=c["head_dim"], num_kv_heads=c["kv_heads"], rope_theta=int(c["rope_theta"]),
        norm_eps=c["norm_epsilon"], use_tied_embedding=c["tied"], dtype=dtype, param_dtype=dtype,
        remat_config=qwen2.RematConfig.DECODER)
    return nnx.split(nnx.eval_shape(lambda: qwen2.Qwen2(config, rngs=nnx.Rngs(0))))


def example_of(case, split):
    rows, prompt, answer = case["rows"], case["prompt"], case["answer"]

    def array(dtype, *shape):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=split)

    return common.TrainExample(
        prompt_ids=array(jnp.int32, rows, prompt), prompt_mask=array(jnp.int32, rows, prompt),
        completion_ids=array(jnp.int32, rows, answer), completion_mask=array(jnp.int32, rows, answer),
        advantages=array(jnp.float32, rows), ref_per_token_logps=None,
        old_per_token_logps=array(jnp.float32, rows, answer))


def main():
    case = json.loads(sys.stdin.readline())
    devices = topologies.get_topology_desc(platform="tpu", topology_name=case["topology"]).devices
    mesh = Mesh(np.array(devices).reshape(-1, 1), ("fsdp", "tp"))
    if case["placed"]:  # Its own function does nothing where the host's own devices are CPUs, as they are here.
        qwen2.shard = lambda x, axes: jax.lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(*axes)))
    config = GRPOConfig(beta=0.0)
    config.temperature = 1.0  # its learner sets it from the rollout's
    graph, state = model_of(case)
    parameters = jax.tree.map(lambda leaf, spec: jax.ShapeDtypeStruct(
        leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, spec)), state, nnx.get_partition_spec(state))
    whole = NamedSharding(mesh, PartitionSpec())
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-5, mu_dtype=jnp.float32))
    moments = optax.tree_map_params(
        optimizer, lambda leaf, own: jax.ShapeDtypeStruct(leaf.shape, jnp.float32, sharding=own.sharding),
        jax.eval_shape(optimizer.init, parameters), parameters,
        transform_non_params=lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=whole))

    def update(parameters, moments, example):
        def loss(parameters):
            return algo_core.grpo_loss_fn(nnx.merge(graph, parameters), example, config, PAD, EOS)

        gradient, _ = jax.grad(loss, has_aux=True)(parameters)
        moved, moments = optimizer.update(gradient, moments, parameters)
        return optax.apply_updates(parameters, moved), moments

    places = jax.tree.map(lambda leaf: leaf.sharding, (parameters, moments))
    began = time.process_time()
    with mesh:
        compiled = jax.jit(update, donate_argnums=(0, 1), out_shardings=places).lower(
            parameters, moments, example_of(case, NamedSharding(mesh, PartitionSpec("fsdp")))).compile()
    found, seconds = compiled.memory_analysis(), time.process_time() - began
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # some of what libtpu compiles for v5p cannot be read back
        Path(case["text"]).write_text(compiled.as_text())
    print(json.dumps({"temporaries": found.temp_size_in_bytes, "arguments": found.argument_size_in_bytes,
                      "compile_cpu_s": seconds}))


if __name__ == "__main__":
    main()
