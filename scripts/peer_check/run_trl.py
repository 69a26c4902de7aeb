"""Runs in TRL's environment: TRL's own trainers, on given log-probabilities, loss and gradient out.

    python run_trl.py INPUTS OUTPUTS    both folders; INPUTS holds cases.json and one npz a seed

Each trainer is made without its constructor and given only what its loss reads; its model returns the log-probabilities
of the inputs. Where a trainer takes logits, the vocabulary has two tokens: the token in question at logit log p and the
other at log(1 - p), so that the log-softmax is log p and its derivative with respect to log p is 1.
"""

import contextlib
from collections import defaultdict
from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
import torch
import trl
from runner import run
from trl.experimental.cpo import CPOTrainer
from trl.experimental.gmpo import GMPOTrainer
from trl.experimental.orpo import ORPOTrainer
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.reward_trainer import RewardTrainer
from trl.trainer.rloo_trainer import RLOOTrainer


def same(value, **_):
    return value


ONE_PROCESS = SimpleNamespace(
    autocast=contextlib.nullcontext, gather=same, gather_for_metrics=same, num_processes=1, process_index=0,
    device=torch.device("cpu"), is_main_process=True, sync_gradients=True, unwrap_model=same,
    reduce=lambda value, reduction: value, pad_across_processes=lambda value, dim, pad_index: value)
TRAINING = SimpleNamespace(training=True, is_gradient_checkpointing=False)


def bare(trainer, **attributes):
    """A trainer without its constructor, with one process and what the caller gives."""
    made = trainer.__new__(trainer)
    common = {"accelerator": ONE_PROCESS, "model": TRAINING, "aux_loss_enabled": False, "_metrics": {
        "train": defaultdict(list)}, "_total_train_tokens": 0, "_tp_size": 1, "precompute_ref_logps": False}
    for name, value in (common | attributes).items():
        setattr(made, name, value)
    return made


def scored(logp, entropy=None):
    """A model whose fused head gives these log-probabilities, 0 where its labels say so, as TRL's does."""
    def model(input_ids, labels, **_):
        width = logp.shape[1]
        mask = labels[:, -width:] != -100
        zeros = torch.zeros_like(logp)
        return SimpleNamespace(log_probs=torch.where(mask, logp, zeros), mean_logits=zeros, is_top1=mask,
                               entropy=zeros if entropy is None else torch.where(mask, entropy, zeros))
    return model


def with_logits(logp):
    """A model over two tokens whose log-softmax at token 1, one position earlier, is logp [rows, T]."""
    def model(input_ids, **_):
        one = torch.stack([torch.log(-torch.expm1(logp)), logp], dim=-1)
        return SimpleNamespace(logits=torch.cat([one, torch.zeros_like(one[:, :1])], dim=1))
    return model


def leaf(array):
    return torch.tensor(array, dtype=torch.float64, requires_grad=True)


def tensor(array):
    return torch.tensor(array, dtype=torch.float64) if array.dtype == np.float64 else torch.tensor(array)


def differentiated(loss, logp):
    (gradient,) = torch.autograd.grad(loss, logp)
    return {"loss": loss.detach().numpy(), "gradient": gradient.numpy()}


def grpo_options(trainer, settings):
    """A bare GRPO-like trainer whose settings are those of TRL's own configuration, the given ones aside."""
    config = GRPOConfig(output_dir="unused", bf16=False, report_to=[], **settings.get("config", {}))
    config.steps_per_generation = 1
    high = config.epsilon if config.epsilon_high is None else config.epsilon_high
    return bare(
        trainer, args=config, loss_type=config.loss_type, epsilon_low=config.epsilon, epsilon_high=high,
        beta=config.beta, importance_sampling_level=config.importance_sampling_level, use_vllm=False,
        top_entropy_quantile=config.top_entropy_quantile, off_policy_mask_threshold=config.off_policy_mask_threshold,
        current_gradient_accumulation_steps=1, max_completion_length=settings["max_length"],
        vllm_importance_sampling_correction=False, entropy_coef=config.entropy_coef, use_adaptive_entropy=False,
        _entropy_bonus_enabled=config.entropy_coef != 0)


def policy(trainer, inputs, settings, logp):
    mask = tensor(inputs[settings.get("mask", "mask")]).long()
    prompt = torch.zeros((len(mask), 1), dtype=torch.long)
    old = logp.detach() if settings.get("on_policy") else tensor(inputs["old_logp"])
    batch = {
        "prompt_ids": prompt, "prompt_mask": prompt + 1, "completion_ids": torch.ones_like(mask),
        "completion_mask": mask, "advantages": tensor(inputs["advantages"]), "num_items_in_batch": mask.sum(),
        "old_per_token_logps": old, "ref_per_token_logps": tensor(inputs["ref_logp"]),
        "old_logps": (old * mask).sum(1)}
    return trainer._compute_loss(scored(logp, tensor(inputs["entropy"])), batch)


def grpo_loss(inputs, settings):
    logp = leaf(inputs["logp"])
    return differentiated(policy(grpo_options(GRPOTrainer, settings), inputs, settings, logp), logp)


def gmpo_loss(inputs, settings):
    logp = leaf(inputs["logp"])
    return differentiated(policy(grpo_options(GMPOTrainer, settings), inputs, settings, logp), logp)


def rloo_loss(inputs, settings):
    logp = leaf(inputs["logp"])
    return differentiated(policy(grpo_options(RLOOTrainer, settings), inputs, settings, logp), logp)


def rollout(trainer, inputs, settings):
    """What a trainer makes of sampled answers before its loss, its sampler and its reward functions replaced."""
    rewards = torch.tensor(inputs[settings["rewards"]].reshape(len(inputs["mask"]), -1))
    parts, options, old = rewards.shape[1], settings.get("config", {}), tensor(inputs["old_logp"])
    arguments = SimpleNamespace(per_device_train_batch_size=1, steps_per_generation=1, report_to=[],
                                gradient_accumulation_steps=1, gradient_checkpointing_kwargs=None)
    common = {
        "args": arguments, "state": SimpleNamespace(global_step=0), "_tokenizer": SimpleNamespace(pad_token_id=0),
        "environment_factories": None, "tools": None, "environments": None, "pad_to_multiple_of": None,
        "mask_truncated_completions": False, "num_iterations": 1, "use_vllm": False, "beta": 0.0,
        "num_generations": settings["group"], "reward_func_names": ["reward"] * parts, "reward_funcs": [None] * parts,
        "reward_weights": torch.ones(parts), "scale_rewards": "group", "normalize_advantages": False,
        "multi_objective_aggregation": "sum_then_normalize" if parts == 1 else "normalize_then_sum",
        "reward_clip_range": None, "vllm_importance_sampling_correction": True,
        "_logs": defaultdict(list, rewards=defaultdict(list)), "_pending_extra_logs": {}, "_pending_metrics": {},
        "_calculate_rewards": lambda *_: rewards.clone(),
        "_get_per_token_logps_and_entropies": lambda *_, **__: (old, None, None)}
    made = bare(trainer, **common | options)
    answers = [[1] * int(length) for length in inputs["mask"].sum(axis=1)]
    sampler = [row[:len(answer)].tolist() for row, answer in zip(inputs["ref_logp"], answers, strict=True)]
    prompts = [[1]] * len(answers)
    sampled = (prompts, answers, None, answers, sampler, {}, None, None)
    made._generate = lambda _: sampled if trainer is GRPOTrainer else (prompts, answers, answers)
    return made._generate_and_score_completions([{"prompt": "p"}] * len(answers))


def grpo_advantages(inputs, settings):
    return {"advantages": rollout(GRPOTrainer, inputs, settings)["advantages"].numpy()}


def rloo_advantages(inputs, settings):
    return {"advantages": rollout(RLOOTrainer, inputs, settings)["advantages"].numpy()}


def mismatch(inputs, settings):
    return {"weights": rollout(GRPOTrainer, inputs, settings)["importance_sampling_ratio"].numpy()}


def sequence_batch(mask):
    """Token 1 everywhere, after a first token that no loss covers."""
    first = np.zeros((len(mask), 1), bool)
    completion = torch.tensor(np.concatenate([first, mask], axis=1)).long()
    return {"input_ids": torch.ones_like(completion), "attention_mask": torch.ones_like(completion),
            "completion_mask": completion}


def dpo_loss(inputs, settings):
    logp = leaf(inputs["pair_logp"])
    trainer = bare(
        DPOTrainer, args=SimpleNamespace(gradient_checkpointing_kwargs=None), ref_model=scored(tensor(
            inputs["pair_ref"])), ld_alpha=None, f_divergence_type="reverse_kl", loss_types=[settings["loss_type"]],
        loss_weights=[1.0], beta=settings["beta"], label_smoothing=0.0, use_weighting=False)
    return differentiated(trainer._compute_loss(scored(logp), sequence_batch(inputs["pair_mask"]), False), logp)


def kto_loss(inputs, settings):
    logp = leaf(inputs["pair_logp"])

    def by_labels(own, other):
        own, other = scored(own), scored(other)
        return lambda input_ids, labels, **rest: (own if input_ids[0, 0] == 1 else other)(input_ids, labels, **rest)

    trainer = bare(
        KTOTrainer, args=SimpleNamespace(gradient_checkpointing_kwargs=None), calculate_KL=True, loss_type="kto",
        beta=settings["beta"], desirable_weight=settings["desirable"], undesirable_weight=settings["undesirable"],
        ref_model=by_labels(tensor(inputs["pair_ref"]), tensor(inputs["other_ref"])))
    other = sequence_batch(inputs["other_mask"])
    batch = sequence_batch(inputs["pair_mask"]) | {
        "KL_input_ids": 2 * other["input_ids"], "KL_attention_mask": other["attention_mask"],
        "KL_completion_mask": other["completion_mask"], "label": torch.tensor(inputs["desirable"])}
    return differentiated(trainer._compute_loss(by_labels(logp, tensor(inputs["other_logp"])), batch, False), logp)


def pair_batch(inputs):
    """What TRL's collator makes of pairs: a prompt of one unscored token and PROMPT more, then the answer."""
    mask, prompt = inputs["pair_mask"], inputs["pair_prompt"].shape[1] + 1
    present = np.concatenate([np.ones((len(mask), prompt), bool), mask], axis=1)
    answer = np.concatenate([np.zeros((len(mask), prompt), bool), mask], axis=1)
    ids, batch, half = np.where(present, 1, 0), {}, len(mask) // 2
    for name, rows in (("chosen", slice(half)), ("rejected", slice(half, None))):
        batch |= {f"{name}_input_ids": torch.tensor(ids[rows]),
                  f"{name}_attention_mask": torch.tensor(present[rows]).long(),
                  f"{name}_labels": torch.tensor(np.where(answer, ids, -100)[rows])}
    return batch


def pair_loss(trainer, inputs):
    logp = leaf(np.concatenate([inputs["pair_prompt"], inputs["pair_logp"]], axis=1))
    loss, _ = trainer.get_batch_loss_metrics(with_logits(logp), pair_batch(inputs))
    return differentiated(loss, logp)


def orpo_loss(inputs, settings):
    return pair_loss(bare(ORPOTrainer, is_encoder_decoder=False, padding_value=0, beta=settings["beta"]), inputs)


def simpo_loss(inputs, settings):
    return pair_loss(bare(CPOTrainer, is_encoder_decoder=False, pad_token_id=0, beta=settings["beta"], alpha=0.0,
                          loss_type="simpo", simpo_gamma=settings["gamma"], cpo_alpha=settings["cpo_alpha"],
                          label_smoothing=0.0), inputs)


def reward_loss(inputs, settings):
    scores = leaf(inputs["values"][:, 0])
    trainer = bare(RewardTrainer, args=SimpleNamespace(center_rewards_coefficient=None))
    batch = {"attention_mask": torch.ones(len(scores), 1)}
    return differentiated(trainer.compute_loss(lambda **_: SimpleNamespace(logits=scores[:, None]), batch), scores)


# What a case may name, with the code of TRL that gives its numbers.
CASES = {
    "grpo_loss": (grpo_loss, GRPOTrainer._compute_loss),
    "gmpo_loss": (gmpo_loss, GMPOTrainer._compute_loss),
    "rloo_loss": (rloo_loss, RLOOTrainer._compute_loss),
    "grpo_advantages": (grpo_advantages, GRPOTrainer._generate_and_score_completions),
    "rloo_advantages": (rloo_advantages, RLOOTrainer._generate_and_score_completions),
    "mismatch": (mismatch, GRPOTrainer._generate_and_score_completions),
    "dpo_loss": (dpo_loss, DPOTrainer._compute_loss),
    "kto_loss": (kto_loss, KTOTrainer._compute_loss),
    "orpo_loss": (orpo_loss, ORPOTrainer.get_batch_loss_metrics),
    "reward_loss": (reward_loss, RewardTrainer.compute_loss),
    "simpo_loss": (simpo_loss, CPOTrainer.get_batch_loss_metrics),
}


if __name__ == "__main__":
    run(CASES, trl, {name: version(name) for name in ("trl", "torch", "transformers")})
