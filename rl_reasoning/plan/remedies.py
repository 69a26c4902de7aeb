"""What to change where a run does not fit on a slice: settings that need less memory, tried."""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

from rl_reasoning.config import Mesh
from rl_reasoning.plan.planner import Plan, Slice, plan, possible
from rl_reasoning.plan.programs import Sizes

_NO_BETTER = 1.02  # a change may cost this much more by itself and help the next


@dataclasses.dataclass(frozen=True)
class Settings:
    """What a change is made to. change: those made so far, in the words of a command line."""

    sizes: Sizes
    mesh: Mesh
    slots: int
    change: str = ""

    def with_rl(self, word: str, slots: int = 0, **values: Any) -> "Settings":
        """Others of the training."""
        rl = dataclasses.replace(self.sizes.rl, **values)
        return self._named(word, sizes=dataclasses.replace(self.sizes, rl=rl), slots=slots or self.slots)

    def with_mesh(self, axis: str, size: int) -> "Settings":
        """More devices on an axis, and all that are left on fsdp."""
        values: dict[str, Any] = {"data": 1, "fsdp": 0, axis: size}
        return self._named(f"mesh.{axis}={size}", mesh=dataclasses.replace(self.mesh, **values))

    def _named(self, word: str, **values: Any) -> "Settings":
        change = ", ".join(filter(None, (self.change, word)))
        return dataclasses.replace(self, change=change, **values)


def remedies(sizes: Sizes, mesh: Mesh, onto: Slice, asked: Plan, slots: int = 0) -> list[Plan]:
    """Three other settings, tried, for a plan that does not fit; those that use least first.

    Changes are added to one another, but for those that make it larger, until one of three or more fits; where all
    together do not, the last three tell.
    """
    settings, least, tried = Settings(sizes, mesh, slots), _most(asked), list[Plan]()
    for change in _changes(settings):
        other = change(settings)
        if not other or not possible(other.sizes, other.mesh, onto):
            continue
        tried.append(plan(other.sizes, other.mesh, onto, other.slots, other.change))
        if len(tried) >= 3 and any(one.fits for one in tried[-3:]):
            break
        if _most(tried[-1]) <= least * _NO_BETTER:
            settings, least = other, _most(tried[-1])
    return sorted(tried[-3:], key=_most)


def _most(one: Plan) -> float:
    return max(one.decode.memory["total"], one.update.memory["total"])


def _changes(asked: Settings) -> Iterator[Callable[[Settings], Settings | None]]:
    """The gentlest first; None where it would change nothing. Whether a mesh is possible is not asked here."""
    yield _blocks_made_again
    yield _blocks_of_mlps
    yield _shortest_rows
    for factor in (4, 16, 64):
        yield functools.partial(_parts, asked=asked, factor=factor)
    yield _offloaded
    for size in (2, 4, 8):
        yield functools.partial(_tensor, size=size)
    for size in (2, 4, 8):
        yield functools.partial(_context, size=size)


def _blocks_made_again(now: Settings) -> Settings | None:
    return now.with_rl("rl.remat=block", remat="block") if now.sizes.rl.remat in ("none", "dots") else None


def _blocks_of_mlps(now: Settings) -> Settings | None:
    if now.sizes.rl.mlp_blocks != 1 or now.sizes.config.mlp % 32:  # 4 blocks on each of 8 slices, which may come to it
        return None
    return now.with_rl("rl.mlp_blocks=4", mlp_blocks=4)


def _shortest_rows(now: Settings) -> Settings | None:
    shortest = now.sizes.prompt_tokens + now.sizes.rl.max_tokens
    return now.with_rl(f"rl.row_length={shortest}", row_length=shortest) if now.sizes.row_length > shortest else None


def _parts(now: Settings, asked: Settings, factor: int) -> Settings | None:
    """Fewer rows and fewer slots at once."""
    rl, held = asked.sizes.rl, asked.slots or asked.sizes.answers
    groups = rl.prompts // rl.minibatches
    parts, fewer = min(rl.microbatches * factor, groups), max(1, held // factor)
    if groups % parts or (parts, fewer) == (now.sizes.rl.microbatches, now.slots):
        return None
    return now.with_rl(f"rl.microbatches={parts} and {fewer} slots", slots=fewer, microbatches=parts)


def _offloaded(now: Settings) -> Settings | None:
    """Less than "full" keeps, and without making layers a third time."""
    return now.with_rl("rl.remat=offload", remat="offload") if now.sizes.rl.remat != "offload" else None


def _tensor(now: Settings, size: int) -> Settings | None:
    return now.with_mesh("tensor", size) if size > now.mesh.tensor else None


def _context(now: Settings, size: int) -> Settings | None:
    cuts = now.sizes.config.attention == "xla" and size > now.mesh.context
    return now.with_mesh("context", size) if cuts else None
