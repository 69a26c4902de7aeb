"""PACS against PPO and GRPO, judged on small problems (arXiv 2509.02522).

    python experiments/reproduce/pacs.py --quick      # every stage at toy size, minutes
    python experiments/reproduce/pacs.py              # countdown, three seeds

Claims: PACS ends above PPO and GRPO at k = 1 and at or above them in area under the Pass@k curve, keeps more entropy,
and keeps more breadth than GRPO at matched Pass@1, along the whole path. The rest is as in negative_reinforcement.py.
"""

import dataclasses
import functools
import sys

from recipes import command_line

from rl_reasoning.config import Experiment
from rl_reasoning.evaluation.claims import judge_method
from rl_reasoning.loop.study import BASE, Study, Unit

COMPARED = (BASE, "pacs", "ppo", "grpo")


def units(shared: Experiment) -> list[Unit]:
    """The runs of one seed, all from one base."""
    return [Unit(dataclasses.replace(shared, name="methods", compare=COMPARED), {name: name for name in COMPARED})]


STUDY = Study("pacs", "PACS against PPO and GRPO", units, functools.partial(judge_method, "pacs", ("ppo", "grpo")),
              pair=("pacs", "grpo"), seeds=3)

if __name__ == "__main__":
    sys.exit(command_line(sys.argv[1:], __doc__, STUDY))
