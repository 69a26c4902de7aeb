"""Scripts as modules, with what lies beside them."""

import importlib
import pathlib

SCRIPTS = pathlib.Path(__file__).parents[2] / "scripts"


def load(name, monkeypatch):
    """scripts/NAME.py, importable together with its neighbours while the test runs."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module(name)
