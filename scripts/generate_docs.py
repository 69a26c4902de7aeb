"""Writes the parts of the documentation that come from the code: README's table of algorithms, and docs/metrics.md.

    python scripts/generate_docs.py [--check]      # with --check it writes nothing and exits with 1 when some are old
"""

import argparse
import pathlib
import re
import sys

from rl_reasoning.algorithms import ALGORITHMS
from rl_reasoning.reporting.glossary import METRICS

ROOT = pathlib.Path(__file__).parent.parent
_TABLE = re.compile(r"(<!-- algorithms -->\n).*?(<!-- /algorithms -->\n)", re.DOTALL)
FIRST = """# What each metric means

`metrics.jsonl` in a run's folder has a line for each step; TensorBoard and the report have the same numbers.

**What to look at first.** `reward/mean` and `policy/entropy`, then `length/mean`. A healthy run's reward rises with
noise, its entropy falls slowly and stays above 0, its answers keep their length unless the task pays for longer ones,
and `groups/mixed` stays well above 0: where all answers to a problem are right, or all wrong, group-relative methods
learn nothing from it. Held-out Pass@k, not the reward, says whether anything was learnt.

**What looks wrong and is not.** `loss/policy` is near 0 on-policy: its value says nothing, its gradient does.
`ratio/clipped_*` is 0 when every rollout gives one update. `policy/kl_behaviour` is near 0 then, too.

**What is wrong.** `mismatch/max` above rounding error (1e-4 in float32): sampler and trainer disagree.
`reward/unscorable` above 0.02: the verifier fails. `optimizer/skipped` above 0: gradients without a value.
`length/truncated` that grows: answers no longer end. Entropy that falls to 0 within a few steps: the learning rate is
too high.

| metric | meaning |
| :-- | :-- |
"""


def algorithm_table() -> str:
    """A row a paper: the names of its methods, and its title."""
    papers: dict[str, list[str]] = {}
    for name, entry in ALGORITHMS.items():
        papers.setdefault(entry.paper, []).append(name)
    rows = [f"| {', '.join(f'`{name}`' for name in names)} | {paper} |" for paper, names in papers.items()]
    return "\n".join(["| `--config.algorithm=` | from |", "| :-- | :-- |", *rows]) + "\n"


def metric_page() -> str:
    """The glossary of the report, as a page."""
    return FIRST + "".join(f"| `{name}` | {meaning} |\n" for name, meaning in METRICS.items())


def pages() -> dict[pathlib.Path, str]:
    """What each file is to hold."""
    readme = ROOT / "README.md"
    table = algorithm_table()
    return {readme: _TABLE.sub(lambda found: found[1] + table + found[2], readme.read_text("utf-8")),
            ROOT / "docs" / "metrics.md": metric_page()}


def main(arguments: list[str]) -> int:
    """Writes or checks; the value is the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 when a file is old")
    check = parser.parse_args(arguments).check
    old = [path for path, text in pages().items() if not path.exists() or path.read_text("utf-8") != text]
    for path in old:
        print(f"{path.relative_to(ROOT)} {'is old' if check else 'written'}")
        if not check:
            path.write_text(pages()[path], "utf-8")
    return int(check and bool(old))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
