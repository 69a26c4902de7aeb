"""Sampler and trainer at work at once: answers to the problems of steps to come are made while updates go on.

The answers of step t are the policy's after step max(0, t - 1 - s), whichever of the two is faster: a run is a function
of its settings and seed, as it is without overlap. Whoever is ahead waits.
"""

import dataclasses
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from rl_reasoning.loop.collect import Collected
from rl_reasoning.loop.setup import Lab
from rl_reasoning.loop.state import Copy, Lent, LoopState
from rl_reasoning.models import lora
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.parallel import Layout
from rl_reasoning.parallel.exchange import put
from rl_reasoning.reporting.console import say
from rl_reasoning.sampling.engine import Engine, JaxEngine
from rl_reasoning.sampling.weights import shardings
from rl_reasoning.tasks.pool.verifier import Item, Verifier
from rl_reasoning.training.state import TrainState
from rl_reasoning.types import Completions, Verdict

Gather = Callable[[Lab, LoopState, int], Collected]


@dataclasses.dataclass(frozen=True)
class Lender:
    """Copies the policy for a sampler that may not read the trainer's arrays: they are elsewhere, or about to be used
    up by the next update. What the sampler has was never the trainer's.
    """

    lab: Lab

    @property
    def needed(self) -> bool:
        """Whether the sampler is behind, or has devices of its own."""
        return self.lab.experiment.rl.stale > 0 or self.lab.policy.sampler is not None

    def begin(self, train: TrainState) -> Lent:
        """Before the first step: as many times the policy as there are steps that answers may be behind, and one."""
        if not self.needed:
            return Lent()
        first = Copy(0, self._copied(train))
        frozen, sampler = train.frozen, self.lab.policy.sampler
        if frozen and sampler:
            frozen = put(frozen, self._places(sampler, train)[1])
        return Lent((first,) * (1 + self.lab.experiment.rl.stale), frozen)

    def after(self, step: int, train: TrainState, lent: Lent) -> Lent:
        """After a step: the new policy joins, and the oldest leaves."""
        if not self.needed:
            return lent
        return dataclasses.replace(lent, copies=(Copy(step, self._copied(train)), *lent.copies[:-1]))

    def _copied(self, train: TrainState) -> Parameters:
        trained, sampler = train.parameters["policy"], self.lab.policy.sampler
        if sampler is None:
            return jax.tree.map(jnp.copy, trained)
        return put(trained, self._places(sampler, train)[0])

    def _places(self, sampler: Layout, train: TrainState) -> tuple[Parameters, Parameters]:
        """Where the sampler has what is trained and what is not."""
        return lora.split(self.lab.policy.config, shardings(sampler, train.whole["policy"]))


class Ahead:
    """Makes the answers of steps to come in a thread of its own, in their order.

        with Ahead(lab, gather, state) as ahead:
            while ...:
                collected = ahead.take()     # of the next step; waits, and raises what went wrong
                state = update(state, collected)
                ahead.go_on(state)           # its policy makes the answers of step `state.step + s + 1`

    At most s + 1 steps are ordered and not taken. What one rollout tells the next one (problems drawn, estimates)
    passes within the thread; beside that and the policy nothing of a state is read.

    Args:
      lab: s is its `rl.stale`; no answers are made of steps after `rl.steps`.
      gather: makes the answers of a step; gets the state with the one copy of a policy that is to make them.
      state: the one to go on from.
    """

    def __init__(self, lab: Lab, gather: Gather, state: LoopState):
        self._stale, self._last = lab.experiment.rl.stale, lab.experiment.rl.steps
        self._seconds, self._gather, self._leaving = lab.experiment.checkpoint.seconds, gather, threading.Event()
        self._orders: queue.Queue = queue.Queue(self._stale + 2)  # and the word that no more come
        self._made: queue.Queue = queue.Queue(self._stale + 2)
        for age in range(self._stale, -1, -1):
            self._order(state, age)
        self._thread = threading.Thread(target=self._work, args=(_leavable(lab, self._leaving), state),
                                        name="rollouts", daemon=True)

    def __enter__(self) -> "Ahead":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leaves what is under way; what does not end within `checkpoint.seconds` is left to itself."""
        self._leaving.set()
        self._orders.put(None)
        self._thread.join(self._seconds)
        if self._thread.is_alive():
            say(f"the sampler is still busy after {self._seconds:g} s: what it is at is left behind")

    def go_on(self, state: LoopState) -> None:
        """The newest policy of a state makes the answers that are next to be made."""
        self._order(state, 0)

    def take(self) -> Collected:
        """The answers of the next step. Raises what kept them from being made, as it was raised."""
        began = time.perf_counter()
        found = self._made.get()
        if isinstance(found, BaseException):
            raise found
        found.clock.seconds["waiting"] = time.perf_counter() - began
        return found

    def _order(self, state: LoopState, age: int) -> None:
        step = state.step + 1 + self._stale - age
        if step <= self._last:
            lent = dataclasses.replace(state.lent, copies=state.lent.copies[age:age + 1])
            self._orders.put((step, lent))

    def _work(self, lab: Lab, state: LoopState) -> None:
        """In the thread: one order after the other, until one fails."""
        began = time.perf_counter()
        while (order := self._orders.get()) is not None:
            step, lent = order
            waited = time.perf_counter() - began
            try:
                found = self._gather(lab, state._replace(lent=lent), step)
            except BaseException as error:  # whatever it is, it is the loop's to raise
                self._made.put(error)
                return
            state = state._replace(drawn=found.drawn, estimates=found.estimates)
            found.clock.seconds["sampler_waiting"] = waited
            self._made.put(found)
            began = time.perf_counter()


class _Left(BaseException):
    """The thread was asked to leave what it does."""


def _leavable(lab: Lab, leaving: threading.Event) -> Lab:
    """The lab whose engine and verifier raise `_Left`, soon after the event is set, in whoever is in them."""
    policy = dataclasses.replace(lab.policy, engine=_LeavableEngine(lab.policy.engine, leaving))
    return dataclasses.replace(lab, policy=policy, verifier=_LeavableVerifier(lab.verifier, leaving))


def _check(leaving: threading.Event) -> None:
    if leaving.is_set():
        raise _Left


@dataclasses.dataclass(frozen=True)
class _LeavableEngine:
    engine: Engine
    leaving: threading.Event

    @property
    def fingerprint(self) -> int | None:
        return self.engine.fingerprint

    def counts(self) -> dict[str, float]:
        return self.engine.counts()

    def generate(self, *arguments: Any, **options: Any) -> Completions:
        _check(self.leaving)
        if isinstance(self.engine, JaxEngine):
            options["cancel"] = self.leaving.is_set
        found = self.engine.generate(*arguments, **options)
        _check(self.leaving)
        return found


@dataclasses.dataclass(frozen=True)
class _LeavableVerifier:
    verifier: Verifier
    leaving: threading.Event

    def verify_all(self, items: Iterable[Item]) -> list[Verdict]:
        return self.verifier.verify_all(self._while_wanted(items))

    def _while_wanted(self, items: Iterable[Item]) -> Iterator[Item]:
        for item in items:
            _check(self.leaving)
            yield item

    def counts(self) -> dict[str, float]:
        return self.verifier.counts()

    def close(self) -> None:
        self.verifier.close()
