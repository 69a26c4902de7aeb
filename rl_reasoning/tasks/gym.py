"""Problems of reasoning-gym (github.com/open-thought/reasoning-gym): any of its generators, scored by its own rules."""

import ast
import dataclasses
import difflib
import hashlib
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rl_reasoning.config import Gym as Settings
from rl_reasoning.tasks import is_held_out
from rl_reasoning.tasks.maths.extraction import NoAnswer, final_answer
from rl_reasoning.tasks.own import as_verdict
from rl_reasoning.types import Message, Outcome, Problem, Verdict

INSTRUCTION = "Give the final answer, and nothing else, between <answer> and </answer>."
CHUNK = 128  # items that one of the generator's own data sets holds
MOST_BARREN = 3  # chunks in a row without a new problem, after which there are none
LONGEST_EXPRESSION = 2000

# Generators whose scorers hand an answer to Python's eval or to sympy's parser, which is eval behind a few rewrites.
EVALUATED = frozenset({
    "binary_matrix", "countdown", "intermediate_integration", "n_queens", "polynomial_multiplication", "puzzle24",
    "simple_integration", "spiral_matrix", "string_insertion"})
_PARSED_BY_SYMPY = EVALUATED - {"binary_matrix", "n_queens", "spiral_matrix", "string_insertion"}
_FUNCTIONS = frozenset({"sin", "cos", "tan", "cot", "sec", "csc", "asin", "acos", "atan", "sinh", "cosh", "tanh", "exp",
                        "log", "ln", "sqrt", "Abs", "Rational"})
_LITERALS = (ast.Expression, ast.UnaryOp, ast.USub, ast.UAdd, ast.Constant, ast.List, ast.Tuple, ast.Load)
_ARITHMETIC = (*_LITERALS, ast.BinOp, ast.operator, ast.Name, ast.Call)


class Gym:
    """The problems of one generator, asked as a chat turn and answered in <answer> tags.

    Which side of the split a problem is on depends on a hash of its text alone, so training and held-out problems
    cannot meet. A problem's `answer` is the generator's whole entry; its metadata holds the `generator` and those of
    the entry's facts that are a number or a text. Some scorers are lenient (a hundredth for any answer) and some
    unsound (game_of_life_halting takes whatever is not "true" for "false"): look at the one you train on.

    Raises:
      ValueError: no such generator, options that it does not take, or a level without a curriculum.
      ImportError: reasoning-gym is not installed.
    """

    name = "gym"
    in_process = False

    def __init__(self, settings: Settings):
        self._settings = settings
        self._scorer = _dataset(settings, 0, 1)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy makes its scorer itself; each call of `verify` brings its problem."""
        return Gym, (self._settings,)

    def train_problems(self) -> Sequence[Problem]:
        """The first `size` distinct problems that are not held out, or all where there are fewer.

        Raises ValueError when there is none.
        """
        problems = self.draw("train", self._settings.size, held_out=False)
        if not problems:
            raise ValueError(f"task.gym.name={self._settings.name!r} gave no problem to train on with these options: "
                             "lower task.gym.held_out, or change task.gym.options")
        return problems

    def held_out_problems(self, count: int, seed: int) -> tuple[Problem, ...]:
        """`count` distinct held-out problems, the same for the same seed. Raises ValueError when there are fewer."""
        problems = self.draw(f"held out {seed}", count, held_out=True)
        if len(problems) < count:
            raise ValueError(f"task.gym has {len(problems)} held-out problems and {count} were asked for: lower "
                             "evaluation.problems, raise task.gym.held_out, or give options with more problems")
        return problems

    def verify(self, problem: Problem, text: str) -> Verdict:
        """The generator's score of the answer: 1 is right, 0 wrong, anything between partial.

        UNPARSABLE are no answer in tags, several, and an empty one; what the generator would evaluate as a program
        and is no plain expression; and what its scorer fails on, when it does not fail on the problem's own answer.

        Raises:
          Exception: what the scorer raises where it fails on the problem's own answer, too.
          ValueError: a score outside 0..1.
        """
        try:
            answer = final_answer(text, "tags")
        except NoAnswer as error:
            return Verdict(Outcome.UNPARSABLE, 0.0, None, str(error))
        if self._settings.name in EVALUATED and (why := refuse(answer, self._settings.name in _PARSED_BY_SYMPY)):
            return Verdict(Outcome.UNPARSABLE, 0.0, answer, f"{why}, which is not evaluated")
        try:
            score = float(self._scorer.score_answer(answer=answer, entry=problem.answer))
        except Exception as error:
            if not self._scores_its_own(problem):
                raise
            return Verdict(Outcome.UNPARSABLE, 0.0, answer, f"the scorer cannot read it: {type(error).__name__}")
        if not 0.0 <= score <= 1.0:
            raise ValueError(f"reasoning-gym's {self._settings.name} gave the score {score}, which is not in 0..1")
        return dataclasses.replace(as_verdict(score), answer=answer, reason=f"reasoning-gym scores it {score:g}")

    def _scores_its_own(self, problem: Problem) -> bool:
        """Whether the scorer works at all on this problem."""
        return self._scorer.score_answer(answer=problem.answer["answer"], entry=problem.answer) == 1

    def draw(self, stream: str, count: int, *, held_out: bool) -> tuple[Problem, ...]:
        """Distinct problems of one side of the split, in the stream's order; stops when no new ones come."""
        found: list[Problem] = []
        seen: set[str] = set()
        barren = 0
        for chunk in self._chunks(stream):
            before = len(seen)
            for entry in chunk:
                problem = _problem(entry, self._settings)
                if problem.id not in seen and is_held_out(problem.id, self._settings.held_out) == held_out:
                    found.append(problem)
                    if len(found) == count:
                        return tuple(found)
                seen.add(problem.id)
            barren = barren + 1 if len(seen) == before else 0
            if barren == MOST_BARREN:
                return tuple(found)
        return tuple(found)

    def _chunks(self, stream: str) -> Iterator[Iterator[dict[str, Any]]]:
        """The generator's entries, `CHUNK` from each seed; streams of other names are unrelated."""
        for number in itertools.count():
            digest = hashlib.sha256(f"{self._settings.seed} {stream} {number}".encode()).digest()
            dataset = _dataset(self._settings, int.from_bytes(digest[:4]) >> 1, CHUNK)
            yield (dataset[index] for index in range(CHUNK))


def _dataset(settings: Settings, seed: int, size: int) -> Any:
    """One of reasoning-gym's data sets."""
    try:
        from reasoning_gym.factory import CURRICULA, DATASETS
    except ImportError as error:
        raise ImportError("the gym task needs reasoning-gym: pip install -e '.[lm]'") from error
    name, level = settings.name, settings.level
    if name not in DATASETS:
        near = difflib.get_close_matches(name, DATASETS, 3) or sorted(DATASETS)[:5]
        raise ValueError(f"task.gym.name={name!r} is none of reasoning-gym's {len(DATASETS)} generators; did you mean "
                         f"{', '.join(near)}?")
    make, config = DATASETS[name]
    values: dict[str, Any] = {}
    if level >= 0:
        if name not in CURRICULA:
            raise ValueError(f"task.gym.level={level}: {name} has no curriculum; use -1 and task.gym.options")
        curriculum = CURRICULA[name]()
        curriculum.set_global_level(level)
        values = dict(vars(curriculum.generate_configuration()))
    try:
        return make(config=config(**values | settings.options | {"seed": seed, "size": size}))
    except (TypeError, ValueError, AssertionError) as error:
        known = ", ".join(field.name for field in dataclasses.fields(config) if field.name not in ("seed", "size"))
        raise ValueError(f"task.gym.options={settings.options!r} with level={level} is nothing that {name} takes "
                         f"({error}); its options are {known}") from error


def _problem(entry: dict[str, Any], settings: Settings) -> Problem:
    digest = hashlib.sha256(entry["question"].encode()).hexdigest()[:20]
    difficulty = entry["metadata"].get("difficulty")
    facts = {**entry["metadata"], **(difficulty if isinstance(difficulty, Mapping) else {})}
    plain = {key: value for key, value in facts.items() if isinstance(value, bool | int | float | str)}
    text = f"{entry['question']}\n\n{INSTRUCTION}" if settings.instruction else entry["question"]
    return Problem(f"gym {settings.name}: {digest}", (Message("user", text),), entry, "gym",
                   {**plain, "generator": settings.name})


def refuse(answer: str, parsed_by_sympy: bool) -> str | None:
    """What keeps an answer from being harmless to evaluate, or None.

    For eval that is a literal: a name could be one of the scorer's own variables. For sympy's parser it is arithmetic
    on numbers and symbols with the functions of mathematics, without strings, which those functions would evaluate.
    Text that Python cannot parse cannot be run by eval either and is left to the scorer; sympy's parser accepts more
    than Python's, so for it such a text is refused.
    """
    if len(answer) > LONGEST_EXPRESSION:
        return f"an expression of more than {LONGEST_EXPRESSION} characters"
    try:
        tree = ast.parse(answer, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "no expression" if parsed_by_sympy else None
    allowed = _ARITHMETIC if parsed_by_sympy else _LITERALS
    for node in ast.walk(tree):
        if not isinstance(node, allowed):
            return f"an expression with a {type(node).__name__}"
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) not in _FUNCTIONS:
            return "a call of a function that is not one of mathematics"
        if parsed_by_sympy and isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            return "an expression with a text"
    return None
