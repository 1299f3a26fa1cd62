"""Pooled effects against statsmodels' random-effects meta-analysis, and calculations by hand."""

import warnings

import numpy as np
import pytest
from results import speaks
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects

import steerlab.statistics as st
from steerlab._checks import InputError

CASES = {
    "spread": ([0.10, 0.02, -0.05, 0.08, 0.3], [0.02, 0.03, 0.02, 0.04, 0.1]),
    "two": ([0.1, 0.3], [0.02, 0.05]),
    "small": ([1e-7, 3e-7, -2e-7, 1.3e-7], [1.1e-8, 2e-8, 1e-8, 1.7e-8]),
    "precise": ([0.5, 0.9, 0.1, 0.3], [1e-4, 2e-4, 1e-3, 1e-4]),
    "alike": ([0.10, 0.11, 0.09, 0.10], [0.05, 0.04, 0.06, 0.05]),
}


def oracle(effects, errors):
    with warnings.catch_warnings():  # its iteration gives tau = 0 where rounding takes it beyond the root, which none of these cases meets
        warnings.simplefilter("ignore")
        return combine_effects(
            np.array(effects) / max(errors), np.square(np.array(errors) / max(errors)), method_re="iterated", use_t=True, atol=1e-9
        )


@pytest.mark.parametrize("name", CASES)
def test_mean_spread_and_error_are_those_of_statsmodels(name):
    """Oracle: statsmodels' combine_effects, Paule-Mandel. Where effects differ less than by their errors, its Hartung-Knapp error may be smaller
    than that of one common effect; ours is then the latter's.
    """
    effects, errors = CASES[name]
    found, want = st.pooled_effect(effects, errors), oracle(effects, errors)
    size = max(errors)
    assert found.mean == pytest.approx(want.mean_effect_re * size, rel=1e-6)
    assert found.tau == pytest.approx(np.sqrt(max(want.tau2, 0)) * size, rel=1e-5, abs=1e-9 * size)
    error = max(want.sd_eff_w_re_hksj, want.sd_eff_w_re) * size
    assert found.standard_error == pytest.approx(error, rel=1e-5)
    half = stats.t.isf(0.025, len(effects) - 1) * error
    np.testing.assert_allclose(list(found.interval), [found.mean - half, found.mean + half], rtol=1e-5)
    assert found.heterogeneity_p == pytest.approx(want.test_homogeneity().pvalue, rel=1e-6, abs=1e-300)
    np.testing.assert_allclose(found.frame["weight"], want.weights_re / want.weights_re.sum(), rtol=1e-5)
    speaks(found)


def test_an_effect_is_drawn_towards_the_mean_by_the_share_of_its_variance_that_is_error():
    """By hand: equal errors s = 1 and effects -3, 0, 3: their variance is 9 = tau^2 + 1, so tau^2 = 8, and each keeps 8/9 of its distance from 0."""
    found = st.pooled_effect([-3, 0, 3], [1, 1, 1])
    assert (found.mean, found.tau) == (pytest.approx(0), pytest.approx(np.sqrt(8)))
    assert found.standard_error == pytest.approx(np.sqrt(9 / 3))
    assert found.frame["pooled"].tolist() == pytest.approx([-8 / 3, 0, 8 / 3])
    width = stats.norm.isf(0.025) * np.sqrt(8 / 9 + 3 / 81)
    assert (found.frame["high"] - found.frame["pooled"]).tolist() == pytest.approx([width] * 3)
    further = stats.t.isf(0.025, 1) * np.sqrt(8 + 3)
    assert list(found.prediction) == pytest.approx([-further, further])


def test_effects_that_differ_by_less_than_their_errors_are_pooled_completely():
    found = st.pooled_effect(*CASES["alike"])
    assert found.tau == 0
    assert found.frame["pooled"].tolist() == pytest.approx([found.mean] * 4)


def test_the_interval_holds_the_mean_as_often_as_it_says():
    rng, held = np.random.default_rng(3), 0
    for _ in range(2000):
        errors = rng.uniform(0.5, 2, 6)
        low, high = st.pooled_effect(1 + rng.normal(0, 1, 6) + rng.normal(0, errors), errors).interval
        held += low <= 1 <= high
    assert held / 2000 == pytest.approx(0.95, abs=0.02)


def test_two_effects_tell_no_spread_and_few_are_said_to_be():
    found = st.pooled_effect([0.1, 0.3], [0.1, 0.1], labels=["a", "b"])
    assert np.isnan(found.prediction.low)
    assert "a further one" not in str(found)
    assert found.effects()["name"].tolist() == ["a", "b", "mean"]
    assert "only 2 effects" in found.warnings()[0]


@pytest.mark.parametrize(
    ("effects", "errors", "labels", "said"),
    [
        ([0.1], [0.1], None, "at least 2"),
        ([0.1, 0.2], [0.1, 0.0], None, "above 0"),
        ([0.1, 0.2], [0.1, 0.2, 0.3], None, "2 effects, 3 standard errors"),
        ([0.1, 0.2], [0.1, 0.2], ["a"], "1 labels"),
        ([0.1, np.nan], [0.1, 0.2], None, "effects"),
    ],
)
def test_what_cannot_be_pooled_is_refused(effects, errors, labels, said):
    with pytest.raises(InputError, match=said):
        st.pooled_effect(effects, errors, labels)
