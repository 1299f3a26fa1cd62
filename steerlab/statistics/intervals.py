"""Confidence intervals: of proportions, of paired changes, and, by bootstrap over problems or groups, of any statistic."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binomtest, norm

from steerlab._checks import RELATIVE_NOISE, InputError, check_pairs, check_rng, count, finite, open_share, outcomes, unmasked
from steerlab._html import OneLine


@dataclass(frozen=True)
class Interval(OneLine, title="Confidence interval", shown="low high confidence method"):
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


Method = Literal["BCa", "percentile"]
Statistic = Callable[[NDArray[Any]], float]


@dataclass(frozen=True, eq=False)
class Bootstrap(OneLine, title="Bootstrap", shown="estimate standard_error interval n_units draws clustered"):
    """A statistic with its bootstrap distribution.

    Attributes:
        values: the sample, one row a problem.
        estimate: the statistic of the sample.
        draws: the statistic of each resample.
        left_out: the statistic without each unit in turn (jackknife), for BCa.
        n: problems.
        n_units: what is drawn: problems, or clusters of them.
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
        name = f"{'clustered ' if self.clustered else ''}bootstrap, {method}"
        if np.ptp(self.draws) <= RELATIVE_NOISE * max(1e-300, float(np.abs(self.draws).max())):
            return Interval(self.estimate, self.estimate, float(confidence), f"{name}, no spread")
        shares = (tail, 1 - tail) if method == "percentile" else self._accelerated(tail)
        low, high = np.quantile(self.draws, shares)
        return Interval(float(low), float(high), float(confidence), name)

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
        return "clusters" if self.clustered else "problems"


def bootstrap(
    values: ArrayLike,
    statistic: Statistic = np.mean,
    *,
    rng: np.random.Generator,
    clusters: ArrayLike | None = None,
    n_resamples: int = 9999,
) -> Bootstrap:
    """Bootstrap distribution of a statistic, over problems or over clusters of problems that belong together.

    Problems that share a template or a question are not independent. With `clusters` whole clusters are drawn, so the interval is
    as wide as the number of clusters, not of problems, warrants.

    Args:
        values: one row a problem; paired columns (before, after) stay together.
        statistic: takes rows, gives one finite number; default the mean.
        rng: draws the resamples.
        clusters: one label a problem: its template, its question.
        n_resamples: how many.

    Returns:
        Estimate and draws; `interval` gives the BCa or the percentile interval.

    Raises:
        ValueError: fewer than 2 problems or clusters, labels of another length or missing, values that are not finite, a statistic
            that is not one finite number, or n_resamples < 2.
        TypeError: rng is no generator.

    Source:
        Efron (1987), J. Am. Stat. Assoc. 82, 171-185 (BCa); Davison and Hinkley (1997), Bootstrap Methods, section 3.8 (clusters).

    Example:
        >>> moved = [0, 0, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1]
        >>> found = bootstrap(moved, rng=np.random.default_rng(0), clusters=list("aaabbbcccddd"))
        >>> print(found.interval(method="percentile"))
        95% interval 0.4167 to 0.9167 (clustered bootstrap, percentile)
    """
    check_rng(rng)
    n_resamples = count(n_resamples, "n_resamples", at_least=2)
    rows = _rows(values)
    members = _members(rows, clusters)
    units = len(members)

    def one(drawn: NDArray[np.int_]) -> float:
        return _number(statistic, rows[drawn] if clusters is None else rows[np.concatenate([members[unit] for unit in drawn])])

    estimate = _number(statistic, rows)
    draws = np.array([one(rng.integers(0, units, units)) for _ in range(n_resamples)])
    left_out = np.array([one(np.delete(np.arange(units), unit)) for unit in range(units)])
    return Bootstrap(rows, estimate, draws, left_out, len(rows), units, clusters is not None)


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


def _members(rows: NDArray[Any], clusters: ArrayLike | None) -> list[NDArray[np.int_]]:
    """The problems of each cluster, clusters in the order in which they first appear."""
    if clusters is None:
        return [np.array([i]) for i in range(len(rows))]
    labels = list(np.asarray(clusters, dtype=object).ravel())
    if len(labels) != len(rows):
        raise InputError(f"clusters: {len(labels)} labels for {len(rows)} problems; give one a problem")
    groups: dict[Any, list[int]] = {}
    for i, label in enumerate(labels):
        if pd.api.types.is_scalar(label) and pd.isna(label):
            raise InputError(f"clusters[{i}] is missing; give every problem a label")
        groups.setdefault(label, []).append(i)
    if len(groups) < 2:
        raise InputError(f"clusters: all {len(labels)} problems are in cluster {labels[0]!r}; at least 2 clusters needed")
    return [np.array(group) for group in groups.values()]


def _number(statistic: Statistic, rows: NDArray[Any]) -> float:
    return finite(statistic(rows), "statistic of a resample")
