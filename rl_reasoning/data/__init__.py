"""Problem sets and streams of problems, as Grain datasets."""

from rl_reasoning.data.stream import Stream, problem_batches

__all__ = ["Stream", "problem_batches"]
