"""Our decode engine against google-tunix's `Sampler` and transformers' `generate`, on the same weights, in pairs.

    python scripts/bench_sampler.py --quick --no-peers       # a minute or two: the small model, without peers
    python scripts/bench_sampler.py                          # everything: an hour on two cores
    python scripts/bench_sampler.py --models 135m --workloads a --peers tunix --pairs 3

Workloads: (a) 32 prompts of 64 tokens, 128 new ones; (b) 8 prompts with 16 answers each; (c) 256 prompts of 16 to 256
tokens whose answers have a long tail up to 512; (d) as (a), 256 prompts. Weights are random and nothing ends by itself,
so an answer has as many tokens as the workload says. Each engine runs in a process of its own, on one core. Turns
alternate: ours, a peer, ours, a peer; ratios are of two neighbours. The limit is the decode step's own matrix products
timed alone in the same run: those with its weights, as left operands or as right ones, whichever is faster, and those
of attention, with as many places as an answer's tokens see on average (`roof_share`); or those with its weights alone
(`roof_share_weights`). The share is of decoding, without the prefill. Compile seconds are of a call for two tokens
each: the first, less a later one. The first use of a peer installs it with pip (1.5 GB) into
~/.cache/rl_reasoning/peers (or $XDG_CACHE_HOME).

The last line is one JSON object. Exit code 2: a peer could not be installed or run; what was measured is printed.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import numpy as np
from peer_check import environments

from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.models.pretrained import cache_folder

MODELS = {"tiny": DecoderConfig(4096, 4, 256, 8, 2, 32, 1024), "135m": DecoderConfig(49152, 30, 576, 9, 3, 64, 1536)}
LIMITS = ("limit", "limit_turned", "limit_attention")
RUNNERS = Path(__file__).parent / "peer_check"


@dataclasses.dataclass(frozen=True)
class Workload:
    """What is sampled.

    Attributes:
      prompts: token ids. answers: (prompt, tokens) of each.
      slots: answers that our engine has in work at once. batch: those of a peer's call.
      cache: positions of a peer's cache. answer_tokens: that our engine has room for.
    """

    name: str
    prompts: list[list[int]]
    answers: list[tuple[int, int]]
    slots: int
    batch: int
    cache: int
    answer_tokens: int

    @property
    def order(self) -> dict[str, Any]:
        """As a worker reads it. seen: places of a prompt and of an answer that a token sees, on average over tokens."""
        tokens = [tokens for _, tokens in self.answers]
        prompts = sum(len(self.prompts[prompt]) * count for prompt, count in self.answers) / sum(tokens)
        answers = sum(count * (count + 1) / 2 for count in tokens) / sum(tokens)
        shared = len(self.answers) // len(self.prompts) if len(self.answers) == self.slots else 1
        return dataclasses.asdict(self) | {"prompt_tokens": max(map(len, self.prompts)), "shared": shared,
                                           "seen": (round(prompts), round(answers))}

    def short(self, tokens: int) -> "Workload":
        """The same with so many tokens an answer: with one, what is not decoding."""
        return dataclasses.replace(self, answers=[(prompt, tokens) for prompt, _ in self.answers])


def workloads(quick: bool, vocabulary: int) -> dict[str, Workload]:
    """All of them by name; quick ones are smaller."""
    rng, new = np.random.default_rng(0), 64 if quick else 128

    def fixed(name: str, prompts: int, samples: int, cache: int = 64 + new) -> Workload:
        total = prompts * samples
        answers = [(i // samples, new) for i in range(total)]
        return Workload(name, draw(prompts * [64]), answers, total, total, cache, new)

    def draw(lengths: list[int]) -> list[list[int]]:
        return [[1, *rng.integers(2, vocabulary, length - 1).tolist()] for length in lengths]

    requests, longest = (64, 256) if quick else (256, 512)
    lengths = rng.integers(16, 257, requests).tolist()
    tails = np.minimum(longest, np.ceil(rng.lognormal(np.log(60), 1.0, requests))).astype(int).tolist()
    ragged = Workload("c", draw(lengths), list(enumerate(tails)), 32, 32, max(lengths) + max(tails), max(tails))
    found = [fixed("a", 32, 1), fixed("a_documented_cache", 32, 1, 64 + new + 256), fixed("b", 8, 16), ragged,
             fixed("d", 64 if quick else 256, 1)]
    return {workload.name: workload for workload in found}


class Worker:
    """An engine's process."""

    def __init__(self, name: str, python: Path | str, script: str, cores: int):
        self.name, self.cores = name, cores
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "HF_HUB_OFFLINE": "1"}
        environment["JAX_ENABLE_COMPILATION_CACHE"] = "0"
        environment.pop("PYTHONPATH", None)
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self.process = subprocess.Popen([str(python), str(RUNNERS / script), str(cores)], env=environment, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors)

    def ask(self, **order: Any) -> dict[str, Any]:
        """Raises PeerUnavailable, with its last words, when the process has ended."""
        if "workload" in order:
            order["workload"] |= {"cores": self.cores}
        try:
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:
            line = ""
        if not line:
            self.errors.seek(0)
            words = self.errors.read().splitlines()[-12:]
            raise environments.PeerUnavailable(f"{self.name} ended: " + "\n".join(words))
        return json.loads(line)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.errors.close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the small model, smaller workloads, three rounds")
    parser.add_argument("--no-peers", action="store_true", help="our engine and the limit alone")
    parser.add_argument("--peers", nargs="+", choices=("tunix", "transformers"), default=("tunix", "transformers"))
    parser.add_argument("--models", nargs="+", choices=tuple(MODELS), help="default: all, or tiny with --quick")
    parser.add_argument("--precisions", nargs="+", choices=("float32", "bfloat16"), default=("float32",))
    parser.add_argument("--workloads", nargs="+", choices=tuple(workloads(True, 9)), help="default: all")
    parser.add_argument("--pairs", type=int, help="rounds of each workload; default 5, or 3 with --quick")
    parser.add_argument("--cores", type=int, default=1, help="cores that each engine may use (default 1: figures that "
                        "other work on the machine disturbs least)")
    parser.add_argument("--environments", type=Path, default=cache_folder() / "peers", help="where peers are installed")
    options = parser.parse_args(arguments)
    peers = () if options.no_peers else options.peers
    pythons, missing = install(peers, options.environments.expanduser().absolute())
    results, pairs = {}, options.pairs or (3 if options.quick else 5)
    for model in options.models or (["tiny"] if options.quick else list(MODELS)):
        for precision in options.precisions:
            with tempfile.TemporaryDirectory(prefix="bench-sampler-") as folder:
                write_model(Path(folder), MODELS[model], precision)
                wanted = workloads(options.quick, MODELS[model].vocabulary)
                for name in options.workloads or wanted:
                    case = f"{model} {precision} {name}"
                    results[case] = compare(case, wanted[name], (folder, precision), pythons, options.cores, pairs,
                                            missing)
    print("load average " + " ".join(f"{load:.1f}" for load in os.getloadavg()))
    print(json.dumps(summary(results) | {"cases": results, "missing": sorted(missing)}))
    return 2 if missing else 0


def install(peers: tuple[str, ...], folder: Path) -> tuple[dict[str, Path], set[str]]:
    """The peers' interpreters, and which peers have none."""
    pythons, missing = {}, set()
    for peer in peers:
        try:
            pythons[peer] = environments.python_of(peer, folder)
        except environments.PeerUnavailable as error:
            environments.say(f"NOT COMPARED: {error}")
            missing.add(peer)
    return pythons, missing


def write_model(folder: Path, config: DecoderConfig, precision: str) -> None:
    """The model as a Hugging Face folder, weights N(0, 0.02)."""
    import jax

    from rl_reasoning.export import write_weights
    from rl_reasoning.models import hf_config
    from rl_reasoning.models.decoder import initialize

    shapes = jax.eval_shape(lambda: initialize(config, jax.random.key(0)))
    rng = np.random.default_rng(0)
    parameters = jax.tree.map(lambda leaf: rng.normal(0, 0.02, leaf.shape).astype(np.float32), shapes)
    write_weights(folder, config, parameters, hf_config.to_hf(config, precision))


def compare(case: str, workload: Workload, model: tuple[str, str], pythons: dict[str, Path], cores: int, pairs: int,
            missing: set[str]) -> dict[str, Any]:
    """Measures one workload: rounds of our engine next to its prefill, to the limit, and to each peer."""
    orders = {"ours": workload.order, "prefill": workload.short(1).order} | {
        name: workload.order | {"name": name, "steps": 8} for name in LIMITS}
    engines = {"ours": (sys.executable, "sample_ours.py")} | {
        name: (python, f"sample_{name}.py") for name, python in pythons.items()
        if not (name == "transformers" and "cache" in workload.name)}
    started = {name: Worker(name, *engine, cores) for name, engine in engines.items()}
    ours = started["ours"]
    workers = dict.fromkeys(orders, ours) | started  # one process: its later parts need not load and compile all again
    try:
        ready = {}
        for name, worker in list(workers.items()):
            try:
                compiling = {"compile_cpu_s": compile_seconds(Worker(name, *engines[name], cores), model, workload)
                             } if name in engines else {}
                ready[name] = compiling | worker.ask(do="prepare", part=name, folder=model[0], precision=model[1],
                                                     workload=orders.get(name, workload.order))
            except environments.PeerUnavailable as error:
                if name not in pythons:
                    raise
                environments.say(f"NOT COMPARED: {error}")
                missing.add(name)
                workers.pop(name).close()
        rounds: dict[str, list[tuple[dict, dict]]] = {name: [] for name in workers if name != "ours"}
        for _ in range(pairs):
            mine = ours.ask(do="run", part="ours")
            for name, found in rounds.items():
                if name in pythons:  # A peer's turn is next to one of ours.
                    mine = ours.ask(do="run", part="ours")
                found.append((mine, workers[name].ask(do="run", part=name)))
    finally:
        for worker in {id(worker): worker for worker in workers.values()}.values():
            worker.close()
    return describe(case, ready, rounds)


def compile_seconds(worker: Worker, model: tuple[str, str], workload: Workload) -> float:
    """Processor seconds of a first short call above those of a later one, in a process of its own, which then ends."""
    try:
        first = worker.ask(do="prepare", part="short", folder=model[0], precision=model[1],
                           workload=workload.short(2).order)["first"]
        later = min(worker.ask(do="run", part="short")["cpu_s"] for _ in range(2))
    finally:
        worker.close()
    return max(0.0, first["cpu_s"] - later)


def describe(case: str, ready: dict[str, dict], rounds: dict[str, list[tuple[dict, dict]]]) -> dict[str, Any]:
    """Prints a workload's lines and returns its figures."""
    ours, prefill = ([mine for pairs in rounds.values() for mine, _ in pairs], rounds.pop("prefill"))
    # What a decoded token costs: the whole without the prefill and the first token of each answer.
    before = statistics.median(first["cpu_s"] for _, first in prefill)
    later = ours[0]["tokens"] - prefill[0][1]["tokens"]
    limits = list(zip(*(rounds.pop(name) for name in LIMITS), strict=True))
    weights = [1 / max(rate(one), rate(other)) for (_, one), (_, other), _ in limits]
    all_of_it = [own + 1 / rate(attention) for own, (_, _, (_, attention)) in zip(weights, limits, strict=True)]
    found: dict[str, Any] = {"ours": engine(ours, ready["ours"])}
    taken = [(mine["cpu_s"] - before) / later for (mine, _), _, _ in limits]  # a token
    for name, least in (("roof_share", all_of_it), ("roof_share_weights", weights)):
        shares = [limit / own for limit, own in zip(least, taken, strict=True)]
        found |= {name: statistics.median(shares), f"{name}_spread": spread(shares)}
    print(f"{case}: ours {line(found['ours'])}; prefill {before:.2f} of {found['ours']['cpu_s']:.2f} CPU-s; decoding "
          f"at {percent(found, 'roof_share')} of the limit, {percent(found, 'roof_share_weights')} of that of weights",
          flush=True)
    for name, pairs in rounds.items():
        wall = [theirs["wall_s"] / mine["wall_s"] for mine, theirs in pairs]
        processor = [rate(mine) / rate(theirs) for mine, theirs in pairs]
        found[name] = engine([theirs for _, theirs in pairs], ready[name]) | {
            "wall_ratio": statistics.median(wall), "wall_ratio_spread": spread(wall),
            "cpu_ratio": statistics.median(processor), "cpu_ratio_spread": spread(processor)}
        print(f"    {name} {line(found[name])}; ours is {found[name]['cpu_ratio']:.2f} times as fast a CPU-s "
              f"({min(processor):.2f} to {max(processor):.2f}), {found[name]['wall_ratio']:.2f} on the clock "
              f"({min(wall):.2f} to {max(wall):.2f})", flush=True)
    return found


def engine(runs: list[dict], ready: dict) -> dict[str, Any]:
    """One engine's figures."""
    usual = statistics.median(run["cpu_s"] for run in runs)
    return {"tokens_per_cpu_s": statistics.median(map(rate, runs)), "cpu_s": usual,
            "wall_s": statistics.median(run["wall_s"] for run in runs), "tokens": runs[0]["tokens"],
            "peak_mb": ready["peak_mb"], "compile_cpu_s": ready["compile_cpu_s"]}


def line(figures: dict[str, Any]) -> str:
    return (f"{figures['tokens_per_cpu_s']:,.0f} tokens a CPU-s, peak {figures['peak_mb']:.0f} MB above start, compile "
            f"{figures['compile_cpu_s']:.1f} CPU-s")


def percent(found: dict[str, Any], name: str) -> str:
    low, high = found[f"{name}_spread"]
    return f"{100 * found[name]:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def rate(run: dict) -> float:
    return run["tokens"] / run["cpu_s"]


def spread(values: list[float]) -> list[float]:
    return [min(values), max(values)]


def summary(results: dict[str, dict]) -> dict[str, Any]:
    """The first case's figures under short names, for whoever reads only those."""
    first = next(iter(results.values()))
    return {"roof_share": first["roof_share"], **{name: first["ours"][name] for name in (
        "tokens_per_cpu_s", "peak_mb", "compile_cpu_s")}}


if __name__ == "__main__":
    sys.exit(main())
