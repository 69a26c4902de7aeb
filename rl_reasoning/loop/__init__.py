"""The loop: rollouts, rewards, advantages, updates, evaluation, report."""

from rl_reasoning.loop.evaluating import evaluate_policy
from rl_reasoning.loop.modes import run, run_experiment

__all__ = ["evaluate_policy", "run", "run_experiment"]
