"""Problems in groups: whole groups flip, errors are by group, and what that costs is said."""

import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

import steerlab.statistics as st

ALTERNATIVES = ["two-sided", "greater", "less"]


def rng(seed=0):
    return np.random.default_rng(seed)


def clustered(n_groups=12, seed=0, *, binary=False):
    """Before and after of groups of 1 to 6 problems, whose changes go together within a group."""
    chance = rng(seed)
    groups = np.repeat(np.arange(n_groups), chance.integers(1, 7, n_groups))
    common = chance.normal(size=n_groups)[groups]
    before = chance.normal(size=groups.size)
    after = before + 0.4 + common + 0.5 * chance.normal(size=groups.size)
    order = chance.permutation(groups.size)  # groups need not be neighbours
    if binary:
        before, after = before > 0.5, after > 0.2
    return before[order], after[order], np.array([f"pair {g}" for g in groups])[order]


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("binary", [False, True])
def test_whole_groups_flip_and_p_is_their_share(alternative, binary):
    """Oracle: every pattern of signs of 9 groups, problem by problem."""
    before, after, groups = clustered(9, 1, binary=binary)
    differences, labels = after.astype(float) - before, np.unique(groups)
    means = np.array([np.mean(differences * np.array(signs)[np.searchsorted(labels, groups)]) for signs in product([1, -1], repeat=9)])
    orient = {"two-sided": np.abs, "greater": np.positive, "less": np.negative}[alternative]
    expected = float((orient(means) >= orient(differences.mean()) - 1e-9).mean())
    result = st.sign_flip_test(before, after, rng=rng(), groups=groups, alternative=alternative)
    assert result.exact
    assert result.pvalue == pytest.approx(expected, abs=1e-12)
    assert (result.n, result.n_groups) == (len(before), 9)


def test_groups_of_one_are_no_groups():
    before, after, _ = clustered()
    own = np.arange(len(before))
    alone, grouped = (st.sign_flip_test(before, after, rng=rng(3), groups=groups) for groups in (None, own))
    assert (alone.pvalue, alone.null.tobytes()) == (grouped.pvalue, grouped.null.tobytes())
    assert tuple(grouped.interval()) == pytest.approx(tuple(alone.interval()), rel=1e-12)
    t, by_group = st.paired_t_test(before, after), st.paired_t_test(before, after, groups=own)
    assert (by_group.statistic, by_group.pvalue, by_group.df) == pytest.approx((t.statistic, t.pvalue, t.df), rel=1e-9)
    assert st.design_effect(before, after, own).value == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_intervals_and_tests_by_group_are_those_of_statsmodels(binary, seed):
    """Oracle: statsmodels' ordinary regression on a constant, with errors by cluster and Student's t of G - 1."""
    before, after, groups = clustered(12, seed, binary=binary)
    differences = after.astype(float) - before
    fit = sm.OLS(differences, np.ones(len(differences))).fit(cov_type="cluster", cov_kwds={"groups": pd.factorize(groups)[0]}, use_t=True)
    expected = fit.conf_int(0.1)[0]
    interval = st.paired_interval(before, after, groups=groups, confidence=0.9)
    assert tuple(interval) == pytest.approx(tuple(np.clip(expected, -1, 1) if binary else expected), rel=1e-9)
    assert interval.method == "cluster-robust t"
    t = st.paired_t_test(before.astype(float), after.astype(float), groups=groups)
    assert (t.statistic, t.pvalue, t.df) == pytest.approx((fit.tvalues[0], fit.pvalues[0], 11), rel=1e-9)
    assert (
        tuple(t.interval(0.9))
        == tuple(st.sign_flip_test(before, after, rng=rng(), groups=groups).interval(0.9))
        == pytest.approx(tuple(expected))
    )
    margin, error = 0.5, fit.bse[0]
    test = st.equivalence_test(before, after, margin=margin, groups=groups)
    above, below = (fit.tvalues[0] + sign * margin / error for sign in (1, -1))
    assert (test.statistic_above, test.statistic_below) == pytest.approx((above, below), rel=1e-9)
    assert test.equivalent() == (-margin < expected[0] and expected[1] < margin)
    assert "in 12 groups" in str(test)


@pytest.mark.parametrize("statistic", ["studentized", "mean"])
def test_the_best_cell_of_one_is_the_sign_flip_test_by_group(statistic):
    """Oracle: `sign_flip_test`, above; of two equal cells the largest is either. The interval is `paired_interval` at 1 - 0.05 / 2."""
    before, after, groups = clustered(9, 2)
    result = st.max_statistic_test(before, np.stack([after, after], axis=1), rng=rng(), groups=groups, statistic=statistic)
    assert result.exact
    assert result.pvalue == st.sign_flip_test(before, after, rng=rng(), groups=groups).pvalue
    assert result.change == pytest.approx(np.mean(after - before))
    assert tuple(result.interval()) == pytest.approx(tuple(st.paired_interval(before, after, groups=groups, confidence=0.975)))
    own = st.max_statistic_test(before, after[:, None], rng=rng(), groups=np.arange(len(before)), statistic=statistic)
    assert own.pvalue == st.max_statistic_test(before, after[:, None], rng=rng(), statistic=statistic).pvalue


def test_the_design_effect_by_hand():
    """By hand: changes 1, 1, 0, 0, 1, 1 in three pairs. Mean 2/3; group sums of deviations 2/3, -4/3, 2/3, squares 24/9; by group
    3/2 * 24/9 / 36 = 1/9; independent: (4 * 1/9 + 2 * 4/9) / 5 / 6 = 2/45; their ratio is 5/2."""
    found = st.design_effect([0] * 6, [1, 1, 0, 0, 1, 1], list("aabbcc"))
    assert found.value == pytest.approx(2.5)
    assert (found.n, found.n_groups, found.effective_n) == (6, 3, pytest.approx(2.4))


def test_copies_of_a_problem_are_one_problem():
    """Oracle: m copies of each of G problems have the error of the G problems, so the design effect is about m."""
    before, after = rng(1).normal(size=50), rng(2).normal(size=50)
    groups = np.repeat(np.arange(50), 4)
    copies = np.repeat(before, 4), np.repeat(after, 4)
    once = st.paired_t_test(before, after)
    assert tuple(st.paired_interval(*copies, groups=groups)) == pytest.approx(tuple(once.interval()), rel=1e-9)
    assert st.design_effect(*copies, groups).value == pytest.approx(4 * 199 / (4 * 49), rel=1e-9)  # sd with n - 1: 199 / (4 * 49)
    four = st.sign_flip_test(*copies, rng=rng(5), groups=groups)
    assert four.pvalue == st.sign_flip_test(before, after, rng=rng(5)).pvalue


def test_changes_that_oppose_each_other_within_groups_have_no_error_and_are_not_certain():
    before, after, groups = [0, 1, 0, 1], [1, 0, 1, 0], list("aabb")
    assert st.sign_flip_test(before, after, rng=rng(), groups=groups).pvalue == 1
    interval = st.paired_interval(before, after, groups=groups)
    assert interval.low < -0.3 < 0.3 < interval.high
    assert interval.method == "Newcombe paired, groups as problems"
    assert st.design_effect(before, after, groups).effective_n == math.inf
    assert st.paired_t_test(before, after, groups=groups).pvalue == 1
    assert st.equivalence_test(before, after, margin=0.5, groups=groups).pvalue == 0.25  # two groups within the margin: 2^-2


def test_where_nothing_changed_the_interval_keeps_the_width_of_as_many_problems_as_there_are_groups():
    right = np.repeat([0, 1], 30)
    found = st.paired_interval(right, right, groups=np.repeat(np.arange(20), 3))
    one_each = np.repeat([0, 1], 10)
    assert tuple(found) == tuple(st.paired_interval(one_each, one_each))
    assert math.isnan(st.design_effect(right, right, np.repeat(np.arange(20), 3)).value)
    assert "unknown" in str(st.design_effect(right, right, np.repeat(np.arange(20), 3)))


def test_groups_that_change_alike_have_no_t():
    with pytest.raises(ValueError, match=r"all 2 groups change alike, by 0\.5: t needs values that vary"):
        st.paired_t_test([0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0], groups=list("aabb"))


@pytest.mark.parametrize(
    "call",
    [
        lambda b, a, g: st.sign_flip_test(b, a, rng=rng(), groups=g),
        lambda b, a, g: st.paired_interval(b, a, groups=g),
        lambda b, a, g: st.paired_interval([0.5, 0.1, 2.0], a, groups=g),
        lambda b, a, g: st.paired_t_test(b, a, groups=g),
        lambda b, a, g: st.equivalence_test(b, a, margin=0.1, groups=g),
        st.design_effect,
        lambda b, a, g: st.max_statistic_test(b, np.array(a)[:, None], rng=rng(), groups=g),
        lambda b, _, g: st.bootstrap(b, rng=rng(), groups=g),
    ],
)
def test_labels_are_checked_alike_everywhere(call):
    before, after = [0, 0, 1], [1, 0, 1]
    for groups, message in [
        (["a", "b"], "groups: 2 labels for 3 problems"),
        (["a", "a", "a"], "groups: all 3 problems are in group 'a'"),
        (["a", None, "b"], r"groups\[1\] is missing"),
        ([1.0, 2.0, math.nan], r"groups\[2\] is missing"),
    ]:
        with pytest.raises(ValueError, match=message):
            call(before, after, groups)


def test_pairs_of_a_noun_pair_taken_as_independent_reject_true_nulls_and_by_group_they_do_not():
    """300 problems in 60 groups of 5 whose members mostly change together, no effect: the tests of independent problems fail."""
    chance, groups, n = rng(8), np.repeat(np.arange(60), 5), 400
    alone, by_group, missed = 0, 0, 0
    for _ in range(n):
        lean = chance.choice([-1, 0, 1], size=60, p=[0.2, 0.6, 0.2])[groups]
        change = np.where(chance.random(300) < 0.8, lean, 0)
        before = np.where(change == 0, chance.random(300) < 0.5, change < 0)
        after = np.where(change == 0, before, change > 0)
        alone += st.sign_test(before, after).pvalue <= 0.05
        by_group += st.sign_flip_test(before, after, rng=chance, groups=groups, n_resamples=199).pvalue <= 0.05
        low, high = st.paired_interval(before, after, groups=groups)
        missed += not low <= 0 <= high
    assert alone / n > 0.2
    assert by_group / n < 0.08  # 0.05 and 2.75 standard errors
    assert missed / n < 0.08
