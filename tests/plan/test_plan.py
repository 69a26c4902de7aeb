"""A plan for a small slice, compiled for TPUs on this machine; in a process of its own, as a person would."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from rl_reasoning.plan import slices

ROOT = Path(__file__).parents[2]


def run(*arguments, timeout=400):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment.pop("XLA_FLAGS", None)
    return subprocess.run([sys.executable, "scripts/plan.py", *arguments], cwd=ROOT, env=environment, timeout=timeout,
                          capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_t54_a_plan_says_what_the_model_needs():
    """Operations are those of 6 a weight and token, 2 for decoding; parameters are not gathered to decode."""
    wide = ["--config.model.width=512", "--config.model.mlp=1024", "--config.model.heads=8",
            "--config.model.layers=1"]
    ended = run("--topology=v5e:2x2", "--json", "--config.rl.prompts=256", *wide)
    assert ended.returncode == 0, ended.stderr
    assert "v5e:2x2: 4 chips" in ended.stdout
    assert "estimated: " in ended.stdout
    [plan] = json.loads(ended.stdout.splitlines()[-1])["plans"]
    assert plan["fits"]
    assert plan["mesh"] == {"data": 1, "fsdp": 4, "context": 1, "tensor": 1}
    for name in ("decode", "update"):
        one = plan[name]
        assert one["memory"]["total"] >= one["memory"]["parameters"] > 0
        # What was counted over what the model needs; attention and the logits made again come on top.
        needed = one["utilisation"] * one["seconds"] * 197e12
        assert 0.95 < one["flops"] / needed < 1.1, name
    assert plan["decode"]["collectives"].get("all-gather", 0) < plan["decode"]["memory"]["parameters"] / 10
    assert plan["update"]["collectives"]["all-gather"] > 0


@pytest.mark.slow
def test_t55_what_does_not_fit_is_named_with_three_changes_that_were_tried():
    ended = run("--topology=v5e:1x1", "--json", "--config.rl.prompts=2048", "--config.rl.samples=64",
                "--config.rl.minibatches=1", "--config.model.width=1024", "--config.model.layers=1")
    assert ended.returncode == 0, ended.stderr
    assert "DOES NOT FIT" in ended.stdout
    asked, *tried = json.loads(ended.stdout.splitlines()[-1])["plans"]
    assert asked["update"]["memory"]["total"] > 15.75 * 2**30
    assert len(tried) == 3
    assert any(one["update"]["fits"] for one in tried)
    assert all(one["change"] in ended.stdout for one in tried)


@pytest.mark.parametrize(("argument", "message"), [
    ("--topology=v9:2x2", "the kind must be one of v5e, v5p, v6e"),
    ("--config.rl.promts=3", "did you mean"),
])
def test_what_cannot_be_planned_ends_at_once(argument, message):
    ended = run("--topology=v5e:2x2", argument, timeout=60)
    assert ended.returncode == 2
    assert message in ended.stderr


def test_a_missing_compiler_is_named_with_what_installs_it(monkeypatch):
    monkeypatch.setattr(slices.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[plan\]'"):
        slices.devices("v5e:2x2")


def test_a_plan_without_a_slice_says_what_a_slice_is_and_lists_models_all_the_same():
    ended = run(timeout=60)
    assert ended.returncode == 2
    assert "--topology is missing: give kind and shape of the slice, as in v5e:4x4" in ended.stderr
    assert "qwen2.5-math-7b" in run("--model=list", timeout=60).stdout.split()
