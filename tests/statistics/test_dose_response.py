"""Dose-responses with and without problems, flat ones, and input that is refused."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import steerlab.statistics as st

ALPHAS = [-1.0, 0.0, 1.0, 2.0]
RISING = np.array([[0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 1, 1], [0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1]])
HUMP = np.tile([0, 1, 1, 0], (12, 1))
ABOUT_ALPHA = [st.trend_test, st.isotonic_fit, st.spearman, st.dose_response]


def chance(seed=0):
    return np.random.default_rng(seed)


def test_a_response_that_rises_is_seen_and_is_monotonic():
    result = st.dose_response(ALPHAS, RISING, rng=chance())
    assert result.is_monotonic
    assert all("approximate: with only 7 problems" in said for said in result.warnings())
    assert result.trend.pvalue == 2 / 2**7
    assert (result.trend.rising, result.trend.falling, result.n_problems) == (7, 0, 7)
    assert result.linear.interval().low > 0
    assert result.spearman.rho == 1
    assert result.isotonic.increasing
    assert result.frame.columns.tolist() == ["alpha", "mean", "linear", "isotonic"]


def test_the_sides_of_the_trend_test():
    greater, less = (st.trend_test(ALPHAS, RISING, rng=chance(), alternative=side).pvalue for side in ("greater", "less"))
    assert greater == 1 / 2**7
    assert less == 1


def test_a_response_that_comes_back_is_warned_about_with_alphas_size_and_chance():
    result = st.dose_response(ALPHAS, HUMP, rng=chance())
    assert not result.is_monotonic
    sentence, *_ = result.warnings()
    assert sentence.startswith(
        "The response is not monotonic: on the whole it rises with alpha, but from alpha = 0 to 2 it falls by 1, more than chance"
    )
    assert "adjusted for 6 pairs" in sentence
    assert sentence in result._repr_html_()


def test_a_reversal_that_chance_explains_is_said_to_be_one():
    values = RISING.copy()
    values[0] = [1, 0, 1, 1]
    values[2] = [1, 0, 0, 1]
    values[1] = [0, 0, 1, 1]
    values[5] = [0, 0, 1, 1]
    sentence, *_ = st.dose_response(ALPHAS, values, rng=chance()).warnings()
    assert "from alpha = -1 to 0 it falls by 0.2857, which is consistent with chance" in sentence


def test_means_alone_cannot_tell_chance_but_give_the_rest():
    result = st.dose_response(ALPHAS, [0.2, 0.5, 0.4, 0.7], rng=chance())
    assert result.n_problems is None
    assert result.trend.null == "permutation"
    assert result.reversal.pvalue is None
    assert "means alone cannot tell" in result.warnings()[0]
    assert result.asymmetry.mean == pytest.approx(-0.4)
    assert result.linear.df == 2
    for call in (result.isotonic.interval, result.asymmetry.interval):
        with pytest.raises(ValueError, match=r"an interval needs values \[problem, alpha\]"):
            call()


def test_a_falling_response_is_fitted_falling_and_its_rise_is_the_reversal():
    result = st.dose_response(ALPHAS, [0.9, 0.5, 0.6, 0.1], rng=chance())
    assert not result.isotonic.increasing
    assert (result.reversal.alpha_from, result.reversal.alpha_to) == (0, 1)
    assert "on the whole it falls with alpha, but from alpha = 0 to 1 it rises by 0.1" in result.warnings()[0]


def test_a_direction_that_was_asked_for_is_kept():
    fit = st.isotonic_fit(ALPHAS, [0.9, 0.5, 0.6, 0.1], rng=chance(), increasing=True)
    assert fit.fitted == pytest.approx([0.525] * 4)
    reversal = st.largest_reversal(ALPHAS, [0.9, 0.5, 0.6, 0.1], rng=chance(), increasing=True)
    assert (reversal.alpha_from, reversal.alpha_to, reversal.size) == (-1, 2, pytest.approx(0.8))


def test_a_flat_response_has_a_defined_result_everywhere():
    for values in (np.ones((5, 4), dtype=bool), [0.3, 0.3, 0.1 + 0.2, 0.3]):
        result = st.dose_response(ALPHAS, values, rng=chance(), n_resamples=50)
        assert result.is_monotonic
        assert (result.trend.pvalue, result.trend.z, result.spearman.rho) == (1, 0, 0)
        assert result.linear.slope == pytest.approx(0, abs=1e-15)
        assert result.linear.interval().low == pytest.approx(0, abs=1e-15)
        assert result.asymmetry.mean == pytest.approx(0, abs=1e-15)
        assert "nan" not in result._repr_html_()


def test_problems_with_one_slope_have_an_interval_without_width():
    line = st.linear_fit([0, 1, 2], [[0.0, 0.1, 0.2], [1.0, 1.1, 1.2], [5.0, 5.1, 5.2]])
    assert tuple(line.interval()) == pytest.approx((0.1, 0.1))
    assert line.interval().method == "t, no spread"


def test_means_in_perfect_order_have_a_rho_without_width():
    interval = st.spearman(ALPHAS, [1, 2, 3, 4], rng=chance()).interval()
    assert (tuple(interval), interval.method) == ((1, 1), "Bonett-Wright, no spread")


def test_an_interval_of_rho_reaches_as_far_above_as_below_so_that_noise_does_not_hide_a_rho_of_one():
    noisy = np.arange(7) + 3 * np.random.default_rng(3).standard_normal((12, 7))
    result = st.spearman(np.arange(7), noisy, rng=chance())
    low, high = result.interval()
    assert np.quantile(result.draws, 0.975) < 1 == high  # drawn again, noise pulls rho below what it is
    assert low == pytest.approx(np.quantile(result.draws, 0.025))


def test_three_means_have_a_rho_but_no_interval_of_it():
    result = st.spearman([0, 1, 2], [1, 3, 2], rng=chance())
    assert str(result) == "Spearman's rho = 0.500 over 3 alphas"
    assert "interval" not in result._repr_html_()
    with pytest.raises(ValueError, match="3 means: an interval of Spearman's rho needs at least 4"):
        result.interval()


def test_asymmetry_uses_the_alphas_that_have_both_signs():
    result = st.asymmetry([-1, 0, 1, 2, -0.5], [0.1, 0.4, 0.6, 9.0, 7.0])
    assert result.frame["size"].tolist() == [1]
    assert result.mean == pytest.approx(-0.1)
    assert st.dose_response([0, 1, 2], RISING[:, 1:], rng=chance(), n_resamples=9).asymmetry is None
    for alphas in ([-1, 1, 2], [0, 1, 2], [-1, 0, 2]):
        with pytest.raises(ValueError, match="give alpha = 0 and at least one alpha with both signs"):
            st.asymmetry(alphas, [1, 2, 3])


def test_the_same_seed_gives_the_same_bytes():
    values = chance(1).random((30, 4)) < 0.5
    one, same, other = (st.dose_response(ALPHAS, values, rng=chance(seed), n_resamples=200) for seed in (3, 3, 4))
    for part in ("isotonic", "spearman", "trend"):
        assert getattr(one, part).draws.tobytes() == getattr(same, part).draws.tobytes()
    assert one.isotonic.draws.tobytes() != other.isotonic.draws.tobytes()
    assert one._repr_html_() == same._repr_html_()


def test_a_frame_must_have_its_columns_in_the_order_of_the_alphas():
    frame = pd.DataFrame(RISING, columns=ALPHAS)
    assert st.linear_fit(ALPHAS, frame) == st.linear_fit(ALPHAS, RISING)
    assert st.linear_fit(ALPHAS, frame.set_axis(list("abcd"), axis=1)) == st.linear_fit(ALPHAS, RISING)
    with pytest.raises(ValueError, match=r"in a different order; use values\[alphas\]"):
        st.linear_fit(ALPHAS, frame[[2.0, 1.0, 0.0, -1.0]])


BAD = [
    ([0, 1], [[0, 1], [1, 1]], r"alphas: 2 value\(s\) given; at least 3"),
    ([0, 1, 1], [0, 1, 1], "alphas has 1 twice"),
    ([0, 1, np.nan], [0, 1, 1], r"alphas\[2\]=nan"),
    ([0, 1, 2], [0, 1], "alphas and values have 3 and 2 doses"),
    ([0, 1, 2], [[0, 1], [1, 1]], "alphas and values have 3 and 2 doses"),
    ([0, 1, 2], [[0, 1, 1]], r"values: 1 problem\(s\) given; at least 2"),
    ([0, 1, 2], [0, 1, np.nan], r"values\[2\]=nan"),
    ([0, 1, 2], [[0, 1, 1], [1, 1, np.inf]], r"values\[:, 2\]\[1\]=inf"),
    ([0, 1, 2], np.zeros((2, 3, 1)), r"values: shape \(2, 3, 1\)"),
]


@pytest.mark.parametrize(("alphas", "values", "message"), BAD)
def test_what_is_not_a_dose_response_is_refused(alphas, values, message):
    for function in ABOUT_ALPHA:
        with pytest.raises(ValueError, match=message):
            function(alphas, values, rng=chance())
    for function in (st.linear_fit, st.asymmetry):
        with pytest.raises(ValueError, match=message):
            function(alphas, values)


def test_options_that_do_not_exist_are_refused():
    for function in ABOUT_ALPHA:
        with pytest.raises(TypeError, match=r"rng=None; give a generator"):
            function(ALPHAS, RISING, rng=None)
        with pytest.raises(ValueError, match="n_resamples=0"):
            function(ALPHAS, RISING, rng=chance(), n_resamples=0)
    with pytest.raises(ValueError, match="null='page'"):
        st.trend_test(ALPHAS, RISING, rng=chance(), null="page")
    with pytest.raises(ValueError, match=r"null='reversal': means are a single response"):
        st.trend_test(ALPHAS, [1, 2, 3, 4], rng=chance(), null="reversal")
    with pytest.raises(ValueError, match="alternative='up'"):
        st.dose_response(ALPHAS, RISING, rng=chance(), alternative="up")


RESPONSE = st.dose_response(ALPHAS, RISING, rng=chance(), n_resamples=200)
RESULTS = {
    "dose-response": RESPONSE,
    "trend": RESPONSE.trend,
    "line": RESPONSE.linear,
    "curve": RESPONSE.isotonic,
    "rho": RESPONSE.spearman,
    "asymmetry": RESPONSE.asymmetry,
    "means": st.dose_response(ALPHAS, [0.2, 0.5, 0.4, 0.7], rng=chance()),
}


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
def test_every_result_reads_as_one_line_and_as_a_table_and_is_frozen(result):
    assert "\n" not in str(result)
    assert result._repr_html_().startswith("<table>")
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.n_problems = 3
