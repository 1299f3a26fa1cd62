"""The statistics against SciPy, statsmodels and calculations by hand."""

import math
from itertools import product

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep, proportion_confint

import steerlab.statistics as st

ALTERNATIVES = ("two-sided", "greater", "less")
# (became_right, became_wrong, stayed_right, stayed_wrong)
TABLES = [
    (12, 2, 20, 16),
    (2, 12, 20, 16),
    (5, 0, 14, 22),
    (1, 7, 1, 12),
    (0, 1, 0, 3),
    (40, 31, 200, 90),
    (3, 3, 4, 0),
]


def outcomes(became_right: int, became_wrong: int, stayed_right: int, stayed_wrong: int):
    sizes = [became_right, became_wrong, stayed_right, stayed_wrong]
    return np.repeat([0, 1, 1, 0], sizes), np.repeat([1, 0, 1, 0], sizes)


@pytest.mark.parametrize("counts", TABLES)
def test_the_sign_test_is_mcnemars_exact_test(counts):
    """Oracle: statsmodels' mcnemar(exact=True) for two sides, SciPy's binomial tails for one."""
    right, wrong, stayed_right, stayed_wrong = counts
    expected = mcnemar([[stayed_right, wrong], [right, stayed_wrong]], exact=True).pvalue
    assert st.sign_test(*outcomes(*counts)).pvalue == pytest.approx(min(expected, 1.0))
    greater = st.sign_test(*outcomes(*counts), alternative="greater").pvalue
    less = st.sign_test(*outcomes(*counts), alternative="less").pvalue
    assert greater == pytest.approx(stats.binom.sf(right - 1, right + wrong, 0.5))
    assert less == pytest.approx(stats.binom.cdf(right, right + wrong, 0.5))


def test_the_sign_test_of_armitage_and_berry():
    """Oracle: the two media for tubercle bacilli of Armitage and Berry (1994, p. 127); p = 0.0129 in StatsDirect."""
    assert st.sign_test(*outcomes(12, 2, 20, 16)).pvalue == pytest.approx(0.0129, abs=5e-5)


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (5, 5), (17, 86), (1, 1), (500, 1319)])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_wilsons_interval(successes, n, confidence):
    """Oracle: statsmodels."""
    expected = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    assert tuple(st.wilson_interval(successes, n, confidence=confidence)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("counts", [(3, 4, 6, 2), (5, 0, 9, 0), (0, 0, 1, 1), (10, 6, 12, 6), (1, 1, 1, 1)])
def test_without_correlation_the_paired_interval_is_newcombes_interval_for_independent_samples(counts):
    """Oracle: statsmodels. In these tables 0 <= ad - bc <= n / 2, or a margin is empty, so the corrected phi is 0."""
    right, wrong, stayed_right, stayed_wrong = counts
    n = sum(counts)
    assert 0 <= stayed_right * stayed_wrong - right * wrong <= n / 2
    expected = confint_proportions_2indep(right + stayed_right, n, wrong + stayed_right, n, method="newcomb")
    assert tuple(st.paired_interval(*outcomes(*counts))) == pytest.approx(expected, abs=1e-12)


def test_the_paired_interval_by_hand_when_outcomes_agree():
    """Oracle: Newcombe's method 10 by hand for Armitage and Berry's table 20, 12, 2, 16 (z = 1.959964).

    Right after: 32/50 = 0.64, Wilson 0.501404 to 0.758561. Right before: 22/50 = 0.44, Wilson 0.311557 to 0.576911.
    ad - bc = 320 - 24 = 296, less n/2 = 271; phi = 271 / sqrt(32 * 18 * 22 * 28) = 271 / 595.664 = 0.454955.
    below = sqrt(0.138596^2 + 0.136911^2 - 2 phi 0.138596 * 0.136911) = 0.143844
    above = sqrt(0.118561^2 + 0.128443^2 - 2 phi 0.118561 * 0.128443) = 0.129207
    """
    low, high = st.paired_interval(*outcomes(12, 2, 20, 16))
    assert low == pytest.approx(0.2 - 0.143844, abs=2e-6)
    assert high == pytest.approx(0.2 + 0.129207, abs=2e-6)


def test_the_paired_interval_by_hand_when_outcomes_oppose():
    """Oracle: Newcombe's method 10 by hand for the table a = 1, b = 4, c = 3, d = 2; a negative phi is not corrected.

    ad - bc = 2 - 12 = -10; phi = -10 / sqrt(5 * 5 * 4 * 6) = -10 / 24.4949 = -0.408248. After 5/10, before 4/10.
    Wilson with z^2 = 3.841459: centre (x + z^2/2) / (n + z^2), half-width z sqrt(x (n - x) / n + z^2/4) / (n + z^2).
    """
    z2, n = stats.norm.isf(0.025) ** 2, 10
    after, before = (((x + z2 / 2) / (n + z2), math.sqrt(z2 * (x * (n - x) / n + z2 / 4)) / (n + z2)) for x in (5, 4))
    phi = -10 / math.sqrt(600)
    below = (0.5 - (after[0] - after[1]), before[0] + before[1] - 0.4)
    above = (after[0] + after[1] - 0.5, 0.4 - (before[0] - before[1]))
    expected = (
        0.1 - math.sqrt(below[0] ** 2 + below[1] ** 2 - 2 * phi * below[0] * below[1]),
        0.1 + math.sqrt(above[0] ** 2 + above[1] ** 2 - 2 * phi * above[0] * above[1]),
    )
    assert tuple(st.paired_interval(*outcomes(4, 3, 1, 2))) == pytest.approx(expected, abs=1e-12)


def paired_table_probabilities(n: int, after: float, before: float, both: float):
    """Every paired table of n problems with its multinomial probability."""
    shares = [after - both, before - both, both, 1 - after - before + both]
    tables = [t for t in product(range(n + 1), repeat=4) if sum(t) == n]
    return tables, stats.multinomial.pmf(tables, n, shares)


@pytest.mark.slow
def test_the_paired_interval_covers_the_true_change_about_as_often_as_it_says():
    """Oracle: exact coverage by summing over all tables of n = 16, for independent and for correlated outcomes."""
    for after, before, both in [(0.5, 0.5, 0.25), (0.7, 0.5, 0.45), (0.3, 0.6, 0.25)]:
        tables, weights = paired_table_probabilities(16, after, before, both)
        limits = [st.paired_interval(*outcomes(*t)) for t in tables]
        covered = [i.low <= after - before <= i.high for i in limits]
        assert 0.93 < float(weights @ covered) < 0.99


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_the_paired_t_test(alternative):
    """Oracle: SciPy's ttest_rel."""
    rng = np.random.default_rng(0)
    before = rng.normal(size=30)
    after = before + rng.normal(0.3, 1, size=30)
    expected = stats.ttest_rel(after, before, alternative=alternative)
    result = st.paired_t_test(before, after, alternative=alternative)
    assert (result.statistic, result.pvalue, result.df) == pytest.approx((expected.statistic, expected.pvalue, 29))
    two_sided = stats.ttest_rel(after, before).confidence_interval(0.9)
    assert tuple(result.interval(0.9)) == pytest.approx(tuple(two_sided))
    assert result.cohens_d == pytest.approx(expected.statistic / math.sqrt(30))


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_the_one_sample_t_test(alternative):
    """Oracle: SciPy's ttest_1samp."""
    values = np.random.default_rng(1).normal(size=12)
    expected = stats.ttest_1samp(values, 0.4, alternative=alternative)
    result = st.one_sample_t_test(values, 0.4, alternative=alternative)
    assert (result.statistic, result.pvalue, result.df) == pytest.approx((expected.statistic, expected.pvalue, 11))
    assert tuple(result.interval()) == pytest.approx(tuple(stats.ttest_1samp(values, 0.4).confidence_interval()))
    assert result.cohens_d == pytest.approx((values.mean() - 0.4) / values.std(ddof=1))


def test_five_random_directions_that_lost_1_2_5_10_and_11_problems_against_a_loss_of_11():
    """Oracle: by hand, the published control experiment (86 problems, 28 right at first).

    One of five controls ties, so p = 2/6 below. Mean -5.8, sum of squares 82.8, sd = sqrt(20.7) = 4.549725;
    t = 5.2 / (4.549725 / sqrt(5)) = 2.5557 on 4 df, and d = -5.2 / 4.549725 = -1.1429.
    """
    controls = [-1, -2, -5, -10, -11]
    rank = st.rank_test(-11, controls, alternative="less")
    t = st.one_sample_t_test(controls, -11)
    assert (rank.exceeds, rank.pvalue) == (1, 2 / 6)
    assert t.statistic == pytest.approx(2.5557, abs=1e-4)
    assert t.pvalue == pytest.approx(2 * stats.t.sf(2.5557, 4), abs=1e-4)
    assert t.pvalue > 0.05
    assert st.cohens_d(-11, controls) == pytest.approx(-1.1429, abs=1e-4)


@pytest.mark.parametrize("alternative", ["greater", "less"])
def test_the_rank_test_is_scipys_monte_carlo_test_with_the_controls_as_draws(alternative):
    """Oracle: SciPy's monte_carlo_test, handed the controls where it would draw at random; with ties."""
    rng = np.random.default_rng(2)
    for _ in range(10):
        observed, *controls = rng.integers(0, 6, size=9).astype(float)
        draws = np.repeat(np.array(controls)[:, None], 2, axis=1)
        expected = stats.monte_carlo_test(
            [observed, observed],
            lambda size, draws=draws: draws,
            lambda x, axis: x.mean(axis=axis),
            vectorized=True,
            n_resamples=len(controls),
            alternative=alternative,
        )
        assert st.rank_test(observed, controls, alternative=alternative).pvalue == pytest.approx(expected.pvalue)


def test_the_two_sided_rank_test_by_hand():
    """Oracle: by hand. The median of 0, 1, 4, 5, 9 is 4; distances 4, 3, 0, 1, 5."""
    assert st.rank_test(9, [0, 1, 4, 5]).pvalue == 1 / 5
    assert st.rank_test(0, [9, 1, 4, 5]).pvalue == 2 / 5
    assert st.rank_test(1, [0, 9, 4, 5]).pvalue == 3 / 5
    assert st.rank_test(4, [0, 1, 9, 5]).pvalue == 1


@pytest.mark.parametrize(("ours", "name"), [(st.holm, "holm"), (st.benjamini_hochberg, "fdr_bh")])
@pytest.mark.parametrize("size", [1, 2, 13, 200])
def test_adjusted_p_values(ours, name, size):
    """Oracle: statsmodels, among small p-values, with ties and zeros."""
    p = np.random.default_rng(size).beta(0.1, 2, size=size)
    p[size // 2 :] = p[size // 2 :].round(2)
    assert ours(p) == pytest.approx(multipletests(p, method=name)[1])


def test_the_smallest_detectable_change_by_hand():
    """Oracle: by hand. Of 6 changed problems only 6 : 0 is significant, so w^6 + (1 - w)^6 = power, change = 2w - 1."""
    change = st.smallest_detectable_change(6, discordant=1.0, power=0.8)
    wins = (1 + change) / 2
    assert wins**6 + (1 - wins) ** 6 == pytest.approx(0.8)


@pytest.mark.parametrize(("n", "discordant", "level", "power"), [(14, 0.7, 0.05, 0.8), (20, 0.5, 0.1, 0.5), (5, 1.0, 0.0625, 0.6)])
def test_the_smallest_detectable_change_has_the_power_it_promises(n, discordant, level, power):
    """Oracle: the trinomial probability of every outcome whose sign test, run on data, has p <= level."""
    change = st.smallest_detectable_change(n, discordant=discordant, level=level, power=power)
    shares = [(discordant + change) / 2, (discordant - change) / 2, 1 - discordant]
    detected = 0.0
    for right in range(n + 1):
        for wrong in range(n + 1 - right):
            if st.sign_test(*outcomes(right, wrong, n - right - wrong, 0)).pvalue <= level:
                detected += stats.multinomial.pmf([right, wrong, n - right - wrong], n, shares)
    assert detected == pytest.approx(power, abs=1e-9)


def test_a_power_that_no_change_reaches_is_none_exactly_there():
    """Oracle: by hand. All n problems change one way with probability discordant each; 6 or more are needed."""
    reachable = stats.binom.sf(5, 10, 0.6)
    assert st.smallest_detectable_change(10, discordant=0.6, power=reachable - 1e-6) == pytest.approx(0.6, abs=1e-4)
    assert st.smallest_detectable_change(10, discordant=0.6, power=reachable + 1e-6) is None
