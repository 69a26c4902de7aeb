"""A two-armed bandit as a language task, for tests that ask whether an objective learns."""

import dataclasses
import functools

from rl_reasoning.config import RL, Evaluation, Experiment, Model, Optimizer
from rl_reasoning.keys import Role, derive
from rl_reasoning.loop.setup import Lab
from rl_reasoning.models import decoder
from rl_reasoning.models.decoder import DecoderConfig
from rl_reasoning.rollouts import Policy
from rl_reasoning.tasks.pool import InProcess
from rl_reasoning.tokenizers.symbols import SymbolTokenizer
from rl_reasoning.types import Outcome, Problem, Verdict

STEPS = 30


class TwoArms:
    """Say `left` first and be paid; anything else earns nothing."""

    name = "two_arms"
    in_process = True

    def __init__(self):
        self.problems = tuple(Problem(f"pull {i}", "? " * (1 + i % 3), "left", self.name) for i in range(8))

    def train_problems(self):
        return self.problems

    def held_out_problems(self, count, seed):
        return self.problems[:count]

    def verify(self, problem, text):
        right = text.split()[:1] == [problem.answer]
        return Verdict(Outcome.RIGHT if right else Outcome.WRONG, float(right), text, "first word")


def make_lab(seed, *, algorithm="reinforce", steps=STEPS, task=None, objective=None, **rl):
    """A lab around the bandit with a one-layer policy that starts near uniform over four tokens."""
    task = task or TwoArms()
    tokenizer = SymbolTokenizer(["?", "left", "right"])
    config = DecoderConfig(tokenizer.vocabulary_size, layers=1, width=8, heads=2, kv_heads=1, head_dim=4, mlp=8)
    settings = {"prompts": 8, "samples": 8, "minibatches": 2, "max_tokens": 2,
                "optimizer": Optimizer(learning_rate=0.03, warmup=0)} | rl
    experiment = Experiment(seed=seed, algorithm=algorithm, objective=objective or {}, model=Model(layers=1),
                            rl=RL(steps=steps, **settings),
                            evaluation=Evaluation(problems=8, samples=16, batch=128))
    first = functools.partial(decoder.initialize, config, derive(seed, Role.INITIALIZE, 0))
    return Lab(experiment, task, Policy(config, tokenizer, 3), InProcess(task), task.problems, task.problems, first)


def with_seed(trainer, seed):
    """The same compiled functions under another seed."""
    experiment = dataclasses.replace(trainer.lab.experiment, seed=seed)
    return dataclasses.replace(trainer, lab=dataclasses.replace(trainer.lab, experiment=experiment))
