"""Sampler and trainer at work at once: exact staleness, the same bits however it is interrupted, faults that arrive."""

import dataclasses
import functools
import json
import os
import signal
import threading
import time

import jax
import numpy as np
import pytest
from test_learning import learn as learned
from test_learning import shuffled
from two_arms import make_lab, with_seed

from experiments.configs import countdown
from rl_reasoning import options, rollouts
from rl_reasoning.config import RL, Checkpoint, Experiment, Mesh, Optimizer, Watch
from rl_reasoning.edge import ConfigError, read_experiment
from rl_reasoning.loop import reinforce
from rl_reasoning.loop.keeper import Keeper
from rl_reasoning.loop.reinforce import begin, gather, learn, make_trainer, train_step
from rl_reasoning.loop.setup import build
from rl_reasoning.loop.stops import Stopped, Stops
from rl_reasoning.loop.watch import TrainingFailed
from rl_reasoning.models import decoder
from rl_reasoning.models.architecture import LoRA
from rl_reasoning.parallel import make_layouts
from rl_reasoning.reporting.run_folder import RunFolder
from rl_reasoning.reporting.writers import MetricWriter
from rl_reasoning.sampling.engine import JaxEngine
from rl_reasoning.training import checkpoints, manifest
from rl_reasoning.training.batch import Answers, no_extras, unpacked
from rl_reasoning.types import Outcome, Verdict

STEPS = 5
EVERY_STEP = Checkpoint(every=1, keep=9, seconds=5, background=False)


@functools.cache
def trainer(stale=0, sampler=0):
    """Two updates a step; a band, so that one rollout tells the next one something."""
    lab = make_lab(0, algorithm="reinforce", steps=STEPS, prompts=4, samples=4, stale=stale,
                   objective={"plan_band_high": 0.9})
    if sampler:
        layout, own = make_layouts(Mesh(sampler=sampler), lab.policy.config.sizes)
        assert layout is None
        lab = dataclasses.replace(lab, policy=rollouts.Policy(lab.policy.config, lab.policy.tokenizer, 3, sampler=own))
    return make_trainer(lab, "reinforce")


def meshed(stale, adapters):
    """A trainer on a mesh of two devices and a sampler on two others, perhaps with adapters."""
    lab = make_lab(0, algorithm="reinforce", steps=STEPS, prompts=4, samples=4, minibatches=1, stale=stale)
    config = dataclasses.replace(lab.policy.config, lora=LoRA(2, 4.0, ("attention.*",)) if adapters else None)
    layout, own = make_layouts(Mesh(fsdp=2, sampler=2), config.sizes)
    policy = rollouts.Policy(config, lab.policy.tokenizer, 3, layout=layout, sampler=own)
    return make_trainer(dataclasses.replace(lab, policy=policy, first=lambda: layout.place(
        decoder.initialize(config, jax.random.key(0)))), "reinforce")


def changed(used, **experiment):
    """The same compiled functions with other settings."""
    return dataclasses.replace(used, lab=dataclasses.replace(used.lab, experiment=dataclasses.replace(
        used.lab.experiment, **experiment)))


def run(path, used, *, stops=None, look=None, settings=EVERY_STEP):
    """A run, or the rest of one; what it leaves, clocks aside."""
    used = changed(used, checkpoint=settings)
    with MetricWriter(RunFolder(path)) as writer, Keeper(RunFolder(path), settings, {}, used.batches) as keeper:
        reinforce.reinforce(used, used.lab.first(), writer, keeper, stops or Stops(30), look or (lambda *_: None))
    return left(path)


def left(path):
    record = manifest.read(list(checkpoints.steps(path / "checkpoints").values())[-1])
    return {name: [array["sha256"] for array in record[name].values()] if name == "arrays" else record[name]
            for name in ("step", "state", "arrays")} | {"metrics": (path / "metrics.jsonl").read_bytes()}


@pytest.fixture(name="whole", scope="module")
def undisturbed(tmp_path_factory):
    """The run one step behind that nothing happened to."""
    return run(tmp_path_factory.mktemp("whole"), trainer(stale=1))


def host(policy):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(policy)]


def same(one, other):
    return all((a == b).all() for a, b in zip(one, other, strict=True))


@pytest.mark.slow
def test_in_turn_a_sampler_with_a_device_of_its_own_gives_the_same_bits(tmp_path):
    shared, apart = run(tmp_path / "shared", trainer()), run(tmp_path / "apart", trainer(sampler=1))
    assert apart == shared
    assert shared["state"]["earlier"] == []
    assert "waiting" not in RunFolder(tmp_path / "shared").timings()[0]


@pytest.mark.slow
def test_in_turn_a_sampler_with_two_devices_gives_the_same_run_but_for_rounding(tmp_path):
    """Each has half of the rows, whose products some CPUs round differently."""
    shared, apart = ([json.loads(line) for line in run(tmp_path / name, used)["metrics"].splitlines()]
                     for name, used in (("shared", trainer()), ("apart", trainer(sampler=2))))
    assert len(apart) == len(shared)
    for one, other in zip(apart, shared, strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            assert one[name] == (pytest.approx(value, rel=1e-3, abs=1e-5) if isinstance(value, float) else value), name


@pytest.mark.parametrize(("stale", "sampler"), [(2, 0), pytest.param(2, 1, marks=pytest.mark.slow)])
def test_the_answers_of_a_step_are_exactly_the_policys_that_many_steps_before(tmp_path, monkeypatch, stale, sampler):
    """And all that comes of them is what the same updates give without a thread, whichever device samples."""
    made, policies, original = {}, {0: host(trainer().lab.first())}, reinforce.collect

    def watched(lab, algorithm, parameters, *rest):
        step = rest[2]
        made[step] = (host(parameters), threading.current_thread().name)
        return original(lab, algorithm, parameters, *rest)

    def look(step, policy, _):
        policies[step] = host(policy)

    with monkeypatch.context() as patched:
        patched.setattr(reinforce, "collect", watched)
        run(tmp_path, trainer(stale, sampler), look=look)
    assert {name for _, name in made.values()} == {"rollouts"}
    for step in range(1, STEPS + 1):
        assert same(made[step][0], policies[max(0, step - 1 - stale)])
    assert not any(same(policies[step], policies[step + 1]) for step in range(STEPS))
    lines = RunFolder(tmp_path).metrics("rl")
    assert [line["rollout/staleness"] for line in lines] == [0, 1, 2, 2, 2]
    for line in RunFolder(tmp_path).timings():
        assert line["time/waiting"] >= 0
        assert line["time/sampler_waiting"] >= 0
    used = trainer(stale)
    first = used.lab.first()
    state = begin(used, first)
    for step in range(1, STEPS + 1):
        state, found, _ = train_step(used, state, step, first)
        assert found == {name: value for name, value in lines[step - 1].items() if name not in ("step", "phase")}
    assert same(host(state.train.parameters["policy"]), policies[STEPS])


@pytest.mark.slow
@pytest.mark.parametrize("adapters", [False, True])
def test_two_meshes_give_what_the_same_updates_give_without_a_thread(tmp_path, adapters):
    """Also with adapters, where most weights go to the sampler's devices once."""
    used = meshed(1, adapters)
    threaded = run(tmp_path, used)
    first = used.lab.first()
    state = begin(used, first)
    sent = jax.tree.leaves(state.lent.frozen)
    assert bool(sent) == adapters
    assert all(leaf.sharding.device_set == used.lab.policy.sampler.whole.device_set for leaf in sent)
    for step in range(1, STEPS + 1):
        state, found, _ = train_step(used, state, step, first)
    last = json.loads(threaded["metrics"].splitlines()[-1])
    assert found == {name: value for name, value in last.items() if name not in ("step", "phase")}
    assert all(a is b for a, b in zip(sent, jax.tree.leaves(state.lent.frozen), strict=True))


class Killed(BaseException):
    """What `os._exit` would have done."""


@pytest.mark.parametrize(("module", "name", "times"), [
    (rollouts, "verify", 2), (reinforce, "_learn", 3), pytest.param(reinforce, "watch", 2, marks=pytest.mark.slow),
    pytest.param(manifest, "seal", 4, marks=pytest.mark.slow)])
def test_t1_killed_anywhere_and_gone_on_with_is_bit_identical(whole, tmp_path, monkeypatch, module, name, times):
    """In the sampler's thread, which brings it to the trainer's, in an update, before and in a save."""
    original, calls = getattr(module, name), []

    def passing(*args, **kwargs):
        calls.append(name)
        if len(calls) == times:
            raise Killed
        return original(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(module, name, passing)
        with pytest.raises(Killed):
            run(tmp_path, trainer(stale=1))
    assert run(tmp_path, trainer(stale=1)) == whole
    assert not [thread for thread in threading.enumerate() if thread.name == "rollouts"]


@pytest.mark.parametrize("where", ["look", "taking"])
def test_t2_a_stop_saves_and_the_run_goes_on_as_one(whole, tmp_path, monkeypatch, where):
    """Between two steps, and while the trainer waits for answers that are being made."""
    original, calls = rollouts.verify, []

    def look(done, *_):
        if where == "look" and done == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    def slow(*args):
        calls.append(args)
        if where == "taking" and len(calls) == 4:
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.2)
        return original(*args)

    with monkeypatch.context() as patched, Stops(30) as stops:
        patched.setattr(rollouts, "verify", slow)
        with pytest.raises(Stopped) as stop:
            run(tmp_path, trainer(stale=1), stops=stops, look=look, settings=Checkpoint(every=100, seconds=5))
    assert stop.value.code == 75
    assert list(checkpoints.steps(tmp_path / "checkpoints"))[-1] in (2, 3)
    assert run(tmp_path, trainer(stale=1)) == whole


@pytest.mark.slow
def test_a_run_that_samples_elsewhere_goes_on_where_it_shared(whole, tmp_path):
    """Where answers are drawn is no part of what a run is."""
    def stop(done, *_):
        if done == 2:
            raise Killed

    with pytest.raises(Killed):
        run(tmp_path, trainer(stale=1), look=stop)
    assert run(tmp_path, trainer(stale=1, sampler=1)) == whole
    assert whole["state"]["earlier"] == [STEPS - 1]


@pytest.mark.parametrize("error", [
    OSError("no server at this address"),
    pytest.param(ValueError("a prompt that is too long"), marks=pytest.mark.slow)])
def test_what_fails_in_the_samplers_thread_ends_the_run_as_itself(tmp_path, monkeypatch, error):
    """After the steps whose answers were made before it."""
    original, calls = rollouts.verify, []

    def fails(*args):
        calls.append(args)
        if len(calls) == 4:
            raise error
        return original(*args)

    monkeypatch.setattr(rollouts, "verify", fails)
    with pytest.raises(type(error)) as found:
        run(tmp_path, trainer(stale=2))
    assert found.value is error
    assert len(RunFolder(tmp_path).metrics("rl")) == 3
    assert list(checkpoints.steps(tmp_path / "checkpoints")) == [1, 2, 3]


def test_nothing_scored_is_said_as_ever(tmp_path, monkeypatch):
    broken = Verdict(Outcome.CRASH, float("nan"), None, "it broke")
    monkeypatch.setattr(type(trainer().lab.verifier), "verify_all", lambda self, items: [broken for _ in items])
    with pytest.raises(TrainingFailed, match="no answer of step 1 could be scored; the first: it broke"):
        run(tmp_path, trainer(stale=1))


def test_a_stop_does_not_wait_for_an_engine_that_hangs(tmp_path, monkeypatch, capsys):
    """What the sampler is at is left to itself after `checkpoint.seconds`, with the state saved before."""
    released, original = threading.Event(), JaxEngine.generate

    def hangs(self, *args, **kwargs):
        if len(RunFolder(tmp_path).metrics("rl")) >= 2:
            os.kill(os.getpid(), signal.SIGTERM)
            released.wait(20)
        return original(self, *args, **kwargs)

    began = time.monotonic()
    with monkeypatch.context() as patched, Stops(30) as stops:
        patched.setattr(JaxEngine, "generate", hangs)
        with pytest.raises(Stopped):
            run(tmp_path, trainer(stale=1), stops=stops, settings=Checkpoint(every=100, seconds=0.2))
    assert time.monotonic() - began < 15
    assert "the sampler is still busy after 0.2 s" in capsys.readouterr().err
    assert list(checkpoints.steps(tmp_path / "checkpoints"))
    released.set()
    for thread in threading.enumerate():
        if thread.name == "rollouts":
            thread.join(10)
            assert not thread.is_alive()


def test_recorded_log_probabilities_are_those_of_the_recorded_policy(tmp_path, monkeypatch):
    """From the disk alone: the answers of a step, the step of the policy that made them, and its checkpoint."""
    original = reinforce.learn

    def skipped(used, current, collected, step, reference):
        after, found, timings = original(used, current, collected, step, reference)
        return after, found | {"optimizer/skipped": float(step == STEPS)}, timings

    monkeypatch.setattr(reinforce, "learn", skipped)
    used = changed(trainer(stale=2), watch=Watch(skipped=1))
    with pytest.raises(TrainingFailed):
        run(tmp_path, used)
    lines = list(map(json.loads, (tmp_path / "faults" / f"step_{STEPS:04d}.jsonl").read_text().splitlines()))
    assert {line["sampled_by"] for line in lines} == {STEPS - 3}
    kept = checkpoints.steps(tmp_path / "checkpoints")
    policies = [checkpoints.restore_policy(kept[step], used.lab.policy.config) for step in (STEPS - 3, STEPS - 1)]
    recorded = np.concatenate([np.asarray(line["logprobs"], float) for line in lines])
    gaps = [np.abs(forced(used, policy, lines) - recorded).max() for policy in policies]
    assert gaps[0] < 1e-5
    assert gaps[1] > 1e-3


def forced(used, policy, lines):
    """[tokens]: log-probabilities of recorded answers, by a forward pass of the trainer's."""
    problems, prompts = {problem.id: problem for problem in used.lab.train}, list(dict.fromkeys(
        line["problem"] for line in lines))
    ids = np.zeros((len(lines), used.lab.experiment.rl.max_tokens), np.int32)
    for row, line in zip(ids, lines, strict=True):
        row[:len(line["ids"])] = line["ids"]
    answers = Answers(*used.lab.policy.encode([problems[name] for name in prompts]),
                      np.asarray([prompts.index(line["problem"]) for line in lines], np.int32), ids,
                      np.asarray([len(line["ids"]) for line in lines], np.int32), no_extras(*ids.shape))
    batch = used.learner.whole(answers)
    return unpacked(batch, np.asarray(used.learner.score({"policy": policy}, batch).logp))[answers.mask]


def stale_answers(**objective):
    """A step's answers one step behind, what the updates read of them, and the policies before and after."""
    lab = make_lab(0, algorithm="reinforce", prompts=4, samples=4, stale=1, objective=objective,
                   optimizer=Optimizer(learning_rate=0.2, warmup=0))
    used = make_trainer(lab, "reinforce")
    first = lab.first()
    state, _, _ = train_step(used, begin(used, first), 1, first)
    collected = gather(used, state, 2)
    answers = used.learner.answers(collected, state.train.whole, None, 0.0, np.random.default_rng(0))
    return used, state, collected, answers, first


def test_stale_answers_are_weighted_by_truncated_ratios():
    """min(exp(log-probability of the policy that starts the update - the sampler's), 2), token by token."""
    used, state, collected, answers, first = stale_answers()
    mask, completions = answers.mask, collected.rollout.completions
    batch = used.learner.whole(answers)

    def scored(policy):
        return unpacked(batch, np.asarray(used.learner.score({"policy": policy}, batch).logp))

    behaviour, proximal = scored(first), scored(state.train.whole["policy"])
    np.testing.assert_allclose(completions.logprobs.reshape(mask.shape)[mask], behaviour[mask], atol=1e-5)
    np.testing.assert_allclose(answers.extras["old_logprobs"][mask], proximal[mask], atol=1e-6)
    ratio = np.exp(proximal - behaviour)
    np.testing.assert_allclose(answers.extras["scale"][mask], np.minimum(ratio, 2)[mask], rtol=1e-4)
    assert (ratio[mask] > 2).any()
    assert (ratio[mask] < 1).any()
    _, found, _ = learn(used, state, collected, 2, first)
    assert found["mismatch/weight"] == pytest.approx(np.minimum(ratio, 2)[mask].mean(), rel=1e-4)
    assert found["mismatch/truncated"] == pytest.approx((ratio > 2)[mask].mean())


@pytest.mark.parametrize(("objective", "level", "high"), [
    ({}, "token", 2.0), ({"mismatch_high": 5.0}, "token", 5.0), ({"mismatch_level": "off"}, "off", 2.0),
    ({"mismatch_level": "sequence"}, "sequence", 2.0), ({"mismatch_reject": "token"}, "off", 2.0)])
def test_the_correction_is_on_unless_another_is_named(objective, level, high):
    for stale in (0, 2):
        settings = Experiment(objective=objective, rl=RL(stale=stale))
        found = options.of_run("grpo", settings).mismatch
        assert (found.level, found.high) == (level if stale else objective.get("mismatch_level", "off"), high)


@pytest.mark.slow
def test_it_solves_a_bandit_two_steps_behind_and_learns_nothing_from_shuffled_rewards():
    used = make_trainer(make_lab(0, algorithm="grpo", stale=2), "grpo")
    seeds = (0, 1, 2)
    assert min(np.mean(learned(with_seed(used, seed))[-5:]) for seed in seeds) >= 0.95
    assert np.mean([np.mean(learned(with_seed(shuffled(used), seed))[-5:]) for seed in seeds]) < 0.6


@pytest.mark.parametrize(("settings", "said"), [
    ({"mesh": {"sampler": 8}}, r"mesh\.sampler=8: 8 device\(s\) are there and one at least must train: give at most 7"),
    ({"mesh": {"sampler": 3, "sampler_tensor": 2}}, r"mesh\.sampler_tensor = 2: must divide mesh\.sampler = 3"),
    ({"mesh": {"fsdp": 2}, "rl": {"stale": 1}}, r"rl\.stale=1: sampler and trainer cannot be at work at once on the "
     r"same 2 devices: give the sampler its own, as in --config\.mesh\.sampler=1"),
    ({"rl": {"stale": 1}, "distributed": {"coordinator": "a:1", "processes": 2}}, r"rl\.stale = 1: must be 0 with"),
    ({"mesh": {"sampler": 1}, "distributed": {"coordinator": "a:1", "processes": 2}}, r"mesh\.sampler = 1: must be 0"),
    ({"rl": {"stale": -1}}, r"config\.rl\.stale = -1: must be a whole number, 0 or more"),
])
def test_t61_what_cannot_overlap_is_refused_before_anything_starts(settings, said):
    config = countdown.get_config("smoke")
    for group, values in settings.items():
        for name, value in values.items():
            config[group][name] = value
    with pytest.raises(ConfigError, match=said):
        build(read_experiment(config))


@pytest.mark.parametrize(("name", "objective", "said"), [
    ("gvm_grpo", {}, "rl.stale=1: gvm_grpo shares answers out by gradients of the policy"),
    ("grpo", {"replay_groups": 2}, "rl.stale=1: objective.replay_groups=2"),
])
def test_what_looks_at_the_policy_as_it_is_trained_cannot_be_drawn_ahead(name, objective, said):
    settings = Experiment(objective=objective, rl=RL(stale=1))
    with pytest.raises(ValueError, match=said):
        options.check(name, options.of_run(name, settings), settings)
