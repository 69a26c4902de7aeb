"""Runs one experiment.

    python experiments/run.py --config=experiments/configs/countdown.py:smoke --config.rl.steps=20

`--config=FILE.py[:PRESET]` names the experiment (without it: experiments/configs/countdown.py), and each
`--config.KEY=VALUE` changes one setting; `--help` lists them all. A config that cannot be ends at once
with exit code 2 and one message, before jax is loaded; SIGTERM ends with 75 and Ctrl-C with 130, and the same
command then goes on.
"""

import pathlib
import sys

from rl_reasoning import edge
from rl_reasoning.config import Experiment

DEFAULT = str(pathlib.Path(__file__).parent / "configs" / "countdown.py")


def main(argv: list[str]) -> int:
    """Reads the command line, checks it, runs it; the value is the exit code."""
    if "--help" in argv[1:]:
        print(f"{__doc__}\nSettings:\n{edge.describe()}")
        return 0
    try:
        return run(edge.read_command(argv, DEFAULT))
    except edge.ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


def run(experiment: Experiment) -> int:
    """Runs what the settings say; imports jax, so it comes after the cheap checks."""
    if experiment.mode == "list":
        from rl_reasoning import options

        print(options.table())
        return 0
    from rl_reasoning.loop import run_experiment

    return run_experiment(experiment)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
