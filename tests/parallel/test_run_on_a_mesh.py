"""A whole run on eight devices does what it does on one."""

import dataclasses

import numpy as np
import pytest

from experiments.configs import countdown
from rl_reasoning.config import Mesh
from rl_reasoning.edge import read_experiment
from rl_reasoning.loop import run_experiment
from rl_reasoning.reporting.run_folder import RunFolder


@pytest.mark.slow
def test_a_run_on_a_mesh_starts_as_the_run_on_one_device(tmp_path):
    """One base, the same samples and the same first update: float rounding is all that differs."""
    one = dataclasses.replace(read_experiment(countdown.get_config("smoke")), workdir=str(tmp_path), name="one")
    eight = dataclasses.replace(one, name="eight", mesh=Mesh(data=2, fsdp=4))
    assert run_experiment(one) == run_experiment(eight) == 0
    alone, together = (RunFolder(tmp_path / f"{name}-w_reinforce-seed0") for name in ("one", "eight"))
    first, also = next(iter(alone.metrics("rl"))), next(iter(together.metrics("rl")))
    assert first["reward/mean"] == also["reward/mean"]
    for name in ("policy/entropy", "optimizer/gradient_norm", "loss/policy", "length/mean"):
        np.testing.assert_allclose(first[name], also[name], rtol=1e-4, atol=1e-6, err_msg=name)
    assert len(list(together.metrics("rl"))) == 3
