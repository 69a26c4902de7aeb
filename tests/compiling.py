"""Compiling is what costs in small programs that run a few times: what makes it quick."""

import os
import subprocess
import sys

COMPILE_FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

# They make the same numbers as XLA's own choice, in a quarter less of all tests' CPU time, and slower programs.
_OLDER_EMITTERS = "--xla_cpu_use_fusion_emitters=false"
_used = False


def use_older_emitters() -> None:
    """Has this process compile fusions by XLA's older emitters, where it has them; XLA reads its flags here, once.

    Not the programs that tests start: libtpu reads the same variable, and ends a process for a flag that it does not
    know, as XLA does.
    """
    global _used
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} {_OLDER_EMITTERS}"
    tried = subprocess.run([sys.executable, "-c", "import jax; jax.devices()"], capture_output=True, check=False)
    if tried.returncode == 0:
        import jax

        jax.devices()
        _used = True
    os.environ["XLA_FLAGS"] = flags


def as_users_have_it() -> dict[str, bool]:
    """Options that undo it."""
    return {"xla_cpu_use_fusion_emitters": True} if _used else {}
