"""Descriptions of a dose-response: its line, its nearest monotone curve, rank correlation, asymmetry, bootstrap."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import isotonic_regression
from scipy.stats import rankdata

from steerlab._checks import RELATIVE_NOISE, InputError, check_rng, common_scale, count, open_share, problem_table, reals
from steerlab._html import OneLine, Result
from steerlab.statistics._resampling import resampled_means
from steerlab.statistics.groups import standard_error
from steerlab.statistics.intervals import Interval, few_of, t_interval

MOST_DOSES = 32  # for which all averages of neighbouring means are held at once


@dataclass(frozen=True, eq=False)
class Doses:
    """Responses in order of rising alpha.

    Attributes:
        alphas: rising.
        table: [problem, alpha]; one row if only means were given.
        by_problem: whether rows are problems.
        noise: differences up to this size are rounding.
    """

    alphas: NDArray[np.float64]
    table: NDArray[np.float64]
    by_problem: bool
    noise: float

    @property
    def means(self) -> NDArray[np.float64]:
        """One mean per alpha."""
        return np.asarray(self.table.mean(axis=0), dtype=np.float64)

    @property
    def n_problems(self) -> int | None:
        """How many problems there are; None for means."""
        return self.table.shape[0] if self.by_problem else None

    def ranks(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ranks within each row, from 1, ties averaged; rounding does not break a tie."""
        return np.asarray(rankdata(np.round(values / self.noise) if self.noise else values, axis=1), dtype=np.float64)


def read_doses(alphas: ArrayLike, values: ArrayLike | pd.DataFrame) -> Doses:
    """Check alphas against values, [problem, alpha] or one mean per alpha, and sort both by alpha.

    Raises:
        ValueError: fewer than 3 alphas or 2 problems, alphas that repeat, another number of columns than of alphas,
            columns called after the alphas but in another order, NaN or infinite values.
    """
    doses = reals(alphas, "alphas", at_least=3)
    order = np.argsort(doses, kind="stable")
    repeated = doses[order][1:][np.diff(doses[order]) == 0]
    if repeated.size:
        raise InputError(f"alphas has {repeated[0]:g} twice; give one column per alpha")
    by_problem = np.ndim(values) == 2
    if by_problem:
        table, labels = problem_table(values, "values", columns="alpha", at_least=2)
        _check_labels(doses, labels if isinstance(values, pd.DataFrame) else pd.Index(doses))
    else:
        table = reals(values, "values", at_least=1)[None, :]
    if table.shape[1] != doses.size:
        raise InputError(f"alphas and values have {doses.size} and {table.shape[1]} doses; give one column, or one mean, per alpha")
    return Doses(doses[order], table[:, order], by_problem, RELATIVE_NOISE * common_scale(table))


def bootstrap_means(doses: Doses, n_resamples: int, rng: np.random.Generator) -> NDArray[np.float64] | None:
    """Means [draw, alpha] of problems drawn with replacement, whole rows at a time; None if only means are known."""
    if not doses.by_problem:
        return None
    return resampled_means(doses.table, n_resamples, rng)


def _check_labels(doses: NDArray[np.float64], labels: pd.Index) -> None:
    # Columns called after other things than the alphas say nothing about their order.
    named = labels.to_numpy()
    if named.dtype.kind in "iuf" and named.size == doses.size and set(named) == set(doses) and (named != doses).any():
        raise InputError("values has the alphas as columns, in a different order; use values[alphas]")


@dataclass(frozen=True, eq=False)
class IsotonicFit(Result, title="Isotonic fit"):
    """The monotone curve nearest to a dose-response.

    Attributes:
        alphas: rising.
        means: the response at each alpha.
        fitted: the curve.
        increasing: its direction.
        draws: the curves [draw, alpha] of problems drawn with replacement; None for means.
        n_problems: None for means.
    """

    alphas: NDArray[np.float64]
    means: NDArray[np.float64]
    fitted: NDArray[np.float64]
    increasing: bool
    draws: NDArray[np.float64] | None
    n_problems: int | None = None

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

    def warnings(self) -> list[str]:
        """Where the limits are approximate."""
        few = few_of(self.n_problems, "problems") if self.n_problems else ""
        return (
            [f"The limits of the isotonic fit are approximate: with only {few} they miss the truth more often than they say."]
            if few
            else []
        )

    @property
    def frame(self) -> pd.DataFrame:
        """One line an alpha: alpha, mean, fitted, and where it was resampled low and high."""
        table = pd.DataFrame({"alpha": self.alphas, "mean": self.means, "fitted": self.fitted})
        return table if self.draws is None else table.assign(**{end: self.interval()[end] for end in ("low", "high")})


@dataclass(frozen=True, eq=False)
class SpearmanCorrelation(OneLine, title="Spearman's rank correlation", shown="rho n_doses n_problems"):
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
            few = few_of(self.n_problems, "problems") if self.n_problems else ""
            return Interval(max(self.rho - half, -1.0), min(self.rho + half, 1.0), float(confidence), "bootstrap over problems", few)
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

    def _facts(self) -> dict[str, Any]:
        return super()._facts() | ({"interval": self.interval()} if self.draws is not None or self.n_doses > 3 else {})


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
        n_resamples: number of bootstrap draws; more than 10,000 problems that all differ are drawn in bins of like ones.

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
    draws = None if resampled is None else _all_monotone(resampled, increasing)
    return IsotonicFit(doses.alphas, means, _monotone(means, increasing), increasing, draws, doses.n_problems)


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


def _all_monotone(means: NDArray[np.float64], increasing: bool) -> NDArray[np.float64]:
    """`_monotone` of each row, by the max-min formula of Barlow et al.: the largest, over starts, of the least average up to an end."""
    n_doses = means.shape[1]
    if n_doses > MOST_DOSES:
        return np.stack([_monotone(row, increasing) for row in means])
    sign = 1.0 if increasing else -1.0
    sums = np.concatenate([np.zeros((len(means), 1)), np.cumsum(sign * means, axis=1)], axis=1)
    fitted = np.full(means.shape, -np.inf)
    for start in range(n_doses):
        averages = (sums[:, start + 1 :] - sums[:, [start]]) / np.arange(1, n_doses - start + 1)
        least = np.minimum.accumulate(averages[:, ::-1], axis=1)[:, ::-1]
        fitted[:, start:] = np.maximum(fitted[:, start:], least)
    return sign * fitted


def _rhos(doses: Doses, means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Spearman's rho of alpha with each row; 0 for a row of equal means, which has no order."""
    ranks = doses.ranks(means) - (doses.alphas.size + 1) / 2
    positions = np.arange(doses.alphas.size) - (doses.alphas.size - 1) / 2
    lengths = np.sqrt((ranks**2).sum(axis=1) * (positions @ positions))
    return np.clip(np.divide(ranks @ positions, lengths, out=np.zeros(len(ranks)), where=lengths > 0), -1.0, 1.0)


@dataclass(frozen=True)
class LinearFit(OneLine, title="Linear fit", shown="slope interval intercept intercept_interval n_problems n_doses"):
    """A straight line through a dose-response.

    Attributes:
        slope: change of the response per unit of alpha.
        intercept: fitted response at alpha = 0, in the units of the response.
        slope_error, intercept_error: their standard errors.
        df: degrees of freedom: problems - 1, or alphas - 2 for means.
        n_problems: None for means.
        n_doses: how many alphas there were.
    """

    slope: float
    intercept: float
    slope_error: float
    intercept_error: float
    df: int
    n_problems: int | None
    n_doses: int

    def interval(self, confidence: float = 0.95) -> Interval:
        """Two-sided t interval of the slope; zero width if every problem has the same slope, or means lie on the line.

        Raises:
            ValueError: a confidence outside (0, 1).
        """
        return t_interval(self.slope, self.slope_error, self.df, confidence)

    def intercept_interval(self, confidence: float = 0.95) -> Interval:
        """Two-sided t interval of the intercept.

        Raises:
            ValueError: a confidence outside (0, 1).
        """
        return t_interval(self.intercept, self.intercept_error, self.df, confidence)

    def __str__(self) -> str:
        over = f"{self.n_doses} means" if self.n_problems is None else f"{self.n_problems} problems"
        return f"slope {self.slope:.4g} per unit of alpha, {self.interval()}, intercept {self.intercept:.4g}, {over}"


@dataclass(frozen=True, eq=False)
class Asymmetry(Result, title="Amplification and suppression", shown="mean error n_problems"):
    """Amplification (alpha above 0) against suppression (alpha below 0), over alphas that have both signs.

    Attributes:
        frame: one line a size of alpha: size, amplification (mean change from alpha = 0 to +size), suppression (to
            -size), total (their sum: 0 where one takes what the other gives).
        mean: of the totals, in the units of the response.
        error: its standard error over problems; None for means.
        n_problems: None for means.
    """

    frame: pd.DataFrame
    mean: float
    error: float | None
    n_problems: int | None

    def interval(self, confidence: float = 0.95) -> Interval:
        """Two-sided t interval of the mean total over problems; zero width if every problem has the same.

        Raises:
            ValueError: a confidence outside (0, 1), or means, which do not tell how much problems vary.
        """
        if self.error is None or self.n_problems is None:
            open_share(confidence, "confidence")
            raise InputError("computed from means: an interval needs values [problem, alpha]")
        return t_interval(self.mean, self.error, self.n_problems - 1, confidence)

    def __str__(self) -> str:
        sizes = ", ".join(f"{size:g}" for size in self.frame["size"])
        limits = f", {self.interval()}" if self.error is not None else ""
        return f"amplification plus suppression {self.mean:+.4g} on average over |alpha| = {sizes}{limits}"

    def _facts(self) -> dict[str, Any]:
        return super()._facts() | ({"interval": self.interval()} if self.error is not None else {})


def linear_fit(alphas: ArrayLike, values: ArrayLike | pd.DataFrame) -> LinearFit:
    """Least-squares line; with problems, the mean of the lines of single problems, with intervals over problems.

    All problems share the alphas, so the mean of their lines is the line through the means. Its error comes from how
    slopes differ between problems and holds for outcomes and for responses that go together within a problem. For
    means it is that of ordinary regression, which takes their scatter around the line as independent noise.

    Args:
        alphas: one per dose, in any order, at least 3.
        values: [problem, alpha], outcomes or real numbers, with one column per alpha; or one mean per alpha.

    Raises:
        ValueError: fewer than 3 alphas or 2 problems, alphas that repeat, another number of columns than of alphas, or
            NaN or infinite values.

    Source:
        Summary statistics per subject: Matthews, Altman, Campbell and Royston (1990), BMJ 300; means by SciPy.

    Example:
        >>> print(linear_fit([-1, 0, 1], [[0, 0, 1], [0, 1, 1], [1, 0, 1], [0, 0, 0]]))
        slope 0.25 per unit of alpha, 95% interval -0.2093 to 0.7093 (t), intercept 0.4167, 4 problems
    """
    return line_of(read_doses(alphas, values))


def line_of(doses: Doses) -> LinearFit:
    """`linear_fit` for doses that were read."""
    n_doses = doses.alphas.size
    if not doses.by_problem:
        line = stats.linregress(doses.alphas, doses.means)
        errors = float(line.stderr), float(line.intercept_stderr)
        return LinearFit(float(line.slope), float(line.intercept), *errors, n_doses - 2, None, n_doses)
    centre = doses.alphas.mean()
    away = doses.alphas - centre
    slopes = doses.table @ away / (away @ away)
    intercepts = doses.table.mean(axis=1) - slopes * centre
    n = slopes.size
    errors = standard_error(slopes, None, doses.noise / float(np.abs(away).max())), standard_error(intercepts, None, doses.noise)
    return LinearFit(float(slopes.mean()), float(intercepts.mean()), *errors, n - 1, n, n_doses)


def asymmetry(alphas: ArrayLike, values: ArrayLike | pd.DataFrame) -> Asymmetry:
    """Change at +alpha plus change at -alpha, from alpha = 0: does adding do as much as subtracting?

    Args:
        alphas: one per dose, in any order; 0 must be among them, and some alpha with both signs.
        values: [problem, alpha], outcomes or real numbers, with one column per alpha; or one mean per alpha.

    Returns:
        The sums for each size of alpha and their mean, with a paired interval over problems on demand. 0 says that
        suppression takes what amplification gives; below 0, that both signs harm or that suppression does more.

    Raises:
        ValueError: no alpha = 0, no alpha with both signs, or bad input as in `linear_fit`.

    Example:
        >>> print(asymmetry([-1, 0, 1], [[0, 1, 1], [0, 0, 1], [0, 1, 1], [0, 1, 0]]))
        amplification plus suppression -0.75 on average over |alpha| = 1, 95% interval -2.752 to 1.252 (t)
    """
    doses = read_doses(alphas, values)
    pairs = matched(doses)
    if not pairs:
        raise InputError(f"alphas={doses.alphas.tolist()}: give alpha = 0 and at least one alpha with both signs")
    return asymmetry_of(doses, pairs)


def matched(doses: Doses) -> list[tuple[int, int]]:
    """Positions of (+alpha, -alpha), by rising size; none without alpha = 0."""
    alphas = doses.alphas
    if not (alphas == 0).any():
        return []
    found = [(above, np.flatnonzero(np.isclose(alphas, -alphas[above], rtol=1e-9, atol=0))) for above in np.flatnonzero(alphas > 0)]
    return [(int(above), int(below[0])) for above, below in found if below.size]


def asymmetry_of(doses: Doses, pairs: list[tuple[int, int]]) -> Asymmetry:
    """`asymmetry` for doses that were read, over these pairs."""
    above, below = (list(positions) for positions in zip(*pairs, strict=True))
    changes = doses.table - doses.table[:, doses.alphas == 0]
    totals = changes[:, above] + changes[:, below]
    frame = pd.DataFrame(
        {
            "size": doses.alphas[above],
            "amplification": changes[:, above].mean(axis=0),
            "suppression": changes[:, below].mean(axis=0),
            "total": totals.mean(axis=0),
        }
    )
    error = standard_error(totals.mean(axis=1), None, doses.noise) if doses.by_problem else None
    return Asymmetry(frame, float(totals.mean()), error, doses.n_problems)
