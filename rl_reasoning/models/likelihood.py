"""Log-probability and entropy of chosen tokens, without ever holding the logits of a whole batch.

Logits are made for one block of the vocabulary at a time, for all positions, and made again in the backward pass, as
in Cut Cross-Entropy (arXiv 2411.09009), unless there are no more than two blocks: those are kept. Blocks of the
vocabulary rather than of positions: each block of the output head is then read once, and its gradient is complete at
once: on a mesh, one gather and one reduction a block.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rl_reasoning.arrays import Array
from rl_reasoning.models.decoder import DecoderConfig, Parameters, logits
from rl_reasoning.models.product import apart
from rl_reasoning.parallel import constrain, parts
from rl_reasoning.parallel.rules import BATCH, FSDP, TENSOR

BUDGET = 2**24  # float32 logits: 64 MiB
_KEPT = 2  # blocks at most whose logits are kept for the backward pass
_LEAST = -1e30


def log_probabilities(raw: jax.Array, temperature: float) -> jax.Array:
    """log softmax(raw / temperature) in float32; sampler and trainer both call it, so they cannot differ.

    Args: raw [..., V]. At temperature 0 the answer is that of temperature 1.
    """
    return jax.nn.log_softmax(raw.astype(jnp.float32) / (temperature or 1.0), axis=-1)


class TokenStatistics(NamedTuple):
    """What a policy says of chosen tokens; float32, all of one shape.

    logp: log-probability of the token. entropy: of the distribution it comes from, in nats. collision: the sum over
    the vocabulary of squared probabilities, not differentiated.
    """

    logp: jax.Array
    entropy: jax.Array
    collision: jax.Array


def token_logprobs(config: DecoderConfig, parameters: Parameters, hidden: jax.Array, ids: Array, *,
                   temperature: float = 1.0, budget: int = BUDGET) -> TokenStatistics:
    """Log-probability of each id, and what else is known of the distribution it comes from.

    Differentiable in parameters and hidden, by a backward pass of its own.

    Args:
      hidden: [..., D] hidden states that predict `ids` [...].
      budget: how many logits are made at once on a device, whatever the batch; each is one float32. Where there are no
        more than twice as many, all are kept for the backward pass.

    Returns: statistics [...].
    """
    if parts(BATCH) == 1:  # one axis of positions: with two, the head's gradient is slower on a CPU
        flat = token_blocks(config, parameters, hidden.reshape(-1, hidden.shape[-1]), ids.reshape(-1), temperature,
                            budget)
        return jax.tree.map(lambda x: x.reshape(ids.shape), flat)
    return token_blocks(config, parameters, hidden, ids, temperature, budget)


def over_vocabulary(function: Callable[[jax.Array, jax.Array], Any], config: DecoderConfig, parameters: Parameters,
                    hidden: jax.Array, ids: Array, *, temperature: float = 1.0, budget: int = BUDGET) -> Any:
    """Any function of each position's whole distribution, for some positions at a time.

    The logits exist for budget / V positions at a time, forward and backward, whatever the batch.

    Args:
      function: (log-probabilities [S, V], ids [S]) -> a pytree of arrays [S].
      hidden: [..., D] hidden states that predict `ids` [...].

    Returns:
      the function's pytree, of arrays [...].
    """
    def one_chunk(arguments: tuple[jax.Array, jax.Array]) -> Any:
        rows, targets = arguments
        return function(log_probabilities(logits(config, parameters, rows), temperature), targets)

    shape, count = ids.shape, ids.size
    size = min(max(1, budget // config.vocabulary), count)
    padding = -count % size
    rows = jnp.pad(hidden.reshape(count, -1), ((0, padding), (0, 0))).reshape(-1, size, hidden.shape[-1])
    targets = jnp.pad(ids.reshape(count), (0, padding)).reshape(-1, size)
    # One chunk is small enough to keep for the backward pass; several are computed again.
    found = jax.lax.map(one_chunk if len(rows) == 1 else jax.checkpoint(one_chunk), (rows, targets))
    return jax.tree.map(lambda x: x.reshape(-1)[:count].reshape(shape), found)


@dataclasses.dataclass(frozen=True)
class _Way:
    """How the vocabulary is walked through.

    tied: the output head is [V, D], else [D, V]. split: parts of the vocabulary on different devices, which are walked
    side by side. size: ids of each part in a block. count: blocks.
    """

    temperature: float
    tied: bool
    split: int
    size: int
    count: int

    def cut(self, table: jax.Array) -> jax.Array:
        """The output head as [parts, V / parts, D] or [D, parts, V / parts]."""
        shape = table.shape
        return table.reshape(self.split, -1, shape[1]) if self.tied else table.reshape(shape[0], self.split, -1)

    @property
    def axis(self) -> int:
        return 1 if self.tied else 2

    @property
    def letters(self) -> str:
        return "svd" if self.tied else "dsv"


def token_blocks(config: DecoderConfig, parameters: Parameters, hidden: jax.Array, ids: Array, temperature: float,
                 budget: int) -> TokenStatistics:
    """`token_logprobs` by blocks of the vocabulary: budget over positions a device, but at least one id."""
    table = (parameters["embed"]["embedding"] if config.tied else parameters["head"]["kernel"]).astype(
        config.precision.head)
    split = parts((TENSOR,))
    split = split if config.vocabulary % split == 0 else 1
    own, positions = config.vocabulary // split, -(-ids.size // parts(BATCH))
    count = -(-own // max(1, budget // positions))
    way = _Way(temperature or 1.0, config.tied, split, -(-own // count), count)
    return _in_blocks(way, way.cut(table), hidden.astype(table.dtype), ids)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _in_blocks(way: _Way, table: jax.Array, hidden: jax.Array, ids: jax.Array) -> TokenStatistics:
    return _forward(way, table, hidden, ids)[0]


def _block(way: _Way, table: jax.Array, hidden: jax.Array, ids: jax.Array, number: jax.Array,
           raw: jax.Array | None = None) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
    """One block: where it starts in each part, its rows of the head, its logits as they are and over the temperature
    [..., s, v], and where `ids` are. raw: the logits, if they were kept."""
    own = table.shape[way.axis]
    start = jnp.minimum(number * way.size, own - way.size)  # the last block may begin in the one before
    rows = jax.lax.dynamic_slice_in_dim(table, start, way.size, way.axis)
    if raw is None:
        raw = _scores(way, hidden, rows)
        raw = constrain(raw, BATCH, *[None] * (ids.ndim - 1), TENSOR)
    place = start + jnp.arange(way.size)
    scores, here = raw / way.temperature, jnp.arange(way.split)[:, None] * own + place == ids[..., None, None]
    if way.count * way.size > own:
        new = place >= number * way.size
        scores, here = jnp.where(new, scores, _LEAST), here & new
    return start, rows, raw, scores, here


def _scores(way: _Way, hidden: jax.Array, rows: jax.Array) -> jax.Array:
    """Logits [..., s, v] by rows of the head. For one part in two axes: with three, a CPU turns the rows."""
    if way.split > 1:
        return jnp.einsum(f"...d,{way.letters}->...sv", hidden, rows, preferred_element_type=jnp.float32)
    rows, letters = rows.squeeze(way.axis - 1), way.letters.replace("s", "")
    return jnp.einsum(f"...d,{letters}->...v", hidden, rows, preferred_element_type=jnp.float32)[..., None, :]


def _forward(way: _Way, table: jax.Array, hidden: jax.Array, ids: jax.Array) -> tuple[TokenStatistics, Any]:
    """One pass over the blocks with a running maximum, which the sums are relative to. Few blocks' logits are kept."""
    def add(carry: Any, number: jax.Array) -> Any:
        """One block more."""
        largest, mass, weighted, squared, chosen = carry
        _, _, raw, scores, here = _block(way, table, hidden, ids, number)
        top = jnp.maximum(largest, scores.max(axis=(-2, -1)))
        moved = scores - top[..., None, None]
        share, shrink = jnp.exp(moved), jnp.exp(largest - top)
        # Relative to the new maximum, what was summed before is smaller, and its scores are lower.
        weighted = (weighted + (largest - top) * mass) * shrink + (share * moved).sum(axis=(-2, -1))
        sums = (top, mass * shrink + share.sum(axis=(-2, -1)), weighted,
                squared * jnp.square(shrink) + jnp.square(share).sum(axis=(-2, -1)),
                jnp.maximum(chosen, jnp.where(here, scores, _LEAST).max(axis=(-2, -1))))
        return sums, raw if way.count <= _KEPT else None

    nothing = jnp.zeros(ids.shape, jnp.float32)
    least = nothing + _LEAST
    (top, mass, weighted, squared, chosen), raw = jax.lax.scan(
        add, (least, nothing, nothing, nothing, least), jnp.arange(way.count))
    normaliser, entropy = top + jnp.log(mass), jnp.log(mass) - weighted / mass
    found = TokenStatistics(chosen - normaliser, entropy, squared / jnp.square(mass))
    return found, (table, hidden, ids, normaliser, entropy, raw)


def _backward(way: _Way, kept: Any, upstream: TokenStatistics) -> tuple[jax.Array, jax.Array, None]:
    """d logp / d score = onehot - p and d entropy / d score = -p (log p + entropy), with the scores made again."""
    table, hidden, ids, normaliser, entropy, raw = kept
    to_logp, to_entropy, normaliser, entropy = (
        x[..., None, None] for x in (upstream.logp, upstream.entropy, normaliser, entropy))

    def add(carry: Any, block: Any) -> Any:
        """One block's part of both gradients."""
        to_table, to_hidden = carry
        start, rows, _, scores, here = _block(way, table, hidden, ids, *block)
        logp = scores - normaliser
        pull = jnp.where(here, to_logp, 0) - jnp.exp(logp) * (to_logp + to_entropy * (logp + entropy))
        pull = (pull / way.temperature).astype(hidden.dtype)
        own = _gradient_of_head(way, pull, hidden)
        so_far = jax.lax.dynamic_slice_in_dim(to_table, start, way.size, way.axis)
        to_table = jax.lax.dynamic_update_slice_in_dim(to_table, so_far + own, start, way.axis)
        moved = jnp.einsum(f"...sv,{way.letters}->...d", pull, rows, preferred_element_type=jnp.float32)
        return (placed(to_table), to_hidden + moved), None

    def placed(x: jax.Array) -> jax.Array:
        return constrain(x, *((TENSOR, None, FSDP) if way.tied else (FSDP, TENSOR, None)))

    nothing = (placed(jnp.zeros(table.shape, jnp.float32)), jnp.zeros(hidden.shape, jnp.float32))
    (to_table, to_hidden), _ = jax.lax.scan(add, nothing, (jnp.arange(way.count), raw))
    return to_table.astype(table.dtype), to_hidden.astype(hidden.dtype), None


_in_blocks.defvjp(_forward, _backward)


def _gradient_of_head(way: _Way, pull: jax.Array, hidden: jax.Array) -> jax.Array:
    """What pulls [..., s, v] at scores give a block of the head, float32.

    As `product.over_rows`, which is for two axes: made of turned hidden states as [D, s, v] and, for a tied head, then
    turned, unless there are fewer positions than dimensions: a CPU turns all pulls then, which is less. In bfloat16
    jax 0.10.2 cannot do that on a CPU.
    """
    few = hidden.ndim == 2 and len(hidden) <= hidden.shape[1] and hidden.dtype != jnp.bfloat16
    if way.tied and few and way.split == 1:
        return apart(jnp.einsum("nv,nd->vd", pull.squeeze(1), hidden))[None]
    own = jnp.einsum("d...,...sv->dsv", apart(jnp.moveaxis(hidden, -1, 0)), pull,
                     preferred_element_type=jnp.float32)
    return apart(own).transpose(1, 2, 0) if way.tied else own
