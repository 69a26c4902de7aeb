"""Norms of each answer's gradient at the output layer, exactly and without a backward pass.

The gradient of sum_t c_t ln p(y_t) with respect to the output layer's weights is sum_t c_t (e_y - p)_t h_t^T / tau: an
outer product a token of what the forward pass has already. Its squared norm is a sum over pairs of tokens of products
of two inner products, one over the vocabulary and one over the width, so no gradient is ever held.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rl_reasoning.arrays import Array
from rl_reasoning.models.decoder import DecoderConfig, Parameters, logits

_EXACT = jax.lax.Precision.HIGHEST  # sums of products of either sign: rounded factors would show


class HeadSquares(NamedTuple):
    """Squared Frobenius norms.

    answers: [N], of each answer's gradient. groups: [N], of the sum over the answers of group 0, 1, ..., 0 where there
    is no such group; None unless groups were given.
    """

    answers: jax.Array
    groups: jax.Array | None = None


def head_gradient_squares(config: DecoderConfig, parameters: Parameters, hidden: jax.Array, ids: Array,
                          coefficients: jax.Array, *, groups: Array | None = None, temperature: float = 1.0,
                          budget: int = 2**24) -> HeadSquares:
    """Squared norms of the gradients of sum_t c_t ln p(y_t), p at the temperature, at the output layer.

    Where the embedding serves as the output layer, this is its gradient as the output layer: what reaches it through
    the input is left out.

    Args:
      hidden: [N, T, D] hidden states that predict `ids` [N, T].
      coefficients: [N, T] float, 0 beyond the answers; hidden states there may be anything finite.
      groups: [N] int32 ids in 0..N-1, or None.
      budget: how many logits, or numbers of a gradient, may exist at once.
    """
    count, length = ids.shape
    # Pairs of tokens are cheaper than the gradient itself while there are fewer tokens than dimensions.
    pairs = groups is None and length <= hidden.shape[-1]
    size = min(config.vocabulary, max(1, budget // (count * (length if pairs else max(length, hidden.shape[-1])))))
    starts = jnp.arange(0, config.vocabulary, size)
    hidden = hidden.astype(config.precision.head)

    def scores(start: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Logits [N, T, size] of a part of the vocabulary and its ids; ids that were in another part have -inf."""
        columns = jnp.minimum(start, config.vocabulary - size) + jnp.arange(size)
        raw = logits(config, _columns(config, parameters, columns[0], size), hidden) / temperature
        return jnp.where(columns >= start, raw, -jnp.inf), columns

    def part(raw: jax.Array, columns: jax.Array, total: jax.Array) -> HeadSquares:
        """What a part of the vocabulary adds; total: the logarithm of the whole's sum."""
        pull = coefficients[..., None] * ((columns == ids[..., None]) - jnp.exp(raw - total[..., None]))
        pull = jnp.where(raw == -jnp.inf, 0, pull)
        if pairs:
            return HeadSquares(jnp.einsum("ntv,nsv->nts", pull, pull, precision=_EXACT))
        gradient = jnp.einsum("ntv,ntd->nvd", pull, states, precision=_EXACT)
        return HeadSquares(_squares(gradient), None if groups is None else _squares(
            jax.ops.segment_sum(gradient, groups, num_segments=count)))

    states = hidden.astype(jnp.float32) / temperature
    if len(starts) == 1:
        raw, columns = scores(starts[0])
        found = part(raw, columns, jax.nn.logsumexp(raw, axis=-1))
    else:  # the logits once for their sum and once more, rather than all of them at a time
        total = jax.nn.logsumexp(jax.lax.map(lambda start: jax.nn.logsumexp(scores(start)[0], axis=-1), starts), axis=0)
        nothing = HeadSquares(jnp.zeros((count, length, length) if pairs else count),
                              None if groups is None else jnp.zeros(count))
        found, _ = jax.lax.scan(lambda so_far, start: (
            jax.tree.map(jnp.add, so_far, part(*scores(start), total)), None), nothing, starts)
    if pairs:
        products = jnp.einsum("ntd,nsd->nts", states, states, precision=_EXACT)
        found = HeadSquares((found.answers * products).sum(axis=(1, 2)))
    return jax.tree.map(lambda squares: jnp.maximum(squares, 0), found)


def _squares(gradient: jax.Array) -> jax.Array:
    return jnp.square(gradient).sum(axis=(1, 2))


def _columns(config: DecoderConfig, parameters: Parameters, first: jax.Array, size: int) -> Parameters:
    """The part of the output layer for `size` ids from `first` on."""
    if config.tied:
        table = parameters["embed"]["embedding"]
        return {"embed": {"embedding": jax.lax.dynamic_slice_in_dim(table, first, size, axis=0)}}
    return {"head": {"kernel": jax.lax.dynamic_slice_in_dim(parameters["head"]["kernel"], first, size, axis=1)}}
