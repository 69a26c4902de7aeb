"""What a run's policy is made of, said before it starts: sizes, number types, memory."""

import math

import jax

from rl_reasoning.config import Optimizer
from rl_reasoning.models import lora
from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.models.decoder import Parameters, initialize
from rl_reasoning.models.weights import TYPES


def describe_model(config: DecoderConfig, optimizer: Optimizer) -> list[str]:
    """Two lines for the console: the policy with its types, and what training it holds in memory.

    A trained weight costs itself, its gradient, and two moments of the optimizer's type; activations are not counted.
    """
    whole = jax.eval_shape(lambda: initialize(config, jax.random.key(0)))
    trained, frozen = lora.split(config, whole)
    types, moments = config.precision, TYPES[optimizer.dtype].itemsize
    lines = [f"policy: {_count(whole) / 1e6:.4g} M weights, {_text(_bytes(whole))}; weights {types.parameters}, layers "
             f"{types.compute}, head {types.head}, logits float32, optimizer {optimizer.dtype}"]
    state = _bytes(frozen) + _state(trained, moments)
    if config.lora is None:
        return [*lines, f"trained: all of them; weights, gradient and optimizer hold {_text(state)}"]
    every = _state(jax.eval_shape(lambda: initialize(config.plain(), jax.random.key(0))), moments)
    return [*lines, f"trained: {_count(trained) / 1e6:.4g} M in adapters of rank {config.lora.rank}; weights, gradient "
                    f"and optimizer hold {_text(state)}, all weights trained would hold {_text(every)}"]


def _state(trained: Parameters, moments: int) -> int:
    return 2 * _bytes(trained) + 2 * moments * _count(trained)


def _count(tree: Parameters) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _bytes(tree: Parameters) -> int:
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _text(size: int) -> str:
    """Bytes in words, with a decimal prefix."""
    for power, name in ((9, "GB"), (6, "MB"), (3, "kB")):
        if size >= 10**power:
            return f"{size / 10**power:.4g} {name}"
    return f"{size} B"
