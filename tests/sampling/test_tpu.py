"""The decode loop compiled ahead of time for TPU slices: no TPU is needed, and none runs it here."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rl_reasoning.config import Sampling
from rl_reasoning.models.architecture import Precision
from rl_reasoning.models.decoder import DecoderConfig, initialize, unstack_layers
from rl_reasoning.parallel import Layout
from rl_reasoning.parallel.rules import AXES, BATCH, TENSOR
from rl_reasoning.sampling.decode import Waiting, Window, decode, fill, prefill
from rl_reasoning.sampling.rules import make_rules
from rl_reasoning.sampling.weights import shardings

QWEN_7B = DecoderConfig(152064, 28, 3584, 28, 4, 128, 18944, rope_theta=1e6, tied=False, qkv_bias=True,
                        precision=Precision("bfloat16", "bfloat16", "bfloat16"))
GIB = 2**30


def compiled_loop(topology, shape, rows, config=QWEN_7B, prompt=256, tokens=1024):
    """The decode loop of so many slots on a slice, from shapes alone."""
    from jax.experimental import topologies

    devices = topologies.get_topology_desc(platform="tpu", topology_name=topology).devices
    mesh = Mesh(np.array(devices).reshape(shape), AXES, axis_types=(AxisType.Auto,) * len(AXES))
    layout = Layout(mesh)

    def placed(tree, specs):
        return jax.tree.map(lambda leaf, spec: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=spec), tree, specs)

    stacked = jax.eval_shape(lambda: initialize(config, jax.random.key(0)))
    stacked = placed(stacked, shardings(layout, stacked))
    rules = make_rules(Sampling(max_tokens=tokens), config.vocabulary, 0)
    number = jnp.zeros(rows, jnp.int32)
    uniforms = jnp.zeros((rows, tokens))
    waiting = Waiting(number, number, jnp.int32(rows))
    caches = jax.eval_shape(lambda weights: prefill(
        config, unstack_layers(config, weights), jnp.zeros((rows, prompt), jnp.int32), number), stacked)
    slots = jax.eval_shape(lambda caches: fill(config, Window(caches, number, number, waiting), uniforms), caches)
    by_heads = NamedSharding(mesh, PartitionSpec(BATCH, TENSOR))
    slots = placed(slots, jax.tree.map(lambda leaf: by_heads if leaf.ndim >= 4 else layout.answers() if leaf.ndim
                                       else layout.whole, slots))

    def loop(parameters, slots, rules):
        return decode(config, unstack_layers(config, parameters), slots, rules, jnp.int32(tokens), jnp.int32(0))

    with layout():
        return jax.jit(loop, donate_argnums=1).lower(stacked, slots, rules).compile()


def gathered(text):
    """The shape of every result of an all-gather in a compiled program."""
    return [tuple(map(int, dims.split(","))) for result in re.findall(r"= (.*?) all-gather(?:-start)?\(", text)
            for dims in re.findall(r"\w+\[([\d,]+)\]", result)]


@pytest.mark.slow
@pytest.mark.parametrize(("topology", "shape", "memory", "attention"), [
    ("v5e:4x4", (4, 1, 1, 4), 15.75, "xla"), ("v5e:4x4", (4, 1, 1, 4), 15.75, "kernel"),
    ("v6e:2x4", (2, 1, 1, 4), 31.25, "xla")])
def test_decoding_qwen_7b_fits_and_gathers_no_weights(topology, shape, memory, attention):
    pytest.importorskip("libtpu")
    compiled = compiled_loop(topology, shape, rows=64, config=dataclasses.replace(QWEN_7B, decode_attention=attention))
    used = compiled.memory_analysis()
    total = used.argument_size_in_bytes + used.temp_size_in_bytes
    assert total < memory * GIB
    whole = {leaf.shape[-2:] for leaf in jax.tree.leaves(jax.eval_shape(
        lambda: initialize(QWEN_7B, jax.random.key(0)))) if leaf.ndim > 1}
    found = gathered(compiled.as_text())
    assert found, "hidden states and logits are gathered, at least"
    assert not {shape for shape in found if shape[-2:] in whole or shape[-2:][::-1] in whole}
    rows = 64 // shape[0]
    assert max(map(math.prod, found)) <= rows * QWEN_7B.vocabulary
    calls = re.findall(r'custom_call_target="tpu_custom_call"', compiled.as_text())
    assert len(calls) == (QWEN_7B.layers if attention == "kernel" else 0)
    if attention == "kernel":
        whole_cache = rf"= \(?bf16\[{rows},1,(1,128,1280|1280,128)\]\S* .*copy(-start)?\("
        assert not re.search(whole_cache, compiled.as_text()), "what is not seen is not read"
