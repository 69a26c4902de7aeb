"""The benchmark of whole steps: real steps of the trainer, whose answers end where the workload says."""

import json

import pytest

from rl_reasoning.models.architecture import DecoderConfig
from tests.scripts.loading import load


@pytest.fixture(name="bench")
def the_script(monkeypatch):
    found = load("bench_step", monkeypatch)
    monkeypatch.setitem(found.SIZES, "tiny", DecoderConfig(64, 1, 32, 2, 1, 16, 64))
    monkeypatch.setattr(found, "WARM", 1)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("ends", [0, 16])
def test_a_step_is_measured(bench, ends):
    found = bench.measure(bench.ours(ends), None, 2)
    assert json.loads(json.dumps(found)) == found
    most = bench.PROMPTS * bench.SAMPLES * bench.ANSWER
    assert found["step_tokens"] == most if not ends else 0 < found["step_tokens"] < most / 4
    assert found["step_cpu"] > 0


def test_products_alone_take_less_than_a_step(bench):
    """The smallest sizes: one product after the other, and most of a step is something else."""
    assert 0 < bench.limit_cpu(bench.SIZES["tiny"]) < bench.measure(bench.ours(0), None, 2)["step_cpu"]


def test_a_number_of_steps_that_cannot_be_is_refused(bench, capsys):
    with pytest.raises(SystemExit) as stopped:
        bench.main(["--pairs=0"])
    assert stopped.value.code == 2
    assert "--pairs=0: must be 1 or more" in capsys.readouterr().err
