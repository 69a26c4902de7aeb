"""Our engine on a workload of scripts/bench_sampler.py, and the limit that its own matrix products set."""

import dataclasses
import functools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import jax
import numpy as np
import products
import worker

from rl_reasoning.config import Sampling
from rl_reasoning.models import hf, hf_config
from rl_reasoning.models.architecture import Precision
from rl_reasoning.models.decoder import DecoderConfig, Parameters, unstack_layers
from rl_reasoning.sampling.engine import Buckets, JaxEngine
from rl_reasoning.types import Prompts


@functools.cache
def read(folder, precision):
    config = hf_config.read_config(folder)
    config = DecoderConfig(**(vars(config) | {"precision": Precision(precision, precision, precision)}))
    # As the engine has them, which then needs no copy.
    return config, unstack_layers(dataclasses.replace(config, for_cpu=True), hf.read_parameters(folder, config))


def make(folder, precision, workload):
    config, parameters = read(folder, precision)
    if workload["name"] in LIMITS:
        return limit(LIMITS[workload["name"]](config, parameters, workload), workload)
    engine = JaxEngine(config, eos_id=-1, buckets=Buckets(answer_tokens=(workload["answer_tokens"],)))
    width = workload["prompt_tokens"]
    prompts = Prompts(np.asarray([ids + [0] * (width - len(ids)) for ids in workload["prompts"]], np.int32),
                      np.asarray([len(ids) for ids in workload["prompts"]], np.int32))
    owners, limits = np.asarray(workload["answers"]).T
    settings = Sampling(max_tokens=int(limits.max()), slots=workload["slots"])
    counts = np.bincount(owners, minlength=len(prompts.lengths))

    def sample():
        answers = engine.generate(parameters, prompts, counts, settings, jax.random.key(0), limits=limits)
        return int(answers.lengths.sum())

    return sample


def _weights(config: DecoderConfig, parameters: Parameters, workload, turned):
    return products.of_a_turn(config, parameters, workload["slots"], turned=turned)


def _attention(config: DecoderConfig, parameters: Parameters, workload):
    config = dataclasses.replace(config, for_cpu=True)
    return products.of_attention(config, workload["slots"], workload["shared"], workload["seen"])


LIMITS = {"limit": functools.partial(_weights, turned=False), "limit_turned": functools.partial(_weights, turned=True),
          "limit_attention": _attention}


def limit(turn, workload):
    """The matrix products of so many decode steps and nothing else."""
    turn()

    def sample():
        for _ in range(workload["steps"]):
            turn()
        return workload["slots"] * workload["steps"]

    return sample


if __name__ == "__main__":
    worker.serve(make)
