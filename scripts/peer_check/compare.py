"""Ours against a peer's: differences over all seeds, a verdict for each case, and the table."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from peer_check.cases import Case
from peer_check.inputs import Arrays
from peer_check.ours import Numbers

AGREES, EXPLAINED, UNEXPLAINED, STALE = "agree", "differ", "UNEXPLAINED", "AGREE AGAINST EXPECTATION"


@dataclasses.dataclass(frozen=True)
class Finding:
    """What one case showed.

    Attributes:
      peer: its name.
      place: file:line of the peer's code.
      case: what was compared.
      loss: largest difference of the loss, or of advantages, relative to the largest entry of ours over all seeds.
      gradient: the same for the gradient; None where there is none.
      bridged: the largest difference of any number once the cause is copied into ours; None without a bridge.
      verdict: AGREES; EXPLAINED when they differ and the bridge agrees; UNEXPLAINED; or STALE, when a case whose
        cause is given agrees all the same.
    """

    peer: str
    place: str
    case: Case
    loss: float
    gradient: float | None
    bridged: float | None
    verdict: str

    @property
    def expected(self) -> bool:
        return self.verdict in (AGREES, EXPLAINED)


def difference(mine: Sequence[Arrays], theirs: Sequence[Arrays]) -> dict[str, float]:
    """name -> largest |mine - theirs| over largest |mine|, over seeds; what is NaN in mine is not compared.

    A peer's NaN is an infinite difference; an array that was nowhere compared is left out.

    Raises:
      ValueError: a name or a shape that the two do not share.
    """
    found = {}
    for name in mine[0]:
        if any(name not in each or np.shape(each[name]) != np.shape(own[name])
               for own, each in zip(mine, theirs, strict=True)):
            raise ValueError(f"{name} of the peer is missing or has another shape than ours: {np.shape(mine[0][name])}")
        own, other = (np.concatenate([np.ravel(each[name]) for each in side]) for side in (mine, theirs))
        compared = ~np.isnan(own)
        if compared.any():
            gap = np.abs(own - other)[compared]
            found[name] = float(np.where(np.isnan(gap), np.inf, gap).max() / max(np.abs(own[compared]).max(), 1e-30))
    return found


def judge(peer: str, place: str, case: Case, inputs: Sequence[Arrays], theirs: Sequence[Arrays]) -> Finding:
    """Computes our side of a case for every seed and compares."""
    def against(numbers: Numbers) -> dict[str, float]:
        return difference([numbers(arrays) for arrays in inputs], theirs)

    found = against(case.ours)
    values = [gap for name, gap in found.items() if name != "gradient"]
    bridged = None if case.bridge is None else max(against(case.bridge).values())
    verdict = verdict_of(max(found.values()), bridged, case.tolerance)
    return Finding(peer, place, case, max(values, default=float("nan")), found.get("gradient"), bridged, verdict)


def verdict_of(gap: float, bridged: float | None, tolerance: float) -> str:
    """The verdict for a difference, the difference after the bridge (None: they must agree), and what is allowed."""
    if gap <= tolerance:
        return AGREES if bridged is None else STALE
    return EXPLAINED if bridged is not None and bridged <= tolerance else UNEXPLAINED


def table(findings: Sequence[Finding]) -> str:
    """Markdown, one finding a row."""
    lines = ["| peer | method | its code | loss | gradient | verdict | cause | follows the paper | after the cause |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for each in findings:
        cells = (each.peer, each.case.method, each.place, number(each.loss), number(each.gradient), each.verdict,
                 each.case.cause, each.case.follows, number(each.bridged))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def number(value: float | None) -> str:
    """Two digits; empty for None and NaN."""
    return "" if value is None or np.isnan(value) else f"{value:.1e}"


def summary(findings: Sequence[Finding]) -> str:
    """How many of each verdict."""
    counts = {verdict: sum(each.verdict == verdict for each in findings)
              for verdict in (AGREES, EXPLAINED, UNEXPLAINED, STALE)}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) or "nothing compared"
