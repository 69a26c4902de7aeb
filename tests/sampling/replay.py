"""What a policy says of given answers, from one pass over the whole sequences: what sampled log-probs must be."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from rl_reasoning.config import Sampling
from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.models.decoder import Parameters, branch_mask, hidden_states, logits
from rl_reasoning.sampling.draw import Rules, declared_logprobs
from rl_reasoning.sampling.rules import make_rules
from rl_reasoning.types import Completions, Prompts


@functools.partial(jax.jit, static_argnames="config")
def _replay(config: DecoderConfig, parameters: Parameters, rows: jax.Array, starts: jax.Array, ids: jax.Array,
            rules: Rules) -> jax.Array:
    mask = branch_mask(jnp.ones_like(rows), jnp.zeros_like(rows))
    positions = jnp.broadcast_to(jnp.arange(rows.shape[1]), rows.shape)
    hidden = hidden_states(config, parameters, rows, positions, mask)
    counts = jnp.arange(ids.shape[1])
    at = (starts - 1)[:, None] + counts
    raw = logits(config, parameters, jnp.take_along_axis(hidden, at[:, :, None], axis=1))
    logp = jax.vmap(lambda raw: declared_logprobs(raw, counts, rules))(raw)
    return jnp.take_along_axis(logp, ids[:, :, None], axis=-1)[:, :, 0]


def teacher_forced(config: DecoderConfig, parameters: Parameters, prompts: Prompts, counts: list[int],
                   answers: Completions, settings: Sampling, eos_id: int) -> np.ndarray:
    """[N, T] log-probabilities of the answers' tokens, 0 beyond their ends."""
    prompt = np.repeat(np.arange(len(counts)), counts)
    starts = prompts.lengths[prompt]
    rows = np.zeros((len(prompt), prompts.ids.shape[1] + answers.ids.shape[1]), np.int32)
    for row, (ids, start, answer) in enumerate(zip(prompts.ids[prompt], starts, answers.ids, strict=True)):
        rows[row, :start], rows[row, start:start + len(answer)] = ids[:start], answer
    found = _replay(config, parameters, rows, starts, answers.ids, make_rules(settings, config.vocabulary, eos_id))
    return np.where(np.arange(answers.ids.shape[1]) < answers.lengths[:, None], found, 0)
