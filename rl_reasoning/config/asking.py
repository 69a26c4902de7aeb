"""Settings of asking a policy: how answers are drawn, evaluated and searched for."""

import dataclasses

from rl_reasoning.config.setting import setting
from rl_reasoning.config.training import Optimizer

LATENT_METHODS = ("greedy", "latent", "noise", "best_of", "greedy_best_of", "majority")


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How answers are drawn."""

    temperature: float = setting(1.0, low=0.0, doc="0 takes the likeliest token")
    top_p: float = setting(1.0, low=1e-6, high=1.0, doc="smallest probability mass to sample from")
    top_k: int = setting(0, low=0, doc="sample from the k likeliest tokens; 0 is all of them")
    min_p: float = setting(0.0, low=0.0, high=1.0, doc="least probability, as a share of the likeliest token's")
    max_tokens: int = setting(12, low=1, doc="longest answer, end of sequence included")
    min_tokens: int = setting(0, low=0, doc="an answer does not end before it has so many tokens")
    stop: tuple[str, ...] = setting((), doc="texts that end an answer, which keeps them")
    stop_tokens: tuple[str, ...] = setting((), doc="numbers of tokens that end an answer beside the end of sequence")
    forbidden_tokens: tuple[str, ...] = setting((), doc="numbers of tokens that are never drawn")
    begin_with: str = setting("", doc="what every answer begins with; its tokens are the answer's, but not drawn")
    logprobs: str = setting("sampled", choices=("sampled", "policy"), doc="log-probabilities after top_p, top_k and "
                            "min_p, or before")
    slots: int = setting(0, low=0, doc="most answers in work at once, when one ends the next begins; 0 is all")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Pass@k on held-out problems."""

    problems: int = setting(128, low=1, doc="held-out problems")
    first: int = setting(0, low=0, doc="held-out problems to pass over: tune on others than those that are reported")
    samples: int = setting(256, low=1, doc="answers a problem")
    every: int = setting(0, low=0, doc="RL steps between evaluations along training; 0 is only before and after")
    batch: int = setting(1024, low=1, doc="answers sampled at once")
    sampling: Sampling = dataclasses.field(default_factory=Sampling)
    bootstrap: int = setting(1000, low=1, doc="resamples of the problems for the 95 % interval")
    by: tuple[str, ...] = setting((), doc="facts of the problems, such as degree, for tables of accuracy by their "
                                  "values; level, subject and type have theirs where all problems have them")
    traced: int = setting(4, low=0, doc="answers a problem whose tokens are kept, right ones and others")
    run: str = setting("", doc="modes evaluate and latent_search: the folder of the run whose policy is asked; empty "
                       "asks the base")
    step: int = setting(-1, low=-1, doc="which kept step of that run; 0 its base, -1 the last")


@dataclasses.dataclass(frozen=True)
class Latent:
    """Search in latent space at test time (arXiv 2505.13308); where the paper and its code differ, both can be had."""

    methods: tuple[str, ...] = setting(LATENT_METHODS, doc="rows of the table: greedy, latent, noise (random steps), "
                                       "best_of (draws), greedy_best_of (the likeliest answer, then draws), majority "
                                       "(a vote of draws)")
    reward: str = setting("perfect", choices=("perfect", "verifier", "self", "likelihood", "value"), doc="perfect: 0 "
                          "for a right answer, else -1; verifier: its reward less 1; self: the policy's own checks; "
                          "likelihood: its confidence; value: a value head fitted on training problems")
    fraction: float = setting(0.1, low=1e-6, high=1.0, doc="share of the first answer's tokens that become latents")
    cap: int = setting(300, low=1, doc="most latents of a problem")
    steps: int = setting(10, low=0, doc="answers after the first, unless one is good enough")
    threshold: float = setting(-0.2, doc="a reward above this ends a problem's search")
    tokens: str = setting("argmax", choices=("argmax", "sample"), doc="a latent's token: the likeliest (the code), or "
                          "drawn (the paper)")
    answer: str = setting("last", choices=("last", "best"), doc="what is returned: the last answer (paper and code), "
                          "or the one of highest reward")
    baseline: str = setting("none", choices=("none", "mean"), doc="subtracted from a reward: nothing, or the mean of "
                            "the problem's earlier rewards")
    noise: float = setting(0.03, low=0.0, doc="standard deviation of a random step, method noise")
    batch: int = setting(64, low=1, doc="problems side by side")
    checks: Sampling = dataclasses.field(default_factory=lambda: Sampling(temperature=0.0, max_tokens=64))
    format_penalty: float = setting(0.0, low=0.0, doc="weight, of 6 in all, that reward self takes off for an answer "
                                    "that cannot be read; the code's option has 2")
    value_problems: int = setting(2048, low=1, doc="training problems that reward value is fitted on, an answer each")
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: Optimizer(
        learning_rate=0.03, warmup=0, clip_norm=0.0))
