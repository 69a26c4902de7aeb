"""Prints how much of a graph a trained policy's logits hold: its edges, and what leads where.

    python scripts/graph_readings.py RUN_FOLDER [--step=N]

RUN_FOLDER is one of experiments/configs/path.py; run this from the folder in which that run was started. The policy is
the last that the run kept; step 0 is the base from which reinforcement learning started.
"""

import argparse
import pathlib
import sys
from collections.abc import Iterator

import numpy as np

from rl_reasoning.analysis.graph_readings import next_node_logits, read, separation
from rl_reasoning.edge import ConfigError
from rl_reasoning.loop.restore import restore
from rl_reasoning.loop.setup import Lab
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.tasks.planning.graphs import reachable
from rl_reasoning.tasks.planning.task import PathFinding


def report(task: PathFinding, lab: Lab, parameters: Parameters) -> Iterator[str]:
    """The lines of the table."""
    pairs, count = np.argwhere(task.distances > 0), len(task.nodes)
    found = read(next_node_logits(lab.policy.config, parameters, pairs, count), pairs)
    edges, shown = task.observed
    reach, other = reachable(task.adjacency), ~np.eye(count, dtype=bool)
    hidden = reach & ~shown & other
    yield f"{count} nodes; current node and target explain {100 * found.explained:.1f} % of the next node's logits"
    yield f"{'':<62}{'mean':>8}{'against':>9}{'AUC':>8}"
    rows = {
        "edges, against other nodes that can be reached": (found.adjacency, edges, reach.T & ~edges & other),
        "shown to reach the target, against truly so but not shown": (found.reachability, shown, hidden),
        "shown to reach the target, against those that do not": (found.reachability, shown, ~reach),
        "truly so but not shown, against those that do not": (found.reachability, hidden, ~reach),
    }
    for name, (reading, high, low) in rows.items():
        result = separation(reading, high, low)
        yield f"{name:<62}{result.high:>8.2f}{result.low:>9.2f}{result.auc:>8.3f}"


def main(argv: list[str]) -> int:
    """Reads the command line and prints; the value is the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--step", type=int, help="a step that the run kept")
    options = parser.parse_args(argv)
    try:
        lab, parameters = restore(options.folder, options.step)
    except (ConfigError, FileNotFoundError) as error:
        parser.error(str(error))
    if not isinstance(lab.task, PathFinding):
        parser.error(f"{options.folder} is a run of task.kind={lab.task.name}, which has no graph; give one of path.py")
    for line in report(lab.task, lab, parameters):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
