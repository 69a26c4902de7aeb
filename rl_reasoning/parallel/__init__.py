"""Where arrays lie when there are several devices: the mesh, and the table from what an axis means to the mesh."""

from rl_reasoning.parallel.layout import Layout, by_device, constrain, dividing, make_layout, make_layouts, parts
from rl_reasoning.parallel.rules import RULES

__all__ = ["RULES", "Layout", "by_device", "constrain", "dividing", "make_layout", "make_layouts", "parts"]
