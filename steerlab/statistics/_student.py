"""Student's t for one sample of numbers: the machinery behind the paired and the one-sample t-test."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from steerlab._checks import RELATIVE_NOISE, Alternative, InputError, open_share
from steerlab._html import html_table
from steerlab.statistics._display import format_p
from steerlab.statistics.intervals import Interval


@dataclass(frozen=True)
class TTest:
    """A t-test of a mean against a reference.

    Attributes:
        statistic: t, signed like mean - popmean.
        df: degrees of freedom, n - 1.
        p_value: in (0, 1].
        mean: of the differences after - before, or of the values of a one-sample test; in their units.
        sd: their sample standard deviation (n - 1 in the denominator).
        n: how many there were.
        alternative: "greater" asks whether the mean lies above popmean.
        popmean: the reference; 0 for a paired test.
        values: what was tested: the differences after - before, or the values, in the order given.
    """

    statistic: float
    df: int
    p_value: float
    mean: float
    sd: float
    n: int
    alternative: Alternative
    popmean: float = 0.0
    values: tuple[float, ...] = ()

    def interval(self, confidence: float = 0.95) -> Interval:
        """Two-sided t interval of the mean, whatever the alternative; zero width if every value was the same.

        Raises:
            ValueError: a confidence outside (0, 1).
        """
        half = float(stats.t.isf((1 - open_share(confidence, "confidence")) / 2, self.df)) * self.sd / math.sqrt(self.n)
        return Interval(self.mean - half, self.mean + half, float(confidence), "t" if self.sd else "t, no spread")

    @property
    def cohens_d(self) -> float:
        """(mean - popmean) / sd; for paired data that is d_z. Zero if every value equalled popmean."""
        return (self.mean - self.popmean) / self.sd if self.sd else 0.0

    def __str__(self) -> str:
        against = f" against {self.popmean:.4g}" if self.popmean else ""
        return (
            f"t({self.df}) = {self.statistic:.3f}, {format_p(self.p_value)} ({self.alternative}), "
            f"mean {self.mean:.4g}{against}, d = {self.cohens_d:.3f}, n = {self.n}"
        )

    def _repr_html_(self) -> str:
        rows = {
            f"t({self.df})": f"{self.statistic:.3f}",
            "p": format_p(self.p_value),
            "alternative": self.alternative,
            "mean": f"{self.mean:.4g}",
            "against": f"{self.popmean:.4g}",
            "interval of the mean": self.interval(),
            "sd": f"{self.sd:.4g}",
            "Cohen's d": f"{self.cohens_d:.3f}",
            "n": self.n,
        }
        return html_table("t-test", rows)


def student_t(values: NDArray[np.float64], popmean: float, *, alternative: Alternative, scale: float, what: str) -> TTest:
    """Test the mean of values against popmean.

    Args:
        values: at least two finite numbers.
        popmean: the reference.
        alternative: already checked.
        scale: size of the numbers that values were computed from; rounding errors are judged against it.
        what: plural name of the values, for error messages.

    Raises:
        ValueError: the values do not vary and differ from popmean, so that t would be infinite.
    """
    n, noise, given = values.size, RELATIVE_NOISE * scale, tuple(values.tolist())
    if np.ptp(values) <= noise:
        if np.abs(values - popmean).max() <= noise:
            return TTest(0.0, n - 1, 1.0, popmean, 0.0, n, alternative, popmean, given)
        raise InputError(f"all {n} {what} equal {values[0]:.6g}: t needs values that vary; use a rank or a sign test")
    result = stats.ttest_1samp(values, popmean, alternative=alternative)
    return TTest(
        statistic=float(result.statistic),
        df=n - 1,
        p_value=positive_p(result.pvalue),
        mean=float(values.mean()),
        sd=float(values.std(ddof=1)),
        n=n,
        alternative=alternative,
        popmean=popmean,
        values=given,
    )


def positive_p(p: float) -> float:
    """P as a float in (0, 1]; a p smaller than any float would otherwise read as an impossible 0."""
    return min(max(float(p), np.finfo(np.float64).tiny), 1.0)
