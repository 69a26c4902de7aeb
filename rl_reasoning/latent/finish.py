"""Between the search and the decode engine: answers of which the first tokens are given."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from rl_reasoning import keys
from rl_reasoning.config import Sampling
from rl_reasoning.latent.steps import extend
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.rollouts import Policy
from rl_reasoning.types import Prompts, StopReason


class Answers(NamedTuple):
    """One answer a problem. ids: [B, T] int32. lengths: [B], end of sequence included. reasons: [B] `StopReason`."""

    ids: np.ndarray
    lengths: np.ndarray
    reasons: np.ndarray


def finish(policy: Policy, parameters: Parameters, prompts: Prompts, beginnings: np.ndarray, sizes: np.ndarray,
           max_tokens: int) -> Answers:
    """The likeliest continuation of each prompt and the first tokens of its answer.

    A beginning that holds the end of sequence ends there. Beginning and continuation have `max_tokens` together.

    Args: beginnings [B, M], of which the first `sizes` [B] tokens count.
    """
    eos_id, slot = policy.tokenizer.eos_id, np.arange(max_tokens)
    ends = (beginnings == eos_id) & (np.arange(beginnings.shape[1]) < sizes[:, None])
    ended = ends.any(axis=1)
    sizes = np.where(ended, ends.argmax(axis=1) + 1, sizes)
    begun = Prompts(*map(np.asarray, extend(prompts, jnp.asarray(beginnings), jnp.asarray(sizes))))
    rest = policy.engine.generate(parameters, begun, [1] * len(sizes),
                                  Sampling(temperature=0.0, max_tokens=max_tokens), keys.derive(0, keys.Role.SEARCH, 0))
    after = np.take_along_axis(rest.ids, np.maximum(slot - sizes[:, None], 0), axis=1)
    given = np.pad(beginnings, ((0, 0), (0, max_tokens - beginnings.shape[1])))
    whole = np.where(ended, sizes, sizes + rest.lengths)
    lengths = np.minimum(whole, max_tokens)
    ids = np.where(slot < sizes[:, None], given, after)
    reasons = np.where(whole > max_tokens, StopReason.LENGTH, np.where(ended, StopReason.EOS, rest.stop_reasons))
    return Answers(np.where(slot < lengths[:, None], ids, eos_id).astype(np.int32), lengths, reasons.astype(np.int8))
