"""What a decoder's layers are made of: norms, linear maps, the gated MLP."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.models.product import product
from rl_reasoning.models.quantized import quantize
from rl_reasoning.parallel import RULES, constrain, parts
from rl_reasoning.parallel.rules import TENSOR, axes_of


class Norm(nnx.RMSNorm):
    """Root-mean-square norm (arXiv 1910.07467) over a state's features, or a head's; its statistics are float32."""

    def __init__(self, config: DecoderConfig, size: int = 0, *, rngs: nnx.Rngs):
        """size: of a head, whose numbers lie along the last axis; 0 is a state."""
        precision, axis = config.precision, 0 if config.features_first and not size else -1
        super().__init__(size or config.width, epsilon=config.norm_epsilon, dtype=precision.compute,
                         param_dtype=precision.others, reduction_axes=axis, feature_axes=axis, rngs=rngs)


class Linear(nnx.Module):
    """x W + bias, with W in float or in int8 with a scale an output, and a low-rank adapter where one is asked for.

    Decoding for a CPU has W as [out, in] under another name, so that one can not be taken for the other.
    """

    def __init__(self, config: DecoderConfig, name: str, inputs: int, outputs: int, *, bias: bool = False,
                 residual_parts: int = 1, rngs: nnx.Rngs):
        precision, init = config.precision, scaled_init(residual_parts)
        self.compute, self.features_first, self.turned = precision.compute, config.features_first, config.for_cpu
        self.gain = config.lora.alpha / config.lora.rank if config.lora and config.lora.covers(name) else None
        kernel = init(rngs.params(), (inputs, outputs), jnp.float32)
        self.quantized, self.biased = precision.parameters == "int8", bias
        if self.quantized:
            kernel, scale = quantize(kernel)
            self.scale = nnx.Param(scale)
        kernel = kernel.astype(precision.parameters)
        if self.turned:
            self.kernel_turned = nnx.Param(kernel.T)
        else:
            self.kernel = nnx.Param(kernel)
        if bias:
            self.bias = nnx.Param(jnp.zeros(outputs, precision.others))
        if config.lora and self.gain is not None:
            limit = inputs ** -0.5
            self.lora_a = nnx.Param(jax.random.uniform(rngs.params(), (inputs, config.lora.rank), jnp.float32, -limit,
                                                       limit))
            self.lora_b = nnx.Param(jnp.zeros((config.lora.rank, outputs), jnp.float32))

    def __call__(self, x: jax.Array) -> jax.Array:
        """[rows, in] -> [rows, out], or both turned where features come first."""
        kernel = self.kernel_turned[...].T if self.turned else self.kernel[...]
        trained = not (self.turned or self.quantized or self.gain is not None)
        y = product(x, kernel.astype(self.compute)) if trained else self._product(x, kernel)
        if self.quantized:
            y = (y * self._each(self.scale)).astype(self.compute)
        if self.gain is not None:
            y = y + self._product(self._product(x, self.lora_a[...]), self.lora_b[...]) * self.gain
        return y + self._each(self.bias).astype(self.compute) if self.biased else y

    def _product(self, x: jax.Array, matrix: jax.Array) -> jax.Array:
        matrix = matrix.astype(self.compute)
        # Without the barrier XLA turns a product back whose result is turned later.
        return jax.lax.optimization_barrier(matrix.T @ x) if self.features_first else x @ matrix

    def _each(self, values: nnx.Param) -> jax.Array:
        """One number an output, beside outputs."""
        return values[...][:, None] if self.features_first else values[...]


class GatedMLP(nnx.Module):
    """SwiGLU (arXiv 2002.05202): down(silu(gate(x)) * up(x))."""

    def __init__(self, config: DecoderConfig, *, rngs: nnx.Rngs):
        linear = functools.partial(Linear, config, rngs=rngs)
        self.gate = linear("mlp.gate", config.width, config.mlp)
        self.up = linear("mlp.up", config.width, config.mlp)
        self.down = linear("mlp.down", config.mlp, config.width, residual_parts=2 * config.layers)
        self.blocks = config.mlp_blocks

    def __call__(self, x: jax.Array) -> jax.Array:
        return self._of(x) if self.blocks == 1 else self._by_blocks(x)

    def _of(self, x: jax.Array) -> jax.Array:
        return self.down(jax.nn.silu(self.gate(x)) * self.up(x))

    def _by_blocks(self, x: jax.Array) -> jax.Array:
        """The sum over blocks of the hidden width, one after the other, and so again in the backward pass.

        A block's activations, weights and their gradients exist at a time: on a mesh, one gather and one reduction of
        each (as tiled MLPs, arXiv 2506.13996, but of weights and not of tokens, whose weights would lie there whole).
        """
        graph, state = nnx.split(self)
        leaves, tree = jax.tree_util.tree_flatten_with_path(nnx.to_pure_dict(state))
        each = [_Part(leaf, axes_of(["layers", "mlp", *(key.key for key in path)], leaf.ndim + 1)[1:])
                for path, leaf in leaves]

        @jax.checkpoint
        def add(so_far: jax.Array, block: list[jax.Array]) -> tuple[jax.Array, None]:
            own = iter(block)
            these = [next(own) if part.is_cut else part.weight for part in each]
            return so_far + nnx.merge(graph, nnx.State(jax.tree.unflatten(tree, these)))._of(x), None

        blocks = [part.cut(self.blocks) for part in each if part.is_cut]
        return jax.lax.scan(add, jnp.zeros(x.shape, jnp.float32), blocks)[0].astype(x.dtype)


def check_blocks(hidden: int, blocks: int, split: int) -> None:
    """Raises ValueError unless a hidden width, shared out among so many devices, has so many equal blocks on each."""
    if hidden // split % blocks:
        allowed = ", ".join(str(n) for n in range(1, 65) if hidden // split % n == 0)
        raise ValueError(f"rl.mlp_blocks={blocks} does not divide the {hidden // split} of an MLP's hidden width of "
                         f"{hidden} that a device has; allowed: {allowed}")


class _Part(NamedTuple):
    """A weight of an MLP, and what its axes mean (`parallel.rules`)."""

    weight: jax.Array
    axes: tuple[str, ...]

    @property
    def is_cut(self) -> bool:
        """Whether it has the hidden width as an axis."""
        return "mlp" in self.axes

    def cut(self, count: int) -> jax.Array:
        """[count, ...]: equal blocks of the hidden width, each with a part of what every device has of it."""
        axis, split, shape = self.axes.index("mlp"), parts((TENSOR,)), self.weight.shape
        check_blocks(shape[axis], count, split)
        by_device = self.weight.reshape(*shape[:axis], split, count, -1, *shape[axis + 1:])
        blocks = jnp.moveaxis(by_device, axis + 1, 0).reshape(count, *shape[:axis], -1, *shape[axis + 1:])
        return constrain(blocks, None, *(RULES.get(axis) or None for axis in self.axes))


def scaled_init(residual_parts: int = 1) -> nnx.Initializer:
    """LeCun normal; parts that write to the residual stream shrink with their number (GPT-2's rule)."""
    return nnx.initializers.variance_scaling(1.0 / residual_parts, "fan_in", "normal")
