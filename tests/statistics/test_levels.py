"""One notion of significance, p <= level; plans that can reach it; and intervals that say when they are approximate."""

from itertools import product

import numpy as np
import pandas as pd
import pytest

import steerlab.statistics as st
from steerlab.statistics.multiplicity import LEVEL, significant


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize("comparisons", range(1, 200))
def test_with_the_planned_controls_the_best_possible_direction_is_significant_and_with_one_fewer_nothing_is(comparisons):
    """Oracle: Holm of the smallest p of as many rank tests; 79 controls, for 4, were once recommended and not enough."""
    k = st.plan(comparisons=comparisons, alternative="greater").n_controls
    best, fewer = (st.rank_test(1.0, np.zeros(n), alternative="greater").pvalue for n in (k, k - 1))
    others = [1.0] * (comparisons - 1)
    assert significant(st.holm([best, *others])[0])
    assert not significant(st.holm([fewer, *others])[0])


def test_at_the_level_is_significant_and_rounding_does_not_decide():
    assert 3 * (1 / 60) > 0.05 or 0.1 * 0.5 >= 0.05  # products that floats round up
    assert significant(LEVEL)
    assert significant(float(st.holm([1 / 60, 1, 1])[0]))
    assert not significant(0.0500001)
    assert significant(pd.Series([0.04, 0.05, 0.06, np.nan])).tolist() == [True, True, False, False]


def test_a_plan_has_one_level_for_controls_and_problems():
    """Oracle: the power of the sign test at level / comparisons, and of one problem fewer."""
    plan = st.plan(change=-0.1, discordant=0.2, level=0.01, comparisons=4)
    assert plan.n_controls == 399
    assert st.power_of_sign_test(plan.n_problems, change=-0.1, discordant=0.2, level=0.0025) == pytest.approx(plan.power_reached)
    assert st.power_of_sign_test(plan.n_problems - 1, change=-0.1, discordant=0.2, level=0.0025) < 0.8
    assert "corrected for 4 comparisons (Bonferroni, or Holm's first step), is then 0.01, which is at most the level 0.01" in str(plan)


@pytest.mark.parametrize(("alternative", "least"), [("two-sided", 1 / 16), ("greater", 1 / 32), ("less", 1 / 32)])
def test_the_least_p_of_sign_flips_is_reached_and_never_undercut(alternative, least):
    """Oracle: the test of every pattern of signs of five differences; two-sided, all up is as extreme as all down."""
    sizes = np.array([1.0, 2.0, 3.5, 4.0, 7.0])
    tests = [st.sign_flip_test(np.zeros(5), sizes * signs, rng=rng(), alternative=alternative) for signs in product([1, -1], repeat=5)]
    assert {test.smallest_p for test in tests} == {min(test.pvalue for test in tests)} == {least}


def missed(draw, truth, n=400):
    """How often an interval does not hold the truth."""
    return sum(not found.low <= truth <= found.high for found in (draw() for _ in range(n))) / n


CHANCE = rng(3)
BY = {
    "BCa, 8 skewed values": (lambda: st.bootstrap(CHANCE.exponential(size=8), rng=CHANCE, n_resamples=199), 1.0),
    "BCa, 6 groups": (
        lambda: st.bootstrap(CHANCE.normal(size=6).repeat(3), rng=CHANCE, groups=np.arange(6).repeat(3), n_resamples=199),
        0.0,
    ),
    "AUC, 3 against 3": (lambda: st.auc(CHANCE.normal(size=3), CHANCE.normal(size=3)), 0.5),
}


@pytest.mark.parametrize("name", BY)
def test_intervals_from_few_problems_miss_more_than_they_say_and_say_so(name):
    """Oracle: simulation; 0.05 + 3.3 standard errors is 0.086."""
    draw, truth = BY[name]
    assert missed(lambda: draw().interval(), truth) > 0.086
    found = draw()
    assert "; approximate: only " in str(found)
    assert found.warnings()[0].startswith("The interval is approximate: with only ")
    assert found.warnings()[0] in found._repr_html_()


def test_groups_few_and_of_unlike_sizes_miss_more_than_they_say_and_say_so():
    groups = np.repeat(np.arange(8), [1, 1, 1, 1, 2, 2, 5, 20])

    def draw():
        change = CHANCE.normal(size=8)[groups] + CHANCE.normal(size=groups.size)
        return st.paired_interval(np.zeros(groups.size) + 0.5, 0.5 + change, groups=groups)

    assert missed(draw, 0) > 0.086
    assert str(draw()).endswith("(cluster-robust t; approximate: only 8 groups)")


def test_dose_responses_of_few_problems_say_that_their_limits_are_approximate():
    values = np.linspace(0, 1, 5) + CHANCE.normal(size=(12, 5))
    found = st.dose_response(range(5), values, rng=rng(), n_resamples=99)
    assert [said for said in found.warnings() if "approximate: with only 12 problems" in said] == found.warnings()[-2:]
    assert not any(
        "approximate" in said for said in st.dose_response(range(5), np.tile(values, (3, 1)), rng=rng(), n_resamples=99).warnings()
    )


def test_intervals_from_enough_problems_say_nothing():
    values = CHANCE.normal(size=30)
    for found in (
        st.bootstrap(values, rng=rng(), n_resamples=99),
        st.auc(values[:10], values[10:]),
        st.paired_t_test(values[:3], values[3:6]),
    ):
        assert found.warnings() == []
        assert "approximate" not in str(found)
