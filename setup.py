"""Packaging: `pip install -e .`, with extras `tpu`, `lm`, `plan` and `dev`."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "rl_reasoning" / "__init__.py").read_text())[1]

# Language models: weight files, tokenizers, chat templates, and text problems.
LM = ["gguf", "huggingface_hub", "jinja2", "math-verify", "pyarrow", "reasoning-gym", "safetensors", "tokenizers"]

# The TPU compiler, which plans a run for a slice on a machine without one; 484 MB, and no part of a run on a CPU.
PLAN = ["libtpu; sys_platform == 'linux' and platform_machine == 'x86_64'"]

setup(
    name="rl_reasoning",
    version=VERSION,
    description="Reinforcement learning with verifiable rewards on language models, in JAX",
    license="Apache-2.0",
    author="The rl_reasoning authors",
    python_requires=">=3.11",
    packages=find_packages(include=["rl_reasoning", "rl_reasoning.*"]),
    install_requires=[
        "absl-py",
        "flax>=0.11",
        "grain>=0.2.12",
        "jax>=0.7",
        "matplotlib",
        "ml_collections>=1.0",
        "numpy>=2",
        "optax>=0.2.8",
        "orbax-checkpoint>=0.11",
        "rich",
        "sentencepiece",
        "tensorboardX",
        "tensorflow-datasets",
    ],
    extras_require={
        "tpu": ["jax[tpu]"],
        "plan": PLAN,
        "lm": LM,
        "dev": [*LM, *PLAN, "chex", "hypothesis", "ipykernel", "mypy", "nbclient", "pytest>=8", "pytest-xdist", "ruff"],
    },
)
