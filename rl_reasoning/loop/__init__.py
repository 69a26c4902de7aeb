"""The loop: rollouts, rewards, advantages, updates, evaluation, report."""

from rl_reasoning.loop.experiment import run_experiment

__all__ = ["run_experiment"]
