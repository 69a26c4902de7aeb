"""GVM: samples where the gradient's variance is (arXiv 2505.02391).

p is a problem's acceptance rate, G the mean norm of an accepted answer's gradient of its log-probability. The gradient
sum_i 1 / (n_i p_i) sum_accepted grad ln P is unbiased for every choice of the counts n (Lemma 1), and its variance is
at most sum_i G_i^2 / (p_i n_i). Hopeless problems would take all samples, so each term is damped by
1 / (1 + alpha / p^beta); the counts that minimise the sum are proportional to `sampling_weights` (Proposition 1).
All arrays are [P] float64 on the host.
"""

import numpy as np

from rl_reasoning.require import require


def sampling_weights(norms: np.ndarray, rates: np.ndarray, *, alpha: float = 1e-3, beta: float = 2.0) -> np.ndarray:
    """w = G / sqrt(p + alpha / p^(beta - 1)); 0 where p or G is 0 (Proposition 1).

    Without damping (alpha = 0) it is G / sqrt(p): the rarely solved get most. With it w falls to 0 as p does, and peaks
    at p = (alpha (beta - 1))^(1 / beta), which is 0.03 at the defaults.

    Raises:
      ValueError: a rate outside [0, 1], a norm that is negative or not finite, alpha < 0, or beta < 2.
    """
    norms, rates = _checked(norms, rates)
    return norms * np.sqrt(_damped(rates, alpha, beta))


def variance_bound(counts: np.ndarray, norms: np.ndarray, rates: np.ndarray, *, alpha: float = 0.0,
                   beta: float = 2.0) -> float:
    """sum_i G_i^2 / (p_i n_i) / (1 + alpha / p_i^beta), over the problems with p and G above 0.

    Infinite when one of them has no sample. At the best fractional counts it is (sum of `sampling_weights`)^2 / N.

    Raises: see `sampling_weights`.
    """
    norms, rates = _checked(norms, rates)
    squares = np.square(norms) * _damped(rates, alpha, beta)
    with np.errstate(divide="ignore"):
        return float((squares[squares > 0] / np.asarray(counts, np.float64)[squares > 0]).sum())


def answer_weights(counts: np.ndarray, rates: np.ndarray | None = None) -> np.ndarray:
    """[P] weights N / (P n), or N / (P n p) with rates, of each answer to a problem; 0 where it has none.

    P counts the problems with answers, N their answers, so that equal counts weigh 1. A mean over answers then is a
    mean over problems: of each one's expected reward, or with rates of the logarithm of its acceptance rate (Lemma 1).
    Unbiased for the true rates.

    Args: rates: of the problems; those with a rate of 0 weigh 0, since none of their answers was accepted.
    """
    counts = np.asarray(counts, np.float64)
    per_problem = counts if rates is None else counts * np.asarray(rates, np.float64)
    scale = counts.sum() / max((counts > 0).sum(), 1)
    return np.divide(scale, per_problem, out=np.zeros_like(counts), where=per_problem > 0)


def _damped(rates: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """1 / (p + alpha / p^(beta - 1)), 0 at p = 0."""
    require(0 <= alpha < np.inf, "alpha", alpha, "0 <= alpha < inf", "The paper takes 0.001; 0 has no damping.")
    require(2 <= beta < np.inf, "beta", beta, "2 <= beta < inf", "The paper takes 2.")
    solved = rates > 0
    with np.errstate(divide="ignore", over="ignore"):
        damping = alpha / np.power(rates, beta - 1, where=solved, out=np.ones_like(rates)) if alpha else 0.0
    return np.where(solved, 1 / np.where(solved, rates + damping, 1), 0)


def _checked(norms: np.ndarray, rates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    norms, rates = np.asarray(norms, np.float64), np.asarray(rates, np.float64)
    for rate in rates[~((rates >= 0) & (rates <= 1))][:1]:
        require(False, "a rate", float(rate), "0 <= rate <= 1", "Give accepted / drawn.")
    for norm in norms[~(np.isfinite(norms) & (norms >= 0))][:1]:
        require(False, "a norm", float(norm), "a finite number >= 0", "Leave out answers whose gradient is not finite.")
    return norms, rates
