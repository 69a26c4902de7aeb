"""Writes a run's policy as a Hugging Face folder: transformers reads it, and vLLM takes the same layout.

    python scripts/export.py runs/hf-w_reinforce-seed0 --to=hf exported
    python scripts/export.py RUN_DIR --to=hf OUT --dtype=bfloat16 --step=40
    python scripts/export.py RUN_DIR --to=peft OUT       # a LoRA run's adapters alone, as PEFT reads them

With --to=hf adapters are merged into the weights. OUT appears whole or not at all.
"""

import argparse
import sys
from pathlib import Path

from rl_reasoning.loop.restore import export_run


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a run's folder: it holds config.json and checkpoints")
    parser.add_argument("out", type=Path, help="the folder to write; must not exist or be empty")
    parser.add_argument("--to", choices=("hf", "peft"), required=True, help="the whole model, or its adapters")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="default %(default)s")
    parser.add_argument("--step", type=int, help="which checkpoint; the last one otherwise")
    parser.add_argument("--shard-bytes", type=int, default=5 * 10**9, help="the most bytes of a file's tensors")
    options = parser.parse_args(arguments)
    try:
        export_run(options.run, options.out, step=options.step, dtype=options.dtype, shard_bytes=options.shard_bytes,
                   adapters_only=options.to == "peft")
    except (OSError, ValueError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
