"""Times whole RL steps, from rollout to update, against google-tunix's GRPO learner.

    python scripts/bench_step.py --quick --no-peers             # half a minute
    python scripts/bench_step.py --peers-folder ~/.cache/peers

A step is 8 prompts of 64 tokens, 4 answers of up to 128 to each, rewards from their texts, advantages within each
group, and one update of a policy of 4.9M parameters: `loop.reinforce.train_step`, and the learner's own loop. "fixed"
answers never end by themselves; "ragged" ones end with probability 1/64 at each token (64 of 4,096 tokens are ends).
Each side draws its own answers, so that ragged steps differ in their tokens; ratios are of the medians of all steps'
seconds, which alternate. Both keep old log-probabilities, references and further epochs out. CPU seconds are those of
each side's process. `limit_cpu` is what the matrix products of our fixed step take alone, and `limit_ratio` how many
times as fast as Tunix a step would be that did nothing else. The last line is one JSON object.
"""

import argparse
import dataclasses
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import jax
import jax.numpy as jnp
import numpy as np
from peer_check import cores, products
from peer_check.environments import python_of
from peer_check.timed_peer import TimedPeer
from peer_check.update_case import ANSWER, PROMPT, SIZES, answers, timed
from peer_check.update_limit import alone, limit_seconds

from experiments.configs import countdown
from rl_reasoning.config import Sampling
from rl_reasoning.edge import read_experiment
from rl_reasoning.loop.reinforce import begin, make_trainer, train_step
from rl_reasoning.loop.setup import Lab
from rl_reasoning.models.decoder import DecoderConfig, Parameters, initialize, unstack_layers
from rl_reasoning.rollouts import Policy
from rl_reasoning.sampling.engine import JaxEngine
from rl_reasoning.tasks.pool import InProcess
from rl_reasoning.training.minibatches import minibatches
from rl_reasoning.types import Completions, Outcome, Problem, Prompts, Verdict

PROMPTS, SAMPLES, BATCHES = 8, 4, 16
WARM = 5  # steps that are not timed: a batch of another shape is compiled for
ENDS = {"fixed": 0, "ragged": 64}  # tokens that end an answer


class Numbers:
    """Token ids written as text."""

    vocabulary_size, eos_id = SIZES["tiny"].vocabulary, -1

    def encode_prompt(self, prompt: str) -> list[int]:
        """Ids of a prompt."""
        return [int(word) for word in prompt.split()]

    def decode(self, ids: list[int]) -> str:
        """The ids."""
        return " ".join(map(str, ids))


class Even:
    """A task whose reward is the share of even numbers in an answer."""

    name, in_process = "even", True

    def verify(self, problem: Problem, text: str) -> Verdict:
        """See `Task`."""
        numbers = [int(word) for word in text.split()]
        share = sum(number % 2 == 0 for number in numbers) / max(1, len(numbers))
        return Verdict(Outcome.PARTIAL if 0 < share < 1 else Outcome.RIGHT if share else Outcome.WRONG, share, None,
                       "the share of even numbers")


class Ending(JaxEngine):
    """The engine, with more tokens that end an answer."""

    ends: tuple[str, ...] = ()

    def generate(self, parameters: Parameters, prompts: Prompts, counts: list[int], settings: Sampling, key: jax.Array,
                 **options: object) -> Completions:
        """See `Engine.generate`."""
        return super().generate(parameters, prompts, counts, dataclasses.replace(settings, stop_tokens=self.ends), key,
                                **options)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=8, help="steps of each side that are timed (default 8)")
    parser.add_argument("--quick", action="store_true", help="three steps")
    parser.add_argument("--no-peers", action="store_true", help="our steps alone")
    parser.add_argument("--peers-folder", type=Path, default=Path("peers"), help="where peers' environments are or go")
    cores.add_option(parser)
    options = parser.parse_args(arguments)
    if options.pairs < 1:
        parser.error(f"--pairs={options.pairs}: must be 1 or more")
    cores.keep_to(options.cores, parser)
    jax.config.update("jax_enable_compilation_cache", False)
    print(f"{cores.words(options.cores)}, jax {jax.__version__}, {jax.default_backend()}")
    results = {}
    for name, ends in ENDS.items():
        peer = None if options.no_peers else start_peer(ends, options.peers_folder)
        results[name] = found = measure(ours(ends), peer, min(options.pairs, 3) if options.quick else options.pairs)
        if not ends:
            found["limit_cpu"] = limit = limit_cpu(SIZES["tiny"])
            found |= {"limit_ratio": found["tunix_step_cpu"] / limit} if peer else {}
        print(f"{name}: " + ", ".join(f"{key} {value:.4g}" for key, value in found.items()), flush=True)
    print(json.dumps({"load": os.getloadavg()[0], "cases": results}))
    return 0


def start_peer(ends: int, folder: Path) -> TimedPeer:
    """The learner on the same sizes."""
    return TimedPeer.start("tunix", python_of("tunix", folder), "step_tunix.py", {
        "config": dataclasses.asdict(SIZES["tiny"]), "dtype": "float32", "prompts": PROMPTS, "samples": SAMPLES,
        "prompt": PROMPT, "answer": ANSWER, "ends": ends}, JAX_PLATFORMS="cpu")


def measure(step: Callable[[], dict[str, float]], peer: TimedPeer | None, pairs: int) -> dict[str, float]:
    """Medians of the sides' steps, which take turns, and their ratios. The first `WARM` do not count."""
    mine, theirs = [], []
    for _ in range(WARM + pairs):
        mine.append(step())
        theirs += [peer.step()] if peer else []
    if peer:
        peer.stop()
    mine, theirs = mine[WARM:], theirs[WARM:]
    found = {f"step_{key}": statistics.median(each[key] for each in mine) for key in mine[0]}
    seconds = [each["cpu"] for each in mine]
    found["spread"] = (max(seconds) - min(seconds)) / found["step_cpu"]
    for key in mine[0] if peer else ():
        found[f"tunix_step_{key}"] = statistics.median(each[key] for each in theirs)
        if key != "tokens":
            found[f"{key}_ratio"] = found[f"tunix_step_{key}"] / found[f"step_{key}"]
    return found


def limit_cpu(config: DecoderConfig) -> float:
    """CPU seconds of the matrix products that a fixed step cannot do without, each shape timed alone."""
    config = dataclasses.replace(config, for_cpu=True)
    parameters = unstack_layers(config, initialize(config, jax.random.key(0)))
    rows = PROMPTS * SAMPLES
    turns = [products.of_a_turn(config, parameters, rows, turned=turned) for turned in (False, True)]
    turn = min(timed(turn)[1] for _ in range(8) for turn in turns)
    attention = products.of_attention(config, rows, SAMPLES, (PROMPT, ANSWER // 2))
    turn += min(timed(attention)[1] for _ in range(8))
    prompts = jnp.ones((PROMPTS * PROMPT, max(config.width, config.mlp)))
    prefill = sum(alone(lambda w, x: x[:, :w.shape[1]] @ w.T, linear["kernel_turned"], prompts)
                  for part in ("attention", "mlp") for linear in parameters["layers"][0][part].values())
    each = answers(config, rows, ragged=False)
    shared = dataclasses.replace(each, prompt_ids=each.prompt_ids[:PROMPTS], groups=np.arange(rows) // SAMPLES,
                                 prompt_lengths=each.prompt_lengths[:PROMPTS])
    [batch] = minibatches(shared, 1, 1, PROMPT + SAMPLES * ANSWER, None)
    return ANSWER * turn + config.layers * prefill + limit_seconds(config, shared, batch)


def ours(ends: int) -> Callable[[], dict[str, float]]:
    """What does our next step at each call: its CPU and wall seconds, and the tokens that were drawn."""
    trainer = make_trainer(laboratory(ends), "grpo")
    parameters = trainer.lab.first()
    state = begin(trainer, parameters)

    def step() -> dict[str, float]:
        nonlocal state
        cpu, wall = time.process_time(), time.perf_counter()
        state, metrics, _ = train_step(trainer, state, state.step + 1, parameters)
        jax.block_until_ready(state.train)
        return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall,
                "tokens": metrics["tokens/generated"]}

    return step


def laboratory(ends: int) -> Lab:
    """The policy, the prompts and the settings of a run."""
    settings = countdown.get_config()
    settings.rl.prompts, settings.rl.samples, settings.rl.minibatches = PROMPTS, SAMPLES, 1
    settings.rl.max_tokens, settings.rl.reference, settings.rl.steps = ANSWER, False, 1000
    config, tokenizer, task = SIZES["tiny"], Numbers(), Even()
    engine = Ending(config, tokenizer.eos_id, tokenizer)
    engine.ends = tuple(map(str, range(config.vocabulary - ends, config.vocabulary)))
    rng = np.random.default_rng(1)
    problems = tuple(Problem(f"even/{i}", tokenizer.decode(rng.integers(2, config.vocabulary, PROMPT).tolist()), None,
                             task.name) for i in range(PROMPTS * BATCHES))
    policy = Policy(config, tokenizer, PROMPT, engine)
    return Lab(read_experiment(settings), task, policy, InProcess(task), problems, (),
               lambda: initialize(config, jax.random.key(0)))


if __name__ == "__main__":
    sys.exit(main())
