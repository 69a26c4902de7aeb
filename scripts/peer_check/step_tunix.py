"""Runs in tunix's environment: whole steps of its GRPO learner, from rollout to update, timed on request.

The first line of standard input is the case as JSON (`scripts/bench_step.py`). One line of JSON comes back when the
learner is made, which compiles in its first steps, and one for each further line of input: {"cpu": seconds, "wall":
seconds, "tokens": drawn}.
"""

import json
import os
import sys
import time

import jax
import numpy as np
import optax
from flax import nnx
from sample_tunix import NEVER, Numbers
from train_tunix import model_of
from tunix.rl import rl_cluster
from tunix.rl.grpo.grpo_learner import GRPOConfig, GRPOLearner
from tunix.rl.rollout.base_rollout import RolloutConfig

Role = rl_cluster.Role


class Steps:
    """Batches of prompts for a learner; a batch is asked for when the step before it is over, which is timed."""

    def __init__(self, case, answers):
        self.case, self.answers, self.rng, self.model = case, answers, np.random.default_rng(1), None
        self.drawn = 0

    def __iter__(self):
        for _ in sys.stdin:
            cpu, wall, before = time.process_time(), time.perf_counter(), self.drawn
            yield {"prompts": np.asarray([self.prompt() for _ in range(self.case["prompts"])])}
            jax.block_until_ready(nnx.state(self.model))
            self.answer({"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall,
                         "tokens": self.drawn - before})

    def prompt(self):
        ids = self.rng.integers(2, self.case["config"]["vocabulary"], self.case["prompt"] - 1)
        return " ".join(map(str, [1, *ids]))

    def answer(self, found):
        self.answers.write(json.dumps(found) + "\n")
        self.answers.flush()

    def reward(self, prompts, completions, **_):
        numbers = [[int(word) for word in text.split()] for text in completions]
        self.drawn += sum(map(len, numbers))
        return [sum(number % 2 == 0 for number in each) / max(1, len(each)) for each in numbers]


def learner_of(case, steps):
    mesh = jax.sharding.Mesh(np.asarray(jax.devices()).reshape(1, 1), ("fsdp", "tp"))
    ends = list(range(case["config"]["vocabulary"] - case["ends"], case["config"]["vocabulary"])) or [NEVER]
    cluster = rl_cluster.RLCluster(
        actor=model_of(case), tokenizer=Numbers(), cluster_config=rl_cluster.ClusterConfig(
            role_to_mesh=dict.fromkeys((Role.ACTOR, Role.REFERENCE, Role.ROLLOUT), mesh),
            training_config=rl_cluster.RLTrainingConfig(
                actor_optimizer=optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(1e-5)),
                eval_every_n_steps=NEVER, max_steps=NEVER),
            rollout_config=RolloutConfig(
                max_tokens_to_generate=case["answer"], max_prompt_length=case["prompt"], temperature=1.0, top_p=1.0,
                kv_cache_size=case["prompt"] + case["answer"], eos_tokens=ends)))
    steps.model = cluster.actor_trainer.model
    return GRPOLearner(cluster, GRPOConfig(num_generations=case["samples"], beta=0.0), steps.reward)


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What libraries print is no answer.
    case = json.loads(sys.stdin.readline())
    steps = Steps(case, answers)
    learner = learner_of(case, steps)
    steps.answer({"compile": 0.0})
    learner.train(steps)


if __name__ == "__main__":
    main()
