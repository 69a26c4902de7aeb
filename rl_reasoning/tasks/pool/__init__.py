"""Verifiers in worker processes that can be killed, so that no answer can hold up or bring down a run."""

from rl_reasoning.tasks.pool.pool import PoolError, VerifierPool
from rl_reasoning.tasks.pool.verifier import InProcess, Verifier

__all__ = ["InProcess", "PoolError", "Verifier", "VerifierPool"]
