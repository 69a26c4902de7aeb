"""The benchmark of the sampler: what it asks for, what it makes of the answers, and that it runs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import bench_sampler

    return bench_sampler


@pytest.mark.parametrize("quick", [True, False])
def test_workloads_are_what_they_are_said_to_be(bench, quick):
    found = bench.workloads(quick, 50)
    assert {len(ids) for ids in found["a"].prompts} == {64}
    assert [prompt for prompt, _ in found["b"].answers] == [prompt for prompt in range(8) for _ in range(16)]
    ragged, (lengths, tails) = found["c"], zip(*((len(found["c"].prompts[p]), n) for p, n in found["c"].answers),
                                               strict=True)
    assert min(lengths) >= 16
    assert max(lengths) <= 256
    assert max(tails) <= (256 if quick else 512)
    assert ragged.cache >= max(lengths) + max(tails)
    assert all(0 < token < 50 for ids in ragged.prompts for token in ids)
    assert {tokens for _, tokens in ragged.short(1).answers} == {1}


def test_figures_come_from_neighbouring_rounds(bench, capsys):
    def run(tokens, seconds):
        return {"tokens": tokens, "cpu_s": seconds, "wall_s": 2 * seconds}

    mine = run(110, 2.0)
    ready = {name: {"compile_cpu_s": 3.0, "peak_mb": 7.0} for name in ("ours", "prefill", *bench.LIMITS, "peer")}
    found = bench.describe("case", ready, {
        "prefill": [(mine, run(10, 1.0))] * 2, "limit": [(mine, run(200, 1.0))] * 2,
        "limit_turned": [(mine, run(150, 1.0)), (mine, run(200, 1.0))], "limit_attention": [(mine, run(400, 1.0))] * 2,
        "peer": [(mine, run(110, 4.0)), (run(110, 1.0), run(110, 3.0))]})
    assert found["roof_share_weights"] == pytest.approx(0.5)  # 100 tokens in 1 s, and 200 were possible
    assert found["roof_share"] == pytest.approx(0.75)  # with attention 400 in 3 s
    assert found["peer"]["cpu_ratio"] == pytest.approx(2.5)
    assert found["peer"]["wall_ratio_spread"] == [2.0, 3.0]
    assert found["ours"]["compile_cpu_s"] == pytest.approx(3.0)
    assert "75 % (75 to 75) of the limit, 50 % (50 to 50) of that of weights" in capsys.readouterr().out


def test_places_that_a_token_sees_are_a_mean_over_tokens(bench):
    seen = bench.workloads(False, 50)["b"].order
    assert seen["seen"] == (64, 64)  # of a prompt of 64, and of 1 to 128
    assert seen["shared"] == 16
    uneven = bench.Workload("c", [[1] * 10, [1] * 40], [(0, 1), (1, 3)], 1, 1, 50, 3).order
    assert uneven["seen"] == ((10 + 3 * 40) // 4, 2)  # answers: (1 + 1 + 2 + 3) / 4
    assert uneven["shared"] == 1


@pytest.mark.slow
def test_it_runs_and_its_last_line_is_an_object():
    ended = subprocess.run([sys.executable, str(SCRIPTS / "bench_sampler.py"), "--quick", "--no-peers", "--pairs", "1",
                            "--workloads", "a"], capture_output=True, text=True, timeout=600, check=True)
    found = json.loads(ended.stdout.splitlines()[-1])
    assert 0 < found["roof_share"] < 1.5
    assert found["cases"]["tiny float32 a"]["ours"]["tokens"] == 32 * 64
    assert {"tokens_per_cpu_s", "peak_mb", "compile_cpu_s"} <= set(found)
