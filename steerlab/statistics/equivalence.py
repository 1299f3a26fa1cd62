"""Equivalence tests: is a change smaller than a stated margin?"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import minimize_scalar

from steerlab._checks import (
    RELATIVE_NOISE,
    InputError,
    are_outcomes,
    check_pairs,
    common_scale,
    finite,
    group_numbers,
    open_share,
    outcomes,
    reals,
)
from steerlab._html import OneLine
from steerlab.statistics._format import format_p
from steerlab.statistics.groups import standard_error
from steerlab.statistics.intervals import Interval, mean_interval, paired_interval
from steerlab.statistics.multiplicity import LEVEL, significant
from steerlab.statistics.t_tests import positive_p

# Values of the nuisance parameter that are tried before the best of them are refined; dense at the ends, where few
# or all problems change and the type I error bends fastest.
NUISANCE_GRID = 0.5 - 0.5 * np.cos(np.linspace(0, np.pi, 257))


@dataclass(frozen=True, eq=False)
class EquivalenceTest(
    OneLine, title="Equivalence test (two one-sided tests)", shown="change margin p_above p_below pvalue interval method n"
):
    """Two one-sided tests (TOST) that a change lies within (-margin, margin).

    Attributes:
        change: mean of after - before; for outcomes the change in accuracy, a proportion.
        margin: the smallest change that would matter, in the same units.
        p_above: of the null that the change is -margin or less; small means "not worse" (non-inferiority).
        p_below: of the null that it is margin or more; small means "not better".
        pvalue: the larger of the two: of the null that the change is as large as the margin, either way.
        statistic_above, statistic_below: t or Tango's score z, against -margin and against margin; the number of
            differences on the right side of the margin for the sign test.
        n: how many pairs there were.
        method: "paired t", "cluster-robust t" by group, "exact unconditional" for outcomes, or "sign" for differences that do not vary.
        before, after: the inputs, as booleans or numbers.
        groups: each pair's group as a number from 0; None where every pair is its own.
    """

    change: float
    margin: float
    p_above: float
    p_below: float
    pvalue: float
    statistic_above: float
    statistic_below: float
    n: int
    method: str
    before: NDArray[np.bool_] | NDArray[np.float64]
    after: NDArray[np.bool_] | NDArray[np.float64]
    groups: NDArray[np.intp] | None = None

    def equivalent(self, level: float = LEVEL) -> bool:
        """Whether changes as large as the margin are rejected in both directions.

        Raises:
            ValueError: a level outside (0, 1).
        """
        return significant(self.pvalue, open_share(level, "level"))

    def interval(self, confidence: float = 0.9) -> Interval:
        """Two-sided interval of the change; the one that goes with a test at a level has confidence 1 - 2 level.

        For real values, and by group, it lies within the margins exactly where the test rejects. For independent outcomes it is
        Newcombe's paired interval, which is approximate and may disagree with the exact test close to the level.

        Raises:
            ValueError: a confidence outside (0, 1).
        """
        if self.before.dtype == np.bool_:
            return paired_interval(self.before, self.after, groups=self.groups, confidence=confidence)
        noise = RELATIVE_NOISE * common_scale(self.before, self.after)
        return mean_interval(np.subtract(self.after, self.before), self.groups, noise, confidence)

    def __str__(self) -> str:
        verdict = "within" if self.equivalent() else "not shown to be within"
        return (
            f"change {self.change:+.4g} {verdict} ±{self.margin:g} at {LEVEL}, {format_p(self.pvalue)} "
            f"(equivalence, {self.method}, n = {self.n}{'' if self.groups is None else f' in {self.groups.max() + 1} groups'})"
        )


def equivalence_test(before: ArrayLike, after: ArrayLike, *, margin: float, groups: ArrayLike | None = None) -> EquivalenceTest:
    """Test that a paired change is smaller than a margin in both directions (TOST).

    Outcomes (booleans, or integers that are all 0 or 1) are tested exactly. Neither the sign test nor McNemar's
    conditioning helps here, because at the margin the share of changed problems is unknown. So each one-sided p-value
    is the largest chance, over all such shares, of a table whose score statistic is at least as extreme: a test that
    holds its level for every n, up to the numerical search for the maximum, at the price of some power. Each margin puts
    the tables in an order of its own, so a slightly wider margin may have a slightly larger p. The plain score test is
    not offered, because it exceeds its level for few problems or small shares.

    Real values are tested by two one-sided t-tests, which assume differences that are roughly normal, or many. Where
    the differences do not vary there is no t, and the sign test of their median is used instead: 2^-n if all of them
    are within the margins, so that no spread is not mistaken for certainty.

    With groups both kinds of values are tested by cluster-robust t (by the sign test of the groups' means where groups do not vary).

    Args:
        before: one value per problem without the intervention: outcomes or real numbers.
        after: the same problems, in the same order, with it.
        margin: the smallest change that would matter: a proportion for outcomes (0.05 is five points), else in the
            units of the values. State it before looking.
        groups: one label a problem, where problems of one group are not independent; None: each is its own.

    Returns:
        The test; pvalue <= level says that the change is smaller than the margin.

    Raises:
        ValueError: unequal lengths, no pairs of outcomes or fewer than 2 pairs of real values or groups, NaN or infinite values, labels of
            another length or missing, two Series whose labels are in different orders, or a margin that is not above 0 (and below 1
            for outcomes).

    Source:
        Schuirmann (1987), J. Pharmacokinet. Biopharm. 15; Tango (1998), Statistics in Medicine 17, for the score;
        Hsueh, Liu and Chen (2001), Biometrics 57, for the exact test. By group as `paired_interval`.

    Example:
        >>> before, after = [1] * 45 + [0] * 45, [1] * 44 + [0] * 45 + [1]
        >>> print(equivalence_test(before, after, margin=0.1))
        change +0 within ±0.1 at 0.05, p = 0.0015 (equivalence, exact unconditional, n = 90)
    """
    check_pairs(before, after)
    margin = finite(margin, "margin")
    if margin <= 0:
        raise InputError(f"margin={margin:g}: use the smallest change that would matter, above 0")
    if not are_outcomes(before, after):
        was, now = reals(before, "before", at_least=2), reals(after, "after", at_least=2)
        return _by_t(was, now, margin, None if groups is None else group_numbers(groups, was.size))
    if margin >= 1:
        raise InputError(f"margin={margin:g}: outcomes change by proportions; use a margin below 1 (0.05 is five points)")
    right, left = outcomes(before, "before"), outcomes(after, "after")
    return _of_outcomes(right, left, margin) if groups is None else _by_t(right, left, margin, group_numbers(groups, right.size))


def _by_t(was: NDArray[Any], now: NDArray[Any], margin: float, numbers: NDArray[np.intp] | None) -> EquivalenceTest:
    differences = np.subtract(now, was, dtype=np.float64)
    noise = RELATIVE_NOISE * common_scale(was, now)
    mean, error = float(differences.mean()), standard_error(differences, numbers, noise)
    units = differences if numbers is None else np.bincount(numbers, weights=differences) / np.bincount(numbers)
    if error:
        statistics, df = ((mean + margin) / error, (mean - margin) / error), units.size - 1
        p_above, p_below = positive_p(stats.t.sf(statistics[0], df)), positive_p(stats.t.cdf(statistics[1], df))
        method = "paired t" if numbers is None else "cluster-robust t"
    else:
        right = int((units > -margin + noise).sum()), int((units < margin - noise).sum())
        statistics = float(right[0]), float(right[1])
        p_above, p_below = (positive_p(stats.binom.sf(k - 1, units.size, 0.5)) for k in right)
        method = "sign"
    return EquivalenceTest(mean, margin, p_above, p_below, max(p_above, p_below), *statistics, was.size, method, was, now, numbers)


def _of_outcomes(was: NDArray[np.bool_], now: NDArray[np.bool_], margin: float) -> EquivalenceTest:
    n, gains, losses = int(was.size), int((~was & now).sum()), int((was & ~now).sum())
    # Against +margin, losses play the part of gains.
    above, below = (float(_score(np.array(g), np.array(k), n, margin)) for g, k in ((gains, losses), (losses, gains)))
    p_above, p_below = (_exact_p(n, score, margin) for score in (above, below))
    change = (gains - losses) / n
    return EquivalenceTest(change, margin, p_above, p_below, max(p_above, p_below), above, -below, n, "exact unconditional", was, now)


def _score(gains: NDArray[np.int_], losses: NDArray[np.int_], n: int, margin: float) -> NDArray[np.float64]:
    """Tango's score statistic against a change of -margin; the more gains, and the fewer losses, the larger."""
    # The share of losses that is likeliest if the change is -margin solves 2n q^2 + b q + c = 0.
    b = -(gains + losses) - (2 * n - gains + losses) * margin
    c = losses * margin * (1 + margin)
    share = (np.sqrt(np.maximum(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
    variance = n * (2 * share - margin * (1 + margin))
    return np.asarray((gains - losses + n * margin) / np.sqrt(variance), dtype=np.float64)


def _exact_p(n: int, score: float, margin: float) -> float:
    """Largest chance, if the change is -margin or less, of a score at least as large.

    The score rises with gains and falls with losses, so for each number of losses the tables in question are those with
    enough gains, and the chance is largest where the change is exactly -margin (Barnard's convexity).
    """
    losses = np.arange(n + 1)
    needed = _gains_needed(n, losses, score, margin)
    free = (1 - margin) / 2  # the most that the share of gains can be
    if n > ALL_TABLES:
        return _refined(lambda gain: np.array([_chance_near(n, one, margin, needed) for one in np.atleast_1d(gain)]), free)

    def chance(gain: NDArray[np.float64]) -> NDArray[np.float64]:
        gain = np.atleast_1d(gain)[:, None]
        loss = gain + margin
        rest = np.clip(gain / np.maximum(1 - loss, np.finfo(np.float64).tiny), 0.0, 1.0)
        return np.asarray((stats.binom.pmf(losses, n, loss) * stats.binom.sf(needed - 1, n - losses, rest)).sum(axis=1))

    # A few values at a time, so that memory grows with n alone.
    parts = np.array_split(NUISANCE_GRID, min(1 + n // 1000, NUISANCE_GRID.size))
    return _refined(chance, free, parts)


def _chance_near(n: int, gain: float, margin: float, needed: NDArray[np.int_]) -> float:
    """The chance of `_exact_p` for one share of gains, over numbers of losses that are not absurd; the others count against us as a whole."""
    loss = gain + margin
    middle, wide = n * loss, 10 * math.sqrt(n * loss * (1 - loss)) + 50
    low, high = max(0, math.floor(middle - wide)), min(n, math.ceil(middle + wide))
    losses = np.arange(low, high + 1)
    rest = min(max(gain / max(1 - loss, np.finfo(np.float64).tiny), 0.0), 1.0)
    near = stats.binom.pmf(losses, n, loss) @ stats.binom.sf(needed[losses] - 1, n - losses, rest)
    return float(near + stats.binom.cdf(low - 1, n, loss) + stats.binom.sf(high, n, loss))


def _refined(chance: Callable[..., NDArray[np.float64]], free: float, parts: Sequence[NDArray[np.float64]] = (NUISANCE_GRID,)) -> float:
    """The largest chance over shares of gains up to `free`: tried on a grid, and the best of it refined."""
    tried = np.concatenate([chance(free * part) for part in parts])
    largest = float(tried.max())
    for peak in np.argsort(tried)[-3:]:
        bounds = free * NUISANCE_GRID[[max(peak - 1, 0), min(peak + 1, NUISANCE_GRID.size - 1)]]
        found = minimize_scalar(lambda gain: -float(chance(gain)[0]), bounds=tuple(bounds), method="bounded", options={"xatol": 1e-9})
        largest = max(largest, -float(found.fun))
    return positive_p(largest)


ALL_TABLES = 2000  # problems up to which all numbers of losses are summed over


def _gains_needed(n: int, losses: NDArray[np.int_], score: float, margin: float) -> NDArray[np.int_]:
    """For each number of losses the fewest gains that reach the score; n - losses + 1 where none do. By bisection."""
    noise = RELATIVE_NOISE * math.sqrt(n)
    too_few, enough = np.full(n + 1, -1), n - losses + 1
    for _ in range(int(n + 2).bit_length()):
        middle = (too_few + enough) // 2
        inside = np.maximum(middle, 0)
        reached = (_score(inside, losses, n, margin) >= score - noise) & (middle >= 0)
        open_ = enough - too_few > 1
        enough, too_few = np.where(open_ & reached, middle, enough), np.where(open_ & ~reached, middle, too_few)
    return np.asarray(enough)
