"""Answers in groups, to be packed."""

import numpy as np

from rl_reasoning.training.batch import Answers


def answers(rng, sizes, longest=5, prompt=4):
    """Groups of the given sizes with random ids and lengths; every token id names its answer and place."""
    groups = np.repeat(np.arange(len(sizes), dtype=np.int32), sizes)
    count = len(groups)
    return Answers(
        prompt_ids=rng.integers(0, 9, (len(sizes), prompt)).astype(np.int32),
        prompt_lengths=rng.integers(1, prompt + 1, len(sizes)), groups=groups,
        ids=(100 * (1 + np.arange(count))[:, None] + np.arange(longest)).astype(np.int32),
        lengths=rng.integers(1, longest + 1, count).astype(np.int32),
        extras={name: np.zeros((count, longest), np.float32)
                for name in ("old_logprobs", "advantages", "weights", "scale", "ref_logprobs", "values", "returns")}
        | {"rewards": np.ones(count, np.float32)})
