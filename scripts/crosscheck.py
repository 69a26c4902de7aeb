"""Compares our losses, gradients and advantages with those of TRL and google-tunix, on random inputs.

    python scripts/crosscheck.py                         # both peers, five seeds; Markdown tables on stdout
    python scripts/crosscheck.py --peers tunix --seeds 2
    python scripts/crosscheck.py --environments FOLDER   # where the peers are installed, each in its own environment

The peers' own functions run, each peer in its own process and environment: this script writes the inputs, the peer's
runner writes its numbers, this script compares. The first call installs the peers with pip (about 1.5 GB each) into
~/.cache/rl_reasoning/peers (or $XDG_CACHE_HOME); pip's own settings apply, so a CPU build of torch can be chosen there.

Exit codes: 0, every difference is explained; 1, one is not; 2, a peer could not be installed or run.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from peer_check import compare, environments, inputs
from peer_check.cases import CASES

from rl_reasoning.models.pretrained import cache_folder

RUNNERS = Path(__file__).parent / "peer_check"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", nargs="+", choices=tuple(CASES), default=tuple(CASES), help="which to compare with")
    parser.add_argument("--seeds", type=seeds, default=5, help="how many random inputs, at least 1")
    parser.add_argument("--environments", type=Path, default=cache_folder() / "peers", help="where peers are installed")
    options = parser.parse_args(arguments)
    drawn = [inputs.make(seed) for seed in range(options.seeds)]
    findings, versions, missing = [], [], []
    for peer in options.peers:
        try:
            found, version = check(peer, drawn, options.environments.expanduser().absolute())
        except environments.PeerUnavailable as error:
            missing.append(peer)
            environments.say(f"NOT COMPARED: {error}")
        else:
            findings += found
            versions.append(version)
    print(compare.tables(findings))
    print(f"\n{options.seeds} seeds: {compare.summary(findings)}. {'; '.join(versions)}.")
    if missing:
        print(f"Not compared, because not installed or not run (see above): {', '.join(missing)}.")
        return 2
    return 0 if all(each.expected for each in findings) else 1


def seeds(text: str) -> int:
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{count} is too few; allowed: 1 or more")
    return count


def check(peer: str, drawn: list[inputs.Arrays], folder: Path) -> tuple[list[compare.Finding], str]:
    """Every case of one peer, and the versions in its environment.

    Raises:
      PeerUnavailable: the peer cannot be installed or run.
    """
    python = environments.python_of(peer, folder)
    environments.say(f"{peer}: computing {len(CASES[peer])} cases")
    about, theirs = peer_numbers(peer, python, drawn)
    found = []
    for number, case in enumerate(CASES[peer]):
        prefix = f"{number}|"
        numbers = [{name.removeprefix(prefix): value for name, value in each.items() if name.startswith(prefix)}
                   for each in theirs]
        found.append(compare.judge(peer, about["places"][case.function], case, drawn, numbers))
    return found, ", ".join(f"{name} {version}" for name, version in about["versions"].items())


def peer_numbers(peer: str, python: Path, drawn: list[inputs.Arrays]) -> tuple[dict, list[inputs.Arrays]]:
    """What the peer's runner says of itself, and its arrays for each input, named "case number|name"."""
    with tempfile.TemporaryDirectory(prefix="crosscheck-") as folder:
        source, target = Path(folder) / "inputs", Path(folder) / "numbers"
        source.mkdir()
        target.mkdir()
        for number, arrays in enumerate(drawn):
            np.savez(source / f"{number:04}.npz", **arrays)
        (source / "cases.json").write_text(json.dumps({
            str(number): {"function": case.function, "settings": case.settings}
            for number, case in enumerate(CASES[peer])}))
        environments.run(peer, [str(python), str(RUNNERS / f"run_{peer}.py"), str(source), str(target)])
        theirs = [dict(np.load(path, allow_pickle=False)) for path in sorted(target.glob("*.npz"))]
        return json.loads((target / "about.json").read_text()), theirs


if __name__ == "__main__":
    sys.exit(main())
