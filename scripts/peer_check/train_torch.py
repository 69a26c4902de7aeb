"""Runs in transformers' environment: GRPO's clipped loss and an AdamW step in plain torch, timed on request.

The model is transformers' own; the loss is what TRL computes for GRPO without a reference, written out, with the
entropy and the KL sum that it logs left out: nothing here is slower than it has to be. See `train_tunix` for what goes
in and comes out.
"""

import json
import sys
import time

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

CLIP, PAD = 0.2, 0


def model_of(case):
    c = case["config"]
    config = LlamaConfig(
        vocab_size=c["vocabulary"], hidden_size=c["width"], intermediate_size=c["mlp"], num_hidden_layers=c["layers"],
        num_attention_heads=c["heads"], num_key_value_heads=c["kv_heads"], head_dim=c["head_dim"],
        rms_norm_eps=c["norm_epsilon"], tie_word_embeddings=c["tied"], attn_implementation="sdpa", use_cache=False)
    torch.manual_seed(0)
    return LlamaForCausalLM(config).to(getattr(torch, case["dtype"])).train()


def example_of(case):
    """Every answer padded to the longest of the batch."""
    rng, rows, lengths = np.random.default_rng(0), case["rows"], np.asarray(case["lengths"])
    longest = int(lengths.max())
    mask = np.arange(longest) < lengths[:, None]
    tokens = rng.integers(2, case["config"]["vocabulary"], (rows, case["prompt"] + longest))
    tokens[:, case["prompt"]:][~mask] = PAD
    attended = np.concatenate([np.ones((rows, case["prompt"]), bool), mask], axis=1)
    return {"tokens": torch.tensor(tokens), "attended": None if mask.all() else torch.tensor(attended),
            "mask": torch.tensor(mask), "old": torch.full(mask.shape, -8.0),
            "advantages": torch.tensor(rng.normal(size=(rows, 1)), dtype=torch.float32)}


def loss_of(model, example):
    answered = example["mask"].shape[1]
    # The states that predict the answer's tokens alone go through the output head.
    logits = model(input_ids=example["tokens"], attention_mask=example["attended"],
                   logits_to_keep=answered + 1).logits[:, :-1].float()
    logp = -torch.nn.functional.cross_entropy(logits.transpose(1, 2), example["tokens"][:, -answered:],
                                              reduction="none")
    ratio = torch.exp(logp - example["old"])
    gain = torch.minimum(ratio * example["advantages"], ratio.clamp(1 - CLIP, 1 + CLIP) * example["advantages"])
    mask = example["mask"]
    return -((gain * mask).sum(1) / mask.sum(1)).mean()


def main():
    case = json.loads(sys.stdin.readline())
    torch.set_num_threads(case["threads"])
    model, example = model_of(case), example_of(case)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)

    def step():
        optimizer.zero_grad(set_to_none=True)
        loss_of(model, example).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    def timed():
        cpu, wall = time.process_time(), time.perf_counter()
        step()
        return {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}

    timed()
    print(json.dumps({"compile": 0.0}), flush=True)
    for _ in sys.stdin:
        print(json.dumps(timed()), flush=True)


if __name__ == "__main__":
    main()
