"""Small run folders with known contents."""

import functools

import numpy as np
import pytest

from rl_reasoning.evaluation.pass_at_k import pass_at_k_summary
from rl_reasoning.reporting.run_folder import RunFolder

SAMPLES = 8
BASE_RIGHT = (0, 1, 2, 4, 6, 8)


def answers(rights, samples=SAMPLES, text="1 + 2 = 3"):
    """Sample records: of each problem the first `right` answers are right, the last wrong one is unparsable."""
    for problem, right in enumerate(rights):
        for sample in range(samples):
            outcome = "right" if sample < right else "unparsable" if sample == samples - 1 else "wrong"
            yield {
                "problem": f"problem-{problem}",
                "sample": sample,
                "prompt": "1 2 > 3 :",
                "text": text,
                "answer": "3",
                "outcome": outcome,
                "reward": float(outcome == "right"),
                "reason": f"it is {outcome}",
                "logprob": -1.5,
                "length": 5,
                "stop_reason": "eos",
            }


def summary(label, rights, algorithm="w_reinforce", seed=0, step=0, samples=SAMPLES):
    """A summary record as the evaluation writes it."""
    right, total = np.array(rights), np.full(len(rights), samples)
    return {
        "label": label,
        "algorithm": algorithm,
        "seed": seed,
        "step": step,
        "problems": len(rights),
        "samples": samples,
        "pass_at_k": pass_at_k_summary(right, total, samples, 200, 0),
        "right": right,
        "total": total,
        "entropy": 0.3,
        "length": 5.0,
        "format": 0.9,
        "accuracy_given_format": 0.5,
        "truncated": 0.0,
        "unscorable": 0.0,
    }


@pytest.fixture(scope="session")
def make_run_in():
    """make_run_in(parent, algorithm="psr", seed=1, evaluations={10: rights}): a run's folder with everything in it."""

    def make(parent, algorithm="w_reinforce", seed=0, evaluations=None, text="1 + 2 = 3", **settings):
        folder = RunFolder.create(parent, f"{algorithm}-{seed}")
        config = {"algorithm": algorithm, "seed": seed, "task": {"kind": "countdown"}, **settings}
        folder.write_config(config, ["run.py"], {"jax": "0.10.2"})
        folder.write_evaluation(summary("base", BASE_RIGHT, algorithm, seed), answers(BASE_RIGHT))
        for step in range(1, 4):
            folder.append_metrics(step, "warm_start", {"loss/supervised": 1.0 / step})
        for step in range(1, 11):
            values = {"reward/mean": 0.1 * step + 0.01 * seed, "policy/entropy": 1.0 / step, "loss/kl": 0.0}
            folder.append_metrics(step, "rl", values)
            folder.append_timings(step, "rl", {"time/rollout": 0.5, "time/update": 0.25, "tokens_per_second": 41000.0})
        for step, rights in (evaluations or {10: (2, 3, 4, 5, 7, 8)}).items():
            record = summary(f"step_{step:04d}", rights, algorithm, seed, step)
            folder.write_evaluation(record, answers(rights, text=text))
        return folder

    return make


@pytest.fixture
def make_run(make_run_in, tmp_path):
    """As `make_run_in`, in a folder of the test's own."""
    return functools.partial(make_run_in, tmp_path / "runs")
