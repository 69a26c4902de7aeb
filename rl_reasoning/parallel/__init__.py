"""Where arrays lie when there are several devices: the mesh, and the table from what an axis means to the mesh."""

from rl_reasoning.parallel.layout import (
    ONE_PART,
    Layout,
    Shards,
    attention_by_device,
    constrain,
    fold,
    make_layout,
    make_layouts,
    parts,
    unfold,
)
from rl_reasoning.parallel.rules import RULES

__all__ = ["ONE_PART", "RULES", "Layout", "Shards", "attention_by_device", "constrain", "fold", "make_layout",
           "make_layouts", "parts", "unfold"]
