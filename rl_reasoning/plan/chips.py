"""TPU chips as data, from Google Cloud's pages on each generation (read in November 2026)."""

import dataclasses

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
    """One chip.

    Attributes:
      flops: peak, bfloat16, a second. bandwidth: bytes a second of its own memory.
      memory: bytes that a program may use, as the compiler says when one does not fit.
      links: bytes a second that a chip sends along one axis of the torus, both directions together: the pages' figure
        for all links one way, over the axes of the torus.
    """

    flops: float
    bandwidth: float
    memory: float
    links: float


CHIPS = {
    "v5e": Chip(flops=197e12, bandwidth=819e9, memory=15.75 * GIB, links=200e9 / 2),
    "v5p": Chip(flops=459e12, bandwidth=2765e9, memory=95.73 * GIB, links=600e9 / 3),
    "v6e": Chip(flops=918e12, bandwidth=1638e9, memory=31.24 * GIB, links=400e9 / 2),
}


def chip_of(topology: str) -> Chip:
    """The chip of a topology such as "v5e:4x4".

    Raises:
      ValueError: there is none of that name.
    """
    name = topology.partition(":")[0]
    if name not in CHIPS:
        raise ValueError(f"--topology={topology}: the kind must be one of {', '.join(CHIPS)}, as in v5e:4x4")
    return CHIPS[name]
