"""Our update in a process of its own, for scripts/bench_trainer.py, as the peers' are.

The first line of standard input is the case as JSON. One line of JSON comes back when the update is compiled and warm:
what is known of it before it is timed. Then one for each further line: {"cpu": seconds, "wall": seconds} of a step, or
{"limit": CPU seconds} of its matrix products alone where the line asks for that.
"""

import json
import os
import resource
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

import jax

from peer_check import update_limit
from peer_check.update_case import answers, compiled, prepared, stepper
from rl_reasoning.models.architecture import DecoderConfig, Precision
from rl_reasoning.training.states import Memory


def main() -> None:
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # What libraries print is no answer.

    def answer(found: dict[str, float]) -> None:
        out.write(json.dumps(found) + "\n")
        out.flush()

    case = json.loads(sys.stdin.readline())
    jax.config.update("jax_enable_compilation_cache", False)
    sizes = {name: tuple(value) if isinstance(value, list) else value for name, value in case["config"].items()}
    config = DecoderConfig(**sizes | {"precision": Precision(*[case["dtype"]] * 3)})
    given = answers(config, case["rows"], case["ragged"], case["answer"])
    update, state, batch = prepared(config, given, Memory(case["remat"]))
    program, seconds = compiled(update, state, batch)
    step = stepper(program, state, batch)
    step()  # warm
    answer({"compile": seconds, "padding": batch.padding,
            "seen": update_limit.seen_share(batch),
            "temporaries_mb": program.memory_analysis().temp_size_in_bytes / 1e6,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3})
    for line in sys.stdin:
        if json.loads(line).get("limit"):
            answer({"limit": update_limit.limit_seconds(config, given, batch)})
        else:
            answer(dict(zip(("cpu", "wall"), step(), strict=True)))


if __name__ == "__main__":
    main()
