"""CONTRIBUTING's worked example, executed: the function, its entry and its test."""

import functools
import importlib.util
import pathlib
import re

import jax.numpy as jnp
import numpy as np
import pytest

from rl_reasoning import options
from rl_reasoning.algorithms import ALGORITHMS
from rl_reasoning.losses import SurrogateInputs

TEXT = (pathlib.Path(__file__).parent.parent / "CONTRIBUTING.md").read_text()


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The example's blocks, one after another, as a module."""
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 2
    path = tmp_path_factory.mktemp("contributing") / "example.py"
    path.write_text("\n".join(blocks))
    spec = importlib.util.spec_from_file_location("contributing_example", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_its_own_test_passes_and_can_fail(example, monkeypatch):
    example.test_closed_form_gradient()
    monkeypatch.setattr(example, "log_clipped", functools.partial(example.log_clipped, width=9.0))
    with pytest.raises(AssertionError):
        example.test_closed_form_gradient()


def test_its_entry_is_complete(example, monkeypatch):
    monkeypatch.setitem(ALGORITHMS, "log_clipped", example.ENTRY)
    changed = options.resolve("log_clipped", {"width": 0.5})
    assert options.options(changed)["width"] == 0.5
    with pytest.raises(ValueError, match="width is -1"):
        options.resolve("log_clipped", {"width": -1})
    square = jnp.zeros((2, 2))
    inputs = SurrogateInputs(square, square, square + 1, square > -1, jnp.zeros(2, int), jnp.ones(2))
    np.testing.assert_allclose(changed.surrogate(inputs).values, -1)
