"""Streams of problems, as Grain datasets: any step's batch can be asked for, so a run resumes anywhere.

The order is one for the whole job. A host takes its share of each step's batch, so the order does not depend on
how many hosts there are, and the state of the stream is the number of the next step.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import grain

from rl_reasoning.types import Problem


def problem_batches(problems: Sequence[Problem], size: int, seed: int, *,
                    weights: Mapping[str, float] | None = None) -> grain.MapDataset:
    """`batches[step]` is a list of `size` problems.

    Args:
      weights: for each `metadata["source"]` its share of the stream, in any unit. Without weights all problems are
        one set. Every epoch of a set holds each of its problems once, in its own order.

    Raises:
      ValueError: there are no problems, or the weights do not name the problems' sources.
    """
    if not problems:
        raise ValueError("there is no problem to train on: lower the task's held_out share or widen its ranges")
    if not weights:
        return _forever(problems, seed).batch(size, batch_fn=list)
    parts = {source: [problem for problem in problems if problem.metadata["source"] == source] for source in weights}
    missing = [source for source, part in parts.items() if not part]
    if missing or sum(map(len, parts.values())) < len(problems):
        raise ValueError(f"weights are given for {', '.join(weights)}, and the problems are from "
                         f"{', '.join(dict.fromkeys(problem.metadata['source'] for problem in problems))}")
    sets = [_forever(part, seed + number) for number, part in enumerate(parts.values())]
    return grain.MapDataset.mix(sets, list(weights.values())).batch(size, batch_fn=list)


class Stream:
    """One host's part of every step's batch, with a state for the checkpoint.

    Host h of H takes the problems h, h + H, h + 2H... of a batch: together the hosts take each problem once,
    and sizes differ by at most one.
    """

    def __init__(self, problems: Sequence[Problem], size: int, seed: int, *, host: int = 0, hosts: int = 1,
                 weights: Mapping[str, float] | None = None):
        """See `problem_batches`. Raises ValueError, too, when `host` is not one of `hosts`."""
        if not 0 <= host < hosts:
            raise ValueError(f"host={host} must be from 0 to {hosts - 1}, since hosts={hosts}")
        self._batches = problem_batches(problems, size, seed, weights=weights)
        self._share = slice(host, None, hosts)
        self._next = 0
        facts = [size, seed, sorted((weights or {}).items()), *(problem.id for problem in problems)]
        self._fingerprint = hashlib.sha256(repr(facts).encode(errors="surrogatepass")).hexdigest()[:16]

    def __getitem__(self, step: int) -> list[Problem]:
        """This host's part of batch `step`, from 0; does not move the stream."""
        return self._batches[step][self._share]

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> list[Problem]:
        part = self[self._next]
        self._next += 1
        return part

    def get_state(self) -> dict[str, Any]:
        """What a checkpoint keeps: the number of the next batch, and which stream it belongs to; JSON-able."""
        return {"next": self._next, "stream": self._fingerprint}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on where `get_state` was called, on any number of hosts.

        Raises:
          ValueError: the state is of other problems, another batch size, seed or weights.
        """
        if state["stream"] != self._fingerprint:
            raise ValueError(f"the saved stream {state['stream']} is not this one, {self._fingerprint}: the problems, "
                             "rl.prompts, seed or weights have changed; resume with the settings of the saved run")
        self._next = int(state["next"])


def _forever(problems: Sequence[Problem], seed: int) -> grain.MapDataset:
    return grain.MapDataset.source(problems).seed(seed).shuffle().repeat()
