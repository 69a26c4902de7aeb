"""Every objective as small pure functions of arrays: per-token terms first, one average after."""

from rl_reasoning.losses.covariance import clip_cov, clip_cov_selection, kl_cov, kl_cov_selection
from rl_reasoning.losses.entropy import adaptive_entropy_coefficient, entropy_bonus
from rl_reasoning.losses.gradient_preserving import gppo
from rl_reasoning.losses.kl import ESTIMATORS, adaptive_kl_coefficient, kl_penalty
from rl_reasoning.losses.masks import entropy_quantile_mask, finished_mask, keep_tokens, off_policy_mask
from rl_reasoning.losses.mismatch import importance_weights, rejection_mask, scale_terms
from rl_reasoning.losses.pacs import pacs
from rl_reasoning.losses.policy import cispo, clipped, reinforce, sapo
from rl_reasoning.losses.preference import PreferencePairs, asft, dpo, ipo, kto, kto_baseline, orpo, simpo
from rl_reasoning.losses.reduction import AGGREGATIONS, INVARIANT_AGGREGATIONS, aggregate, reduce
from rl_reasoning.losses.reward_model import bradley_terry
from rl_reasoning.losses.sequence_level import gmpo, gspo, luspo, vespo
from rl_reasoning.losses.supervised import supervised, supervised_on_right
from rl_reasoning.losses.surrogate import SurrogateInputs, Terms
from rl_reasoning.losses.value import clipped_value

__all__ = [
    "AGGREGATIONS",
    "ESTIMATORS",
    "INVARIANT_AGGREGATIONS",
    "PreferencePairs",
    "SurrogateInputs",
    "Terms",
    "adaptive_entropy_coefficient",
    "adaptive_kl_coefficient",
    "aggregate",
    "asft",
    "bradley_terry",
    "cispo",
    "clip_cov",
    "clip_cov_selection",
    "clipped",
    "clipped_value",
    "dpo",
    "entropy_bonus",
    "entropy_quantile_mask",
    "finished_mask",
    "gmpo",
    "gppo",
    "gspo",
    "importance_weights",
    "ipo",
    "keep_tokens",
    "kl_cov",
    "kl_cov_selection",
    "kl_penalty",
    "kto",
    "kto_baseline",
    "luspo",
    "off_policy_mask",
    "orpo",
    "pacs",
    "reduce",
    "reinforce",
    "rejection_mask",
    "sapo",
    "scale_terms",
    "simpo",
    "supervised",
    "supervised_on_right",
    "vespo",
]
