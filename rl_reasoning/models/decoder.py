"""One decoder-only transformer, in Flax NNX, used through pure functions of its parameters.

RMSNorm before each part, grouped-query attention with rotary positions (half rotation), gated MLP.
Layers are stacked on a leading axis and scanned, so that compile time does not grow with depth; decoding
unrolls them, which is several times faster on a CPU (see `decode_step`).

Parameters are a nested dict of arrays, kept apart from the modules: losses and the sampler see
`hidden_states(config, parameters, ...)` and `logits(config, parameters, hidden)`, the same in both.

Shape letters: B rows, L positions, S cache slots, D width, H query heads, K key/value heads, h head
width, V vocabulary.
"""

import dataclasses
import functools
import operator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

Parameters = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class DecoderConfig:
    """Sizes of a decoder. `tied` shares the embedding with the output head."""

    vocabulary: int
    layers: int
    width: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-5
    tied: bool = True

    def __post_init__(self):
        if self.heads % self.kv_heads:
            raise ValueError(f"kv_heads={self.kv_heads} must divide heads={self.heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim={self.head_dim} must be even: rotary positions turn pairs")


class Cache(NamedTuple):
    """Keys and values of one layer. The layouts are the ones in which decode attention runs fastest.

    keys: [B, K, h, S]. values: [B, K, S, h].
    """

    keys: jax.Array
    values: jax.Array


class Rotation(NamedTuple):
    """Sine and cosine of every position's angles, [B, L, 1, h / 2]; computed once for all layers."""

    sin: jax.Array
    cos: jax.Array


def rotation(config: DecoderConfig, positions: jax.Array) -> Rotation:
    """The angles of rotary positions (RoFormer, arXiv 2104.09864). positions: [B, L] int."""
    half = config.head_dim // 2
    frequencies = config.rope_theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions[..., None, None].astype(jnp.float32) * frequencies[None, None, None, :]
    return Rotation(jnp.sin(angles), jnp.cos(angles))


def rotate(x: jax.Array, turn: Rotation) -> jax.Array:
    """Turns the pairs (i, i + h / 2) of each head. x: [B, L, heads, h]."""
    first, second = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([first * turn.cos - second * turn.sin, second * turn.cos + first * turn.sin], axis=-1)


class Norm(nnx.RMSNorm):
    """Root-mean-square norm (arXiv 1910.07467) over the residual width."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        super().__init__(config.width, epsilon=config.norm_epsilon, rngs=rngs)


class Attention(nnx.Module):
    """Grouped-query attention: K key/value heads, each shared by H / K query heads."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        linear = functools.partial(nnx.Linear, use_bias=False, kernel_init=_scaled_init(), rngs=rngs)
        self.config = config
        self.query = linear(config.width, config.heads * config.head_dim)
        self.key = linear(config.width, config.kv_heads * config.head_dim)
        self.value = linear(config.width, config.kv_heads * config.head_dim)
        self.output = linear(config.heads * config.head_dim, config.width,
                             kernel_init=_scaled_init(2 * config.layers))

    def project(self, x: jax.Array, turn: Rotation) -> tuple[jax.Array, jax.Array, jax.Array]:
        """x [B * L, D] -> queries [B, L, K, H/K, h], keys [B, K, h, L], values [B, K, L, h]."""
        c, (rows, length) = self.config, turn.sin.shape[:2]
        queries = rotate(self.query(x).reshape(rows, length, c.heads, c.head_dim), turn)
        keys = rotate(self.key(x).reshape(rows, length, c.kv_heads, c.head_dim), turn)
        values = self.value(x).reshape(rows, length, c.kv_heads, c.head_dim)
        queries = queries.reshape(rows, length, c.kv_heads, c.heads // c.kv_heads, c.head_dim)
        return queries, keys.transpose(0, 2, 3, 1), values.transpose(0, 2, 1, 3)

    def attend(self, queries: jax.Array, cache: Cache, mask: jax.Array) -> jax.Array:
        """Softmax attention in float32. mask [B, L, S] is True where a key may be seen. Returns [B * L, D]."""
        scores = jnp.einsum("blkgh,bkhs->bkgls", queries, cache.keys).astype(jnp.float32)
        scores = jnp.where(mask[:, None, None], scores * self.config.head_dim ** -0.5, _NEVER)
        weights = jax.nn.softmax(scores, axis=-1).astype(cache.values.dtype)
        mixed = jnp.einsum("bkgls,bksh->blkgh", weights, cache.values)
        return self.output(mixed.reshape(-1, self.config.heads * self.config.head_dim))


class GatedMLP(nnx.Module):
    """SwiGLU (arXiv 2002.05202): down(silu(gate(x)) * up(x))."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        linear = functools.partial(nnx.Linear, use_bias=False, kernel_init=_scaled_init(), rngs=rngs)
        self.gate = linear(config.width, config.mlp)
        self.up = linear(config.width, config.mlp)
        self.down = linear(config.mlp, config.width, kernel_init=_scaled_init(2 * config.layers))

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down(jax.nn.silu(self.gate(x)) * self.up(x))


class Block(nnx.Module):
    """One layer: x + attention(norm(x)), then x + mlp(norm(x)).

    Rows and positions are one axis here: with two, the weights' gradients are a third slower on a CPU.
    """

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.attention_norm = Norm(config, rngs=rngs)
        self.attention = Attention(config, rngs=rngs)
        self.mlp_norm = Norm(config, rngs=rngs)
        self.mlp = GatedMLP(config, rngs=rngs)

    def __call__(self, x: jax.Array, turn: Rotation, mask: jax.Array) -> tuple[jax.Array, Cache]:
        """x [B * L, D], mask [B, L, L] -> x and the layer's keys and values."""
        queries, keys, values = self.attention.project(self.attention_norm(x), turn)
        cache = Cache(keys, values)
        x = x + self.attention.attend(queries, cache, mask)
        return x + self.mlp(self.mlp_norm(x)), cache

    def step(self, x: jax.Array, turn: Rotation, mask: jax.Array, cache: Cache,
             slot: jax.Array) -> tuple[jax.Array, Cache]:
        """One token a row: x [B, D], mask [B, 1, S]; its key and value go to `slot` of the cache."""
        queries, keys, values = self.attention.project(self.attention_norm(x), turn)
        cache = Cache(jax.lax.dynamic_update_slice_in_dim(cache.keys, keys, slot, axis=3),
                      jax.lax.dynamic_update_slice_in_dim(cache.values, values, slot, axis=2))
        x = x + self.attention.attend(queries, cache, mask)
        return x + self.mlp(self.mlp_norm(x)), cache


class Decoder(nnx.Module):
    """Embedding, stacked layers, final norm, output head (the embedding itself when tied)."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        self.embed = nnx.Embed(config.vocabulary, config.width, rngs=rngs,
                               embedding_init=nnx.initializers.normal(config.width ** -0.5))
        self.layers = nnx.vmap(lambda keys: Block(config, rngs=keys), axis_size=config.layers)(
            rngs.split(config.layers))
        self.final_norm = Norm(config, rngs=rngs)
        if not config.tied:
            self.head = nnx.Linear(config.width, config.vocabulary, use_bias=False,
                                   kernel_init=_scaled_init(), rngs=rngs)


def initialize(config: DecoderConfig, key: jax.Array) -> Parameters:
    """Random float32 parameters."""
    return nnx.to_pure_dict(nnx.state(Decoder(config, rngs=nnx.Rngs(params=key)), nnx.Param))


def hidden_states(config: DecoderConfig, parameters: Parameters, tokens: jax.Array, positions: jax.Array,
                  mask: jax.Array, *, remat: bool = False) -> tuple[jax.Array, Cache]:
    """Final hidden states of every position, and the keys and values of every layer.

    Args:
      tokens, positions: [B, L] int32.
      mask: [B, L, L] bool, True where a query (second axis) may see a key (third axis).
      remat: recompute a layer's activations in the backward pass.

    Returns:
      [B, L, D] after the final norm, and a `Cache` with a leading layer axis.
    """
    def layer(x, block_parameters):
        return _merge(Block, config, block_parameters)(x, turn, mask)

    turn = rotation(config, positions)
    x = parameters["embed"]["embedding"][tokens.reshape(-1)]
    x, cache = jax.lax.scan(jax.checkpoint(layer) if remat else layer, x, parameters["layers"])
    return _merge(Norm, config, parameters["final_norm"])(x).reshape(*tokens.shape, -1), cache


def branch_mask(segments: jax.Array, branches: jax.Array) -> jax.Array:
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


def unstack_layers(config: DecoderConfig, parameters: Parameters) -> list[Parameters]:
    """Parameters of each layer. Done once before a decode loop: slicing inside it would copy them at each token."""
    return [jax.tree.map(operator.itemgetter(i), parameters["layers"]) for i in range(config.layers)]


def decode_step(config: DecoderConfig, parameters: Parameters, layers: list[Parameters], tokens: jax.Array,
                positions: jax.Array, mask: jax.Array, caches: list[Cache],
                slot: jax.Array) -> tuple[jax.Array, list[Cache]]:
    """Hidden state of one more token a row, against the cache.

    Args:
      layers: from `unstack_layers`. tokens, positions: [B] int32.
      mask: [B, S] bool, which slots may be seen, the new token's included.
      slot: scalar int, where the new keys and values go.

    Returns:
      [B, D] after the final norm, and the updated caches.
    """
    x = parameters["embed"]["embedding"][tokens]
    turn, updated = rotation(config, positions[:, None]), []
    for block_parameters, cache in zip(layers, caches, strict=True):
        x, cache = _merge(Block, config, block_parameters).step(x, turn, mask[:, None], cache, slot)
        updated.append(cache)
    return _merge(Norm, config, parameters["final_norm"])(x), updated


def logits(config: DecoderConfig, parameters: Parameters, hidden: jax.Array) -> jax.Array:
    """Float32 logits [..., V] of hidden states [..., D]; the one function for sampler and trainer."""
    if config.tied:
        return jnp.einsum("...d,vd->...v", hidden, parameters["embed"]["embedding"],
                          preferred_element_type=jnp.float32)
    return jnp.einsum("...d,dv->...v", hidden, parameters["head"]["kernel"], preferred_element_type=jnp.float32)


_NEVER = -1e30  # finite, so that a row that sees nothing gives a mean and not NaN


def _scaled_init(residual_parts: int = 1) -> nnx.Initializer:
    """LeCun normal; parts that write to the residual stream shrink with their number (GPT-2's rule)."""
    return nnx.initializers.variance_scaling(1.0 / residual_parts, "fan_in", "normal")


@functools.cache
def _graph(module: type[nnx.Module], config: DecoderConfig) -> nnx.GraphDef:
    """The module's structure, without arrays."""
    return nnx.graphdef(nnx.eval_shape(lambda: module(config, rngs=nnx.Rngs(params=0))))


def _merge(module: type[nnx.Module], config: DecoderConfig, parameters: Parameters) -> Any:
    """The module with these parameters, as a callable."""
    return nnx.merge(_graph(module, config), nnx.State(parameters))
