"""Our update and google-tunix's of Qwen2.5-7B's sizes, compiled for a TPU slice that is not there: nothing is run."""

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

from peer_check.environments import python_of, run
from rl_reasoning.algorithms import ALGORITHMS
from rl_reasoning.config import RL, Mesh
from rl_reasoning.models.architecture import DecoderConfig, Precision
from rl_reasoning.models.published import SIZES
from rl_reasoning.parallel import make_layout
from rl_reasoning.plan import hlo, slices
from rl_reasoning.plan.chips import chip_of
from rl_reasoning.plan.planner import Slice
from rl_reasoning.plan.programs import Sizes, update_program

TOKENS = 512  # of a prompt, and of an answer
CONFIG = dataclasses.replace(SIZES["qwen2.5-7b"], precision=Precision("bfloat16", "bfloat16", "bfloat16"))


@dataclasses.dataclass(frozen=True)
class Wanted:
    """What is compiled: how many rows of a prompt and an answer, and how our update saves memory.

    Attributes: as_on_cpu: google-tunix's activations are not placed, which its code does on hosts with TPUs alone.
    """

    topology: str
    rows: int = 16
    remat: str = "block"
    mlp_blocks: int = 1
    as_on_cpu: bool = False
    config: DecoderConfig = CONFIG


def ours(wanted: Wanted) -> dict[str, float]:
    """Temporaries on a chip in GiB, TFLOP, and GB read and written and sent; AdamW's step is in it."""
    config, devices = wanted.config, slices.devices(wanted.topology)
    rl = RL(prompts=wanted.rows, samples=1, minibatches=1, max_tokens=TOKENS, row_length=2 * TOKENS,
            remat=wanted.remat, mlp_blocks=wanted.mlp_blocks)
    layout = make_layout(Mesh(fsdp=len(devices)), config.sizes, devices, even_alone=True)
    assert layout
    found = Slice(chip_of(wanted.topology), devices).compiled(
        update_program(Sizes(config, rl, ALGORITHMS["grpo"], TOKENS), layout), layout)
    if "temporaries" not in found.memory:
        raise ValueError(f"our update needs {found.memory['total'] / 2**30:.2f} GiB a chip of {wanted.topology}, which "
                         "has less; give fewer --rows, a larger slice, --remat=offload or more --mlp-blocks")
    return _figures(found.memory["temporaries"], hlo.Work(found.flops, found.bytes, found.collectives))


def tunix(wanted: Wanted, folder: Path) -> dict[str, float]:
    """The same of google-tunix, each of whose layers is computed again. Raises PeerUnavailable: it did not compile."""
    import libtpu

    python = python_of("tunix", folder)
    with tempfile.TemporaryDirectory(prefix="bench-trainer-") as scratch:
        text = Path(scratch) / "program.txt"
        case = {"topology": wanted.topology, "rows": wanted.rows, "prompt": TOKENS, "answer": TOKENS,
                "dtype": "bfloat16", "placed": not wanted.as_on_cpu, "text": str(text),
                "config": dataclasses.asdict(wanted.config)}
        said = run("tunix", [str(python), str(Path(__file__).parent / "compile_tunix.py")], json.dumps(case),
                   TPU_LIBRARY_PATH=libtpu.get_library_path())
        found = json.loads(said.splitlines()[-1])
        return _figures(found["temporaries"], hlo.read(text.read_text()) if text.exists() else hlo.Work())


def compare(wanted: Wanted, folder: Path | None) -> dict[str, Any]:
    """Our figures, and with a folder of environments the peer's with what share of it ours are."""
    found: dict[str, Any] = {"ours": ours(wanted)}
    if folder:
        found["tunix"] = tunix(wanted, folder)
        found |= {f"{name}_share": found["ours"][name] / value for name, value in found["tunix"].items() if value}
    return found


def _figures(temporaries: float, work: hlo.Work) -> dict[str, float]:
    """Work is 0 where the program cannot be read back, as some of v5p's."""
    return {"temporaries_gib": temporaries / 2**30, "tflop": work.flops / 1e12, "gb": work.bytes / 1e9,
            "sent_gb": sum(work.collectives.values()) / 1e9}
