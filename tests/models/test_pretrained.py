"""Finding weights on this machine: what a `model.source` may be, and what is said when it is not there."""

import dataclasses
import hashlib

import pytest

from rl_reasoning.models import pretrained
from rl_reasoning.models.pretrained import RELEASES, cache_folder, check_digest, resolve_source


@pytest.fixture(name="cache")
def tiny_release(tmp_path, monkeypatch):
    """A release whose right content is b"weights", and an empty cache."""
    release = dataclasses.replace(RELEASES["smollm2-135m"], sha256=hashlib.sha256(b"weights").hexdigest())
    monkeypatch.setattr(pretrained, "RELEASES", {"smollm2-135m": release})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache" / "rl_reasoning").mkdir(parents=True)
    return tmp_path / "cache" / "rl_reasoning"


def test_a_fetched_release_is_found_by_its_name(cache):
    path = cache / RELEASES["smollm2-135m"].file
    path.write_bytes(b"weights")
    assert resolve_source("smollm2-135m") == path


def test_a_release_that_was_not_fetched_names_the_script(cache):
    with pytest.raises(FileNotFoundError, match=r"fetch it once with `python scripts/fetch_smollm2\.py`") as caught:
        resolve_source("smollm2-135m")
    assert str(cache) in str(caught.value)


@pytest.mark.parametrize("content", [b"weighty", b"weight", b""])
def test_t12_t13_a_damaged_release_is_refused(cache, content):
    """One wrong byte, a missing one, an empty file."""
    path = cache / RELEASES["smollm2-135m"].file
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"damaged or another file.*delete it and run `python scripts/fetch_smollm2"):
        resolve_source("smollm2-135m")


def test_a_path_or_a_folder_with_one_file(tmp_path, monkeypatch):
    path = tmp_path / "a.gguf"
    path.touch()
    assert resolve_source(str(path)) == path
    assert resolve_source(str(tmp_path)) == path
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve_source("~/a.gguf") == path
    (tmp_path / "b.gguf").touch()
    with pytest.raises(ValueError, match=r"holds 2 \.gguf files \(a\.gguf, b\.gguf, \.\.\.\); name one"):
        resolve_source(str(tmp_path))


def test_sources_that_are_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model\.source='smollm' is no file or folder.*smollm2-135m"):
        resolve_source("smollm")
    with pytest.raises(FileNotFoundError, match=r"holds no \.gguf file"):
        resolve_source(str(tmp_path))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ValueError, match=r"does not end in \.gguf"):
        resolve_source(str(tmp_path / "model.safetensors"))


def test_cache_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "rl_reasoning"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/nowhere")
    assert str(cache_folder()) == "/nowhere/.cache/rl_reasoning"


def test_digest_of_the_pinned_release_is_a_whole_sha256(tmp_path):
    assert all(len(bytes.fromhex(release.sha256)) == 32 for release in RELEASES.values())
    (tmp_path / "x").write_bytes(b"weights")
    check_digest(tmp_path / "x", dataclasses.replace(
        RELEASES["smollm2-135m"], sha256=hashlib.sha256(b"weights").hexdigest()))
