"""The graph as a policy's logits hold it: which steps there are, and what leads to a target.

ALPINE (arXiv:2405.09220, section 3) shows that a simplified transformer gives the next node the logits W^M[current] +
W^V[target], and that training makes W^M the observed adjacency and W^V the observed reachability. Here the two parts
are read off any policy: its logits at "source target current" are fitted by a sum of one term for the current node
and one for the target.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rl_reasoning.models.decoder import DecoderConfig, Parameters, hidden_states, logits


class Readings(NamedTuple):
    """The additive parts of next-node logits; rows without any pair are NaN.

    adjacency: [N, N], what current node i adds to the logit of next node k, above the average current node.
    reachability: [N, N], what target t adds to it, above the average target.
    explained: share of the logits' variance, beyond each next node's mean, that the two parts explain together.
    """

    adjacency: np.ndarray
    reachability: np.ndarray
    explained: float


class Separation(NamedTuple):
    """How far a reading keeps two kinds of entries apart.

    high, low: means of the entries that should be high and low. auc: the chance that one of the first is above one of
    the second; 0.5 when the reading knows nothing. NaN where a kind has no entry.
    """

    high: float
    low: float
    auc: float


def next_node_logits(config: DecoderConfig, parameters: Parameters, pairs: np.ndarray, nodes: int) -> np.ndarray:
    """[P, N] float32: logits of the next node at the start of each plan, after the tokens `i t i`.

    Args:
      pairs: [P, 2] node numbers (current and source i, target t); a node's number is its token.
      nodes: N, the first N tokens of the vocabulary.
    """
    tokens = jnp.asarray(pairs)[:, jnp.asarray([0, 1, 0])].astype(jnp.int32)
    positions = jnp.broadcast_to(jnp.arange(3), tokens.shape)
    mask = jnp.broadcast_to(jnp.tril(jnp.ones((3, 3), bool)), (len(tokens), 3, 3))

    @jax.jit
    def last(parameters: Parameters) -> jax.Array:
        hidden = hidden_states(config, parameters, tokens, positions, mask)
        return logits(config, parameters, hidden[:, -1])[:, :nodes]

    return np.asarray(last(parameters))


def read(values: np.ndarray, pairs: np.ndarray) -> Readings:
    """Least squares of next-node logits by a mean, a part of the current node and a part of the target.

    Args:
      values: [P, N] logits; each row is taken relative to its mean, since a softmax does not see it.
      pairs: [P, 2] (current node, target) of each row.
    """
    nodes = values.shape[1]
    relative = values - values.mean(axis=1, keepdims=True)
    beyond_mean = relative - relative.mean(axis=0)
    design = np.zeros((len(pairs), 2 * nodes))
    design[np.arange(len(pairs)), pairs[:, 0]] = 1
    design[np.arange(len(pairs)), nodes + pairs[:, 1]] = 1
    parts = np.linalg.lstsq(design, beyond_mean, rcond=None)[0]
    left = beyond_mean - design @ parts
    parts[design.sum(axis=0) == 0] = np.nan
    adjacency, reachability = (part - np.nanmean(part, axis=0) for part in (parts[:nodes], parts[nodes:]))
    return Readings(adjacency, reachability, float(1 - np.square(left).sum() / np.square(beyond_mean).sum()))


def separation(reading: np.ndarray, high: np.ndarray, low: np.ndarray) -> Separation:
    """How far `reading` keeps the entries of two masks of its shape apart; entries that are NaN are left out."""
    above, below = (np.sort(reading[mask & np.isfinite(reading)]) for mask in (high, low))
    if not len(above) or not len(below):
        return Separation(float("nan"), float("nan"), float("nan"))
    wins = np.searchsorted(below, above, side="left") + np.searchsorted(below, above, side="right")
    return Separation(float(above.mean()), float(below.mean()), float(wins.sum() / (2 * len(above) * len(below))))
