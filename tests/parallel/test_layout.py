"""The mesh and the sharding table: what is split how, and what cannot be, named with the fix."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from rl_reasoning.config import Mesh
from rl_reasoning.models.architecture import DecoderConfig, LoRA
from rl_reasoning.models.decoder import initialize
from rl_reasoning.parallel import RULES, make_layout
from rl_reasoning.parallel.rules import axes_of, spec

CONFIG = DecoderConfig(vocabulary=16, layers=2, width=16, heads=4, kv_heads=2, head_dim=4, mlp=32, tied=False,
                       qkv_bias=True, lora=LoRA(2, 4.0))


def test_every_axis_of_a_decoder_is_split_as_the_table_says():
    shapes = jax.eval_shape(lambda: initialize(CONFIG, jax.random.key(0)))
    layout = make_layout(Mesh(data=1, fsdp=4, tensor=2), CONFIG.sizes)
    found = jax.tree.map(lambda sharding: sharding.spec, layout.parameters(shapes))
    assert found["embed"]["embedding"] == PartitionSpec("tensor", "fsdp")
    assert found["head"]["kernel"] == PartitionSpec("fsdp", "tensor")
    layers = found["layers"]
    assert layers["attention"]["query"]["kernel"] == PartitionSpec(None, "fsdp", "tensor")
    assert layers["attention"]["key"]["bias"] == PartitionSpec(None, "tensor")
    assert layers["attention"]["output"]["kernel"] == PartitionSpec(None, "tensor", "fsdp")
    assert layers["mlp"]["down"]["kernel"] == PartitionSpec(None, "tensor", "fsdp")
    assert layers["mlp"]["up"]["lora_a"] == PartitionSpec(None, "fsdp", None)
    assert layers["mlp"]["up"]["lora_b"] == PartitionSpec(None, None, "tensor")
    assert layers["attention_norm"]["scale"] == PartitionSpec(None, None)
    # Nothing of two axes or more that is not a norm stays whole.
    matrices = [leaf for leaf in jax.tree.leaves(found) if len(leaf) > 2]
    assert all(set(leaf) & {"fsdp", "tensor"} for leaf in matrices)


def test_what_mirrors_a_parameter_lies_like_it():
    layout = make_layout(Mesh(fsdp=8), CONFIG.sizes)
    tree = {"mu": {"mlp": {"up": {"kernel": jnp.zeros((2, 16, 32))}}}, "value": {"kernel": jnp.zeros(16)}}
    placed = layout.place(tree)
    assert placed["mu"]["mlp"]["up"]["kernel"].addressable_shards[0].data.shape == (2, 2, 32)
    assert placed["value"]["kernel"].addressable_shards[0].data.shape == (16,)
    assert axes_of(("mlp", "up", "kernel"), 2) == ("", "")  # a factored moment stays whole


def test_one_device_has_no_layout():
    assert make_layout(Mesh(), CONFIG.sizes) is None


def test_an_axis_of_0_takes_the_devices_that_are_left():
    layout = make_layout(Mesh(data=0, tensor=2), CONFIG.sizes)
    assert dict(layout.mesh.shape) == {"data": 4, "fsdp": 1, "context": 1, "tensor": 2}
    assert layout.shards == (4, 1)


@pytest.mark.parametrize(("settings", "message"), [
    (Mesh(data=4, fsdp=4), r"data=4 x fsdp=4 x context=1 x tensor=1 needs 16 .* there are 8: .*JAX_NUM_CPU_DEVICES=16"),
    (Mesh(tensor=4), r"mesh\.tensor=4: kv_heads = 2 .* one of 1, 2, or .*--config\.mesh\.rules\.kv_heads=whole"),
    (Mesh(fsdp=3), r"mesh\.fsdp=3: width = 16 cannot be cut into 3 equal parts; give mesh\.fsdp one of 1, 2,"),
    (Mesh(fsdp=2, rules={"widht": "data"}), r"mesh\.rules\.widht='data': no such axis; there are vocabulary, width"),
    (Mesh(fsdp=2, rules={"width": "rows"}), "must be one of data, fsdp, context, tensor, or whole"),
])
def test_what_cannot_be_is_named_with_the_fix(settings, message):
    with pytest.raises(ValueError, match=message):
        make_layout(settings, CONFIG.sizes)


def test_an_axis_left_whole_need_not_divide():
    layout = make_layout(Mesh(tensor=4, rules={"kv_heads": "whole"}), CONFIG.sizes)
    assert layout.mesh.shape["tensor"] == 4


def test_two_axes_on_one_mesh_axis_are_named():
    with pytest.raises(ValueError, match=r"up has the axes width and mlp, .* the mesh axis tensor: give one"):
        spec(("layers", "width", "mlp"), {**RULES, "width": "tensor"}, "up")
