"""Problems of mathematics whose answers are checked: MATH, GSM8K, contests."""

import hashlib
from collections.abc import Sequence
from typing import Any

from rl_reasoning import config
from rl_reasoning.tasks import choose
from rl_reasoning.tasks.maths.extraction import NoAnswer, final_answer
from rl_reasoning.tasks.maths.graders import MOST_CHARACTERS, grade, load
from rl_reasoning.tasks.maths.spelling import canonical, clean
from rl_reasoning.tasks.maths.values import restates
from rl_reasoning.types import Outcome, Problem, Verdict


class Math:
    """Problems that were read beforehand (see `rl_reasoning.data.problems`), and the verifier of their answers.

    A problem's `answer` is a text, or a tuple of texts of which any one is right; `metadata["question"]` is
    what the problem asks, without instructions.
    """

    name = "math"
    in_process = False

    def __init__(self, settings: config.Math, train: Sequence[Problem] = (), held_out: Sequence[Problem] = ()):
        self._settings, self._train, self._held_out = settings, tuple(train), tuple(held_out)

    def __getstate__(self) -> dict[str, Any]:
        """Only the settings travel to a verifier's process: a problem comes with its answer."""
        return {"_settings": self._settings, "_train": (), "_held_out": ()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Also imports what the graders need. Raises ImportError."""
        self.__dict__.update(state)
        load(self._settings.grader, *([self._settings.second_grader] if self._settings.second_share else []))

    def train_problems(self) -> Sequence[Problem]:
        """The problems of the training files."""
        return self._train

    def held_out_problems(self, count: int, seed: int) -> tuple[Problem, ...]:
        """`count` problems of the held-out files. Raises ValueError when there are fewer."""
        if count > len(self._held_out):
            raise ValueError(f"task.math.held_out holds {len(self._held_out)} problems and {count} were asked for: "
                             "lower evaluation.problems, or name more files in task.math.held_out")
        return choose(self._held_out, count, seed, self.name)

    def verify(self, problem: Problem, text: str) -> Verdict:
        """Grades the final answer of a text.

        No answer, several, or one too long to be one is UNPARSABLE. An answer that only repeats an expression
        of the question is WRONG even where it equals the answer. On a sampled share of answers a second grader
        is asked too; its word is kept in the verdict and changes nothing.

        Raises:
          ImportError: the grader's package is not installed.
          Exception: whatever computer algebra raises on the two expressions.
        """
        try:
            answer = final_answer(text, self._settings.answer_form)
        except NoAnswer as error:
            return Verdict(Outcome.UNPARSABLE, 0.0, None, str(error))
        if len(answer) > MOST_CHARACTERS:
            return Verdict(Outcome.UNPARSABLE, 0.0, None, f"the answer has more than {MOST_CHARACTERS} characters")
        outcome, reason = self._judge(self._settings.grader, problem, answer)
        second = self._second_opinion(problem, answer) if self._sampled(problem, text) else None
        return Verdict(outcome, float(outcome is Outcome.RIGHT), answer, reason, second=second)

    def _judge(self, grader: str, problem: Problem, answer: str) -> tuple[Outcome, str]:
        """One grader's outcome and the sentence that explains it."""
        golds = (problem.answer,) if isinstance(problem.answer, str) else problem.answer
        found = {grade(grader, gold, answer): gold for gold in golds}
        if gold := found.get(Outcome.RIGHT):
            spelled = clean(answer)
            if canonical(clean(gold)) != canonical(spelled) and restates(spelled, clean(problem.metadata["question"])):
                return Outcome.WRONG, f"{answer[:60]!r} repeats the question"
            return Outcome.RIGHT, f"{answer[:60]!r} equals {gold[:60]!r} ({grader})"
        if Outcome.WRONG in found:
            return Outcome.WRONG, f"{answer[:60]!r} does not equal {' or '.join(golds)[:60]!r} ({grader})"
        return Outcome.UNPARSABLE, f"{answer[:60]!r} is nothing that {grader} can read"

    def _second_opinion(self, problem: Problem, answer: str) -> Outcome:
        try:
            return self._judge(self._settings.second_grader, problem, answer)[0]
        except Exception:  # Counted as a disagreement; the first grader's word stands.
            return Outcome.CRASH

    def _sampled(self, problem: Problem, text: str) -> bool:
        """Whether the second grader looks at this answer; depends on the two texts alone."""
        digest = hashlib.sha256(f"{problem.id}\n{text}".encode(errors="surrogatepass")).digest()
        return int.from_bytes(digest[:4]) < self._settings.second_share * 2**32
