"""Mode latent_search: the base thinks longer about held-out problems, by several methods, and learns nothing."""

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Sequence

from rl_reasoning import keys
from rl_reasoning.config import Experiment
from rl_reasoning.latent import Attempts, Reward, best_of, latent_search
from rl_reasoning.latent import rewards as reward_functions
from rl_reasoning.latent.compare import Searched, budgets, judge, report, summaries
from rl_reasoning.loop.describe import describe_model
from rl_reasoning.loop.experiment import keep_compiled_programs
from rl_reasoning.loop.setup import Lab, build, make_verifier
from rl_reasoning.loop.warm_start import base
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.reporting.console import say
from rl_reasoning.reporting.run_folder import RunFolder
from rl_reasoning.tasks.pool import PoolError, Verifier

RULES = {"greedy": "last", "best_of": "best", "majority": "vote"}  # of the others the settings say it


def run_latent_search(experiment: Experiment) -> int:
    """Runs what the settings say and returns the exit code: 0, or 1 when a verifier broke down.

    Raises:
      ConfigError: settings that cannot be run.
    """
    keep_compiled_programs(experiment)
    lab = build(experiment)
    # The reward may be a function that the settings name; what counts in the table is the task's own word.
    own = lab.verifier if not experiment.verifier.function else make_verifier(
        lab.task, dataclasses.replace(experiment.verifier, function=""))
    try:
        say(describe_model(lab.policy.config, experiment.rl.optimizer)[0])
        folder = RunFolder.create(experiment.workdir, f"{experiment.name}-latent-seed{experiment.seed}")
        say(f"run folder: {folder.path}")
        folder.write_config(experiment, sys.argv)
        runs = search_all(lab, base(lab), own)
    except PoolError as error:
        say(f"stopped: {error}")
        return 1
    finally:
        lab.verifier.close()
        own.close()
    most = experiment.evaluation.sampling.max_tokens
    records = summaries(runs, budgets(runs, most), experiment.evaluation.bootstrap, experiment.seed)
    folder.write_lines("latent_answers", (record for run in runs for record in run.records()))
    folder.write_lines("latent_search", records)
    say(report(records), file=sys.stdout)
    return 0


def search_all(lab: Lab, parameters: Parameters, verifier: Verifier) -> list[Searched]:
    """Every method that the settings name, judged by the task's verifier."""
    settings, runs = lab.experiment.latent, []
    reward = make_reward(lab, verifier)
    for name in settings.methods:
        began = time.perf_counter()
        attempts = _search(lab, parameters, name, reward, [run.attempts for run in runs])
        seconds = time.perf_counter() - began
        runs.append(judge(name, attempts, RULES.get(name, settings.answer), verifier, seconds))
        say(f"{name}: {attempts.counts.sum()} answers, {attempts.tokens.sum()} tokens, {seconds:.1f} s")
    return runs


def make_reward(lab: Lab, verifier: Verifier) -> Reward:
    """The reward that the settings name. Args: verifier: the task's own."""
    makers: dict[str, Callable[[], Reward]] = {
        "perfect": lambda: reward_functions.perfect(verifier),
        "verifier": lambda: reward_functions.by_verifier(lab.verifier),
    }
    return makers[lab.experiment.latent.reward]()


def _search(lab: Lab, parameters: Parameters, name: str, reward: Reward, earlier: Sequence[Attempts]) -> Attempts:
    """One method's answers to the held-out problems."""
    settings, sampling, seed = lab.experiment.latent, lab.experiment.evaluation.sampling, lab.experiment.seed
    arguments = lab.policy, parameters, lab.held_out
    drawn = keys.derive(seed, keys.Role.EVALUATION, 0)
    if name == "greedy":
        likeliest = dataclasses.replace(sampling, temperature=0.0)
        return best_of(*arguments, None, settings, sampling=likeliest, key=drawn, most=1)
    if name == "best_of":
        return best_of(*arguments, reward, settings, sampling=sampling, key=drawn, most=settings.steps + 1)
    if name == "majority":  # it judges nothing, so it can have more answers for the same tokens
        spent = max((int(attempts.tokens.sum(axis=1).max()) for attempts in earlier), default=0)
        most = max(settings.steps + 1, math.ceil(spent / sampling.max_tokens))
        return best_of(*arguments, None, settings, sampling=sampling, key=drawn, most=most)
    return latent_search(*arguments, reward, settings, max_tokens=sampling.max_tokens,
                         key=keys.derive(seed, keys.Role.SEARCH, 0), method=name)
