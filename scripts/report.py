"""One page for one run or for many side by side, and its pictures and numbers as files.

    python scripts/report.py runs/countdown-w_reinforce-seed0 --out report.html
    python scripts/report.py runs/countdown-compare-seed* --out report.html --files pictures

RUN is a run's folder, or one that holds several, as mode compare leaves it. The page needs no network and no other
file. --files writes every picture as SVG and PNG, Pass@k at every k and all training curves as CSV.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

from rl_reasoning.reporting.files import write_files
from rl_reasoning.reporting.report import write_report
from rl_reasoning.reporting.run_folder import RunFolder


def run_folders(paths: Iterable[Path]) -> list[RunFolder]:
    """The runs at these paths, or right below them.

    Raises:
      FileNotFoundError: there is no run.
    """
    found = []
    for path in paths:
        below = [path] if (path / "config.json").is_file() else sorted(
            each.parent for each in path.glob("*/config.json"))
        if not below:
            raise FileNotFoundError(f"{path} is no run folder and holds none: config.json is missing")
        found += [RunFolder(each) for each in below]
    return found


def main(arguments: list[str]) -> int:
    """Reads the command line and writes; the value is the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="default %(default)s")
    parser.add_argument("--files", type=Path, metavar="FOLDER", help="where pictures and CSV go; none otherwise")
    parser.add_argument("--title", default="", help="the headline; the runs' names otherwise")
    options = parser.parse_args(arguments)
    try:
        folders = run_folders(options.runs)
        title = options.title or ", ".join(dict.fromkeys(path.name for path in options.runs))
        print(write_report(options.out, folders, title))
        for path in write_files(options.files, folders) if options.files else ():
            print(path)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
