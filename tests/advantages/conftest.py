"""How the advantage tests build their inputs."""

import numpy as np
import pytest

from rl_reasoning.advantages import AdvantageInputs


@pytest.fixture
def batch():
    """(rewards, groups, lengths, T, fields) -> AdvantageInputs; one group of full rows unless told."""

    def make(rewards, groups=None, lengths=None, length=3, **fields):
        rewards = np.asarray(rewards, np.float32)
        groups = np.zeros(len(rewards), np.int32) if groups is None else np.asarray(groups, np.int32)
        lengths = np.full(len(rewards), length, np.int32) if lengths is None else np.asarray(lengths, np.int32)
        mask = np.arange(length)[None, :] < lengths[:, None]
        return AdvantageInputs(rewards=rewards, groups=groups, lengths=lengths, mask=mask, **fields)

    return make
