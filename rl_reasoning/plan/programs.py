"""The two programs of a run, decode and update, as shapes on a slice's devices; nothing is allocated."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from rl_reasoning import optim
from rl_reasoning.algorithms import Algorithm
from rl_reasoning.config import RL, Sampling
from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.models.cache import empty_cache
from rl_reasoning.models.decoder import initialize, unstack_layers
from rl_reasoning.parallel import Layout, Shards
from rl_reasoning.parallel.rules import BATCH, TENSOR
from rl_reasoning.sampling import decode
from rl_reasoning.sampling.rules import make_rules
from rl_reasoning.sampling.weights import shardings
from rl_reasoning.training.batch import TrainBatch, shardings_of_batch
from rl_reasoning.training.state import TrainState, start
from rl_reasoning.training.states import memory_of
from rl_reasoning.training.update import make_update


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What is planned for.

    Attributes:
      config: the policy. rl: the settings of its training. algorithm: what it is trained by.
      prompt_tokens: longest prompt.
    """

    config: DecoderConfig
    rl: RL
    algorithm: Algorithm
    prompt_tokens: int

    @property
    def row_length(self) -> int:
        """Tokens of a packed row of the update."""
        return self.rl.row_length or self.prompt_tokens + self.rl.samples * self.rl.max_tokens

    @property
    def answers(self) -> int:
        """Of a rollout."""
        return self.rl.prompts * self.rl.samples

    def rows(self, shards: int) -> int:
        """Packed rows of a micro-batch on each shard, if every answer has the most tokens."""
        groups = self.rl.prompts // (self.rl.minibatches * self.rl.microbatches)
        fit = max(1, (self.row_length - self.prompt_tokens) // self.rl.max_tokens)
        answers = -(-groups * self.rl.samples // shards)
        return -(-answers // min(fit, self.rl.samples))


@dataclasses.dataclass(frozen=True)
class Program:
    """What can be compiled: a jitted function and the shapes of its arguments.

    Attributes:
      tokens: that a run of it handles, on all devices: drawn by one turn of decoding, or answer tokens of an update.
      arguments: bytes on a device of each kind of argument.
      flops: 2 a weight and token forward, 6 with the backward pass: what a model needs, on all devices.
      stays: bytes on a device that lie there while the other program runs: training state, or the sampler's weights.
      kernels: products' operations on a device that the compiled program's text does not show, as of rows and caches
        that are full of one segment.
    """

    function: Any
    shapes: tuple[Any, ...]
    tokens: int
    arguments: dict[str, float]
    flops: float
    stays: float
    kernels: float = 0.0


def weights(config: DecoderConfig) -> int:
    """Weights that a token is multiplied with: those of the layers and of the output head."""
    shapes = jax.eval_shape(lambda: initialize(config.plain(), jax.random.key(0)))
    head = config.vocabulary * config.width
    return head + sum(leaf.size for leaf in jax.tree.leaves(shapes["layers"]))


def update_program(sizes: Sizes, layout: Layout) -> Program:
    """The update of a mini-batch in which every answer has the most tokens."""
    rl, algorithm, config = sizes.rl, sizes.algorithm, sizes.config
    critic = algorithm.critic.model if algorithm.critic else None
    optimizer = optim.policy_and_critic(rl.optimizer, rl.steps * rl.epochs * rl.minibatches, 1.0)
    objective = algorithm.objective(rl.max_tokens, reference=rl.reference or algorithm.kl.coefficient > 0)
    update = make_update(config, objective, optimizer, temperature=rl.temperature, key=jax.random.key(0),
                         memory=memory_of(rl), layout=layout)
    state = jax.eval_shape(lambda: start(config, initialize(config, jax.random.key(0)), optimizer, critic=critic))
    batch = _batch(sizes, layout.shards)
    placed = _on(state, layout.parameters(state)), _on(batch, shardings_of_batch(layout))
    answers = sizes.answers // rl.minibatches
    tokens, processed = answers * rl.max_tokens, batch.tokens.size
    held = _held(placed[0], placed[1])
    return Program(update, placed, tokens, held, 6.0 * weights(config) * processed,
                   held["parameters"] + held["optimizer"], _splash_flops(sizes, batch.tokens.shape) / layout.mesh.size)


def _splash_flops(sizes: Sizes, packed: tuple[int, ...]) -> float:
    """Two products forward, seven in the two parts of the backward pass; two more each time a layer is made again."""
    config, rows = sizes.config, packed[0] * packed[1]
    if config.attention == "xla":
        return 0.0
    products = 9 + 2 * {"none": 0, "full": 2}.get(sizes.rl.remat, 1)
    return products * 2.0 * config.layers * rows * config.heads * config.head_dim * packed[2]**2 / 2


def first_policy(sizes: Sizes, layout: Layout) -> float:
    """Bytes on a device of the policy that training starts from, which a run keeps: it is the reference."""
    shapes = jax.eval_shape(lambda: initialize(sizes.config, jax.random.key(0)))
    return _bytes(_on(shapes, layout.parameters(shapes)))


def _batch(sizes: Sizes, shards: Shards) -> TrainBatch:
    rl = sizes.rl
    parts, rows = rl.microbatches, sizes.rows(shards.rows) * shards.rows
    count = -(-sizes.answers // (rl.minibatches * parts * shards.answers)) * shards.answers
    packed = (parts, rows, sizes.row_length + -sizes.row_length % shards.context)
    shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("tokens", "positions", "segments", "branches"), packed)
    shapes |= dict.fromkeys(("rows", "lengths", "groups", "places", "rewards"), (parts, count))
    shapes["listed"] = parts, shards.answers, count // shards.answers * rl.max_tokens
    types = dict.fromkeys((*set(shapes) - {"rewards"}, "sources", "ids"), jnp.int32)
    arrays: dict[str, Any] = {name: jax.ShapeDtypeStruct(shapes.get(name, (parts, count, rl.max_tokens)),
                                                    types.get(name, jnp.float32)) for name in TrainBatch._fields}
    return TrainBatch(**arrays)


def decode_program(sizes: Sizes, layout: Layout, slots: int = 0) -> Program:
    """One turn of the decode loop with every slot at work, as the engine runs it.

    Args: slots: answers in work at once; 0 is all of a rollout.
    """
    config, rl = sizes.config, sizes.rl
    slots = -(-(slots or sizes.answers) // layout.shards.answers) * layout.shards.answers
    parameters = jax.eval_shape(lambda: unstack_layers(config, initialize(config, jax.random.key(0))))
    if config.precision.compute == "bfloat16":
        parameters = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.bfloat16), parameters)
    sampling = Sampling(temperature=rl.temperature, top_p=rl.top_p, top_k=rl.top_k, max_tokens=rl.max_tokens)
    rules = make_rules(sampling, config.vocabulary, 0)
    state = _slots(sizes, slots)
    heads = TENSOR if config.kv_heads % layout.mesh.shape[TENSOR] == 0 else None

    def sharding(leaf: jax.ShapeDtypeStruct) -> NamedSharding:
        axes = (BATCH, heads) if leaf.ndim >= 4 else (BATCH,) if leaf.ndim else ()
        return NamedSharding(layout.mesh, PartitionSpec(*axes))

    def loop(parameters: Any, slots: decode.Slots) -> decode.Slots:
        with layout():
            return decode.decode(config, parameters, slots, rules, np.int32(rl.max_tokens), np.int32(0))

    placed = _on(parameters, shardings(layout, parameters)), _on(state, jax.tree.map(sharding, state))
    run = jax.jit(loop, donate_argnums=1)
    held = {"parameters": _bytes(placed[0]), "cache": _bytes(placed[1])}
    places = state.caches[0].places
    kernels = 4.0 * config.layers * slots * config.heads * config.head_dim * places / layout.mesh.size
    return Program(run, placed, slots, held, 2.0 * weights(config) * slots, held["parameters"],
                   kernels if config.decode_attention == "kernel" else 0.0)


def _slots(sizes: Sizes, slots: int) -> decode.Slots:
    config, rl = sizes.config, sizes.rl
    caches = jax.eval_shape(lambda: empty_cache(config, slots, sizes.prompt_tokens + rl.max_tokens))
    array: Any = jax.ShapeDtypeStruct  # stands for one
    row, table = array((slots,), jnp.int32), array((slots, rl.max_tokens), jnp.int32)
    return decode.Slots(
        turn=array((), jnp.int32), caches=caches, prompts=[], last=row,
        before=row, count=row, limit=row, born=row, ids=table, logprobs=array(table.shape, jnp.float32),
        uniforms=array(table.shape, jnp.float32), reason=array((slots,), jnp.int8))


def _on(shapes: Any, shardings: Any) -> Any:
    return jax.tree.map(lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), shapes,
                        shardings)


def _bytes(tree: Any) -> float:
    """On one device."""
    return float(sum(np.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
                     for leaf in jax.tree.leaves(tree)))


def _held(state: TrainState, batch: TrainBatch) -> dict[str, float]:
    return {"parameters": _bytes((state.parameters, state.frozen)), "optimizer": _bytes(state.optimizer),
            "batch": _bytes(batch)}
