"""What both runners do with their cases; imported in a peer's environment, where the project is not installed."""

import inspect
import json
import sys
from pathlib import Path

import numpy as np


def run(cases, package, versions):
    """Answers the folders of the command line: INPUTS with cases.json and one npz a seed, OUTPUTS for the numbers.

    Args:
      cases: name -> (function of inputs and settings that gives arrays by name, the peer's code that it calls).
      package: the peer's module; places in its code are told from its folder.
      versions: package -> version, for the table.
    """
    source, target = map(Path, sys.argv[1:])
    wanted = json.loads((source / "cases.json").read_text())
    for path in sorted(source.glob("*.npz")):
        inputs = dict(np.load(path, allow_pickle=False))
        found = {}
        for key, case in wanted.items():
            outputs = cases[case["function"]][0](inputs, case["settings"])
            found |= {f"{key}|{name}": value for name, value in outputs.items()}
        np.savez(target / path.name, **found)
    home = Path(package.__file__).parents[1]
    (target / "about.json").write_text(json.dumps({
        "versions": versions, "places": {name: _place(function, home) for name, (_, function) in cases.items()}}))


def _place(function, home):
    function = inspect.unwrap(function)
    return f"{Path(inspect.getsourcefile(function)).relative_to(home)}:{inspect.getsourcelines(function)[1]}"
