"""A small policy with random weights, problems of ragged prompts, and a reward for answers that begin some way."""

import jax
import numpy as np

from rl_reasoning import keys
from rl_reasoning.config import Latent, Optimizer
from rl_reasoning.models.decoder import DecoderConfig, initialize
from rl_reasoning.rollouts import Policy
from rl_reasoning.tokenizers.symbols import SymbolTokenizer
from rl_reasoning.types import Problem

MOST = 8
TOKENIZER = SymbolTokenizer([f"w{i}" for i in range(11)])
EOS = TOKENIZER.eos_id
CONFIG = DecoderConfig(vocabulary=12, layers=1, width=16, heads=4, kv_heads=2, head_dim=6, mlp=24)
PARAMETERS = jax.tree.map(lambda x: 1.5 * x, initialize(CONFIG, jax.random.key(5)))
POLICY = Policy(CONFIG, TOKENIZER, prompt_tokens=4)
PROBLEMS = tuple(Problem(f"p{i}", " ".join(f"w{(i * j + i) % 11}" for j in range(1 + i % 4)), None, "tiny")
                 for i in range(9))
KEY = keys.derive(0, keys.Role.SEARCH, 0)


def settings(**changes) -> Latent:
    """Strong steps, so that tokens change."""
    rate = changes.pop("rate", 0.5)
    base = {"fraction": 0.5, "steps": 4, "noise": 0.5, "batch": 4}
    return Latent(**(base | changes), optimizer=Optimizer(learning_rate=rate, warmup=0, clip_norm=0.0))


def never(problem, text) -> float:
    """No answer is good."""
    return -1.0


def odd(problem, text) -> float:
    """0 where the second word has an odd number, else -1."""
    words = text.split()
    return 0.0 if len(words) > 1 and int(words[1][1:]) % 2 else -1.0


def checksum() -> list[bytes]:
    """The parameters' bytes."""
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(PARAMETERS)]
