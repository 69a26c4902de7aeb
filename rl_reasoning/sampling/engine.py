"""The decode engine: parameters and prompts in, answers with their log-probabilities out.

`Engine` is what the rest of the library asks of one; `JaxEngine` is ours. An answer depends on the parameters, its
prompt, the key, its problem's number and its own: never on the other answers, their order, the slot it gets, or the
shapes that were compiled.
"""

import contextlib
import dataclasses
import functools
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from rl_reasoning.config import Sampling
from rl_reasoning.models.decoder import DecoderConfig, Parameters
from rl_reasoning.parallel import Layout
from rl_reasoning.sampling import decode
from rl_reasoning.sampling.rules import make_rules, make_stops
from rl_reasoning.sampling.schedule import Finished, Request, Run
from rl_reasoning.sampling.weights import Weights
from rl_reasoning.tokenizers import Tokenizer
from rl_reasoning.types import Completions, Prompts, StopReason

Counts = Sequence[int] | np.ndarray

LEAST = 8  # slots of a device: fewer take about as long
WORTH = 1_024  # rows that fewer slots may save a device, for one more program to be compiled
EXCHANGE = 32  # turns between two words with the host, when something is to be asked there
ENDLESS = 2**30
# rows: tokens that there was room for, in all slots and turns; the share of them that tokens are is how full they were.
COUNTED = ("answers", "tokens", "rows", "nan", "cancelled", "compilations", "compile_seconds")
_LOG = logging.getLogger(__name__)


class Engine(Protocol):
    """What samples answers. `JaxEngine` does it here; another may call a server."""

    @property
    def fingerprint(self) -> int | None:
        """`sampling.weights.fingerprint` of the weights that the latest answers come from.

        None where an engine cannot tell. Callers compare it with their own.
        """

    def generate(self, parameters: Parameters, prompts: Prompts, counts: Counts, settings: Sampling,
                 key: jax.Array, *, numbers: Sequence[int] | None = None, first: int = 0) -> Completions:
        """Answers to P prompts, any number to each.

        Args:
          prompts: right-padded ids [P, Lp] and lengths [P]: whatever tokens are to be continued.
          counts: [P] how many answers to each prompt.
          key: see `rl_reasoning.keys.derive`.
          numbers: [P] what a prompt is known by in random keys (`Problem.number`); 0, 1, ... if not given.
          first: number of the first answer to each prompt; two calls with other numbers give other answers.

        Returns:
          `Completions` with one leading axis of all answers, those to the first prompt first.

        Raises:
          ValueError: prompts or settings that cannot be served; the message names the value and the fix.
        """
        ...

    def counts(self) -> dict[str, float]:
        """What the engine did since it was made, by name, for a run's metrics."""
        ...


@dataclasses.dataclass(frozen=True)
class Buckets:
    """The shapes that may be compiled: a request takes the smallest that fits. Empty takes its own shape.

    Of more answers than the largest number of slots some wait; prompts and answers must fit.

    Attributes:
      slots: answers in work at once. prompts: prompts prefilled together. prompt_tokens: longest prompt.
      answer_tokens: longest answer. shared: answers that may share a prompt's cache; a request takes the largest that
        divides all its counts. Empty is any number where slots are not declared, and else none.
    """

    slots: tuple[int, ...] = ()
    prompts: tuple[int, ...] = ()
    prompt_tokens: tuple[int, ...] = ()
    answer_tokens: tuple[int, ...] = ()
    shared: tuple[int, ...] = ()

    def fit(self, name: str, size: int) -> int:
        """The smallest bucket of that kind which is at least `size`. Raises ValueError when there is none."""
        sizes = getattr(self, name)
        found = [each for each in sizes if each >= size] if sizes else [size]
        if not found:
            raise ValueError(f"{size} {name.replace('_', ' ')}: the largest bucket is {max(sizes)}; nothing is cut, "
                             f"so declare a larger one or ask for less")
        return min(found)


class JaxEngine:
    """The engine in this process, from the trainer's own model."""

    def __init__(self, config: DecoderConfig, eos_id: int, tokenizer: Tokenizer | None = None, *,
                 buckets: Buckets = Buckets(), memory: int | None = None, layout: Layout | None = None):
        """Compiles nothing yet.

        Args:
          eos_id: the token that ends an answer; -1 for none.
          tokenizer: for settings that name texts.
          buckets: shapes that may be compiled.
          memory: bytes that caches may take; None is what the device says that it has.
          layout: the devices to sample on; None is the one where the parameters are.
        """
        self.layout = layout
        platform = layout.mesh.devices.flat[0].platform if layout else jax.default_backend()
        config = dataclasses.replace(config, for_cpu=platform == "cpu")
        self.config, self.eos_id, self.tokenizer, self.buckets = config, eos_id, tokenizer, buckets
        self.weights = Weights(config, layout)
        self._memory = _memory_there(layout) if memory is None else memory
        self._counts = dict.fromkeys(COUNTED, 0.0)

    @property
    def fingerprint(self) -> int | None:
        """See `Engine`."""
        return self.weights.fingerprint

    def counts(self) -> dict[str, float]:
        """What the engine did since it was made, by name, for a run's metrics."""
        counts = {f"engine/{name}": value for name, value in self._counts.items()}
        if self.weights.moved_seconds:
            counts["engine/weights_bytes_per_second"] = self.weights.moved_bytes / self.weights.moved_seconds
        return counts

    def generate(self, parameters: Parameters, prompts: Prompts, counts: Counts, settings: Sampling,
                 key: jax.Array, *, numbers: Sequence[int] | None = None, first: int = 0,
                 limits: Sequence[int] | None = None, cancel: Callable[[], bool] | None = None) -> Completions:
        """See `Engine.generate` and `stream`."""
        total, width = int(np.sum(counts)), settings.max_tokens
        whole = Completions(np.full((total, width), self.eos_id, np.int32),
                            np.zeros((total, width), np.float32), np.zeros(total, np.int32),
                            np.full(total, StopReason.CANCELLED, np.int8))
        for which, answers in self.stream(parameters, prompts, counts, settings, key, numbers=numbers, first=first,
                                          limits=limits, cancel=cancel):
            for table, part in zip(whole, answers, strict=True):
                table[which] = part
        return whole

    def stream(self, parameters: Parameters, prompts: Prompts, counts: Counts, settings: Sampling,
               key: jax.Array, *, numbers: Sequence[int] | None = None, first: int = 0,
               limits: Sequence[int] | None = None, cancel: Callable[[], bool] | None = None,
               exchange: int = 0) -> Iterator[Finished]:
        """The same answers in parts, as they end.

        Args:
          limits: [N] most tokens of each answer, at most `settings.max_tokens`, which is the default.
          cancel: asked now and then; once it says yes, all that has not ended ends as cancelled.
          exchange: turns of the loop between two parts; 0 is as seldom as possible.
        """
        request = self._request(prompts, counts, settings, key, numbers, first, limits, cancel, exchange)
        run = Run(self._call, self.config, self.weights.of(parameters), request)
        for part in run.parts():
            answers = part.answers
            self._counts["answers"] += len(part.which)
            self._counts["tokens"] += int(answers.lengths.sum())
            for name, reason in (("nan", StopReason.NAN), ("cancelled", StopReason.CANCELLED)):
                self._counts[name] += int((answers.stop_reasons == reason).sum())
            yield part
        self._counts["rows"] += run.rows

    def _request(self, prompts: Prompts, counts: Any, settings: Sampling, key: jax.Array,
                 numbers: Sequence[int] | None, first: int, limits: Any,
                 cancel: Callable[[], bool] | None, exchange: int) -> Request:
        """Raises ValueError for what cannot be served."""
        counts, lengths = np.asarray(counts, np.int64), np.asarray(prompts.lengths)
        if counts.shape != lengths.shape or (counts < 0).any():
            raise ValueError(f"counts={counts.tolist()}: must be {len(lengths)} numbers of 0 or more, one a prompt")
        for number in np.flatnonzero((lengths < 1) | (lengths > prompts.ids.shape[1]))[:1]:
            raise ValueError(f"prompt {number} has {lengths[number]} tokens: must be 1 to {prompts.ids.shape[1]}")
        if settings.temperature == 0 and (counts > 1).any():
            warnings.warn("temperature 0 gives the same answer again for every sample of a prompt", stacklevel=4)
        total = int(counts.sum())
        limits = np.full(total, settings.max_tokens) if limits is None else np.asarray(limits)
        if limits.shape != (total,) or (limits < 1).any() or (limits > settings.max_tokens).any():
            raise ValueError(f"limits: must be {total} numbers from 1 to max_tokens={settings.max_tokens}, one an "
                             "answer")
        prompt = np.repeat(np.arange(len(counts)), counts)
        samples = first + np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
        known = np.arange(len(counts)) if numbers is None else np.asarray(numbers)
        slots = self.buckets.fit("slots", min(total, settings.slots or total, max(self.buckets.slots, default=total)))
        slots += -slots % (self.layout.shards.answers if self.layout else 1)  # Every device has as many.
        rooms = (self.buckets.fit("prompt_tokens", prompts.ids.shape[1]),
                 self.buckets.fit("answer_tokens", settings.max_tokens))
        share = self._share(counts, slots)
        self._check_memory(slots, share, *rooms)
        return Request(
            prompts, prompt, known[prompt].astype(np.uint32), samples.astype(np.int32), limits.astype(np.int32), key,
            make_rules(settings, self.config.vocabulary, self.eos_id, self.tokenizer),
            make_stops(settings, self.tokenizer), self.eos_id,
            settings.max_tokens, slots, share, functools.partial(self.buckets.fit, "prompts"), *rooms,
            self._narrower(slots, rooms[1]), self.layout.shards.answers if self.layout else 1,
            cancel or (lambda: False), exchange or (EXCHANGE if cancel or settings.stop else ENDLESS))

    def _narrower(self, slots: int, tokens: int) -> tuple[int, ...]:
        """The declared sizes below so many slots, or its quarter, that one's and so on, where they save enough."""
        devices, sizes = self.layout.shards.answers if self.layout else 1, [slots]
        if self.buckets.slots:
            return tuple(sorted((n for n in self.buckets.slots if n < slots and n % devices == 0), reverse=True))
        while sizes[-1] // 4 >= LEAST * devices and sizes[-1] * 3 // 4 * tokens >= WORTH * devices:
            sizes.append(sizes[-1] // 4 // devices * devices)
        return tuple(sizes[1:])

    def _share(self, counts: np.ndarray, slots: int) -> int:
        """How many slots that follow one another can share a prompt's cache: a divisor of all prompts' answers."""
        if counts.sum() > slots or any(self.config.windows):
            return 1  # A slot that is refilled changes its prompt; in a window each answer sees other places of it.
        own = slots // (self.layout.shards.answers if self.layout else 1)
        fitting = [n for n in self.buckets.shared or ((1,) if self.buckets.slots else range(1, own + 1))
                   if own % n == 0 and not (counts % n).any()]
        return max(fitting, default=1)

    def _check_memory(self, slots: int, share: int, prompt: int, answer: int) -> None:
        c = self.config
        token = 2 * c.layers * c.kv_heads * c.head_dim * jnp.dtype(c.precision.compute).itemsize
        needed = token * slots * (2 * prompt // share + answer)
        if self._memory and needed > self._memory:
            raise ValueError(f"slots={slots} with {prompt} + {answer} tokens take {needed / 2**30:.2f} GiB of keys "
                             f"and values, and there are {self._memory / 2**30:.2f} GiB: set fewer slots")

    def _call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """One of the compiled programs; says so when it had to be compiled."""
        program, began = getattr(decode, name), time.perf_counter()
        before = program._cache_size()
        with self.layout() if self.layout else contextlib.nullcontext():
            found = program(*arguments, **options)
        if program._cache_size() > before:
            seconds = time.perf_counter() - began
            self._counts["compilations"] += 1
            self._counts["compile_seconds"] += seconds
            _LOG.info("decode engine: compiled %s in %.1f s", name, seconds)
        return found


def _memory_there(layout: Layout | None) -> int:
    """Bytes of the devices that share the slots, or of the machine where that is the device."""
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    if limit:
        return int(limit) * (layout.shards.answers if layout else 1)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
