"""Student's t-test for one sample, and Welch's for two (such as the effects of two families of controls)."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from steerlab._checks import RELATIVE_NOISE, Alternative, InputError, check_alternative, common_scale, reals
from steerlab._html import OneLine
from steerlab.statistics._format import format_p
from steerlab.statistics.groups import standard_error
from steerlab.statistics.intervals import Interval, clustered_interval, t_interval


@dataclass(frozen=True)
class TTest(OneLine, title="t-test", shown="statistic df pvalue alternative mean popmean interval sd cohens_d n"):
    """A t-test of a mean against a reference.

    Attributes:
        statistic: t, signed like mean - popmean.
        df: degrees of freedom, n - 1, or groups - 1.
        pvalue: in (0, 1].
        mean: of the differences after - before, or of the values of a one-sample test; in their units.
        sd: their sample standard deviation (n - 1 in the denominator).
        n: how many there were.
        alternative: "greater" asks whether the mean lies above popmean.
        popmean: the reference; 0 for a paired test.
        values: what was tested: the differences after - before, or the values, in the order given.
        standard_error: of the mean by group; None where problems are independent, when it is sd / sqrt(n).
    """

    statistic: float
    df: int
    pvalue: float
    mean: float
    sd: float
    n: int
    alternative: Alternative
    popmean: float = 0.0
    values: tuple[float, ...] = ()
    standard_error: float | None = None

    def interval(self, confidence: float = 0.95) -> Interval:
        """Two-sided t interval of the mean, whatever the alternative; zero width if every value was the same.

        Raises:
            ValueError: a confidence outside (0, 1).
        """
        if self.standard_error is None:
            return t_interval(self.mean, self.sd / math.sqrt(self.n), self.df, confidence)
        return clustered_interval(self.mean, self.standard_error, self.df, confidence)

    @property
    def cohens_d(self) -> float:
        """(mean - popmean) / sd; for paired data that is d_z. Zero if every value equalled popmean."""
        return (self.mean - self.popmean) / self.sd if self.sd else 0.0

    def __str__(self) -> str:
        against = f" against {self.popmean:.4g}" if self.popmean else ""
        by_group = "" if self.standard_error is None else f" in {self.df + 1} groups"
        return (
            f"t({self.df}) = {self.statistic:.3f}, {format_p(self.pvalue)} ({self.alternative}), "
            f"mean {self.mean:.4g}{against}, d = {self.cohens_d:.3f}, n = {self.n}{by_group}"
        )


def student_t(
    values: NDArray[np.float64],
    popmean: float,
    *,
    alternative: Alternative,
    scale: float,
    what: str,
    numbers: NDArray[np.intp] | None = None,
) -> TTest:
    """Test the mean of values against popmean.

    Args:
        values: at least two finite numbers.
        popmean: the reference.
        alternative: already checked.
        scale: size of the numbers that values were computed from; rounding errors are judged against it.
        what: plural name of the values, for error messages.
        numbers: each value's group, where they come in groups.

    Raises:
        ValueError: the values, or those of groups, do not vary and differ from popmean, so that t would be infinite.
    """
    n, noise, given = values.size, RELATIVE_NOISE * scale, tuple(values.tolist())
    error = None if numbers is None else standard_error(values, numbers, noise)
    df, mean = (n if numbers is None else int(numbers.max()) + 1) - 1, float(values.mean())
    if np.ptp(values) <= noise or error == 0:
        if abs(mean - popmean) <= noise:
            return TTest(0.0, df, 1.0, popmean, 0.0, n, alternative, popmean, given, error)
        same = f"all {n} {what} equal {values[0]:.6g}" if error is None else f"all {df + 1} groups change alike, by {mean:.6g}"
        raise InputError(f"{same}: t needs values that vary; use a rank or a sign test")
    sd = float(values.std(ddof=1))
    if error is None:
        result = stats.ttest_1samp(values, popmean, alternative=alternative)
        return TTest(float(result.statistic), df, positive_p(result.pvalue), mean, sd, n, alternative, popmean, given)
    t = (mean - popmean) / error
    return TTest(t, df, positive_p(t_tail(t, df, alternative)), mean, sd, n, alternative, popmean, given, error)


def t_tail(t: float, df: float, alternative: Alternative) -> float:
    """P of Student's t."""
    return float({"greater": stats.t.sf(t, df), "less": stats.t.cdf(t, df), "two-sided": 2 * stats.t.sf(abs(t), df)}[alternative])


def positive_p(p: float) -> float:
    """P as a float in (0, 1]; a p smaller than any float would otherwise read as an impossible 0."""
    return min(max(float(p), np.finfo(np.float64).tiny), 1.0)


@dataclass(frozen=True)
class WelchTest(
    OneLine, title="Welch's t-test", shown="statistic df pvalue alternative difference standard_error interval hedges_g first second"
):
    """Welch's t-test of two means.

    Attributes:
        first, second: the samples.
        statistic: t, signed like the mean of first minus that of second.
        df: Welch and Satterthwaite's degrees of freedom.
        pvalue: in (0, 1].
        difference: mean of first minus mean of second.
        standard_error: of the difference.
        alternative: "greater" asks whether first is larger.
    """

    first: tuple[float, ...]
    second: tuple[float, ...]
    statistic: float
    df: float
    pvalue: float
    difference: float
    standard_error: float
    alternative: Alternative

    def interval(self, confidence: float = 0.95) -> Interval:
        """Two-sided interval of the difference of the means, whatever the alternative.

        Raises:
            ValueError: a confidence outside (0, 1).
        """
        return t_interval(self.difference, self.standard_error, self.df, confidence, "Welch")

    @property
    def hedges_g(self) -> float:
        """Difference in pooled standard deviations, corrected for small samples; 0 if everything is equal."""
        n, m = len(self.first), len(self.second)
        pooled = math.sqrt(((n - 1) * np.var(self.first, ddof=1) + (m - 1) * np.var(self.second, ddof=1)) / (n + m - 2))
        return float(self.difference / pooled * (1 - 3 / (4 * (n + m) - 9))) if pooled else 0.0

    def __str__(self) -> str:
        return (
            f"t({self.df:.1f}) = {self.statistic:.3f}, {format_p(self.pvalue)} ({self.alternative} Welch test), "
            f"difference {self.difference:.4g}, g = {self.hedges_g:.3f}, n = {len(self.first)} and {len(self.second)}"
        )


def welch_t_test(first: ArrayLike, second: ArrayLike, *, alternative: Alternative = "two-sided") -> WelchTest:
    """Welch's t-test: do two independent samples have the same mean, whatever their variances?

    Args:
        first, second: at least two values each, in the same units; problems must not be paired (see `paired_t_test`).
        alternative: "greater" asks whether first has the larger mean.

    Returns:
        The test; p is 1 when all values of both are equal.

    Raises:
        ValueError: fewer than 2 values, NaN or infinite values, an unknown alternative, or samples neither of which varies
            and which differ.

    Source:
        Welch (1947), Biometrika 34, 28-35; the t distribution is SciPy's.

    Example:
        >>> print(welch_t_test([0.1, 0.4, 0.2, 0.3], [0.6, 0.7, 0.9, 0.4]))
        t(5.0) = -3.266, p = 0.0222 (two-sided Welch test), difference -0.4, g = -2.008, n = 4 and 4
    """
    check_alternative(alternative)
    one, two = reals(first, "first", at_least=2), reals(second, "second", at_least=2)
    noise = RELATIVE_NOISE * common_scale(one, two)
    given, difference = (tuple(one.tolist()), tuple(two.tolist())), float(one.mean() - two.mean())
    if max(np.ptp(one), np.ptp(two)) <= noise:
        if abs(difference) <= noise:
            return WelchTest(*given, 0.0, float(one.size + two.size - 2), 1.0, 0.0, 0.0, alternative)
        raise InputError(
            f"all values of first equal {one[0]:.6g} and all of second {two[0]:.6g}: t needs values that vary; use a rank test"
        )
    parts = [float(part.var(ddof=1)) / part.size for part in (one, two)]
    error = math.sqrt(sum(parts))
    df = sum(parts) ** 2 / sum(part**2 / (size - 1) for part, size in zip(parts, (one.size, two.size), strict=True))
    t = difference / error
    return WelchTest(*given, t, df, positive_p(t_tail(t, df, alternative)), difference, error, alternative)
