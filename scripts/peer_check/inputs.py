"""Random inputs for the cross-check: ragged masks, ratios far from 1, garbage where masked. numpy only.

N answers of T tokens in groups of GROUP; B preference pairs of T tokens after a prompt of PROMPT tokens.
"""

import numpy as np

GROUP, GROUPS, T = 7, 2, 9
N = GROUP * GROUPS
B, PROMPT = 5, 2
LONGEST = 16  # tokens an answer may have, more than any here has

Arrays = dict[str, np.ndarray]


def make(seed: int) -> Arrays:
    """The arrays of one seed, by name; floats are float64, masks bool.

    Policy: logp, old_logp, ref_logp, entropy [N, T]; mask, and mask_empty whose last row has no token [N, T];
    advantages [N], one of them exactly 0. Advantage estimators: rewards, and rewards_constant in which the second
    group's are all 0.1, [N] float32; reward_parts [N, 2] float32; values, old_values, returns, token_rewards [N, T].
    Preferences, the chosen rows first: pair_logp, pair_ref [2B, T], pair_mask [2B, T], pair_prompt [2B, PROMPT];
    other_logp, other_ref [2B, T], other_mask: each prompt with another's answer; desirable [2B] bool.
    """
    random = np.random.default_rng(seed)
    mask, pair_mask, other_mask = (_ragged(random, rows) for rows in (N, 2 * B, 2 * B))
    logp = _logp(random, (N, T))
    pair_logp, other_logp = _logp(random, (2 * B, T)), _logp(random, (2 * B, T))
    advantages = random.normal(size=N)
    advantages[2] = 0.0
    values = random.normal(size=(N, T))
    rewards = random.uniform(size=N).astype(np.float32)
    arrays = {
        "logp": logp, "old_logp": logp - _drift(random, (N, T)), "ref_logp": logp - _drift(random, (N, T)),
        "entropy": random.uniform(0.0, 3.0, size=(N, T)), "advantages": advantages, "rewards": rewards,
        "values": values, "old_values": values - random.normal(size=(N, T)), "returns": random.normal(size=(N, T)),
        "token_rewards": 0.1 * random.normal(size=(N, T)),
        "pair_logp": pair_logp, "pair_ref": pair_logp - _drift(random, (2 * B, T)),
        "pair_prompt": _logp(random, (2 * B, PROMPT)),
        "other_logp": other_logp, "other_ref": other_logp - 0.3 - _drift(random, (2 * B, T)),
    }
    arrays = {name: _garbage(values, _mask_of(name, mask, pair_mask, other_mask)) for name, values in arrays.items()}
    constant = np.where(np.arange(N) < GROUP, rewards, np.float32(0.1))
    empty = mask & (np.arange(N) < N - 1)[:, None]
    desirable = np.arange(2 * B) % 2 == 0
    parts = random.uniform(size=(N, 2)).astype(np.float32)
    return arrays | {"mask": mask, "mask_empty": empty, "pair_mask": pair_mask, "other_mask": other_mask,
                     "reward_parts": parts, "rewards_constant": constant.astype(np.float32), "desirable": desirable}


def _ragged(random: np.random.Generator, rows: int) -> np.ndarray:
    """[rows, T] bool: the first row is full, the second has one token."""
    lengths = random.integers(1, T + 1, size=rows)
    lengths[:2] = T, 1
    return np.arange(T) < lengths[:, None]


def _logp(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return -np.exp(random.normal(-0.7, 0.8, size=shape)) - 1e-3


def _drift(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Log-ratios: most within 0.5, one in eight around 1.5, so that every clip acts."""
    return random.normal(0.0, 0.3, size=shape) + random.choice([0.0, 1.5, -1.5], p=[0.875, 0.0625, 0.0625], size=shape)


def _mask_of(name: str, mask: np.ndarray, pair: np.ndarray, other: np.ndarray) -> np.ndarray | None:
    if name in ("advantages", "rewards", "pair_prompt"):
        return None
    return pair if name.startswith("pair") else other if name.startswith("other") else mask


def _garbage(values: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """A number that no correct loss may see where masked: finite, since peers multiply by the mask."""
    return values if mask is None else np.where(mask, values, -7.0)
