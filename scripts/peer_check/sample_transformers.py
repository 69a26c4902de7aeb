"""transformers' `generate` on a workload of scripts/bench_sampler.py; runs in its own environment.

It takes one batch at a time, all of whose rows run until the last has ended; tokens that a workload does not want are
not counted.
"""

import torch
import worker
from transformers import AutoModelForCausalLM


def make(folder, precision, workload):
    torch.set_num_threads(workload["cores"])
    llama = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, precision)).eval()
    llama.generation_config.eos_token_id = None
    answers = [(workload["prompts"][prompt], limit) for prompt, limit in workload["answers"]]
    batches = [answers[start:start + workload["batch"]] for start in range(0, len(answers), workload["batch"])]

    def sample():
        for batch in batches:
            width = max(len(ids) for ids, _ in batch)
            ids = torch.tensor([[0] * (width - len(ids)) + ids for ids, _ in batch])
            mask = torch.tensor([[0] * (width - len(ids)) + [1] * len(ids) for ids, _ in batch])
            tokens = max(limit for _, limit in batch)
            with torch.no_grad():
                llama.generate(ids, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0,
                               max_new_tokens=tokens, min_new_tokens=tokens, pad_token_id=0)
        return sum(limit for _, limit in answers)

    return sample


if __name__ == "__main__":
    worker.serve(make)
