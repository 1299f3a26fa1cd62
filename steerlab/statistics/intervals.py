"""Confidence intervals for a proportion and for the change of a proportion between paired outcomes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from numpy.typing import ArrayLike
from scipy.stats import binomtest

from steerlab._checks import InputError, check_pairs, count, open_share, outcomes
from steerlab._html import html_table


@dataclass(frozen=True)
class Interval:
    """A confidence interval; ``low, high = interval`` works too.

    Attributes:
        low, high: the limits, in the units of what was estimated.
        confidence: the share of such intervals that hold the truth, e.g. 0.95.
        method: how it was computed.
    """

    low: float
    high: float
    confidence: float
    method: str

    def __iter__(self) -> Iterator[float]:
        return iter((self.low, self.high))

    def __str__(self) -> str:
        return f"{_percent(self.confidence)} interval {self.low:.4g} to {self.high:.4g} ({self.method})"

    def _repr_html_(self) -> str:
        rows = {"low": f"{self.low:.4g}", "high": f"{self.high:.4g}", "method": self.method}
        return html_table(f"{_percent(self.confidence)} interval", rows)


def wilson_interval(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Wilson's score interval for a proportion, without continuity correction.

    Args:
        successes: how many of n were right.
        n: how many there were, at least 1.
        confidence: between 0 and 1.

    Returns:
        The interval in proportions; it always holds successes / n and never leaves [0, 1].

    Raises:
        ValueError: n < 1, successes below 0 or above n, or a confidence outside (0, 1).

    Source:
        Wilson (1927), J. Am. Stat. Assoc. 22; computed by SciPy.

    Example:
        >>> print(wilson_interval(17, 86))
        95% interval 0.1272 to 0.294 (Wilson)
    """
    successes, n = _successes(successes, n)
    limits = binomtest(successes, n).proportion_ci(open_share(confidence, "confidence"), method="wilson")
    return _holding(successes / n, limits.low, limits.high, confidence, "Wilson")


def clopper_pearson_interval(successes: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Clopper and Pearson's exact interval for a proportion: it misses the truth at most as often as it says, and usually less often.

    Args:
        successes: how many of n were right.
        n: how many there were, at least 1.
        confidence: between 0 and 1.

    Returns:
        The interval in proportions; it always holds successes / n.

    Raises:
        ValueError: n < 1, successes below 0 or above n, or a confidence outside (0, 1).

    Source:
        Clopper and Pearson (1934), Biometrika 26; computed by SciPy.

    Example:
        >>> print(clopper_pearson_interval(17, 86))
        95% interval 0.1196 to 0.2975 (Clopper-Pearson)
    """
    successes, n = _successes(successes, n)
    limits = binomtest(successes, n).proportion_ci(open_share(confidence, "confidence"), method="exact")
    return _holding(successes / n, limits.low, limits.high, confidence, "Clopper-Pearson")


def _successes(successes: int, n: int) -> tuple[int, int]:
    n = count(n, "n", at_least=1)
    successes = count(successes, "successes", at_least=0)
    if successes > n:
        raise InputError(f"successes={successes}: more than n={n}; use 0 to {n}")
    return successes, n


def _holding(estimate: float, low: float, high: float, confidence: float, method: str) -> Interval:
    # In exact arithmetic the estimate is inside; rounding must not push it out.
    low, high = min(float(low), estimate), max(float(high), estimate)
    return Interval(max(low, 0.0), min(high, 1.0), float(confidence), method)


def paired_interval(before: ArrayLike, after: ArrayLike, *, confidence: float = 0.95) -> Interval:
    """Newcombe's hybrid score interval (method 10) for the change in accuracy of paired outcomes.

    Args:
        before: right or wrong for each problem without the intervention; booleans, or integers 0 and 1.
        after: the same problems, in the same order, with it.
        confidence: between 0 and 1.

    Returns:
        The interval of accuracy after minus accuracy before, in proportions, within [-1, 1]. It is approximate,
        keeps a width when no outcome changed, and may disagree with the exact sign test close to the level.

    Raises:
        ValueError: unequal lengths, no pairs, values that are not outcomes, two Series whose labels are in
            different orders, or a confidence outside (0, 1).

    Source:
        Newcombe (1998), Statistics in Medicine 17, 2635-2650, method 10 (with its correction of phi).

    Example:
        >>> print(paired_interval([0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 0]))
        95% interval -0.2716 to 0.7263 (Newcombe paired)
    """
    check_pairs(before, after)
    was, now = outcomes(before, "before"), outcomes(after, "after")
    return newcombe_interval(
        became_right=int((~was & now).sum()),
        became_wrong=int((was & ~now).sum()),
        stayed_right=int((was & now).sum()),
        stayed_wrong=int((~was & ~now).sum()),
        confidence=confidence,
    )


def newcombe_interval(*, became_right: int, became_wrong: int, stayed_right: int, stayed_wrong: int, confidence: float) -> Interval:
    """The interval of `paired_interval` from the four counts of the paired table."""
    n = became_right + became_wrong + stayed_right + stayed_wrong
    right_after, right_before = stayed_right + became_right, stayed_right + became_wrong
    change = (became_right - became_wrong) / n
    after = wilson_interval(right_after, n, confidence=confidence)
    before = wilson_interval(right_before, n, confidence=confidence)
    phi = _corrected_phi(became_right, became_wrong, stayed_right, stayed_wrong)
    below = _combined(right_after / n - after.low, before.high - right_before / n, phi)
    above = _combined(after.high - right_after / n, right_before / n - before.low, phi)
    low, high = max(change - below, -1.0), min(change + above, 1.0)
    return Interval(low, high, float(confidence), "Newcombe paired")


def _corrected_phi(became_right: int, became_wrong: int, stayed_right: int, stayed_wrong: int) -> float:
    """Correlation of the two outcomes, with a positive one drawn towards 0 as method 10 asks."""
    n = became_right + became_wrong + stayed_right + stayed_wrong
    right_after, right_before = stayed_right + became_right, stayed_right + became_wrong
    margins = right_after * (n - right_after) * right_before * (n - right_before)
    if margins == 0:
        return 0.0
    cross = stayed_right * stayed_wrong - became_right * became_wrong
    corrected = max(cross - n / 2, 0.0) if cross > 0 else cross
    return corrected / math.sqrt(margins)


def _combined(one: float, other: float, phi: float) -> float:
    # Never negative in exact arithmetic, because |phi| <= 1.
    return math.sqrt(max(one**2 - 2 * phi * one * other + other**2, 0.0))


def _percent(confidence: float) -> str:
    return f"{100 * confidence:.10g}%"
