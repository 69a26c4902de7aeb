"""The peers' throw-away environments: made by pip on first use, reused after, one for each peer."""

import json
import os
import subprocess
import sys
from pathlib import Path

# What the runners were written for: other releases may name or place things differently.
REQUIREMENTS = {"trl": ("torch==2.13.0", "trl==1.16.0"), "tunix": ("google-tunix==0.1.7",),
                "transformers": ("torch==2.13.0", "transformers==5.23.0")}
DONE = "installed.json"


class PeerUnavailable(RuntimeError):
    """A peer could not be installed, or did not run to its end."""


def python_of(peer: str, folder: Path) -> Path:
    """The interpreter of a peer's environment under `folder`, which is made when it is not there.

    Raises:
      PeerUnavailable: it could not be made; pip's own words are in the message.
    """
    home = folder / peer
    python = home / ("Scripts" if os.name == "nt" else "bin") / "python"
    record, wanted = home / DONE, {"requirements": list(REQUIREMENTS[peer]), "python": sys.version}
    if record.is_file() and python.exists() and json.loads(record.read_text()) == wanted:
        say(f"{peer}: using the environment in {home}")
        return python
    say(f"{peer}: installing {' '.join(REQUIREMENTS[peer])} into {home}, once; about 1.5 GB")
    run(peer, [sys.executable, "-m", "venv", "--clear", str(home)])
    run(peer, [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *REQUIREMENTS[peer]])
    record.write_text(json.dumps(wanted))
    return python


def run(peer: str, command: list[str], stdin: str = "", **variables: str) -> str:
    """Runs a command to its end and returns what it printed.

    Args: variables: of its environment, further ones.

    Raises:
      PeerUnavailable: it failed, or could not be started.
    """
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    environment |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1",
                    "TRL_EXPERIMENTAL_SILENCE": "1", "PYTHONWARNINGS": "ignore", **variables}
    try:
        ended = subprocess.run(command, input=stdin, capture_output=True, text=True, env=environment, check=False)
    except OSError as error:
        raise PeerUnavailable(f"{peer}: {command[0]} does not start: {error}") from error
    if ended.returncode:
        words = (ended.stderr or ended.stdout).strip().splitlines()[-15:]
        raise PeerUnavailable(f"{peer}: exit code {ended.returncode} of {' '.join(command)}\n" + "\n".join(words))
    return ended.stdout


def say(words: str) -> None:
    """A line about progress, apart from the table on stdout."""
    print(f"== {words}", file=sys.stderr, flush=True)
