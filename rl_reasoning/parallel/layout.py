"""The devices of a run as a mesh, and the shardings of everything that lies on it."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rl_reasoning.arrays import Array
from rl_reasoning.config import Mesh as MeshSettings
from rl_reasoning.parallel.exchange import put
from rl_reasoning.parallel.rules import AXES, BATCH, CONTEXT, ROWS, RULES, TENSOR, axes_of, spec

WHOLE = "whole"  # how a person writes that an axis is not split


class Shards(NamedTuple):
    """Into how many parts devices split a batch: its rows, and the length of each row."""

    rows: int = 1
    context: int = 1

    @property
    def answers(self) -> int:
        """Parts of the answers: those to a part of the rows are shared out among the devices that have it."""
        return self.rows * self.context


ONE_PART = Shards()


@dataclasses.dataclass(frozen=True)
class Layout:
    """A mesh, and the table of what is split along which of its axes.

    Attributes:
      mesh: of the axes `rules.AXES`.
      rules: as `rules.RULES`.
    """

    mesh: Mesh
    rules: Mapping[str, str] = dataclasses.field(default_factory=lambda: RULES)

    @property
    def shards(self) -> Shards:
        """Into how many parts a batch is split."""
        return Shards(math.prod(self.mesh.shape[axis] for axis in ROWS), self.mesh.shape[CONTEXT])

    @property
    def whole(self) -> NamedSharding:
        """Every device holds all of an array."""
        return NamedSharding(self.mesh, PartitionSpec())

    def parameters(self, tree: Any) -> Any:
        """The sharding of each leaf of a tree whose leaves have the names of a decoder's parameters.

        So of parameters themselves, of a `TrainState`, of anything that mirrors them; other leaves stay whole.

        Args: tree: arrays, or their shapes.
        Raises: ValueError: see `rules.spec`.
        """
        def one(path: tuple[Any, ...], leaf: Any) -> NamedSharding:
            names = [str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path]
            return self._parameter(names, leaf.ndim)

        return jax.tree_util.tree_map_with_path(one, tree)

    def place_one(self, path: Sequence[str], array: Any) -> jax.Array:
        """One parameter on the mesh, by the names that lead to it: what `place` does with a whole tree."""
        return put(array, self._parameter(path, array.ndim))

    def _parameter(self, path: Sequence[str], rank: int) -> NamedSharding:
        return NamedSharding(self.mesh, spec(axes_of(path, rank), self.rules, ".".join(path)))

    def answers(self, axis: int = 0) -> NamedSharding:
        """The answers of a batch, on this axis of its arrays, split over the devices."""
        return NamedSharding(self.mesh, PartitionSpec(*[None] * axis, BATCH))

    def rows(self, axis: int = 0) -> NamedSharding:
        """The packed rows of a batch, on this axis and the next of its arrays, split over the devices."""
        return NamedSharding(self.mesh, PartitionSpec(*[None] * axis, ROWS, CONTEXT))

    def place(self, parameters: Any) -> Any:
        """Parameters, or what mirrors them, on the mesh."""
        return put(parameters, self.parameters(parameters))

    def spread(self, batch: Any, shardings: Any) -> Any:
        """A batch where its shardings say. With one process `jit` does that by itself, and sooner."""
        return batch if self.whole.is_fully_addressable else put(batch, shardings)

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """While something is traced: `constrain` and `parts` know the mesh."""
        with jax.sharding.use_abstract_mesh(self.mesh.abstract_mesh):
            yield


def make_layout(settings: MeshSettings, sizes: Mapping[str, int],
                devices: Sequence[Any] | None = None, *, even_alone: bool = False) -> Layout | None:
    """The layout that the settings ask for; None where one device does it all.

    Args:
      sizes: meaning of an axis -> into how many equal parts it can be cut at most (`architecture.sizes`).
      devices: those of this run, by default all there are.
      even_alone: one device has a layout, too.

    Raises:
      ValueError: there are not enough devices, a rule is unknown, or a size is not a multiple of the mesh axis that
        would split it; the message says what would fit.
    """
    devices = list(jax.devices()) if devices is None else list(devices)
    shape = _shape(settings, len(devices))
    if math.prod(shape.values()) == 1 and not even_alone:
        return None
    rules = _rules(settings.rules)
    for axis, size in sizes.items():
        _check_divides(axis, size, rules[axis], shape.get(rules[axis], 1))
    count = math.prod(shape.values())
    automatic = (jax.sharding.AxisType.Auto,) * len(AXES)
    try:
        mesh = jax.make_mesh(tuple(shape.values()), AXES, automatic, devices=devices[:count])
    except NotImplementedError:  # an axis of the mesh is no product of whole axes of the slice: it takes a part of one
        placed = mesh_utils.create_device_mesh(tuple(shape.values()), devices[:count], allow_split_physical_axes=True)
        mesh = Mesh(placed, AXES, axis_types=automatic)
    return Layout(mesh, rules)


def make_layouts(settings: MeshSettings, sizes: Mapping[str, int]) -> tuple[Layout | None, Layout | None]:
    """The trainer's layout of all devices of this run, and the sampler's, None where it shares the trainer's.

    Raises: ValueError: see `make_layout`; or no device is left to train on.
    """
    devices, own = list(jax.devices()), settings.sampler
    if not own:
        return make_layout(settings, sizes, devices), None
    if own >= len(devices):
        raise ValueError(f"mesh.sampler={own}: {len(devices)} device(s) are there and one at least must train: give "
                         f"at most {len(devices) - 1}; to try it on a CPU, set JAX_NUM_CPU_DEVICES={own + 1} in the "
                         "environment")
    alone = dataclasses.replace(settings, data=0, fsdp=1, context=1, tensor=settings.sampler_tensor)
    return make_layout(settings, sizes, devices[:-own]), make_layout(alone, sizes, devices[-own:], even_alone=True)


def constrain(x: Any, *axes: Any) -> jax.Array:
    """Says, inside a traced function, along which mesh axes an array is split; nothing happens without a mesh."""
    if jax.sharding.get_abstract_mesh().empty:
        return x
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*axes))


def parts(axes: Sequence[str]) -> int:
    """Into how many parts these mesh axes split something where this is traced: 1 without a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    return 1 if mesh.empty else math.prod(mesh.shape[axis] for axis in axes)


def fold(x: Array) -> Any:
    """[B, L, ...] of packed rows -> [B L, ...], in the order in which devices have them (`rules.BATCH`)."""
    rows, context = _cut(*x.shape[:2])
    cut = x.reshape(rows, x.shape[0] // rows, context, x.shape[1] // context, *x.shape[2:])
    return (cut.swapaxes(1, 2) if context > 1 else cut).reshape(-1, *x.shape[2:])


def unfold(x: jax.Array, rows: int, length: int) -> jax.Array:
    """What `fold` folded, of so many rows: [B L, ...] -> [B, L, ...]."""
    cut, rest = _cut(rows, length), x.shape[1:]
    if cut.context > 1:
        x = x.reshape(*cut, rows // cut.rows, length // cut.context, *rest).swapaxes(1, 2)
    return x.reshape(rows, length, *rest)


def _cut(rows: int, length: int) -> Shards:
    """How rows are cut where this is traced; not at all where something does not divide."""
    found = Shards(parts(ROWS), parts((CONTEXT,)))
    return found if rows % found.rows == 0 and length % found.context == 0 else ONE_PART


def attention_by_device(function: Callable[..., Any], queries: jax.Array, keys: jax.Array, values: jax.Array,
                        seen: Any, *, rows: tuple[str, ...], along: tuple[str, ...] = ()) -> jax.Array:
    """An attention function, such as a kernel, that no compiler can split: each device has its rows, heads and queries.

    Args:
      queries: [B, L, K, ...]. keys, values: [B, K, ...]. seen: arrays [B, ...], or [B, L, ...] if `along` splits L.
      rows, along: the mesh axes that split B and L, where they divide them; `tensor` splits K.
    """
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return function(queries, keys, values, seen)
    by_row, by_query = _dividing(rows, len(queries)), _dividing(along, queries.shape[1]) if along else None
    by_head = _dividing((TENSOR,), keys.shape[1])
    at_queries, at_keys = PartitionSpec(by_row, by_query, by_head), PartitionSpec(by_row, by_head)
    split = jax.shard_map(function, mesh=mesh, in_specs=(at_queries, at_keys, at_keys, PartitionSpec(by_row, by_query)),
                          out_specs=at_queries, check_vma=False)
    return split(queries, keys, values, seen)


def _dividing(axes: tuple[str, ...], size: int) -> tuple[str, ...] | None:
    """These mesh axes, where they cut something into equal parts; None, which leaves it whole, where they do not."""
    return axes if size % parts(axes) == 0 else None


def _shape(settings: MeshSettings, available: int) -> dict[str, int]:
    """Devices along each axis; one axis may be 0, which is as many as the others leave."""
    shape = {axis: getattr(settings, axis) for axis in AXES}
    fixed = math.prod(size for size in shape.values() if size)
    shape = {axis: size or max(1, available // fixed) for axis, size in shape.items()}
    needed = math.prod(shape.values())
    if needed > available:
        raise ValueError(f"mesh: {' x '.join(f'{axis}={size}' for axis, size in shape.items())} needs {needed} devices "
                         f"and there are {available}: give a smaller mesh; to try it on a CPU, set "
                         f"JAX_NUM_CPU_DEVICES={needed} in the environment")
    return shape


def _rules(changes: Mapping[str, Any]) -> dict[str, str]:
    for name, value in changes.items():
        if name not in RULES:
            raise ValueError(f"mesh.rules.{name}={value!r}: no such axis; there are {', '.join(RULES)}")
        if value not in (*AXES, WHOLE):
            raise ValueError(f"mesh.rules.{name}={value!r}: must be one of {', '.join(AXES)}, or {WHOLE}")
    return {**RULES, **{name: "" if value == WHOLE else value for name, value in changes.items()}}


def _check_divides(axis: str, size: int, mesh_axis: str, parts: int) -> None:
    if size % parts:
        fits = ", ".join(str(n) for n in range(1, parts) if size % n == 0)
        raise ValueError(f"mesh.{mesh_axis}={parts}: {axis} = {size} cannot be cut into {parts} equal parts; give "
                         f"mesh.{mesh_axis} one of {fits}, or leave the axis in one piece with "
                         f"--config.mesh.rules.{axis}={WHOLE}")
