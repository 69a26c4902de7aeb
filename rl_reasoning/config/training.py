"""Settings of training: supervised, by reinforcement, and what is kept and watched meanwhile."""

import dataclasses

from rl_reasoning.config.setting import setting

REMATS = ("none", "dots", "block", "full", "offload")  # see `models.remat`


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """An optimizer of optax with linear warm-up and a clipped global norm."""

    name: str = setting("adamw", choices=("adamw", "adafactor", "muon", "lion", "sgd"), doc="which")
    learning_rate: float = setting(2e-5, low=0.0, doc="peak learning rate")
    warmup: int = setting(8, low=0, doc="updates of linear warm-up")
    decay_to: float = setting(1.0, low=0.0, high=1.0, doc="last rate as a share of the peak; 1 is constant")
    schedule: str = setting("linear", choices=("linear", "cosine", "constant"), doc="how the rate goes there")
    beta1: float = setting(0.9, low=0.0, high=0.999999, doc="decay of the first moment")
    beta2: float = setting(0.999, low=0.0, high=0.999999, doc="decay of the second moment")
    weight_decay: float = setting(0.0, low=0.0, doc="decoupled weight decay")
    decayed: str = setting("all", choices=("all", "matrices"), doc="what it shrinks: all, or neither norms nor biases")
    clip_norm: float = setting(1.0, low=0.0, doc="largest global gradient norm; 0 never clips")
    dtype: str = setting("float32", choices=("float32", "bfloat16"), doc="type of the moments")
    average: float = setting(0.0, low=0.0, high=0.999999, doc="decay of averaged parameters, which are then the ones "
                             "that are evaluated and kept; 0 averages nothing")


@dataclasses.dataclass(frozen=True)
class WarmStart:
    """Supervised training of the base: on random valid traces, some with a wrong target, or on text."""

    text: tuple[str, ...] = setting((), doc="train on these instead of traces: .txt files, or sources as of task.math "
                                    "whose rows have a column text")
    window: int = setting(128, low=2, doc="tokens of a piece of text; with text, batch counts pieces")
    steps: int = setting(600, low=0, doc="updates at the first share of wrong targets; 0 keeps the weights as they are")
    batch: int = setting(256, low=1, doc="traces an update")
    wrong: float = setting(0.5, low=0.0, high=1.0, doc="share of traces whose target is shuffled, first phase")
    refine_steps: int = setting(500, low=0, doc="further updates at the second share")
    refine_wrong: float = setting(0.3, low=0.0, high=1.0, doc="share of wrong targets, second phase")
    optimizer: Optimizer = dataclasses.field(default_factory=lambda: Optimizer(
        learning_rate=2e-3, warmup=50, decay_to=0.1, schedule="cosine", beta2=0.98, weight_decay=0.01))

    @property
    def updates(self) -> int:
        """Of both phases; 0 has no warm start."""
        return self.steps + self.refine_steps


@dataclasses.dataclass(frozen=True)
class RL:
    """The reinforcement-learning phase."""

    steps: int = setting(70, low=0, doc="rollouts, each followed by its updates")
    prompts: int = setting(64, low=1, doc="problems a step")
    samples: int = setting(8, low=1, doc="answers a problem")
    minibatches: int = setting(4, low=1, doc="updates a pass over the rollout; must divide prompts")
    epochs: int = setting(1, low=1, doc="passes over each rollout")
    microbatches: int = setting(1, low=1, doc="parts in which a mini-batch's gradient is summed: less memory")
    temperature: float = setting(1.0, low=1e-3, doc="of the rollouts and of the log-probabilities that are trained")
    max_tokens: int = setting(12, low=1, doc="longest answer, end of sequence included")
    row_length: int = setting(0, low=0, doc="tokens of a packed row of the update; 0 fits a prompt and all its answers")
    top_p: float = setting(1.0, low=1e-6, high=1.0, doc="smallest probability mass that rollouts are drawn from")
    top_k: int = setting(0, low=0, doc="rollouts are drawn from the k likeliest tokens; 0 is all of them")
    slots: int = setting(0, low=0, doc="most answers in work at once, when one ends the next begins; 0 is all")
    reference: bool = setting(True, doc="score rollouts under the first policy too, to log how far training has moved")
    analysis_every: int = setting(0, low=0, doc="steps between looks at where the gradient moves probability; 0: none")
    remat: str = setting("none", choices=REMATS, doc="what the backward pass "
                         "computes again to save memory: nothing, all but matrix products, each layer, each layer "
                         "twice, or each layer from inputs kept in the host's memory")
    logits: int = setting(2**24, low=1, doc="logits that are made at once on a device, whatever the batch; 2**24 are "
                          "64 MiB; twice as many are kept for the backward pass, where those are all")
    mlp_blocks: int = setting(1, low=1, doc="parts of an MLP's hidden width that an update makes one after the other, "
                              "and again in the backward pass: what one of them needs is in memory at a time")
    optimizer: Optimizer = dataclasses.field(default_factory=Optimizer)
    stale: int = setting(0, low=0, doc="steps by which the policy that samples is behind the one that is trained, so "
                         "that both are at work at once; 0 takes turns. Above 0 answers are weighted by "
                         "objective.mismatch_level=token unless that or mismatch_reject is set")
    shuffle_rewards: bool = setting(False, doc="permute the rewards over all answers: a control that must not learn")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """What is kept of a run while it goes on, so that it can go on after it was stopped or killed."""

    every: int = setting(10, low=1, doc="RL steps between two saves; the end and a stop are saved in any case")
    warm_start_every: int = setting(200, low=1, doc="updates of a warm start between two saves")
    keep: int = setting(2, low=1, doc="how many of the last saves stay; the one of the best mean reward stays too")
    background: bool = setting(True, doc="write to the disk while training goes on")
    failures: int = setting(3, low=1, doc="saves in a row that may fail, as on a full disk, before the run ends")
    seconds: float = setting(20.0, low=0.1, high=3600.0, doc="after SIGTERM or Ctrl-C: how long a step may take to be "
                             "left before the last complete state is saved without it")


@dataclasses.dataclass(frozen=True)
class Watch:
    """Bands that a healthy run stays in: one line in the log when a metric leaves its band for three steps."""

    entropy_low: float = setting(0.005, low=0.0, doc="policy/entropy in nats below which exploration has ended")
    kl_high: float = setting(1.0, low=0.0, doc="policy/kl_reference in nats a token; 0 never warns")
    repetition_high: float = setting(0.5, low=0.0, high=1.0, doc="length/repetition, a share; 0 never warns")
    truncated_high: float = setting(0.5, low=0.0, high=1.0, doc="length/truncated, a share; 0 never warns")
    gradient_high: float = setting(100.0, low=0.0, doc="optimizer/gradient_norm before clipping; 0 never warns")
    skipped: int = setting(5, low=1, doc="steps in a row without any finite gradient, after which the run goes back to "
                           "the last good checkpoint and ends")
    uninformative: int = setting(3, low=0, doc="steps in a row in which a plan that refills found no group with "
                                 "different rewards, after which the run is saved and ends; 0 goes on")
