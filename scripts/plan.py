"""Plans a run on a TPU slice before it is rented: compiles decode and update for it, on any machine.

    python scripts/plan.py --config=experiments/configs/papers/gvm.py --topology=v5e:4x4
    python scripts/plan.py --topology=v5p:2x2x4 --model=FOLDER --prompt-tokens=512 --config.rl.max_tokens=2048
    python scripts/plan.py --topology=v5e:4x4 --model=qwen2.5-7b --sweep --json

Needs libtpu (`pip install -e '.[plan]'`) and no TPU. Printed for each program: memory a chip, whether it fits,
floating-point operations and bytes with loops counted as often as they run, collectives by kind, and an estimate of
the step's least time. Where it does not fit, three changes of settings are tried. Without a mesh in the settings all
chips are on the fsdp axis. Memory is the compiler's own; times are estimates from peak figures, not measurements.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import sys

from rl_reasoning import edge
from rl_reasoning.config import Experiment, Mesh
from rl_reasoning.models.published import SIZES
from rl_reasoning.without_tpu import NO_TPU

CONFIG = str(pathlib.Path(__file__).parents[1] / "experiments" / "configs" / "countdown.py")
os.environ |= NO_TPU
os.environ.setdefault("TPU_STDERR_LOG_LEVEL", "3")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    parser.add_argument("--topology", default="", help="kind and shape of the slice, as in v5e:4x4 or v5p:2x2x4")
    parser.add_argument("--model", default="", help="sizes by name (--model=list), or a folder with a config.json "
                        "(default: the config's model.source, by its name if it is a published model)")
    parser.add_argument("--prompt-tokens", type=int, default=0, help="longest prompt (default: the task's)")
    parser.add_argument("--slots", type=int, default=0,
                        help="answers in work at once (default: rl.slots, else all of a rollout)")
    parser.add_argument("--sweep", action="store_true", help="every mesh that divides, the fastest first")
    parser.add_argument("--json", action="store_true", help="the last line is the plan as one JSON object")
    options, rest = parser.parse_known_args(argv[1:])
    try:
        return run(options, edge.read_command([argv[0], *rest], CONFIG))
    except (edge.ConfigError, ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def run(options: argparse.Namespace, experiment: Experiment) -> int:
    """Imports jax only now: a typo costs a second."""
    if options.model == "list":
        print("\n".join(sorted(SIZES)))
        return 0
    if not options.topology:
        raise ValueError("--topology is missing: give kind and shape of the slice, as in v5e:4x4 or v5p:2x2x4")
    from rl_reasoning.plan import planner, slices, words
    from rl_reasoning.plan.chips import chip_of
    from rl_reasoning.plan.remedies import remedies

    chip, devices = chip_of(options.topology), slices.devices(options.topology)
    onto = planner.Slice(chip, devices)
    sizes = slices.sizes(experiment, options.model, options.prompt_tokens)
    mesh, slots = experiment.mesh, options.slots or experiment.rl.slots
    if (mesh.data, mesh.fsdp, mesh.context, mesh.tensor) == (1, 1, 1, 1):
        mesh = Mesh(fsdp=0, rules=mesh.rules)
    print(f"{options.topology}: {len(devices)} chips; {sizes.config.layers} layers of width {sizes.config.width}, "
          f"{sizes.rl.prompts} prompts of {sizes.prompt_tokens} tokens x {sizes.rl.samples} answers of "
          f"{sizes.rl.max_tokens}; rows of {sizes.row_length}; remat {sizes.rl.remat}, MLPs in "
          f"{sizes.rl.mlp_blocks} block(s)", flush=True)
    if options.sweep:
        plans = sorted(planner.sweep(sizes, onto, slots, mesh.context or 1),
                       key=lambda one: (not one.fits, one.update.seconds))
    else:
        plans = [planner.plan(sizes, mesh, onto, slots)]
        if not plans[0].fits:
            print("\n".join(words.lines(plans[0], chip)), "does not fit; three changes, tried:", sep="\n", flush=True)
            plans += remedies(sizes, mesh, onto, plans[0], slots)
    for one in plans[1:] if len(plans) > 1 and not options.sweep else plans:
        print("\n".join(words.lines(one, chip)), flush=True)
    if options.json:
        print(json.dumps({"topology": options.topology, "chips": len(devices), "chip": dataclasses.asdict(chip),
                          "plans": [words.record(one) for one in plans]}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
