"""One decoder-only transformer, in Flax NNX, used through pure functions of its parameters.

RMSNorm, grouped-query attention with rotary positions, gated MLP; what varies between families is data, see
`models.architecture`. Layers are stacked on a leading axis and scanned, so that compile time does not grow
with depth; decoding unrolls them, which is several times faster on a CPU (see `extend`).

Parameters are a nested dict of arrays, kept apart from the modules: losses and the sampler see
`hidden_states(config, parameters, ...)` and `logits(config, parameters, hidden)`, the same in both.

Shape letters: B rows, L positions, S cache slots, D width, H query heads, K key/value heads, h head
width, V vocabulary.
"""

import functools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from rl_reasoning.arrays import Array
from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.models.attention import attention
from rl_reasoning.models.decode_kernel import decode_attention
from rl_reasoning.models.product import product
from rl_reasoning.models.quantized import quantize
from rl_reasoning.models.remat import scan_layers
from rl_reasoning.models.rotary import Rotation, rotate, rotation
from rl_reasoning.models.splash import Blocks, blocks, splash_attention
from rl_reasoning.parallel import constrain, fold, unfold
from rl_reasoning.parallel.rules import BATCH

Parameters = dict[str, Any]


class Cache(NamedTuple):
    """Keys and values of one layer. The layouts are the ones in which decode attention runs fastest.

    keys: [B, K, h, S]. values: [B, K, S, h].
    """

    keys: jax.Array
    values: jax.Array


class Norm(nnx.RMSNorm):
    """Root-mean-square norm (arXiv 1910.07467) over the last axis; its statistics are float32."""

    def __init__(self, config: DecoderConfig, size: int = 0, *, rngs: nnx.Rngs):
        precision = config.precision
        super().__init__(size or config.width, epsilon=config.norm_epsilon, dtype=precision.compute,
                         param_dtype=precision.others, rngs=rngs)


class Linear(nnx.Module):
    """x W + bias, with W in float or in int8 with a scale an output, and a low-rank adapter where one is asked for."""

    def __init__(self, config: DecoderConfig, name: str, inputs: int, outputs: int, *, bias: bool = False,
                 residual_parts: int = 1, rngs: nnx.Rngs):
        precision, init = config.precision, _scaled_init(residual_parts)
        self.compute = precision.compute
        self.gain = config.lora.alpha / config.lora.rank if config.lora and config.lora.covers(name) else None
        kernel = init(rngs.params(), (inputs, outputs), jnp.float32)
        self.quantized, self.biased = precision.parameters == "int8", bias
        if self.quantized:
            kernel, scale = quantize(kernel)
            self.scale = nnx.Param(scale)
        self.kernel = nnx.Param(kernel.astype(precision.parameters))
        if bias:
            self.bias = nnx.Param(jnp.zeros(outputs, precision.others))
        if config.lora and self.gain is not None:
            limit = inputs ** -0.5
            self.lora_a = nnx.Param(jax.random.uniform(rngs.params(), (inputs, config.lora.rank), jnp.float32, -limit,
                                                       limit))
            self.lora_b = nnx.Param(jnp.zeros((config.lora.rank, outputs), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        frozen = self.quantized or self.gain is not None
        kernel = self.kernel[...].astype(self.compute)
        y = x @ kernel if frozen else product(x, kernel)
        if self.quantized:
            y = (y * self.scale[...]).astype(self.compute)
        if self.gain is not None:
            y = y + x @ self.lora_a[...].astype(self.compute) @ self.lora_b[...].astype(self.compute) * self.gain
        return y + self.bias[...].astype(self.compute) if self.biased else y


class Attention(nnx.Module):
    """Grouped-query attention: K key/value heads, each shared by H / K query heads."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        c, linear = config, functools.partial(Linear, config, rngs=rngs)
        queries, keys = c.heads * c.head_dim, c.kv_heads * c.head_dim
        self.config = config
        self.query = linear("attention.query", c.width, queries, bias=c.qkv_bias)
        self.key = linear("attention.key", c.width, keys, bias=c.qkv_bias)
        self.value = linear("attention.value", c.width, keys, bias=c.qkv_bias)
        self.output = linear("attention.output", queries, c.width, bias=c.output_bias, residual_parts=2 * c.layers)
        if c.qk_norm:
            self.query_norm = Norm(c, c.head_dim, rngs=rngs)
            self.key_norm = Norm(c, c.head_dim, rngs=rngs)

    def project(self, x: jax.Array, turn: Rotation, *,
                causal: bool = False) -> tuple[jax.Array, jax.Array, jax.Array]:
        """x [B * L, D] -> queries [B, L, K, H/K, h], keys [B, K, h, L], values [B, K, L, h]."""
        c, (rows, length) = self.config, turn.sin.shape[:2]

        def heads(x: jax.Array) -> jax.Array:
            x = x.reshape(rows * length, -1, c.head_dim)
            return unfold(x, rows, length) if causal else x.reshape(rows, length, *x.shape[1:])

        queries, keys, values = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        if c.qk_norm:
            queries, keys = self.query_norm(queries), self.key_norm(keys)
        queries = rotate(queries, turn).reshape(rows, length, c.kv_heads, c.heads // c.kv_heads, c.head_dim)
        return queries, rotate(keys, turn).transpose(0, 2, 3, 1), values.transpose(0, 2, 1, 3)

    def attend(self, queries: jax.Array, cache: Cache, mask: jax.Array | Blocks, *, causal: bool = False) -> jax.Array:
        """Softmax attention in float32. mask [B, L, S] is True where a key may be seen. Returns [B * L, D].

        causal: the keys are those of the queries' own positions, in packed rows and not in a cache.
        """
        c = self.config
        if isinstance(mask, Blocks):
            mixed = splash_attention(queries, cache.keys, cache.values, mask, interpret=c.interpret)
        elif c.decode_attention == "kernel" and not causal and mask.shape[1] == 1:
            mixed = decode_attention(queries, cache.keys, cache.values, mask, interpret=c.interpret)
        else:
            mixed = attention(queries, cache.keys, cache.values, mask, causal=causal)
        mixed = mixed.reshape(*mixed.shape[:2], c.heads * c.head_dim)
        return self.output(fold(mixed) if causal else mixed.reshape(-1, mixed.shape[-1]))


class GatedMLP(nnx.Module):
    """SwiGLU (arXiv 2002.05202): down(silu(gate(x)) * up(x))."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        linear = functools.partial(Linear, config, rngs=rngs)
        self.gate = linear("mlp.gate", config.width, config.mlp)
        self.up = linear("mlp.up", config.width, config.mlp)
        self.down = linear("mlp.down", config.mlp, config.width, residual_parts=2 * config.layers)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(jax.nn.silu(self.gate(x)) * self.up(x))


class Block(nnx.Module):
    """One layer: attention, then the MLP, each added to the residual stream with norms as the config places them.

    Rows and positions are one axis here: with two, the weights' gradients are a third slower on a CPU.
    """

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.placement = config.norms
        self.attention_norm = Norm(config, rngs=rngs)
        self.attention = Attention(config, rngs=rngs)
        self.mlp_norm = Norm(config, rngs=rngs)
        self.mlp = GatedMLP(config, rngs=rngs)
        if config.norms == "peri":
            self.attention_output_norm = Norm(config, rngs=rngs)
            self.mlp_output_norm = Norm(config, rngs=rngs)

    def __call__(self, x: jax.Array, turn: Rotation, mask: jax.Array | Blocks) -> tuple[jax.Array, Cache]:
        """x [B * L, D], mask [B, L, L] of no later keys -> x and the layer's keys and values."""
        queries, keys, values = self.attention.project(self._attention_input(x), turn, causal=True)
        return self._finish(x, queries, Cache(keys, values), mask, causal=True)

    def extend(self, x: jax.Array, turn: Rotation, mask: jax.Array, cache: Cache,
               slot: jax.Array) -> tuple[jax.Array, Cache]:
        """L more tokens a row: x [B * L, D], mask [B, L, S]; keys and values go to the cache from `slot` on."""
        queries, keys, values = self.attention.project(self._attention_input(x), turn)
        cache = Cache(jax.lax.dynamic_update_slice_in_dim(cache.keys, keys, slot, axis=3),
                      jax.lax.dynamic_update_slice_in_dim(cache.values, values, slot, axis=2))
        return self._finish(x, queries, cache, mask)

    def _attention_input(self, x: jax.Array) -> jax.Array:
        return x if self.placement == "post" else self.attention_norm(x)

    def _finish(self, x: jax.Array, queries: jax.Array, cache: Cache, mask: jax.Array | Blocks, *,
                causal: bool = False) -> tuple[jax.Array, Cache]:
        attended = self.attention.attend(queries, cache, mask, causal=causal)
        if self.placement == "post":
            x = self.attention_norm(x + attended)
            return self.mlp_norm(x + self.mlp(x)), cache
        if self.placement == "peri":
            x = x + self.attention_output_norm(attended)
            return x + self.mlp_output_norm(self.mlp(self.mlp_norm(x))), cache
        x = x + attended
        return x + self.mlp(self.mlp_norm(x)), cache


class Decoder(nnx.Module):
    """Embedding, stacked layers, final norm, output head (the embedding itself when tied)."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        dtype = config.precision.others
        self.embed = nnx.Embed(config.vocabulary, config.width, param_dtype=dtype, rngs=rngs,
                               embedding_init=nnx.initializers.normal(config.width ** -0.5))
        self.layers = nnx.vmap(lambda keys: Block(config, rngs=keys), axis_size=config.layers)(
            rngs.split(config.layers))
        self.final_norm = Norm(config, rngs=rngs)
        if not config.tied:
            self.head = nnx.Linear(config.width, config.vocabulary, use_bias=False, param_dtype=dtype,
                                   kernel_init=_scaled_init(), rngs=rngs)


def initialize(config: DecoderConfig, key: jax.Array) -> Parameters:
    """Random parameters, in the types that the config says."""
    return nnx.to_pure_dict(nnx.state(Decoder(config, rngs=nnx.Rngs(params=key)), nnx.Param))


def hidden_states(config: DecoderConfig, parameters: Parameters, tokens: Array, positions: Array,
                  mask: jax.Array | Blocks, *, remat: str = "none") -> tuple[jax.Array, Cache]:
    """Final hidden states of every position, and the keys and values of every layer.

    Args:
      tokens, positions: [B, L] int32.
      mask: from `row_mask`; or any [B, L, L] bool, True where a query (second axis) may see a key (third axis), never
        a later one.
      remat: what the backward pass computes again, see `models.remat`.

    Returns:
      [B, L, D] after the final norm, and a `Cache` with a leading layer axis.
    """
    def layer(x: jax.Array, inputs: Any) -> tuple[jax.Array, Cache]:
        block_parameters, window = inputs
        seen = mask if window is None or isinstance(mask, Blocks) else mask & _in_window(window, distance)
        x, cache = _merge(Block, config, block_parameters)(x, turn, seen)
        return constrain(x, BATCH), cache

    turn = rotation(config, positions)
    distance = positions[:, :, None] - positions[:, None, :]
    windows = jnp.asarray(config.windows, jnp.int32) if config.windows else None
    x = constrain(_embed(config, parameters, fold(tokens)), BATCH)
    x, cache = scan_layers(layer, x, (parameters["layers"], windows), remat)
    return unfold(_merge(Norm, config, parameters["final_norm"])(x), *tokens.shape), cache


def row_mask(config: DecoderConfig, segments: Array, branches: Array) -> jax.Array | Blocks:
    """What `branch_mask` says, as the attention of the config takes it."""
    return blocks(segments, branches) if config.attention == "splash" else branch_mask(segments, branches)


def branch_mask(segments: Array, branches: Array) -> jax.Array:
    """Who may see whom in packed rows.

    A row holds segments; a segment is a prompt (branch 0) followed by answers (branches 1, 2, ...). A
    position sees the earlier positions of its own segment that are the prompt or its own answer.

    Args: segments, branches [B, L] int32; segment 0 is padding, which sees and is seen by nothing.
    Returns: [B, L, L] bool.
    """
    index = jnp.arange(segments.shape[1])
    causal = index[None, :, None] >= index[None, None, :]
    same_segment = (segments[:, :, None] == segments[:, None, :]) & (segments[:, :, None] > 0)
    visible = (branches[:, None, :] == 0) | (branches[:, :, None] == branches[:, None, :])
    return causal & same_segment & visible


def unstack_layers(config: DecoderConfig, parameters: Parameters) -> Parameters:
    """The parameters with a list of layers, for `extend`: slicing the stack in a decode loop copies it each turn."""
    layers = [jax.tree.map(operator.itemgetter(i), parameters["layers"]) for i in range(config.layers)]
    return parameters | {"layers": layers}


def empty_cache(config: DecoderConfig, rows: int, slots: int) -> list[Cache]:
    """A cache for each layer, of zeros."""
    shape, dtype = (rows, config.kv_heads), config.precision.compute
    keys, values = (*shape, config.head_dim, slots), (*shape, slots, config.head_dim)
    return [Cache(jnp.zeros(keys, dtype), jnp.zeros(values, dtype)) for _ in range(config.layers)]


def extend(config: DecoderConfig, parameters: Parameters, tokens: jax.Array, positions: jax.Array,
           distance: jax.Array, caches: list[Cache], slot: jax.Array | int) -> tuple[jax.Array, list[Cache]]:
    """Hidden states of L more tokens a row against the cache: a prompt, a piece of one, or one sampled token.

    Args:
      parameters: from `unstack_layers`. tokens, positions: [B, L] int32.
      distance: [B, L, S] int32, how many positions a slot lies behind a token (0 is the token itself); negative
        where the slot must not be seen.
      slot: where the new keys and values go, in L slots from here on.

    Returns:
      [B, L, D] after the final norm, and the updated caches.
    """
    x, turn, updated = constrain(_embed(config, parameters, tokens.reshape(-1)), BATCH), rotation(config, positions), []
    windows = config.windows or (0,) * config.layers
    for block_parameters, cache, window in zip(parameters["layers"], caches, windows, strict=True):
        seen = (distance >= 0) & _in_window(window, distance)
        x, cache = _extend_block(config, block_parameters, x, turn, seen, cache, slot)
        updated.append(cache)
    return _merge(Norm, config, parameters["final_norm"])(x).reshape(*tokens.shape, -1), updated


@functools.partial(jax.jit, static_argnames="config")
def _extend_block(config: DecoderConfig, parameters: Parameters, x: jax.Array, turn: Rotation, mask: jax.Array,
                  cache: Cache, slot: jax.Array) -> tuple[jax.Array, Cache]:
    """`Block.extend`, traced once for all layers that look alike: a fifth less to compile of 30."""
    return _merge(Block, config, parameters).extend(x, turn, mask, cache, slot)


def logits(config: DecoderConfig, parameters: Parameters, hidden: jax.Array) -> jax.Array:
    """Float32 logits [..., V] of hidden states [..., D]; the one function for sampler and trainer."""
    hidden = hidden.astype(config.precision.head)
    if config.tied:
        table = parameters["embed"]["embedding"].astype(hidden.dtype)
        return jnp.einsum("...d,vd->...v", hidden, table, preferred_element_type=jnp.float32)
    kernel = parameters["head"]["kernel"].astype(hidden.dtype)
    return jnp.einsum("...d,dv->...v", hidden, kernel, preferred_element_type=jnp.float32)


def _embed(config: DecoderConfig, parameters: Parameters, tokens: Array) -> jax.Array:
    return parameters["embed"]["embedding"][tokens].astype(config.precision.compute)


def _in_window(window: jax.Array | int, distance: Array) -> Array:
    """True where a key is one of the latest `window` positions; 0 is no window. distance: query minus key."""
    return (distance < window) | (window == 0)


def _scaled_init(residual_parts: int = 1) -> nnx.Initializer:
    """LeCun normal; parts that write to the residual stream shrink with their number (GPT-2's rule)."""
    return nnx.initializers.variance_scaling(1.0 / residual_parts, "fan_in", "normal")


@functools.cache
def _graph(module: Callable[..., nnx.Module], config: DecoderConfig) -> nnx.GraphDef:
    """The module's structure, without arrays."""
    return nnx.graphdef(nnx.eval_shape(lambda: module(config, rngs=nnx.Rngs(params=0))))


def _merge(module: Callable[..., nnx.Module], config: DecoderConfig, parameters: Parameters) -> Any:
    """The module with these parameters, as a callable."""
    return nnx.merge(_graph(module, config), nnx.State(parameters))
