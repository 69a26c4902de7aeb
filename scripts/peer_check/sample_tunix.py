"""google-tunix's `Sampler` on a workload of scripts/bench_sampler.py; runs in its own environment.

It takes one batch at a time, all of whose rows run until the last has ended, and every answer has its own copy of the
prompt. Its number of tokens is compiled in, so a batch is asked for its longest answer; tokens that a workload does not
want are not counted.
"""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import worker
from tunix.generate.sampler import CacheConfig, Sampler
from tunix.models.llama3 import model, params

BEGIN, NEVER = 1, 2**30


class Numbers:
    """Token ids written as text: Tunix takes texts and puts the first token in front itself."""

    def encode(self, text):
        return [int(word) for word in text.split()][1:]

    def decode(self, ids):
        return " ".join(map(str, ids))

    def bos_id(self):
        return BEGIN

    def eos_id(self):
        return NEVER

    def pad_id(self):
        return 0


def make(folder, precision, workload):
    read = json.loads((Path(folder) / "config.json").read_text())
    head = read["hidden_size"] // read["num_attention_heads"]
    config = model.ModelConfig(
        num_layers=read["num_hidden_layers"], vocab_size=read["vocab_size"], embed_dim=read["hidden_size"],
        hidden_dim=read["intermediate_size"], num_heads=read["num_attention_heads"], head_dim=head,
        num_kv_heads=read["num_key_value_heads"], rope_theta=read["rope_theta"], norm_eps=read["rms_norm_eps"],
        weight_tying=True)
    llama = params.create_model_from_safe_tensors(folder, config, dtype=jnp.dtype(precision))
    cache = CacheConfig(workload["cache"], config.num_layers, config.num_kv_heads, head)
    sampler = Sampler(llama, Numbers(), cache)
    texts = [" ".join(map(str, ids)) for ids in workload["prompts"]]
    answers = [(texts[prompt], limit) for prompt, limit in workload["answers"]]
    batches = [answers[start:start + workload["batch"]] for start in range(0, len(answers), workload["batch"])]

    def sample():
        for batch in batches:
            jax.block_until_ready(sampler(
                [text for text, _ in batch], max(limit for _, limit in batch),
                max_prompt_length=workload["prompt_tokens"], temperature=1.0, top_p=1.0, seed=0,
                eos_tokens=[NEVER], return_logprobs=True).logprobs)
        return sum(limit for _, limit in answers)

    return sample


if __name__ == "__main__":
    worker.serve(make)
