"""Paired tests, bootstrap and effect sizes against SciPy, statsmodels and calculations by hand."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.proportion import proportion_confint, proportion_effectsize
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW

import steerlab.statistics as st

ALTERNATIVES = ("two-sided", "greater", "less")
STATSMODELS = {"two-sided": "two-sided", "greater": "larger", "less": "smaller"}


def outcomes(became_right: int, became_wrong: int):
    return np.repeat([0, 1], [became_right, became_wrong]), np.repeat([1, 0], [became_right, became_wrong])


def sample(seed: int, n: int, *, ties: bool = False):
    rng = np.random.default_rng(seed)
    before, after = rng.normal(size=n), rng.normal(0.4, 1.3, n)
    return (before.round(0), after.round(0)) if ties else (before, after)


@pytest.mark.parametrize(("right", "wrong"), [(12, 2), (2, 12), (5, 0), (7, 6)])
def test_mid_p_is_the_exact_p_without_the_probability_of_what_was_observed(right, wrong):
    """Oracle: statsmodels' mcnemar and SciPy's binomial, combined as in Fagerland, Lydersen and Laake (2013), formula 5."""
    exact = mcnemar([[0, wrong], [right, 0]], exact=True).pvalue
    expected = exact - stats.binom.pmf(right, right + wrong, 0.5)
    assert st.sign_test(*outcomes(right, wrong), mid_p=True).pvalue == pytest.approx(expected)


def test_mid_p_of_the_airway_data():
    """Oracle: Fagerland, Lydersen and Laake (2013), section 4: 1 and 7 discordant pairs, exact p = 0.070, mid-p = 0.039."""
    assert st.sign_test(*outcomes(1, 7)).pvalue == pytest.approx(0.070, abs=5e-4)
    assert st.sign_test(*outcomes(1, 7), mid_p=True).pvalue == pytest.approx(0.039, abs=5e-4)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("n", [4, 9, 30])
def test_signed_ranks_without_ties(n, alternative):
    """Oracle: SciPy's exact wilcoxon."""
    before, after = sample(n, n)
    expected = stats.wilcoxon(after - before, alternative=alternative, method="exact")
    result = st.wilcoxon_test(before, after, alternative=alternative)
    assert result.pvalue == pytest.approx(expected.pvalue)
    total = n * (n + 1) / 2
    assert expected.statistic in (result.statistic, pytest.approx(min(result.statistic, total - result.statistic)))


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_signed_ranks_with_ties_are_all_flips_of_the_ranks(alternative):
    """Oracle: SciPy's permutation test of the rank sum, all 2^n flips of the ranked differences."""
    before, after = sample(3, 11, ties=True)
    changed = (after - before)[after != before]
    ranks = stats.rankdata(np.abs(changed)) * np.sign(changed)
    expected = stats.permutation_test(
        (ranks,), lambda x, axis: x.sum(axis), permutation_type="samples", n_resamples=np.inf, alternative=alternative, vectorized=True
    )
    assert st.wilcoxon_test(before, after, alternative=alternative).pvalue == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_signed_ranks_of_many_pairs(alternative):
    """Oracle: SciPy's normal approximation."""
    before, after = sample(8, 400)
    expected = stats.wilcoxon(after - before, alternative=alternative, correction=True, method="asymptotic").pvalue
    result = st.wilcoxon_test(before, after, alternative=alternative)
    assert not result.exact
    assert result.pvalue == pytest.approx(expected)


def test_the_hodges_lehmann_interval_of_ten_differences():
    """Oracle: by hand. Of the 55 averages of pairs of 1 to 10, sorted, the 8th smallest and largest (normal approximation: 8.26)."""
    averages = sorted((i + j) / 2 for i in range(1, 11) for j in range(i, 11))
    low, high = st.wilcoxon_test(np.zeros(10), np.arange(1, 11)).interval(0.95)
    assert (low, high) == (averages[8], averages[-9])


@pytest.mark.parametrize("alternative", ["greater", "less"])
def test_sign_flips_are_all_gone_through(alternative):
    """Oracle: SciPy's permutation test of paired samples, exact; one-sided, because SciPy doubles where we take absolute means."""
    before, after = sample(5, 12)
    expected = stats.permutation_test(
        (after, before),
        lambda x, y, axis: (x - y).mean(axis),
        permutation_type="samples",
        n_resamples=np.inf,
        alternative=alternative,
        vectorized=True,
    )
    result = st.sign_flip_test(before, after, rng=np.random.default_rng(0), alternative=alternative)
    assert result.exact
    assert result.pvalue == pytest.approx(expected.pvalue)
    assert result.statistic == pytest.approx(expected.statistic)


def test_random_flips_come_near_all_flips():
    """Oracle: all 2^14 flips; 20,000 random ones lie within four standard errors."""
    before, after = sample(6, 14)
    every = st.sign_flip_test(before, after, rng=np.random.default_rng(0), n_resamples=2**14)
    some = st.sign_flip_test(before, after, rng=np.random.default_rng(0), n_resamples=12000)
    assert every.exact
    assert not some.exact
    assert abs(some.pvalue - every.pvalue) < 4 * (every.pvalue * (1 - every.pvalue) / 12000) ** 0.5 + 1e-4


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_welchs_test(alternative):
    """Oracle: statsmodels' CompareMeans with unequal variances."""
    first, second = sample(2, 13)[0], sample(4, 9)[1]
    compared = CompareMeans(DescrStatsW(first), DescrStatsW(second))
    t, p, df = compared.ttest_ind(alternative=STATSMODELS[alternative], usevar="unequal")
    result = st.welch_t_test(first, second, alternative=alternative)
    assert (result.statistic, result.pvalue, result.df) == pytest.approx((t, p, df))
    assert tuple(result.interval(0.9)) == pytest.approx(compared.tconfint_diff(alpha=0.1, usevar="unequal"))


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_the_prediction_test_is_a_two_sample_test_with_one_observation(alternative):
    """Oracle: SciPy's pooled t-test of samples of 1 and K, which is Crawford and Howell's test."""
    controls = sample(1, 9)[0]
    expected = stats.ttest_ind([2.5], controls, equal_var=True, alternative=alternative)
    result = st.prediction_test(2.5, controls, alternative=alternative)
    assert (result.statistic, result.pvalue) == pytest.approx((expected.statistic, expected.pvalue))


def test_the_prediction_interval():
    """Oracle: by hand, mean 3, sd 1.5811, t(4) at 97.5% = 2.7764, so 3 ± 4.809."""
    assert tuple(st.prediction_test(0.0, [1, 2, 3, 4, 5]).interval()) == pytest.approx((3 - 4.8089, 3 + 4.8089), abs=1e-4)


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (5, 5), (17, 86), (500, 1319)])
def test_the_clopper_pearson_interval(successes, n):
    """Oracle: statsmodels."""
    assert tuple(st.clopper_pearson_interval(successes, n)) == pytest.approx(proportion_confint(successes, n, method="beta"), abs=1e-9)


def test_cohens_h():
    """Oracle: statsmodels."""
    assert st.cohens_h(0.31, 0.62) == pytest.approx(proportion_effectsize(0.62, 0.31))


def test_the_interval_of_d_inverts_the_noncentral_t():
    """Oracle: SciPy's noncentral t: at each limit the observed t has the stated tail."""
    values = sample(7, 15)[1]
    low, high = st.effect_size(values, corrected=False).interval(0.9)
    t = stats.ttest_1samp(values, 0).statistic
    assert stats.nct.sf(t, 14, low * 15**0.5) == pytest.approx(0.05)
    assert stats.nct.cdf(t, 14, high * 15**0.5) == pytest.approx(0.05)


def test_the_interval_is_of_the_true_effect_however_it_is_estimated():
    """Oracle: Steiger and Fouladi (1997): the noncentrality is sqrt(n) times the true effect, whatever the estimate."""
    values = sample(7, 6)[1]
    assert st.effect_size(values).interval() == st.effect_size(values, corrected=False).interval()


def test_the_interval_of_a_huge_effect_inverts_the_noncentral_t():
    """Oracle: SciPy's noncentral t at the limits; on the way there it gives NaN for some noncentralities."""
    values = np.array([0.9, 1.0, 1.1, 1.0, 0.95]) / 5 + 1
    low, high = st.effect_size(values).interval()
    t = stats.ttest_1samp(values, 0).statistic
    assert stats.nct.sf(t, 4, low * 5**0.5) == pytest.approx(0.025)
    assert stats.nct.cdf(t, 4, high * 5**0.5) == pytest.approx(0.025)


def test_the_small_sample_correction():
    """Oracle: Hedges (1981), table of c(m): c(2) = 0.5642, c(10) = 0.9228, c(50) = 0.9849."""
    for df, factor in [(2, 0.5642), (10, 0.9228), (50, 0.9849)]:
        values = np.arange(df + 1.0)
        ratio = st.effect_size(values).value / st.effect_size(values, corrected=False).value
        assert ratio == pytest.approx(factor, abs=1e-4)


def test_the_odds_ratio_of_discordant_pairs():
    """Oracle: by hand from SciPy's beta quantiles of 12 of 14."""
    low, high = stats.beta.ppf(0.025, 12, 3), stats.beta.ppf(0.975, 13, 2)
    result = st.discordant_odds_ratio(*outcomes(12, 2))
    assert result.value == 6
    assert tuple(result.interval()) == pytest.approx((low / (1 - low), high / (1 - high)))


@pytest.mark.parametrize("method", ["BCa", "percentile"])
def test_the_bootstrap_of_skewed_values(method):
    """Oracle: SciPy's bootstrap with resamples of its own, so to Monte Carlo error."""
    values = np.random.default_rng(1).exponential(size=40)
    ours = st.bootstrap(values, rng=np.random.default_rng(2), n_resamples=20_000).interval(method=method)
    theirs = stats.bootstrap((values,), np.mean, method=method, n_resamples=20_000, rng=np.random.default_rng(3)).confidence_interval
    assert tuple(ours) == pytest.approx((theirs.low, theirs.high), abs=0.02)


def test_clusters_of_copies_count_once():
    """Oracle: by hand. Ten values, each five times over, have the standard error of ten values: sd / sqrt(10)."""
    values = np.random.default_rng(4).normal(size=10)
    found = st.bootstrap(np.repeat(values, 5), rng=np.random.default_rng(5), groups=np.repeat(np.arange(10), 5))
    assert found.standard_error == pytest.approx(values.std() / math.sqrt(10), rel=0.03)


def test_the_share_moved_the_wrong_way():
    """Oracle: by hand, and statsmodels' Wilson interval."""
    found = st.anti_steerable_share([0, 0, 0, 0, 0], [1, 2, -1, 0, 3])
    assert (found.right_way, found.wrong_way, found.unmoved) == (3, 1, 1)
    assert tuple(found.interval()) == pytest.approx(proportion_confint(1, 5, method="wilson"))


@pytest.mark.parametrize(("n", "place"), [(6, 0), (7, 2), (8, 3), (9, 5), (20, 52)])
def test_the_hodges_lehmann_limits_are_those_of_the_exact_rank_sum(n, place):
    """Oracle: Wilcoxon's two-sided 5% critical values (0, 2, 3, 5, 52 in every table), the place of the limits counted from 0."""
    rng = np.random.default_rng(n)
    values = rng.normal(size=n)
    averages = np.sort([(values[i] + values[j]) / 2 for i in range(n) for j in range(i, n)])
    assert tuple(st.wilcoxon_test(np.zeros(n), values).interval()) == (averages[place], averages[-1 - place])


def test_the_interval_of_a_huge_effect_is_that_of_its_standard_deviation():
    """Oracle: chi-square. Where the mean is all but known, d varies as one over the sample's standard deviation."""
    values = np.random.default_rng(0).normal(size=50)
    values = (values - values.mean()) / values.std(ddof=1)
    for d in (1e5, -1e9):
        expected = sorted(d * np.sqrt(stats.chi2.ppf([0.025, 0.975], 49) / 49))
        assert tuple(st.effect_size(values + d, corrected=False).interval()) == pytest.approx(expected, rel=1e-4)
