"""Compiles a run's programs for a TPU slice and says what they would take; what is estimated is called so."""

import dataclasses
import itertools
import math
import re
import time
from collections.abc import Iterator, Sequence
from typing import Any

import jax

from rl_reasoning.config import Mesh
from rl_reasoning.parallel import Layout, make_layout
from rl_reasoning.plan import hlo
from rl_reasoning.plan.chips import GIB, Chip
from rl_reasoning.plan.programs import Program, Sizes, decode_program, first_policy, update_program

_TOO_MUCH = re.compile(r"\(([\d.]+)([KMGT])\) exceeds available HBM")
_UNITS = {"K": 2**10, "M": 2**20, "G": GIB, "T": 2**40}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What a program would take, on each chip.

    Attributes:
      memory: bytes by kind; "total" is what has to fit. "beside it" are the first policy and, while decoding, the
        training state, or in an update the sampler's weights; "in its host's memory" is no part of the total, and the
        time to send it there and back is in no estimate. fits: it does. compile_seconds: here, with lowering.
      flops, bytes, collectives: see `hlo.Work`; 0 where there is no program, since it does not fit, or none that can
        be read.
      seconds: estimated, the slowest of flops, bytes and links at the chip's peak, all overlapped; bytes are an upper
        figure, so it is no bound where they are slowest. slowest: "compute", "memory" or "links".
      tokens: see `Program`. tokens_per_second: estimated, of the slice. utilisation: estimated, the model's own
        flops over what the chips could do in that time.
    """

    memory: dict[str, float]
    fits: bool
    compile_seconds: float
    flops: float = 0.0
    bytes: float = 0.0
    collectives: dict[str, float] = dataclasses.field(default_factory=dict)
    seconds: float = math.inf
    slowest: str = ""
    tokens: int = 0
    tokens_per_second: float = 0.0
    utilisation: float = 0.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """Both programs of a run on one mesh.

    Attributes:
      turns: of decoding in a step, if every answer has the most tokens. updates: in a step.
      change: the settings that differ from those asked for.
    """

    mesh: dict[str, int]
    decode: Compiled
    update: Compiled
    turns: int
    updates: int
    change: str = ""

    @property
    def fits(self) -> bool:
        """Both programs fit."""
        return self.decode.fits and self.update.fits

    @property
    def step_seconds(self) -> float:
        """Estimated, of the decoding and the updates of a step in which every answer has the most tokens."""
        return self.turns * self.decode.seconds + self.updates * self.update.seconds


class Slice:
    """The chips that are planned for, and what was compiled for them: settings that leave a program alone cost nothing.

    Attributes:
      chip: one of them. devices: all.
    """

    def __init__(self, chip: Chip, devices: Sequence[Any]) -> None:
        self.chip, self.devices = chip, devices
        self._compiled: dict[tuple[str, Any], Compiled] = {}

    def compiled(self, program: Program, layout: Layout, beside: float = 0.0) -> Compiled:
        """What a program would take where `beside` bytes of others lie on each chip while it runs."""
        began = time.perf_counter()
        lowered = program.function.lower(*program.shapes)
        key = lowered.as_text(), layout.mesh
        if key not in self._compiled:
            self._compiled[key] = measure(program, lowered, self.chip, layout, began)
        alone = self._compiled[key]
        memory = {**alone.memory, "beside it": beside, "total": alone.memory["total"] + beside}
        return dataclasses.replace(alone, memory=memory, fits=alone.fits and memory["total"] <= self.chip.memory)


def plan(sizes: Sizes, mesh: Mesh, onto: Slice, slots: int = 0, change: str = "") -> Plan:
    """Compiles decode and update for a slice.

    Args: slots: answers in work at once; 0 is all of a rollout.
    Raises: ValueError: the mesh does not go with the devices or the policy.
    """
    layout, count = make_layout(mesh, sizes.config.sizes, onto.devices, even_alone=True), len(onto.devices)
    assert layout
    if layout.mesh.size != count:
        raise ValueError(f"the mesh has {layout.mesh.size} devices and the slice {count}: give "
                         "mesh.data, mesh.fsdp, mesh.context and mesh.tensor whose product is "
                         f"{count}, or one of them 0")
    decode, update = decode_program(sizes, layout, slots), update_program(sizes, layout)
    first, rl = first_policy(sizes, layout), sizes.rl
    return Plan(dict(layout.mesh.shape), onto.compiled(decode, layout, update.stays + first),
                onto.compiled(update, layout, decode.stays + first),
                rl.max_tokens * -(-sizes.answers // decode.tokens), rl.minibatches * rl.epochs, change)


def measure(program: Program, lowered: Any, chip: Chip, layout: Layout, began: float) -> Compiled:
    """Compiles one program, which may turn out not to fit even alone; began: when it began to be lowered."""
    try:
        compiled = lowered.compile()
    except Exception as error:  # of jaxlib; every other cause than memory goes on
        needed = _TOO_MUCH.search(str(error))
        if not needed:
            raise
        total = float(needed[1]) * _UNITS[needed[2]]
        return Compiled({**program.arguments, "total": total}, False, time.perf_counter() - began,
                        tokens=program.tokens)
    found = compiled.memory_analysis()
    total = (found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
             + found.temp_size_in_bytes)
    memory = {**program.arguments, "outputs, not in place": found.output_size_in_bytes - found.alias_size_in_bytes,
              "temporaries": found.temp_size_in_bytes, "total": total}
    if found.host_temp_size_in_bytes:
        memory["in its host's memory"] = found.host_temp_size_in_bytes
    try:
        text = compiled.as_text()
    except jax.errors.JaxRuntimeError:  # jaxlib cannot read back some of what libtpu compiles for v5p
        return Compiled(memory, total <= chip.memory, time.perf_counter() - began, tokens=program.tokens)
    work = hlo.read(text)
    work.flops += program.kernels
    times = {"compute": work.flops / chip.flops, "memory": work.bytes / chip.bandwidth,
             "links": sum(work.collectives.values()) / chip.links}
    slowest = max(times, key=times.__getitem__)
    seconds = max(times[slowest], 1e-9)
    return Compiled(memory, total <= chip.memory, time.perf_counter() - began, work.flops, work.bytes, work.collectives,
                    seconds, slowest, program.tokens, program.tokens / seconds,
                    program.flops / (seconds * chip.flops * layout.mesh.size))


def sweep(sizes: Sizes, onto: Slice, slots: int = 0, context: int = 1) -> Iterator[Plan]:
    """A plan for each mesh that divides the devices and the policy, as they are compiled.

    Args: context: into how many parts all of them cut a row.
    """
    count = len(onto.devices) // context
    powers = [2**n for n in range(count.bit_length()) if count % 2**n == 0]
    for data, tensor in itertools.product(powers, powers):
        mesh = Mesh(data=data, fsdp=0, context=context, tensor=tensor)
        if possible(sizes, mesh, onto):
            cut = f"mesh.context={context}, " if context > 1 else ""
            yield plan(sizes, mesh, onto, slots, f"mesh.data={data}, {cut}mesh.tensor={tensor}, mesh.fsdp=0")


def possible(sizes: Sizes, mesh: Mesh, onto: Slice) -> bool:
    """Whether the mesh divides the devices and the policy, and lies along the axes of the slice."""
    try:
        layout = make_layout(mesh, sizes.config.sizes, onto.devices, even_alone=True)
    except ValueError:
        return False
    return layout is not None and layout.mesh.size == len(onto.devices) and sizes.config.kv_heads % mesh.tensor == 0
