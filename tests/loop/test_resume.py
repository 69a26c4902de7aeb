"""A run that was killed anywhere goes on to what it would have been: bit for bit, in parameters, metrics and order."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import logging
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time

import jax
import numpy as np
import pytest
from two_arms import make_lab

from rl_reasoning.config import Checkpoint, Mesh, Watch
from rl_reasoning.edge import ConfigError
from rl_reasoning.loop import collect, keeper, reinforce, state
from rl_reasoning.loop.fingerprints import fingerprints
from rl_reasoning.loop.keeper import Keeper
from rl_reasoning.loop.reinforce import begin, make_trainer
from rl_reasoning.loop.stops import Stopped, Stops
from rl_reasoning.loop.watch import Diverged, TrainingFailed
from rl_reasoning.parallel import make_layout
from rl_reasoning.reporting.run_folder import RunFolder
from rl_reasoning.reporting.writers import MetricWriter
from rl_reasoning.training import checkpoints, manifest
from tests.compiling import use_older_emitters

STEPS = 6
EVERY_STEP, AT_THE_END = Checkpoint(every=1, keep=2), Checkpoint(every=100)


@functools.cache
def trainer():
    """One that has every kind of state: a critic of its own, a coefficient that adapts, several batches of problems a
    step, two passes over each. Compiled once for all tests."""
    lab = make_lab(0, algorithm="ppo", steps=STEPS, prompts=4, samples=4, minibatches=2, epochs=2, objective={
        "critic_model": "separate", "kl_coefficient": 0.1, "kl_place": "reward", "kl_target": 0.05, "kl_horizon": 100,
        "plan_refill": 1})
    return make_trainer(lab, "ppo")


@functools.cache
def first():
    return trainer().lab.first()


@functools.cache
def prints():
    return fingerprints(trainer().lab, first())


class Killed(BaseException):
    """What `os._exit` would have done."""


def run(path, settings=AT_THE_END, *, used=None, made_of=None, stops=None, look=None):
    """A run, or the rest of one. Returns the last state."""
    go_on(path, settings, used=used, made_of=made_of, stops=stops, look=look)
    return final(path)


def go_on(path, settings=AT_THE_END, *, used=None, made_of=None, stops=None, look=None):
    """What `loop.experiment` does with a folder."""
    used, folder, policy = used or trainer(), RunFolder(path), first()
    policy = used.lab.layout.place(policy) if used.lab.layout else policy
    with MetricWriter(folder) as writer, Keeper(folder, settings, made_of or prints(), used.batches) as kept:
        reinforce.reinforce(used, policy, writer, kept, stops or Stops(30), look or (lambda *_: None))


def final(path):
    newest = list(checkpoints.steps(path / "checkpoints").values())[-1]
    arrays = checkpoints.restore(newest, state.arrays(begin(trainer(), first())))
    facts = {name: value for name, value in manifest.read(newest).items() if name in ("step", "state")}
    return [leaf.tobytes() for leaf in jax.tree.leaves(arrays)], facts


def metrics(path):
    return (path / "metrics.jsonl").read_bytes()


@pytest.fixture(name="whole", scope="module")
def undisturbed(tmp_path_factory):
    """The run that nothing happened to."""
    path = tmp_path_factory.mktemp("whole")
    return run(path), metrics(path)


@contextlib.contextmanager
def photographed(monkeypatch, path, album):
    """Copies the folder whenever the run passes a place where it could be killed: what is on the disk at that moment
    is all that a killed process leaves."""
    def before(module, name, label):
        original = getattr(module, name)

        def passing(*args, **kwargs):
            place = album / f"{len(list(album.iterdir())):03d}-{label}"
            with contextlib.suppress(shutil.Error):  # a file that the writing thread has just renamed
                shutil.copytree(path, place)
            return original(*args, **kwargs)

        monkeypatch.setattr(module, name, passing)

    with monkeypatch.context() as monkeypatch:
        before(collect.rollouts, "sample", "rollout")
        before(collect.rollouts, "verify", "verification")
        before(reinforce, "_learn", "update")
        before(reinforce, "watch", "after-metrics")
        before(manifest, "seal", "save-arrays-written")
        before(manifest, "flush_folder", "save-sealed")
        before(keeper, "_flush", "save-done")
        before(keeper, "_remove", "retiring")
        yield


def test_t1_killed_anywhere_and_gone_on_with_is_bit_identical(whole, tmp_path, monkeypatch):
    """After and within every step: during rollout, verification, update, records, each part of a save, retention."""
    path, album = tmp_path / "run", tmp_path / "album"
    album.mkdir()
    with photographed(monkeypatch, path, album):
        assert run(path, dataclasses.replace(EVERY_STEP, background=False)) == whole[0]
    places = sorted(album.iterdir())
    assert {place.name.split("-", 1)[1] for place in places} == {
        "rollout", "verification", "update", "after-metrics", "save-arrays-written", "save-sealed", "save-done",
        "retiring"}
    for place in places[::9]:
        assert run(place) == whole[0], place.name
        assert metrics(place) == whole[1], place.name


@pytest.mark.slow
def test_t1_t4_many_places(whole, tmp_path, monkeypatch):
    """The same at every other place, with saves only every second and every fourth step, and in the background."""
    for every, background in ((1, False), (2, True), (4, False)):
        path, album = tmp_path / f"run-{every}", tmp_path / f"album-{every}"
        album.mkdir()
        settings = Checkpoint(every=every, keep=1, background=background)
        with photographed(monkeypatch, path, album):
            assert run(path, settings) == whole[0]
        for place in sorted(album.iterdir())[::2]:
            assert run(place, settings) == whole[0], place.name
            assert metrics(place) == whole[1], place.name


def test_t5_t8_twice_from_one_checkpoint_mid_epoch_and_not_one_step_too_many(whole, tmp_path):
    """The eight problems are drawn in batches of four, so that an epoch ends within a step or with one."""
    stopped_at(tmp_path / "a", 3)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for name in ("a", "b"):
        assert run(tmp_path / name) == whole[0]
        assert metrics(tmp_path / name) == whole[1]
    assert run(tmp_path / "a") == whole[0]  # finished: nothing is left to do
    assert metrics(tmp_path / "a") == whole[1]


def stopped_at(path, step, settings=EVERY_STEP, number=signal.SIGTERM):
    """A run that is asked to stop, by a real signal, when it looks at the state after a step."""
    def look(done, *_):
        if done == step:
            os.kill(os.getpid(), number)
            time.sleep(0.2)

    with Stops(30) as stops, pytest.raises(Stopped) as stop:
        run(path, settings, stops=stops, look=look)
    return stop.value.code


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 75), (signal.SIGINT, 130)])
def test_t2_t62_a_stop_saves_at_once_and_says_which_it_was(whole, tmp_path, number, code, capsys):
    start = time.monotonic()
    assert stopped_at(tmp_path, 3, AT_THE_END, number) == code
    assert time.monotonic() - start < 5
    assert list(checkpoints.steps(tmp_path / "checkpoints")) == [3]
    assert {75: "SIGTERM: stopping", 130: "Ctrl-C: stopping"}[code] in capsys.readouterr().err
    assert run(tmp_path) == whole[0]
    assert metrics(tmp_path) == whole[1]


@pytest.mark.parametrize("where", ["sample", "_learn", pytest.param("verify", marks=pytest.mark.slow),
                                   pytest.param("save", marks=pytest.mark.slow), "seal"])
def test_t2_a_stop_in_the_middle_of_anything(whole, tmp_path, monkeypatch, where):
    """In the rollout the step is left, in the update and the save it is finished; either way the run goes on as one."""
    module = {"sample": collect.rollouts, "verify": collect.rollouts, "_learn": reinforce, "save": checkpoints,
              "seal": manifest}[where]
    original, calls = getattr(module, where), []

    def signalled(*args, **kwargs):
        calls.append(where)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*args, **kwargs)

    with monkeypatch.context() as patched, Stops(30) as stops:
        patched.setattr(module, where, signalled)
        with pytest.raises(Stopped):
            run(tmp_path, EVERY_STEP, stops=stops)
    assert run(tmp_path) == whole[0]
    assert metrics(tmp_path) == whole[1]


def test_t3_a_second_signal_during_the_save_loses_nothing(whole, tmp_path, monkeypatch, capsys):
    original = manifest.seal

    def signalled(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        return original(*args, **kwargs)

    with monkeypatch.context() as patched:
        patched.setattr(manifest, "seal", signalled)
        assert stopped_at(tmp_path, 3, AT_THE_END) == 75
    assert "stopping already" in capsys.readouterr().err
    assert list(checkpoints.steps(tmp_path / "checkpoints")) == [3]
    assert run(tmp_path) == whole[0]


def test_t2_what_never_comes_back_is_left_and_the_state_before_it_saved(whole, tmp_path, monkeypatch, capsys):
    """The main thread hangs in a rollout: another thread saves and ends the process with the code."""
    original, left, calls = collect.rollouts.sample, [], []

    def hangs(*args):
        calls.append(args)
        if len(calls) == 4:
            while not left:  # the handler's exception is swallowed, as in a callback of a library
                with contextlib.suppress(Stopped):
                    if len(calls) == 4:
                        calls.append("signalled")
                        os.kill(os.getpid(), signal.SIGTERM)
                    time.sleep(0.05)
            raise Killed
        return original(*args)

    with monkeypatch.context() as patched, Stops(0.3, leave=left.append) as stops:
        patched.setattr(collect.rollouts, "sample", hangs)
        with pytest.raises(Killed):
            run(tmp_path, stops=stops)
    assert left == [75]
    assert "still busy after 0.3 s" in capsys.readouterr().err
    assert list(checkpoints.steps(tmp_path / "checkpoints"))
    assert run(tmp_path) == whole[0]
    assert metrics(tmp_path) == whole[1]


@pytest.mark.parametrize("file", ["manifest.ocdbt", pytest.param("COMMIT", marks=pytest.mark.slow),
                                  pytest.param("record.json", marks=pytest.mark.slow)])
def test_t12_a_damaged_checkpoint_is_said_and_the_one_before_is_gone_on_from(whole, tmp_path, capsys, file):
    stopped_at(tmp_path, 4)
    path = next((tmp_path / "checkpoints" / "step_0004").rglob(file))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    capsys.readouterr()
    assert run(tmp_path) == whole[0]
    assert metrics(tmp_path) == whole[1]
    said = capsys.readouterr().err
    assert "the checkpoint of step 4 is damaged and now called damaged-step_0004" in said
    assert "goes on after step 3" in said


def test_t12_without_one_that_verifies_nothing_is_begun_silently(tmp_path):
    stopped_at(tmp_path, 2)
    for path in checkpoints.steps(tmp_path / "checkpoints").values():
        (path / "COMMIT").unlink()
    with pytest.raises(ConfigError, match=r"none of the 2 checkpoints .* verifies; --config\.resume=never"):
        run(tmp_path)


def test_t6_what_has_changed_is_named_and_refused_or_recorded(tmp_path):
    stopped_at(tmp_path, 2)
    other = prints() | {"settings": prints()["settings"] | {"seed": 7}, "tokenizer": "f" * 64}
    with pytest.raises(ConfigError, match=r"cannot go on as it was: seed 0 -> 7, tokenizer \w{8} -> ffffffff\. Undo"):
        run(tmp_path, made_of=other)
    lab = dataclasses.replace(trainer().lab, experiment=dataclasses.replace(
        trainer().lab.experiment, resume_changed=True))
    run(tmp_path, made_of=other, used=dataclasses.replace(trainer(), lab=lab))
    [change] = map(json.loads, (tmp_path / "changes.jsonl").read_text().splitlines())
    assert change["after_step"] == 2
    assert change["changed"]["seed"] == [0, 7]


def test_t6_other_problems_are_refused_by_the_stream_itself(tmp_path):
    stopped_at(tmp_path, 2)
    lab = make_lab(0, algorithm="ppo", steps=STEPS, prompts=8, samples=4)
    with pytest.raises(ConfigError, match=r"the problems, rl\.prompts, seed or weights have changed"):
        run(tmp_path, used=dataclasses.replace(trainer(), batches=make_trainer(lab, "ppo").batches))


def test_t11_a_state_from_before_there_were_streaks_has_none():
    kept = state.facts(begin(trainer(), first())._replace(streaks={"idle": 2}), trainer().batches)
    arrays = checkpoints.on_host(state.arrays(begin(trainer(), first())))
    tree = jax.tree.unflatten(jax.tree.structure(state.arrays(begin(trainer(), first()))), arrays.values())
    again = state.restored(begin(trainer(), first()), tree, kept, trainer().batches)
    assert again.streaks == {"idle": 2}
    del kept["streaks"]
    assert state.restored(begin(trainer(), first()), tree, kept, trainer().batches).streaks == {}


def failing(monkeypatch, times):
    """The disk is full for some saves."""
    original, calls = checkpoints.save, []

    def save(*args):
        calls.append(args)
        if len(calls) in times:
            raise OSError(28, "No space left on device")
        return original(*args)

    monkeypatch.setattr(checkpoints, "save", save)


def test_t9_training_goes_on_when_a_save_fails(whole, tmp_path, monkeypatch, capsys):
    failing(monkeypatch, {2, 3})
    assert run(tmp_path, EVERY_STEP) == whole[0]
    assert metrics(tmp_path) == whole[1]
    assert capsys.readouterr().err.count("No space left on device") == 2
    failed = [line.get("checkpoint/failed", 0) for line in RunFolder(tmp_path).timings()]
    assert sum(failed) == 1 + 2


def test_t9_and_ends_when_too_many_fail_or_the_last_does(tmp_path, monkeypatch):
    failing(monkeypatch, {2, 3, 4})
    with pytest.raises(TrainingFailed, match=r"No space left .*; the checkpoint of step 1 is the last"):
        run(tmp_path, EVERY_STEP)
    assert list(checkpoints.steps(tmp_path / "checkpoints")) == [1]
    monkeypatch.undo()
    failing(monkeypatch, {STEPS - 1})
    with pytest.raises(TrainingFailed, match=f"the checkpoint of step {STEPS - 1} is the last"):
        run(tmp_path, EVERY_STEP)


@pytest.mark.slow
def test_t9_a_file_system_that_is_full_for_a_while(whole, tmp_path):
    """A real one of two megabytes in a name space of its own: full after step 2, with room again after step 4."""
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c",
               f"mount -t tmpfs -o size=2m none {tmp_path} && exec {sys.executable} {__file__} {tmp_path}"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    probe = subprocess.run([*command[:-1], f"mount -t tmpfs none {tmp_path}"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("this machine gives no name spaces to mount in")
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "warning: a checkpoint could not be saved (2 in a row)" in ended.stderr
    assert ended.stdout.split() == [hashlib.sha256(text).hexdigest() for text in (b"".join(whole[0][0]), whole[1])]


def on_a_small_disk(place):
    """What the test above runs there; says what came out."""
    def look(step, *_):
        if step == 2:
            with contextlib.suppress(OSError), (place / "ballast").open("wb", buffering=0) as file:
                while file.write(b"x" * 512):
                    pass
        if step == 4:
            (place / "ballast").unlink()

    logging.basicConfig(level=logging.WARNING)
    arrays, _ = run(place / "run", Checkpoint(every=1, keep=1, background=False, failures=4), look=look)
    for text in (b"".join(arrays), metrics(place / "run")):
        sys.stdout.write(hashlib.sha256(text).hexdigest() + "\n")


def test_t10_a_folder_that_vanishes_ends_the_run_within_a_step(tmp_path):
    def look(step, *_):
        if step == 2:
            (tmp_path / "run").rename(tmp_path / "gone")
        assert step <= 2

    def again(step, *_):
        look(step)
        if step == 2:
            (tmp_path / "run" / "checkpoints").mkdir(parents=True)  # as a save does that was under way

    threads = threading.active_count()
    with pytest.raises(FileNotFoundError, match=r"metrics\.jsonl"):
        run(tmp_path / "run", look=look)
    shutil.rmtree(tmp_path / "gone")
    with pytest.raises(FileNotFoundError, match=r"run is not the folder any more"):
        run(tmp_path / "run", EVERY_STEP, look=again)
    assert threading.active_count() == threads  # the writer's thread has ended


def test_t15_parameters_that_are_not_finite_end_the_run_and_keep_the_last_good_ones(tmp_path, monkeypatch):
    original = reinforce.learn

    def spoiled(used, current, collected, step, reference):
        after, *rest = original(used, current, collected, step, reference)
        if step == 3:
            broken = jax.tree.map(lambda leaf: leaf * np.nan, after.train.parameters)
            after = after._replace(train=after.train._replace(parameters=broken))
        return after, *rest

    monkeypatch.setattr(reinforce, "learn", spoiled)
    with pytest.raises(TrainingFailed, match=r"values that are not finite.*; the checkpoint of step 2 is the last"):
        run(tmp_path, dataclasses.replace(EVERY_STEP, background=False))
    assert list(checkpoints.steps(tmp_path / "checkpoints")) == [1, 2]


def test_t23_gradients_that_stay_without_a_value_roll_back_dump_the_batch_and_end(tmp_path, monkeypatch):
    """No gradient has a value from step 3 on; updates are skipped and counted, and after three steps the run ends."""
    original = reinforce.learn

    def skipped(used, current, collected, step, reference):
        after, found, timings = original(used, current, collected, step, reference)
        return after, found | {"optimizer/skipped": float(step >= 3)}, timings

    monkeypatch.setattr(reinforce, "learn", skipped)
    lab = dataclasses.replace(trainer().lab, experiment=dataclasses.replace(
        trainer().lab.experiment, watch=Watch(skipped=3)))
    with pytest.raises(TrainingFailed, match=r"no update of the last 3 steps .* the checkpoint of step 2 is what"):
        run(tmp_path, EVERY_STEP, used=dataclasses.replace(trainer(), lab=lab))
    assert max(checkpoints.steps(tmp_path / "checkpoints")) == 2
    answers = list(map(json.loads, (tmp_path / "faults" / "step_0005.jsonl").read_text().splitlines()))
    assert len(answers) == 16
    assert set(answers[0]) == {"problem", "text", "outcome", "reward", "ids", "logprobs", "sampled_by"}


def test_a_refill_that_finds_nothing_is_saved_and_ends_and_ends_again(tmp_path, monkeypatch):
    """From step 3 on no group is informative: the state after step 4 is kept, and the same call ends a step later."""
    original = reinforce.learn

    def barren(used, current, collected, step, reference):
        after, found, timings = original(used, current, collected, step, reference)
        return after, found | {"plan/informative": float(step < 3)}, timings

    monkeypatch.setattr(reinforce, "learn", barren)
    lab = dataclasses.replace(trainer().lab, experiment=dataclasses.replace(
        trainer().lab.experiment, watch=Watch(uninformative=2)))
    for last in (4, 5):
        with pytest.raises(TrainingFailed, match="no group of the last 2 steps had answers with different rewards"):
            run(tmp_path, AT_THE_END, used=dataclasses.replace(trainer(), lab=lab))
        assert max(checkpoints.steps(tmp_path / "checkpoints")) == last


def test_t23_checkpoints_of_the_streak_are_removed(tmp_path):
    stopped_at(tmp_path, 4, Checkpoint(every=1, keep=9))
    with Keeper(RunFolder(tmp_path), EVERY_STEP, prints(), trainer().batches) as kept:
        assert kept.go_back(Diverged("", 3).since) == 2
    assert list(checkpoints.steps(tmp_path / "checkpoints")) == [1, 2]


def test_retention_keeps_the_last_ones_and_the_best(tmp_path):
    run(tmp_path, Checkpoint(every=1, keep=1, background=False))
    rewards = [line["reward/mean"] for line in RunFolder(tmp_path).metrics("rl")]
    best = 1 + max(range(STEPS - 1), key=rewards.__getitem__)
    kept = list(checkpoints.steps(tmp_path / "checkpoints"))
    assert kept[-1] == STEPS
    assert kept == [STEPS] if rewards[-1] > rewards[best - 1] else kept == [best, STEPS]


def test_t7_every_array_goes_to_any_number_of_devices(whole, tmp_path):
    """8 -> 4 -> 1: the state is saved as whole arrays, and is put where the run that goes on has it."""
    def placed(count):
        devices = jax.devices()[:count]
        spread = jax.sharding.NamedSharding(jax.make_mesh((count,), ("data",), devices=devices),
                                            jax.sharding.PartitionSpec())
        begun = begin(trainer(), first())
        return begun._replace(train=begun.train._replace(parameters=jax.device_put(begun.train.parameters, spread)))

    stopped_at(tmp_path, 2)
    path = checkpoints.step_path(tmp_path / "checkpoints", 2)
    arrays, facts = checkpoints.restore(path, state.arrays(placed(1))), manifest.read(path)["state"]
    for count in (8, 4, 1):
        again = state.restored(placed(count), arrays, facts, trainer().batches)
        assert state.devices(again) == count
        assert again.drawn == facts["stream"]["next"]
        saved = checkpoints.on_host(state.arrays(again))
        arrays = jax.tree.unflatten(jax.tree.structure(arrays), saved.values())
    assert run(tmp_path) == whole[0]


@pytest.mark.slow
def test_t7_a_run_on_eight_devices_goes_on_on_four_and_on_one(tmp_path, capsys):
    """The trainer's own meshes: the same problems at every step, and the same loss within 1e-5."""
    def used(count):
        lab = make_lab(0, algorithm="grpo", steps=STEPS, prompts=8, samples=4, minibatches=1)
        mesh = Mesh(data=count // 2 or 1, fsdp=min(2, count))
        layout = make_layout(mesh, lab.policy.config.sizes)
        return make_trainer(dataclasses.replace(lab, policy=dataclasses.replace(lab.policy, layout=layout)), "grpo")

    def until(step, path, count):
        if step == STEPS:
            go_on(path, used=used(count))
            return
        with Stops(30) as stops, pytest.raises(Stopped):
            go_on(path, stops=stops, used=used(count),
                  look=lambda done, *_: os.kill(os.getpid(), signal.SIGTERM) if done == step else None)

    until(STEPS, tmp_path / "one", 1)
    for step, count in ((2, 8), (4, 4), (STEPS, 1)):
        until(step, tmp_path / "many", count)
    assert "saved on 8 device(s), goes on with 4" in capsys.readouterr().err
    rows = [RunFolder(tmp_path / name).metrics("rl") for name in ("one", "many")]
    for one, many in zip(*rows, strict=True):
        assert one["reward/mean"] == many["reward/mean"]  # the same problems, and the same answers to them
        assert one["loss/policy"] == pytest.approx(many["loss/policy"], abs=1e-5)
    facts = [manifest.read(tmp_path / name / "checkpoints" / f"step_{STEPS:04d}")["state"]["stream"]
             for name in ("one", "many")]
    assert facts[0] == facts[1]


def test_a_run_of_fewer_steps_than_are_done_is_refused(tmp_path):
    stopped_at(tmp_path, 4)
    lab = dataclasses.replace(trainer().lab, experiment=dataclasses.replace(
        trainer().lab.experiment, rl=dataclasses.replace(trainer().lab.experiment.rl, steps=2)))
    with pytest.raises(ConfigError, match=r"config\.rl\.steps = 2: the run has 4 behind it"):
        run(tmp_path, used=dataclasses.replace(trainer(), lab=lab))


def test_where_checkpoints_lie(tmp_path):
    assert checkpoints.step_path(pathlib.Path("x"), 70) == pathlib.Path("x/step_0070")


if __name__ == "__main__":
    use_older_emitters()  # as the run that it is compared with
    on_a_small_disk(pathlib.Path(sys.argv[1]))
