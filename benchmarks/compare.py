"""Whether all sides of a row gave the same answers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.plan import Answers, Value


@dataclass(frozen=True)
class Comparison:
    """Whether two sides gave the same.

    Attributes:
        first, second: the sides.
        n: answers that both gave.
        different: how many of them differ.
        gap: the largest difference of their numbers.
    """

    first: str
    second: str
    n: int
    different: int
    gap: float


def compare(first: str, mine: Answers, second: str, others: Answers, tolerance: float | None) -> Comparison:
    """Compare the answers that both sides gave."""
    common = [key for key in mine if key in others]
    gaps = [_gap(mine[key], others[key]) for key in common]
    different = sum(
        mine[key][0] != others[key][0] or (tolerance is not None and not gap <= tolerance) for key, gap in zip(common, gaps, strict=True)
    )
    return Comparison(first, second, len(common), different, max(gaps, default=0.0))


def _gap(one: Value, other: Value) -> float:
    return float(np.abs(one[1] - other[1]).max())


def together(several: Sequence[Comparison]) -> Comparison:
    """Several comparisons of the same two sides as one."""
    one = several[0]
    return Comparison(one.first, one.second, sum(c.n for c in several), sum(c.different for c in several), max(c.gap for c in several))


def varied(answers: Answers) -> float | None:
    """The share of problems that are not answered alike in all cells: were it 0, agreement would show little.

    None where what is compared are numbers, not predictions.
    """
    predictions: dict[object, set[object]] = {}
    for key, (prediction, _) in answers.items():
        predictions.setdefault(key[-1], set()).add(prediction)
    if predictions.keys() and all(values == {""} for values in predictions.values()):
        return None
    return sum(len(values) > 1 for values in predictions.values()) / max(1, len(predictions))
