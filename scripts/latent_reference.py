"""Times the batched latent search against the published way of running it: one problem at a time, no cache.

    python scripts/latent_reference.py --config.evaluation.problems=16      # of experiments/configs/latent.py

LatentSeek's published program (arXiv 2505.13308) searches one problem after another, and runs the whole sequence
through the model again for every token. `one_at_a_time` is that algorithm, written for this comparison: its passes
are compiled, of one fixed length, and an answer ends where its searched beginning ends. Both searches must give the
same answers; they run in turn, after a first run that compiles. Everything else comes from the settings.
"""

import dataclasses
import pathlib
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rl_reasoning import edge, keys
from rl_reasoning.config import Latent
from rl_reasoning.latent import Answered, Reward, latent_search
from rl_reasoning.loop.latent_search import make_reward
from rl_reasoning.loop.setup import Lab, build
from rl_reasoning.loop.warm_start import base
from rl_reasoning.models.decoder import Parameters, branch_mask, hidden_states, logits
from rl_reasoning.rollouts import Policy
from rl_reasoning.types import Problem, Prompts

DEFAULT = str(pathlib.Path(__file__).parent.parent / "experiments" / "configs" / "latent.py")
ROUNDS = 3

Search = Callable[[Problem], list[str]]


def one_at_a_time(policy: Policy, parameters: Parameters, reward: Reward, settings: Latent, max_tokens: int) -> Search:
    """A function of a problem that gives its answers in order, from the likeliest to the one that ends the search."""
    optimizer = optax.adam(settings.optimizer.learning_rate)
    length = policy.prompt_tokens + max_tokens

    @jax.jit
    def last_state(sequence: jax.Array, used: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The whole sequence again: the state at its last token, and the likeliest token after it."""
        row, place = sequence[None], jnp.arange(length)[None]
        mask = branch_mask((place < used).astype(jnp.int32), jnp.zeros_like(row))
        state = hidden_states(policy.config, parameters, row, place, mask)[0, used - 1].astype(jnp.float32)
        return state, logits(policy.config, parameters, state).argmax()

    @jax.jit
    def move(latents: jax.Array, state: optax.OptState, score: jax.Array) -> tuple[jax.Array, Any, jax.Array]:
        def loss(values: jax.Array) -> jax.Array:
            return -score * jax.nn.log_softmax(logits(policy.config, parameters, values)).max(axis=-1).sum()

        change, state = optimizer.update(jax.grad(loss)(latents), state)
        return latents + change, state, logits(policy.config, parameters, latents + change).argmax(axis=-1)

    def go_on(prompt: list[int], answer: list[int]) -> tuple[list[int], list[jax.Array]]:
        states, eos = [], policy.tokenizer.eos_id
        if eos in answer:
            return answer[:answer.index(eos) + 1], states
        while len(answer) < max_tokens and eos not in answer[-1:]:
            sequence = np.zeros(length, np.int32)
            sequence[:len(prompt) + len(answer)] = prompt + answer
            state, token = last_state(sequence, len(prompt) + len(answer))
            answer, states = [*answer, int(token)], [*states, state]
        return answer, states

    def score(problem: Problem, prompt: list[int], answer: list[int], number: int) -> float:
        ids = np.zeros((1, max_tokens), np.int32)
        ids[0, :len(answer)] = answer
        prompts = Prompts(np.pad([prompt], ((0, 0), (0, policy.prompt_tokens - len(prompt)))), np.array([len(prompt)]))
        text = policy.tokenizer.decode(answer)
        return float(reward(Answered([problem], [text], prompts, ids, np.array([len(answer)]),
                                     np.array([number]))).rewards[0])

    def search(problem: Problem) -> list[str]:
        prompt = policy.tokenizer.encode_prompt(problem.prompt)
        answer, states = go_on(prompt, [])
        value, texts = score(problem, prompt, answer, 0), [policy.tokenizer.decode(answer)]
        size = min(int(settings.fraction * len(answer)), settings.cap)
        if not size:
            return texts
        latents = jnp.stack(states[:size])
        state = optimizer.init(latents)
        for number in range(1, settings.steps + 1):
            if not value <= settings.threshold:
                break
            latents, state, beginning = move(latents, state, jnp.float32(value))
            answer, _ = go_on(prompt, [int(token) for token in beginning])
            value = score(problem, prompt, answer, number)
            texts.append(policy.tokenizer.decode(answer))
        return texts

    return search


def batched(lab: Lab, parameters: Parameters, reward: Reward) -> list[list[str]]:
    """The answers of every held-out problem by the library's search."""
    attempts = latent_search(lab.policy, parameters, lab.held_out, reward, lab.experiment.latent,
                             max_tokens=lab.experiment.evaluation.sampling.max_tokens,
                             key=keys.derive(lab.experiment.seed, keys.Role.SEARCH, 0))
    return [[attempts.text(row, i) for i in range(count)] for row, count in enumerate(attempts.counts)]


def _check(settings: Latent) -> None:
    """Raises ConfigError for what the published program does not do."""
    plain = dataclasses.replace(settings.optimizer, clip_norm=0.0, weight_decay=0.0, warmup=0, decay_to=1.0)
    if settings.tokens != "argmax" or settings.baseline != "none" or settings.optimizer != plain:
        raise edge.ConfigError("the published program takes the likeliest tokens (latent.tokens=argmax), no baseline, "
                               "and plain Adam without clipping")


def main(argv: list[str]) -> int:
    """Runs both in turn and prints seconds a problem; 1 when their answers differ."""
    try:
        experiment = edge.read_command(argv, DEFAULT)
        _check(experiment.latent)
        lab = build(experiment)
    except edge.ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    parameters = base(lab)
    reward = make_reward(lab, parameters, lab.verifier)
    search = one_at_a_time(lab.policy, parameters, reward, experiment.latent, experiment.evaluation.sampling.max_tokens)
    programs = {"one at a time": lambda: [search(problem) for problem in lab.held_out],
                "batched": lambda: batched(lab, parameters, reward)}
    answers = {name: program() for name, program in programs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    for name in list(programs) * ROUNDS:
        began = time.perf_counter()
        programs[name]()
        seconds[name].append((time.perf_counter() - began) / len(lab.held_out))
    lab.verifier.close()
    alike = [one == other for one, other in zip(*answers.values(), strict=True)]
    made = sum(map(len, answers["batched"]))
    print(f"{len(alike)} problems, {made} answers; {sum(alike)} problems with the same ones")
    for name, values in seconds.items():
        print(f"{name:<14} {1000 * statistics.median(values):8.2f} ms a problem "
              f"({', '.join(f'{1000 * value:.2f}' for value in values)})")
    one, other = (statistics.median(values) for values in seconds.values())
    print(f"ratio {one / other:.1f}")
    return 0 if all(alike) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv))
