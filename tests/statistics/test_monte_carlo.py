"""P-values by chance are exact shares: (1 + draws at least as extreme) / (1 + draws), counted here from the draws that results keep."""

from itertools import combinations, permutations, product

import numpy as np
import pytest
from scipy.stats import norm, rankdata

import steerlab.statistics as st

ALTERNATIVES = ["two-sided", "greater", "less"]
ORIENTED = {"two-sided": np.abs, "greater": np.positive, "less": np.negative}


def chance(seed=1):
    return np.random.default_rng(seed)


def share(draws, observed, alternative, exact):
    """Oracle: a count. Ties are among those that are as extreme, and random draws do not hold the observed value, so it is added."""
    extreme = int((ORIENTED[alternative](draws) >= ORIENTED[alternative](observed) - 1e-9).sum())
    return extreme / len(draws) if exact else (1 + extreme) / (1 + len(draws))


def moves(n, seed=3):
    """Differences of -1, 0 and 1, which have many ties, rather more of them up than down."""
    return chance(seed).choice([-1.0, 0.0, 1.0], size=n, p=[0.3, 0.2, 0.5])


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("n_resamples", [1, 20, 99])
def test_the_p_value_of_random_sign_flips_is_the_share_of_the_flips_kept_with_the_observed_one_added(alternative, n_resamples):
    result = st.sign_flip_test(np.zeros(24), moves(24), rng=chance(), alternative=alternative, n_resamples=n_resamples)
    assert not result.exact
    assert len(result.null) == n_resamples
    assert result.pvalue == share(result.null, result.statistic, alternative, exact=False)
    assert result.smallest_p == 1 / (1 + n_resamples)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_the_p_value_of_all_sign_flips_is_their_share_with_nothing_added(alternative):
    """Oracle: every pattern of signs, written out."""
    differences = np.array([1.0, -1.0, 2.0, 2.0, 0.0, 3.0])
    means = [float(np.dot(signs, differences[differences != 0])) / 6 for signs in product([1, -1], repeat=5)]
    result = st.sign_flip_test(np.zeros(6), differences, rng=chance(), alternative=alternative)
    assert result.exact
    assert np.sort(result.null) == pytest.approx(np.sort(means))
    assert result.pvalue == share(np.array(means), differences.mean(), alternative, exact=True)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("statistic", ["studentized", "mean"])
def test_every_cells_p_value_is_the_share_of_the_largest_statistics_kept(alternative, statistic):
    after = np.stack([moves(24, seed) for seed in range(5)], axis=1)
    result = st.max_statistic_test(np.zeros(24), after, rng=chance(), alternative=alternative, statistic=statistic, n_resamples=60)
    assert not result.exact
    largest = result.null if alternative != "less" else -result.null  # kept as they were compared: larger is more extreme
    for line in result.frame.itertuples():
        assert line.pvalue == share(largest, line.statistic, alternative, exact=False)
    assert result.pvalue == result.frame["pvalue"].min()


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("null", ["reversal", "permutation"])
def test_the_p_value_of_a_trend_is_the_share_of_the_draws_kept(alternative, null):
    values = (chance(5).random((24, 4)) < [0.4, 0.5, 0.5, 0.6]).astype(int)
    result = st.trend_test([-1, 0, 1, 2], values, rng=chance(), null=null, alternative=alternative, n_resamples=60)
    assert (result.exact, len(result.draws)) == (False, 60)
    assert result.pvalue == share(result.draws, result.statistic - result.expected, alternative, exact=False)
    ranks = rankdata(values, axis=1) - 2.5
    each = ranks @ [1, 2, 3, 4]
    variance = (each**2).sum() if null == "reversal" else (ranks**2).sum() * np.var([1, 2, 3, 4], ddof=1)
    assert result.z == pytest.approx(each.sum() / np.sqrt(variance))


def test_all_orders_of_means_are_gone_through_and_counted():
    """Oracle: Page's L of every order of four means, written out."""
    means = np.array([0.2, 0.5, 0.4, 0.7])
    ranks = np.array([1, 3, 2, 4])
    every = np.array([np.dot(order, [1, 2, 3, 4]) for order in permutations(ranks)]) - 25.0
    result = st.trend_test([-1, 0, 1, 2], means, rng=chance())
    assert result.exact
    assert np.sort(result.draws) == pytest.approx(np.sort(every))
    assert result.pvalue == share(every, 29 - 25.0, "two-sided", exact=True)


def test_random_orders_are_drawn_for_each_problem_by_itself():
    """Were all problems put into one order, L would spread as n does, not as its root does."""
    values = np.tile([0.0, 1.0, 2.0, 3.0], (40, 1))
    draws = st.trend_test([-1, 0, 1, 2], values, rng=chance(), null="permutation", n_resamples=400).draws
    assert draws.std() == pytest.approx(np.sqrt(40 * 5 * 5 / 3), rel=0.15)  # sum of (rank - 2.5)^2 is 5, variance of positions 5/3


@pytest.mark.parametrize("increasing", [True, False])
def test_the_p_value_of_a_reversal_is_that_of_the_largest_step_back_among_all_pairs(increasing):
    """A reversal keeps no draws. Oracle: the max-statistic test, one-sided, of all steps back, listed by hand; its draws are counted above."""
    values = (chance(5).random((24, 4)) < [0.4, 0.6, 0.4, 0.6]).astype(float)
    values = values if increasing else 1 - values
    steps = np.stack([(values[:, i] - values[:, j]) * (1 if increasing else -1) for i, j in combinations(range(4), 2)], axis=1)
    expected = st.max_statistic_test(np.zeros(24), steps, rng=chance(), statistic="mean", alternative="greater", n_resamples=60)
    found = st.largest_reversal([-1, 0, 1, 2], values, rng=chance(), increasing=increasing, n_resamples=60)
    assert (found.size, found.n_pairs) == (pytest.approx(expected.change), 6)
    assert found.pvalue == expected.pvalue == share(expected.null, expected.statistic, "greater", exact=False)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("n", [1, 2, 3, 8, 19])
def test_the_p_value_of_a_rank_test_is_a_count_about_the_median_of_all_the_observed_one_among_them(alternative, n):
    for seed in range(20):
        observed, *controls = (float(x) for x in chance(seed).integers(-4, 5, n + 1))
        centre = float(np.median([observed, *controls])) if alternative == "two-sided" else 0.0
        result = st.rank_test(observed, controls, alternative=alternative)
        assert result.pvalue == share(np.array(controls) - centre, observed - centre, alternative, exact=False)
        assert (result.exceeds, result.rank, result.n_controls) == (int(result.as_extreme.sum()), 1 + result.exceeds, n)
        assert result.centre == np.median([observed, *controls])
        assert result.effect == observed - np.median(controls)


def test_several_rank_tests_standardise_each_effect_by_the_median_and_the_spread_of_all_its_values():
    """Oracle: the docstring's rule, effect by effect and draw by draw, in plain loops."""
    for seed, k in product(range(10), (2, 3, 7)):
        both = chance(seed).normal(size=(3, k + 1)) * [[1.0], [5.0], [0.2]] + chance(seed + 100).normal(size=(3, 1))
        sizes = [[abs(x - np.median(row)) / np.std(row) for x in row] for row in both]
        largest = [max(row[1 + draw] for row in sizes) for draw in range(k)]
        alone = [(1 + sum(x >= row[0] - 1e-9 for x in row[1:])) / (1 + k) for row in sizes]
        together = [(1 + sum(x >= row[0] - 1e-9 for x in largest)) / (1 + k) for row in sizes]
        p, corrected = st.rank_tests(both[:, 0], both[:, 1:])
        assert p.tolist() == alone
        assert corrected.tolist() == [max(pair) for pair in zip(alone, together, strict=True)]


# Bootstraps keep their draws, too


def by_hand(found, left_out, tail):
    """Efron's BCa shares from the draws kept and a jackknife of one's own."""
    below = (found.draws < found.estimate - 1e-12).mean() + (np.abs(found.draws - found.estimate) <= 1e-12).mean() / 2
    spread = np.mean(left_out) - np.array(left_out)
    bias, acceleration = norm.ppf(below), (spread**3).sum() / (6 * (spread**2).sum() ** 1.5)
    z = bias + norm.ppf([tail, 1 - tail])
    return np.quantile(found.draws, norm.cdf(bias + z / (1 - acceleration * z)))


def test_the_jackknife_of_a_clustered_bootstrap_leaves_out_whole_clusters():
    """Oracle: the statistic without each cluster, and Efron's formula on it. Clusters are of unequal sizes and means."""
    sizes = [1, 9, 2, 3, 2, 4]
    labels = np.repeat(list("abcdef"), sizes)
    values = np.repeat([8.0, 0.0, 1.0, 0.5, 1.5, 0.2], sizes) + chance(2).normal(0, 0.3, sum(sizes))
    found = st.bootstrap(values, rng=chance(), groups=labels, n_resamples=400)
    left_out = [values[labels != label].mean() for label in "abcdef"]
    assert (found.n, found.n_units, found.clustered) == (21, 6, True)
    assert found.left_out == pytest.approx(left_out)
    assert tuple(found.interval(0.9)) == pytest.approx(by_hand(found, left_out, 0.05))
    alone = [np.delete(values, i).mean() for i in range(len(values))]
    assert abs(by_hand(found, alone, 0.05) - tuple(found.interval(0.9))).max() > 0.05  # the mistake would show


def test_the_jackknife_of_a_bootstrap_of_problems_leaves_out_one_at_a_time():
    values = chance(4).exponential(size=15)
    found = st.bootstrap(values, rng=chance(), n_resamples=400)
    left_out = [np.delete(values, i).mean() for i in range(15)]
    assert found.left_out == pytest.approx(left_out)
    assert tuple(found.interval()) == pytest.approx(by_hand(found, left_out, 0.025))


def test_a_resample_has_as_many_units_as_the_sample():
    """Their spread says so: the variance of a mean of n is 1 / n of that of one."""
    values = chance(4).normal(size=6)
    assert st.bootstrap(values, rng=chance(), n_resamples=4000).standard_error == pytest.approx(values.std() / np.sqrt(6), rel=0.05)
    groups = np.repeat(values, 3)
    clustered = st.bootstrap(groups, rng=chance(), groups=np.repeat(range(6), 3), n_resamples=4000)
    assert clustered.standard_error == pytest.approx(values.std() / np.sqrt(6), rel=0.05)
