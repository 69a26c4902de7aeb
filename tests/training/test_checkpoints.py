"""What is saved comes back bit for bit, or not at all: damage, foreign files and other models are named."""

import json
import os
import pathlib
import random
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from rl_reasoning.training import checkpoints, manifest
from rl_reasoning.training.manifest import Damaged

TREE = {"parameters": {"policy": {"kernel": jnp.arange(600, dtype=jnp.float32).reshape(20, 30) / 7,
                                  "norm": jnp.ones(30, jnp.bfloat16), "small": jnp.full((4, 4), -3, jnp.int8)}},
        "optimizer": [jnp.zeros(30), {"count": jnp.int32(5)}], "updates": jnp.int32(5)}


@pytest.fixture(name="kept", scope="module")
def kept_checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("kept") / "step_0005"
    assert checkpoints.save(path, checkpoints.on_host(TREE), {"step": 5}) > 0
    return path


@pytest.fixture(name="copy")
def copied_checkpoint(kept, tmp_path):
    return pathlib.Path(shutil.copytree(kept, tmp_path / kept.name))


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def reseal(folder, change):
    """The folder of somebody who means harm and can compute digests: a changed record with a marker that fits."""
    record = json.loads((folder / "record.json").read_text())
    change(record)
    (folder / "record.json").write_text(json.dumps(record))
    (folder / "COMMIT").write_text(manifest._file_facts(folder / "record.json", flush=False)["sha256"] + "\n")


def test_everything_comes_back_bit_for_bit(kept):
    again = checkpoints.restore(kept, TREE)
    assert jax.tree.structure(again) == jax.tree.structure(TREE)
    for new, old in zip(jax.tree.leaves(again), jax.tree.leaves(TREE), strict=True):
        assert new.dtype == old.dtype
        assert new.tobytes() == np.asarray(old).tobytes()
    assert manifest.read(kept)["step"] == 5
    part = checkpoints.restore(kept, {"parameters": TREE["parameters"]})
    np.testing.assert_array_equal(part["parameters"]["policy"]["kernel"], TREE["parameters"]["policy"]["kernel"])


def test_a_folder_may_be_named_from_where_one_stands(kept, monkeypatch):
    monkeypatch.chdir(kept.parent)
    checkpoints.save(pathlib.Path("step_0007"), checkpoints.on_host(TREE), {"step": 7})
    for name in (kept.name, "step_0007"):
        again = checkpoints.restore(pathlib.Path(name), TREE)
        assert again["parameters"]["policy"]["kernel"].tobytes() == np.asarray(
            TREE["parameters"]["policy"]["kernel"]).tobytes()


def test_a_copy_on_the_host_does_not_follow_what_it_was_copied_from():
    source = np.zeros(3)
    copied = checkpoints.on_host({"a": source, "b": jnp.zeros(3)})
    source += 1
    assert not copied["a"].any()
    assert copied["b"].flags.owndata  # the memory of a device array is given away by the next update


def test_t12_a_flipped_bit_in_any_file_is_found(kept, tmp_path):
    """50 random bits of each file, one at a time: all are found, by the file's name, before Orbax reads anything."""
    rng, work, caught, tried = random.Random(0), shutil.copytree(kept, tmp_path / "work"), 0, 0
    for path in files(work):
        whole = path.read_bytes()
        for _ in range(50):
            content = bytearray(whole)
            content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
            path.write_bytes(content)
            tried += 1
            try:
                record = manifest.read(work)
                manifest.check_files(work, record, 10**6)
            except Damaged as error:
                caught += path.name in str(error) or "COMMIT" in str(error)
        path.write_bytes(whole)
    assert tried >= 50 * 8
    assert caught == tried


@pytest.mark.parametrize("damage", ["half", "empty", "gone"])
def test_t13_a_cut_or_missing_file_is_found(kept, tmp_path, damage):
    for number in range(len(files(kept))):
        work = shutil.copytree(kept, tmp_path / str(number))
        path = files(work)[number]
        content = path.read_bytes()
        path.unlink()
        if damage != "gone":
            path.write_bytes(content[:len(content) // 2] if damage == "half" else b"")
        with pytest.raises(Damaged, match=path.name):
            checkpoints.restore(work, TREE)


def test_an_array_that_reads_as_something_else_is_found(copy):
    """The digest of the array is its own, beside those of the files: this is damage that no file shows."""
    def change(record):
        record["arrays"]["parameters.policy.kernel"]["sha256"] = "0" * 64

    reseal(copy, change)
    with pytest.raises(Damaged, match=r"the array parameters\.policy\.kernel is not what was saved"):
        checkpoints.restore(copy, TREE)


def test_t14_another_shape_is_refused_and_another_type_only_converted_when_asked(kept):
    wide = TREE | {"optimizer": [jnp.zeros(31), {"count": jnp.int32(5)}]}
    with pytest.raises(ValueError, match=r"optimizer\.0 has shape \(30,\), and \(31,\) is expected"):
        checkpoints.restore(kept, wide)
    half = TREE | {"optimizer": [jnp.zeros(30, jnp.bfloat16), {"count": jnp.int32(5)}]}
    with pytest.raises(ValueError, match=r"optimizer\.0 is float32, and bfloat16 is expected"):
        checkpoints.restore(kept, half)
    assert checkpoints.restore(kept, half, cast=True)["optimizer"][0].dtype == jnp.bfloat16


def test_t11_a_checkpoint_without_an_array_that_is_needed_is_refused(kept):
    with pytest.raises(ValueError, match=r"has no array averaged\.kernel: it was saved by another version"):
        checkpoints.restore(kept, TREE | {"averaged": {"kernel": jnp.zeros(3)}})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_t15_what_is_not_finite_is_not_saved(tmp_path, bad):
    arrays = checkpoints.on_host({"parameters": {"a": jnp.ones(4, jnp.bfloat16).at[1].set(bad), "b": jnp.zeros(2)}})
    with pytest.raises(checkpoints.NotFinite, match=r"parameters\.a has 1 of 4 values that are not finite"):
        checkpoints.save(tmp_path / "step_0001", arrays)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["../../outside", "/etc/outside", "a/../b", "..", "a b", ""])
def test_t16_names_that_lead_elsewhere_are_refused(copy, name):
    def change(record):
        record["arrays"][name] = {"shape": [1], "dtype": "float32", "sha256": "0" * 64}

    reseal(copy, change)
    with pytest.raises(Damaged, match="is no array of a checkpoint"):
        checkpoints.restore(copy, TREE)


@pytest.mark.parametrize("facts", [{"shape": [2**40], "dtype": "object"}, {"shape": [-1], "dtype": "float32"},
                                   {"shape": "x", "dtype": "float32"}, {"dtype": "float32"}, None])
def test_t16_types_and_shapes_that_no_save_writes_are_refused(copy, facts):
    reseal(copy, lambda record: record["arrays"].update(extra=facts))
    with pytest.raises(Damaged, match="'extra' is no array of a checkpoint"):
        checkpoints.restore(copy, TREE)


def test_t16_a_link_out_of_the_folder_is_not_followed(copy, tmp_path):
    secret = tmp_path / "secret"
    target = next(path for path in files(copy) if path.parent.name == "d")
    secret.write_bytes(target.read_bytes())
    target.unlink()
    target.symlink_to(secret)
    with pytest.raises(Damaged, match="links and devices are not read"):
        checkpoints.restore(copy, TREE)
    (tmp_path / "link").symlink_to(copy)
    with pytest.raises(FileNotFoundError):
        checkpoints.restore(tmp_path / "link", TREE)


def test_t16_a_file_that_nobody_saved_is_refused(copy):
    """Such as a pickle: it is never opened as one."""
    (copy / "arrays" / "extra.npy").write_bytes(b"\x80\x04cos\nsystem\n")
    with pytest.raises(Damaged, match=r"extra\.npy is not one of this checkpoint's files"):
        checkpoints.restore(copy, TREE)


def test_t16_sizes_are_compared_before_anything_is_allocated(copy, tmp_path):
    """A terabyte that compresses to nothing: neither the record's word nor a file's length is taken for it."""
    huge = json.loads((copy / "record.json").read_text())["arrays"]["parameters.policy.kernel"] | {"shape": [2**38]}
    work = shutil.copytree(copy, tmp_path / "said")
    reseal(work, lambda record: record["arrays"].update({"parameters.policy.kernel": huge}))
    with pytest.raises(ValueError, match=r"has shape \(274877906944,\), and \(20, 30\) is expected"):
        checkpoints.restore(work, TREE)
    # The record lies about an array that Orbax would read with another shape.
    shutil.rmtree(copy / "arrays")
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
        arrays = checkpoints.on_host(TREE) | {"parameters.policy.kernel": np.zeros((1000, 3000), np.float32)}
        checkpointer.save(copy / "arrays", args=ocp.args.PyTreeSave(arrays))
    facts = {path.relative_to(copy).as_posix(): manifest._file_facts(path, flush=False)
             for path in files(copy / "arrays")}
    reseal(copy, lambda record: record.update(files=facts))
    with pytest.raises(Damaged, match=r"kernel has shape \(1000, 3000\) in its own metadata, not \(20, 30\)"):
        checkpoints.restore(copy, TREE)
    sparse = copy / "arrays" / "d" / "sparse"
    with sparse.open("wb") as file:
        os.truncate(file.fileno(), 2**40)
    reseal(copy, lambda record: record["files"].update({"arrays/d/sparse": {"bytes": 2**40, "sha256": "0" * 64}}))
    with pytest.raises(Damaged, match=r"holds 10995.* bytes of arrays; those that are expected have"):
        checkpoints.restore(copy, TREE)


def test_t9_a_save_that_fails_leaves_nothing_and_what_was_there_before(kept, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(manifest, "seal", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save(tmp_path / "step_0006", checkpoints.on_host(TREE))
    assert not list(tmp_path.iterdir())
    assert checkpoints.save(kept, checkpoints.on_host(TREE)) == 0  # it stands and is not written again


def test_t10_a_folder_that_has_vanished_is_not_made_again(tmp_path):
    with pytest.raises(FileNotFoundError):
        checkpoints.save(tmp_path / "gone" / "step_0001", checkpoints.on_host(TREE))
    assert not list(tmp_path.iterdir())


def test_t4_what_a_killed_save_leaves_is_no_checkpoint_and_is_cleaned(kept, tmp_path):
    shutil.copytree(kept, tmp_path / ".part-step_0007")
    shutil.copytree(kept, tmp_path / "step_0005")
    shutil.copytree(kept, tmp_path / "step_12345")
    shutil.copytree(kept, tmp_path / "step_0006.orbax-checkpoint-tmp")
    assert list(checkpoints.steps(tmp_path)) == [5, 12345]
    checkpoints.clean(tmp_path)
    assert not (tmp_path / ".part-step_0007").exists()


def test_two_arrays_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"two arrays are called a\.b"):
        manifest.leaves({"a": {"b": 1}, "a.b": 2})
