"""From the settings of sampling to the arrays that the compiled programs read; what cannot be is refused here."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from rl_reasoning.config import Sampling
from rl_reasoning.sampling.draw import Cut, Rules
from rl_reasoning.sampling.stops import StopStrings
from rl_reasoning.tokenizers import Tokenizer


def make_rules(settings: Sampling, vocabulary: int, eos_id: int, tokenizer: Tokenizer | None = None) -> Rules:
    """The rules of `draw_token`.

    Args:
      eos_id: ends an answer whatever the settings say, unless it is forbidden.
      tokenizer: for `settings.begin_with`.

    Raises:
      ValueError: a token that the vocabulary does not have, nothing that may be drawn, or a text without a tokenizer.
    """
    stops = _ids("stop_tokens", settings.stop_tokens, vocabulary)
    forbidden = _ids("forbidden_tokens", settings.forbidden_tokens, vocabulary)
    if len(set(forbidden)) + (settings.min_tokens > 0) * len({*stops, eos_id} - set(forbidden)) >= vocabulary:
        raise ValueError("sampling.forbidden_tokens leaves nothing to draw: forbid fewer than the vocabulary's "
                         f"{vocabulary} tokens")
    if settings.min_tokens > settings.max_tokens:
        raise ValueError(f"sampling.min_tokens={settings.min_tokens}: must be at most max_tokens={settings.max_tokens}")
    greedy = settings.temperature == 0
    cuts = not greedy and (0 < settings.top_k < vocabulary or settings.top_p < 1 or settings.min_p > 0)
    return Rules(
        temperature=None if greedy else jnp.float32(settings.temperature),
        stops=jnp.asarray(sorted({*stops, eos_id}), jnp.int32),
        cut=Cut(jnp.int32(min(settings.top_k or vocabulary, vocabulary)), jnp.float32(settings.top_p),
                jnp.float32(settings.min_p)) if cuts else None,
        min_tokens=jnp.int32(settings.min_tokens) if settings.min_tokens else None,
        forbidden=jnp.asarray(np.isin(np.arange(vocabulary), forbidden)) if forbidden else None,
        forced=_forced(settings, vocabulary, tokenizer),
        declared=settings.logprobs)


def make_stops(settings: Sampling, tokenizer: Tokenizer | None) -> StopStrings | None:
    """The stop strings of the settings, or None. Raises ValueError as `make_rules` does."""
    return StopStrings(settings.stop, _needed("stop", settings.stop, tokenizer).decode) if settings.stop else None


def _forced(settings: Sampling, vocabulary: int, tokenizer: Tokenizer | None) -> jnp.ndarray | None:
    if not settings.begin_with:
        return None
    ids = list(_needed("begin_with", settings.begin_with, tokenizer).encode(settings.begin_with))
    if len(ids) >= settings.max_tokens or not all(0 <= token < vocabulary for token in ids):
        raise ValueError(f"sampling.begin_with={settings.begin_with!r} has {len(ids)} tokens: must be fewer than "
                         f"max_tokens={settings.max_tokens}, and tokens of the model's {vocabulary}")
    return jnp.asarray(ids, jnp.int32)


def _needed(name: str, value: Any, tokenizer: Tokenizer | None) -> Tokenizer:
    if tokenizer is None:
        raise ValueError(f"sampling.{name}={value!r}: this engine has no tokenizer; make it with one")
    return tokenizer


def _ids(name: str, given: Sequence[str], vocabulary: int) -> list[int]:
    for token in given:
        if not (token.isascii() and token.isdigit() and int(token) < vocabulary):
            raise ValueError(f"sampling.{name}={token!r}: must be the number of a token, 0 to {vocabulary - 1}")
    return [int(token) for token in given]
