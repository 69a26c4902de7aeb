"""Keeps a run's state in its folder: saves while training goes on, and finds the newest save that can be trusted."""

import concurrent.futures
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from rl_reasoning.config import Checkpoint
from rl_reasoning.edge import ConfigError
from rl_reasoning.loop import fingerprints, state
from rl_reasoning.loop.state import LoopState, Position
from rl_reasoning.loop.watch import TrainingFailed
from rl_reasoning.parallel.exchange import from_first, texts
from rl_reasoning.parallel.hosts import ALONE, Alone, Hosts
from rl_reasoning.reporting.console import say
from rl_reasoning.reporting.run_folder import RunFolder
from rl_reasoning.training import checkpoints, manifest
from rl_reasoning.training.checkpoints import NotFinite
from rl_reasoning.training.manifest import Damaged


class Keeper:
    """Saves a run's state and finds it again.

        with Keeper(folder, settings, prints, stream) as keeper:
            current = keeper.resume(begun, changed=False)
            ...
            keeper.after_step(current, reward, last=False)

    Arrays are copied before a save begins, so training goes on while they are written; one save is under way at a
    time. A save that fails leaves those before it as they are, is said, and is tried again at the next one.

    With several processes all call it alike; process 0 has the disk, and the others give and get their arrays.

    Args:
      prints: what the run is made of (`loop.fingerprints`).
      stream: of the run's problems; its state is kept too.
      hosts: the processes that hold the state.
      phase: what the run's metrics call this part of it.
    """

    def __init__(self, folder: RunFolder, settings: Checkpoint, prints: Mapping[str, Any], stream: Position,
                 hosts: Hosts | Alone = ALONE, phase: str = "rl"):
        self._folder, self._settings, self._prints, self._stream = folder, settings, prints, stream
        self._hosts, self._phase = hosts, phase
        self._writer = concurrent.futures.ThreadPoolExecutor(1, "checkpoint")
        self._under_way: concurrent.futures.Future | None = None
        self._failed, self._saved = 0, 0
        self._rewards: list[float] = []
        folder.checkpoints_path.mkdir(exist_ok=True)
        self._place = os.stat(folder.path).st_ino
        checkpoints.clean(folder.checkpoints_path)

    def __enter__(self) -> "Keeper":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.shutdown()

    def resume(self, begun: LoopState, *, changed: bool) -> LoopState:
        """The state to go on from: that of the newest checkpoint that verifies, or `begun` where there is none.

        What the folder holds of later steps is dropped, and written again when they are done again.

        Args: changed: whether to go on though the run is not made of the same things any more.

        Raises:
          ConfigError: the run has changed, or not one of its checkpoints verifies.
        """
        found = self._newest(begun, changed) if self._hosts.is_first else None
        said = json.loads(texts(self._hosts, json.dumps(found and found[0]), "checkpoint found")[0])
        if said is None:
            self._folder.rewind(self._phase, 0)
            return begun
        kept = from_first(self._hosts, found and found[1], state.arrays(begun))
        try:
            current = state.restored(begun, kept, said["state"], self._stream)
        except ValueError as error:
            raise ConfigError(str(error)) from error
        if said["devices"] != state.devices(begun):
            say(f"saved on {said['devices']} device(s), goes on with {state.devices(begun)}: the problems stay "
                "the same, and sums may differ in their last digits")
        self._folder.rewind(self._phase, current.step)
        self._saved = current.step
        return current

    def _newest(self, begun: LoopState, changed: bool) -> tuple[Mapping[str, Any], Any] | None:
        """The record and the arrays of the newest checkpoint that verifies; None where there is no checkpoint."""
        found = checkpoints.steps(self._folder.checkpoints_path)
        for step, path in reversed(found.items()):
            try:
                record = manifest.read(path)
                self._require_unchanged(record, changed)
                kept = self._arrays(path, begun)
            except Damaged as error:
                aside = checkpoints.set_aside(path)
                say(f"the checkpoint of step {step} is damaged and now called {aside.name}: {error}")
                continue
            say(f"goes on after step {step}, from {path}")
            return record, kept
        if found:
            raise ConfigError(f"none of the {len(found)} checkpoints of {self._folder.path} verifies; "
                              "--config.resume=never begins a new run")
        return None

    def after_step(self, current: LoopState, reward: float, *, last: bool) -> dict[str, float]:
        """Saves when it is time, and waits for the save of the last step; returns what to log of earlier saves.

        Args: reward: of the step; the save with the highest mean since the one before stays.

        Raises:
          TrainingFailed: too many saves in a row have failed, or the state is not finite.
          FileNotFoundError: the run's folder is gone, or another one in its place.
        """
        if os.stat(self._folder.path).st_ino != self._place:  # libraries make the folders that they miss
            raise FileNotFoundError(f"{self._folder.path} is not the folder any more that this run began to write to")
        self._rewards.append(reward)
        if last or current.step % self._settings.every == 0:
            timings = self._finish()
            self.save(current)
            return timings | (self._finish(must=last) if last or not self._settings.background else {})
        return self._finish() if self._under_way and self._under_way.done() else {}

    def save(self, current: LoopState, *, wait: bool = False) -> None:
        """Begins a save. wait: whether to return only when it stands.

        Raises: see `after_step`.
        """
        self._hosts.enter("save", current.step)
        arrays = checkpoints.on_host(state.arrays(current), keep=self._hosts.is_first)
        record = {"step": current.step, "state": state.facts(current, self._stream), "made_of": self._prints,
                  "reward": sum(self._rewards) / max(1, len(self._rewards)), "devices": state.devices(current)}
        self._rewards = []
        if self._hosts.is_first:
            self._under_way = self._writer.submit(self._write, current.step, arrays, record)
        if wait:
            self._finish(must=True)

    def save_last(self, current: LoopState) -> None:
        """Saves the state of a run that ends early, unless it is saved already. Raises: see `after_step`."""
        self._finish()
        if self._hosts.told(lambda: current.step > self._saved, "last save", current.step):
            self.save(current, wait=True)

    def save_if_intact(self, current: LoopState) -> None:
        """Saves the state, from any thread, unless an update is using it up."""
        if any(leaf.is_deleted() for leaf in jax.tree.leaves(current.train.parameters)):
            say(f"an update is under way: the checkpoint of step {self._saved} is the last")
        else:
            self.save_last(current)

    def go_back(self, before: int) -> int:
        """Removes the checkpoints of step `before` and later ones; returns the newest step that is left, or 0."""
        self._finish()
        left = 0
        for step, path in checkpoints.steps(self._folder.checkpoints_path).items():
            if step >= before:
                _remove(path)
            else:
                left = step
        self._saved = left
        return left

    def _arrays(self, path: Path, begun: LoopState) -> Any:
        try:
            return checkpoints.restore(path, state.arrays(begun))
        except Damaged:
            raise
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def _require_unchanged(self, record: Mapping[str, Any], changed: bool) -> None:
        found = fingerprints.changes(record["made_of"], self._prints)
        if not found:
            return
        if not changed:
            raise ConfigError(f"{self._folder.path} cannot go on as it was: {fingerprints.words(found)}. Undo that, "
                              "begin anew with --config.resume=never, or --config.resume_changed=True goes on and "
                              "records it")
        say(f"goes on with what has changed: {fingerprints.words(found)}")
        with (self._folder.path / "changes.jsonl").open("a", encoding="ascii") as file:
            file.write(json.dumps({"after_step": record["step"], "changed": found}) + "\n")

    def _write(self, step: int, arrays: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, float]:
        """In the thread that writes: the save, and then what it makes superfluous."""
        start = time.perf_counter()
        size = checkpoints.save(checkpoints.step_path(self._folder.checkpoints_path, step), arrays, record)
        _flush(self._folder.path / "metrics.jsonl")
        self._saved = step
        self._retire()
        return {"checkpoint/seconds": time.perf_counter() - start, "checkpoint/bytes": float(size)}

    def _retire(self) -> None:
        """Removes all but the last few checkpoints and the best one."""
        found = checkpoints.steps(self._folder.checkpoints_path)
        rewards = {}
        for step, path in found.items():
            try:
                rewards[step] = manifest.read(path)["reward"]
            except (Damaged, FileNotFoundError):
                continue  # not for a save to judge: a restore says what is wrong with it
        best = max(rewards, key=rewards.__getitem__, default=0)
        for step, path in list(found.items())[:-self._settings.keep]:
            if step != best:
                _remove(path)

    def _finish(self, *, must: bool = False) -> dict[str, float]:
        """Waits for the save under way; returns its timings, or that it failed. must: whether it may not fail."""
        under_way, self._under_way = self._under_way, None
        if under_way is None:
            return {}
        try:
            timings = under_way.result()
        except NotFinite as error:
            raise TrainingFailed(f"{error}; the checkpoint of step {self._saved} is the last") from None
        except Exception as error:  # whatever the file system or its driver raises must not end training at once
            self._failed += 1
            say(f"warning: a checkpoint could not be saved ({self._failed} in a row): {error}")
            if must or self._failed >= self._settings.failures:
                raise TrainingFailed(f"the state could not be saved: {error}; the checkpoint of step {self._saved} is "
                                     "the last") from error
            return {"checkpoint/failed": float(self._failed)}
        self._failed = 0
        return timings


def _remove(path: Path) -> None:
    """Renames first: a folder that is half removed must not be taken for a damaged checkpoint."""
    aside = path.with_name(f".part-removed-{path.name}")
    shutil.rmtree(aside, ignore_errors=True)
    path.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _flush(path: Path) -> None:
    if not path.exists():  # nothing was worth a line so far
        return
    with path.open("rb") as file:
        os.fsync(file.fileno())
