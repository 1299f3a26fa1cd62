"""The order in a dose-response: the nearest monotone curve, and the rank correlation with alpha."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import isotonic_regression

from steerlab._checks import InputError, check_rng, count, open_share
from steerlab._html import html_table
from steerlab.statistics._doses import Doses, bootstrap_means, read_doses
from steerlab.statistics.intervals import Interval


@dataclass(frozen=True, eq=False)
class IsotonicFit:
    """The monotone curve nearest to a dose-response.

    Attributes:
        alphas: rising.
        means: the response at each alpha.
        fitted: the curve.
        increasing: its direction.
        draws: the curves [draw, alpha] of problems drawn with replacement; None for means.
    """

    alphas: NDArray[np.float64]
    means: NDArray[np.float64]
    fitted: NDArray[np.float64]
    increasing: bool
    draws: NDArray[np.float64] | None

    @property
    def largest_gap(self) -> float:
        """Largest distance of a mean from the curve; 0 if the means are monotonic."""
        return float(np.abs(self.means - self.fitted).max())

    def interval(self, confidence: float = 0.95) -> pd.DataFrame:
        """One line an alpha: alpha, mean, fitted, low, high: percentiles of the draws, each alpha for itself.

        Raises:
            ValueError: a confidence outside (0, 1), or a fit to means, which do not tell how much problems vary.
        """
        tail = (1 - open_share(confidence, "confidence")) / 2
        if self.draws is None:
            raise InputError("fitted to means: an interval needs values [problem, alpha]")
        low, high = np.quantile(self.draws, [tail, 1 - tail], axis=0)
        limits = {"low": np.minimum(low, self.fitted), "high": np.maximum(high, self.fitted)}
        return pd.DataFrame({"alpha": self.alphas, "mean": self.means, "fitted": self.fitted, **limits})

    def __str__(self) -> str:
        course = "increasing" if self.increasing else "decreasing"
        return f"{course} from {self.fitted[0]:.4g} to {self.fitted[-1]:.4g} over {self.alphas.size} alphas, largest gap {self.largest_gap:.4g}"

    def _repr_html_(self) -> str:
        def row(position: int) -> str:
            text = f"{self.fitted[position]:.4g}"
            return text if limits is None else f"{text} ({limits['low'][position]:.4g} to {limits['high'][position]:.4g})"

        limits = None if self.draws is None else self.interval()
        rows = {f"alpha = {alpha:g}": row(position) for position, alpha in enumerate(self.alphas)}
        return html_table("Isotonic fit, " + ("increasing" if self.increasing else "decreasing"), rows)


@dataclass(frozen=True, eq=False)
class SpearmanCorrelation:
    """Rank correlation of alpha and the mean response.

    Attributes:
        rho: from -1 to 1; 0 if all means are equal.
        n_doses: how many alphas there were.
        n_problems: None for means.
        draws: rho of problems drawn with replacement; None for means.
    """

    rho: float
    n_doses: int
    n_problems: int | None
    draws: NDArray[np.float64] | None

    def interval(self, confidence: float = 0.95) -> Interval:
        """As far to both sides of rho as the farther percentile of the draws; for means Fisher's z with Bonett and Wright's error.

        Drawing problems again adds noise, which pulls rho towards 0, so that the percentiles themselves would mostly lie
        below a rho of 1. Where true means lie closer together than their errors, no sample tells their order, and the
        interval may miss a true rho of 1 often. For means the interval takes alphas as a random sample of pairs, which
        they are not, and has no width at rho = 1 or -1.

        Raises:
            ValueError: a confidence outside (0, 1), or fewer than 4 means.
        """
        tail = (1 - open_share(confidence, "confidence")) / 2
        if self.draws is not None:
            low, high = (float(limit) for limit in np.quantile(self.draws, [tail, 1 - tail]))
            half = max(self.rho - low, high - self.rho, 0.0)
            return Interval(max(self.rho - half, -1.0), min(self.rho + half, 1.0), float(confidence), "bootstrap over problems")
        if self.n_doses < 4:
            raise InputError(f"{self.n_doses} means: an interval of Spearman's rho needs at least 4, or values [problem, alpha]")
        if abs(self.rho) >= 1:
            return Interval(self.rho, self.rho, float(confidence), "Bonett-Wright, no spread")
        half = float(stats.norm.isf(tail)) * math.sqrt((1 + self.rho**2 / 2) / (self.n_doses - 3))
        z = math.atanh(self.rho)
        return Interval(math.tanh(z - half), math.tanh(z + half), float(confidence), "Bonett-Wright")

    def __str__(self) -> str:
        limits = f", {self.interval()}" if self.draws is not None or self.n_doses > 3 else ""
        return f"Spearman's rho = {self.rho:.3f} over {self.n_doses} alphas{limits}"

    def _repr_html_(self) -> str:
        rows: dict[str, object] = {"rho": f"{self.rho:.3f}", "alphas": self.n_doses}
        if self.draws is not None or self.n_doses > 3:
            rows["interval"] = self.interval()
        return html_table("Spearman's rank correlation", rows)


def isotonic_fit(
    alphas: ArrayLike,
    values: ArrayLike | pd.DataFrame,
    *,
    rng: np.random.Generator,
    increasing: bool | None = None,
    n_resamples: int = 9999,
) -> IsotonicFit:
    """Least-squares monotone fit to the means, with a bootstrap over problems.

    Args:
        alphas: one per dose, in any order, at least 3.
        values: [problem, alpha], outcomes or real numbers, with one column per alpha; or one mean per alpha.
        rng: draws the problems.
        increasing: the direction; None takes the one that fits the means better (rising if both fit alike) for the
            fit and for all draws.
        n_resamples: number of bootstrap draws.

    Returns:
        The fit. Percentile intervals are a guide only where neighbouring means are pooled: the bootstrap is not
        consistent where the true curve is flat.

    Raises:
        ValueError: bad input, as in `linear_fit`.
        TypeError: rng is not a generator.

    Source:
        Barlow, Bartholomew, Bremner and Brunk (1972), Statistical Inference under Order Restrictions; fitted by SciPy.

    Example:
        >>> isotonic_fit([0, 1, 2, 3], [0.1, 0.4, 0.2, 0.5], rng=np.random.default_rng(0)).fitted.round(3).tolist()
        [0.1, 0.3, 0.3, 0.5]
    """
    check_rng(rng)
    doses = read_doses(alphas, values)
    return curve_of(doses, bootstrap_means(doses, count(n_resamples, "n_resamples", at_least=1), rng), increasing)


def curve_of(doses: Doses, resampled: NDArray[np.float64] | None, increasing: bool | None) -> IsotonicFit:
    """`isotonic_fit` for doses that were read and bootstrapped."""
    means = doses.means
    if increasing is None:
        rising, falling = (float(((_monotone(means, up) - means) ** 2).sum()) for up in (True, False))
        increasing = rising <= falling + doses.noise**2
    draws = None if resampled is None else np.stack([_monotone(row, increasing) for row in resampled])
    return IsotonicFit(doses.alphas, means, _monotone(means, increasing), increasing, draws)


def spearman(
    alphas: ArrayLike, values: ArrayLike | pd.DataFrame, *, rng: np.random.Generator, n_resamples: int = 9999
) -> SpearmanCorrelation:
    """Spearman's rank correlation of alpha and the mean response, with an interval on demand.

    Args:
        alphas: one per dose, in any order, at least 3.
        values: [problem, alpha], outcomes or real numbers, with one column per alpha; or one mean per alpha.
        rng: draws the problems of the bootstrap.
        n_resamples: number of bootstrap draws.

    Raises:
        ValueError: bad input, as in `linear_fit`.
        TypeError: rng is not a generator.

    Source:
        Spearman (1904), Am. J. Psychol. 15; Bonett and Wright (2000), Psychometrika 65, for the interval from means.

    Example:
        >>> print(spearman([0, 1, 2, 3, 4], [0.1, 0.3, 0.2, 0.6, 0.7], rng=np.random.default_rng(0)))
        Spearman's rho = 0.900 over 5 alphas, 95% interval -0.1689 to 0.9961 (Bonett-Wright)
    """
    check_rng(rng)
    doses = read_doses(alphas, values)
    return rho_of(doses, bootstrap_means(doses, count(n_resamples, "n_resamples", at_least=1), rng))


def rho_of(doses: Doses, resampled: NDArray[np.float64] | None) -> SpearmanCorrelation:
    """`spearman` for doses that were read and bootstrapped."""
    draws = None if resampled is None else _rhos(doses, resampled)
    return SpearmanCorrelation(float(_rhos(doses, doses.means[None, :])[0]), doses.alphas.size, doses.n_problems, draws)


def _monotone(means: NDArray[np.float64], increasing: bool) -> NDArray[np.float64]:
    return np.asarray(isotonic_regression(means, increasing=increasing).x, dtype=np.float64)


def _rhos(doses: Doses, means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spearman's rho of alpha with each row; 0 for a row of equal means, which has no order."""
    ranks = doses.ranks(means) - (doses.alphas.size + 1) / 2
    positions = np.arange(doses.alphas.size) - (doses.alphas.size - 1) / 2
    lengths = np.sqrt((ranks**2).sum(axis=1) * (positions @ positions))
    return np.clip(np.divide(ranks @ positions, lengths, out=np.zeros(len(ranks)), where=lengths > 0), -1.0, 1.0)
