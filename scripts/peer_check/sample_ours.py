"""Our engine on a workload of scripts/bench_sampler.py, and the limit that its own matrix products set."""

import dataclasses
import functools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

import jax
import jax.numpy as jnp
import numpy as np
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
    if workload["name"].startswith("limit"):
        return limit(config, parameters, workload, workload["name"] == "limit_turned")
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


def limit(config: DecoderConfig, parameters: Parameters, workload, turned):
    """The matrix products of so many decode steps and nothing else, each with its own weights, in their order.

    turned: with weights [out, in] as left operands, or [in, out] as right ones; the head is [V, D] both times.
    """
    rows, compute = workload["slots"], config.precision.compute
    kernels = [linear["kernel_turned"] for layer in parameters["layers"] for part in ("attention", "mlp")
               for linear in layer[part].values()]
    kernels = kernels if turned else [kernel.T for kernel in kernels]
    table = parameters["embed"]["embedding"]

    @jax.jit
    def step(kernels, table, inputs):
        if turned:
            return [kernel @ inputs[:kernel.shape[1]] for kernel in kernels], jnp.matmul(
                table, inputs[:config.width], preferred_element_type=jnp.float32)
        return [inputs[:, :kernel.shape[0]] @ kernel for kernel in kernels], jnp.einsum(
            "bd,vd->bv", inputs[:, :config.width], table, preferred_element_type=jnp.float32)

    shape = (rows, max(max(kernel.shape) for kernel in kernels))
    inputs = jnp.ones(shape[::-1] if turned else shape, compute)
    jax.block_until_ready(step(kernels, table, inputs))

    def sample():
        for _ in range(workload["steps"]):
            jax.block_until_ready(step(kernels, table, inputs))
        return rows * workload["steps"]

    return sample


if __name__ == "__main__":
    worker.serve(make)
