"""One step of the loop in a process of its own: prints the digest of the update's program, and how many programs were
found compiled and how many were not."""

import collections
import dataclasses
import hashlib
import sys

import jax
from two_arms import make_lab

from rl_reasoning.loop.reinforce import begin, make_trainer, train_step


def main():
    counts = collections.Counter()
    jax.monitoring.register_event_listener(lambda name, **_: counts.update([name.rsplit("/", 1)[-1]]))
    trainer, digests = make_trainer(make_lab(0, algorithm="grpo", prompts=4, samples=4, minibatches=1), "grpo"), []

    def update(state, batch):
        again = make_trainer(trainer.lab, "grpo").update
        digests.extend(hashlib.sha256(each.lower(state, batch).as_text().encode()).hexdigest()
                       for each in (trainer.update, again))
        return trainer.update(state, batch)

    first = trainer.lab.first()
    train_step(dataclasses.replace(trainer, update=update), begin(trainer, first), 1, first)
    sys.stdout.write(" ".join([*digests, str(counts["cache_hits"]), str(counts["cache_misses"])]) + "\n")


if __name__ == "__main__":
    main()
