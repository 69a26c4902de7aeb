"""Pass@k of a file of answers, and its verdicts again by another grader; no model is needed.

    python scripts/score.py runs/math-w_reinforce-seed0/evaluations/base.jsonl
    python scripts/score.py FILE --grader=math_equal            # judge again: exact, math_verify, is_equiv, math_equal
    python scripts/score.py FILE --config.verifier.function=my_reward:score
    python scripts/score.py THEIRS.jsonl --n=256                # answers written by RLVR-Decomposed's eval.py

FILE holds one answer a line: as an evaluation of this project writes them, or with RLVR-Decomposed's fields
question_id, label (is it right) and response. Without --grader the verdicts of the file are counted, and the numbers
are those that its own calculate_metrics prints. --out writes the judged answers, --csv Pass@k for every k.
"""

import argparse
import sys
from pathlib import Path

from rl_reasoning.edge import ConfigError
from rl_reasoning.evaluation.summary import NothingToSummarize, Tally, every_k_csv
from rl_reasoning.loop.rescoring import first_answers, score_file, write_records
from rl_reasoning.tasks.maths.graders import GRADERS


def table(summary: dict) -> str:
    """The numbers of an evaluation as text."""
    scored = f"{summary['problems']} problems, {summary['samples']} answers each"
    lines = [scored if not summary["unscorable_problems"] else
             f"{scored}; {summary['unscorable_problems']} problems without a scored answer are left out",
             f"{'k':>6}{'Pass@k, %':>12}{'95 % interval':>20}{'maj@k, %':>12}"]
    for k, (mean, low, high) in summary["pass_at_k"].items():
        votes = summary["maj_at_k"].get(k)
        lines.append(f"{k:>6}{100 * mean:>12.2f}{f'[{100 * low:.2f}, {100 * high:.2f}]':>20}"
                     f"{100 * votes[0]:>12.2f}")
    lines.append(f"avg@{summary['samples']} is Pass@1. Solved: {summary['solved']} of {summary['problems']}. Distinct "
                 f"answers a problem: {summary['distinct_answers']:.1f}. Unscorable: "
                 f"{100 * summary['unscorable']:.2f} % of the answers.")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    """Reads the command line and prints; the value is the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--grader", choices=tuple(GRADERS), default="", help="judge every answer again")
    parser.add_argument("--n", type=int, default=0, help="count the first n answers of each problem; all otherwise")
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamples for the intervals")
    parser.add_argument("--out", type=Path, help="a new file for the judged answers")
    parser.add_argument("--csv", type=Path, help="a file for Pass@k at every k")
    options, rest = parser.parse_known_args(arguments)
    changes = dict(part.removeprefix("--config.").split("=", 1) for part in rest
                   if part.startswith("--config.") and "=" in part)
    if len(changes) != len(rest):
        parser.error(f"unknown argument {next(part for part in rest if not part.startswith('--config.'))!r}")
    try:
        scored = score_file(options.file, options.grader, changes)
        tally = Tally()
        records = first_answers(scored.records, options.n) if options.n else scored.records
        tally.add(write_records(options.out, records) if options.out else records)
        summary = tally.summary(max(tally.sizes()), options.bootstrap, seed=0)
    except (ConfigError, NothingToSummarize, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(table(summary))
    if options.csv:
        options.csv.write_text(every_k_csv(*tally.counts(), options.bootstrap, seed=0), encoding="ascii")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
