"""An engine without a model: answers that a function gives, for tests of what uses an engine."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np

from rl_reasoning.config import Sampling
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.types import Completions, Prompts, StopReason


@dataclasses.dataclass
class ScriptedEngine:
    """`rl_reasoning.sampling.engine.Engine` whose answers are a function's.

    Attributes:
      answer: (prompt's ids, its number, the answer's number) -> the answer's ids, the end of sequence included where
        there is one. Longer answers are cut at `max_tokens`.
      eos_id: ends an answer.
      logprob: of every token.
      fingerprint: what it says of its weights; None says nothing.
    """

    answer: Callable[[list[int], int, int], Sequence[int]]
    eos_id: int
    logprob: float = -1.0
    fingerprint: int | None = None

    def counts(self) -> dict[str, float]:
        """See `Engine.counts`."""
        return {}

    def generate(self, parameters: Parameters, prompts: Prompts, counts: Sequence[int], settings: Sampling,
                 key: jax.Array, *, numbers: Sequence[int] | None = None, first: int = 0) -> Completions:
        """See `Engine.generate`; parameters and key do not matter."""
        total, row = int(np.sum(counts)), 0
        whole = Completions(np.full((total, settings.max_tokens), self.eos_id, np.int32),
                            np.zeros((total, settings.max_tokens), np.float32), np.zeros(total, np.int32),
                            np.zeros(total, np.int8))
        for number, (ids, length, count) in enumerate(zip(*prompts, counts, strict=True)):
            for sample in range(first, first + count):
                known = number if numbers is None else numbers[number]
                answer = list(self.answer(ids[:length].tolist(), known, sample))[:settings.max_tokens]
                whole.ids[row, :len(answer)], whole.logprobs[row, :len(answer)] = answer, self.logprob
                whole.lengths[row] = len(answer)
                whole.stop_reasons[row] = StopReason.EOS if answer[-1:] == [self.eos_id] else StopReason.LENGTH
                row += 1
        return whole
