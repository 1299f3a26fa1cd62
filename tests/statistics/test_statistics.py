"""What the statistics do with clear evidence, with none, and with input that they must refuse."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import steerlab.statistics as st


def table(became_right: int, became_wrong: int, stayed_right: int, stayed_wrong: int) -> tuple[np.ndarray, np.ndarray]:
    """Paired outcomes with the given counts."""
    sizes = [became_right, became_wrong, stayed_right, stayed_wrong]
    return np.repeat([False, True, True, False], sizes), np.repeat([True, False, True, False], sizes)


# Sign test


def test_the_sign_test_counts_the_four_kinds_of_problem():
    result = st.sign_test(*table(5, 2, 7, 3))
    assert (result.became_right, result.became_wrong, result.stayed_right, result.stayed_wrong) == (5, 2, 7, 3)
    assert (result.n, result.statistic) == (17, 5)
    assert result.change == pytest.approx(3 / 17)
    assert result.harmed_share == pytest.approx(2 / 17)


def test_no_changed_outcome_is_no_evidence():
    for alternative in ("two-sided", "greater", "less"):
        assert st.sign_test([1, 0, 1], [1, 0, 1], alternative=alternative).pvalue == 1


def test_greater_means_that_after_is_better():
    before, after = table(9, 1, 0, 0)
    assert st.sign_test(before, after, alternative="greater").pvalue < 0.05
    assert st.sign_test(before, after, alternative="less").pvalue > 0.95


def test_problems_that_did_not_change_do_not_change_p():
    assert st.sign_test(*table(9, 1, 0, 0)).pvalue == st.sign_test(*table(9, 1, 500, 300)).pvalue


def test_outcomes_may_be_lists_integers_series_and_nullable_booleans():
    before, after = table(4, 1, 2, 2)
    expected = st.sign_test(before, after)
    assert st.sign_test(before.tolist(), after.astype(int)) == expected
    assert st.sign_test(pd.Series(before), pd.Series(after, dtype="boolean")) == expected


def test_p_is_positive_even_where_floats_end():
    result = st.sign_test(*table(0, 5000, 0, 0))
    assert 0 < result.pvalue < 1e-300
    assert "p < 0.0001" in str(result)


def test_series_in_different_orders_are_not_paired():
    before = pd.Series([True, False, True], index=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"different orders; use after\.reindex"):
        st.sign_test(before, before.loc[["c", "b", "a"]])
    with pytest.raises(ValueError, match="different orders"):
        st.paired_interval(before, before.loc[["c", "b", "a"]])
    with pytest.raises(ValueError, match="different orders"):
        st.paired_t_test(before.astype(float), before.astype(float).loc[["c", "b", "a"]])


def test_two_slices_of_one_frame_pair_by_position():
    frame = pd.DataFrame({"alpha": [0, 0, 2, 2], "correct": [True, True, False, True]})
    result = st.sign_test(frame.correct[frame.alpha == 0], frame.correct[frame.alpha == 2])
    assert (result.became_wrong, result.stayed_right) == (1, 1)


@pytest.mark.parametrize("test", [st.sign_test, st.paired_interval])
@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ([1, 0], [1], "lengths 2 and 1"),
        (True, [1], "a single value and 1"),
        ([], [], "before: 0 outcomes given"),
        ([1, 0], [1, 2], r"after\[1\]=2: not an outcome"),
        ([1.0, 0.0], [1, 0], "before: dtype float64; outcomes are booleans"),
        ([True, float("nan")], [1, 0], "before: dtype float64"),
        ([True, None], [1, 0], r"before\[1\]=None: not an outcome"),
        (["yes", "no"], [1, 0], "before: dtype"),
        ([[1, 0]], [[1, 0]], r"before: shape \(1, 2\)"),
    ],
)
def test_what_is_not_a_pair_of_outcomes_is_refused(test, before, after, message):
    with pytest.raises(ValueError, match=message):
        test(before, after)


# T-tests


def test_margins_that_rose_are_seen():
    result = st.paired_t_test([0.0, 1.0, 2.0, 3.0], [1.0, 2.1, 2.9, 4.0], alternative="greater")
    assert result.mean == pytest.approx(1.0)
    assert result.pvalue < 0.001
    assert result.statistic > 0
    assert (result.df, result.n, result.popmean) == (3, 4, 0)


def test_margins_that_did_not_move_are_no_evidence():
    result = st.paired_t_test([1.5, 2.5, 3.5], [1.5, 2.5, 3.5])
    assert (result.pvalue, result.statistic, result.cohens_d) == (1, 0, 0)
    assert tuple(result.interval()) == (0, 0)
    assert result.interval().method == "t, no spread"


def test_equal_differences_that_are_not_zero_have_no_t():
    with pytest.raises(ValueError, match=r"all 3 differences equal 0\.1: t needs values that vary"):
        st.paired_t_test([1.0, 2.0, 3.0], [1.1, 2.1, 3.1])


def test_rounding_noise_is_not_a_difference():
    before = np.array([0.1, 0.7, 1e3])
    assert st.paired_t_test(before, before + 1e-13).pvalue == 1


def test_the_t_test_against_the_observed_value_is_signed_like_the_controls():
    result = st.one_sample_t_test([0.0, -1.0, 1.0, 0.5], -5.0, alternative="greater")
    assert result.statistic > 0
    assert result.pvalue < 0.01
    assert result.popmean == -5
    assert result.interval().low < result.mean < result.interval().high


def test_controls_that_all_equal_the_observed_value_are_no_evidence():
    assert st.one_sample_t_test([2.0, 2.0], 2.0).pvalue == 1
    with pytest.raises(ValueError, match="all 2 values equal 2"):
        st.one_sample_t_test([2.0, 2.0], 3.0)


@pytest.mark.parametrize("size", [1e300, 1e-300])
def test_numbers_that_floats_cannot_square_are_refused_and_not_turned_into_nan(size):
    for test in (
        lambda: st.paired_t_test([0.0, 0.0], [size, -size]),
        lambda: st.one_sample_t_test([0.0, size], 0.0),
        lambda: st.rank_test(size, [0.0]),
        lambda: st.cohens_d(0.0, [size, -size]),
    ):
        with pytest.raises(ValueError, match="beyond floating point when squared; rescale"):
            test()


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ([1.0], [2.0], r"before: 1 value\(s\) given; at least 2"),
        ([1.0, 2.0], [1.0], "lengths 2 and 1"),
        ([1.0, float("nan")], [1.0, 2.0], r"before\[1\]=nan: not finite"),
        ([1.0, 2.0], [float("inf"), 2.0], r"after\[0\]=inf: not finite"),
        ([1.0, None], [1.0, 2.0], r"before\[1\]=nan"),
        ([1.0, pd.NA], [1.0, 2.0], "before: holds something that is not a number"),
        (["a", "b"], [1.0, 2.0], "before: dtype"),
        ([1j, 2j], [1.0, 2.0], "before: dtype complex128"),
    ],
)
def test_what_is_not_a_pair_of_numbers_is_refused(before, after, message):
    with pytest.raises(ValueError, match=message):
        st.paired_t_test(before, after)


# Rank test and Cohen's d


def test_p_cannot_go_below_one_in_k_plus_one():
    result = st.rank_test(100.0, np.arange(99), alternative="greater")
    assert result.pvalue == result.smallest_p == 0.01
    assert (result.rank, result.exceeds, result.n_controls) == (1, 0, 99)


def test_five_controls_never_reach_five_percent():
    assert st.rank_test(1e9, [1, 2, 3, 4, 5]).pvalue == pytest.approx(1 / 6)


def test_a_tie_counts_against_us():
    assert st.rank_test(3.0, [1.0, 2.0, 3.0], alternative="greater").pvalue == 2 / 4
    assert st.rank_test(1.0, [1.0, 2.0, 3.0], alternative="less").pvalue == 2 / 4


def test_float_noise_does_not_break_a_tie_in_our_favour():
    assert 0.1 + 0.2 > 0.3
    assert st.rank_test(0.1 + 0.2, [0.3, 0.0], alternative="greater").exceeds == 1
    assert st.rank_test(-(0.1 + 0.2), [-0.3, 0.0], alternative="less").exceeds == 1
    assert st.rank_test(0.1 + 0.2, [0.3, 0.3]).exceeds == 2


def test_two_sided_looks_at_both_tails():
    controls = np.linspace(-1, 1, 19)
    assert st.rank_test(5.0, controls).pvalue == st.rank_test(-5.0, controls).pvalue == 0.05
    assert st.rank_test(0.0, controls).pvalue == 1


def test_one_control_is_no_two_sided_evidence():
    assert st.rank_test(1e6, [0.0]).pvalue == 1


def test_the_null_draws_are_kept():
    assert st.rank_test(0, [3, 1, 2]).controls == (3.0, 1.0, 2.0)


def test_cohens_d_points_from_the_controls_to_the_observed():
    assert st.cohens_d(-2.0, [-1.0, 0.0, 1.0]) == pytest.approx(-2.0)


def test_controls_without_spread_have_no_cohens_d():
    with pytest.raises(ValueError, match=r"all 3 controls equal 0\.3: their sd is 0"):
        st.cohens_d(1.0, [0.3, 0.1 + 0.2, 0.3])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: st.rank_test(1.0, []), r"controls: 0 value\(s\) given; at least 1"),
        (lambda: st.rank_test(float("nan"), [1.0]), "observed=nan: not finite"),
        (lambda: st.rank_test("high", [1.0]), "observed='high': not a number"),
        (lambda: st.rank_test(1.0, [1.0, float("inf")]), r"controls\[1\]=inf"),
        (lambda: st.rank_test(1.0, [[1.0]]), r"controls: shape \(1, 1\)"),
        (lambda: st.cohens_d(1.0, [1.0]), "at least 2"),
        (lambda: st.one_sample_t_test([1.0], 0.0), "at least 2"),
        (lambda: st.one_sample_t_test([1.0, 2.0], float("inf")), "popmean=inf"),
    ],
)
def test_controls_that_cannot_be_compared_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "call",
    [
        lambda alternative: st.sign_test([1], [0], alternative=alternative),
        lambda alternative: st.paired_t_test([1, 2], [2, 5], alternative=alternative),
        lambda alternative: st.one_sample_t_test([1, 2], 0, alternative=alternative),
        lambda alternative: st.rank_test(1, [0], alternative=alternative),
    ],
)
def test_an_unknown_alternative_is_refused(call):
    with pytest.raises(ValueError, match=r"alternative='two\.sided': use 'two-sided', 'greater' or 'less'"):
        call("two.sided")


# Intervals


def test_an_interval_unpacks_into_its_limits():
    low, high = st.wilson_interval(3, 10)
    assert 0 < low < 0.3 < high < 1


def test_wilson_reaches_the_ends_exactly():
    assert st.wilson_interval(0, 7).low == 0
    assert st.wilson_interval(7, 7).high == 1


def test_the_sign_tests_interval_is_the_paired_interval():
    before, after = table(5, 2, 7, 3)
    assert st.sign_test(before, after).interval(0.9) == st.paired_interval(before, after, confidence=0.9)


def test_an_unchanged_score_still_has_uncertainty():
    low, high = st.paired_interval([1, 0, 1, 1], [1, 0, 1, 1])
    assert low < 0 < high


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: st.wilson_interval(3, 0), "n=0: use an integer of at least 1"),
        (lambda: st.wilson_interval(4, 3), "successes=4: more than n=3; use 0 to 3"),
        (lambda: st.wilson_interval(-1, 3), "successes=-1: use an integer of at least 0"),
        (lambda: st.wilson_interval(1.5, 3), "successes=1.5: not an integer"),
        (
            lambda: st.wilson_interval(1, 3, confidence=95),
            r"confidence=95: use a number between 0 and 1.*\(0.95, not 95\)",
        ),
        (lambda: st.wilson_interval(1, 3, confidence=1.0), "confidence=1.0"),
        (lambda: st.paired_interval([1], [0], confidence=0), "confidence=0"),
        (lambda: st.sign_test([1], [0]).interval(2), "confidence=2"),
        (lambda: st.paired_t_test([1, 2], [2, 5]).interval(float("nan")), "confidence=nan"),
    ],
)
def test_impossible_counts_and_confidences_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# Corrections


def test_one_test_needs_no_correction():
    assert st.holm([0.03]).tolist() == st.benjamini_hochberg([0.03]).tolist() == [0.03]


def test_corrections_keep_the_shape_and_order_of_a_heatmap():
    cells = np.array([[0.9, 0.001], [0.04, 0.5]])
    for correct in (st.holm, st.benjamini_hochberg):
        adjusted = correct(pd.DataFrame(cells))
        assert adjusted.shape == (2, 2)
        assert adjusted.ravel().tolist() == correct(cells.ravel()).tolist()
        assert np.unravel_index(adjusted.argmin(), adjusted.shape) == (0, 1)


@pytest.mark.parametrize("correct", [st.holm, st.benjamini_hochberg])
@pytest.mark.parametrize(
    ("pvalues", "message"),
    [([], "at least 1"), ([0.5, 1.1], "holds 1.1"), ([-0.1], "holds -0.1"), ([0.1, float("nan")], r"\[1\]=nan")],
)
def test_what_is_not_a_p_value_is_refused(correct, pvalues, message):
    with pytest.raises(ValueError, match=message):
        correct(pvalues)


# Power


def test_five_changed_problems_can_never_be_significant():
    assert st.smallest_detectable_change(5, discordant=1.0) is None


def test_more_problems_see_smaller_changes():
    few, many = (st.smallest_detectable_change(n, discordant=0.3) for n in (100, 400))
    assert 0 < many < few < 0.3


def test_a_stricter_level_or_a_higher_power_needs_a_larger_change():
    plain = st.smallest_detectable_change(200, discordant=0.3)
    assert st.smallest_detectable_change(200, discordant=0.3, level=0.01) > plain
    assert st.smallest_detectable_change(200, discordant=0.3, power=0.95) > plain


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0, "discordant": 0.1}, "n=0"),
        ({"n": 10, "discordant": 0.0}, "discordant=0.0"),
        ({"n": 10, "discordant": 1.2}, "discordant=1.2"),
        ({"n": 10, "discordant": 0.5, "level": 0.0}, "level=0.0"),
        ({"n": 10, "discordant": 0.5, "power": 80}, "power=80"),
        ({"n": 10, "discordant": 0.5, "power": 0.05}, "power=0.05: not above level=0.05"),
    ],
)
def test_a_power_question_without_an_answer_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        st.smallest_detectable_change(**options)


# Display

RESULTS = {
    "sign": st.sign_test(*table(0, 60, 5, 5)),
    "paired t": st.paired_t_test([0.0] * 40, 100 + np.sin(np.arange(40))),
    "one-sample t": st.one_sample_t_test(np.sin(np.arange(40)), 50),
    "rank": st.rank_test(1e6, np.arange(20_000)),
    "interval": st.wilson_interval(3, 10),
}


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
def test_every_result_reads_as_one_line_and_as_a_table(result):
    assert "\n" not in str(result)
    assert result._repr_html_().startswith("<table>")


@pytest.mark.parametrize("name", ["sign", "paired t", "one-sample t", "rank"])
def test_no_p_is_ever_shown_as_zero(name):
    assert "p < 0.0001" in str(RESULTS[name])
    assert f">pvalue</th><td><bdi>{RESULTS[name].pvalue:.4g}</bdi>" in RESULTS[name]._repr_html_()
    assert float(f"{RESULTS[name].pvalue:.4g}") > 0


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
def test_every_result_is_frozen(result):
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.method = "other"


def test_p_is_shown_with_four_decimals_down_to_its_limit():
    assert st.format_p(1) == "p = 1.0000"
    assert st.format_p(1e-4) == "p = 0.0001"
    assert st.format_p(9.9e-5) == st.format_p(0.0) == "p < 0.0001"
    with pytest.raises(ValueError, match=r"p=1\.5"):
        st.format_p(1.5)


def test_one_control_against_two_sides_can_never_give_less_than_1():
    assert st.rank_test(5, [1]).smallest_p == st.rank_test(5, [1]).pvalue == 1
    assert st.rank_test(5, [1], alternative="greater").smallest_p == 0.5


def test_a_rank_test_says_how_far_above_the_controls_and_where_one_more_would_fall():
    result = st.rank_test(50, range(39))
    assert (result.statistic, result.effect) == (50, 31)
    assert tuple(result.interval()) == (0, 38)  # 2 of the 40 gaps lie outside
    assert tuple(result.interval(0.9)) == (1, 37)
    assert tuple(result.interval(0.96)) == (-np.inf, np.inf)


def test_t_tests_keep_what_they_tested():
    assert st.paired_t_test([1, 2, 3], [2, 4, 3]).values == (1, 2, 0)
    assert st.paired_t_test([1, 2], [1, 2]).values == (0, 0)
    assert st.one_sample_t_test([3, 5], 1).values == (3, 5)
