"""What a run would take on a TPU slice, compiled ahead of time on any machine: memory, work, communication, time."""

from rl_reasoning.plan.chips import CHIPS, Chip
from rl_reasoning.plan.planner import Plan, plan

__all__ = ["CHIPS", "Chip", "Plan", "plan"]
