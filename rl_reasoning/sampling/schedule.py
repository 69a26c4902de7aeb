"""One request from its first prompt to its last answer: what the host does between the compiled programs."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from rl_reasoning import keys
from rl_reasoning.models.decoder import DecoderConfig, Parameters
from rl_reasoning.parallel.exchange import fetch
from rl_reasoning.sampling import decode
from rl_reasoning.sampling.decode import RUNNING, Retired, Slots, Waiting, Window
from rl_reasoning.sampling.draw import Rules
from rl_reasoning.sampling.stops import StopStrings
from rl_reasoning.types import Completions, Prompts, StopReason


class Finished(NamedTuple):
    """Answers as they end: [M] which of the request's answers they are, and the answers."""

    which: np.ndarray
    answers: Completions


@dataclasses.dataclass(frozen=True)
class Request:
    """One call, flat: N answers.

    Attributes:
      prompt, numbers, samples, limits: [N] the answer's prompt, what random keys know it by, and its most tokens.
      key: of all answers. rules: how tokens are drawn. stop: stop strings, or None.
      slots, prompt_room, answer_room: shapes to compile; rows gives the one for so many prompts of a window.
      share: how many answers that follow one another have a prompt in common, if all have slots; 1 if not.
      narrower: the fewer slots that the last answers may move to, in turn. devices: that share the slots.
      width: columns of the answers that are returned.
      cancel: asked every `exchange` turns; yes ends everything.
    """

    prompts: Prompts
    prompt: np.ndarray
    numbers: np.ndarray
    samples: np.ndarray
    limits: np.ndarray
    key: jax.Array
    rules: Rules
    stop: StopStrings | None
    eos_id: int
    width: int
    slots: int
    share: int
    rows: Callable[[int], int]
    prompt_room: int
    answer_room: int
    narrower: tuple[int, ...]
    devices: int
    cancel: Callable[[], bool]
    exchange: int

    def windows(self) -> list[np.ndarray]:
        """The answers in parts of at most `slots`; a prompt's answers stay together where they fit.

        The longest prompts come first: those of like length are prefilled together, which takes as long as the longest.
        """
        order = np.lexsort((self.prompt, -self.prompts.lengths[self.prompt]))
        owner, parts, start = self.prompt[order], [], 0
        while start < len(order):
            stop = start + self.slots
            if stop < len(order):
                first = int(np.argmax(owner == owner[stop]))  # of the prompt that would be divided
                stop = first if start < first else stop
            parts.append(order[start:stop])
            start = stop
        return parts


@dataclasses.dataclass
class Run:
    """A request in work.

    Attributes:
      call: runs a compiled program by its name. weights: from `Weights`.
      rows: slots at work in all turns so far, whether their answers had ended or not.
    """

    call: Callable[..., Any]
    config: DecoderConfig
    weights: Parameters
    request: Request
    rows: int = 0

    def parts(self) -> Iterator[Finished]:
        """The answers as they end; every answer comes once."""
        request, windows = self.request, self.request.windows()
        if not windows:
            return
        rows = request.rows(max(len(np.unique(request.prompt[samples])) for samples in windows))
        self._slots = self.call("fill", self.config, *self._window(windows[0], rows), request.share)
        self._turn, self._narrower = 0, request.narrower
        self._holder = np.concatenate([windows[0], np.full(request.slots - len(windows[0]), -1)])
        for number, samples in enumerate(windows[1:], 2):
            (window, uniforms), placed, more = self._window(samples, rows), 0, number < len(windows)
            while (placed < len(samples) or (not more and self._running > self._few)) and not request.cancel():
                self._slots, retired = self._loop("decode_and_refill", (window, uniforms, np.int32(placed)),
                                                  (np.bool_(more),))
                retired = fetch(retired)
                yield from self._retire(retired, samples[placed:])
                placed += int(retired.count)
        yield from self._ended()
        while self._running and not request.cancel():
            self._narrow()
            self._slots = self._loop("decode")
            yield from self._ended()
        if self._running:
            self._end(self._holder >= 0, StopReason.CANCELLED)
        yield from self._ended()

    @property
    def _running(self) -> int:
        """Answers in work on the device that has most."""
        return int(self._at_work().sum(axis=1).max())

    def _at_work(self) -> np.ndarray:
        """[devices, slots of each] bool."""
        return (fetch(self._slots.reason) == RUNNING).reshape(self.request.devices, -1)

    @property
    def _few(self) -> int:
        """So few answers of a device have room in fewer slots."""
        return self._narrower[0] // self.request.devices if self._narrower else 0

    def _narrow(self) -> None:
        """Moves what is in work to as few slots as may be; all that has ended is handed out already."""
        size, at_work = 0, self._at_work()
        while self._narrower and at_work.sum(axis=1).max() <= self._few:
            size, self._narrower = self._few, self._narrower[1:]
        if size:
            chosen = np.argsort(~at_work, axis=1, kind="stable")[:, :size].astype(np.int32)
            self._slots = self.call("narrow", self.config, self._slots, chosen)
            self._holder = np.take_along_axis(self._holder.reshape(at_work.shape), chosen, axis=1).ravel()

    def _loop(self, name: str, before: tuple[Any, ...] = (), after: tuple[Any, ...] = ()) -> Any:
        """One of the two loops, after ending what holds a stop string."""
        if self.request.stop:
            slots = fetch(self._slots._replace(caches=[], prompts=[], uniforms=None))
            found = [reason == RUNNING and self.request.stop.length(ids) is not None
                     for reason, ids in zip(slots.reason, _unrolled(slots), strict=True)]
            self._end(np.asarray(found), StopReason.STOP_STRING)
        found = self.call(name, self.config, self.weights, self._slots, *before, self.request.rules,
                          np.int32(self.request.exchange), np.int32(self._few), *after)
        turn = int(fetch((found if isinstance(found, Slots) else found[0]).turn))
        self.rows += len(self._holder) * (turn - self._turn)
        self._turn = turn
        return found

    def _end(self, which: np.ndarray, reason: StopReason) -> None:
        if which.any():
            self._slots = self.call("end", self._slots, which, np.int8(reason))

    def _window(self, samples: np.ndarray, rows: int) -> tuple[Window, np.ndarray]:
        """Prefills the prompts of some answers; both are filled up to the compiled shape with repeats.

        Returns: the window, and the random numbers of its answers.
        """
        request = self.request
        group = decode.rows_at_once(request.prompt_room)
        rows = rows if rows <= group else rows + -rows % group
        prompts, place = np.unique(request.prompt[samples], return_inverse=True)
        order = np.argsort(request.prompts.lengths[prompts], kind="stable")  # Prompts of like length share a group.
        prompts, place = _fill_up(prompts[order], rows), np.argsort(order)[place]
        padded = _fill_up(samples, request.slots)
        room = request.prompt_room - request.prompts.ids.shape[1]
        ids = np.pad(request.prompts.ids[prompts], ((0, 0), (0, room))).astype(np.int32)
        uniforms = keys.uniforms(request.key, request.numbers[padded], request.samples[padded], request.answer_room)
        waiting = Waiting(_fill_up(place, request.slots).astype(np.int32), request.limits[padded],
                          np.asarray(len(samples), np.int32))
        lengths = request.prompts.lengths[prompts].astype(np.int32)
        caches = self.call("prefill", self.config, self.weights, ids, lengths)
        return Window(caches, ids[np.arange(len(ids)), lengths - 1], lengths, waiting), uniforms

    def _retire(self, retired: Retired, samples: np.ndarray) -> Iterator[Finished]:
        """The answers that gave their slots to `samples`, in that order."""
        count, holders = int(retired.count), []
        for slot, sample in zip(retired.slot[:count], samples, strict=False):
            holders.append(self._holder[slot])
            self._holder[slot] = sample
        rows = Retired(retired.count, *(table[:count] for table in retired[1:]))
        yield from self._answers(np.asarray(holders, int), rows, rows.length)

    def _ended(self) -> Iterator[Finished]:
        """The answers that have ended and still have their slots."""
        slots = fetch(self._slots._replace(caches=[], prompts=[], uniforms=None))
        yield from self._answers(np.where(slots.reason == RUNNING, -1, self._holder), slots, slots.count)
        self._holder = np.where(slots.reason == RUNNING, self._holder, -1)

    def _answers(self, holders: np.ndarray, rows: Any,  # Slots or Retired on the host
                 lengths: Any) -> Iterator[Finished]:
        """What belongs to an answer, in the order of its tokens. holders: [M], -1 where a row is none."""
        kept = np.flatnonzero(holders >= 0)
        if not kept.size:
            return
        lengths, reasons = lengths[kept].copy(), rows.reason[kept].copy()
        order = (rows.born[kept, None] + np.arange(self.request.width)) % rows.ids.shape[1]
        ids = np.take_along_axis(rows.ids[kept], order, axis=1)
        logprobs = np.take_along_axis(rows.logprobs[kept], order, axis=1)
        if self.request.stop:
            for row in range(len(kept)):
                found = self.request.stop.length(ids[row, :lengths[row]].tolist())
                if found is not None:
                    lengths[row], reasons[row] = found, StopReason.STOP_STRING
        beyond = np.arange(self.request.width) >= lengths[:, None]
        yield Finished(holders[kept], Completions(np.where(beyond, self.request.eos_id, ids),
                                                  np.where(beyond, np.float32(0), logprobs), lengths, reasons))


def _unrolled(slots: Slots) -> list[list[int]]:
    """Each slot's tokens in their order."""
    places = slots.ids.shape[1]
    return [ids[(born + np.arange(count)) % places].tolist()
            for ids, born, count in zip(slots.ids, slots.born, slots.count, strict=True)]


def _fill_up(values: np.ndarray, size: int) -> np.ndarray:
    """The values and then the last one again, `size` in all."""
    return np.concatenate([values, np.repeat(values[-1:], size - len(values))])
