"""Short cuts for many problems give what the long way gives: draws have the same distribution, closed forms the same numbers."""

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import isotonic_regression

import steerlab.statistics as st
from steerlab.statistics import _resampling, _sign_flips, dose_models, equivalence


def rng(seed=0):
    return np.random.default_rng(seed)


def test_flips_of_many_outcomes_are_binomial():
    """Oracle: the sum of m random signs is 2 B - m, B binomial; 300 blocks of draws would not fit otherwise."""
    m = 30_000
    (sums,) = np.concatenate(list(_sign_flips.flipped_sums(np.ones((m, 1)), 4000, rng()))).T
    assert stats.kstest((sums + m) / 2 + rng(1).random(4000) - 0.5, stats.norm(m / 2, m**0.5 / 2).cdf).pvalue > 0.01
    result = st.sign_flip_test(np.zeros(m), np.repeat([1, -1], [15_200, 14_800]), rng=rng())
    assert result.pvalue == pytest.approx(
        st.sign_test(np.repeat([0, 1], [15_200, 14_800]), np.repeat([1, 0], [15_200, 14_800])).pvalue, abs=0.006
    )


@pytest.mark.parametrize("width", [1, 3])
def test_flips_of_many_values_are_looked_up_as_they_would_be_multiplied(width):
    """Oracle: the same bytes, bit by bit, times the values."""
    rows, chance = rng(1).normal(size=(5003, width)), rng(2)
    bits = np.concatenate([np.unpackbits(np.frombuffer(chance.bytes(700), np.uint8)[:, None], axis=1) for _ in range(626)], axis=1)
    expected = (1.0 - 2.0 * bits[:, :5003]) @ rows
    (found,) = _sign_flips.flipped_sums(rows, 700, rng(2))
    assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("groups", [None, np.arange(60) // 4])
def test_the_bootstrap_of_the_mean_is_that_of_any_statistic(groups):
    """Oracle: a function that is the mean, called for each draw and each problem (or group) that is left out."""
    values = rng(1).exponential(size=60)
    one, other = (
        st.bootstrap(values, of, rng=rng(2), groups=groups, n_resamples=300) for of in (np.mean, lambda rows: float(np.mean(rows)))
    )
    for name in ("draws", "left_out"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-12)
    assert tuple(one.interval()) == pytest.approx(tuple(other.interval()), rel=1e-9)


@pytest.mark.parametrize("draw", ["exponential", "standard_t", "lognormal"])
def test_means_of_many_values_drawn_in_bins_are_spread_like_means_of_values_drawn_one_by_one(draw, monkeypatch):
    """Oracle: resamples of the values themselves."""
    options = {"standard_t": {"df": 3}, "lognormal": {"sigma": 1.5}}.get(draw, {})
    values = getattr(rng(3), draw)(size=(11_000, 1), **options)
    rows = np.column_stack([values, values**2 + rng(4).normal(size=values.shape)])
    binned = _resampling.resampled_means(rows, 8000, rng(5))
    monkeypatch.setattr(_resampling, "ONE_BY_ONE", 1 << 30)
    plain = _resampling.resampled_means(rows, 8000, rng(6))
    for column in range(2):
        assert stats.ks_2samp(binned[:, column], plain[:, column]).pvalue > 0.001
    assert np.corrcoef(binned.T)[0, 1] == pytest.approx(np.corrcoef(plain.T)[0, 1], abs=0.02)


def test_many_outcomes_are_drawn_by_kind_and_by_any_statistic():
    """Oracle: the standard error of a share, sqrt(p (1 - p) / n), and of a difference of two shares."""
    right = rng(1).random((12_000, 2)) < [0.3, 0.6]
    expected = np.sqrt(0.3 * 0.7 / 12_000)
    assert st.bootstrap(right[:, 0], rng=rng(), n_resamples=4000).standard_error == pytest.approx(expected, rel=0.05)
    change = st.bootstrap(right, lambda rows: float(rows[:, 1].mean() - rows[:, 0].mean()), rng=rng(), n_resamples=2000)
    assert change.standard_error == pytest.approx(np.sqrt((0.21 + 0.24) / 12_000), rel=0.06)
    assert len(change.left_out) == 1000


def test_a_bootstrap_of_many_problems_leaves_out_blocks_and_has_the_same_acceleration():
    """Oracle: BCa's acceleration of a mean, skewness / (6 sqrt(n))."""
    values = rng(1).exponential(size=20_000)
    found = st.bootstrap(values, lambda rows: float(rows.mean()), rng=rng(), n_resamples=50)
    spread = found.left_out.mean() - found.left_out
    acceleration = float((spread**3).sum() / (6 * (spread**2).sum() ** 1.5))
    assert acceleration == pytest.approx(stats.skew(values) / (6 * 20_000**0.5), abs=0.001)  # 0.0024


@pytest.mark.parametrize("increasing", [True, False])
@pytest.mark.parametrize("n_doses", [3, 7, 40])
def test_monotone_curves_of_all_draws_are_scipys(increasing, n_doses):
    means = rng(1).normal(size=(50, n_doses)).round(1)
    expected = np.stack([isotonic_regression(row, increasing=increasing).x for row in means])
    assert dose_models._all_monotone(means, increasing) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("gains", "losses", "margin"), [(60, 60, 0.02), (90, 40, 0.03), (5, 3, 0.005), (1100, 1090, 0.04)])
def test_the_exact_equivalence_test_of_many_problems_leaves_out_only_absurd_numbers_of_losses(gains, losses, margin, monkeypatch):
    """Oracle: the sum over all tables."""
    before, after = np.zeros((2, 2500), int)
    after[:gains], before[-losses:] = 1, 1
    short = st.equivalence_test(before, after, margin=margin)
    monkeypatch.setattr(equivalence, "ALL_TABLES", 1 << 30)
    assert (short.p_above, short.p_below) == pytest.approx(
        tuple(getattr(st.equivalence_test(before, after, margin=margin), p) for p in ("p_above", "p_below")), rel=1e-7, abs=1e-18
    )


def test_the_largest_reversal_is_that_of_the_max_statistic_test():
    """Oracle: `max_statistic_test` of all steps between alphas."""
    values = np.linspace(0, 1, 5) * [1, 1, -1, 1, 1] + rng(1).normal(size=(40, 5))
    earlier, later = np.triu_indices(5, k=1)
    steps = values[:, earlier] - values[:, later]
    test = st.max_statistic_test(np.zeros(40), steps, rng=rng(2), statistic="mean", alternative="greater")
    found = st.largest_reversal(range(5), values, rng=rng(2), increasing=True)
    assert found.pvalue == pytest.approx(test.pvalue, abs=1e-12)


def test_pages_test_of_many_problems_has_its_normal_limit():
    """Oracle: the two-sided normal p of z."""
    values = rng(1).normal(size=(12_000, 5)) + 0.02 * np.arange(5)
    found = st.trend_test(range(5), values, rng=rng(), null="permutation")
    assert found.pvalue == pytest.approx(2 * stats.norm.sf(abs(found.z)), abs=0.012)


@pytest.mark.parametrize("width", [2, 30])
def test_copies_are_counted_as_all_pairs_would_be(width):
    """Oracle: all distances."""
    rows = np.concatenate([rng(1).normal(size=(40, width)), np.repeat(rng(2).normal(size=(3, width)), [5, 7, 9], axis=0)])
    centred = rows - rows.mean(0)
    near = np.linalg.norm(centred[:, None] - centred, axis=2) <= 1e-3 * np.sqrt((centred**2).sum() / len(rows))
    assert st.effective_size(rows) == pytest.approx(len(rows) ** 2 / near.sum())
