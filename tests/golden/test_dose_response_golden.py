"""The dose-response against SciPy, statsmodels and calculations by hand."""

import math
from itertools import product

import numpy as np
import pytest
import statsmodels.api as sm
from scipy import stats

import steerlab.statistics as st

ALTERNATIVES = ("two-sided", "greater", "less")
ALPHAS = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])


def outcomes(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((n, ALPHAS.size)) < 0.5 + 0.1 * ALPHAS


def test_the_permutation_trend_test_is_pages_exact_test():
    """Oracle: SciPy's page_trend_test, exact, for 4 problems and 3 alphas, without ties within a problem."""
    for seed in range(5):
        values = np.random.default_rng(seed).normal([0, 0.5, 1], 1, size=(4, 3))
        expected = stats.page_trend_test(values, method="exact")
        result = st.trend_test([1, 2, 3], values, rng=np.random.default_rng(0), null="permutation", alternative="greater")
        assert result.exact
        assert (result.statistic, result.pvalue) == pytest.approx((expected.statistic, expected.pvalue))


def test_the_permutation_trend_test_has_pages_normal_approximation():
    """Oracle: SciPy's page_trend_test: its asymptotic p for z, its statistic for L, and its p for random draws of ours."""
    values = np.random.default_rng(1).normal(0.1 * ALPHAS, 1, size=(30, 5))
    expected = stats.page_trend_test(values, method="asymptotic")
    result = st.trend_test(ALPHAS, values, rng=np.random.default_rng(0), null="permutation", alternative="greater", n_resamples=4000)
    assert result.statistic == expected.statistic
    assert stats.norm.sf(result.z) == pytest.approx(expected.pvalue)
    assert result.pvalue == pytest.approx(expected.pvalue, abs=0.02)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("values", [outcomes(6), np.random.default_rng(2).normal(0.3 * ALPHAS, 1, size=(6, 5))], ids=["binary", "real"])
def test_the_reversal_trend_test_counts_pages_l_over_all_reversals(values, alternative):
    """Oracle: all 2^6 ways to reverse problems by hand, with the L of SciPy's page_trend_test."""
    values = np.asarray(values, dtype=float)
    draws = np.array(
        [
            stats.page_trend_test([row[::turn] for row, turn in zip(values, turns, strict=True)], method="asymptotic").statistic
            for turns in product([1, -1], repeat=6)
        ]
    )
    away = draws - 6 * 5 * 36 / 4
    as_extreme = {"two-sided": abs(away) >= abs(away[0]), "greater": away >= away[0], "less": away <= away[0]}[alternative]
    result = st.trend_test(ALPHAS, values, rng=np.random.default_rng(0), alternative=alternative)
    assert result.null == "reversal"
    assert (result.statistic, result.expected) == (draws[0], 270)
    assert result.pvalue == pytest.approx(as_extreme.mean())


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_the_trend_of_means_is_the_permutation_test_of_spearmans_rho(alternative):
    """Oracle: SciPy's permutation_test over all pairings, with spearmanr; a tie among the means."""
    means = [0.2, 0.4, 0.35, 0.4, 0.8]
    expected = stats.permutation_test(
        (means,),
        lambda x: stats.spearmanr(x, ALPHAS).statistic,
        permutation_type="pairings",
        n_resamples=np.inf,
        alternative=alternative,
    )
    # SciPy's two-sided p is twice the smaller tail; ours counts distances from the expectation, of a null that is symmetric.
    result = st.trend_test(ALPHAS, means, rng=np.random.default_rng(0), alternative=alternative)
    assert result.pvalue == pytest.approx(expected.pvalue)


def test_the_line_through_means_is_ordinary_regression():
    """Oracle: statsmodels' OLS."""
    means = np.array([0.2, 0.4, 0.35, 0.6, 0.8])
    fit = sm.OLS(means, sm.add_constant(ALPHAS)).fit()
    line = st.linear_fit(ALPHAS, means)
    assert (line.intercept, line.slope) == pytest.approx(tuple(fit.params))
    assert tuple(line.intercept_interval(0.9)) == pytest.approx(tuple(fit.conf_int(0.1)[0]))
    assert tuple(line.interval(0.9)) == pytest.approx(tuple(fit.conf_int(0.1)[1]))


def test_the_line_over_problems_is_regression_with_errors_clustered_by_problem():
    """Oracle: statsmodels' OLS of all outcomes with clustered errors, of which ours are sqrt(n / (n - 1))."""
    values = outcomes(25).astype(float)
    alphas = np.array([0.0, 0.5, 1.0, 2.0, 4.0])
    design = sm.add_constant(np.tile(alphas, 25))
    groups = np.repeat(np.arange(25), 5)
    fit = sm.OLS(values.ravel(), design).fit(cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False})
    line = st.linear_fit(alphas, values)
    assert (line.intercept, line.slope) == pytest.approx(tuple(fit.params))
    assert (line.intercept_error, line.slope_error) == pytest.approx(tuple(fit.bse * math.sqrt(25 / 24)))
    slopes = [stats.linregress(alphas, row).slope for row in values]
    assert tuple(line.interval()) == pytest.approx(tuple(stats.ttest_1samp(slopes, 0).confidence_interval()))


@pytest.mark.parametrize("seed", range(5))
def test_the_isotonic_fit_is_the_max_min_of_block_means(seed):
    """Oracle: by hand, the max-min formula of Barlow et al. (1972)."""
    means = np.random.default_rng(seed).normal(size=8)
    expected = [max(min(means[i : k + 1].mean() for k in range(j, 8)) for i in range(j + 1)) for j in range(8)]
    fit = st.isotonic_fit(np.arange(8), means, rng=np.random.default_rng(0), increasing=True)
    assert fit.fitted == pytest.approx(expected)


def test_the_isotonic_interval_is_that_of_bootstrapped_means_where_nothing_is_pooled():
    """Oracle: by hand. Far apart, every draw rises, and the mean's percentiles are nearly those of a normal mean."""
    values = np.random.default_rng(5).normal([0, 10, 20], 1, size=(200, 3))
    frame = st.isotonic_fit([0, 1, 2], values, rng=np.random.default_rng(0), n_resamples=4000).interval(0.95)
    half = 1.96 * values.std(axis=0) / math.sqrt(200)
    assert frame["fitted"].to_numpy() == pytest.approx(values.mean(axis=0))
    assert frame["low"].to_numpy() == pytest.approx(values.mean(axis=0) - half, abs=0.015)
    assert frame["high"].to_numpy() == pytest.approx(values.mean(axis=0) + half, abs=0.015)


def test_spearmans_rho():
    """Oracle: SciPy's spearmanr of the means, with ties; for outcomes too."""
    rng = np.random.default_rng(0)
    for values in ([0.2, 0.4, 0.35, 0.4, 0.8], [1, 0, 0, 0, -1]):
        assert st.spearman(ALPHAS, values, rng=rng).rho == pytest.approx(stats.spearmanr(ALPHAS, values).statistic)
    table = outcomes(9)
    expected = stats.spearmanr(ALPHAS, table.mean(axis=0)).statistic
    assert st.spearman(ALPHAS, table, rng=rng, n_resamples=9).rho == pytest.approx(expected)


def test_the_interval_of_rho_from_means_by_hand():
    """Oracle: Bonett and Wright by hand for rho = 0.9 and 5 pairs.

    atanh 0.9 = 1.472219; error sqrt((1 + 0.81 / 2) / 2) = 0.838153; 1.959964 * 0.838153 = 1.642749;
    tanh(-0.170530) = -0.168896, tanh(3.114968) = 0.996069.
    """
    interval = st.spearman([0, 1, 2, 3, 4], [0.1, 0.3, 0.2, 0.6, 0.7], rng=np.random.default_rng(0)).interval()
    assert tuple(interval) == pytest.approx((-0.168896, 0.996069), abs=2e-6)


def test_the_asymmetry_by_hand():
    """Oracle: by hand from the means, and SciPy's t interval of each problem's average of the two sums.

    From 0.5 at alpha = 0: +0.1 and -0.3 at size 1 (sum -0.2), +0.2 and -0.1 at size 2 (sum 0.1); average -0.05.
    """
    result = st.asymmetry(ALPHAS, [0.4, 0.2, 0.5, 0.6, 0.7])
    assert result.frame["amplification"].tolist() == pytest.approx([0.1, 0.2])
    assert result.frame["suppression"].tolist() == pytest.approx([-0.3, -0.1])
    assert result.frame["total"].tolist() == pytest.approx([-0.2, 0.1])
    assert result.mean == pytest.approx(-0.05)
    values = outcomes(20).astype(float)
    sums = (values[:, 4] + values[:, 0] + values[:, 3] + values[:, 1]) / 2 - 2 * values[:, 2]
    by_problem = st.asymmetry(ALPHAS, values)
    assert by_problem.mean == pytest.approx(sums.mean())
    assert tuple(by_problem.interval(0.9)) == pytest.approx(tuple(stats.ttest_1samp(sums, 0).confidence_interval(0.9)))


def test_the_largest_reversal_of_one_pair_is_a_one_sided_sign_test():
    """Oracle: the exact sign test of the only two alphas that differ; no other pair steps back further."""
    peak = np.repeat([1, 0], [9, 3])
    values = np.stack([np.zeros(12), peak, peak - np.repeat([1, 0], [7, 5])], axis=1)
    result = st.largest_reversal([0, 1, 2], values, rng=np.random.default_rng(0), increasing=True)
    assert (result.alpha_from, result.alpha_to, result.size) == (1, 2, pytest.approx(7 / 12))
    # The pairs (0, 1) and (0, 2) can reach 7 / 12 too when flipped, so the adjusted p is larger; all 2^9 flips by hand.
    pairs = np.stack([-values[:, 1], -values[:, 2], values[:, 1] - values[:, 2]], axis=1)[:9]
    null = [(np.array(signs)[:, None] * pairs).sum(axis=0).max() for signs in product([1, -1], repeat=9)]
    assert result.pvalue == pytest.approx(np.mean(np.array(null) >= 7))
    assert result.pvalue > st.sign_test(np.zeros(12, bool), values[:, 1] > values[:, 2], alternative="greater").pvalue
