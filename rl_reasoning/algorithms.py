"""The one page: each method of the field is an advantage, a surrogate, and how tokens are averaged.

To see how two methods differ, compare two entries. To add one, write its pure function in `advantages` or
`losses`, its line here, and its closed-form test.
"""

import dataclasses
import difflib
import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from rl_reasoning import advantages, losses
from rl_reasoning.advantages import AdvantageInputs, Advantages
from rl_reasoning.losses import SurrogateInputs, Terms
from rl_reasoning.losses.objective import Objective

Option = Callable[..., Any]


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """One method.

    Attributes:
      paper: title and arXiv number.
      advantage: rewards to advantages, a function of `rl_reasoning.advantages` with its options.
      surrogate: the per-token loss, a function of `rl_reasoning.losses` with its options.
      aggregation: how tokens are averaged, see `rl_reasoning.losses.aggregate`.
      rewards: which rewards the method is defined on: "any", "binary" or "unit".
      entropy: coefficient of an entropy bonus, per nat.
      value: coefficient of the critic's loss; 0 has no critic.
      value_clip: how far a value moves before its loss is clipped.
      value_rate: the critic head's learning rate, as a multiple of the policy's.
    """

    paper: str
    advantage: Callable[[AdvantageInputs], Advantages]
    surrogate: Callable[[SurrogateInputs], Terms]
    aggregation: str = "token_mean"
    rewards: str = "any"
    entropy: float = 0.0
    value: float = 0.0
    value_clip: float = 0.5
    value_rate: float = 1.0

    def objective(self, max_length: int) -> Objective:
        """What an update minimises. max_length: the most tokens of an answer."""
        return Objective(self.surrogate, self.aggregation, max_length, self.entropy, self.value, self.value_clip)


use = functools.partial
_DECOMPOSED = "The Surprising Effectiveness of Negative Reinforcement, arXiv 2506.01347"

ALGORITHMS: dict[str, Algorithm] = {
    "psr": Algorithm(
        _DECOMPOSED, use(advantages.positive_only, denominator="kept"),
        use(losses.clipped, clip_low=0.2, clip_high=0.2), rewards="binary"),
    "nsr": Algorithm(
        _DECOMPOSED, use(advantages.negative_only, denominator="kept"),
        use(losses.clipped, clip_low=0.2, clip_high=0.2), rewards="binary"),
    "w_reinforce": Algorithm(
        _DECOMPOSED, use(advantages.signed, positive_weight=0.1),
        use(losses.clipped, clip_low=0.2, clip_high=0.2), rewards="binary"),
    "reinforce": Algorithm(
        _DECOMPOSED, use(advantages.signed, positive_weight=1.0),
        use(losses.clipped, clip_low=0.2, clip_high=0.2), rewards="binary"),
    "grpo": Algorithm(
        "DeepSeekMath, arXiv 2402.03300", use(advantages.group_normalized, scale="group", epsilon=1e-6),
        use(losses.clipped, clip_low=0.2, clip_high=0.2), aggregation="sequence_mean_token_mean"),
    "ppo": Algorithm(
        "Proximal Policy Optimization, arXiv 1707.06347", use(advantages.gae, discount=1.0, gae_lambda=1.0),
        use(losses.clipped, clip_low=0.2, clip_high=0.2), value=1.0, value_rate=10.0),
    "rloo": Algorithm(
        "Back to Basics, arXiv 2402.14740", use(advantages.rloo), use(losses.reinforce),
        aggregation="sequence_mean_token_sum"),
    "reinforce_plus_plus": Algorithm(
        "REINFORCE++, arXiv 2501.03262", use(advantages.reinforce_plus_plus, discount=1.0),
        use(losses.clipped, clip_low=0.2, clip_high=0.2)),
    "reinforce_plus_plus_baseline": Algorithm(
        "REINFORCE++, arXiv 2501.03262", use(advantages.reinforce_plus_plus_baseline, ddof=1),
        use(losses.clipped, clip_low=0.2, clip_high=0.2)),
    "dr_grpo": Algorithm(
        "Understanding R1-Zero-like Training, arXiv 2503.20783", use(advantages.dr_grpo),
        use(losses.clipped, clip_low=0.2, clip_high=0.2), aggregation="sequence_sum_token_norm"),
    "gspo": Algorithm(
        "Group Sequence Policy Optimization, arXiv 2507.18071", use(advantages.group_normalized, scale="group"),
        use(losses.gspo, clip_low=3e-4, clip_high=4e-4), aggregation="sequence_mean_token_mean"),
    "cispo": Algorithm(
        "MiniMax-M1, arXiv 2506.13585", use(advantages.group_normalized, scale="group"),
        use(losses.cispo, cap=5.0, floor=0.0)),
    "gppo": Algorithm(
        "Klear-Reasoner, arXiv 2508.07629", use(advantages.group_normalized, scale="group"),
        use(losses.gppo, clip_low=0.2, clip_high=0.28, beta_low=1.0, beta_high=1.0)),
    "ce_gppo": Algorithm(
        "CE-GPPO, arXiv 2509.20712", use(advantages.group_normalized, scale="group"),
        use(losses.gppo, clip_low=0.2, clip_high=0.2, beta_low=0.75, beta_high=1.0)),
    "pacs": Algorithm(
        "PACS, arXiv 2509.02522", use(advantages.outcome),
        use(losses.pacs, beta=1.0, coupling="rloo", balanced=True, actor_term=False),
        aggregation="sequence_mean_token_mean", rewards="unit"),
    "raft": Algorithm(
        "RAFT, arXiv 2304.06767", use(advantages.raft, denominator="all"), use(losses.reinforce)),
    "raft_plus_plus": Algorithm(
        "A Minimalist Approach, arXiv 2504.11343", use(advantages.raft, denominator="all"),
        use(losses.clipped, clip_low=0.2, clip_high=0.2)),
    "grpo_passk": Algorithm(
        "Pass@k policy optimisation, arXiv 2503.19595", use(advantages.grpo_passk, normalized=False),
        use(losses.clipped, clip_low=0.2, clip_high=0.2)),
    "opo": Algorithm(
        "On-policy RL with optimal reward baseline, arXiv 2505.23585", use(advantages.opo),
        use(losses.clipped, clip_low=0.2, clip_high=0.2)),
    "gpg": Algorithm(
        "Group Policy Gradient, arXiv 2504.02546", use(advantages.gpg, count="informative"), use(losses.reinforce)),
    "sapo": Algorithm(
        "Soft Adaptive Policy Optimization, arXiv 2511.20347", use(advantages.group_normalized, scale="group"),
        use(losses.sapo, temperature_positive=1.0, temperature_negative=1.05), aggregation="sequence_mean_token_mean"),
    "gmpo": Algorithm(
        "Geometric-Mean Policy Optimization, arXiv 2507.20673", use(advantages.group_normalized, scale="group"),
        use(losses.gmpo, clip_low=0.4, clip_high=0.4), aggregation="sequence_mean_token_mean"),
    "luspo": Algorithm(
        "LUSPO, arXiv 2602.05261", use(advantages.group_normalized, scale="group"),
        use(losses.luspo, clip_low=2e-3, clip_high=2.5e-3), aggregation="sequence_mean_token_sum"),
    "vespo": Algorithm(
        "VESPO, arXiv 2602.10693", use(advantages.group_normalized, scale="group"),
        use(losses.vespo, positive_power=2.0, positive_decay=3.0, negative_power=3.0, negative_decay=2.0)),
}


def resolve(name: str, overrides: Mapping[str, Any]) -> Algorithm:
    """The entry of a name, with some of its options changed.

    Args:
      overrides: option -> value; the options are the keywords of the entry's advantage and surrogate, and the
        entry's own fields (see `options`).

    Raises:
      ValueError: no such algorithm, no such option, or a value that the option does not allow.
    """
    if name not in ALGORITHMS:
        raise ValueError(f"algorithm={name!r} is not known; did you mean {_nearest(name, ALGORITHMS)}? There are "
                         f"{', '.join(sorted(ALGORITHMS))}")
    algorithm = ALGORITHMS[name]
    known = options(algorithm)
    for option, value in overrides.items():
        if option not in known:
            raise ValueError(f"objective.{option}={value!r}: {name} has no such option; did you mean "
                             f"{_nearest(option, known)}? It takes {', '.join(sorted(known))}")
        algorithm = _replace(algorithm, option, _coerce(name, option, known[option], value))
    return algorithm


def options(algorithm: Algorithm) -> dict[str, Any]:
    """Every option of an entry with its value."""
    own = {field.name: getattr(algorithm, field.name) for field in dataclasses.fields(algorithm)}
    scalars = {name: value for name, value in own.items() if isinstance(value, (int, float, str)) and name != "paper"
               and name != "rewards"}
    return _keywords(algorithm.advantage) | _keywords(algorithm.surrogate) | scalars


def table() -> str:
    """All algorithms, one a line: advantage, surrogate, averaging, paper."""
    rows = [("algorithm", "advantage", "surrogate", "averaging", "paper")]
    rows += [(name, _call(entry.advantage), _call(entry.surrogate), entry.aggregation, entry.paper)
             for name, entry in ALGORITHMS.items()]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return "\n".join("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[4]])
                     for row in rows)


def _keywords(function: Callable[..., Any]) -> dict[str, Any]:
    """The keyword-only options of a function, those of a partial with the values it fixes."""
    return {name: parameter.default for name, parameter in inspect.signature(function).parameters.items()
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY}


def _replace(algorithm: Algorithm, option: str, value: Any) -> Algorithm:
    for part in ("advantage", "surrogate"):
        function = getattr(algorithm, part)
        if option in _keywords(function):
            return dataclasses.replace(algorithm, **{part: functools.partial(function, **{option: value})})
    return dataclasses.replace(algorithm, **{option: value})


def _coerce(name: str, option: str, default: Any, value: Any) -> Any:
    """The value as the option's type; whole numbers are taken for fractions."""
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if default is not None and type(value) is not type(default):
        raise ValueError(f"objective.{option}={value!r} of {name} must be a {type(default).__name__}, "
                         f"such as {default!r}")
    return value


def _call(function: Callable[..., Any]) -> str:
    if isinstance(function, functools.partial):
        return f"{function.func.__name__}({', '.join(f'{k}={v}' for k, v in function.keywords.items())})"
    return function.__name__


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    return max(known, key=lambda other: difflib.SequenceMatcher(None, name, other).ratio())
