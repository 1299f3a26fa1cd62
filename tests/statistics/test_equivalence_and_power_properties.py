"""What must hold for equivalence tests, power and plans, whatever is asked."""

import numpy as np
import pytest
from examples import examples
from hypothesis import assume, given, settings
from hypothesis import strategies as hs

import steerlab.statistics as st

ALTERNATIVES = ("two-sided", "greater", "less")
MIRROR = {"two-sided": "two-sided", "greater": "less", "less": "greater"}

alternatives = hs.sampled_from(ALTERNATIVES)
counts = hs.tuples(hs.integers(0, 12), hs.integers(0, 12), hs.integers(1, 30))
margins = hs.floats(0.01, 0.95)
levels = hs.sampled_from((0.005, 0.05, 0.2))
quick = settings(max_examples=examples(30))


def table(gains, losses, rest):
    sizes = [gains, losses, rest]
    return np.repeat([False, True, True], sizes), np.repeat([True, False, True], sizes)


@quick
@given(counts, margins)
def test_swapping_before_and_after_swaps_the_two_sides_of_equivalence(sizes, margin):
    before, after = table(*sizes)
    forth, back = st.equivalence_test(before, after, margin=margin), st.equivalence_test(after, before, margin=margin)
    assert (forth.p_above, forth.p_below, forth.pvalue) == (back.p_below, back.p_above, back.pvalue)
    assert forth.change == -back.change


@quick
@given(counts, margins, margins)
def test_a_wider_margin_is_further_away_on_both_sides(sizes, one, other):
    narrow, wide = (st.equivalence_test(*table(*sizes), margin=m) for m in sorted((one, other)))
    assert wide.statistic_above >= narrow.statistic_above - 1e-9
    assert wide.statistic_below <= narrow.statistic_below + 1e-9


@quick
@given(hs.lists(hs.integers(-50, 50), min_size=2, max_size=20), hs.floats(0.01, 6), hs.floats(0.01, 6))
def test_a_wider_margin_is_never_harder_to_keep_for_real_values(differences, one, other):
    narrow, wide = (st.equivalence_test(np.zeros(len(differences)), differences, margin=m).pvalue for m in sorted((one, other)))
    assert wide <= narrow


@quick
@given(counts, margins)
def test_one_more_gain_speaks_against_a_loss_and_for_a_gain(sizes, margin):
    gains, losses, rest = sizes
    fewer = st.equivalence_test(*table(gains, losses, rest + 1), margin=margin)
    more = st.equivalence_test(*table(gains + 1, losses, rest), margin=margin)
    assert more.p_above <= fewer.p_above + 1e-6
    assert more.p_below >= fewer.p_below - 1e-6


@quick
@given(counts, margins)
def test_a_change_as_large_as_the_margin_is_never_equivalent(sizes, margin):
    result = st.equivalence_test(*table(*sizes), margin=margin)
    assert 0 < result.pvalue <= 1
    if abs(result.change) >= margin:
        assert result.pvalue > 0.2


@quick
@given(hs.lists(hs.floats(-5, 5), min_size=3, max_size=20), hs.floats(0.01, 6), hs.floats(0.01, 0.3))
def test_real_values_are_equivalent_exactly_where_their_interval_lies_within_the_margins(differences, margin, level):
    assume(np.ptp(differences) > 1e-3)
    result = st.equivalence_test(np.zeros(len(differences)), differences, margin=margin)
    low, high = result.interval(1 - 2 * level)
    assume(min(abs(low + margin), abs(high - margin)) > 1e-9)
    assert result.equivalent(level) == (-margin < low and high < margin)


def test_the_real_equivalence_test_rejects_at_the_margin_as_often_as_it_says():
    rng = np.random.default_rng(0)
    differences = rng.normal(1.0, 0.5, size=(2000, 20))
    rejected = np.mean([st.equivalence_test(np.zeros(20), row, margin=1.0).equivalent() for row in differences])
    # Four standard errors of a share of 2000.
    assert abs(rejected - 0.05) < 4 * (0.05 * 0.95 / 2000) ** 0.5


@quick
@given(hs.integers(1, 80), hs.floats(0.05, 1), hs.floats(0, 1), hs.floats(0, 1), levels, alternatives)
def test_power_rises_with_the_change_and_mirrors(n, discordant, one, other, level, alternative):
    small, large = (discordant * size for size in sorted((one, other)))
    options = {"discordant": discordant, "level": level}
    rising = "two-sided" if alternative == "two-sided" else "greater"
    powers = [st.power_of_sign_test(n, change=change, alternative=rising, **options) for change in (small, large)]
    assert 0 <= powers[0] <= powers[1] + 1e-12 <= 1 + 1e-12
    mirrored = st.power_of_sign_test(n, change=-large, alternative=MIRROR[rising], **options)
    assert mirrored == pytest.approx(powers[1], abs=1e-12)


@quick
@given(hs.integers(1, 200), hs.floats(0.01, 1), levels, alternatives)
def test_without_a_change_the_power_is_at_most_the_level(n, discordant, level, alternative):
    assert st.power_of_sign_test(n, change=0.0, discordant=discordant, level=level, alternative=alternative) <= level + 1e-12


@quick
@given(hs.integers(6, 200), hs.floats(0.1, 1), hs.floats(0.2, 0.95))
def test_the_smallest_detectable_change_has_the_wanted_power(n, discordant, power):
    change = st.smallest_detectable_change(n, discordant=discordant, power=power)
    assume(change is not None)
    assert st.power_of_sign_test(n, change=change, discordant=discordant) == pytest.approx(power, abs=1e-9)


@quick
@given(hs.integers(2, 300), hs.floats(-2, 2), hs.floats(-2, 2), levels, alternatives)
def test_the_power_of_the_t_test_rises_with_the_effect_and_mirrors(n, one, other, level, alternative):
    small, large = sorted((abs(one), abs(other))) if alternative == "two-sided" else sorted((one, other))
    rising = "two-sided" if alternative == "two-sided" else "greater"
    powers = [st.power_of_t_test(n, effect=effect, level=level, alternative=rising) for effect in (small, large)]
    assert 0 <= powers[0] <= powers[1] + 1e-9 <= 1 + 1e-9
    assert st.power_of_t_test(n, effect=-large, level=level, alternative=MIRROR[rising]) == pytest.approx(powers[1])
    assert st.power_of_t_test(n, effect=0.0, level=level, alternative=alternative) == pytest.approx(level)


@settings(max_examples=examples(12))
@given(hs.floats(0.15, 1), hs.floats(0.4, 1), hs.floats(0.3, 0.9), hs.integers(1, 20), alternatives)
def test_from_the_planned_number_of_problems_on_the_power_stays(discordant, share, power, comparisons, alternative):
    change = discordant * share * (-1 if alternative == "less" else 1)
    plan = st.plan(change=change, discordant=discordant, power=power, comparisons=comparisons, alternative=alternative)
    n = plan.n_problems
    options = {"change": change, "discordant": discordant, "level": 0.05 / comparisons, "alternative": alternative}
    powers = st.power_curve(n=range(n, 2 * n + 1, max(1, n // 40)), **options)["power"]
    assert (powers >= power - 1e-12).all()
    assert powers[0] == pytest.approx(plan.power_reached)
    assert n == 1 or st.power_of_sign_test(n - 1, **options) < power


@quick
@given(hs.floats(1e-4, 0.9), hs.integers(1, 200), alternatives)
def test_the_planned_controls_allow_the_level_and_one_fewer_does_not(level, comparisons, alternative):
    k = st.plan(level=level, power=0.95, comparisons=comparisons, alternative=alternative).n_controls
    reached = st.rank_test(1e9, np.arange(k), alternative="greater").pvalue
    assert comparisons * reached <= level * (1 + 1e-9)
    assert comparisons / k > level or k == (2 if alternative == "two-sided" else 1)
