"""Confidence intervals: of proportions, of paired changes, and, by bootstrap over problems or groups, of any statistic."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.stats import binomtest, norm

from steerlab._checks import (
    RELATIVE_NOISE,
    InputError,
    are_outcomes,
    check_pairs,
    check_rng,
    common_scale,
    count,
    finite,
    group_numbers,
    open_share,
    outcomes,
    reals,
    unmasked,
)
from steerlab._html import OneLine
from steerlab.statistics._resampling import ONE_BY_ONE, repeated_rows, resampled_means
from steerlab.statistics.groups import standard_error


@dataclass(frozen=True)
class Interval(OneLine, title="Confidence interval", shown="low high confidence method"):
    """A confidence interval; ``low, high = interval`` works too.

    Attributes:
        low, high: the limits, in the units of what was estimated.
        confidence: the share of such intervals that hold the truth, e.g. 0.95.
        method: how it was computed.
        few: what there is too little of for the method, such as "7 problems"; it then misses the truth more often than it says.
    """

    low: float
    high: float
    confidence: float
    method: str
    few: str = ""

    def __iter__(self) -> Iterator[float]:
        return iter((self.low, self.high))

    def __str__(self) -> str:
        few = f"; approximate: only {self.few}" if self.few else ""
        return f"{_percent(self.confidence)} interval {self.low:.4g} to {self.high:.4g} ({self.method}{few})"

    def warnings(self) -> list[str]:
        """Where the interval is approximate."""
        missed = f"it may miss the truth more often than in {_percent(1 - self.confidence)} of cases"
        return [f"The interval is approximate: with only {self.few} {missed} ({self.method})."] if self.few else []


# In simulations 95% intervals of a mean miss it so often with 5, 10, 20 and 30 units: the BCa bootstrap of skewed values 22%, 14%, 9% and 9%; by
# groups of very unlike sizes 14%, 12%, 11% and 8%.
FEW = 30


def few_of(n: int, what: str, enough: int = FEW) -> str:
    """What there is too little of, as `Interval` says it; nothing where there is enough."""
    return f"{n} {what}" if n < enough else ""


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
    """Clopper and Pearson's exact interval for a proportion; its coverage is at least the stated one.

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


def paired_interval(before: ArrayLike, after: ArrayLike, *, groups: ArrayLike | None = None, confidence: float = 0.95) -> Interval:
    """Interval of a paired change: Newcombe's hybrid score interval (method 10) for outcomes, a cluster-robust t interval by group.

    Args:
        before: right or wrong for each problem without the intervention; booleans, or integers 0 and 1. With groups also real numbers.
        after: the same problems, in the same order, with it.
        groups: one label a problem; problems of one group (a template, a lexical pair) are not independent. None: each is its own.
        confidence: between 0 and 1.

    Returns:
        The interval of the mean of after minus that of before; of outcomes, in proportions, within [-1, 1]. Without groups
        it is approximate, keeps a width when no outcome changed, and may disagree with the exact sign test close to the level; real
        numbers without groups have `paired_t_test`. With groups it is the mean change plus or minus t, with one degree of freedom
        less than groups; where outcomes changed alike in all groups, which tells nothing of their spread, Newcombe's with the
        groups counted as the problems.

    Raises:
        ValueError: unequal lengths, no pairs, values that are not outcomes (with groups: not finite), labels of another length or
            missing, fewer than 2 groups, two Series whose labels are in different orders, or a confidence outside (0, 1).

    Source:
        Newcombe (1998), Statistics in Medicine 17, 2635-2650, method 10 (with its correction of phi); by group Liang and Zeger (1986),
        Biometrika 73, with the factor G / (G - 1) for G groups, as in statsmodels.

    Example:
        >>> print(paired_interval([0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 0]))
        95% interval -0.2716 to 0.7263 (Newcombe paired)
        >>> print(paired_interval([0, 0, 0, 1, 1, 1], [1, 1, 1, 1, 1, 0], groups=list("aabbcc")))
        95% interval -1 to 1 (cluster-robust t; approximate: only 3 groups)
    """
    check_pairs(before, after)
    if groups is not None and not are_outcomes(before, after):
        was, now = reals(before, "before", at_least=2), reals(after, "after", at_least=2)
        return mean_interval(now - was, group_numbers(groups, was.size), RELATIVE_NOISE * common_scale(was, now), confidence)
    right, left = outcomes(before, "before"), outcomes(after, "after")
    cells = {
        "became_right": int((~right & left).sum()),
        "became_wrong": int((right & ~left).sum()),
        "stayed_right": int((right & left).sum()),
        "stayed_wrong": int((~right & ~left).sum()),
    }
    if groups is None:
        return newcombe_interval(**cells, confidence=confidence)
    numbers = group_numbers(groups, right.size)
    change = left.astype(np.float64) - right
    found = mean_interval(change, numbers, RELATIVE_NOISE, confidence)
    if found.low == found.high:
        share = (int(numbers.max()) + 1) / right.size
        found = newcombe_interval(**{cell: int(number * share + 0.5) for cell, number in cells.items()}, confidence=confidence)
        low, high, name = min(found.low, float(change.mean())), max(found.high, float(change.mean())), "Newcombe paired, groups as problems"
        return Interval(low, high, found.confidence, name)
    return Interval(max(found.low, -1.0), min(found.high, 1.0), found.confidence, found.method, found.few)


def mean_interval(values: NDArray[np.float64], numbers: NDArray[np.intp] | None, noise: float, confidence: float) -> Interval:
    """Two-sided t interval of the mean of values, by group where each one's group is given."""
    mean, error = float(values.mean()), standard_error(values, numbers, noise)
    if numbers is None:
        return t_interval(mean, error, values.size - 1, confidence)
    return clustered_interval(mean, error, int(numbers.max()), confidence)


def clustered_interval(mean: float, error: float, df: int, confidence: float) -> Interval:
    """Two-sided t interval of a mean by df + 1 groups, which is approximate where they are few and of unlike sizes."""
    return replace(t_interval(mean, error, df, confidence, "cluster-robust t"), few=few_of(df + 1, "groups"))


def t_interval(estimate: float, error: float, df: float, confidence: float, method: str = "t") -> Interval:
    """Two-sided t interval of an estimate; zero width where its error is 0."""
    half = float(stats.t.isf((1 - open_share(confidence, "confidence")) / 2, df)) * error
    return Interval(estimate - half, estimate + half, float(confidence), method if error else f"{method}, no spread")


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


JACKKNIFED = 1000  # units that are left out one by one; of more, so many blocks
Method = Literal["BCa", "percentile"]
Statistic = Callable[[NDArray[Any]], float]


@dataclass(frozen=True, eq=False)
class Bootstrap(OneLine, title="Bootstrap", shown="estimate standard_error interval n_units draws clustered"):
    """A statistic with its bootstrap distribution.

    Attributes:
        values: the sample, one row a problem.
        estimate: the statistic of the sample.
        draws: the statistic of each resample.
        left_out: the statistic without each unit in turn (jackknife), for BCa; without each of 1,000 blocks of them where there are more
            and it is not the mean.
        n: problems.
        n_units: what is drawn: problems, or groups of them.
        clustered: which of both.
    """

    values: NDArray[Any]
    estimate: float
    draws: NDArray[np.float64]
    left_out: NDArray[np.float64]
    n: int
    n_units: int
    clustered: bool

    @property
    def standard_error(self) -> float:
        """Standard deviation of the draws."""
        return float(self.draws.std(ddof=1))

    def interval(self, confidence: float = 0.95, *, method: Method = "BCa") -> Interval:
        """The interval of the statistic.

        Args:
            confidence: between 0 and 1.
            method: "BCa" (bias-corrected and accelerated) or "percentile".

        Raises:
            ValueError: a confidence outside (0, 1), or an unknown method.
        """
        tail = (1 - open_share(confidence, "confidence")) / 2
        if method not in get_args(Method):
            raise InputError(f"method={method!r}; use one of {', '.join(get_args(Method))}")
        name, few = f"{'clustered ' if self.clustered else ''}bootstrap, {method}", few_of(self.n_units, self._unit)
        if np.ptp(self.draws) <= RELATIVE_NOISE * max(1e-300, float(np.abs(self.draws).max())):
            return Interval(self.estimate, self.estimate, float(confidence), f"{name}, no spread", few)
        shares = (tail, 1 - tail) if method == "percentile" else self._accelerated(tail)
        low, high = np.quantile(self.draws, shares)
        return Interval(float(low), float(high), float(confidence), name, few)

    def _accelerated(self, tail: float) -> tuple[float, float]:
        noise = RELATIVE_NOISE * float(np.abs(self.draws).max())
        below = (self.draws < self.estimate - noise).mean() + (np.abs(self.draws - self.estimate) <= noise).mean() / 2
        edge = 1 / (len(self.draws) + 1)
        bias = norm.ppf(min(max(float(below), edge), 1 - edge))
        spread = self.left_out.mean() - self.left_out
        cubes, squares = float((spread**3).sum()), float((spread**2).sum())
        acceleration = cubes / (6 * squares**1.5) if squares > noise**2 else 0.0

        def moved(share: float) -> float:
            z = bias + norm.ppf(share)
            slope = 1 - acceleration * z
            return float(norm.cdf(bias + z / slope)) if slope > 0 else float(z > 0)

        return moved(tail), moved(1 - tail)

    def __str__(self) -> str:
        return f"{self.estimate:.4g}, {self.interval()}, {len(self.draws)} resamples of {self.n_units} {self._unit}"

    def __repr__(self) -> str:
        return f"Bootstrap({self})"

    def _facts(self) -> dict[str, Any]:
        return super()._facts() | {"percentile_interval": self.interval(method="percentile")}

    @property
    def _unit(self) -> str:
        return "groups" if self.clustered else "problems"


def bootstrap(
    values: ArrayLike,
    statistic: Statistic = np.mean,
    *,
    rng: np.random.Generator,
    groups: ArrayLike | None = None,
    n_resamples: int = 9999,
) -> Bootstrap:
    """Bootstrap distribution of a statistic, over problems or over groups of problems that belong together.

    Problems that share a template or a question are not independent. With `groups` whole groups are drawn, so the interval is
    as wide as the number of groups, not of problems, warrants.

    Args:
        values: one row a problem; paired columns (before, after) stay together.
        statistic: takes rows, gives one finite number; default the mean.
        rng: draws the resamples.
        groups: one label a problem: its template, its question.
        n_resamples: how many; the statistic is computed so often. The mean (the default) is not: it takes the same time for a million
            problems as for 10,000, above which problems are drawn in bins of like ones.

    Returns:
        Estimate and draws; `interval` gives the BCa or the percentile interval.

    Raises:
        ValueError: fewer than 2 problems or groups, labels of another length or missing, values that are not finite, a statistic
            that is not one finite number, or n_resamples < 2.
        TypeError: rng is no generator.

    Source:
        Efron (1987), J. Am. Stat. Assoc. 82, 171-185 (BCa); Davison and Hinkley (1997), Bootstrap Methods, section 3.8 (clusters).

    Example:
        >>> moved = [0, 0, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1]
        >>> found = bootstrap(moved, rng=np.random.default_rng(0), groups=list("aaabbbcccddd"))
        >>> print(found.interval(method="percentile"))
        95% interval 0.4167 to 0.9167 (clustered bootstrap, percentile; approximate: only 4 groups)
    """
    check_rng(rng)
    n_resamples = count(n_resamples, "n_resamples", at_least=2)
    rows = _rows(values)
    numbers = group_numbers(groups, len(rows))
    order, sizes = np.argsort(numbers, kind="stable"), np.bincount(numbers)
    starts, units = np.cumsum(sizes) - sizes, len(sizes)
    estimate = _number(statistic, rows)
    if statistic is np.mean and rows.ndim == 1:
        sums: NDArray[np.float64] = np.bincount(numbers, weights=rows).astype(np.float64)
        means = resampled_means(np.column_stack([sums, sizes]) if groups is not None else sums[:, None], n_resamples, rng)
        draws, left_out = means[:, 0] / (means[:, 1] if groups is not None else 1), (sums.sum() - sums) / (len(rows) - sizes)
        return Bootstrap(rows, estimate, draws, left_out, len(rows), units, groups is not None)

    def one(drawn: NDArray[np.int_]) -> float:
        if groups is None:
            return _number(statistic, np.take(rows, drawn, axis=0))
        each = sizes[drawn]
        within = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
        return _number(statistic, rows[order[np.repeat(starts[drawn], each) + within]])

    found = repeated_rows(rows.reshape(len(rows), -1)) if groups is None and units > ONE_BY_ONE else None
    if found is None:
        draws = np.array([one(rng.integers(0, units, units)) for _ in range(n_resamples)])
    else:  # how often each of a few different rows is drawn is multinomial
        kinds = found[0].reshape(-1, *rows.shape[1:])
        drawn = (rng.multinomial(units, found[1] / units) for _ in range(n_resamples))
        draws = np.array([_number(statistic, np.repeat(kinds, times, axis=0)) for times in drawn])
    blocks = np.arange(units)[:, None] if units <= JACKKNIFED else np.array_split(rng.permutation(units), JACKKNIFED)
    left_out = np.array([one(np.delete(np.arange(units), block)) for block in blocks])
    return Bootstrap(rows, estimate, draws, left_out, len(rows), units, groups is not None)


def _rows(values: ArrayLike) -> NDArray[Any]:
    rows = unmasked(values, "values")
    if rows.ndim < 1 or len(rows) < 2:
        raise InputError(f"values: {rows.size} given; at least 2 problems needed")
    if rows.dtype.kind not in "biuf":
        raise InputError(f"values: dtype {rows.dtype}; give real numbers or booleans, one row a problem")
    bad = np.flatnonzero(~np.isfinite(rows).reshape(len(rows), -1).all(1))
    if bad.size:
        raise InputError(f"values[{bad[0]}]={rows[bad[0]]}: not finite; drop or repair it before testing")
    return rows


def _number(statistic: Statistic, rows: NDArray[Any]) -> float:
    return finite(statistic(rows), "statistic of a resample")
