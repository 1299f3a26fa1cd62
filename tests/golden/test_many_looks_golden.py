"""The max-statistic test against SciPy and enumerations by hand."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import steerlab.statistics as st

ALTERNATIVES = ("two-sided", "greater", "less")
ORIENTED = {"two-sided": np.abs, "greater": np.positive, "less": np.negative}


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("statistic", ["studentized", "mean"])
@pytest.mark.parametrize(("gains", "losses"), [(9, 2), (2, 9), (6, 0), (1, 1), (5, 5)])
def test_one_cell_of_outcomes_is_the_exact_sign_test(gains, losses, statistic, alternative):
    """Oracle: SciPy's binomial test of the gains among the changed problems."""
    before = np.repeat([0, 1, 1, 0], [gains, losses, 7, 4])
    after = np.repeat([1, 0, 1, 0], [gains, losses, 7, 4])
    result = st.max_statistic_test(
        before, after[:, None], rng=np.random.default_rng(0), statistic=statistic, alternative=alternative, n_resamples=2**11
    )
    assert result.exact
    assert result.pvalue == pytest.approx(stats.binomtest(gains, gains + losses, alternative=alternative).pvalue)


def test_the_studentized_statistic_of_outcomes_is_mcnemars_z():
    """Oracle: by hand, (9 - 2) / sqrt(9 + 2)."""
    before, after = np.repeat([0, 1], [9, 2]), np.repeat([1, 0], [9, 2])
    result = st.max_statistic_test(before, after[:, None], rng=np.random.default_rng(0))
    assert result.statistic == pytest.approx(7 / 11**0.5)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_one_cell_of_real_values_is_scipys_paired_permutation_test(alternative):
    """Oracle: SciPy's permutation_test of paired samples, all 2^10 of them."""
    before, after = np.random.default_rng(1).normal(size=(2, 10))
    expected = stats.permutation_test(
        (after, before),
        lambda x, y, axis: (x - y).mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=np.inf,
        alternative=alternative,
    )
    result = st.max_statistic_test(before, after[:, None], rng=np.random.default_rng(0), statistic="mean", alternative=alternative)
    assert result.exact
    assert result.pvalue == pytest.approx(expected.pvalue)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_every_cells_p_is_its_share_among_the_largest_t_of_all_flips(alternative):
    """Oracle: all 2^7 flips by hand, with SciPy's one-sample t as the statistic of each of four dependent cells."""
    rng = np.random.default_rng(2)
    before = rng.normal(size=7)
    after = before[:, None] + rng.normal(0.4, 1, size=(7, 1)) + rng.normal(size=(7, 4))
    differences = after - before[:, None]

    def scores(rows):
        return ORIENTED[alternative](stats.ttest_1samp(rows, 0).statistic)

    null = np.array([scores(np.array(signs)[:, None] * differences).max() for signs in product([1, -1], repeat=7)])
    expected = [(null >= score - 1e-9).mean() for score in scores(differences)]
    result = st.max_statistic_test(before, after, rng=np.random.default_rng(0), alternative=alternative)
    assert result.frame["pvalue"].tolist() == pytest.approx(expected)
    assert result.best == int(scores(differences).argmax())


def test_random_flips_agree_with_all_flips():
    """Oracle: the exact test of the same data, within four standard errors of 4000 draws."""
    rng = np.random.default_rng(3)
    before = rng.random(14) < 0.4
    after = before[:, None] ^ (rng.random((14, 30)) < 0.4)
    exact = st.max_statistic_test(before, after, rng=rng, n_resamples=2**14).frame["pvalue"]
    drawn = st.max_statistic_test(before, after, rng=rng, n_resamples=4000)
    assert not drawn.exact
    assert ((drawn.frame["pvalue"] - exact).abs() < 4 * np.sqrt(exact * (1 - exact) / 4000) + 1 / 4000).all()


def test_the_interval_of_the_best_cell_is_the_paired_one_at_bonferronis_confidence():
    """Oracle: SciPy's t interval, and `paired_interval` (itself tested), at 1 - 0.05 / 3."""
    rng = np.random.default_rng(4)
    before = rng.normal(size=12)
    after = pd.DataFrame(before[:, None] + rng.normal([0, 1, 0], 1, size=(12, 3)), columns=["a", "b", "c"])
    result = st.max_statistic_test(before, after, rng=rng)
    expected = stats.ttest_rel(after[result.best], before).confidence_interval(1 - 0.05 / 3)
    assert tuple(result.interval()) == pytest.approx(tuple(expected))
    was, now = after.to_numpy() > 0, after.to_numpy() > 0.5
    binary = st.max_statistic_test(was[:, 0], now, rng=rng)
    assert tuple(binary.interval()) == tuple(st.paired_interval(was[:, 0], now[:, binary.best], confidence=1 - 0.05 / 3))
