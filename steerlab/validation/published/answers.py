"""What a recipe answers, and how a claim is judged by it."""

from dataclasses import dataclass
from typing import Literal

from steerlab.validation.published.numbers import Printed, Range

Verdict = Literal["follows", "does not follow", "cannot be checked"]
VERDICTS: tuple[Verdict, ...] = ("follows", "does not follow", "cannot be checked")


@dataclass(frozen=True)
class Judgement:
    """A verdict, and the range of values that it rests on."""

    verdict: Verdict
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Answer:
    """The values that the printed numbers allow.

    Attributes:
        ranges: one for each way to read the question; none when the print says nothing about it.
        said: how they come about, in words.
        determined: False when something that was not printed decides among the values, a number or what an undefined word
            means; rounding and the conventions of a named quantity leave it True.
    """

    ranges: tuple[Range, ...]
    said: str
    determined: bool = True

    def judged(self, claimed: Printed) -> Judgement:
        """Judge a claim, in its favour where the print leaves a choice.

        Rounding and ways to read a question count for the claim: one fitting value is enough. Where missing numbers
        or definitions decide, the claim follows if every possible value fits, and does not if none does.
        """
        if not self.ranges:
            return Judgement("cannot be checked", None, None)
        fitting = tuple(one for one in self.ranges if claimed.overlaps(one))
        verdict: Verdict = "follows"
        if not fitting:
            verdict = "does not follow"
        elif not self.determined and not all(claimed.contains(one) for one in self.ranges):
            verdict, fitting = "cannot be checked", ()
        shown = fitting or self.ranges
        return Judgement(verdict, float(min(one.low for one in shown)), float(max(one.high for one in shown)))
