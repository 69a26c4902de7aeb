"""One decoder-only transformer, in Flax NNX, used through pure functions of its parameters.

RMSNorm, grouped-query attention with rotary positions, gated MLP; what varies between families is data, see
`models.architecture`. Layers are stacked on a leading axis and scanned, so that compile time does not grow
with depth; decoding unrolls them, which is several times faster on a CPU (see `extend`).

Parameters are a nested dict of arrays, kept apart from the modules: losses and the sampler see
`hidden_states(config, parameters, ...)` and `logits(config, parameters, hidden)`, the same in both.

Shape letters: B rows, L positions, S cache slots, D width, H query heads, K key/value heads, h head
width, V vocabulary.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from rl_reasoning.arrays import Array
from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.models.attention import attention
from rl_reasoning.models.cache import Cache, Shared, attend, write
from rl_reasoning.models.parts import GatedMLP, Linear, Norm, scaled_init
from rl_reasoning.models.remat import scan_layers
from rl_reasoning.models.rotary import Rotation, rotate, rotation
from rl_reasoning.models.splash import Blocks, blocks, splash_attention
from rl_reasoning.parallel import constrain, fold, unfold
from rl_reasoning.parallel.rules import BATCH

Parameters = dict[str, Any]

FEW = 128  # tokens whose states a CPU has as [features, tokens] in decoding: more are as fast the other way round
FEW_LOGITS = 64  # rows whose logits it has as [V, rows]

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
        """x [B * L, D] or [D, B * L] -> queries [B, L, K, H/K, h], keys [B, K, h, L], values [B, K, L, h]."""
        c, (rows, length) = self.config, turn.sin.shape[:2]

        def heads(x: jax.Array) -> jax.Array:
            x = (x.T if c.features_first else x).reshape(rows * length, -1, c.head_dim)
            return unfold(x, rows, length) if causal else x.reshape(rows, length, *x.shape[1:])

        queries, keys, values = heads(self.query(x)), heads(self.key(x)), heads(self.value(x))
        if c.qk_norm:
            queries, keys = self.query_norm(queries), self.key_norm(keys)
        queries = rotate(queries, turn).reshape(rows, length, c.kv_heads, c.heads // c.kv_heads, c.head_dim)
        return queries, rotate(keys, turn).transpose(0, 2, 3, 1), values.transpose(0, 2, 1, 3)

    def in_rows(self, queries: jax.Array, keys: jax.Array, values: jax.Array, mask: jax.Array | Blocks) -> jax.Array:
        """Softmax attention in packed rows. mask [B, L, L] is True where a key may be seen. Returns [B * L, D]."""
        if isinstance(mask, Blocks):
            mixed = splash_attention(queries, keys, values, mask, interpret=self.config.interpret)
        else:
            mixed = attention(queries, keys, values, mask)
        return self.output(fold(mixed.reshape(*mixed.shape[:2], -1)))

    def to_caches(self, queries: jax.Array, cache: Cache, mask: jax.Array,
                  shared: tuple[Cache, jax.Array] | None) -> jax.Array:
        """Softmax attention to caches, see `cache.attend`. Returns [B * L, D], turned where features come first."""
        mixed = attend(self.config, queries, cache, mask, shared).reshape(queries.shape[0] * queries.shape[1], -1)
        return self.output(mixed.T if self.config.features_first else mixed)


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

    def __call__(self, x: jax.Array, turn: Rotation, mask: jax.Array | Blocks) -> jax.Array:
        """x [B * L, D], mask [B, L, L] of no later keys -> x."""
        projected = self.attention.project(self._attention_input(x), turn, causal=True)
        return self._finish(x, self.attention.in_rows(*projected, mask))

    def extend(self, x: jax.Array, turn: Rotation, mask: jax.Array, cache: Cache, slot: jax.Array,
               shared: tuple[Cache, jax.Array] | None) -> tuple[jax.Array, Cache]:
        """L more tokens a row, as `extend` has them; keys and values go to the cache from `slot` on."""
        queries, keys, values = self.attention.project(self._attention_input(x), turn)
        cache = write(cache, keys, values, slot)
        return self._finish(x, self.attention.to_caches(queries, cache, mask, shared)), cache

    def _attention_input(self, x: jax.Array) -> jax.Array:
        return x if self.placement == "post" else self.attention_norm(x)

    def _finish(self, x: jax.Array, attended: jax.Array) -> jax.Array:
        if self.placement == "post":
            x = self.attention_norm(x + attended)
            return self.mlp_norm(x + self.mlp(x))
        if self.placement == "peri":
            x = x + self.attention_output_norm(attended)
            return x + self.mlp_output_norm(self.mlp(self.mlp_norm(x)))
        x = x + attended
        return x + self.mlp(self.mlp_norm(x))


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
                                   kernel_init=scaled_init(), rngs=rngs)


def initialize(config: DecoderConfig, key: jax.Array) -> Parameters:
    """Random parameters, in the types that the config says."""
    return nnx.to_pure_dict(nnx.state(Decoder(config, rngs=nnx.Rngs(params=key)), nnx.Param))


def hidden_states(config: DecoderConfig, parameters: Parameters, tokens: Array, positions: Array,
                  mask: jax.Array | Blocks, *, remat: str = "none") -> jax.Array:
    """Final hidden states of every position.

    Args:
      tokens, positions: [B, L] int32.
      mask: from `row_mask`; or any [B, L, L] bool, True where a query (second axis) may see a key (third axis), never
        a later one.
      remat: what the backward pass computes again, see `models.remat`.

    Returns:
      [B, L, D] after the final norm.
    """
    def layer(x: jax.Array, inputs: Any) -> tuple[jax.Array, None]:
        block_parameters, window = inputs
        seen = mask if window is None or isinstance(mask, Blocks) else mask & _in_window(window, distance)
        return constrain(_merge(Block, config, block_parameters)(x, turn, seen), BATCH), None

    turn = rotation(config, positions)
    distance = positions[:, :, None] - positions[:, None, :]
    windows = jnp.asarray(config.windows, jnp.int32) if config.windows else None
    x = constrain(_embed(config, parameters, fold(tokens)), BATCH)
    x, _ = scan_layers(layer, x, (parameters["layers"], windows), remat)
    return unfold(_merge(Norm, config, parameters["final_norm"])(x), *tokens.shape)


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
    """The parameters with a list of layers, for `extend`: slicing the stack in a decode loop copies it each turn.

    For a CPU their matrices are turned to [out, in]. As the left operand of a product a matrix is read as it is; as the
    right one it is rearranged at every product, which for few rows takes as long as the product.
    """
    layers = parameters["layers"]
    if not isinstance(layers, list):
        layers = [jax.tree.map(operator.itemgetter(i), layers) for i in range(config.layers)]
    return parameters | {"layers": [_turned(layer) for layer in layers] if config.for_cpu else layers}


def _turned(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    return {"kernel_turned" if name == "kernel" else name: part.T if name == "kernel" else _turned(part)
            for name, part in tree.items()}


def extend(config: DecoderConfig, parameters: Parameters, tokens: jax.Array, turn: Rotation,
           distance: jax.Array, caches: list[Cache], slot: jax.Array | int,
           shared: Shared | None = None) -> tuple[jax.Array, list[Cache]]:
    """Hidden states of L more tokens a row against the cache: a prompt, a piece of one, or one sampled token.

    Args:
      parameters: from `unstack_layers`. tokens: [B, L] int32. turn: of their positions (`rotary.rotation`).
      distance: [B, L, S] int32, how many positions a slot lies behind a token (0 is the token itself); negative
        where the slot must not be seen.
      slot: where the new keys and values go, in L slots of one block from here on.
      shared: further caches, of earlier tokens than the rows' own; no layer may have a window then.

    Returns:
      [B, L, D] after the final norm, and the updated caches.
    """
    first = config.for_cpu and tokens.size <= FEW
    config = dataclasses.replace(config, features_first=first, mlp_blocks=1)
    x = constrain(_embed(config, parameters, tokens.reshape(-1)), BATCH)
    x, updated, windows = x.T if first else x, [], config.windows or (0,) * config.layers
    for number, (block_parameters, cache, window) in enumerate(zip(parameters["layers"], caches, windows, strict=True)):
        seen = (distance >= 0) & _in_window(window, distance)
        also = (shared.caches[number], shared.lengths) if shared else None
        x, cache = _extend_block(config, block_parameters, x, turn, seen, cache, slot, also)
        updated.append(cache)
    x = _merge(Norm, config, parameters["final_norm"])(x)
    x = jax.lax.optimization_barrier(x.T) if first else x  # or the head's product would read it turned
    return x.reshape(*tokens.shape, -1), updated


@functools.partial(jax.jit, static_argnames="config")
def _extend_block(config: DecoderConfig, parameters: Parameters, x: jax.Array, turn: Rotation, mask: jax.Array,
                  cache: Cache, slot: jax.Array, shared: tuple[Cache, jax.Array] | None) -> tuple[jax.Array, Cache]:
    """`Block.extend`, traced once for all layers that look alike: a fifth less to compile of 30."""
    return _merge(Block, config, parameters).extend(x, turn, mask, cache, slot, shared)


def logits(config: DecoderConfig, parameters: Parameters, hidden: jax.Array, *, turned: bool = False) -> jax.Array:
    """Float32 logits [..., V] of hidden states [..., D]; the one function for sampler and trainer.

    turned: those of [B, D] as [V, B].
    """
    hidden = hidden.astype(config.precision.head)
    if config.tied:
        table = parameters["embed"]["embedding"].astype(hidden.dtype)
        if turned:
            return jnp.matmul(table, hidden.T, preferred_element_type=jnp.float32)
        return jnp.einsum("...d,vd->...v", hidden, table, preferred_element_type=jnp.float32)
    kernel = parameters["head"]["kernel"].astype(hidden.dtype)
    found = jnp.einsum("...d,dv->...v", hidden, kernel, preferred_element_type=jnp.float32)
    return found.T if turned else found


def _embed(config: DecoderConfig, parameters: Parameters, tokens: Array) -> jax.Array:
    return parameters["embed"]["embedding"][tokens].astype(config.precision.compute)


def _in_window(window: jax.Array | int, distance: Array) -> Array:
    """True where a key is one of the latest `window` positions; 0 is no window. distance: query minus key."""
    return (distance < window) | (window == 0)


@functools.cache
def _graph(module: Callable[..., nnx.Module], config: DecoderConfig) -> nnx.GraphDef:
    """The module's structure, without arrays."""
    return nnx.graphdef(nnx.eval_shape(lambda: module(config, rngs=nnx.Rngs(params=0))))


def _merge(module: Callable[..., nnx.Module], config: DecoderConfig, parameters: Parameters) -> Any:
    """The module with these parameters, as a callable."""
    return nnx.merge(_graph(module, config), nnx.State(parameters))
