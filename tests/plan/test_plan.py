"""A plan for a small slice, compiled for TPUs on this machine; in a process of its own, as a person would."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from rl_reasoning.algorithms import ALGORITHMS
from rl_reasoning.config import RL, Mesh
from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.parallel import make_layout
from rl_reasoning.plan import planner, remedies, slices
from rl_reasoning.plan.chips import chip_of
from rl_reasoning.plan.planner import Compiled, Plan, Slice
from rl_reasoning.plan.programs import Program, Sizes

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
    ended = run("--topology=v5e:1x1", "--json", "--config.rl.prompts=64", "--config.rl.samples=16",
                "--config.rl.minibatches=1", "--config.model.width=512", "--config.model.mlp=131072",
                "--config.model.layers=1")
    assert ended.returncode == 0, ended.stderr
    assert "DOES NOT FIT" in ended.stdout
    asked, *tried = json.loads(ended.stdout.splitlines()[-1])["plans"]
    assert asked["update"]["memory"]["total"] > 15.75 * 2**30
    assert len(tried) == 3
    assert any(one["update"]["fits"] for one in tried)
    assert all(one["change"] in ended.stdout for one in tried)


@pytest.mark.slow
def test_what_lies_in_the_hosts_memory_is_named_and_is_no_part_of_a_chips():
    """Each layer's input, of all rows of a chip, which are at least its prompts."""
    ended = run("--topology=v5e:2x2", "--json", "--config.rl.remat=offload", "--config.rl.prompts=512",
                "--config.rl.minibatches=1", "--config.model.width=512", "--config.model.heads=8")
    assert ended.returncode == 0, ended.stderr
    [plan] = json.loads(ended.stdout.splitlines()[-1])["plans"]
    assert "in its host's memory" not in plan["decode"]["memory"]
    memory = plan["update"]["memory"]
    outside, total = memory.pop("in its host's memory"), memory.pop("total")
    layers, rows, places = (int(n) for n in re.search(
        r"(\d+) layers of width 512.*?, (\d+) prompts .* rows of (\d+);", ended.stdout).groups())
    assert outside % (layers * places * 512 * 4) == 0
    assert rows / 4 <= outside // (layers * places * 512 * 4) < rows
    assert total < sum(memory.values()) + 1
    assert f"in its host's memory {outside / 2**30:.2f}" in ended.stdout


@pytest.mark.parametrize(("asked", "tried"), [
    ({}, ["rl.remat=block", "rl.mlp_blocks=4", "rl.microbatches=4 and 8 slots", "rl.microbatches=16 and 2 slots",
          "rl.microbatches=16 and 1 slots", "rl.remat=offload"]),
    ({"remat": "full", "microbatches": 4}, ["rl.mlp_blocks=4", "rl.microbatches=16 and 8 slots",
                                            "rl.microbatches=16 and 2 slots", "rl.microbatches=16 and 1 slots",
                                            "rl.remat=offload"]),
    ({"remat": "offload", "mlp_blocks": 2, "samples": 1}, ["rl.microbatches=4 and 4 slots",
                                                           "rl.microbatches=16 and 1 slots"])])
def test_what_does_not_fit_is_tried_with_one_change_more_each_time(monkeypatch, asked, tried):
    """And never with a setting that needs more than the one asked for."""
    seen = {}
    tries(monkeypatch, seen, **asked, row_length=8 + RL().max_tokens)
    assert list(seen) == ["", *(", ".join(tried[:n + 1]) for n in range(len(tried)))]


def tries(monkeypatch, seen, needs=lambda change: 2.0, **asked):
    """What is tried on a chip of 1 byte, into `seen`, and what comes of it."""
    def planned(sizes, mesh, onto, slots, change=""):
        seen[change] = needs(change)
        one = Compiled({"total": seen[change]}, seen[change] <= 1, 0.0)
        return Plan({}, one, one, 1, 1, change)

    monkeypatch.setattr(remedies, "plan", planned)
    rl = RL(**{"prompts": 16, "samples": 2, "minibatches": 1} | asked)
    sizes = Sizes(DecoderConfig(64, 1, 32, 1, 1, 32, 64), rl, ALGORITHMS["grpo"], 8)
    onto = Slice(chip_of("v5e:1x1"), jax.devices()[:1])
    return remedies.remedies(sizes, Mesh(), onto, planned(sizes, Mesh(), onto, 0))


def test_a_change_that_needs_more_is_tried_and_not_kept(monkeypatch):
    """Short rows have their prompts more often. Of three that were tried one fits: no more are."""
    def needs(change):
        return 3.0 + 2 * ("row_length" in change) - ("block," in change) - 1.5 * ("microbatches" in change)

    seen = {}
    found = tries(monkeypatch, seen, needs)
    assert list(seen) == ["", "rl.remat=block", "rl.remat=block, rl.mlp_blocks=4",
                          f"rl.remat=block, rl.mlp_blocks=4, rl.row_length={8 + RL().max_tokens}",
                          "rl.remat=block, rl.mlp_blocks=4, rl.microbatches=4 and 8 slots"]
    assert [one.update.memory["total"] for one in found] == [0.5, 2.0, 4.0]


def test_what_a_change_leaves_alone_is_not_compiled_again(monkeypatch):
    """Though more may lie beside it, for which it no longer fits."""
    layout = make_layout(Mesh(), {}, jax.devices()[:1], even_alone=True)
    onto, made = Slice(dataclasses.replace(chip_of("v5e:1x1"), memory=100.0), jax.devices()[:1]), []
    monkeypatch.setattr(planner, "measure", lambda *_: made.append(1) or Compiled({"total": 60.0}, True, 1.0))

    def program(add):
        return Program(jax.jit(lambda x: x + add), (jax.ShapeDtypeStruct((4,), "float32"),), 1, {}, 1.0, 0.0)

    assert [onto.compiled(program(add), layout, beside).fits for add, beside in ((1, 40), (1, 41), (2, 0))] == [
        True, False, True]
    assert len(made) == 2


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
