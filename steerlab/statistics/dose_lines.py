"""Means of a dose-response over problems: its straight line, and amplification against suppression."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from steerlab._checks import InputError, open_share
from steerlab._html import html_table
from steerlab.statistics._doses import Doses, read_doses
from steerlab.statistics.intervals import Interval


@dataclass(frozen=True)
class LinearFit:
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
        return _t_interval(self.slope, self.slope_error, self.df, confidence)

    def intercept_interval(self, confidence: float = 0.95) -> Interval:
        """Two-sided t interval of the intercept.

        Raises:
            ValueError: a confidence outside (0, 1).
        """
        return _t_interval(self.intercept, self.intercept_error, self.df, confidence)

    def __str__(self) -> str:
        over = f"{self.n_doses} means" if self.n_problems is None else f"{self.n_problems} problems"
        return f"slope {self.slope:.4g} per unit of alpha, {self.interval()}, intercept {self.intercept:.4g}, {over}"

    def _repr_html_(self) -> str:
        rows = {
            "slope per unit of alpha": f"{self.slope:.4g}",
            "interval of the slope": self.interval(),
            "intercept": f"{self.intercept:.4g}",
            "interval of the intercept": self.intercept_interval(),
            "problems": "means only" if self.n_problems is None else self.n_problems,
            "alphas": self.n_doses,
        }
        return html_table("Linear fit", rows)


@dataclass(frozen=True, eq=False)
class Asymmetry:
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
        return _t_interval(self.mean, self.error, self.n_problems - 1, confidence)

    def __str__(self) -> str:
        sizes = ", ".join(f"{size:g}" for size in self.frame["size"])
        limits = f", {self.interval()}" if self.error is not None else ""
        return f"amplification plus suppression {self.mean:+.4g} on average over |alpha| = {sizes}{limits}"

    def _repr_html_(self) -> str:
        rows: dict[str, object] = {
            f"|alpha| = {line['size']:g}": f"{line['amplification']:+.4g} above, {line['suppression']:+.4g} below, sum {line['total']:+.4g}"
            for line in self.frame.to_dict("records")
        }
        rows["mean of the sums"] = f"{self.mean:+.4g}"
        if self.error is not None:
            rows["interval"] = self.interval()
        return html_table("Amplification and suppression", rows)


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
    errors = _error(slopes, doses.noise / float(np.abs(away).max())), _error(intercepts, doses.noise)
    return LinearFit(float(slopes.mean()), float(intercepts.mean()), *errors, n - 1, n, n_doses)


def asymmetry(alphas: ArrayLike, values: ArrayLike | pd.DataFrame) -> Asymmetry:
    """Does adding the direction do as much as subtracting it? Change at +alpha plus change at -alpha, from alpha = 0.

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
    error = _error(totals.mean(axis=1), doses.noise) if doses.by_problem else None
    return Asymmetry(frame, float(totals.mean()), error, doses.n_problems)


def _error(values: NDArray[np.float64], noise: float) -> float:
    """Standard error of a mean; 0 if the values differ by rounding only."""
    return float(values.std(ddof=1)) / math.sqrt(values.size) if np.ptp(values) > noise else 0.0


def _t_interval(estimate: float, error: float, df: int, confidence: float) -> Interval:
    half = float(stats.t.isf((1 - open_share(confidence, "confidence")) / 2, df)) * error
    return Interval(estimate - half, estimate + half, float(confidence), "t" if error else "t, no spread")
