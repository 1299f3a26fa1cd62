"""Paired tests: each problem before and after an intervention is its own control."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.stats import binom, binomtest

from steerlab._checks import (
    RELATIVE_NOISE,
    Alternative,
    check_alternative,
    check_pairs,
    check_rng,
    common_scale,
    count,
    group_numbers,
    open_share,
    outcomes,
    reals,
)
from steerlab._html import OneLine
from steerlab.statistics._format import format_p
from steerlab.statistics._sign_flips import enumerable, exceedance, flipped_sums
from steerlab.statistics.intervals import Interval, mean_interval, newcombe_interval
from steerlab.statistics.t_tests import TTest, positive_p, student_t


@dataclass(frozen=True)
class SignTest(
    OneLine,
    title="Sign test (McNemar)",
    shown="became_right became_wrong stayed_right stayed_wrong n change interval pvalue alternative mid_p",
):
    """The exact sign test of paired right and wrong outcomes (McNemar's exact test).

    Attributes:
        became_right, became_wrong, stayed_right, stayed_wrong: numbers of problems.
        n: all problems.
        statistic: became_right, which is binomial with p = 1/2 among the changed problems if nothing happened.
        pvalue: in (0, 1].
        alternative: "greater" asks whether after is better than before.
        mid_p: whether p counts half of the probability of what was observed.
    """

    became_right: int
    became_wrong: int
    stayed_right: int
    stayed_wrong: int
    n: int
    statistic: int
    pvalue: float
    alternative: Alternative
    mid_p: bool = False

    @property
    def change(self) -> float:
        """Accuracy after minus accuracy before, a proportion."""
        return (self.became_right - self.became_wrong) / self.n

    @property
    def harmed_share(self) -> float:
        """Share of all problems that were right before and wrong after."""
        return self.became_wrong / self.n

    def interval(self, confidence: float = 0.95) -> Interval:
        """Newcombe's paired interval of `change`, as `paired_interval` computes it.

        Raises:
            ValueError: a confidence outside (0, 1).
        """
        return newcombe_interval(
            became_right=self.became_right,
            became_wrong=self.became_wrong,
            stayed_right=self.stayed_right,
            stayed_wrong=self.stayed_wrong,
            confidence=confidence,
        )

    def __str__(self) -> str:
        return (
            f"{self.became_right} became right, {self.became_wrong} became wrong of {self.n}: "
            f"change {self.change:+.4f}, {format_p(self.pvalue)} ({self.alternative} sign test{', mid-p' if self.mid_p else ''})"
        )


def sign_test(before: ArrayLike, after: ArrayLike, *, alternative: Alternative = "two-sided", mid_p: bool = False) -> SignTest:
    """Exact sign test on the problems whose outcome changed, which is McNemar's exact test.

    The exact test never rejects a true null too often, and with few changed problems much less often than its level says.
    The mid-p variant counts only half of the probability of the observed split: its false-positive rate is nearer to the
    level, and may slightly exceed it.

    Args:
        before: right or wrong for each problem without the intervention; booleans, or integers 0 and 1.
        after: the same problems, in the same order, with it.
        alternative: "greater" means that after is better.
        mid_p: use the mid-p variant.

    Returns:
        The counts and the p-value; p is 1 when no outcome changed. It is exact for independent problems only; for problems that come
        in groups use ``sign_flip_test(groups=...)``, which without groups is the same test.

    Raises:
        ValueError: unequal lengths, no pairs, values that are not outcomes, two Series whose labels are in
            different orders, or an unknown alternative.

    Source:
        McNemar (1947), Psychometrika 12, in its exact form; computed by SciPy's binomial test. Mid-p: Fagerland, Lydersen
        and Laake (2013), BMC Medical Research Methodology 13, 91.

    Example:
        >>> print(sign_test([1, 1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0, 0]))
        0 became right, 6 became wrong of 7: change -0.8571, p = 0.0312 (two-sided sign test)
        >>> print(sign_test([1, 1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0, 0], mid_p=True))
        0 became right, 6 became wrong of 7: change -0.8571, p = 0.0156 (two-sided sign test, mid-p)
    """
    check_alternative(alternative)
    check_pairs(before, after)
    was, now = outcomes(before, "before"), outcomes(after, "after")
    became_right, became_wrong = int((~was & now).sum()), int((was & ~now).sum())
    changed = became_right + became_wrong
    if mid_p:
        pvalue = _mid_p(became_right, changed, alternative)
    else:
        pvalue = binomtest(became_right, changed, 0.5, alternative=alternative).pvalue if changed else 1.0
    return SignTest(
        became_right=became_right,
        became_wrong=became_wrong,
        stayed_right=int((was & now).sum()),
        stayed_wrong=int((~was & ~now).sum()),
        n=int(was.size),
        statistic=became_right,
        pvalue=positive_p(pvalue),
        alternative=alternative,
        mid_p=bool(mid_p),
    )


def _mid_p(became_right: int, changed: int, alternative: Alternative) -> float:
    if not changed:
        return 1.0
    half = binom.pmf(became_right, changed, 0.5) / 2
    greater, less = (float(tail(became_right, changed, 0.5)) + half for tail in (binom.sf, lambda k, n, p: binom.cdf(k - 1, n, p)))
    return {"greater": greater, "less": less, "two-sided": min(1.0, 2 * min(greater, less))}[alternative]


def paired_t_test(before: ArrayLike, after: ArrayLike, *, groups: ArrayLike | None = None, alternative: Alternative = "two-sided") -> TTest:
    """Paired t-test of the mean difference after - before, for real values such as margins.

    Args:
        before: one value per problem without the intervention.
        after: the same problems, in the same order, with it; the same units.
        groups: one label a problem, where problems of one group are not independent: the error is cluster-robust, with one degree
            of freedom less than groups.
        alternative: "greater" means that after is larger.

    Returns:
        The test; p is 1 when every difference is zero. It assumes independent problems (or groups) and differences that are
        roughly normal, or many.

    Raises:
        ValueError: unequal lengths, fewer than 2 pairs or groups, NaN or infinite values, labels of another length or missing, two
            Series whose labels are in different orders, an unknown alternative, or differences that are all equal and not zero.

    Source:
        Student (1908), Biometrika 6; computed by SciPy. By group as `paired_interval`.

    Example:
        >>> print(paired_t_test([0.1, 0.4, 0.2, 0.3], [0.6, 0.7, 0.9, 0.4]))
        t(3) = 3.098, p = 0.0534 (two-sided), mean 0.4, d = 1.549, n = 4
    """
    check_alternative(alternative)
    check_pairs(before, after)
    was, now = reals(before, "before", at_least=2), reals(after, "after", at_least=2)
    scale = common_scale(was, now)
    numbers = None if groups is None else group_numbers(groups, was.size)
    return student_t(now - was, 0.0, alternative=alternative, scale=scale, what="differences", numbers=numbers)


EXACT_RANKS = 200  # changed pairs up to which the distribution of the rank sum is computed exactly, ties and all
LISTED = 1000  # differences of which all pairwise averages are held


@dataclass(frozen=True)
class WilcoxonTest(
    OneLine, title="Wilcoxon signed-rank test", shown="statistic pvalue alternative rank_biserial interval n_changed n exact"
):
    """Wilcoxon's signed-rank test of paired values.

    Attributes:
        differences: after - before, in the order given; zeros are among them and are not ranked.
        statistic: sum of the ranks of the positive differences.
        pvalue: in (0, 1].
        n: pairs.
        n_changed: pairs that differ.
        exact: whether p comes from the exact distribution given the ranks, or from its normal approximation.
        alternative: "greater" asks whether after is larger.
    """

    differences: tuple[float, ...]
    statistic: float
    pvalue: float
    n: int
    n_changed: int
    exact: bool
    alternative: Alternative

    @property
    def rank_biserial(self) -> float:
        """Effect from -1 to 1: share of the rank sum that is positive minus the share that is negative; 0 if nothing changed."""
        total = self.n_changed * (self.n_changed + 1) / 2
        return 2 * self.statistic / total - 1 if total else 0.0

    def interval(self, confidence: float = 0.95) -> Interval:
        """Interval of the median of the differences' pairwise averages (Hodges and Lehmann).

        The limits come from the exact distribution of the rank sum up to 200 pairs, from its normal approximation above. Fewer
        than 6 pairs cannot give 95%, whatever they are: then there are no limits.

        Raises:
            ValueError: a confidence outside (0, 1).
        """
        return hodges_lehmann_interval(np.array(self.differences), confidence)

    def __str__(self) -> str:
        how = "exact" if self.exact else "normal approximation"
        return (
            f"W = {self.statistic:g}, {format_p(self.pvalue)} ({self.alternative} signed-rank test, {how}), "
            f"rank-biserial {self.rank_biserial:.3f}, {self.n_changed} of {self.n} pairs changed"
        )


def wilcoxon_test(before: ArrayLike, after: ArrayLike, *, alternative: Alternative = "two-sided") -> WilcoxonTest:
    """Wilcoxon's signed-rank test: are the differences after - before symmetric about zero?

    Args:
        before: one value per problem without the intervention.
        after: the same problems, in the same order, with it.
        alternative: "greater" means that after is larger.

    Returns:
        The test; p is 1 when nothing changed. Pairs that do not differ are left out; equal sizes share their mean rank. Up to
        200 changed pairs p is exact given the ranks, with ties too; above, SciPy's normal approximation is used.

    Raises:
        ValueError: unequal lengths, fewer than 2 pairs, NaN or infinite values, two Series whose labels are in different
            orders, or an unknown alternative.

    Source:
        Wilcoxon (1945), Biometrics Bulletin 1; exact distribution with ties as in Pratt and Gibbons (1981).

    Example:
        >>> print(wilcoxon_test([0.1, 0.4, 0.2, 0.3, 0.5], [0.6, 0.7, 0.9, 0.4, 0.5]))
        W = 10, p = 0.1250 (two-sided signed-rank test, exact), rank-biserial 1.000, 4 of 5 pairs changed
    """
    differences = _differences(before, after, alternative)
    changed = differences[differences != 0]
    given, m = tuple(differences.tolist()), int(changed.size)
    if not m:
        return WilcoxonTest(given, 0.0, 1.0, differences.size, 0, True, alternative)
    sizes = np.abs(changed)
    ranks = stats.rankdata(np.round(sizes / sizes.max(), 12))  # sizes that differ by rounding alone are ties
    statistic = float(ranks[changed > 0].sum())
    exact = m <= EXACT_RANKS
    if exact:
        p = _tails(_rank_sums(ranks), round(2 * statistic), alternative)
    else:
        p = float(stats.wilcoxon(changed, alternative=alternative, correction=True, method="asymptotic").pvalue)
    return WilcoxonTest(given, statistic, positive_p(p), differences.size, m, exact, alternative)


@dataclass(frozen=True, eq=False)
class SignFlipTest(OneLine, title="Sign-flip permutation test", shown="statistic pvalue alternative interval null exact n"):
    """A permutation test of a mean difference by flipping the signs of differences.

    Attributes:
        differences: after - before, in the order given.
        statistic: their mean.
        pvalue: in (0, 1].
        n: pairs.
        null: the means under flipped signs; all of them where `exact`, else random ones.
        exact: whether all flips were gone through.
        alternative: "greater" asks whether after is larger.
        groups: each pair's group as a number from 0; None where every pair is its own.
    """

    differences: tuple[float, ...]
    statistic: float
    pvalue: float
    n: int
    null: NDArray[np.float64]
    exact: bool
    alternative: Alternative
    groups: NDArray[np.intp] | None = None

    @property
    def n_groups(self) -> int:
        """How many groups there are, each flipped as a whole."""
        return self.n if self.groups is None else int(self.groups.max()) + 1

    @property
    def smallest_p(self) -> float:
        """The least p that so many flips can give."""
        if not self.exact:
            return 1 / (len(self.null) + 1)
        return min(
            (2 if self.alternative == "two-sided" else 1) / len(self.null), 1.0
        )  # two-sided, a pattern and its opposite are as extreme

    @property
    def cohens_d(self) -> float:
        """Mean over sd of the differences; 0 if there are none, infinite if all are equal."""
        if np.ptp(self.differences) == 0:
            return math.copysign(math.inf, self.statistic) if self.statistic else 0.0
        return self.statistic / float(np.std(self.differences, ddof=1))

    def interval(self, confidence: float = 0.95) -> Interval:
        """Student's interval of the mean difference, by group where there are groups.

        Raises:
            ValueError: a confidence outside (0, 1).
        """
        values = np.array(self.differences)
        return mean_interval(values, self.groups, RELATIVE_NOISE * common_scale(values), confidence)

    def __str__(self) -> str:
        flips = "all" if self.exact else "random"
        return (
            f"mean difference {self.statistic:.4g}, {format_p(self.pvalue)} "
            f"({self.alternative} sign-flip test, {len(self.null)} {flips} flips), n = {self.n}"
            f"{'' if self.groups is None else f' in {self.n_groups} groups'}"
        )


def sign_flip_test(
    before: ArrayLike,
    after: ArrayLike,
    *,
    rng: np.random.Generator,
    groups: ArrayLike | None = None,
    n_resamples: int = 9999,
    alternative: Alternative = "two-sided",
) -> SignFlipTest:
    """Permutation test of the mean difference: under the null, before and after may be exchanged within each problem, or each group.

    Args:
        before: one value per problem without the intervention.
        after: the same problems, in the same order, with it.
        rng: draws the flips.
        groups: one label a problem, where problems of one group (a template, a lexical pair) are not independent: whole groups flip
            together, so that a group's sum of differences is the unit. None: each problem is its own.
        n_resamples: how many; where the changed pairs (or groups) have no more than so many in all, each is gone through once and p is exact.
        alternative: "greater" means that after is larger.

    Returns:
        The test; p = (1 + flips at least as extreme) / (n_resamples + 1), or their share among all flips. Ties count against us.

    Raises:
        ValueError: unequal lengths, fewer than 2 pairs or groups, NaN or infinite values, labels of another length or missing, two
            Series whose labels are in different orders, an unknown alternative, or n_resamples < 1.
        TypeError: rng is no generator.

    Source:
        Fisher (1935), The Design of Experiments, section 21; Phipson and Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9, art. 39.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> print(sign_flip_test([0.1, 0.4, 0.2, 0.3], [0.6, 0.7, 0.9, 0.4], rng=rng))
        mean difference 0.4, p = 0.1250 (two-sided sign-flip test, 16 all flips), n = 4
        >>> print(sign_flip_test([0.1, 0.4, 0.2, 0.3], [0.6, 0.7, 0.9, 0.4], rng=rng, groups=["a", "a", "b", "b"]))
        mean difference 0.4, p = 0.5000 (two-sided sign-flip test, 4 all flips), n = 4 in 2 groups
    """
    check_rng(rng)
    n_resamples = count(n_resamples, "n_resamples", at_least=1)
    differences = _differences(before, after, alternative)
    noise = RELATIVE_NOISE * common_scale(differences)
    n, numbers = differences.size, None if groups is None else group_numbers(groups, differences.size)
    units = differences if numbers is None else np.bincount(numbers, weights=differences).astype(np.float64)
    changed = units[units != 0 if numbers is None else np.abs(units) > noise]
    exact = enumerable(changed.size, n_resamples)
    sums = [block[:, 0] for block in flipped_sums(changed[:, None], n_resamples, rng)]
    null, observed = np.concatenate(sums) / n, float(changed.sum()) / n
    sign = -1.0 if alternative == "less" else 1.0
    scores, score = (np.abs(null), abs(observed)) if alternative == "two-sided" else (sign * null, sign * observed)
    p = float(exceedance(scores, np.array([score]), noise, exact=exact)[0])
    return SignFlipTest(tuple(differences.tolist()), observed, positive_p(p), n, null, exact, alternative, numbers)


def _differences(before: ArrayLike, after: ArrayLike, alternative: Alternative) -> NDArray[np.float64]:
    """After - before, with what is only rounding taken as no difference."""
    check_alternative(alternative)
    check_pairs(before, after)
    was, now = reals(before, "before", at_least=2), reals(after, "after", at_least=2)
    differences = now - was
    noise = RELATIVE_NOISE * common_scale(was, now)
    differences[np.abs(differences) <= noise] = 0.0
    return np.full_like(differences, differences[0]) if np.ptp(differences) <= noise else differences


def _rank_sums(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability of each doubled sum of the ranks whose signs are positive, signs being fair coins."""
    doubled = np.round(2 * ranks).astype(int)
    sums = np.zeros(int(doubled.sum()) + 1)
    sums[0] = 1.0
    for rank in doubled:
        moved = np.zeros_like(sums)
        moved[rank:] = sums[: len(sums) - rank]
        sums = (sums + moved) / 2
    return sums


def _tails(sums: NDArray[np.float64], at: int, alternative: Alternative) -> float:
    greater, less = float(sums[at:].sum()), float(sums[: at + 1].sum())
    return {"greater": greater, "less": less, "two-sided": min(1.0, 2 * min(greater, less))}[alternative]


def hodges_lehmann_interval(differences: NDArray[np.float64], confidence: float) -> Interval:
    """The interval of `WilcoxonTest.interval`."""
    n, tail = differences.size, (1 - open_share(confidence, "confidence")) / 2
    n_averages = n * (n + 1) // 2
    if n <= EXACT_RANKS:
        chances = np.cumsum(_rank_sums(np.arange(1.0, n + 1))[::2])  # doubled sums of whole ranks are even
        place = int((chances <= tail * (1 + RELATIVE_NOISE)).sum()) - 1
    else:
        place = math.floor(n_averages / 2 - float(stats.norm.isf(tail)) * math.sqrt(n * (n + 1) * (2 * n + 1) / 24))
    if place < 0:
        return Interval(-math.inf, math.inf, float(confidence), f"Hodges-Lehmann, {n} pairs are too few")
    ordered = np.sort(differences)
    low, high = (_average(ordered, at) for at in (place, n_averages - 1 - place))
    return Interval(low, high, float(confidence), "Hodges-Lehmann")


def _average(ordered: NDArray[np.float64], place: int) -> float:
    """The average of two values (or of one with itself) at this place among all, from 0; found without listing them where they are many."""
    n = ordered.size
    if n <= LISTED:
        i, j = np.triu_indices(n)
        return float(np.partition((ordered[i] + ordered[j]) / 2, place)[place])
    low, high = float(ordered[0]), float(ordered[-1])
    while low < (middle := low + (high - low) / 2) < high:
        up_to = np.searchsorted(ordered, 2 * middle - ordered, side="right") - np.arange(n)
        low, high = (low, middle) if int(np.maximum(up_to, 0).sum()) > place else (middle, high)
    return high
