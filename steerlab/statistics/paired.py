"""Tests of the same problems before and after an intervention: each problem is its own control."""

from dataclasses import dataclass

from numpy.typing import ArrayLike
from scipy.stats import binom, binomtest

from steerlab._checks import Alternative, check_alternative, check_pairs, common_scale, outcomes, reals
from steerlab._html import html_table
from steerlab.statistics._display import format_p
from steerlab.statistics._student import TTest, positive_p, student_t
from steerlab.statistics.intervals import Interval, newcombe_interval


@dataclass(frozen=True)
class SignTest:
    """What an intervention did to right and wrong answers, and whether chance could have done it.

    Attributes:
        became_right, became_wrong, stayed_right, stayed_wrong: numbers of problems.
        n: all problems.
        statistic: became_right, which is binomial with p = 1/2 among the changed problems if nothing happened.
        p_value: in (0, 1].
        alternative: "greater" asks whether after is better than before.
        mid_p: whether p counts half of the probability of what was observed.
    """

    became_right: int
    became_wrong: int
    stayed_right: int
    stayed_wrong: int
    n: int
    statistic: int
    p_value: float
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
            f"change {self.change:+.4f}, {format_p(self.p_value)} ({self.alternative} sign test{', mid-p' if self.mid_p else ''})"
        )

    def _repr_html_(self) -> str:
        rows = {
            "became right": self.became_right,
            "became wrong": self.became_wrong,
            "stayed right": self.stayed_right,
            "stayed wrong": self.stayed_wrong,
            "n": self.n,
            "change": f"{self.change:+.4f}",
            "interval of the change": self.interval(),
            "p": format_p(self.p_value),
            "alternative": self.alternative,
        }
        return html_table(f"Sign test (McNemar {'mid-p' if self.mid_p else 'exact'})", rows)


def sign_test(before: ArrayLike, after: ArrayLike, *, alternative: Alternative = "two-sided", mid_p: bool = False) -> SignTest:
    """Exact sign test on the problems whose outcome changed, which is McNemar's exact test.

    The exact test never rejects a true null too often, and with few changed problems much less often than its level says.
    The mid-p variant counts only half of the probability of the observed split: its rate of false alarms is nearer to the
    level, and may slightly exceed it.

    Args:
        before: right or wrong for each problem without the intervention; booleans, or integers 0 and 1.
        after: the same problems, in the same order, with it.
        alternative: "greater" means that after is better.
        mid_p: use the mid-p variant.

    Returns:
        The counts and the p-value; p is 1 when no outcome changed. Problems are taken as independent of each other.

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
        p_value = _mid_p(became_right, changed, alternative)
    else:
        p_value = binomtest(became_right, changed, 0.5, alternative=alternative).pvalue if changed else 1.0
    return SignTest(
        became_right=became_right,
        became_wrong=became_wrong,
        stayed_right=int((was & now).sum()),
        stayed_wrong=int((~was & ~now).sum()),
        n=int(was.size),
        statistic=became_right,
        p_value=positive_p(p_value),
        alternative=alternative,
        mid_p=bool(mid_p),
    )


def _mid_p(became_right: int, changed: int, alternative: Alternative) -> float:
    if not changed:
        return 1.0
    half = binom.pmf(became_right, changed, 0.5) / 2
    greater, less = (float(tail(became_right, changed, 0.5)) + half for tail in (binom.sf, lambda k, n, p: binom.cdf(k - 1, n, p)))
    return {"greater": greater, "less": less, "two-sided": min(1.0, 2 * min(greater, less))}[alternative]


def paired_t_test(before: ArrayLike, after: ArrayLike, *, alternative: Alternative = "two-sided") -> TTest:
    """Paired t-test of the mean difference after - before, for real values such as margins.

    Args:
        before: one value per problem without the intervention.
        after: the same problems, in the same order, with it; the same units.
        alternative: "greater" means that after is larger.

    Returns:
        The test; p is 1 when every difference is zero. It assumes independent problems and differences that are
        roughly normal, or many.

    Raises:
        ValueError: unequal lengths, fewer than 2 pairs, NaN or infinite values, two Series whose labels are in
            different orders, an unknown alternative, or differences that are all equal and not zero.

    Source:
        Student (1908), Biometrika 6; computed by SciPy.

    Example:
        >>> print(paired_t_test([0.1, 0.4, 0.2, 0.3], [0.6, 0.7, 0.9, 0.4]))
        t(3) = 3.098, p = 0.0534 (two-sided), mean 0.4, d = 1.549, n = 4
    """
    check_alternative(alternative)
    check_pairs(before, after)
    was, now = reals(before, "before", at_least=2), reals(after, "after", at_least=2)
    scale = common_scale(was, now)
    return student_t(now - was, 0.0, alternative=alternative, scale=scale, what="differences")
