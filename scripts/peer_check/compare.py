"""Ours against a peer's: differences over all seeds, a verdict for each case, and the tables."""

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
      loss: largest difference of the loss, or of advantages, relative to the largest entry of ours over all seeds;
        None where only gradients are compared.
      gradient: the same for the gradient; None where there is none.
      bridged: the largest difference of any number once the cause is copied into ours; None without a bridge.
      verdict: AGREES; EXPLAINED when they differ and the bridge agrees; UNEXPLAINED; or STALE, when a case whose
        cause is given agrees all the same.
    """

    peer: str
    place: str
    case: Case
    loss: float | None
    gradient: float | None
    bridged: float | None
    verdict: str

    @property
    def expected(self) -> bool:
        return self.verdict in (AGREES, EXPLAINED)


def difference(mine: Sequence[Arrays], theirs: Sequence[Arrays]) -> dict[str, float]:
    """name -> largest |mine - theirs| over largest |mine|, over seeds, where mine is not masked; infinite for a NaN.

    Raises:
      ValueError: a name or a shape of mine that the peer's do not have.
    """
    found = {}
    for name in mine[0]:
        if any(name not in each or np.shape(each[name]) != np.shape(own[name])
               for own, each in zip(mine, theirs, strict=True)):
            raise ValueError(f"{name} of the peer is missing or has another shape than ours: {np.shape(mine[0][name])}")
        keep = [~np.ma.getmaskarray(own[name]) for own in mine]
        own, other = (np.concatenate([np.asarray(each[name])[kept] for each, kept in zip(side, keep, strict=True)])
                      for side in (mine, theirs))
        gap = np.abs(own - other)
        found[name] = float(np.where(np.isnan(gap), np.inf, gap).max() / max(np.nanmax(np.abs(own)), 1e-30))
    return found


def judge(peer: str, place: str, case: Case, inputs: Sequence[Arrays], theirs: Sequence[Arrays]) -> Finding:
    """Computes our side of a case for every seed and compares."""
    def against(numbers: Numbers) -> dict[str, float]:
        return difference([numbers(arrays) for arrays in inputs], theirs)

    found = against(case.ours)
    values = [gap for name, gap in found.items() if name != "gradient"]
    bridged = None if case.bridge is None else max(against(case.bridge).values())
    verdict = verdict_of(max(found.values()), bridged, case.tolerance)
    return Finding(peer, place, case, max(values, default=None), found.get("gradient"), bridged, verdict)


def verdict_of(gap: float, bridged: float | None, tolerance: float) -> str:
    """The verdict for a difference, the difference after the bridge (None: they must agree), and what is allowed."""
    if gap <= tolerance:
        return AGREES if bridged is None else STALE
    return EXPLAINED if bridged is not None and bridged <= tolerance else UNEXPLAINED


def tables(findings: Sequence[Finding]) -> str:
    """Markdown: what differs, with its cause, and then what agrees."""
    differ = [(each.peer, each.case.method, number(each.loss), number(each.gradient), each.verdict, each.case.cause,
               each.case.follows, number(each.bridged), each.place)
              for each in findings if each.verdict != AGREES]
    agree = [(each.peer, each.case.method, number(each.loss), number(each.gradient), each.place)
             for each in findings if each.verdict == AGREES]
    return "\n\n".join([
        markdown(("peer", "method", "loss", "gradient", "verdict", "cause", "as the paper", "after the cause", "code"),
                 differ),
        markdown(("peer", "method", "loss", "gradient", "code"), agree)])


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows))


def number(value: float | None) -> str:
    """Two digits; empty for None."""
    return "" if value is None else f"{value:.1e}"


def summary(findings: Sequence[Finding]) -> str:
    """How many of each verdict."""
    counts = {verdict: sum(each.verdict == verdict for each in findings)
              for verdict in (AGREES, EXPLAINED, UNEXPLAINED, STALE)}
    return ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count) or "nothing compared"
