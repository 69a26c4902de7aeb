"""Rewards, grouped by problem, to advantages: pure functions, safe to compile, finite for every reward."""

from rl_reasoning.advantages.estimates import AdvantageInputs, Advantages, check_rewards
from rl_reasoning.advantages.group import dr_grpo, gdpo, gpg, group_normalized, grpo_passk, opo, rloo
from rl_reasoning.advantages.optimal_baseline import otb
from rl_reasoning.advantages.outcome import outcome, raft, remax
from rl_reasoning.advantages.per_token import gae, reinforce_plus_plus, reinforce_plus_plus_baseline, whiten
from rl_reasoning.advantages.shaping import Shaping, extremes, informative, overlong_penalty
from rl_reasoning.advantages.signed import negative_only, positive_only, signed

# Estimators that read a reward for each token, and those to which an answer alone in its group says nothing.
TAKES_TOKEN_REWARDS = (gae, otb, reinforce_plus_plus, reinforce_plus_plus_baseline)
COMPARES = (dr_grpo, gdpo, gpg, group_normalized, grpo_passk, opo, otb, reinforce_plus_plus_baseline, rloo)

__all__ = [
    "COMPARES",
    "TAKES_TOKEN_REWARDS",
    "AdvantageInputs",
    "Advantages",
    "Shaping",
    "check_rewards",
    "dr_grpo",
    "extremes",
    "gae",
    "gdpo",
    "gpg",
    "group_normalized",
    "grpo_passk",
    "informative",
    "negative_only",
    "opo",
    "otb",
    "outcome",
    "overlong_penalty",
    "positive_only",
    "raft",
    "reinforce_plus_plus",
    "reinforce_plus_plus_baseline",
    "remax",
    "rloo",
    "signed",
    "whiten",
]
