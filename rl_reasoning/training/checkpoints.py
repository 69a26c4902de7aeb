"""Arrays on disk: written by Orbax, whole or not at all, and read back only when every digest is right."""

import contextlib
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from rl_reasoning.models import lora
from rl_reasoning.models.decoder import DecoderConfig, Parameters, initialize
from rl_reasoning.parallel.exchange import whole
from rl_reasoning.training import manifest
from rl_reasoning.training.manifest import Damaged

_TEMPORARY, _DAMAGED = ".part-", "damaged-"
_NAME = re.compile(r"step_(\d{4,})")


class NotFinite(ValueError):
    """Arrays with a NaN or an infinity, which are not worth keeping."""


def on_host(tree: Any, *, keep: bool = True) -> dict[str, np.ndarray]:
    """A tree's arrays by name, copied to this process: what happens to the tree later does not change them.

    Args: keep: False in a process that only helps the others to read what it holds a part of; it gets nothing.
    """
    found = {}
    for name, leaf in manifest.leaves(tree).items():
        values = whole(leaf)
        if keep:
            found[name] = np.array(values, copy=True)
    return found


def save(path: Path, arrays: Mapping[str, np.ndarray], record: Mapping[str, Any] | None = None) -> int:
    """Writes arrays and a record of JSON-able facts to a new folder, which appears whole or not at all.

    Args: arrays: from `on_host`. record: what else is to be found again (`manifest.read`).
    Returns: bytes written. Nothing is written where the folder is there already and whole.

    Raises:
      NotFinite: an array has a NaN or an infinity; nothing is written.
      OSError, ValueError: the disk is full or gone; what was there before stands.
    """
    _require_finite(arrays)
    path = path.absolute()
    if (path / manifest.COMMIT).exists():
        return 0
    aside = path.with_name(f"{_TEMPORARY}{path.name}")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir()  # not its parents: a run folder that has vanished must not come back as a stump
        with _orbax() as checkpointer:
            checkpointer.save(aside / manifest.ARRAYS, args=ocp.args.PyTreeSave(dict(arrays)))
        size = manifest.seal(aside, record or {}, arrays)
        if path.exists():
            shutil.rmtree(path)  # a save without its marker: nothing that counts
        aside.rename(path)
        manifest.flush_folder(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)  # only there when something went wrong
    return size


def restore(path: Path, expected: Any, *, cast: bool = False) -> Any:
    """The arrays of a checkpoint in the structure of `expected`, as numpy arrays; those it does not name stay on disk.

    Args:
      expected: a tree of anything with shape and dtype.
      cast: whether a stored type that differs is converted.

    Raises:
      FileNotFoundError: there is no such folder.
      Damaged: a file or an array is not what was saved; the message names it.
      ValueError: the checkpoint holds other arrays, shapes or types.
    """
    record, wanted = manifest.read(path), manifest.leaves(expected)
    stored = _require_match(path, record, wanted, cast)
    manifest.check_files(path, record, sum(np.prod(facts["shape"], dtype=float) * np.dtype(facts["dtype"]).itemsize
                                           for facts in record["arrays"].values()))
    arrays = _read(path / manifest.ARRAYS, stored)
    for name, array in arrays.items():
        if manifest.digest(array) != record["arrays"][name]["sha256"]:
            raise Damaged(f"{path}: the array {name} is not what was saved")
    structure = jax.tree.structure(expected)
    return jax.tree.unflatten(structure, [arrays[name].astype(leaf.dtype) for name, leaf in wanted.items()])


def restore_policy(path: Path, config: DecoderConfig) -> Parameters:
    """What is trained of a decoder of these sizes: its adapters, or all its parameters where it has none.

    Raises: see `restore`.
    """
    trained, _ = lora.split(config, jax.eval_shape(lambda: initialize(config, jax.random.key(0))))
    return jax.tree.map(jax.numpy.asarray, restore(path, {"parameters": {"policy": trained}})["parameters"]["policy"])


def steps(folder: Path) -> dict[int, Path]:
    """The checkpoints step_NNNN in a folder by their step, lowest first; whether they are whole is not asked."""
    found = {int(match[1]): path for path in folder.glob("step_*") if (match := _NAME.fullmatch(path.name))}
    return dict(sorted(found.items()))


def step_path(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies."""
    return folder / f"step_{step:04d}"


def clean(folder: Path) -> None:
    """Removes what saves left that were killed. Only for whoever alone writes to this folder."""
    for path in folder.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(path, ignore_errors=True)


def set_aside(path: Path) -> Path:
    """Renames a damaged checkpoint, so that it is not taken for one and can be looked at; returns its new place."""
    place, number = path.with_name(_DAMAGED + path.name), 1
    while place.exists():
        number += 1
        place = path.with_name(f"{_DAMAGED}{path.name}-{number}")
    return path.rename(place)


def _require_finite(arrays: Mapping[str, np.ndarray]) -> None:
    for name, array in arrays.items():
        if jax.numpy.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            bad = int((~np.isfinite(array)).sum())
            raise NotFinite(f"{name} has {bad} of {array.size} values that are not finite: it is not saved")


def _require_match(path: Path, record: Mapping[str, Any], wanted: Mapping[str, Any], cast: bool) -> dict[str, Any]:
    """The wanted arrays with the shapes and types that the record gives them, all checked before anything is read."""
    listed = record.get("arrays")
    if not isinstance(listed, dict):
        raise Damaged(f"{path / manifest.RECORD} lists no arrays")
    _require_sane(path, listed)
    stored = {}
    for name, leaf in wanted.items():
        if name not in listed:
            raise ValueError(f"{path} has no array {name}: it was saved by another version or for another model")
        shape, dtype = tuple(listed[name]["shape"]), np.dtype(listed[name]["dtype"])
        if shape != tuple(leaf.shape):
            raise ValueError(f"{path}: {name} has shape {shape}, and {tuple(leaf.shape)} is expected: it was saved for "
                             "another model")
        if dtype != leaf.dtype and not cast:
            raise ValueError(f"{path}: {name} is {dtype}, and {leaf.dtype} is expected; set the precision of the saved "
                             "run, or ask for a conversion")
        stored[name] = jax.ShapeDtypeStruct(shape, dtype)
    return stored


def _require_sane(path: Path, listed: Mapping[str, Any]) -> None:
    """Raises Damaged on names, shapes and types that no save of ours has written."""
    for name, facts in listed.items():
        try:
            fine = (re.fullmatch(r"[\w.\-]+", name) and ".." not in name and np.dtype(facts["dtype"]).kind != "O"
                    and all(type(size) is int and size >= 0 for size in facts["shape"]))
        except (KeyError, TypeError):
            fine = False
        if not fine:
            raise Damaged(f"{path / manifest.RECORD}: {name[:80]!r} is no array of a checkpoint")


def _read(folder: Path, stored: Mapping[str, jax.ShapeDtypeStruct]) -> dict[str, np.ndarray]:
    """Reads arrays whose shapes Orbax's own metadata confirm first, so that none is larger than was said."""
    folder = folder.absolute()  # of any other Orbax finds no metadata
    try:
        with _orbax() as checkpointer:
            held = checkpointer.metadata(folder).item_metadata
            found = {name: tuple(held[name].shape) for name in stored}
            for name, leaf in stored.items():
                if found[name] != leaf.shape:
                    raise ValueError(f"{name} has shape {found[name]} in its own metadata, not {leaf.shape}")
            arguments = {name: ocp.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype)
                         for name, leaf in stored.items()}
            return checkpointer.restore(folder, args=ocp.args.PyTreeRestore(
                item=dict(stored), restore_args=arguments, partial_restore=True))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise Damaged(f"{folder} cannot be read: {error}") from error


@contextlib.contextmanager
def _orbax() -> Iterator[ocp.Checkpointer]:
    """Writes and reads in this process alone: every host holds all arrays, and one writes them."""
    here = ocp.options.MultiprocessingOptions(primary_host=jax.process_index(), active_processes={jax.process_index()},
                                              barrier_sync_key_prefix=f"process{jax.process_index()}")
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(multiprocessing_options=here),
                          multiprocessing_options=here) as checkpointer:
        yield checkpointer
