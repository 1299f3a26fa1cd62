"""Many effects as one: a random-effects summary of effects with standard errors, and each of them partially pooled."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import brentq

from steerlab._checks import InputError, open_share, reals
from steerlab._html import Plotted
from steerlab.statistics.intervals import Interval, few_of, t_interval

ENOUGH = 5  # effects below which the spread between them is hardly known


@dataclass(frozen=True, eq=False)
class PooledEffect(
    Plotted,
    title="Pooled effect",
    shown="mean standard_error interval tau prediction n heterogeneity_p",
    figure="forest",
    drawn="effects",
):
    """Effects that differ from each other by more than their errors say, as draws from one distribution.

    Attributes:
        mean: of the distribution that the effects are draws of.
        standard_error: of the mean (Hartung and Knapp).
        tau: standard deviation between true effects (Paule and Mandel).
        heterogeneity_p: p-value of Cochran's Q: are all true effects the same?
        estimates, errors: the effects and their standard errors, as given.
        labels: their names.
        confidence: of all intervals.
    """

    mean: float
    standard_error: float
    tau: float
    heterogeneity_p: float
    estimates: tuple[float, ...]
    errors: tuple[float, ...]
    labels: tuple[str, ...]
    confidence: float

    @property
    def n(self) -> int:
        """How many effects."""
        return len(self.estimates)

    @property
    def interval(self) -> Interval:
        """Of the mean: Student's, with n - 1 degrees of freedom."""
        found = t_interval(self.mean, self.standard_error, self.n - 1, self.confidence, "Hartung-Knapp")
        return Interval(found.low, found.high, found.confidence, found.method, few_of(self.n, "effects", ENOUGH))

    @property
    def prediction(self) -> Interval:
        """Where the true effect of a further case would lie; missing (NaN) for two, which do not tell a spread."""
        if self.n < 3:
            return Interval(math.nan, math.nan, self.confidence, "prediction")
        spread = math.hypot(self.tau, self.standard_error)
        found = t_interval(self.mean, spread, self.n - 2, self.confidence, "prediction")
        return Interval(found.low, found.high, found.confidence, found.method, few_of(self.n, "effects", ENOUGH))

    @property
    def frame(self) -> pd.DataFrame:
        """One line an effect: label, effect, standard_error, weight (of the mean), pooled (drawn towards the mean by the share of its spread that is
        error) with low and high.
        """
        y, s = np.array(self.estimates), np.array(self.errors)
        weights = 1 / (self.tau**2 + s**2)
        kept = self.tau**2 * weights
        pooled = kept * y + (1 - kept) * self.mean
        half = stats.norm.isf((1 - self.confidence) / 2) * np.sqrt(kept * s**2 + (1 - kept) ** 2 * self.standard_error**2)
        columns = {"label": list(self.labels), "effect": y, "standard_error": s, "weight": weights / weights.sum()}
        return pd.DataFrame(columns | {"pooled": pooled, "low": pooled - half, "high": pooled + half})

    def effects(self) -> pd.DataFrame:
        """What `steerlab.plots.forest` draws: each partially pooled effect, then the mean, and where a further one would lie."""
        lines = self.frame.rename(columns={"label": "name", "pooled": "change"})[["name", "change", "low", "high"]]
        more = [("mean", self.mean, *self.interval)]
        if self.n > 2:
            more.append(("a further one", self.mean, *self.prediction))
        return pd.concat([lines, pd.DataFrame(more, columns=lines.columns)], ignore_index=True)

    def warnings(self) -> list[str]:
        """Where the interval of the mean is approximate."""
        return self.interval.warnings()

    def __str__(self) -> str:
        low, high = self.interval
        said = f"pooled over {self.n}: {self.mean:+.4g} ({low:+.4g} to {high:+.4g}), sd between them {self.tau:.3g}"
        return said + ("" if self.n < 3 else f", a further one {self.prediction.low:+.4g} to {self.prediction.high:+.4g}")

    def __repr__(self) -> str:
        return f"PooledEffect({self})"


def pooled_effect(
    effects: ArrayLike, standard_errors: ArrayLike, labels: Sequence[str] | None = None, *, confidence: float = 0.95
) -> PooledEffect:
    """The mean of effects that may truly differ, how much they differ, and each of them drawn towards the mean.

    It asks what holds on average and how far a further case may be from that, where a count of positive effects asks neither, and throws the
    sizes away. The effects are taken as independent: repetitions that share problems, or cells that share a model, are not, and their interval is
    then about these very problems, or this model.

    Args:
        effects: one a case (a model, a task, a seed), all in the same unit.
        standard_errors: theirs, above 0.
        labels: their names; default their numbers.
        confidence: of all intervals.

    Returns:
        The summary. Its interval is that of Hartung and Knapp, never narrower than the one that would hold if all true effects were the same.

    Raises:
        ValueError: fewer than two effects, other numbers of errors or labels, errors that are not above 0, values that are not finite, or a
            confidence outside (0, 1).

    Source:
        Paule and Mandel (1982), J. Res. Natl. Bur. Stand. 87, 377-385; Hartung and Knapp (2001), Statistics in Medicine 20, 3875-3889, with Knapp and
        Hartung's (2003) lower bound; the prediction interval of Higgins, Thompson and Spiegelhalter (2009), J. R. Stat. Soc. A 172, 137-159.

    Example:
        >>> found = pooled_effect([0.10, 0.02, -0.05, 0.08], [0.02, 0.03, 0.02, 0.04], labels=["a", "b", "c", "d"])
        >>> print(found)
        pooled over 4: +0.03552 (-0.07464 to +0.1457), sd between them 0.0634, a further one -0.2751 to +0.3462
        >>> found.frame["pooled"].round(3).tolist()
        [0.094, 0.023, -0.042, 0.067]
    """
    y, s = reals(effects, "effects", at_least=2), reals(standard_errors, "standard_errors", at_least=2)
    open_share(confidence, "confidence")
    names = tuple(str(k) for k in range(y.size)) if labels is None else tuple(map(str, labels))
    if not y.size == s.size == len(names):
        raise InputError(f"{y.size} effects, {s.size} standard errors and {len(names)} labels; give as many of each")
    if not (s > 0).all():
        raise InputError(f"standard_errors: {s.min():g}; each is above 0 (an effect without an error cannot be weighed)")
    size = float(s.max())  # a scale on which nothing over- or underflows
    y, s = y / size, s / size

    def excess(variance: float) -> float:
        """Cochran's Q with this variance between effects, beyond its expectation."""
        return _q(y, s, variance) - (y.size - 1)

    fixed = excess(0.0)
    # At a variance of the sum of squares each term of Q is below 1 / n of it, so that the root lies below.
    between = 0.0 if fixed <= 0 else brentq(excess, 0.0, float(np.square(y - y.mean()).sum()) + 1, xtol=1e-14, rtol=1e-14)
    weights = 1 / (between + s**2)
    mean = float(weights @ y / weights.sum())
    scale = max(1.0, _q(y, s, between) / (y.size - 1))
    return PooledEffect(
        mean * size,
        math.sqrt(scale / weights.sum()) * size,
        math.sqrt(between) * size,
        float(stats.chi2.sf(fixed + y.size - 1, y.size - 1)),
        tuple((y * size).tolist()),
        tuple((s * size).tolist()),
        names,
        float(confidence),
    )


def _q(y: NDArray[np.float64], s: NDArray[np.float64], variance: float) -> float:
    weights = 1 / (variance + s**2)
    return float(weights @ np.square(y - weights @ y / weights.sum()))
