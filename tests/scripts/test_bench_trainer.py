"""The benchmark of the update: its batches, its sides' processes, and its figures."""

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
    options = Namespace(pairs=2, compiles=2, cores=1, no_peers=True, remat="block")
    found = bench.measure(bench.Case("tiny", "float32", True), options)
    assert json.loads(json.dumps(found)) == found
    assert found["tokens_per_cpu_s"] * found["step_cpu_s"] < 2 * (bench.PROMPT + bench.ANSWER)
    assert 0 < found["roof_share"] < 1.5
    assert found["temporaries_mb"] > 0
    assert found["compile_cpu_s"] > 0


class Side:
    """A process that takes as many seconds as its number says."""

    def __init__(self, name, compile_seconds):
        self.name, self.first, self.stopped = name, {
            "compile": compile_seconds, "padding": 0.0, "seen": 0.5, "temporaries_mb": 1.0, "peak_mb": 2.0}, False

    def step(self):
        seconds = {"ours": 2.0, "tunix": 6.0, "torch": 3.0}[self.name]
        return {"cpu": seconds, "wall": 2 * seconds}

    def ask(self, what):
        assert what == {"limit": True}
        return {"limit": 1.5}

    def stop(self):
        self.stopped = True


def test_sides_compile_in_turn_and_the_last_processes_take_the_steps(bench, monkeypatch, tmp_path):
    compiles = {"ours": [4.0, 6.0, 5.0], "tunix": [10.0, 20.0, 25.0], "torch": [0.0]}
    started = []

    def start(name, python, script, case, **variables):
        started.append(Side(name, compiles[name][sum(side.name == name for side in started)]))
        assert variables == {"JAX_PLATFORMS": "cpu"}
        return started[-1]

    monkeypatch.setattr(bench.TimedPeer, "start", start)
    monkeypatch.setattr(bench, "python_of", lambda environment, folder: folder / environment)
    options = Namespace(pairs=3, compiles=3, cores=1, no_peers=False, remat="", peers_folder=tmp_path)
    found = bench.measure(bench.Case("tiny", "float32", False), options)
    assert [side.name for side in started] == ["ours", "tunix", "torch", "ours", "tunix", "ours", "tunix"]
    assert all(side.stopped for side in started)
    assert found["cpu_ratio_tunix"] == 3.0
    assert found["wall_ratio_torch"] == 1.5
    assert found["roof_share"] == 0.75
    assert (found["compile_cpu_s"], found["tunix_compile_cpu_s"]) == (5.0, 20.0)
    assert (found["compile_share_tunix_least"], found["compile_share_tunix"], found["compile_share_tunix_most"]) == (
        0.2, 0.3, 0.4)


def test_a_side_that_ends_is_said(bench, monkeypatch, capsys):
    def start(name, *_, **__):
        raise bench.PeerUnavailable("ours's step ended with exit code 1")

    monkeypatch.setattr(bench.TimedPeer, "start", start)
    monkeypatch.setattr(bench.cores, "keep_to", lambda count, parser: None)
    assert bench.main(["--quick", "--no-peers"]) == 2
    assert "error: tiny float32 fixed: ours's step ended with exit code 1" in capsys.readouterr().err


@pytest.fixture(name="compiled")
def the_comparison_without_noise(bench):
    from peer_check import compiled

    return compiled


def test_two_programs_are_compared_by_what_both_have(bench, compiled, monkeypatch, capsys):
    """A program for v5p cannot be read back, so it has no work to share."""
    mine = {"temporaries_gib": 2.0, "tflop": 50.0, "gb": 90.0, "sent_gb": 40.0}
    monkeypatch.setattr(compiled, "ours", lambda wanted: mine | {"gb": 90.0 / wanted.mlp_blocks})
    monkeypatch.setattr(compiled, "tunix", lambda wanted, folder: mine | {"temporaries_gib": 8.0, "tflop": 0})
    assert bench.main(["--topology=v5e:4x4", "--mlp-blocks=2"]) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["temporaries_gib_share"] == 0.25
    assert found["gb_share"] == 0.5
    assert "tflop_share" not in found
    assert found["remat"] == "block"


def test_a_slice_that_does_not_exist_is_named(bench, compiled, monkeypatch, capsys):
    monkeypatch.setattr(compiled.slices.importlib.util, "find_spec", lambda name: None)
    assert bench.main(["--topology=v9:1x1", "--no-peers"]) == 2
    assert "pip install -e '.[plan]'" in capsys.readouterr().err


@pytest.mark.slow
def test_our_update_is_compiled_for_a_slice(compiled):
    wide = DecoderConfig(512, 2, 256, 4, 4, 64, 8_192, tied=False, precision=compiled.CONFIG.precision)
    whole, parts = (compiled.ours(compiled.Wanted("v5e:2x2", 8, mlp_blocks=blocks, config=wide)) for blocks in (1, 8))
    assert whole["tflop"] == pytest.approx(parts["tflop"], rel=0.05)
    assert parts["temporaries_gib"] < 0.8 * whole["temporaries_gib"]
    assert whole["sent_gb"] > 0
