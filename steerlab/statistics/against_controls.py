"""Is it this direction? An observed effect against the effects of control directions; the unit is the direction."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from steerlab._checks import RELATIVE_NOISE, Alternative, InputError, check_alternative, common_scale, finite, open_share, reals
from steerlab._html import html_table
from steerlab.statistics._display import format_p
from steerlab.statistics._student import TTest, positive_p, student_t
from steerlab.statistics.intervals import Interval


@dataclass(frozen=True)
class RankTest:
    """Where an observed effect stands among the effects of controls.

    Attributes:
        observed: the effect of the direction under test.
        controls: the effects of the control directions, the null draws, in the order given.
        n_controls: K, how many there are.
        exceeds: how many controls are at least as extreme as the observed effect; ties are among them.
        rank: 1 + exceeds; rank 1 of K + 1 is the most extreme.
        p_value: rank / (K + 1).
        smallest_p: the least p that K controls can give: 1 / (K + 1), or 1 for a two-sided test against one control.
        alternative: "greater" asks whether the observed effect lies above the controls.
    """

    observed: float
    controls: tuple[float, ...]
    n_controls: int
    exceeds: int
    rank: int
    p_value: float
    smallest_p: float
    alternative: Alternative

    @property
    def statistic(self) -> float:
        """What is ranked: the observed effect."""
        return self.observed

    @property
    def effect(self) -> float:
        """Observed effect minus the median of the controls, in their units."""
        return self.observed - float(np.median(self.controls))

    def interval(self, confidence: float = 0.95) -> Interval:
        """Where one more control would fall, whatever their distribution: between two of the controls.

        Without limits where the controls are too few: K of them hold one more with a chance of (K - 1) / (K + 1) at most.

        Raises:
            ValueError: a confidence outside (0, 1).
        """
        left_out = math.floor((1 - open_share(confidence, "confidence")) / 2 * (self.n_controls + 1) * (1 + RELATIVE_NOISE))
        ordered = sorted(self.controls)
        low, high = (ordered[left_out - 1], ordered[-left_out]) if left_out else (-math.inf, math.inf)
        return Interval(low, high, float(confidence), "order statistics of the controls" if left_out else "too few controls")

    @property
    def centre(self) -> float:
        """The median of all K + 1 effects, from which a two-sided test measures."""
        return float(np.median([*self.controls, self.observed]))

    @property
    def as_extreme(self) -> np.ndarray:
        """Which controls are at least as extreme as the observed effect, in their order."""
        return _as_extreme(self.observed, np.array(self.controls), self.alternative)

    def __str__(self) -> str:
        return (
            f"observed {self.observed:.4g} ranks {self.rank} of {self.n_controls + 1}, {format_p(self.p_value)} "
            f"({self.alternative} rank test, {self.n_controls} controls, smallest possible p {self.smallest_p:.4g})"
        )

    def _repr_html_(self) -> str:
        rows = {
            "observed": f"{self.observed:.4g}",
            "controls": f"{self.n_controls}, from {min(self.controls):.4g} to {max(self.controls):.4g}",
            "at least as extreme": self.exceeds,
            "rank": f"{self.rank} of {self.n_controls + 1}",
            "p": format_p(self.p_value),
            "smallest possible p": f"{self.smallest_p:.4g}",
            "above the controls' median by": f"{self.effect:.4g}",
            "one more control": self.interval(),
            "alternative": self.alternative,
        }
        return html_table("Rank test against controls", rows)


def rank_test(observed: float, controls: ArrayLike, *, alternative: Alternative = "two-sided") -> RankTest:
    """Monte Carlo test: p = (1 + number of controls at least as extreme) / (K + 1).

    If the direction were one more draw from the controls, p would be at most t in at most a share t of experiments,
    whatever the distribution. That needs controls that are exchangeable with it under the null.

    Two-sided, extreme means far from the median of all K + 1 values, the observed one among them. The median of the
    controls alone would not do: it sits closer to the controls that made it than to the observed value, and the test
    would reject a true null too often (with 2 controls, p = 1/3 in two of three experiments).

    Args:
        observed: the effect of the direction under test.
        controls: effects of K >= 1 control directions, in the same units.
        alternative: "greater" asks whether observed lies above the controls, "less" below.

    Returns:
        The test. Ties count against us, and values within a relative 1e-12 are ties.

    Raises:
        ValueError: no controls, NaN or infinite values, or an unknown alternative.

    Source:
        Barnard (1963), J. R. Stat. Soc. B 25, 294; Phipson and Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9, art. 39.

    Example:
        >>> print(rank_test(-11, [-1, -2, -5, -10, -11], alternative="less"))
        observed -11 ranks 2 of 6, p = 0.3333 (less rank test, 5 controls, smallest possible p 0.1667)
    """
    check_alternative(alternative)
    observed = finite(observed, "observed")
    draws = reals(controls, "controls", at_least=1)
    exceeds, k = int(_as_extreme(observed, draws, alternative).sum()), draws.size
    return RankTest(
        observed=observed,
        controls=tuple(draws.tolist()),
        n_controls=k,
        exceeds=exceeds,
        rank=1 + exceeds,
        p_value=(1 + exceeds) / (k + 1),
        smallest_p=1.0 if k == 1 and alternative == "two-sided" else 1 / (k + 1),
        alternative=alternative,
    )


def _as_extreme(observed: float, draws: np.ndarray, alternative: Alternative) -> np.ndarray:
    noise = RELATIVE_NOISE * common_scale(observed, draws)
    if alternative == "greater":
        return np.asarray(draws >= observed - noise)
    if alternative == "less":
        return np.asarray(draws <= observed + noise)
    centre = np.median(np.append(draws, observed))
    return np.asarray(np.abs(draws - centre) >= abs(observed - centre) - noise)


@dataclass(frozen=True)
class PredictionTest:
    """Could the observed effect be one more draw from a normal distribution that the controls came from?

    Attributes:
        observed: the effect of the direction under test.
        controls: the effects of the control directions.
        statistic: t, signed like observed - mean.
        df: K - 1.
        p_value: in (0, 1].
        mean, sd: of the controls, with K - 1 in the sd.
        alternative: "greater" asks whether the observed effect lies above the controls.
    """

    observed: float
    controls: tuple[float, ...]
    statistic: float
    df: int
    p_value: float
    mean: float
    sd: float
    alternative: Alternative

    def interval(self, confidence: float = 0.95) -> Interval:
        """Where one more control would fall: the prediction interval.

        Raises:
            ValueError: a confidence outside (0, 1).
        """
        k = len(self.controls)
        half = float(stats.t.isf((1 - open_share(confidence, "confidence")) / 2, self.df)) * self.sd * math.sqrt(1 + 1 / k)
        return Interval(self.mean - half, self.mean + half, float(confidence), "prediction")

    @property
    def cohens_d(self) -> float:
        """(observed - mean) / sd of the controls; 0 if everything is equal."""
        return (self.observed - self.mean) / self.sd if self.sd else 0.0

    def __str__(self) -> str:
        return (
            f"t({self.df}) = {self.statistic:.3f}, {format_p(self.p_value)} ({self.alternative} prediction test), "
            f"observed {self.observed:.4g} against {self.mean:.4g} (sd {self.sd:.4g}, {len(self.controls)} controls)"
        )

    def _repr_html_(self) -> str:
        rows = {
            "observed": f"{self.observed:.4g}",
            "controls": f"{len(self.controls)}, mean {self.mean:.4g}, sd {self.sd:.4g}",
            f"t({self.df})": f"{self.statistic:.3f}",
            "p": format_p(self.p_value),
            "one more control": self.interval(),
            "Cohen's d": f"{self.cohens_d:.3f}",
            "alternative": self.alternative,
        }
        return html_table("Prediction test against controls", rows)


def prediction_test(observed: float, controls: ArrayLike, *, alternative: Alternative = "two-sided") -> PredictionTest:
    """t-test of one new observation against K controls: t = (observed - mean) / (sd * sqrt(1 + 1/K)) with K - 1 degrees of freedom.

    The parametric sibling of `rank_test`. It asks about one direction among many, as that does, and can give small p-values
    with few controls; it pays with the assumption that the controls' effects are normal.

    Args:
        observed: the effect of the direction under test.
        controls: effects of at least 2 control directions, in the same units.
        alternative: "greater" asks whether observed lies above the controls, "less" below.

    Returns:
        The test; p is 1 when observed and all controls are equal.

    Raises:
        ValueError: fewer than 2 controls, NaN or infinite values, an unknown alternative, or controls that are all equal
            and differ from observed.

    Source:
        Crawford and Howell (1998), The Clinical Neuropsychologist 12, 482-486; the t distribution is SciPy's.

    Example:
        >>> print(prediction_test(-11, [-1, -2, -5, -10, -11]))
        t(4) = -1.043, p = 0.3557 (two-sided prediction test), observed -11 against -5.8 (sd 4.55, 5 controls)
    """
    check_alternative(alternative)
    observed = finite(observed, "observed")
    draws = reals(controls, "controls", at_least=2)
    noise = RELATIVE_NOISE * common_scale(observed, draws)
    given, k, mean = tuple(draws.tolist()), draws.size, float(draws.mean())
    if np.ptp(draws) <= noise:
        if abs(observed - mean) <= noise:
            return PredictionTest(observed, given, 0.0, k - 1, 1.0, mean, 0.0, alternative)
        raise InputError(f"all {k} controls equal {draws[0]:.6g}: t needs controls that vary; use rank_test")
    sd = float(draws.std(ddof=1))
    t = (observed - mean) / (sd * math.sqrt(1 + 1 / k))
    tails = {"greater": stats.t.sf(t, k - 1), "less": stats.t.cdf(t, k - 1), "two-sided": 2 * stats.t.sf(abs(t), k - 1)}
    return PredictionTest(observed, given, t, k - 1, positive_p(tails[alternative]), mean, sd, alternative)


def one_sample_t_test(values: ArrayLike, popmean: float, *, alternative: Alternative = "two-sided") -> TTest:
    """One-sample t-test: does the mean of the control values differ from the observed one?

    Reported next to `rank_test`, not instead of it. It takes the observed value as known without error and asks about
    the mean of the controls, not about their spread, so with enough controls any direction that is not exactly
    average passes. It also assumes control values that are roughly normal, or many.

    Args:
        values: one value per control direction.
        popmean: the observed value, in the same units.
        alternative: "greater" asks whether the controls' mean lies above popmean, "less" below.

    Returns:
        The test; p is 1 when every value equals popmean. `interval` is that of the mean of the values.

    Raises:
        ValueError: fewer than 2 values, NaN or infinite values, an unknown alternative, or values that are all equal
            and differ from popmean.

    Source:
        Student (1908), Biometrika 6; computed by SciPy.

    Example:
        >>> print(one_sample_t_test([-1, -2, -5, -10, -11], -11))
        t(4) = 2.556, p = 0.0629 (two-sided), mean -5.8 against -11, d = 1.143, n = 5
    """
    check_alternative(alternative)
    popmean = finite(popmean, "popmean")
    draws = reals(values, "values", at_least=2)
    scale = common_scale(popmean, draws)
    return student_t(draws, popmean, alternative=alternative, scale=scale, what="values")


def cohens_d(observed: float, controls: ArrayLike) -> float:
    """Distance of the observed effect from the mean of the controls, in standard deviations of the controls.

    Args:
        observed: the effect of the direction under test.
        controls: effects of at least 2 control directions, in the same units.

    Returns:
        (observed - mean) / sd with n - 1 in the sd; negative when observed lies below the controls.

    Raises:
        ValueError: fewer than 2 controls, NaN or infinite values, or controls that do not vary.

    Source:
        Cohen (1988), Statistical Power Analysis for the Behavioral Sciences, with the controls' own sd (Glass's delta).

    Example:
        >>> round(cohens_d(-11, [-1, -2, -5, -10, -11]), 3)
        -1.143
    """
    observed = finite(observed, "observed")
    draws = reals(controls, "controls", at_least=2)
    if np.ptp(draws) <= RELATIVE_NOISE * common_scale(observed, draws):
        raise InputError(f"all {draws.size} controls equal {draws[0]:.6g}: their sd is 0, so Cohen's d is undefined")
    return float((observed - draws.mean()) / draws.std(ddof=1))
