"""Path finding in a hidden graph: what a policy that only ever saw paths can plan, and what it cannot.

    python experiments/run.py --config=experiments/configs/path.py
    python experiments/run.py --config=experiments/configs/path.py:blocksworld
    python experiments/run.py --config=experiments/configs/path.py:rl
    python scripts/graph_readings.py runs/path-w_reinforce-seed0      # the graph as the policy's logits hold it

ALPINE (Wang et al. 2024, arXiv:2405.09220) at small scale, from nothing: a one-layer policy is trained on random paths
of half the pairs of nodes, and asked for a path of the other half. The table at the end counts accuracy by a pair's
degree, which says how much of its plan the training paths have shown: 0 when they show the source on the way to the
target, 1 when they show that of a next node, 2 and more when reachability must be chained.

Hardware: any machine with a CPU; the default took 8 minutes on two busy cores.

Expected, on all 1,189 held-out pairs of the default's graph, in percent with 95 % intervals: likeliest answers
(evaluation.sampling.temperature=0.0) at degree 0, 1 and 2: 99.0 (98.3 to 99.6), 97.0 (94.8 to 98.8) and 83.9 (71.0 to
93.5, of 31 pairs); answers drawn at temperature 1: 95.3, 88.9 and 66.1.

Presets after the colon: rl, then reinforcement learning on the training pairs; blocksworld, four blocks in 73 states;
smoke and smoke_blocksworld, every stage at toy size; list, the algorithms.
"""

from ml_collections import ConfigDict

from rl_reasoning import edge
from rl_reasoning.config import Experiment


def get_config(preset: str = "") -> ConfigDict:
    """The settings of one preset."""
    config = edge.to_config_dict(Experiment())
    config.name = "path"

    # The paper's graph: 100 nodes, an edge from a node to a later one with probability 0.1.
    config.task.kind = "path"
    config.task.path.nodes = 100
    config.task.path.edge_probability = 0.1
    config.task.path.walks = 20
    config.task.path.held_out = 0.5

    # One layer with one head, on training paths that all reach their target.
    config.model.layers = 1
    config.model.width = 120
    config.model.heads = 1
    config.model.kv_heads = 1
    config.model.head_dim = 120
    config.warm_start.steps = 2000
    config.warm_start.wrong = 0.0
    config.warm_start.refine_steps = 0

    # Without reinforcement learning, as in the paper.
    config.rl.steps = 0
    config.rl.max_tokens = 24

    config.evaluation.problems = 1000
    config.evaluation.samples = 16
    config.evaluation.sampling.max_tokens = 24
    config.evaluation.by = "degree"

    edge.apply_preset(config, preset, PRESETS)
    return config


def rl(config: ConfigDict) -> None:
    """Then 50 steps of reinforcement learning on the training pairs."""
    config.name += "-rl"
    config.rl.steps = 50
    config.rl.prompts = 64
    config.rl.samples = 8
    config.rl.minibatches = 4
    config.rl.optimizer.learning_rate = 1e-4


def blocksworld(config: ConfigDict) -> None:
    """Four blocks instead of the random graph."""
    config.name = "blocksworld"
    config.task.kind = "blocksworld"
    config.rl.max_tokens = 32
    config.evaluation.sampling.max_tokens = 32


def smoke(config: ConfigDict) -> None:
    """Every stage at toy size: shows that all of it runs, and nothing about learning."""
    config.name += "-smoke"
    config.task.path.nodes = 30
    config.task.path.edge_probability = 0.2
    config.task.blocksworld.blocks = 3
    config.task.blocksworld.held_out = 0.4
    config.model.width = 32
    config.model.head_dim = 32
    config.model.mlp = 64
    config.warm_start.steps = 60
    config.warm_start.batch = 64
    config.warm_start.optimizer.learning_rate = 1e-2
    config.rl.steps = 2
    config.rl.prompts = 8
    config.rl.samples = 4
    config.rl.minibatches = 2
    config.rl.max_tokens = 12
    config.evaluation.problems = 24
    config.evaluation.samples = 4
    config.evaluation.batch = 96
    config.evaluation.bootstrap = 100
    config.evaluation.sampling.max_tokens = 12


def smoke_blocksworld(config: ConfigDict) -> None:
    """Blocksworld with three blocks at toy size."""
    blocksworld(config)
    smoke(config)


PRESETS = {"rl": rl, "blocksworld": blocksworld, "smoke": smoke,
           "smoke_blocksworld": smoke_blocksworld}
