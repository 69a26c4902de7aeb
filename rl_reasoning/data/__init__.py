"""Streams of problems, as Grain datasets: any step's batch can be asked for, so a run resumes anywhere."""

from collections.abc import Sequence

import grain

from rl_reasoning.types import Problem

ProblemBatches = grain.MapDataset


def problem_batches(problems: Sequence[Problem], size: int, seed: int) -> ProblemBatches:
    """`batches[step]` is a list of `size` problems; every epoch holds each problem once, in its own order.

    Raises:
      ValueError: there are no problems.
    """
    if not problems:
        raise ValueError("there is no problem to train on: lower the task's held_out share or widen its ranges")
    return grain.MapDataset.source(problems).seed(seed).shuffle().repeat().batch(size, batch_fn=list)
