"""Equivalence, power and plans against statsmodels and calculations by hand."""

import math

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.power import TTestPower
from statsmodels.stats.weightstats import ttost_paired

import steerlab.statistics as st

ALTERNATIVES = ("two-sided", "greater", "less")
NAMED = {"two-sided": "two-sided", "greater": "larger", "less": "smaller"}


def table(gains: int, losses: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    sizes = [gains, losses, n - gains - losses]
    return np.repeat([False, True, True], sizes), np.repeat([True, False, True], sizes)


@pytest.mark.parametrize("margin", [0.2, 0.5, 2.0])
def test_real_values_are_tested_by_two_one_sided_t_tests(margin):
    """Oracle: statsmodels' ttost_paired."""
    rng = np.random.default_rng(0)
    before = rng.normal(size=30)
    after = before + rng.normal(0.1, 0.8, size=30)
    p, lower, upper = ttost_paired(after, before, -margin, margin)
    result = st.equivalence_test(before, after, margin=margin)
    assert (result.pvalue, result.p_above, result.p_below) == pytest.approx((p, lower[1], upper[1]))
    assert (result.statistic_above, result.statistic_below) == pytest.approx((lower[0], upper[0]))


def test_the_score_of_tangos_contact_lenses():
    """Oracle: Tango (1998), 44 pairs of which one was lost, against a loss of 0.1: Z = 1.709.

    By hand: the likeliest share of losses is (sqrt(9.9^2 - 8 * 44 * 0.11) + 9.9) / 176 = 17.6 / 176 = 0.1, the variance
    44 (0.2 - 0.11) = 3.96, and (-1 + 4.4) / sqrt(3.96) = 1.7086.
    """
    assert st.equivalence_test(*table(0, 1, 44), margin=0.1).statistic_above == pytest.approx(1.7086, abs=5e-5)


def chances(n: int, margin: float) -> tuple[list[tuple[int, int]], np.ndarray]:
    """All tables of n problems, and their chances [nuisance, table] if the change is -margin, by SciPy's multinomial."""
    tables = [(gains, losses) for gains in range(n + 1) for losses in range(n + 1 - gains)]
    counts = np.array([(gains, losses, n - gains - losses) for gains, losses in tables])
    shares = [(gain, gain + margin, 1 - 2 * gain - margin) for gain in np.linspace(1e-9, (1 - margin) / 2 - 1e-9, 400)]
    return tables, np.array([stats.multinomial.pmf(counts, n, share) for share in shares])


@pytest.mark.parametrize(("n", "margin"), [(5, 0.3), (8, 0.2), pytest.param(10, 0.4, marks=pytest.mark.slow)])
def test_the_exact_p_is_the_largest_chance_of_a_table_at_least_as_extreme(n, margin):
    """Oracle: the multinomial chances of all tables, on a grid of the share of changed problems."""
    tables, weights = chances(n, margin)
    results = [st.equivalence_test(*table(*counts, n), margin=margin) for counts in tables]
    scores = np.array([result.statistic_above for result in results])
    for score, result in list(zip(scores, results, strict=True))[::5]:
        largest = weights[:, scores >= score - 1e-9].sum(axis=1).max()
        assert largest - 1e-12 <= result.p_above <= largest + 1e-3


@pytest.mark.parametrize(("n", "margin"), [(6, 0.5), (8, 0.2), pytest.param(11, 0.15, marks=pytest.mark.slow)])
def test_the_exact_test_holds_its_level_at_the_margin(n, margin):
    """Oracle: the multinomial chances of all tables; also inside the null, where the change is larger than the margin."""
    tables, weights = chances(n, margin)
    results = [st.equivalence_test(*table(*counts, n), margin=margin) for counts in tables]
    further = chances(n, margin + 0.1)[1]
    for level in (0.01, 0.05, 0.1, 0.3):
        not_worse = np.array([result.p_above <= level for result in results])
        equivalent = np.array([result.equivalent(level) for result in results])
        assert weights[:, not_worse].sum(axis=1).max() <= level + 1e-9
        assert further[:, not_worse].sum(axis=1).max() <= level + 1e-9
        assert weights[:, equivalent].sum(axis=1).max() <= level + 1e-9
    assert not_worse.any()


def test_the_plain_score_test_exceeds_its_level_as_the_docstring_says():
    """Oracle: the multinomial chances of all tables of 8 problems."""
    tables, weights = chances(8, 0.2)
    scores = np.array([st.equivalence_test(*table(*counts, 8), margin=0.2).statistic_above for counts in tables])
    assert weights[:, stats.norm.sf(scores) <= 0.05].sum(axis=1).max() > 0.06


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("n", [2, 10, 86])
@pytest.mark.parametrize("effect", [-0.8, 0.0, 0.2, 0.6])
def test_the_power_of_the_t_test(alternative, n, effect):
    """Oracle: statsmodels' TTestPower."""
    expected = TTestPower().power(effect, n, 0.01, alternative=NAMED[alternative])
    assert st.power_of_t_test(n, effect=effect, level=0.01, alternative=alternative) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize(("n", "change", "discordant", "level"), [(12, 0.3, 0.5, 0.05), (9, -0.6, 0.6, 0.1), (15, 0.0, 0.8, 0.05)])
def test_the_power_of_the_sign_test(alternative, n, change, discordant, level):
    """Oracle: the trinomial chances of all outcomes whose sign test, run on data, has p <= level."""
    shares = [(discordant + change) / 2, (discordant - change) / 2, 1 - discordant]
    expected = sum(
        stats.multinomial.pmf([gains, losses, n - gains - losses], n, shares)
        for gains in range(n + 1)
        for losses in range(n + 1 - gains)
        if st.sign_test(*table(gains, losses, n), alternative=alternative).pvalue <= level
    )
    power = st.power_of_sign_test(n, change=change, discordant=discordant, level=level, alternative=alternative)
    assert power == pytest.approx(expected, abs=1e-12)


def test_a_power_curve_holds_the_power_of_every_combination():
    """Oracle: `power_of_sign_test`, itself tested above."""
    curve = st.power_curve(n=[20, 30], change=[-0.1, 0.2], discordant=0.3, alternative="less")
    assert list(zip(curve["n"], curve["change"], strict=True)) == [(20, -0.1), (20, 0.2), (30, -0.1), (30, 0.2)]
    for line in curve.itertuples():
        assert line.power == st.power_of_sign_test(line.n, change=line.change, discordant=0.3, alternative="less")


@pytest.mark.parametrize(("alternative", "comparisons", "expected"), [("two-sided", 1, 6), ("greater", 1, 5), ("two-sided", 156, 13)])
def test_problems_that_all_change_one_way_by_hand(alternative, comparisons, expected):
    """Oracle: by hand: n : 0 has p = 2 / 2^n (one-sided 1 / 2^n), which must be at most 0.05 / comparisons."""
    plan = st.plan(change=1.0, discordant=1.0, comparisons=comparisons, alternative=alternative)
    assert (plan.n_problems, plan.power_reached) == (expected, 1)


@pytest.mark.parametrize(
    ("level", "comparisons", "expected"),
    [(0.05, 1, 19), (0.05, 4, 79), (0.01, 1, 99), (0.001, 1, 999), (0.05, 156, 3119), (0.03, 1, 33), (1 / 3, 1, 2)],
)
def test_the_controls_that_a_level_needs_by_hand(level, comparisons, expected):
    """Oracle: by hand, the least K with comparisons / (K + 1) <= level."""
    assert st.plan(level=level, comparisons=comparisons).n_controls == expected


def test_the_planned_number_of_problems_agrees_with_the_normal_approximation():
    """Oracle: Connett, Smith and McHugh by hand: (1.959964 sqrt(0.2) + 0.841621 sqrt(0.1975))^2 / 0.05^2 = 625.5.

    The exact test is conservative, so it needs a few problems more.
    """
    rough = (1.959964 * math.sqrt(0.2) + 0.841621 * math.sqrt(0.1975)) ** 2 / 0.0025
    assert rough == pytest.approx(625.5, abs=0.1)
    assert rough < st.plan(change=0.05, discordant=0.2).n_problems < 1.08 * rough
