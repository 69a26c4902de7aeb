"""GPPO against PPO, CISPO and clip-higher where clipping acts, judged on small problems (arXiv 2508.07629).

    python experiments/reproduce/gppo.py --quick      # every stage at toy size, minutes
    python experiments/reproduce/gppo.py              # countdown, three seeds

At the default's four mini-batches and learning rate hardly a token is clipped, and methods that differ by their clip
alone agree. Here a rollout gives 32 updates at twice the learning rate; ratio/clipped_positive and
ratio/clipped_negative in the report say how much was clipped. Claims: GPPO ends above its rivals at k = 1 and at or
above them in area under the Pass@k curve, keeps more entropy, and keeps more breadth than clip-higher at matched
Pass@1, along the whole path. The rest is as in negative_reinforcement.py.
"""

import dataclasses
import functools
import sys

from recipes import command_line

from rl_reasoning.config import Experiment
from rl_reasoning.evaluation.claims import judge_method
from rl_reasoning.loop.study import BASE, Study, Unit

COMPARED = (BASE, "gppo", "ppo", "cispo")
CLIP_HIGHER = 0.28


def units(shared: Experiment) -> list[Unit]:
    """The runs of one seed, all from one base; clip-higher is GRPO with DAPO's upper clip."""
    rate = 2 * shared.rl.optimizer.learning_rate
    rl = dataclasses.replace(shared.rl, minibatches=shared.rl.prompts // 4, epochs=2,
                             optimizer=dataclasses.replace(shared.rl.optimizer, learning_rate=rate))
    off_policy = dataclasses.replace(shared, rl=rl)
    return [Unit(dataclasses.replace(off_policy, name="methods", compare=COMPARED), {name: name for name in COMPARED}),
            Unit(dataclasses.replace(off_policy, name="clip-higher", compare=("grpo",),
                                     objective={"clip_high": CLIP_HIGHER}), {"grpo": "clip_higher"})]


STUDY = Study("gppo", "GPPO against PPO, CISPO and clip-higher", units,
              functools.partial(judge_method, "gppo", ("ppo", "cispo", "clip_higher")),
              pair=("gppo", "clip_higher"), seeds=3)

if __name__ == "__main__":
    sys.exit(command_line(sys.argv[1:], __doc__, STUDY))
