"""Settings of problems and of what judges answers."""

import dataclasses
from typing import Any

from rl_reasoning.config.setting import setting

FUNCTION_NAME = r"[A-Za-z_][\w.]*:[A-Za-z_]\w*"  # module:function


@dataclasses.dataclass(frozen=True)
class Countdown:
    """Reach a target from k numbers, each used once, in k - 1 steps."""

    numbers: int = setting(3, low=2, high=6, doc="how many numbers a problem has")
    low: int = setting(1, low=1, doc="smallest number")
    high: int = setting(12, low=1, doc="largest number")
    limit: int = setting(60, low=1, doc="largest value that a step may give; values are in 0..limit")
    operations: str = setting("+-*", doc="which of + - * / a step may use")
    held_out: float = setting(0.13, low=0.01, high=0.9, doc="share of the problems that the hash holds out")


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """Sums from reasoning-gym's chain_sum, answered in text."""

    terms: int = setting(2, low=2, high=8, doc="numbers in a sum")
    digits_low: int = setting(1, low=1, high=6, doc="fewest digits of a number")
    digits_high: int = setting(2, low=1, high=6, doc="most digits of a number")
    held_out: float = setting(0.2, low=0.01, high=0.9, doc="share of the problems that the hash holds out")


@dataclasses.dataclass(frozen=True)
class Math:
    """Problems of mathematics from files, their answers graded.

    A source is the path of a .parquet, .jsonl or .json file (also looked for in the folder that the environment
    variable RL_REASONING_DATA names), hf:OWNER/NAME/FILE on the Hugging Face hub, or tfds:NAME:SPLIT.
    """

    train: tuple[str, ...] = setting((), doc="sources of the problems that are trained on")
    weights: tuple[str, ...] = setting((), doc="a weight for each training source; none: all problems alike")
    held_out: tuple[str, ...] = setting((), doc="sources of the problems that are evaluated")
    levels: tuple[str, ...] = setting((), doc="keep only problems of these levels, as in 1,2; none keeps all")
    prompt: str = setting("boxed", choices=("boxed", "tags", "plain"), doc="what the question is followed by")
    answer_form: str = setting("any", choices=("any", "boxed", "tags", "phrase"), doc="where an answer is looked for")
    grader: str = setting("math_verify", choices=("exact", "math_verify", "is_equiv", "math_equal"),
                          doc="what decides whether an answer is right")
    second_grader: str = setting("math_equal", choices=("exact", "math_verify", "is_equiv", "math_equal"),
                                 doc="what is asked too on a share of the answers; disagreement is counted")
    second_share: float = setting(0.01, low=0.0, high=1.0, doc="share of answers for the second grader")
    several: str = setting("skip", choices=("skip", "any", "all"), doc="a row with several answers: skipped, any is "
                           "right, or all are wanted")
    strict: bool = setting(False, doc="refuse a file with a bad row instead of skipping and counting it")
    prompt_tokens: int = setting(1024, low=1, doc="longest prompt; problems with longer ones are dropped and counted")
    overlap: str = setting("refuse", choices=("refuse", "drop", "allow"), doc="training problems that share their text "
                           "or 13 words in a row with a held-out one")


@dataclasses.dataclass(frozen=True)
class Code:
    """Programs that the policy writes, run against tests in a sandbox."""

    path: str = setting("", doc="JSON lines of problems, as rl_reasoning.tasks.code.problems describes them")
    reward: str = setting("binary", choices=("binary", "rate", "klear"),
                          doc="1 when every test passes, the share of tests that pass, or 2 * share - 1")
    tests: int = setting(16, low=1, doc="most tests an answer; the choice derives from the problem")
    seconds: float = setting(3.0, low=1.0, high=600.0, doc="processor seconds of a program, all its tests together")
    memory: int = setting(256, low=64, doc="MiB that each process of a program may allocate")
    repeats: int = setting(1, low=1, high=5, doc="runs of each answer; when they disagree it is unscorable")
    isolation: str = setting("namespace", choices=("namespace", "landlock", "none"),
                             doc="weakest isolation to accept; none is resource limits without isolation")
    strict: bool = setting(False, doc="refuse a file with a bad row, instead of counting and skipping it")
    held_out: float = setting(0.2, low=0.01, high=0.9, doc="share of the problems that the hash holds out")


@dataclasses.dataclass(frozen=True)
class Path:
    """Paths in a random directed graph without circles, which the policy only knows from paths of other pairs."""

    nodes: int = setting(100, low=2, high=1000, doc="nodes of the graph")
    edge_probability: float = setting(0.1, low=0.0, high=1.0, doc="chance of an edge from a node to a later one")
    walks: int = setting(20, low=1, high=1000, doc="random training paths of each pair of nodes")
    held_out: float = setting(0.5, low=0.01, high=0.99, doc="share of the pairs, edges aside, that the hash holds out")
    seed: int = setting(0, low=0, high=2**31 - 1, doc="of the graph, the split and the training paths")


@dataclasses.dataclass(frozen=True)
class Blocksworld:
    """Plans that turn one arrangement of blocks into another, one move a step."""

    blocks: int = setting(4, low=2, high=5, doc="blocks; 4 give 73 states, 5 give 501")
    walks: int = setting(12, low=1, high=1000, doc="random shortest training plans of each pair of states")
    held_out: float = setting(0.2, low=0.01, high=0.99, doc="share of the pairs, single moves aside, that are held out")
    seed: int = setting(0, low=0, high=2**31 - 1, doc="of the split and the training plans")


@dataclasses.dataclass(frozen=True)
class Gym:
    """Problems of one of reasoning-gym's generators, scored by that generator."""

    name: str = setting("chain_sum", doc="a generator of reasoning-gym, such as basic_arithmetic or maze")
    options: dict[str, Any] = setting({}, doc="the generator's own options, as in options.min_terms=2")
    level: int = setting(-1, low=-1, high=1000, doc="level of the generator's curriculum, its highest where it has "
                         "fewer; -1 keeps the generator's defaults; options come on top")
    instruction: bool = setting(True, doc="the question is followed by a sentence that asks for answer tags; a policy "
                                "that learned them in its warm start needs none")
    size: int = setting(512, low=1, doc="problems to train on")
    seed: int = setting(0, low=0, high=2**31 - 1, doc="of the problems")
    held_out: float = setting(0.2, low=0.01, high=0.9, doc="share of the problems that the hash holds out")


@dataclasses.dataclass(frozen=True)
class Own:
    """Problems from a function of your own, judged by verifier.function."""

    problems: str = setting("", doc="module:function () -> problems, as in my_task:problems")
    held_out: float = setting(0.2, low=0.01, high=0.9, doc="share of the problems that the hash holds out")


@dataclasses.dataclass(frozen=True)
class Task:
    """Which problems, and the settings of that kind of problem."""

    kind: str = setting("countdown", doc="the kind of problem", choices=(
        "countdown", "arithmetic", "math", "code", "path", "blocksworld", "gym", "own"))
    countdown: Countdown = dataclasses.field(default_factory=Countdown)
    arithmetic: Arithmetic = dataclasses.field(default_factory=Arithmetic)
    math: Math = dataclasses.field(default_factory=Math)
    code: Code = dataclasses.field(default_factory=Code)
    path: Path = dataclasses.field(default_factory=Path)
    blocksworld: Blocksworld = dataclasses.field(default_factory=Blocksworld)
    gym: Gym = dataclasses.field(default_factory=Gym)
    own: Own = dataclasses.field(default_factory=Own)


@dataclasses.dataclass(frozen=True)
class Verifier:
    """The worker processes that score answers; tasks that take microseconds an answer do without."""

    function: str = setting("", doc="module:function (problem, text) -> reward or Verdict; empty is the task's own")
    workers: int = setting(0, low=0, high=1024, doc="worker processes; 0 is one a core, at most 8")
    seconds: float = setting(5.0, low=0.05, high=3600.0, doc="wall seconds for one answer, then it is unscorable")
    memory: int = setting(512, low=16, doc="MiB that a worker may allocate beyond what it starts with")
