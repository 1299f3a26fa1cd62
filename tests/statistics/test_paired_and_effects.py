"""Paired tests, bootstrap and effect sizes: nothing found, nothing to find, and input that must be refused."""

import math

import numpy as np
import pandas as pd
import pytest

import steerlab.statistics as st
from steerlab.statistics import paired


def rng():
    return np.random.default_rng(0)


PAIRED = [
    st.wilcoxon_test,
    lambda before, after, **how: st.sign_flip_test(before, after, rng=rng(), **how),
    st.paired_t_test,
]


@pytest.mark.parametrize("test", PAIRED)
@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_where_nothing_changed_p_is_1(test, alternative):
    assert test([0.5, 1.5, 2.5], [0.5, 1.5, 2.5], alternative=alternative).pvalue == 1


@pytest.mark.parametrize("test", PAIRED)
@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ([1.0], [2.0], r"before: 1 value\(s\) given; at least 2 needed"),
        ([1.0, 2.0], [1.0, 2.0, 3.0], "lengths 2 and 3"),
        ([1.0, math.nan], [1.0, 2.0], r"before\[1\]=nan: not finite"),
        (pd.Series([1.0, 2.0], index=["a", "b"]), pd.Series([1.0, 2.0], index=["b", "a"]), "different orders"),
    ],
)
def test_pairs_that_are_none_are_refused(test, before, after, message):
    with pytest.raises(ValueError, match=message):
        test(before, after)
    with pytest.raises(ValueError, match="alternative='bigger'"):
        test([1.0, 2.0], [2.0, 4.0], alternative="bigger")


def test_sizes_that_differ_by_rounding_alone_are_ties():
    before, after = [0.1, 0.3, 0.7], [0.3, 0.5, 0.5]  # 0.3 - 0.1, 0.5 - 0.3 and 0.5 - 0.7 are three different floats
    assert st.wilcoxon_test(before, after).statistic == 4


def test_all_flips_are_gone_through_where_they_are_few():
    assert st.sign_flip_test([0, 0, 0], [1, 2, 3], rng=rng()).exact
    assert st.sign_flip_test([0, 0, 0], [1, 2, 3], rng=rng()).pvalue == 0.25
    assert st.sign_flip_test([0, 0, 0], [1, 2, 3], rng=rng(), n_resamples=7).pvalue >= 1 / 8


def test_random_flips_come_from_the_generator():
    before, after = np.zeros(30), np.linspace(-1, 1.2, 30)
    one, two = (st.sign_flip_test(before, after, rng=np.random.default_rng(3)) for _ in range(2))
    assert one.null.tobytes() == two.null.tobytes()
    assert one.smallest_p == 1e-4
    for draw in (st.sign_flip_test, st.bootstrap):
        with pytest.raises(TypeError, match=r"rng=0; give a generator"):
            draw(before, after, rng=0) if draw is st.sign_flip_test else draw(before, rng=0)


def test_a_constant_shift_has_no_sd_but_a_sign_flip_p():
    result = st.sign_flip_test(np.zeros(20), np.ones(20), rng=rng())
    assert result.pvalue == 1e-4
    assert result.cohens_d == math.inf
    assert tuple(result.interval()) == (1, 1)


def test_welch_needs_values_that_vary():
    assert st.welch_t_test([1, 1], [1, 1, 1]).pvalue == 1
    with pytest.raises(ValueError, match="all values of first equal 1 and all of second 2"):
        st.welch_t_test([1, 1], [2, 2])
    assert st.welch_t_test([1, 1, 1], [2, 2.5, 3]).pvalue < 0.05


def test_controls_that_do_not_vary_predict_nothing_else():
    assert st.prediction_test(1, [1, 1, 1]).pvalue == 1
    with pytest.raises(ValueError, match="all 3 controls equal 1"):
        st.prediction_test(2, [1, 1, 1])
    with pytest.raises(ValueError, match=r"controls: 1 value\(s\) given; at least 2"):
        st.prediction_test(2, [1])


def test_one_direction_against_five_controls_needs_more_than_the_sources_say():
    """Controls -1, -2, -5, -10, -11 and a direction at -11: one more draw from the same distribution would often go as far."""
    assert st.prediction_test(-11, [-1, -2, -5, -10, -11]).pvalue > 0.3


def test_a_bootstrap_of_equal_values_has_no_width():
    interval = st.bootstrap([2.0, 2.0, 2.0], rng=rng(), n_resamples=50).interval()
    assert tuple(interval) == (2, 2)
    assert interval.method.endswith("no spread")


def test_a_bootstrap_keeps_paired_columns_together():
    before = np.arange(20.0)
    found = st.bootstrap(
        np.column_stack([before, before + 1]), lambda rows: float((rows[:, 1] - rows[:, 0]).mean()), rng=rng(), n_resamples=50
    )
    assert tuple(found.interval()) == (1, 1)


@pytest.mark.parametrize(
    ("values", "how", "message"),
    [
        ([1.0], {}, "1 given; at least 2 problems"),
        ([1.0, math.inf], {}, r"values\[1\]=inf"),
        (["a", "b"], {}, "dtype"),
        ([1.0, 2.0], {"groups": ["a"]}, "1 labels for 2 problems"),
        ([1.0, 2.0], {"groups": ["a", "a"]}, "all 2 problems are in group 'a'"),
        ([1.0, 2.0], {"groups": ["a", None]}, r"groups\[1\] is missing"),
        ([1.0, 2.0], {"n_resamples": 1}, "n_resamples=1"),
        ([1.0, 2.0], {"statistic": lambda rows: math.nan}, "statistic of a resample=nan"),
    ],
)
def test_what_cannot_be_drawn_again_is_refused(values, how, message):
    with pytest.raises(ValueError, match=message):
        st.bootstrap(values, rng=rng(), **how)


def test_an_unknown_bootstrap_interval_is_refused():
    with pytest.raises(ValueError, match="method='normal'; use one of BCa, percentile"):
        st.bootstrap([1.0, 2.0, 4.0], rng=rng(), n_resamples=50).interval(method="normal")


def test_effects_that_have_no_value_are_refused():
    with pytest.raises(ValueError, match="all 3 values equal 2"):
        st.effect_size([2, 2, 2])
    assert st.effect_size([2, 2, 2], 2).value == 0
    assert st.paired_effect_size([1, 2], [1, 2]).value == 0
    with pytest.raises(ValueError, match="none of the 2 problems became right or wrong"):
        st.discordant_odds_ratio([1, 0], [1, 0])
    with pytest.raises(ValueError, match=r"after=62.0: a proportion lies from 0 to 1"):
        st.cohens_h(0.3, 62)
    with pytest.raises(ValueError, match="wanted='sideways'"):
        st.anti_steerable_share([1], [2], wanted="sideways")


def test_nothing_that_became_wrong_makes_infinite_odds():
    result = st.discordant_odds_ratio([0, 0, 0], [1, 1, 1])
    assert result.value == math.inf
    assert result.interval().high == math.inf
    assert result.interval().low == pytest.approx(0.2924 / 0.7076, abs=1e-3)


def test_moved_down_is_the_right_way_where_that_is_wanted():
    assert st.anti_steerable_share([1, 1], [0, 2], wanted="down") == st.AntiSteerable(1, 1, 0, 2)


@pytest.mark.parametrize(
    "result",
    [
        st.sign_test([1, 0], [0, 0], mid_p=True),
        st.wilcoxon_test([1.0, 2.0, 4.0], [2.0, 4.0, 3.5]),
        st.sign_flip_test([1.0, 2.0, 4.0], [2.0, 4.0, 3.5], rng=np.random.default_rng(0)),
        st.welch_t_test([1.0, 2.0], [3.0, 5.0]),
        st.prediction_test(1.0, [3.0, 5.0]),
        st.bootstrap([1.0, 2.0, 4.0], rng=np.random.default_rng(0), n_resamples=50),
        st.effect_size([1.0, 2.0]),
        st.discordant_odds_ratio([1, 0], [0, 0]),
        st.anti_steerable_share([1, 0], [0, 0]),
    ],
    ids=lambda result: type(result).__name__,
)
def test_results_show_themselves(result):
    assert "<table>" in result._repr_html_()
    assert "nan" not in str(result) + result._repr_html_()


@pytest.mark.parametrize("n", [2, 3, 5])
def test_too_few_pairs_give_no_limits_rather_than_false_ones(n):
    result = st.wilcoxon_test(np.zeros(n), np.arange(1.0, n + 1))
    assert tuple(result.interval()) == (-math.inf, math.inf)
    assert tuple(result.interval(0.5)) != (-math.inf, math.inf)


def test_many_differences_have_the_averages_that_listing_them_would_give(monkeypatch):
    differences = np.random.default_rng(0).normal(size=60).round(2)
    listed = [paired._average(np.sort(differences), k) for k in (0, 5, 900, 1829)]
    monkeypatch.setattr(paired, "LISTED", 1)
    assert [paired._average(np.sort(differences), k) for k in (0, 5, 900, 1829)] == pytest.approx(listed, abs=1e-12)


def test_two_values_have_no_small_sample_correction_so_d_is_given_with_its_width():
    result = st.effect_size([1.0, 2.0])
    assert str(result).startswith("d = 2.121")
    assert result.interval() == st.effect_size([1.0, 2.0], corrected=False).interval()
    assert result.interval().low < 0 < result.interval().high


def test_differences_that_vary_by_rounding_alone_are_equal():
    result = st.sign_flip_test([0.1, 0.2, 0.3], [0.2, 0.3, 0.4], rng=np.random.default_rng(0))
    assert result.cohens_d == math.inf
    assert result.interval().low == result.interval().high


def test_a_cluster_label_that_pandas_calls_missing_is_refused():
    labels = pd.Series(["a", "b", pd.NA, pd.NA], dtype="string")
    with pytest.raises(ValueError, match=r"groups\[2\] is missing"):
        st.bootstrap([1, 2, 3, 4], rng=rng(), groups=labels)


@pytest.mark.parametrize(
    "call",
    [
        lambda masked: st.paired_t_test(masked, [1.0, 0.0, 1.0]),
        lambda masked: st.sign_test(masked.astype(int), [1, 0, 1]),
        lambda masked: st.bootstrap(masked, rng=rng()),
        lambda masked: st.max_statistic_test([0, 1, 0], masked[:, None], rng=rng()),
        st.holm,
        lambda masked: st.effective_size(masked[:, None]),
    ],
)
def test_masked_values_do_not_come_back_to_life(call):
    with pytest.raises(ValueError, match=r"1 value\(s\) are masked"):
        call(np.ma.array([1.0, 0.0, 1.0], mask=[False, False, True]))


def test_text_is_no_number_even_where_it_could_be_read_as_one():
    text = pd.Series(["1", "2", "4"], dtype=object)
    with pytest.raises(ValueError, match="before: holds the text '1'"):
        st.paired_t_test(text, [2.0, 4.0, 9.0])
    with pytest.raises(ValueError, match="observed='3': not a number"):
        st.rank_test("3", [1, 2, 4])
