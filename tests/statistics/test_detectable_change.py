"""The change that could have been missed: SciPy's noncentral t, sums over all tables, and the tests themselves on simulated data."""

import numpy as np
import pytest
from scipy import stats

import steerlab.statistics as st


def rng(seed=0):
    return np.random.default_rng(seed)


def answers(n, up, down):
    """Before and after of n answers, of which some became right and some wrong."""
    return np.arange(n) < down, (np.arange(n) >= down) & (np.arange(n) < down + up)


def exact_power(n, change, share, level):
    """Oracle: every number of changed answers and of those that became right, each with its one-sided exact p."""
    total, better = 0.0, min(1.0, 0.5 + change / (2 * share))
    for m in range(n + 1):
        right = np.arange(m + 1)
        p = stats.binom.sf(right - 1, m, 0.5)
        total += stats.binom.pmf(m, n, share) * stats.binom.pmf(right, m, better)[p <= level].sum()
    return total


@pytest.mark.parametrize(("n", "up", "down"), [(86, 15, 0), (86, 1, 0), (86, 10, 7), (120, 2, 1)])
@pytest.mark.parametrize(("level", "power"), [(0.05, 0.8), (0.05 / 3, 0.9)])
def test_of_answers_the_exact_test_has_the_wanted_power_at_it(n, up, down, level, power):
    """Also where few answers changed: a change cannot be larger than the share of answers that change."""
    found = st.detectable_change(*answers(n, up, down), level=level, power=power)
    assert exact_power(n, found, max((up + down) / n, found), level) == pytest.approx(power, abs=1e-6)
    assert st.detectable_change(*answers(n, up, down), groups=np.arange(n), level=level, power=power) == found


@pytest.mark.parametrize(("n", "level"), [(12, 0.05), (30, 0.05), (30, 0.01), (200, 0.05 / 3)])
def test_of_real_values_a_t_test_has_about_the_wanted_power_at_it(n, level):
    """Oracle: SciPy's noncentral t."""
    before, after = rng(n).standard_normal((2, n))
    change = st.detectable_change(before, after, level=level)
    shift = change / (np.std(after - before, ddof=1) / np.sqrt(n))
    assert stats.nct.sf(stats.t.isf(level, n - 1), n - 1, shift) == pytest.approx(0.8, abs=0.02)


@pytest.mark.parametrize("answered", [False, True])
def test_by_group_the_sign_flip_test_finds_it_in_about_80_percent(answered):
    """Simulation: changes of whole groups, drawn from those that were seen and moved by the change that is to be found."""
    chance = rng(1)
    groups = np.repeat(np.arange(60), 3)
    if answered:
        change = chance.choice([-1.0, 0.0, 1.0], 60, p=[0.3, 0.4, 0.3])[groups]
    else:
        change = chance.standard_normal(60)[groups] + 0.3 * chance.standard_normal(180)
    before = (change < 0).astype(int) if answered else np.zeros(180)
    found = st.detectable_change(before, before + change.astype(int) if answered else change, groups=groups)
    centred, detected = change.reshape(60, 3) - change.mean(), 0
    for _ in range(400):
        drawn = centred[chance.integers(60, size=60)].ravel() + found
        detected += (
            st.sign_flip_test(np.zeros(180), drawn, groups=groups, rng=chance, alternative="greater", n_resamples=199).pvalue <= 0.05
        )
    assert detected / 400 == pytest.approx(0.8, abs=0.07)
    assert found > 1.4 * st.detectable_change(before, before + change.astype(int) if answered else change)


def test_it_shrinks_with_the_root_of_the_number_of_problems_and_has_the_unit_of_the_values():
    before, after = rng(3).standard_normal((2, 100))
    found = st.detectable_change(before, after)
    assert st.detectable_change(np.tile(before, 9), np.tile(after, 9)) == pytest.approx(found / 3, rel=0.02)
    assert st.detectable_change(10 * before, 10 * after) == pytest.approx(10 * found)
    assert st.detectable_change(after, before) == pytest.approx(found)
    assert st.detectable_change(before, after, level=0.01) > found < st.detectable_change(before, after, power=0.95)


def test_copies_of_problems_in_groups_see_no_more():
    before, after = rng(4).standard_normal((2, 50))
    copies = np.repeat(before, 4), np.repeat(after, 4)
    assert st.detectable_change(*copies, groups=np.repeat(np.arange(50), 4)) == pytest.approx(st.detectable_change(before, after))


def test_where_nothing_changed_or_problems_are_too_few_it_is_unknown():
    assert st.detectable_change([0, 1, 1], [0, 1, 1]) is None
    assert st.detectable_change([0.5, 1.5], [0.5, 1.5]) is None
    assert st.detectable_change([0] * 4, [1, 0, 0, 0]) is None  # all four right: p = 1/16
    assert st.detectable_change([0] * 5, [1, 0, 0, 0, 0]) < 1  # 1/32


def test_many_answers_have_nearly_the_same_by_either_way():
    few, many = (st.detectable_change(*answers(n, n // 10, n // 20)) for n in (5000, 5020))
    assert few == pytest.approx(many, rel=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"level": 0.0}, "level=0.0"),
        ({"power": 0.05}, "power=0.05: not above level=0.05"),
        ({"groups": [1, 1, 1]}, "all 3 problems are in group 1"),
        ({"groups": [1, 2]}, "groups: 2 labels for 3 problems"),
    ],
)
def test_bad_input_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        st.detectable_change([0, 1, 1], [1, 1, 1], **options)


def test_a_few_groups_find_nothing_however_large_the_effect():
    """By hand: five groups that all change alike have p = 1 / 32, above 0.05 / 3; six have 1 / 64."""
    before, after = [0] * 60, [1] * 20 + [0] * 40
    for n, found in ((5, False), (6, True)):
        groups = [k % n for k in range(60)]
        change = st.detectable_change(before, [k % 7 == 0 for k in range(60)], groups=groups, level=0.05 / 3)
        assert (change is not None) == found
    assert st.detectable_change(before, after, level=0.05 / 3) is not None
