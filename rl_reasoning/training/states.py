"""The hidden states that predict answer tokens, looked up in packed rows: no state is made or scored for padding."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rl_reasoning.arrays import Array
from rl_reasoning.config import RL
from rl_reasoning.models.decoder import DecoderConfig, Parameters, hidden_states, row_mask
from rl_reasoning.models.likelihood import BUDGET
from rl_reasoning.parallel import constrain, parts
from rl_reasoning.parallel.rules import BATCH, CONTEXT, ROWS
from rl_reasoning.training.batch import TrainBatch


class Memory(NamedTuple):
    """What bounds the memory of a forward and backward pass.

    remat: see `models.remat`. logits: how many are made at once on a device (`models.likelihood.token_logprobs`).
    mlp_blocks: parts of each MLP that are made one after the other (`models.parts.GatedMLP`).
    """

    remat: str = "none"
    logits: int = BUDGET
    mlp_blocks: int = 1


def memory_of(rl: RL) -> Memory:
    """What a run's settings say."""
    return Memory(rl.remat, rl.logits, rl.mlp_blocks)


class Spots(NamedTuple):
    """Which states are wanted of a micro-batch.

    rows, sources: where they lie in the packed rows of their shard. ids: what they predict. All [N, T], or [S, K] as
    `TrainBatch.listed`; `places` [S, N / S * T] then says which entry of the list an answer's token has.
    """

    rows: Array
    sources: Array
    ids: Array
    places: jax.Array | None

    def per_answer(self, values: jax.Array, batch: TrainBatch) -> jax.Array:
        """[N, T] values of answer tokens, 0 beyond lengths, from those of the spots."""
        if self.places is None:
            return values
        found = jnp.take_along_axis(values, self.places, axis=1).reshape(batch.ids.shape)
        return constrain(jnp.where(token_mask(batch), found, 0), BATCH)


def token_mask(batch: TrainBatch) -> jax.Array:
    """[N, T] bool: which tokens are an answer's; from lengths, since any id may be a real token."""
    return jnp.arange(batch.ids.shape[-1]) < batch.lengths[..., None]


def spots(batch: TrainBatch) -> Spots:
    """Where a micro-batch's answer tokens are predicted: those listed, or all if the list is no shorter."""
    shards = parts(ROWS)
    rows = jnp.broadcast_to(batch.rows[:, None], batch.ids.shape)
    if shards > 1:
        rows = rows - (jnp.arange(len(rows)) // (len(rows) // shards) * (len(batch.tokens) // shards))[:, None]
    whole, lists = Spots(rows, batch.sources, batch.ids, None), len(batch.listed)
    if batch.listed.size >= batch.ids.size:
        return whole
    listed = [constrain(jnp.take_along_axis(x.reshape(lists, -1), batch.listed, axis=1), BATCH) for x in whole[:3]]
    lengths = batch.lengths.reshape(lists, -1)  # A list has one answer's tokens after the other's.
    places = (jnp.cumsum(lengths, axis=1) - lengths)[..., None] + jnp.arange(batch.ids.shape[1])
    places = jnp.minimum(places.reshape(lists, -1), batch.listed.shape[1] - 1)  # those beyond an answer are not used
    return Spots(listed[0], listed[1], listed[2], places)


def states(config: DecoderConfig, decoder: Parameters, batch: TrainBatch, wanted: Spots, memory: Memory) -> jax.Array:
    """[..., D]: the hidden states at some spots of one micro-batch."""
    mask = row_mask(config, batch.segments, batch.branches)
    config = dataclasses.replace(config, mlp_blocks=memory.mlp_blocks)
    hidden = hidden_states(config, decoder, batch.tokens, batch.positions, mask, remat=memory.remat)
    if parts(BATCH) == 1:
        return hidden[wanted.rows, wanted.sources]
    # Each device has the rows of its own answers (`training.packing`), or parts of them, so it looks them up alone.
    shards = parts(ROWS), parts((CONTEXT,))
    local = constrain(hidden.reshape(shards[0], -1, *hidden.shape[1:]), ROWS)
    rows, sources = (constrain(x.reshape(*shards, -1), ROWS, CONTEXT) for x in wanted[:2])
    found = jax.vmap(lambda hidden, rows, sources: hidden[rows, sources])(local, rows, sources)
    return constrain(constrain(found, ROWS, CONTEXT).reshape(*wanted.rows.shape, -1), BATCH)


def predicting_states(config: DecoderConfig, decoder: Parameters, batch: TrainBatch, memory: Memory) -> jax.Array:
    """[N, T, D]: the hidden state that predicts each answer token of one micro-batch."""
    rows = jnp.broadcast_to(batch.rows[:, None], batch.ids.shape)
    return states(config, decoder, batch, Spots(rows, batch.sources, batch.ids, None), memory)
