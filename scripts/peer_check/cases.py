"""What is compared with what: a case pairs a peer's function and settings with ours, and says why they differ.

`ours` is the published method as this package has it; `page` takes it from `rl_reasoning.algorithms` whole. Where the
peer differs, `cause` says why and `bridge` is ours with that one difference copied in: when the bridge agrees with the
peer, that cause is the whole difference.
"""

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from peer_check import ours
from peer_check.inputs import GROUP, LONGEST, PROMPT, N, T
from peer_check.ours import Numbers
from rl_reasoning import advantages, losses
from rl_reasoning.algorithms import ALGORITHMS
from rl_reasoning.losses import PreferencePairs, SurrogateInputs, Terms
from rl_reasoning.losses.preference import log_odds

# Relative to the largest entry: peers that compute in float64, and those that cast to float32 inside.
DOUBLE, SINGLE = 1e-9, 2e-5


@dataclasses.dataclass(frozen=True)
class Case:
    """One comparison.

    Attributes:
      method: what is compared, in words.
      function: a key of the peer's runner.
      settings: what the runner gives the peer.
      ours: our numbers.
      cause: why the peer's differ, with the place in its code; empty when they must agree.
      follows: which of the two follows the paper where they differ.
      bridge: ours with the cause copied in.
      tolerance: largest relative difference that counts as agreement.
    """

    method: str
    function: str
    settings: dict[str, Any]
    ours: Numbers
    cause: str = ""
    follows: str = ""
    bridge: Numbers | None = None
    tolerance: float = DOUBLE


SUMS = "sequence_mean_token_sum"
CLIP = partial(losses.clipped, clip_low=0.2, clip_high=0.2)
WIDE = {"clip_low": 0.2, "clip_high": 0.2}
ALL_ROWS = ("averages over all rows, an answer without a token included, grpo_trainer.py:3154 and 3164; ours over "
            "those with a token", "not said")


def page(name: str, options: dict[str, Any] | None = None, **changes: Any) -> Numbers:
    """An entry of the algorithms page: surrogate, with other options, and averaging; `changes` are `ours.policy`'s."""
    entry = ALGORITHMS[name]
    return ours.policy(partial(entry.surrogate, **options or {}), **{"aggregation": entry.aggregation} | changes)


def _grpo(method: str, numbers: Numbers, *difference: Any, function: str = "grpo_loss", tolerance: float = DOUBLE,
          **config: Any) -> Case:
    """A case of TRL's GRPO-like trainers; `mask` and `on_policy` are the runner's, the rest TRL's configuration."""
    own = {name: config.pop(name) for name in ("mask", "on_policy") if name in config}
    return Case(method, function, {"max_length": LONGEST, "config": config} | own, numbers, *difference,
                tolerance=tolerance)


def _low_weight(inputs: SurrogateInputs) -> Terms:
    return losses.scale_terms(losses.reinforce(inputs), jnp.minimum(jnp.exp(inputs.logp - inputs.old_logp), 0.2))


def _by_sign(inputs: SurrogateInputs) -> Terms:
    """What delta = 1.1 below 1 + clip does in TRL: the clip of A > 0 moves down to it, A < 0 is capped at 1.2."""
    return losses.clipped(inputs, clip_low=0.2, clip_high=0.1, dual_clip=1.2)


def _entropic(inputs: SurrogateInputs) -> Terms:
    return losses.keep_tokens(CLIP(inputs), losses.entropy_quantile_mask(inputs.entropy, inputs.mask, share=0.2))


def _on_policy_rows(inputs: SurrogateInputs) -> Terms:
    return losses.keep_tokens(CLIP(inputs), losses.off_policy_mask(
        inputs.logp, inputs.old_logp, inputs.advantages, inputs.mask, threshold=0.1))


def _odds_alone(pairs: PreferencePairs) -> jax.Array:
    return losses.orpo(pairs, weight=0.1) + pairs.chosen / pairs.chosen_length


def _odds_of_sums(pairs: PreferencePairs) -> jax.Array:
    odds = log_odds(pairs.chosen) - log_odds(pairs.rejected)
    return -pairs.chosen / pairs.chosen_length - 0.1 * jax.nn.log_sigmoid(odds)


TRL_POLICY = (
    _grpo("PPO's clip, token mean (BNPO)", page("ppo"), loss_type="bnpo"),
    _grpo("GRPO", page("grpo"), loss_type="grpo"),
    _grpo("GRPO, one answer empty", page("grpo", mask="mask_empty"), *ALL_ROWS,
          page("grpo", mask="mask_empty", denominator=N), loss_type="grpo", mask="mask_empty"),
    _grpo("GRPO, KL 0.04, no correction", page("grpo", kl=0.04), loss_type="grpo", beta=0.04,
          use_bias_correction_kl=False),
    _grpo("GRPO, KL 0.04, TRL's default", page("grpo", kl=0.04),
          "use_bias_correction_kl is on by default: k3 times the ratio (`corrected` here, arXiv 2512.02556), "
          "grpo_trainer.py:3104", "ours", page("grpo", kl=0.04, corrected=True), loss_type="grpo", beta=0.04),
    _grpo("DAPO", page("ppo", {"clip_high": 0.28}), loss_type="dapo",
          epsilon_high=0.28),
    _grpo("Dr. GRPO", page("dr_grpo"), loss_type="dr_grpo"),
    _grpo("Dr. GRPO, one answer empty", page("dr_grpo", mask="mask_empty"), *ALL_ROWS,
          page("dr_grpo", mask="mask_empty", denominator=N), loss_type="dr_grpo",
          mask="mask_empty"),
    _grpo("GSPO", page("gspo"), loss_type="grpo", importance_sampling_level="sequence",
          epsilon=3e-4, epsilon_high=4e-4),
    _grpo("GSPO, clip 0.2", page("gspo", WIDE), loss_type="grpo",
          importance_sampling_level="sequence"),
    _grpo("GSPO, TRL's default averaging", page("gspo", WIDE),
          "loss_type is dapo unless set, so sequences weigh by length, grpo_config.py:801", "ours",
          page("gspo", WIDE, aggregation="token_mean"), importance_sampling_level="sequence"),
    _grpo("CISPO, cap 5", page("cispo"), loss_type="cispo", epsilon_high=5.0),
    _grpo("CISPO, TRL's default cap", page("cispo"),
          "epsilon_high is the cap itself and falls back to epsilon = 0.2, so every weight is at most 0.2, "
          "grpo_trainer.py:946 and 3110; ours rejects a cap below 1", "ours", ours.policy(_low_weight),
          loss_type="cispo"),
    # TRL's temperatures are float32.
    _grpo("SAPO", page("sapo"), tolerance=SINGLE, loss_type="sapo"),
    _grpo("SAPO, sequence level", page("sapo", {"level": "sequence"}), tolerance=SINGLE, loss_type="sapo",
          importance_sampling_level="sequence"),
    _grpo("LUSPO", page("luspo"), loss_type="luspo", importance_sampling_level="sequence", epsilon=2e-3,
          epsilon_high=2.5e-3),
    _grpo("LUSPO, clip 0.2, TRL's default level", page("luspo", WIDE),
          "importance_sampling_level is token unless set: PPO's clip under LUSPO's sum, grpo_config.py:760", "ours",
          ours.policy(CLIP, SUMS), loss_type="luspo"),
    _grpo("VESPO", page("vespo"), loss_type="vespo"),
    _grpo("GMPO", page("gmpo"), function="gmpo_loss", epsilon=0.4),
    _grpo("GMPO, one answer empty", page("gmpo", mask="mask_empty"),
          "averages over all rows, and an empty answer counts as ratio 1 in the value, gmpo_trainer.py:120 and 102; "
          "ours over those with a token", "not said",
          ours.gradient_only(page("gmpo", mask="mask_empty", denominator=N)), function="gmpo_loss", epsilon=0.4,
          mask="mask_empty"),
    _grpo("dual clip 4 (TRL's delta)", page("ppo", {"dual_clip": 4.0}), loss_type="bnpo", delta=4.0),
    _grpo("dual clip 1.1, below 1 + clip", ours.policy(partial(CLIP, dual_clip=1.1)),
          "the ratio is cut before both branches: A > 0 is clipped at delta, A < 0 at 1 + clip, grpo_trainer.py:3116",
          "ours", ours.policy(_by_sign), loss_type="bnpo", delta=1.1),
    _grpo("PPO with an entropy bonus of 0.01", page("ppo", entropy=0.01), loss_type="bnpo", entropy_coef=0.01),
    _grpo("top 20% of tokens by entropy", ours.policy(_entropic), loss_type="bnpo", top_entropy_quantile=0.2),
    _grpo("off-policy sequence mask 0.1", ours.policy(_on_policy_rows), loss_type="bnpo",
          off_policy_mask_threshold=0.1),
    _grpo("RLOO, on-policy", ours.gradient_only(page("rloo", on_policy=True)), function="rloo_loss", on_policy=True),
    _grpo("RLOO, off-policy", page("rloo"),
          "clips the ratio of the whole sequence, a product over tokens, rloo_trainer.py:1824; "
          "the paper's REINFORCE has no ratio", "ours", ours.whole_sequence(CLIP), function="rloo_loss"),
)


def _trl_advantages(method: str, numbers: Numbers, *difference: Any, function: str = "grpo_advantages",
                    rewards: str = "rewards", **config: Any) -> Case:
    return Case(method, function, {"rewards": rewards, "group": GROUP, "config": config}, numbers, *difference,
                tolerance=SINGLE)


NORMALIZED = partial(ours.estimate, group=GROUP)
_EPSILON = "divides by the deviation plus 1e-4, ours plus 1e-6, grpo_trainer.py:2787"
TRL_ADVANTAGES = (
    _trl_advantages("advantages of GRPO", NORMALIZED(advantages.group_normalized), _EPSILON, "both",
                    NORMALIZED(partial(advantages.group_normalized, epsilon=1e-4))),
    _trl_advantages("advantages of GRPO, one group all 0.1",
                    NORMALIZED(advantages.group_normalized, "rewards_constant"),
                    _EPSILON + "; a rounded mean leaves up to 1e-4 in the constant group, ours exactly 0",
                    "ours", NORMALIZED(partial(advantages.group_normalized, epsilon=1e-4), "rewards_constant",
                                       compared="varied"), rewards="rewards_constant"),
    _trl_advantages("advantages by the batch's deviation", NORMALIZED(partial(advantages.group_normalized,
                    scale="batch")), _EPSILON, "both", NORMALIZED(partial(
                        advantages.group_normalized, scale="batch", epsilon=1e-4)), scale_rewards="batch"),
    _trl_advantages("advantages of Dr. GRPO", NORMALIZED(advantages.dr_grpo), scale_rewards="none"),
    _trl_advantages("advantages of GDPO", NORMALIZED(advantages.gdpo), rewards="reward_parts"),
    _trl_advantages("advantages of RLOO", NORMALIZED(advantages.rloo), function="rloo_advantages"),
)


def _mismatch(name: str, level: str, mode: str, low: float | None, high: float) -> Case:
    config = {"use_vllm": True, "vllm_importance_sampling_mode": f"{level}_{mode}",
              "vllm_importance_sampling_clip_min": low, "vllm_importance_sampling_clip_max": high}
    return Case(name, "mismatch", {"rewards": "rewards", "group": GROUP, "config": config},
                ours.mismatch(level, mode=mode, low=low or 0.0, high=high), tolerance=SINGLE)


TRL_MISMATCH = (
    _mismatch("weights for the sampler, a token's cut to 2", "token", "truncate", None, 2.0),
    _mismatch("weights for the sampler, a token's 0 outside 0.5 to 2", "token", "mask", 0.5, 2.0),
    _mismatch("weights for the sampler, a sequence's cut to 3", "sequence", "truncate", None, 3.0),
    _mismatch("weights for the sampler, a sequence's 0 above 3", "sequence", "mask", None, 3.0),
)
TRL_PREFERENCES = (
    Case("DPO", "dpo_loss", {"loss_type": "sigmoid", "beta": 0.1}, ours.pairs(losses.dpo)),
    Case("IPO", "dpo_loss", {"loss_type": "ipo", "beta": 0.1}, ours.pairs(losses.ipo)),
    Case("KTO", "kto_loss", {"beta": 0.1, "desirable": 1.0, "undesirable": 1.5},
         ours.kto(beta=0.1, desirable_weight=1.0, undesirable_weight=1.5)),
    Case("Bradley-Terry", "reward_loss", {}, ours.bradley_terry),
    Case("ORPO", "orpo_loss", {"beta": 0.1}, ours.pairs(losses.orpo, prompt=True),
         "its likelihood term covers the prompt too and is one mean over all tokens of the batch, "
         "orpo_trainer.py:800 and 785; ours is each answer's own mean", "ours",
         ours.pairs(_odds_alone, prompt=True, chosen=ours.nll(1.0)), SINGLE),
    Case("SimPO", "simpo_loss", {"beta": 2.0, "gamma": 0.5, "cpo_alpha": 0.0}, ours.pairs(losses.simpo, prompt=True)),
    Case("SimPO, TRL's default", "simpo_loss", {"beta": 2.0, "gamma": 0.5, "cpo_alpha": 1.0},
         ours.pairs(losses.simpo, prompt=True),
         "cpo_alpha is 1 unless set: adds the likelihood of the chosen answers, cpo_config.py:132", "ours",
         ours.pairs(losses.simpo, prompt=True, chosen=ours.nll(1.0, skip=PROMPT))),
)


def _tunix(method: str, function: str, settings: dict[str, Any], numbers: Numbers, *difference: Any) -> Case:
    return Case(method, function, settings, numbers, *difference, tolerance=SINGLE)


def _loss(config_class: str, mask: str = "mask", **config: Any) -> dict[str, Any]:
    return {"config_class": config_class, "config": config, "mask": mask}


TUNIX_POLICY = (
    _tunix("PPO", "ppo_loss", _loss("ppo"), page("ppo")),
    _tunix("PPO, dual clip 3", "ppo_loss", _loss("ppo", epsilon_c=3.0), page("ppo", {"dual_clip": 3.0})),
    _tunix("PPO's value loss", "value_loss", {"clip": 0.5}, ours.critic(0.5)),
    _tunix("GRPO without KL", "grpo_loss", _loss("grpo", beta=0.0), page("grpo")),
    _tunix("GRPO, one answer empty", "grpo_loss", _loss("grpo", "mask_empty", beta=0.0),
           page("grpo", mask="mask_empty")),
    _tunix("GRPO, KL 0.04 by k3", "grpo_loss", _loss("grpo", kl_loss_mode="low_var_kl"),
           page("grpo", kl=0.04)),
    _tunix("GRPO, tunix's default KL", "grpo_loss", _loss("grpo"), page("grpo", kl=0.04),
           "kl_loss_mode is kl unless set: k1 as a loss, whose expected gradient is 0, grpo_learner.py:96", "ours",
           page("grpo", kl=0.04, estimator="k1")),
    _tunix("DAPO", "grpo_loss", _loss("dapo"), page("ppo", {"clip_high": 0.28})),
    _tunix("Dr. GRPO", "grpo_loss", _loss("dr_grpo", beta=0.0), page("dr_grpo"),
           f"divides by the batch's width ({T} here), not by the longest answer allowed ({LONGEST}), common.py:568",
           "ours", page("dr_grpo", max_length=T)),
    _tunix("Dr. GRPO, tunix's default", "grpo_loss", _loss("dr_grpo"), page("dr_grpo"),
           "as above, and it inherits GRPO's KL of 0.04 by k1, which the method does without, grpo_learner.py:95",
           "ours", page("dr_grpo", max_length=T, kl=0.04, estimator="k1")),
    _tunix("GSPO", "grpo_loss", _loss("grpo", beta=0.0, loss_algo="gspo-token"),
           page("gspo", WIDE)),
    _tunix("seq-mean-token-sum", "grpo_loss", _loss("grpo", beta=0.0, loss_agg_mode="seq-mean-token-sum"),
           ours.policy(CLIP, SUMS)),
    _tunix("sequence-mean-token-sum-norm", "grpo_loss", _loss(
        "grpo", beta=0.0, loss_agg_mode="sequence-mean-token-sum-norm"), ours.policy(CLIP, SUMS)),
    _tunix("KL by k1", "kl", {"method": "kl"}, ours.kl("k1")),
    _tunix("KL by k2", "kl", {"method": "mse_kl"}, ours.kl("k2")),
    _tunix("KL by k3", "kl", {"method": "low_var_kl"}, ours.kl("k3")),
)


def _tunix_advantages(estimator: str, rewards: str = "rewards") -> dict[str, Any]:
    return {"estimator": estimator, "rewards": rewards, "group": GROUP}


_OVERLONG = {"overlong_buffer_length": 4, "overlong_buffer_penalty": 1.0, "max_response_length": T}
_GAE = partial(advantages.gae, discount=0.9, gae_lambda=0.95)
TUNIX_ADVANTAGES = (
    _tunix("advantages of GRPO", "group_advantages", _tunix_advantages("grpo"),
           NORMALIZED(advantages.group_normalized)),
    _tunix("advantages of GRPO, one group all 0.1", "group_advantages", _tunix_advantages("grpo", "rewards_constant"),
           NORMALIZED(advantages.group_normalized, "rewards_constant")),
    _tunix("advantages of RLOO", "group_advantages", _tunix_advantages("rloo"), NORMALIZED(advantages.rloo)),
    _tunix("advantages of Dr. GRPO", "group_advantages", _tunix_advantages("dr_grpo"), NORMALIZED(advantages.dr_grpo)),
    _tunix("GAE, whitened", "gae", {"gamma": 0.9, "gae_lambda": 0.95}, NORMALIZED(_GAE),
           "masked tokens keep numbers (the critic's in the returns), which its losses mask, algo_core.py:108 and 111; "
           "ours are 0 there", "both", NORMALIZED(_GAE, compared="tokens")),
    _tunix("DAPO's overlong penalty, one character a token", "overlong", {"characters": 1, "buffer": _OVERLONG},
           ours.overlong(1, T, 4)),
    _tunix("DAPO's overlong penalty, four characters a token", "overlong", {"characters": 4, "buffer": _OVERLONG},
           ours.overlong(1, T, 4), "len() of a string counts characters, not tokens, dapo_learner.py:124", "ours",
           ours.overlong(4, T, 4)),
)
TUNIX_PREFERENCES = (
    _tunix("DPO", "pair_loss", {"arguments": {"algorithm": "dpo", "beta": 0.1}}, ours.pairs(losses.dpo)),
    _tunix("ORPO", "pair_loss", {"arguments": {"algorithm": "orpo", "lambda_orpo": 0.1}}, ours.pairs(losses.orpo),
           "the odds are of whole answers (sums of log-probabilities), dpo_trainer.py:436; the paper's are of the mean "
           "per token", "ours", ours.pairs(_odds_of_sums)),
)

CASES: dict[str, tuple[Case, ...]] = {
    "trl": TRL_POLICY + TRL_ADVANTAGES + TRL_MISMATCH + TRL_PREFERENCES,
    "tunix": TUNIX_POLICY + TUNIX_ADVANTAGES + TUNIX_PREFERENCES,
}
