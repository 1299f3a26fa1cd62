"""Ranks among pipelines that are drawn one after the other, against every order of few values, SciPy's and statsmodels' tests and simulation."""

from collections import Counter
from fractions import Fraction
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
from results import shown, speaks
from statsmodels.stats.contingency_tables import mcnemar

import steerlab.statistics as st


def rng(seed=0):
    return np.random.default_rng(seed)


def by_hand(observed, controls, planned, stop_after):
    """Draw until enough are at least as large: Besag and Clifford's p."""
    found = 0
    for drawn, control in enumerate(controls[:planned], start=1):
        found += control >= observed
        if found == stop_after:
            return Fraction(found, drawn), drawn
    return Fraction(found + 1, planned + 1), planned


# The p-value


@pytest.mark.parametrize("alternative", ["greater", "less"])
@pytest.mark.parametrize("stop_after", [1, 2, 3, 6, None])
@pytest.mark.parametrize("planned", [1, 4, 5])
def test_over_every_order_of_different_values_p_is_exact(planned, stop_after, alternative):
    """Enumeration: if the observed value is one more draw, p is at most t in a share t of all orders, for every t that p can take."""
    sign, chances = {"greater": 1, "less": -1}[alternative], Counter()
    for order in permutations(range(planned + 1)):
        observed, *controls = (sign * value for value in order)
        found = st.sequential_test(observed, controls, planned=planned, stop_after=stop_after, alternative=alternative)
        expected, drawn = by_hand(sign * observed, [sign * control for control in controls], planned, stop_after)
        assert (found.pvalue, found.n_controls) == (pytest.approx(float(expected)), drawn)
        chances[expected] += 1
    total = sum(chances.values())
    for p in chances:
        assert Fraction(sum(n for other, n in chances.items() if other <= p), total) == p
    assert min(chances) == Fraction(1, planned + 1)


@pytest.mark.parametrize("stop_after", [1, 2, 3, None])
@pytest.mark.parametrize("values", [(0, 0, 0, 0, 0), (0, 0, 0, 1, 1), (0, 1, 1, 2, 2)])
def test_ties_are_against_us_so_that_p_is_valid_whatever_is_equal(values, stop_after):
    """Enumeration of all orders, tied values among them."""
    found = [
        st.sequential_test(observed, controls, planned=4, stop_after=stop_after).pvalue for observed, *controls in permutations(values)
    ]
    for p in set(found):
        assert np.mean(np.array(found) <= p) <= p + 1e-12
    assert st.sequential_test(1, [1, 1, 1, 1], planned=4, stop_after=stop_after).pvalue == 1


@pytest.mark.parametrize("alternative", ["greater", "less"])
def test_without_a_stop_it_is_the_rank_test(alternative):
    for seed in range(20):
        observed, *controls = rng(seed).integers(-3, 4, 20)
        found = st.sequential_test(observed, controls, planned=19, stop_after=None, alternative=alternative)
        rank = st.rank_test(observed, controls, alternative=alternative)
        assert (found.pvalue, found.exceeds, found.smallest_p) == (rank.pvalue, rank.exceeds, rank.smallest_p)
        assert found.as_extreme.tolist() == rank.as_extreme.tolist()
        sign = {"greater": 1, "less": -1}[alternative]
        assert found.pvalue == (1 + sum(sign * control >= sign * observed for control in controls)) / 20
        assert not found.stopped


@pytest.mark.parametrize("portion", [1, 3, 20])
def test_drawing_on_beyond_the_stop_changes_nothing(portion):
    draws = rng(1).standard_normal(99).tolist()
    whole = st.sequential_test(0.3, draws, planned=99, stop_after=5)
    for end in range(whole.n_controls, 100, portion):
        assert st.sequential_test(0.3, draws[:end], planned=99, stop_after=5) == whole
    assert (whole.stopped, whole.exceeds) == (True, 5)
    assert whole.controls[-1] >= 0.3
    assert int(whole.as_extreme.sum()) == 5


def test_the_rejection_rate_of_a_true_null_is_the_level():
    """Simulation: 4,000 nulls of 99 controls, stopped at 10; within 3 standard errors. A stop spares two thirds of the draws."""
    draws = rng(2).standard_normal((4000, 100))
    found = [st.sequential_test(line[0], line[1:], planned=99, stop_after=10) for line in draws]
    p = np.array([one.pvalue for one in found])
    for level in (0.01, 0.05, 0.1, 0.5):
        assert np.mean(p <= level) == pytest.approx(level, abs=3 * np.sqrt(level * (1 - level) / 4000))
    assert np.mean([one.n_controls for one in found]) < 99 / 3


def test_a_direction_that_changes_more_answers_up_and_down_alike_is_called_special_by_net_changes_and_not_by_studentised_ones():
    """Simulation: of 300 answers the direction changes 6.8% and its controls 2.5%, without any net effect (issue: 17% to 18% at 0.05)."""
    chance, special = rng(3), {"net": 0, "studentised": 0}
    for _ in range(1500):
        moved = chance.binomial(300, [0.068] + [0.025] * 59)
        net = 2.0 * chance.binomial(moved, 0.5) - moved
        for name, effects in (("net", net), ("studentised", net / np.sqrt(np.maximum(moved, 1)))):
            special[name] += st.sequential_test(effects[0], effects[1:], planned=59, stop_after=10).pvalue <= 0.05
    assert special["net"] / 1500 > 0.13
    assert special["studentised"] / 1500 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1500)


def test_values_that_only_rounding_tells_apart_are_ties():
    assert st.sequential_test(0.1 + 0.2, [0.3] * 3, planned=3, stop_after=3).exceeds == 3
    assert st.sequential_test(-0.1 - 0.2, [-0.3] * 3, planned=3, alternative="less").exceeds == 3


def test_a_test_says_itself_and_what_would_have_been_needed():
    stopped = st.sequential_test(1.5, [2, 0, 3, 1, 2, 9], planned=99, stop_after=3)
    assert str(stopped) == "3 of 5 controls are at least as extreme as 1.5, p = 0.6000 (greater rank test, stopped after 5 of 99)"
    assert (stopped.needed, stopped.smallest_p, stopped.stop_after) == (3, 0.01, 3)
    assert st.sequential_test(1.5, [2, 0, 3], planned=3, alternative="less").needed == 0
    speaks(stopped)
    assert "Rank test against pipelines" in shown(stopped)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"controls": []}, "at least 1"),
        ({"controls": [0.0, 2.0]}, "controls: 2 of 9 planned, 1 of them at least as extreme; draw on, up to 9 or until 10 are"),
        ({"controls": [0.0, 2.0], "stop_after": None}, "1 of them at least as extreme; draw on, up to 9$"),
        ({"controls": [np.nan]}, r"\[0\]=nan"),
        ({"observed": np.inf}, "observed=inf"),
        ({"alternative": "two-sided"}, "alternative='two-sided'; use one of greater, less"),
        ({"stop_after": 0}, "stop_after=0"),
        ({"planned": 0}, "planned=0"),
    ],
)
def test_bad_input_is_named(options, message):
    given = {"observed": 1.0, "controls": [2.0] * 9, "planned": 9, "stop_after": 10} | options
    with pytest.raises(ValueError, match=message):
        st.sequential_test(given.pop("observed"), given.pop("controls"), **given)


# Studentised changes


@pytest.mark.parametrize("seed", range(5))
def test_the_studentised_change_of_answers_is_the_signed_root_of_mcnemars_statistic(seed):
    """Oracle: statsmodels' `mcnemar`, without continuity correction."""
    before, after = rng(seed).random((2, 60)) < [[0.5], [0.3 + 0.1 * seed]]
    table = pd.crosstab(before, after)
    expected = np.sign(after.mean() - before.mean()) * np.sqrt(mcnemar(table, exact=False, correction=False).statistic)
    assert st.studentised_change(before, after) == pytest.approx(expected)
    assert st.studentised_change(after, before) == pytest.approx(-expected)
    assert st.studentised_change(before, after, groups=np.arange(60)) == pytest.approx(expected)


def test_groups_are_summed_first():
    """By hand: changes 1, 1 | -1, 1 | 1 | 0 by group 2, 0, 1, 0: net 3 over the root of 4 + 1."""
    before, after = [0, 0, 1, 0, 0, 1], [1, 1, 0, 1, 1, 1]
    assert st.studentised_change(before, after, groups=list("aabbcd")) == pytest.approx(3 / np.sqrt(5))
    order = [4, 0, 3, 5, 1, 2]
    shuffled = (np.array(values)[order] for values in (before, after))
    assert st.studentised_change(*shuffled, groups=np.array(list("aabbcd"))[order]) == pytest.approx(3 / np.sqrt(5))
    assert st.studentised_change(np.repeat(before, 3), np.repeat(after, 3), groups=np.repeat(np.arange(6), 3)) == pytest.approx(
        st.studentised_change(before, after)
    )


def test_real_changes_are_over_the_root_of_their_sum_of_squares_whatever_their_unit():
    before, after = rng(7).standard_normal((2, 30))
    change = after - before
    assert st.studentised_change(before, after) == pytest.approx(change.sum() / np.sqrt((change**2).sum()))
    assert st.studentised_change(1e6 * before, 1e6 * after) == pytest.approx(st.studentised_change(before, after))
    assert st.studentised_change(before, before) == 0


def test_its_spread_is_1_where_there_is_no_effect():
    """Simulation: 2,000 sets of 40 groups of 3 that change together, up or down."""
    chance, values = rng(4), []
    groups = np.repeat(np.arange(40), 3)
    for _ in range(2000):
        change = chance.choice([-1.0, 0.0, 1.0], 40)[groups]
        values.append(st.studentised_change(np.zeros(120), change, groups=groups))
    assert np.std(values) == pytest.approx(1, abs=0.06)
    assert np.mean(values) == pytest.approx(0, abs=0.07)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (([0, 1], [0]), "lengths 2 and 1"),
        (([], []), "at least 1"),
        (([0.0, np.nan], [0.0, 1.0]), "nan"),
        (([0, 1], [1, 1], ["a"]), "groups: 1 labels for 2 problems; give one a problem"),
    ],
)
def test_changes_that_are_none_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        st.studentised_change(*given[:2], groups=given[2] if len(given) > 2 else None)
