"""The cross-check with TRL and tunix, all of it that needs neither: inputs, our numbers, comparison, table, failures.

A stand-in takes a peer's place: a runner in a process of its own, whose numbers are plain loops.
"""

import ast
import dataclasses
import importlib
import json
import pathlib
import sys

import numpy as np
import pytest

SCRIPTS = pathlib.Path(__file__).parents[2] / "scripts"

STAND_IN = """
import json, sys
from pathlib import Path
import numpy as np
source, target = map(Path, sys.argv[1:])
assert json.loads((source / "cases.json").read_text()) == {"0": {"function": "ppo", "settings": {"clip": 0.2}}}
for path in source.glob("*.npz"):
    given = np.load(path, allow_pickle=False)
    logp, old, mask, advantages = (given[name] for name in ("logp", "old_logp", "mask", "advantages"))
    loss, gradient = 0.0, np.zeros_like(logp)
    for row, column in zip(*np.nonzero(mask)):
        ratio, advantage = np.exp(logp[row, column] - old[row, column]), advantages[row]
        loss -= min(ratio * advantage, np.clip(ratio, 0.8, 1.2) * advantage) / mask.sum()
        cut = (advantage > 0 and ratio > 1.2) or (advantage < 0 and ratio < 0.8)
        gradient[row, column] = 0.0 if cut else -ratio * advantage / mask.sum()
    np.savez(target / path.name, **{"0|loss": np.float64(loss * SCALE), "0|gradient": gradient})
(target / "about.json").write_text(json.dumps({"versions": {"stand-in": "1"}, "places": {"ppo": "stand_in.py:1"}}))
"""


@dataclasses.dataclass(frozen=True)
class Parts:
    script: object
    inputs: object
    cases: object
    compare: object
    environments: object


@pytest.fixture(name="parts")
def parts_of_the_script(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    names = ("crosscheck", "peer_check.inputs", "peer_check.cases", "peer_check.compare", "peer_check.environments")
    return Parts(*map(importlib.import_module, names))


@pytest.fixture(name="stand_in")
def stand_in_for_tunix(parts, monkeypatch, tmp_path):
    """Runs the script with the stand-in as its only peer; loss_scale spoils the stand-in's loss."""
    ours = parts.cases.page("ppo")

    def run(loss_scale="1.0", **case):
        made = {"method": "PPO", "function": "ppo", "settings": {"clip": 0.2}, "ours": ours} | case
        (tmp_path / "run_tunix.py").write_text(STAND_IN.replace("SCALE", loss_scale))
        monkeypatch.setattr(parts.script, "RUNNERS", tmp_path)
        monkeypatch.setattr(parts.script, "CASES", {"tunix": (parts.cases.Case(**made),)})
        monkeypatch.setattr(parts.environments, "python_of", lambda peer, folder: pathlib.Path(sys.executable))
        return parts.script.main(["--peers", "tunix", "--seeds", "2"])

    return run


def test_inputs_are_ragged_repeatable_and_far_from_the_old_policy(parts):
    first, again, other = (parts.inputs.make(seed) for seed in (3, 3, 4))
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["logp"], other["logp"])
    mask = first["mask"]
    assert {1, parts.inputs.T} < set(mask.sum(axis=1).tolist())
    ratio = np.exp(first["logp"] - first["old_logp"])[mask]
    assert ratio.min() < 0.7
    assert ratio.max() > 1.5
    assert (first["logp"] < 0).all()
    assert (first["logp"][~mask] == first["old_logp"][~mask]).all()
    assert 0 in first["advantages"]
    assert not first["mask_empty"][-1].any()


def test_our_numbers_are_finite_and_see_nothing_that_is_masked(parts):
    """One case of each kind: the losses' own tests have the rest."""
    clean = parts.inputs.make(1)
    spoilt = dict(clean)
    for name, mask in (("logp", "mask"), ("old_logp", "mask"), ("ref_logp", "mask"), ("values", "mask"),
                       ("pair_logp", "pair_mask"), ("pair_ref", "pair_mask"), ("other_logp", "other_mask")):
        spoilt[name] = np.where(clean[mask], clean[name], np.nan)
    kinds = {(peer, case.function): case for peer, cases in parts.cases.CASES.items() for case in reversed(cases)}
    for case in kinds.values():
        expected, found = case.ours(clean), case.ours(spoilt)
        for name, value in expected.items():
            assert np.isfinite(value).all()
            np.testing.assert_array_equal(found[name], value, err_msg=case.method)


def test_every_case_is_one_that_its_runner_knows_and_can_be_written_down(parts):
    for peer, cases in parts.cases.CASES.items():
        tree = ast.parse((SCRIPTS / "peer_check" / f"run_{peer}.py").read_text())
        table = next(node.value for node in tree.body if isinstance(node, ast.Assign) and node.targets[0].id == "CASES")
        known = {ast.literal_eval(key) for key in table.keys}
        assert {case.function for case in cases} == known
        assert len({case.method for case in cases}) == len(cases)
        for case in cases:
            assert json.loads(json.dumps(case.settings)) == case.settings
            assert bool(case.cause) == (case.bridge is not None) == bool(case.follows), case.method
            assert "|" not in case.method + case.cause


def test_a_difference_is_relative_over_seeds_and_leaves_out_what_we_mask(parts):
    def masked(*values):
        return np.ma.array(values, mask=[False, True])

    mine = [{"loss": np.array(2.0), "gradient": masked(1.0, 7.0)},
            {"loss": np.array(-4.0), "gradient": masked(2.0, np.nan)}]
    theirs = [{"loss": np.array(2.0), "gradient": np.array([1.0, 9.0])},
              {"loss": np.array(-3.0), "gradient": np.array([2.5, np.nan])}]
    assert parts.compare.difference(mine, theirs) == {"loss": 0.25, "gradient": 0.25}
    theirs[0]["gradient"] = np.array([np.nan, 0.0])
    mine[1]["loss"] = np.array(np.nan)
    assert parts.compare.difference(mine, theirs) == {"loss": np.inf, "gradient": np.inf}
    with pytest.raises(ValueError, match=r"gradient of the peer is missing or has another shape than ours: \(2,\)"):
        parts.compare.difference(mine, [{"loss": np.array(0.0)}] * 2)


def test_verdicts(parts):
    verdict, compare = parts.compare.verdict_of, parts.compare
    assert verdict(1e-12, None, 1e-9) == compare.AGREES
    assert verdict(1e-3, 1e-12, 1e-9) == compare.EXPLAINED
    assert verdict(1e-3, None, 1e-9) == verdict(1e-3, 1e-4, 1e-9) == verdict(np.inf, None, 1) == compare.UNEXPLAINED
    assert verdict(1e-12, 1e-12, 1e-9) == compare.STALE


def test_a_peer_that_agrees(stand_in, capsys):
    assert stand_in() == 0
    *_, header, rule, row, _, summary = capsys.readouterr().out.splitlines()
    assert header.count("|") == rule.count("|") == row.count("|")
    assert row.startswith("| tunix | PPO | ")
    assert row.endswith(" | stand_in.py:1 |")
    assert summary == "2 seeds: 1 agree. stand-in 1."


def test_a_peer_that_differs_without_a_cause_fails(stand_in, capsys):
    assert stand_in("1.001") == 1
    out = capsys.readouterr().out
    assert "| 1.0e-03 | " in out
    assert out.endswith("2 seeds: 1 UNEXPLAINED. stand-in 1.\n")


def test_a_peer_that_differs_for_the_given_reason(stand_in, parts, capsys):
    """Ours is clipped wider than the stand-in; the bridge copies its clip."""
    wider = parts.cases.page("ppo", {"clip_high": 0.28})
    given = {"ours": wider, "bridge": parts.cases.page("ppo"), "cause": "clips at 0.2", "follows": "ours"}
    assert stand_in(**given) == 0
    assert "| differ | clips at 0.2 | ours | " in capsys.readouterr().out
    assert stand_in(**given | {"bridge": wider}) == 1


def test_a_peer_that_breaks_is_named_with_its_own_words(stand_in, capsys):
    assert stand_in("undefined_name") == 2
    captured = capsys.readouterr()
    assert "NOT COMPARED: tunix: exit code 1 of " in captured.err
    assert "NameError: name 'undefined_name' is not defined" in captured.err
    assert captured.out.endswith("Not compared, because not installed or not run (see above): tunix.\n")


def test_a_peer_that_cannot_be_installed(parts, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(parts.environments.sys, "executable", str(tmp_path / "no-python"))
    assert parts.script.main(["--peers", "trl", "--seeds", "1", "--environments", str(tmp_path)]) == 2
    assert "NOT COMPARED: trl: " in capsys.readouterr().err


def test_an_environment_is_made_once_for_one_set_of_releases(parts, monkeypatch, tmp_path):
    commands = []

    def record(peer, command):
        commands.append(command)
        if "venv" in command:
            python = tmp_path / peer / "bin" / "python"
            python.parent.mkdir(parents=True, exist_ok=True)
            python.touch()

    monkeypatch.setattr(parts.environments, "run", record)
    for _ in range(2):
        assert parts.environments.python_of("tunix", tmp_path) == tmp_path / "tunix" / "bin" / "python"
    assert [command[2] for command in commands] == ["venv", "pip"]
    assert commands[1][-1] == "google-tunix==0.1.7"
    monkeypatch.setitem(parts.environments.REQUIREMENTS, "tunix", ("google-tunix==0.1.8",))
    parts.environments.python_of("tunix", tmp_path)
    assert [command[2] for command in commands] == ["venv", "pip"] * 2
