"""A process on the CPU backend uses freed memory again."""

import os
import platform
import subprocess
import sys

import pytest

import rl_reasoning

FAULTS = """
import resource
import rl_reasoning
import jax, jax.numpy as jnp

@jax.jit
def program(x):
    return (x @ x @ x).sum()  # 80 MiB of temporaries

x = jnp.ones((160, 256, 256))
for _ in range(4):
    jax.block_until_ready(program(x))
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    jax.block_until_ready(program(x))
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(**said: str) -> int:
    """Pages that three calls of a program got from the kernel, all of which it had had before."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(rl_reasoning.ALLOCATORS)}
    ended = subprocess.run([sys.executable, "-c", FAULTS], env=environment | {"JAX_PLATFORMS": "cpu"} | said,
                           capture_output=True, text=True, check=True)
    return int(ended.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left as they are")
def test_a_program_called_again_gets_no_memory_from_the_kernel():
    assert faults() < 1_000 < faults(MALLOC_ARENA_MAX="8")


@pytest.mark.parametrize("environment", [
    {"MALLOC_TRIM_THRESHOLD_": "1"}, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}, {"LD_PRELOAD": "libtcmalloc.so"},
    {"JAX_PLATFORMS": "tpu,cpu"}, {"JAX_PLATFORMS": "tpu"}], ids=str)
def test_what_the_environment_says_is_left(environment, tmp_path):
    assert not rl_reasoning.keep_freed_memory(environment, tmp_path)


@pytest.mark.parametrize("device", ["accel0", "vfio/0", "nvidia0", "kfd"])
def test_memory_is_given_back_beside_an_accelerator(device, tmp_path):
    (tmp_path / device).parent.mkdir(exist_ok=True)
    (tmp_path / device).touch()
    assert not rl_reasoning.keep_freed_memory({}, tmp_path)
