"""Negative reinforcement, its claims judged on small problems (arXiv 2506.01347).

    python experiments/reproduce/negative_reinforcement.py --quick      # every stage at toy size, minutes
    python experiments/reproduce/negative_reinforcement.py              # countdown, five seeds
    python experiments/reproduce/negative_reinforcement.py --task=path  # ALPINE's path finding

For each seed: a base of its own, then PSR, NSR, W-REINFORCE with positive weights 0, 0.05, 0.1, 0.2 and 1, REINFORCE,
GRPO and PPO from it, evaluated along training. NSR and W-REINFORCE go on to twice the steps. In the end one table, one
figure, and a verdict on each of seven claims by a bootstrap over problems and seeds that all algorithms share: holds,
does not hold, or undecided. The seventh is judged at matched Pass@1, along the whole path.

The same command goes on where it was stopped: finished runs are not run again. verdicts.md, verdicts.json, study.svg,
study.png and report.html lie in the study's folder. A verdict of --quick says that the machinery works, and nothing
about the claims. BUILD_NOTES.md says what was tried before the recipes were fixed.
"""

import dataclasses
import sys

from recipes import command_line

from rl_reasoning.config import Experiment
from rl_reasoning.evaluation.claims import judge_negative_reinforcement
from rl_reasoning.loop.study import BASE, Study, Unit

SHORT = (BASE, "psr", "reinforce", "grpo", "ppo")
WEIGHTS = (0.0, 0.05, 0.2, 1.0)  # 0.1 is the algorithm's own, and among those that go on


def units(shared: Experiment) -> list[Unit]:
    """The runs of one seed, all from one base."""
    longer = dataclasses.replace(shared.rl, steps=2 * shared.rl.steps)
    return [
        Unit(dataclasses.replace(shared, name="short", compare=SHORT), {name: name for name in SHORT}),
        Unit(dataclasses.replace(shared, name="long", compare=("nsr", "w_reinforce"), rl=longer),
             {"nsr": "nsr", "w_reinforce": "w_0.1"}),
        *(Unit(dataclasses.replace(shared, name=f"weight{weight:g}", compare=("w_reinforce",),
                                   objective={"positive_weight": weight}), {"w_reinforce": f"w_{weight:g}"})
          for weight in WEIGHTS)]


STUDY = Study("negative-reinforcement", "Negative reinforcement", units, judge_negative_reinforcement,
              pair=("nsr", "psr"), seeds=5)

if __name__ == "__main__":
    sys.exit(command_line(sys.argv[1:], __doc__, STUDY))
