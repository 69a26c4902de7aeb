"""Where does NSR keep more breadth than PSR at matched Pass@1, and where do they tie? (arXiv 2506.01347)

    python experiments/reproduce/signs_sweep.py --quick      # every stage at toy size, minutes
    python experiments/reproduce/signs_sweep.py              # 17 cells, two seeds

On-policy both have one expected gradient, so what differs between them comes from noise, denominators, off-policy
mini-batches or the optimizer. Around a centre one factor at a time is changed: answers a problem, problems a step,
mini-batches a rollout, what the loss is divided by, the optimizer, its rate, the size of the answer space, the strength
of the base; and a few corners join several. In each cell PSR and NSR start from one base a seed, NSR with more steps,
and are compared at the Pass@1 that both reach. Beside it stands how noisy both gradients are before the first update,
and whether their means point the same way.

The same command goes on where it was stopped; the seeds come one after another, so --seeds=1 reads the first one's
map while the others are not there. map.md, map.json, map.svg and map.png lie in the sweep's folder. A map of --quick
says that the machinery works, and nothing else. BUILD_NOTES.md says what was tried before the recipe was fixed.
"""

import dataclasses
import sys

from recipes import finish, options, recipe

from rl_reasoning import edge
from rl_reasoning.config import Experiment
from rl_reasoning.loop.sweep import Cell, Sweep, run_sweep

SEEDS = 2
SGD = {"rl.optimizer.name": "sgd", "rl.optimizer.beta1": 0.0, "rl.optimizer.learning_rate": 0.05}
ALL_ROWS = {"objective.denominator": "all"}
SMALL_SPACE = {"task.countdown.high": 8, "task.countdown.limit": 25}
LARGE_SPACE = {"task.countdown.high": 24, "task.countdown.limit": 100}
HALF = {"rl.steps": 12, "evaluation.every": 4}  # large batches get further in a step, and cost more

CELLS = (
    Cell("centre", "centre: 16 problems x 8, 2 mini-batches, kept rows, AdamW"),
    Cell("samples2", "2 answers a problem", {"rl.samples": 2}),
    Cell("samples64", "64 answers a problem", {"rl.samples": 64} | HALF),
    Cell("prompts4", "4 problems a step", {"rl.prompts": 4}),
    Cell("prompts64", "64 problems a step", {"rl.prompts": 64} | HALF),
    Cell("minibatches1", "1 mini-batch a rollout", {"rl.minibatches": 1}),
    Cell("minibatches8", "8 mini-batches a rollout", {"rl.minibatches": 8}),
    Cell("all-rows", "all rows in the denominator", ALL_ROWS),
    Cell("sgd", "SGD", SGD, longer=4.0),  # NSR's kept rows are several times as many, and SGD feels it
    Cell("space-small", "numbers to 8", SMALL_SPACE),
    Cell("space-large", "numbers to 24", LARGE_SPACE),
    Cell("base-weak", "half the warm start", {"warm_start.steps": 350}),
    Cell("base-strong", "twice the warm start", {"warm_start.steps": 1400}),
    Cell("slow", "a third of the rate, twice the steps", {
        "rl.optimizer.learning_rate": 5e-5, "rl.steps": 48, "evaluation.every": 16}),
    Cell("noisy", "corner: 4 problems x 2, 1 mini-batch", {"rl.prompts": 4, "rl.samples": 2, "rl.minibatches": 1}),
    Cell("quiet", "corner: 64 problems x 8, 1 mini-batch, SGD, all rows, numbers to 8",
         {"rl.prompts": 64, "rl.minibatches": 1} | SGD | ALL_ROWS | SMALL_SPACE | HALF, longer=1.0),
    Cell("scarce", "corner: 2 answers a problem, 8 mini-batches, numbers to 24",
         {"rl.samples": 2, "rl.minibatches": 8} | LARGE_SPACE),
)
QUICK = ("centre", "samples2", "all-rows")


def shared_settings(quick: bool) -> Experiment:
    """The centre; fixed before the seeds that are reported were run."""
    config = edge.to_config_dict(recipe("countdown", quick))
    if not quick:
        config.task.countdown.high = 16
        config.task.countdown.limit = 60
        config.model.width = 64
        config.model.heads = 2
        config.model.kv_heads = 1
        config.model.mlp = 176
        config.warm_start.steps = 700
        config.warm_start.refine_steps = 0
        config.warm_start.wrong = 0.1
        config.warm_start.batch = 128
        config.warm_start.optimizer.learning_rate = 5e-3
        config.rl.steps = 24
        config.rl.optimizer.learning_rate = 1.5e-4
        config.evaluation.every = 8
        config.evaluation.problems = 64
    config.rl.prompts = 16
    config.rl.minibatches = 2
    config.rl.reference = False
    config.rl.optimizer.warmup = 0
    config.evaluation.traced = 0
    return edge.read_experiment(config)


def sweep(quick: bool) -> Sweep:
    """The design."""
    if not quick:
        return Sweep(CELLS)
    return Sweep([cell for cell in CELLS if cell.name in QUICK], ks=(8, 32), repeats=4, resamples=200)


def main(arguments: list[str]) -> int:
    chosen = options(arguments, __doc__, SEEDS, tasks=())
    out = chosen.workdir / ("signs-sweep" + ("-quick" if chosen.quick else ""))
    shared = dataclasses.replace(shared_settings(chosen.quick), workdir=str(out))
    return finish(lambda: run_sweep(sweep(chosen.quick), shared, chosen.seeds))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
