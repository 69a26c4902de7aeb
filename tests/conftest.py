"""Settings for every test: the CPU, eight devices, and compiled programs kept between runs."""

import importlib
import os
import pathlib

from tests.compiling import use_older_emitters

ROOT = pathlib.Path(__file__).parent.parent

# jax reads these when it is first imported, and the programs that tests start inherit them.
os.environ["JAX_PLATFORMS"] = "cpu"
# LLVM's level 1 makes the same numbers in a fifth less time: most of a test's is spent compiling.
os.environ["XLA_FLAGS"] = (f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8 "
                           "--xla_backend_optimization_level=1").strip()
importlib.import_module("rl_reasoning")  # enough threads for eight devices, which XLA counts once
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "jax"))
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

# The TPU compiler asks no machine about itself, and several processes may use it at a time.
os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1"}

use_older_emitters()  # last: it imports jax

CONTRACTS = ("tests/losses/test_contract.py", "tests/training/test_layouts.py")


def pytest_terminal_summary(terminalreporter):
    """How much of the objectives' contract was checked: one pair for each test of an objective that passed."""
    passed = [report.nodeid for report in terminalreporter.getreports("passed")]
    pairs = sum(node.startswith(CONTRACTS) and "[" in node for node in passed)
    if pairs:
        terminalreporter.write_line(f"{pairs} (objective, property) pairs hold")
