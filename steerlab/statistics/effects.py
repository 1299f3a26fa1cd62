"""Effect sizes with intervals (standardised means, shares, odds), and which effects no other beats at lower cost."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import brentq

from steerlab._checks import RELATIVE_NOISE, InputError, check_pairs, common_scale, finite, one_of, open_share, outcomes, reals
from steerlab._html import OneLine
from steerlab.statistics.intervals import Interval, clopper_pearson_interval, wilson_interval

NORMAL_NODES, _weights = np.polynomial.hermite_e.hermegauss(40)
NORMAL_WEIGHTS = _weights / math.sqrt(2 * math.pi)


@dataclass(frozen=True)
class EffectSize(OneLine, title="Effect size", shown="value interval corrected df"):
    """Cohen's d of one sample of numbers, or of paired differences.

    Attributes:
        values: the numbers, or the differences after - before.
        popmean: what their mean is compared with.
        d: (mean - popmean) / sd, with n - 1 in the sd.
        df: n - 1.
        corrected: whether `value` is corrected for small samples.
    """

    values: tuple[float, ...]
    popmean: float
    d: float
    df: int
    corrected: bool

    @property
    def value(self) -> float:
        """d, or Hedges' g, which is d without its upward bias in small samples."""
        return self.d * (_small_sample(self.df) if self.corrected else 1.0)

    def interval(self, confidence: float = 0.95) -> Interval:
        """Of the true standardised mean, from the noncentral t distribution; the same for d and for g, its estimates.

        It is exact for normal values. Scaled like g it would miss the truth too often: with 10 values and a true effect of
        2 in 7 of 100 samples rather than 5.

        Raises:
            ValueError: a confidence outside (0, 1).
        """
        tail, root = (1 - open_share(confidence, "confidence")) / 2, math.sqrt(self.df + 1)
        low, high = (_noncentrality(self.d * root, self.df, share) / root for share in (1 - tail, tail))
        return Interval(low, high, float(confidence), "noncentral t")

    def __str__(self) -> str:
        return f"{'g' if self.corrected else 'd'} = {self.value:.3f}, {self.interval()}, n = {self.df + 1}"


def effect_size(values: ArrayLike, popmean: float = 0.0, *, corrected: bool = True) -> EffectSize:
    """Cohen's d of one sample against a reference.

    Args:
        values: at least two numbers that vary.
        popmean: the reference, in the same units.
        corrected: correct for small samples (Hedges' g); two values have no such correction, and give d.

    Returns:
        The effect with an exact interval for normal values.

    Raises:
        ValueError: fewer than 2 values, NaN or infinite values, or values that do not vary and differ from popmean.

    Source:
        Hedges (1981), J. Educ. Stat. 6, 107-128; interval: Steiger and Fouladi (1997), in What If There Were No Significance Tests?

    Example:
        >>> print(effect_size([0.5, 0.3, 0.7, 0.1]))
        g = 1.121, 95% interval -0.01862 to 3.042 (noncentral t), n = 4
    """
    sample = reals(values, "values", at_least=2)
    popmean = finite(popmean, "popmean")
    return _effect(sample, popmean, corrected, common_scale(popmean, sample))


def paired_effect_size(before: ArrayLike, after: ArrayLike, *, corrected: bool = True) -> EffectSize:
    """Cohen's d of paired differences after - before (d_z).

    Args:
        before: one value per problem without the intervention.
        after: the same problems, in the same order, with it.
        corrected: correct for small samples (Hedges' g); two pairs have no such correction, and give d.

    Returns:
        The effect; 0 where nothing changed.

    Raises:
        ValueError: unequal lengths, fewer than 2 pairs, NaN or infinite values, two Series whose labels are in different
            orders, or differences that are all equal and not zero.

    Source:
        As `effect_size`.

    Example:
        >>> round(paired_effect_size([0.1, 0.4, 0.2, 0.3], [0.6, 0.7, 0.9, 0.4], corrected=False).value, 3)
        1.549
    """
    check_pairs(before, after)
    was, now = reals(before, "before", at_least=2), reals(after, "after", at_least=2)
    return _effect(now - was, 0.0, corrected, common_scale(was, now))


def _effect(values: NDArray[np.float64], popmean: float, corrected: bool, scale: float) -> EffectSize:
    given, df = tuple(values.tolist()), values.size - 1
    corrected = corrected and df > 1  # with one degree of freedom d has no mean that could be set right
    if np.ptp(values) <= RELATIVE_NOISE * scale:
        if np.abs(values - popmean).max() <= RELATIVE_NOISE * scale:
            return EffectSize(given, popmean, 0.0, df, corrected)
        raise InputError(f"all {values.size} values equal {values[0]:.6g}: their sd is 0, so Cohen's d is undefined; report the mean")
    return EffectSize(given, popmean, float((values.mean() - popmean) / values.std(ddof=1)), df, corrected)


def _small_sample(df: int) -> float:
    return math.exp(math.lgamma(df / 2) - math.lgamma((df - 1) / 2)) / math.sqrt(df / 2)


def _noncentrality(t: float, df: int, share: float) -> float:
    """The noncentrality under which a share of all t lies below the observed one."""

    def miss(noncentrality: float) -> float:
        return _noncentral(t, df, noncentrality) - share

    width = 5.0
    while miss(t - width) < 0 or miss(t + width) > 0:
        width *= 2
    return float(brentq(miss, t - width, t + width, xtol=1e-10))


def _noncentral(t: float, df: int, noncentrality: float) -> float:
    """Distribution function of the noncentral t."""
    chance = float(stats.nct.cdf(t, df, noncentrality))
    if math.isfinite(chance):
        return chance
    # SciPy's series gives out at very large t, where the chance that sd * t exceeds noncentrality + normal is smooth in the normal.
    spread = np.maximum(math.copysign(1, t) * (noncentrality + NORMAL_NODES) / abs(t), 0.0)
    below = float(stats.chi2.sf(df * spread**2, df) @ NORMAL_WEIGHTS)
    return below if t > 0 else 1 - below


def cohens_h(before: float, after: float) -> float:
    """Difference of two proportions on the scale on which its variance does not depend on them.

    Args:
        before, after: proportions in [0, 1].

    Returns:
        2 asin(sqrt(after)) - 2 asin(sqrt(before)), from -pi to pi.

    Raises:
        ValueError: a proportion outside [0, 1].

    Source:
        Cohen (1988), Statistical Power Analysis for the Behavioral Sciences, chapter 6.

    Example:
        >>> round(cohens_h(0.5, 0.75), 4)
        0.5236
    """
    shares = [finite(before, "before"), finite(after, "after")]
    for name, share in zip(("before", "after"), shares, strict=True):
        if not 0 <= share <= 1:
            raise InputError(f"{name}={share}: a proportion lies from 0 to 1 (0.62, not 62)")
    low, high = (2 * math.asin(math.sqrt(share)) for share in shares)
    return high - low


@dataclass(frozen=True)
class OddsRatio(OneLine, title="Odds ratio of discordant pairs", shown="became_right became_wrong value interval"):
    """The odds ratio of discordant pairs: became right over became wrong.

    Attributes:
        became_right, became_wrong: discordant problems.
        value: their ratio; infinite where none became wrong.
    """

    became_right: int
    became_wrong: int
    value: float

    def interval(self, confidence: float = 0.95) -> Interval:
        """Exact interval, given the number of discordant problems.

        Raises:
            ValueError: a confidence outside (0, 1).
        """
        share = clopper_pearson_interval(self.became_right, self.became_right + self.became_wrong, confidence=confidence)
        low, high = (p / (1 - p) if p < 1 else math.inf for p in share)
        return Interval(low, high, float(confidence), "Clopper-Pearson odds")

    def __str__(self) -> str:
        return f"odds ratio {self.value:.4g} ({self.became_right} became right, {self.became_wrong} wrong), {self.interval()}"


def discordant_odds_ratio(before: ArrayLike, after: ArrayLike) -> OddsRatio:
    """Odds ratio of discordant pairs: became right over became wrong.

    Args:
        before: right or wrong for each problem without the intervention; booleans, or integers 0 and 1.
        after: the same problems, in the same order, with it.

    Raises:
        ValueError: unequal lengths, no pairs, values that are not outcomes, two Series whose labels are in different
            orders, or no discordant pair (0 / 0 has no value).

    Source:
        McNemar (1947), Psychometrika 12; exact interval as in Breslow and Day (1980), Statistical Methods in Cancer Research, 5.2.

    Example:
        >>> print(discordant_odds_ratio([0, 0, 0, 1, 1], [1, 1, 1, 0, 1]))
        odds ratio 3 (3 became right, 1 wrong), 95% interval 0.2409 to 157.5 (Clopper-Pearson odds)
    """
    check_pairs(before, after)
    was, now = outcomes(before, "before"), outcomes(after, "after")
    right, wrong = int((~was & now).sum()), int((was & ~now).sum())
    if right + wrong == 0:
        raise InputError(
            f"none of the {was.size} problems became right or wrong: the odds ratio 0 / 0 has no value; report the change, which is 0"
        )
    return OddsRatio(right, wrong, right / wrong if wrong else math.inf)


@dataclass(frozen=True)
class AntiSteerable(OneLine, title="Problems moved the wrong way", shown="right_way wrong_way unmoved n share interval"):
    """The share of problems that an intervention moved against the wanted direction.

    Attributes:
        right_way, wrong_way, unmoved: numbers of problems.
        n: all.
    """

    right_way: int
    wrong_way: int
    unmoved: int
    n: int

    @property
    def share(self) -> float:
        """Wrong way over all."""
        return self.wrong_way / self.n

    def interval(self, confidence: float = 0.95) -> Interval:
        """Wilson's interval of the share.

        Raises:
            ValueError: a confidence outside (0, 1).
        """
        return wilson_interval(self.wrong_way, self.n, confidence=confidence)

    def __str__(self) -> str:
        return f"{self.wrong_way} of {self.n} problems moved the wrong way ({100 * self.share:.1f}%), {self.interval()}"


def anti_steerable_share(before: ArrayLike, after: ArrayLike, *, wanted: str = "up") -> AntiSteerable:
    """Share of problems that moved against the wanted direction.

    A mean can rise while many problems fall. The published mean of a steering vector hides them; this share does not.

    Args:
        before: one value per problem without the intervention, such as its margin, or its outcome.
        after: the same problems, in the same order, with it.
        wanted: "up" or "down", where the values should go.

    Raises:
        ValueError: unequal lengths, no pairs, NaN or infinite values, two Series whose labels are in different orders, or
            another `wanted`.

    Source:
        Tan et al. (2024), Analyzing the Generalization and Reliability of Steering Vectors, section 4.

    Example:
        >>> print(anti_steerable_share([0.0, 0.1, 0.5, -0.2], [1.0, 0.3, 0.2, -0.2]))
        1 of 4 problems moved the wrong way (25.0%), 95% interval 0.04559 to 0.6994 (Wilson)
    """
    one_of(wanted, "wanted", ("up", "down"))
    check_pairs(before, after)
    was, now = reals(before, "before", at_least=1), reals(after, "after", at_least=1)
    moved = (now - was) * (1 if wanted == "up" else -1)
    noise = RELATIVE_NOISE * common_scale(was, now)
    right, wrong = int((moved > noise).sum()), int((moved < -noise).sum())
    return AntiSteerable(right, wrong, moved.size - right - wrong, moved.size)


def pareto_front(benefit: ArrayLike, cost: ArrayLike) -> NDArray[np.bool_]:
    """Which points are on the Pareto front: no other has at least the benefit at no more cost, and is better in one.

    Args:
        benefit: more is better.
        cost: less is better; as many.

    Returns:
        True for points on the front, in the order given; points that are equal in both are on it together.

    Raises:
        ValueError: no points, unequal lengths, or NaN or infinite values.

    Example:
        >>> pareto_front([3, 2, 1, 3], [5, 1, 2, 6]).tolist()
        [True, True, False, False]
    """
    gains, prices = reals(benefit, "benefit", at_least=1), reals(cost, "cost", at_least=1)
    if len(gains) != len(prices):
        raise InputError(f"benefit and cost have lengths {len(gains)} and {len(prices)}; give one value of each per point")
    front = np.zeros(len(gains), dtype=np.bool_)
    best = -np.inf
    order = np.lexsort((-gains, prices))  # the cheapest first, of equally cheap ones the best
    for here, before in zip(order, np.concatenate([[-1], order[:-1]]), strict=True):
        twin = before >= 0 and gains[here] == gains[before] and prices[here] == prices[before]
        front[here] = front[before] if twin else gains[here] > best
        best = max(best, gains[here])
    return front
