"""Intervals of anything that can be computed from problems, by drawing problems (or whole groups of them) again."""

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

from steerlab._checks import RELATIVE_NOISE, InputError, check_rng, count, finite, open_share, unmasked
from steerlab._html import html_table
from steerlab.statistics.intervals import Interval

Method = Literal["BCa", "percentile"]
Statistic = Callable[[NDArray[Any]], float]


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """A statistic, and what it becomes when the sample is drawn again.

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

    def _repr_html_(self) -> str:
        rows = {
            "estimate": f"{self.estimate:.4g}",
            "standard error": f"{self.standard_error:.4g}",
            "BCa interval": self.interval(),
            "percentile interval": self.interval(method="percentile"),
            "drawn": f"{self.n_units} {escape(self._unit)}, {len(self.draws)} times",
        }
        return html_table("Bootstrap", rows)

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
    """Bootstrap a statistic of problems, or of clusters of problems that belong together.

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
