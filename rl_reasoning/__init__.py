"""Reinforcement learning with verifiable rewards on language models, in JAX."""

__version__ = "0.1.0"
