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
        time to send it there and back is in no estimate. fits: it does. compile_seconds: here, on this machine.
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


def plan(sizes: Sizes, mesh: Mesh, chip: Chip, devices: Sequence[Any], slots: int = 0, change: str = "") -> Plan:
    """Compiles decode and update for these devices.

    Args: slots: answers in work at once; 0 is all of a rollout.
    Raises: ValueError: the mesh does not go with the devices or the policy.
    """
    layout = make_layout(mesh, sizes.config.sizes, devices, even_alone=True)
    assert layout
    if layout.mesh.size != len(devices):
        raise ValueError(f"the mesh has {layout.mesh.size} devices and the slice {len(devices)}: give "
                         "mesh.data, mesh.fsdp, mesh.context and mesh.tensor whose product is "
                         f"{len(devices)}, or one of them 0")
    decode, update = decode_program(sizes, layout, slots), update_program(sizes, layout)
    first, rl = first_policy(sizes, layout), sizes.rl
    return Plan(dict(layout.mesh.shape), compile_program(decode, chip, layout, update.stays + first),
                compile_program(update, chip, layout, decode.stays + first),
                rl.max_tokens * -(-sizes.answers // decode.tokens), rl.minibatches * rl.epochs, change)


def compile_program(program: Program, chip: Chip, layout: Layout, beside: float = 0.0) -> Compiled:
    """Compiles one program, which may turn out not to fit.

    Args: beside: bytes on each chip that are not the program's and lie there while it runs.
    """
    began = time.perf_counter()
    try:
        compiled = program.function.lower(*program.shapes).compile()
    except Exception as error:  # of jaxlib; every other cause than memory goes on
        needed = _TOO_MUCH.search(str(error))
        if not needed:
            raise
        total = float(needed[1]) * _UNITS[needed[2]]
        return Compiled({**program.arguments, "beside it": beside, "total": total + beside}, False,
                        time.perf_counter() - began, tokens=program.tokens)
    found = compiled.memory_analysis()
    total = (found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
             + found.temp_size_in_bytes + beside)
    memory = {**program.arguments, "outputs, not in place": found.output_size_in_bytes - found.alias_size_in_bytes,
              "temporaries": found.temp_size_in_bytes, "beside it": beside, "total": total}
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


def sweep(sizes: Sizes, chip: Chip, devices: Sequence[Any], slots: int = 0, context: int = 1) -> Iterator[Plan]:
    """A plan for each mesh that divides the devices and the policy, as they are compiled.

    Args: context: into how many parts all of them cut a row.
    """
    count = len(devices) // context
    powers = [2**n for n in range(count.bit_length()) if count % 2**n == 0]
    for data, tensor in itertools.product(powers, powers):
        mesh = Mesh(data=data, fsdp=0, context=context, tensor=tensor)
        if _possible(sizes, mesh, devices):
            cut = f"mesh.context={context}, " if context > 1 else ""
            yield plan(sizes, mesh, chip, devices, slots, f"mesh.data={data}, {cut}mesh.tensor={tensor}, mesh.fsdp=0")


def _possible(sizes: Sizes, mesh: Mesh, devices: Sequence[Any]) -> bool:
    """Whether the mesh divides the devices and the policy, and lies along the axes of the slice."""
    try:
        layout = make_layout(mesh, sizes.config.sizes, devices, even_alone=True)
    except ValueError:
        return False
    return layout is not None and layout.mesh.size == len(devices) and sizes.config.kv_heads % mesh.tensor == 0


def remedies(sizes: Sizes, mesh: Mesh, chip: Chip, devices: Sequence[Any], slots: int = 0) -> list[Plan]:
    """Three other settings, tried, for a plan that does not fit; those that use least first.

    Changes are added to one another until one of three or more fits; where all together do not, the last three tell.
    """
    tried: list[Plan] = []
    for other, also, held, change in _changes(sizes, mesh, len(devices), slots):
        if not _possible(other, also, devices):
            continue
        tried.append(plan(other, also, chip, devices, held, change))
        if len(tried) >= 3 and tried[-1].fits:
            break
    return sorted(tried[-3:], key=lambda one: max(one.decode.memory["total"], one.update.memory["total"]))


def _changes(sizes: Sizes, mesh: Mesh, devices: int, slots: int) -> Iterator[tuple[Sizes, Mesh, int, str]]:
    """Settings that need less memory, the gentlest first; each keeps the changes before it."""
    rl, words = sizes.rl, []
    shortest = sizes.prompt_tokens + rl.max_tokens
    groups = rl.prompts // rl.minibatches

    def now(word: str) -> tuple[Sizes, Mesh, int, str]:
        words.append(word)
        return dataclasses.replace(sizes, rl=rl), mesh, slots, ", ".join(words)

    held = slots or sizes.answers
    if rl.remat in ("none", "dots"):
        rl = dataclasses.replace(rl, remat="block")
        yield now("rl.remat=block")
    if rl.mlp_blocks == 1 and sizes.config.mlp % 32 == 0:  # 4 blocks on each of 8 slices, which may come to it
        rl = dataclasses.replace(rl, mlp_blocks=4)
        yield now("rl.mlp_blocks=4")
    if sizes.row_length > shortest:
        rl = dataclasses.replace(rl, row_length=shortest)
        yield now(f"rl.row_length={shortest}")
    for factor in (4, 16, 64):
        parts, fewer = min(sizes.rl.microbatches * factor, groups), max(1, held // factor)
        if groups % parts == 0 and (parts, fewer) != (rl.microbatches, slots):
            rl, slots = dataclasses.replace(rl, microbatches=parts), fewer
            yield now(f"rl.microbatches={parts} and {slots} slots")
    if rl.remat != "offload":  # less than "full" keeps, and without making layers a third time
        rl = dataclasses.replace(rl, remat="offload")
        yield now("rl.remat=offload")
    for tensor in (2, 4, 8):
        if tensor > mesh.tensor and devices % tensor == 0 and sizes.config.kv_heads % tensor == 0:
            mesh = dataclasses.replace(mesh, data=1, fsdp=0, tensor=tensor)
            yield now(f"mesh.tensor={tensor}")
    for context in (2, 4, 8) if sizes.config.attention == "xla" else ():
        if context > mesh.context and devices % (mesh.tensor * context) == 0:
            mesh = dataclasses.replace(mesh, data=1, fsdp=0, context=context)
            yield now(f"mesh.context={context}")
