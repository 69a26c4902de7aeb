"""The one page: each method of the field is an advantage, a surrogate, how tokens are averaged, and what it adds.

To see how two methods differ, compare two entries. To add one, write its pure function in `advantages` or
`losses`, its line here, and its closed-form test. `rl_reasoning.options` changes an entry's options by name.
"""

import dataclasses
import functools
import math
from collections.abc import Callable

from rl_reasoning import advantages, losses
from rl_reasoning.advantages import AdvantageInputs, Advantages, Shaping
from rl_reasoning.allocation import Gvm, Plan, Replay
from rl_reasoning.losses import SurrogateInputs, Terms
from rl_reasoning.losses.objective import Objective
from rl_reasoning.losses.parts import Critic, Kl, Mismatch, TokenFilter
from rl_reasoning.require import require


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """One method.

    Attributes:
      paper: title and arXiv number.
      advantage: rewards to advantages, a function of `rl_reasoning.advantages` with its options.
      surrogate: the per-token loss, a function of `rl_reasoning.losses` with its options.
      aggregation: how tokens are averaged, see `rl_reasoning.losses.aggregate`.
      rewards: which rewards the method is defined on: "any", "binary" or "unit".
      needs: fields of `AdvantageInputs` that the advantage reads beyond rewards, groups, lengths and mask.
      entropy: coefficient of an entropy bonus, per nat.
      supervised: coefficient of the likelihood of fully right answers (arXiv 2508.07629, section 3.3).
      plan, shaping, kl, tokens, mismatch, replay: see the records.
      critic: None without one.
    """

    paper: str
    advantage: Callable[[AdvantageInputs], Advantages]
    surrogate: Callable[[SurrogateInputs], Terms]
    aggregation: str = "token_mean"
    rewards: str = "any"
    needs: tuple[str, ...] = ()
    entropy: float = 0.0
    supervised: float = 0.0
    plan: Plan | Gvm = Plan()
    shaping: Shaping = Shaping()
    kl: Kl = Kl()
    tokens: TokenFilter = TokenFilter()
    mismatch: Mismatch = Mismatch()
    replay: Replay = Replay()
    critic: Critic | None = None

    def __post_init__(self) -> None:
        for name in ("entropy", "supervised"):
            value = getattr(self, name)
            require(0 <= value < math.inf, name, value, f"0 <= {name} < inf", "Give 0 for none, or a weight.")
        strict = self.rewards != "any"
        require(not (strict and self.kl.in_reward), "kl_place", self.kl.place, "loss for this algorithm",
                f"It is defined on {self.rewards} rewards, which a penalty would change.")
        require(not strict or self.shaping.keeps_binary, "shaping", self.shaping,
                "nothing that changes rewards, for this algorithm",
                f"It is defined on {self.rewards} rewards: choose shaping_truncated=mask, or a truncated reward of 0.")

    def objective(self, max_length: int, *, reference: bool) -> Objective:
        """What an update minimises.

        Args: max_length: the most tokens of an answer. reference: answers are scored under the reference policy.
        """
        return Objective(self.surrogate, self.aggregation, max_length, self.entropy, self.supervised, self.kl,
                         self.tokens, self.critic, reference)

    @property
    def token_rewards(self) -> bool:
        """Whether the advantage reads a reward for each token, such as a KL penalty."""
        return _function(self.advantage) in advantages.TAKES_TOKEN_REWARDS

    @property
    def compares(self) -> bool:
        """Whether an answer alone in its group teaches nothing."""
        return (_function(self.advantage) in advantages.COMPARES
                or (isinstance(self.surrogate, functools.partial) and self.surrogate.func is losses.pacs
                    and self.surrogate.keywords["coupling"] != "naive"))


def _function(partial: Callable) -> Callable:
    while isinstance(partial, functools.partial):
        partial = partial.func
    return partial


use = functools.partial
_DECOMPOSED = "The Surprising Effectiveness of Negative Reinforcement, arXiv 2506.01347"

ALGORITHMS: dict[str, Algorithm] = {
    "psr": Algorithm(
        _DECOMPOSED, use(advantages.positive_only, denominator="kept"),
        use(losses.clipped, clip_low=0.2, clip_high=0.2), rewards="binary"),
    "nsr": Algorithm(
        _DECOMPOSED, use(advantages.negative_only, denominator="kept"),
        use(losses.clipped, clip_low=0.2, clip_high=0.2), rewards="binary"),
    "w_reinforce": Algorithm(
        _DECOMPOSED, use(advantages.signed, positive_weight=0.1),
        use(losses.clipped, clip_low=0.2, clip_high=0.2), rewards="binary"),
    "reinforce": Algorithm(
        _DECOMPOSED, use(advantages.signed, positive_weight=1.0),
        use(losses.clipped, clip_low=0.2, clip_high=0.2), rewards="binary"),
    "grpo": Algorithm(
        "DeepSeekMath, arXiv 2402.03300", use(advantages.group_normalized, scale="group", epsilon=1e-6),
        use(losses.clipped, clip_low=0.2, clip_high=0.2), aggregation="sequence_mean_token_mean"),
    "ppo": Algorithm(
        "Proximal Policy Optimization, arXiv 1707.06347", use(advantages.gae, discount=1.0, gae_lambda=1.0),
        use(losses.clipped, clip_low=0.2, clip_high=0.2), needs=("values",), critic=Critic(coefficient=1.0, rate=10.0)),
    "rloo": Algorithm(
        "Back to Basics, arXiv 2402.14740", use(advantages.rloo), use(losses.reinforce),
        aggregation="sequence_mean_token_sum"),
    "reinforce_plus_plus": Algorithm(
        "REINFORCE++, arXiv 2501.03262", use(advantages.reinforce_plus_plus, discount=1.0),
        use(losses.clipped, clip_low=0.2, clip_high=0.2)),
    "reinforce_plus_plus_baseline": Algorithm(
        "REINFORCE++, arXiv 2501.03262", use(advantages.reinforce_plus_plus_baseline, ddof=1),
        use(losses.clipped, clip_low=0.2, clip_high=0.2)),
    "remax": Algorithm(
        "ReMax, arXiv 2310.10505", use(advantages.remax), use(losses.reinforce),
        aggregation="sequence_mean_token_sum", needs=("greedy_rewards",)),
    "dr_grpo": Algorithm(
        "Understanding R1-Zero-like Training, arXiv 2503.20783", use(advantages.dr_grpo),
        use(losses.clipped, clip_low=0.2, clip_high=0.2), aggregation="sequence_sum_token_norm"),
    "dapo": Algorithm(  # its soft penalty for long answers is shaping_overlong_buffer=TOKENS
        "DAPO, arXiv 2503.14476", use(advantages.group_normalized, scale="group", epsilon=1e-6),
        use(losses.clipped, clip_low=0.2, clip_high=0.28), plan=Plan(refill=10)),
    "bnpo": Algorithm(  # the averaging of TRL's loss of that name
        "DeepSeekMath, arXiv 2402.03300", use(advantages.group_normalized, scale="group", epsilon=1e-4),
        use(losses.clipped, clip_low=0.2, clip_high=0.2), aggregation="part_token_mean"),
    "gspo": Algorithm(
        "Group Sequence Policy Optimization, arXiv 2507.18071", use(advantages.group_normalized, scale="group"),
        use(losses.gspo, clip_low=3e-4, clip_high=4e-4), aggregation="sequence_mean_token_mean"),
    "cispo": Algorithm(
        "MiniMax-M1, arXiv 2506.13585", use(advantages.group_normalized, scale="group"),
        use(losses.cispo, cap=5.0, floor=0.0)),
    "gppo": Algorithm(
        "Klear-Reasoner, arXiv 2508.07629", use(advantages.group_normalized, scale="group"),
        use(losses.gppo, clip_low=0.2, clip_high=0.28, beta_low=1.0, beta_high=1.0)),
    "ce_gppo": Algorithm(
        "CE-GPPO, arXiv 2509.20712", use(advantages.group_normalized, scale="group"),
        use(losses.gppo, clip_low=0.2, clip_high=0.2, beta_low=0.75, beta_high=1.0)),
    "pacs": Algorithm(
        "PACS, arXiv 2509.02522", use(advantages.outcome),
        use(losses.pacs, beta=1.0, coupling="rloo", balanced=True, actor_term=False),
        aggregation="sequence_mean_token_mean", rewards="unit"),
    "raft": Algorithm(
        "RAFT, arXiv 2304.06767", use(advantages.raft, denominator="all"), use(losses.reinforce)),
    "raft_plus_plus": Algorithm(
        "A Minimalist Approach, arXiv 2504.11343", use(advantages.raft, denominator="all"),
        use(losses.clipped, clip_low=0.2, clip_high=0.2)),
    "gvm_raft": Algorithm(
        "GVM, arXiv 2505.02391", use(advantages.raft, denominator="all"), use(losses.reinforce), plan=Gvm()),
    "gvm_raft_plus_plus": Algorithm(
        "GVM, arXiv 2505.02391", use(advantages.raft, denominator="all"),
        use(losses.clipped, clip_low=0.2, clip_high=0.2), plan=Gvm()),
    "gvm_grpo": Algorithm(
        "GVM, arXiv 2505.02391", use(advantages.group_normalized, scale="group", epsilon=1e-6),
        use(losses.clipped, clip_low=0.2, clip_high=0.2), aggregation="sequence_mean_token_mean", plan=Gvm()),
    "grpo_passk": Algorithm(
        "Pass@k policy optimisation, arXiv 2503.19595", use(advantages.grpo_passk, normalized=False),
        use(losses.clipped, clip_low=0.2, clip_high=0.2)),
    "opo": Algorithm(
        "On-policy RL with optimal reward baseline, arXiv 2505.23585", use(advantages.opo),
        use(losses.clipped, clip_low=0.2, clip_high=0.2)),
    "gpg": Algorithm(
        "Group Policy Gradient, arXiv 2504.02546", use(advantages.gpg, count="informative"), use(losses.reinforce)),
    "otb": Algorithm(
        "Optimal token baseline, of the verl library; optimality as in arXiv 2505.23585", use(advantages.otb),
        use(losses.clipped, clip_low=0.2, clip_high=0.2), needs=("old_logp", "sum_pi_squared")),
    "gdpo": Algorithm(
        "GDPO, arXiv 2601.05242", use(advantages.gdpo, component_weights=None),
        use(losses.clipped, clip_low=0.2, clip_high=0.2), needs=("reward_components",)),
    "clip_cov": Algorithm(
        "The Entropy Mechanism of RL, arXiv 2505.22617", use(advantages.group_normalized, scale="group"),
        use(losses.clip_cov, clip_low=0.2, clip_high=0.2, fraction=2e-4, covariance_low=1.0, covariance_high=5.0)),
    "kl_cov": Algorithm(
        "The Entropy Mechanism of RL, arXiv 2505.22617", use(advantages.group_normalized, scale="group"),
        use(losses.kl_cov, fraction=2e-4, penalty=0.1)),
    "sapo": Algorithm(
        "Soft Adaptive Policy Optimization, arXiv 2511.20347", use(advantages.group_normalized, scale="group"),
        use(losses.sapo, temperature_positive=1.0, temperature_negative=1.05), aggregation="sequence_mean_token_mean"),
    "gmpo": Algorithm(
        "Geometric-Mean Policy Optimization, arXiv 2507.20673", use(advantages.group_normalized, scale="group"),
        use(losses.gmpo, clip_low=0.4, clip_high=0.4), aggregation="sequence_mean_token_mean"),
    "luspo": Algorithm(
        "LUSPO, arXiv 2602.05261", use(advantages.group_normalized, scale="group"),
        use(losses.luspo, clip_low=2e-3, clip_high=2.5e-3), aggregation="sequence_mean_token_sum"),
    "vespo": Algorithm(
        "VESPO, arXiv 2602.10693", use(advantages.group_normalized, scale="group"),
        use(losses.vespo, positive_power=2.0, positive_decay=3.0, negative_power=3.0, negative_decay=2.0)),
}
