"""Times one update: tokens a CPU-second, share of what its matrix products alone would take, memory, compile time.

    python scripts/bench_trainer.py --quick --no-peers          # 4.9M, a minute or two
    python scripts/bench_trainer.py --sizes tiny 135m --peers-folder ~/.cache/peers
    python scripts/bench_trainer.py --topology=v5e:4x4 --rows=16 --mlp-blocks=4       # compiled for a slice, not run

The update is GRPO's clipped loss on given answers. Each side is a process of its own. `roof_share` is the time of our
matrix products, each shape timed alone in our update's process with its own operands, over the time of the whole
update, the least of either, since other work on the machine only adds to it; products that a pass makes again to save
memory do not count, so 1 is out of reach. Attention's products of scores and values are among them, by the share of
the pairs of positions that a query may see (`seen`: of a fixed row 1/2; packed rows have less). `padding` is the share
of the rows' places that hold no token. Ragged batches have long-tailed lengths (most answers short, few long), which is
where packing pays. Peers, each in an environment of its own, on the same sizes and batch: google-tunix's own GRPO loss
and optimizer step, and transformers' model with the loss written out in plain torch. Ratios, the peer's seconds over
ours, are of steps timed one after the other. `compile_cpu_s` is tracing, lowering and compiling in a new process,
google-tunix's by turns with ours `--compiles` times: medians, and ours over theirs in the rounds. CPU seconds are the
process's, `peak_mb` what our process had at most until it was warm. The last line is one JSON object.

With --topology nothing is timed: our update and google-tunix's, AdamW's step with each, of Qwen2.5-7B's sizes in
bfloat16 are compiled ahead of time for that slice, on any machine with libtpu (`pip install -e '.[plan]'`).
"""

import argparse
import dataclasses
import json
import os
import statistics
import sys
from pathlib import Path

import jax
from peer_check import cores
from peer_check.environments import PeerUnavailable, python_of
from peer_check.timed_peer import TimedPeer
from peer_check.update_case import ANSWER, PROMPT, ROWS, SIZES, answers

from rl_reasoning.config.training import REMATS
from rl_reasoning.models.architecture import ATTENTIONS
from rl_reasoning.without_tpu import NO_TPU

PEERS = {"tunix": "tunix", "torch": "transformers"}  # what each step of `peer_check` runs in


@dataclasses.dataclass(frozen=True)
class Case:
    """What is timed: a model of `SIZES`, number types, and lengths that are all alike or ragged."""

    size: str
    dtype: str
    ragged: bool

    @property
    def name(self) -> str:
        return f"{self.size} {self.dtype} {'ragged' if self.ragged else 'fixed'}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "bfloat16"), default=["float32"])
    parser.add_argument("--remat", choices=REMATS, default="",
                        help="what is computed again (default none; with --topology block)")
    parser.add_argument("--topology", default="", help="a TPU slice to compile for, as in v5e:4x4 or v5p:2x2x4")
    parser.add_argument("--rows", type=int, default=16, help="with --topology: rows of 1,024 tokens (default 16)")
    parser.add_argument("--attention", choices=ATTENTIONS, default="xla", help="with --topology: ours (default xla)")
    parser.add_argument("--mlp-blocks", type=int, default=1, help="with --topology: ours (default 1)")
    parser.add_argument("--as-on-cpu", action="store_true", help="with --topology: google-tunix's activations lie "
                        "where they fall, as its code leaves them where the host has no TPU")
    parser.add_argument("--pairs", type=int, default=5, help="timed steps of each side (default 5)")
    parser.add_argument("--compiles", type=int, default=3, help="processes that compile, of each side (default 3)")
    cores.add_option(parser)
    parser.add_argument("--quick", action="store_true", help="the small model, few blocks")
    parser.add_argument("--no-peers", action="store_true", help="our update alone")
    parser.add_argument("--peers-folder", type=Path, default=Path("peers"), help="where peers' environments are or go")
    options = parser.parse_args(arguments)
    if options.topology:
        return compiled_for_a_slice(options)
    for name in ("pairs", "compiles"):
        if getattr(options, name) < 1:
            parser.error(f"--{name}={getattr(options, name)}: must be 1 or more")
    cores.keep_to(options.cores, parser)
    if options.quick:
        options.sizes, options.pairs, options.compiles = ["tiny"], min(options.pairs, 3), 1
    print(f"{cores.words(options.cores)}, jax {jax.__version__}")
    cases = [Case(size, dtype, ragged) for size in options.sizes for dtype in options.dtypes
             for ragged in (False, True)]
    results = {}
    for case in cases:
        try:
            results[case.name] = found = measure(case, options)
        except PeerUnavailable as error:
            print(f"error: {case.name}: {error}", file=sys.stderr)
            return 2
        print(f"{case.name}: " + ", ".join(f"{name} {value:.4g}" for name, value in found.items()), flush=True)
    print(json.dumps({"load": os.getloadavg()[0], "cases": results, **results[cases[0].name]}))
    return 0


def compiled_for_a_slice(options: argparse.Namespace) -> int:
    """The comparison without noise: what two compiled updates take on a chip."""
    os.environ |= NO_TPU
    from peer_check import compiled

    wanted = compiled.Wanted(options.topology, options.rows, options.remat or "block", options.mlp_blocks,
                             options.as_on_cpu, dataclasses.replace(compiled.CONFIG, attention=options.attention))
    try:
        found = compiled.compare(wanted, None if options.no_peers else options.peers_folder)
    except (ValueError, PeerUnavailable) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    for side, figures in found.items():
        print(f"{side}: {figures:.3f}" if isinstance(figures, float) else
              f"{side}: " + ", ".join(f"{name} {value:.4g}" for name, value in figures.items()))
    print(json.dumps({**dataclasses.asdict(wanted), **found}))
    return 0


def measure(case: Case, options: argparse.Namespace) -> dict[str, float]:
    """Our figures for one case, and ratios to the peers' where they are asked."""
    given = answers(SIZES[case.size], ROWS[case.size], case.ragged)
    sides, compiles = started(case, given.lengths.tolist(), options)
    ours, *peers = sides
    before = ours.ask({"limit": True})["limit"]
    mine, theirs = [], {peer: [] for peer in peers}
    for _ in range(options.pairs):
        mine.append(ours.step())
        for peer, steps in theirs.items():
            steps.append(peer.step())
    limit = min(before, ours.ask({"limit": True})["limit"])  # a machine has slow moments, too
    for side in sides:
        side.stop()
    seconds = [step["cpu"] for step in mine]
    median, tokens = statistics.median(seconds), float(given.lengths.sum() + given.prompt_lengths.sum())
    found = {"tokens_per_cpu_s": tokens / median, "step_cpu_s": median,
             "step_wall_s": statistics.median(step["wall"] for step in mine),
             "spread": (max(seconds) - min(seconds)) / median, "roof_share": limit / min(seconds)}
    found |= {name: ours.first[name] for name in ("padding", "seen", "temporaries_mb", "peak_mb")}
    for peer, steps in theirs.items():
        found |= {f"{kind}_ratio_{peer.name}": statistics.median(other[kind] / own[kind] for other, own in zip(
            steps, mine, strict=True)) for kind in ("wall", "cpu")}
    return found | compile_figures(compiles)


def started(case: Case, lengths: list[int], options: argparse.Namespace,
            ) -> tuple[list[TimedPeer], dict[str, list[float]]]:
    """Each side's process, ours first, warm, and CPU seconds to compile by side, of each round, whose last are kept."""
    order = {"config": dataclasses.asdict(SIZES[case.size]), "dtype": case.dtype, "rows": ROWS[case.size],
             "ragged": case.ragged, "prompt": PROMPT, "answer": ANSWER, "threads": options.cores, "lengths": lengths,
             "remat": options.remat or "none"}
    names = ["ours"] if options.no_peers else ["ours", *PEERS]
    variables = {} if options.no_peers else {"JAX_PLATFORMS": "cpu"}  # where peers are compared
    pythons = {name: python_of(PEERS[name], options.peers_folder) if name in PEERS else Path(sys.executable)
               for name in names}
    sides: dict[str, TimedPeer] = {}
    seconds: dict[str, list[float]] = {}
    for _ in range(options.compiles):
        for name in names:
            if name in sides:
                if name not in seconds:
                    continue  # torch, which compiles nothing
                sides[name].stop()
            sides[name] = TimedPeer.start(name, pythons[name], f"train_{name}.py", order, **variables)
            if spent := sides[name].first["compile"]:
                seconds.setdefault(name, []).append(spent)
    return list(sides.values()), seconds


def compile_figures(seconds: dict[str, list[float]]) -> dict[str, float]:
    """Medians by side, and our share of a peer's in the rounds: median, least and most."""
    found = {"compile_cpu_s": statistics.median(seconds["ours"])}
    for name in seconds.keys() - {"ours"}:
        shares = [mine / other for mine, other in zip(seconds["ours"], seconds[name], strict=True)]
        found |= {f"{name}_compile_cpu_s": statistics.median(seconds[name]),
                  f"compile_share_{name}": statistics.median(shares), f"compile_share_{name}_least": min(shares),
                  f"compile_share_{name}_most": max(shares)}
    return found


if __name__ == "__main__":
    sys.exit(main())
