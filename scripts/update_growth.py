"""How one update's time, memory and compile time grow with rows, tokens, layers, vocabulary and devices.

    python scripts/update_growth.py            # two or three minutes on two cores
    python scripts/update_growth.py --quick    # a toy size: seconds

One thing at a time is doubled, twice, from one small setting: GRPO's clipped loss on answers that all have the most
tokens, float32, nothing computed again. CPU seconds and temporaries are of a run of the compiled update, the least of
three; on several devices, which share this machine's cores, the CPU seconds are of all and the temporaries of one.
The last line is one JSON object.
"""

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterator

import jax
from peer_check.update_case import answers, compiled, prepared, stepper

from rl_reasoning.config import Mesh
from rl_reasoning.models.architecture import DecoderConfig
from rl_reasoning.parallel import make_layout

DEVICES = 8


@dataclasses.dataclass(frozen=True)
class Setting:
    """What an update is made of. longest: tokens of an answer; every prompt has `update_case.PROMPT`."""

    rows: int = 8
    longest: int = 128
    layers: int = 4
    vocabulary: int = 4_096
    devices: int = 1
    width: int = 256

    @property
    def config(self) -> DecoderConfig:
        return DecoderConfig(self.vocabulary, self.layers, self.width, self.width // 32, max(1, self.width // 128), 32,
                             4 * self.width)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a toy size, everything doubled once")
    options = parser.parse_args(arguments)
    jax.config.update("jax_num_cpu_devices", DEVICES)
    jax.config.update("jax_enable_compilation_cache", False)
    base = Setting(rows=8, longest=16, layers=1, vocabulary=64, width=32) if options.quick else Setting()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, jax {jax.__version__}; base: {base}")
    print(f"{'':10} {'value':>8} {'CPU s':>9} {'ratio':>6} {'MB':>9} {'ratio':>6} {'compile CPU s':>14}")
    tables: dict[str, list[dict[str, float]]] = {}
    known: dict[Setting, dict[str, float]] = {}
    for name, setting in grown(base, 1 if options.quick else 2):
        if setting not in known:
            known[setting] = measured(setting)
        found = {"value": getattr(setting, name), **known[setting]}
        before = tables.setdefault(name, [])
        ratios = {of: found[of] / before[-1][of] if before else 1.0 for of in ("cpu_s", "temporaries_mb")}
        before.append(found)
        cells = (f"{found[of]:9.3f} {ratios[of]:6.2f}" for of in ratios)
        print(f"{name:10} {found['value']:8}", *cells, f"{found['compile_cpu_s']:14.1f}", flush=True)
    print(json.dumps(tables))
    return 0


def grown(base: Setting, doublings: int) -> Iterator[tuple[str, Setting]]:
    """What is doubled, and the setting: a row of a table each. Devices come in eights at the most."""
    for name in ("rows", "longest", "layers", "vocabulary", "devices"):
        for power in range(doublings + 1 + (name == "devices" and doublings > 1)):
            yield name, dataclasses.replace(base, **{name: getattr(base, name) << power})


def measured(setting: Setting) -> dict[str, float]:
    """One update: CPU seconds to compile and of a step, and temporaries of a device."""
    layout = make_layout(Mesh(fsdp=setting.devices), setting.config.sizes) if setting.devices > 1 else None
    given = answers(setting.config, setting.rows, False, setting.longest)
    update, state, batch = prepared(setting.config, given, layout=layout)
    program, compile_seconds = compiled(update, state, batch)
    step = stepper(program, state, batch)
    step()  # warm
    temporaries = program.memory_analysis().temp_size_in_bytes / 1e6
    return {"cpu_s": min(step()[0] for _ in range(3)), "temporaries_mb": temporaries, "compile_cpu_s": compile_seconds}


if __name__ == "__main__":
    sys.exit(main())
