"""Verifiers in worker processes that can be killed, so that no answer can hold up or bring down a run."""

from rl_reasoning.tasks.pool.pool import InProcess, PoolError, Verifier, VerifierPool

__all__ = ["InProcess", "PoolError", "Verifier", "VerifierPool"]
