"""Equivalence, power and plans: edges, words, and wishes that are refused."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import steerlab as sl
import steerlab.statistics as st


def table(gains, losses, rest):
    sizes = [gains, losses, rest]
    return np.repeat([False, True, True], sizes), np.repeat([True, False, True], sizes)


# Equivalence


def test_no_change_among_many_is_equivalent_and_among_few_is_not():
    assert st.equivalence_test(*table(0, 0, 100), margin=0.05).equivalent()
    few = st.equivalence_test(*table(0, 0, 20), margin=0.05)
    assert not few.equivalent()
    # By hand: at the margin, without gains, no loss in 20 has a chance of 0.95^20.
    assert few.pvalue >= 0.95**20


def test_a_large_change_is_not_equivalent_and_says_which_side():
    result = st.equivalence_test(*table(0, 20, 80), margin=0.1)
    assert result.pvalue == result.p_above > 0.9
    assert result.p_below < 0.001
    assert "not shown to be within ±0.1" in str(result)


def test_booleans_zeros_and_ones_and_nullable_booleans_are_outcomes_and_floats_are_not():
    before, after = table(3, 2, 40)
    expected = st.equivalence_test(before, after, margin=0.2).pvalue
    assert st.equivalence_test(before.astype(int), after.astype(int), margin=0.2).pvalue == expected
    assert st.equivalence_test(pd.Series(before, dtype="boolean"), after, margin=0.2).pvalue == expected
    assert st.equivalence_test(before.astype(float), after.astype(float), margin=0.2).method == "paired t"
    assert st.equivalence_test([3, 4, 9], [3, 5, 8], margin=2).method == "paired t"


def test_one_pair_has_a_defined_result():
    assert st.equivalence_test([True], [False], margin=0.5).pvalue == 1
    assert st.equivalence_test([True], [True], margin=0.5).pvalue == pytest.approx(0.5)


def test_differences_without_spread_are_judged_by_their_signs():
    result = st.equivalence_test([1.0, 2.0, 3.0, 4.0, 5.0], [1.1, 2.1, 3.1, 4.1, 5.1], margin=0.2)
    assert (result.method, result.pvalue) == ("sign", 1 / 2**5)
    assert tuple(result.interval()) == pytest.approx((0.1, 0.1))
    assert st.equivalence_test([1.0, 2.0], [1.1, 2.1], margin=0.1).pvalue == 1
    assert st.equivalence_test([1.0, 2.0], [1.0, 2.0], margin=0.1).pvalue == 1 / 4


@pytest.mark.parametrize(
    ("before", "after", "margin", "message"),
    [
        ([True], [False, True], 0.1, "lengths 1 and 2"),
        ([], [], 0.1, "at least 2"),
        ([1.5], [2.5], 0.1, "at least 2"),
        ([1.5, np.nan], [2.5, 1.0], 0.1, r"before\[1\]=nan"),
        ([True, False], [True, True], 0, "margin=0: use the smallest change that would matter"),
        ([1.5, 2.5], [1.5, 2.5], -1.0, "margin=-1"),
        ([True, False], [True, True], 5, r"margin=5: outcomes change by proportions"),
        ([True, False], [True, True], np.inf, "margin=inf: not finite"),
    ],
)
def test_an_equivalence_without_an_answer_is_refused(before, after, margin, message):
    with pytest.raises(ValueError, match=message):
        st.equivalence_test(before, after, margin=margin)


# Power


def test_too_few_problems_have_no_power():
    assert st.power_of_sign_test(5, change=1.0, discordant=1.0) == 0
    assert st.power_of_sign_test(5, change=1.0, discordant=1.0, alternative="greater") == 1
    assert st.power_of_sign_test(6, change=1.0, discordant=1.0) == 1


def test_the_wrong_side_has_no_power():
    assert st.power_of_sign_test(100, change=0.3, discordant=0.4, alternative="less") < 1e-6
    assert st.power_of_t_test(50, effect=1.0, alternative="less") < 1e-6


def test_the_power_of_the_sign_test_moves_in_a_sawtooth():
    powers = st.power_curve(n=range(20, 40), change=0.9, discordant=1.0, level=1e-4)["power"]
    assert (np.diff(powers) < 0).any()
    assert powers.iloc[-1] > powers.iloc[0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: st.power_of_sign_test(0, change=0.1, discordant=0.2), "n=0"),
        (lambda: st.power_of_sign_test(9, change=0.3, discordant=0.2), "change=0.3: larger than discordant=0.2"),
        (lambda: st.power_of_sign_test(9, change=-0.3, discordant=0.2), "change=-0.3: larger than discordant=0.2"),
        (lambda: st.power_of_sign_test(9, change=0.1, discordant=2), "discordant=2"),
        (lambda: st.power_of_sign_test(9, change=0.1, discordant=0.2, level=5), "level=5"),
        (lambda: st.power_of_sign_test(9, change=0.1, discordant=0.2, alternative="up"), "alternative='up'"),
        (lambda: st.power_of_t_test(1, effect=0.5), "n=1: use an integer of at least 2"),
        (lambda: st.power_of_t_test(9, effect=np.nan), "effect=nan"),
        (lambda: st.power_of_t_test(9, effect=1.0, alternative="up"), "alternative='up'"),
        (lambda: st.power_curve(n=[], change=0.1, discordant=0.2), r"n: shape \(0,\)"),
        (lambda: st.power_curve(n=[10.5], change=0.1, discordant=0.2), "n=10.5: not an integer"),
        (lambda: st.power_curve(n=10, change=[[0.1]], discordant=0.2), r"change: shape \(1, 1\)"),
    ],
)
def test_a_power_that_does_not_exist_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Plans


def test_a_plan_says_in_sentences_what_is_needed():
    plan = sl.statistics.plan(change=-0.1, discordant=0.2, level=0.01, comparisons=13)
    assert (plan.n_controls, plan.comparisons) == (1299, 13)
    assert plan.level_per_comparison == pytest.approx(0.01 / 13)
    assert plan.power_reached >= 0.8
    assert f"Use at least {plan.n_problems} problems" in str(plan)
    assert "corrected for 13 comparisons" in str(plan)
    assert "\n" not in str(plan)
    assert ">n problems</th>" in plan._repr_html_()
    with pytest.raises(dataclasses.FrozenInstanceError):
        plan.comparisons = 1


def test_controls_alone_can_be_planned():
    plan = st.plan()
    assert (plan.n_controls, plan.n_problems, plan.power_reached) == (19, None, None)
    assert str(plan) == "Use at least 19 controls: the smallest p of the rank test is then 0.05, which is at most the level 0.05."
    assert "problems" not in plan._repr_html_()


def test_more_comparisons_a_smaller_change_more_changed_answers_and_more_power_need_more_problems():
    plain = st.plan(change=0.1, discordant=0.2).n_problems
    assert st.plan(change=0.1, discordant=0.2, comparisons=13).n_problems > plain
    assert st.plan(change=0.05, discordant=0.2).n_problems > plain
    assert st.plan(change=0.1, discordant=0.4).n_problems > plain
    assert st.plan(change=0.1, discordant=0.2, power=0.95).n_problems > plain
    assert st.plan(change=0.1, discordant=0.2, alternative="greater").n_problems < plain


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"change": 0.1}, "discordant is missing; give change and discordant together"),
        ({"discordant": 0.1}, "change is missing"),
        ({"change": 0, "discordant": 0.1}, "change=0: no number of problems detects it"),
        ({"change": 0.2, "discordant": 0.1}, "change=0.2: larger than discordant=0.1"),
        ({"change": -0.1, "discordant": 0.2, "alternative": "greater"}, "the test is of the other direction"),
        ({"change": 0.1, "discordant": 0.2, "alternative": "less"}, "the test is of the other direction"),
        ({"change": 0.001, "discordant": 0.2}, r"about 1,569,8\d\d problems needed for power 0.8 at level 0.05, beyond the 40,000"),
        ({"change": 0.1, "discordant": 0.2, "power": 0.01}, "power=0.01: not above level=0.05"),
        ({"change": 0.1, "discordant": 0.2, "power": 1}, "power=1"),
        ({"level": 0}, "level=0"),
        ({"level": 5}, "level=5"),
        ({"comparisons": 0}, "comparisons=0"),
        ({"alternative": "up"}, "alternative='up'"),
    ],
)
def test_impossible_wishes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        st.plan(**options)
