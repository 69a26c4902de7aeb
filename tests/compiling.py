"""Small programs that run a few times: compiling them is what costs, and these options make it quick."""

import os

COMPILE_FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

# They make the same numbers as XLA's own choice, in a quarter less of all tests' CPU time, and slower programs.
OLDER_EMITTERS = "--xla_cpu_use_fusion_emitters=false"


def as_users_have_it():
    """Options that undo what tests/conftest.py sets for the whole process."""
    return {"xla_cpu_use_fusion_emitters": True} if OLDER_EMITTERS in os.environ["XLA_FLAGS"] else {}
