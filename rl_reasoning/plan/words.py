"""A plan as lines for people and as a record for programs."""

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

from rl_reasoning.plan.chips import GIB, Chip
from rl_reasoning.plan.planner import Compiled, Plan


def lines(plan: Plan, chip: Chip) -> Iterator[str]:
    """What people read."""
    shape = " x ".join(f"{axis}={size}" for axis, size in plan.mesh.items())
    yield f"mesh {shape}{f' ({plan.change})' if plan.change else ''}"
    for name, one in (("decode, one token of every slot", plan.decode), ("update of a mini-batch", plan.update)):
        yield from _program(name, one, chip)
    if plan.step_seconds < math.inf:
        seconds = f"{plan.step_seconds:,.0f}" if plan.step_seconds >= 10 else f"{plan.step_seconds:.3g}"
        yield (f"  a step, if every answer has the most tokens, without prefilling and scoring: estimated {seconds} s, "
               f"{plan.turns:,} turns of decoding and {plan.updates} updates")


def _program(name: str, one: Compiled, chip: Chip) -> Iterator[str]:
    parts = ", ".join(f"{kind} {size / GIB:.2f}" for kind, size in one.memory.items() if kind != "total")
    verdict = "fits" if one.fits else "DOES NOT FIT"
    yield (f"  {name}: {verdict}, {one.memory['total'] / GIB:.2f} of {chip.memory / GIB:.2f} GiB a chip ({parts}); "
           f"compiled in {one.compile_seconds:.0f} s")
    if not one.flops:
        if one.fits:
            yield "    no estimate: jaxlib cannot read the compiled program back"
        return
    sent = ", ".join(f"{kind} {size / 1e9:.3g} GB" for kind, size in sorted(one.collectives.items())) or "none"
    yield f"    a chip: {one.flops / 1e12:.4g} TFLOP, {one.bytes / 1e9:.4g} GB read and written; sent: {sent}"
    yield (f"    estimated: {one.seconds:.4g} s, set by {one.slowest}; {one.tokens_per_second:,.0f} tokens/s on the "
           f"slice, model-FLOP utilisation {100 * one.utilisation:.1f} %")


def record(plan: Plan) -> dict[str, Any]:
    """What `--json` prints."""
    return {"mesh": plan.mesh, "fits": plan.fits, "change": plan.change,
            "turns": plan.turns, "updates": plan.updates, **_finite({"step_seconds": plan.step_seconds}),
            **{name: _finite(dataclasses.asdict(getattr(plan, name))) for name in ("decode", "update")}}


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    return {name: None if value == float("inf") else value for name, value in values.items()}
