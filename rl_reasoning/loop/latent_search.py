"""Mode latent_search: a policy thinks longer about held-out problems, by several methods, and learns nothing."""

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

from rl_reasoning import keys
from rl_reasoning.config import Experiment
from rl_reasoning.edge import ConfigError
from rl_reasoning.latent import Attempts, Reward, best_of, latent_search, rewards
from rl_reasoning.latent.checks import WEIGHTS, SelfChecks
from rl_reasoning.latent.compare import Searched, budgets, judge, report, summaries
from rl_reasoning.latent.value import by_value, fit_value
from rl_reasoning.loop.describe import describe_model
from rl_reasoning.loop.evaluating import asked_policy
from rl_reasoning.loop.setup import Lab, make_verifier
from rl_reasoning.models.decoder import Parameters
from rl_reasoning.reporting.console import say
from rl_reasoning.reporting.run_folder import RunFolder
from rl_reasoning.tasks.pool import Verifier
from rl_reasoning.types import Outcome, Problem

# Which answer counts; for the other methods the settings say it.
RULES = {"greedy": "last", "best_of": "best", "greedy_best_of": "best", "majority": "vote"}


def search_policy(experiment: Experiment) -> RunFolder:
    """Searches by every method that the settings name, prints their table, and returns the folder with all answers.

    Raises:
      ConfigError: settings that cannot be run.
      NothingScored, PoolError: verifiers judged nothing, or broke down.
    """
    asked = asked_policy(experiment)
    lab = asked.lab
    # The reward may be a function that the settings name; what counts in the table is the task's own word.
    own = lab.verifier if not experiment.verifier.function else make_verifier(
        lab.task, dataclasses.replace(experiment.verifier, function=""))
    try:
        say(describe_model(lab.policy.config, experiment.rl.optimizer)[0])
        folder = RunFolder.create(experiment.workdir, f"{experiment.name}-latent-seed{experiment.seed}")
        say(f"run folder: {folder.path}")
        folder.write_config(lab.experiment, sys.argv)
        runs = search_all(lab, asked.parameters, own, folder)
        most = experiment.evaluation.sampling.max_tokens
        records = summaries(runs, budgets(runs, most), experiment.evaluation.bootstrap, experiment.seed)
    finally:
        lab.verifier.close()
        own.close()
    folder.write_lines("latent_search", records)
    say(report(records), file=sys.stdout)
    return folder


def search_all(lab: Lab, parameters: Parameters, verifier: Verifier, folder: RunFolder) -> list[Searched]:
    """Every method that the settings name, judged by the task's verifier; its answers are written as it ends."""
    settings = lab.experiment.latent
    runs: list[Any] = []
    reward = make_reward(lab, parameters, verifier)
    for name in settings.methods:
        began = time.perf_counter()
        attempts = _search(lab, parameters, name, reward, [run.attempts for run in runs])
        seconds = time.perf_counter() - began
        runs.append(judge(name, attempts, RULES.get(name, settings.answer), verifier, seconds))
        say(f"{name}: {attempts.counts.sum()} answers, {attempts.tokens.sum()} tokens, {seconds:.1f} s")
        folder.write_lines(f"latent_{name}", runs[-1].records())
    if isinstance(reward, SelfChecks):
        say(reward.described())
    return runs


def make_reward(lab: Lab, parameters: Parameters, verifier: Verifier) -> Reward:
    """The reward that the settings name. Args: verifier: the task's own."""
    makers: dict[str, Callable[[], Reward]] = {
        "perfect": lambda: rewards.perfect(verifier),
        "verifier": lambda: rewards.by_verifier(lab.verifier),
        "self": lambda: _self_checks(lab, parameters, verifier),
        "likelihood": lambda: rewards.likelihood(lab.policy.config, parameters),
        "value": lambda: _value(lab, parameters, verifier),
    }
    return makers[lab.experiment.latent.reward]()


def _self_checks(lab: Lab, parameters: Parameters, verifier: Verifier) -> SelfChecks:
    settings, seed = lab.experiment.latent, lab.experiment.seed

    def readable(problem: Problem, text: str) -> bool:
        return verifier.verify_all([(problem, text)])[0].outcome != Outcome.UNPARSABLE

    try:
        return SelfChecks(
            lab.policy, parameters, lab.held_out, max_tokens=lab.experiment.evaluation.sampling.max_tokens,
            sampling=settings.checks, key=keys.derive(seed, keys.Role.SEARCH, 1), penalty=settings.format_penalty,
            batch=len(WEIGHTS) * min(settings.batch, len(lab.held_out)), readable=readable)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _value(lab: Lab, parameters: Parameters, verifier: Verifier) -> Reward:
    settings, seed = lab.experiment.latent, lab.experiment.seed
    problems = lab.train[:settings.value_problems]
    head = fit_value(lab.policy, parameters, verifier, problems, lab.experiment.evaluation.sampling,
                     keys.derive(seed, keys.Role.SEARCH, 2), min(settings.batch, len(problems)))
    return by_value(lab.policy.config, parameters, head)


def _search(lab: Lab, parameters: Parameters, name: str, reward: Reward, earlier: Sequence[Attempts]) -> Attempts:
    """One method's answers to the held-out problems."""
    settings, sampling, seed = lab.experiment.latent, lab.experiment.evaluation.sampling, lab.experiment.seed
    arguments = lab.policy, parameters, lab.held_out
    drawn = keys.derive(seed, keys.Role.EVALUATION, 0)
    if name == "greedy":
        return best_of(*arguments, None, settings, sampling=sampling, key=drawn, most=1, greedy_first=True)
    if name in ("best_of", "greedy_best_of"):
        return best_of(*arguments, reward, settings, sampling=sampling, key=drawn, most=settings.steps + 1,
                       greedy_first=name == "greedy_best_of")
    if name == "majority":  # it judges nothing, so it can have more answers for the same tokens
        spent = max((int(attempts.tokens.sum(axis=1).max()) for attempts in earlier), default=0)
        most = max(settings.steps + 1, math.ceil(spent / sampling.max_tokens))
        return best_of(*arguments, None, settings, sampling=sampling, key=drawn, most=most)
    return latent_search(*arguments, reward, settings, max_tokens=sampling.max_tokens,
                         key=keys.derive(seed, keys.Role.SEARCH, 0), method=name)
