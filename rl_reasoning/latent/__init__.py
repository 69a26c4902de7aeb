"""Thinking at test time: for each problem the hidden states that chose an answer's first tokens are searched, while
the policy stays as it is (LatentSeek, arXiv 2505.13308); and the baselines that spend as many tokens."""

from rl_reasoning.latent.attempts import Answered, Attempts, Reward, Scores
from rl_reasoning.latent.search import best_of, latent_search

__all__ = ["Answered", "Attempts", "Reward", "Scores", "best_of", "latent_search"]
