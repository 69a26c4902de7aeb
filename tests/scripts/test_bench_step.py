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


def test_the_limit_adds_up_turns_a_prefill_and_an_update(bench, monkeypatch):
    """A turn's products take 1 s, each of a prefill's 1,000 and an update's 10**6 a token."""
    timed_turns, shapes = [], []
    monkeypatch.setattr(bench, "timed", lambda turn: (timed_turns.append(turn()), 1.0, 1.0))
    monkeypatch.setattr(bench, "alone", lambda product, w, x: shapes.append(product(w, x).shape) or 1e3)
    monkeypatch.setattr(bench, "limit_seconds", lambda config, given, batch: 1e6 * given.lengths.sum())
    config = bench.SIZES["tiny"]
    tokens = bench.PROMPTS * bench.PROMPT
    updated = bench.PROMPTS * bench.SAMPLES * bench.ANSWER
    assert bench.limit_cpu(config) == 2 * bench.ANSWER + config.layers * 7e3 + 1e6 * updated  # weights and attention
    assert sorted(shapes) == sorted((tokens, outputs) for outputs in (32, 16, 16, 32, 64, 64, 32))
    assert len(timed_turns) == 3 * 8


@pytest.mark.parametrize(("option", "words"), [("--pairs=0", "must be 1 or more"), ("--cores=0", "must be 1 to"),
                                               ("--cores=9999", "must be 1 to")])
def test_a_number_that_cannot_be_is_refused(bench, capsys, option, words):
    with pytest.raises(SystemExit) as stopped:
        bench.main([option])
    assert stopped.value.code == 2
    assert f"{option}: {words}" in capsys.readouterr().err
