"""The benchmark of the update: its batches, its matrix products, and its last line."""

import json
from argparse import Namespace

import numpy as np
import pytest

from rl_reasoning.models.architecture import DecoderConfig
from tests.scripts.loading import load


@pytest.fixture(name="bench")
def the_script(monkeypatch):
    return load("bench_trainer", monkeypatch)


def test_ragged_answers_are_mostly_short_and_all_allowed(bench):
    ragged, fixed = (bench.answers(bench.SIZES["tiny"], 64, which).lengths for which in (True, False))
    assert set(fixed) == {bench.ANSWER}
    assert ragged.max() <= bench.ANSWER
    assert np.median(ragged) < bench.ANSWER / 2


@pytest.mark.slow
def test_a_case_is_measured(bench, monkeypatch):
    monkeypatch.setitem(bench.SIZES, "tiny", DecoderConfig(64, 1, 32, 2, 1, 16, 64))
    monkeypatch.setitem(bench.ROWS, "tiny", 2)
    found = bench.measure(bench.Case("tiny", "float32", True), Namespace(pairs=2, no_peers=True, remat="block"))
    assert json.loads(json.dumps(found)) == found
    assert found["tokens_per_cpu_s"] * found["step_cpu_s"] < 2 * (bench.PROMPT + bench.ANSWER)
    assert 0 < found["roof_share"] < 1.5
    assert found["temporaries_mb"] > 0
