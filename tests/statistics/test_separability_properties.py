"""What must hold of separability and stability for any data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as hs
from scipy.stats import norm

import steerlab.statistics as st

scores = hs.lists(hs.integers(-5, 5).map(float), min_size=1, max_size=20)
seeds = hs.integers(0, 2**32 - 1)


@given(scores, scores)
def test_swapping_the_groups_mirrors_the_auc_and_its_interval(ours, theirs):
    one, other = st.auc(ours, theirs), st.auc(theirs, ours)
    assert one.value == pytest.approx(1 - other.value)
    low, high = one.interval()
    assert (1 - high, 1 - low) == pytest.approx(tuple(other.interval()), abs=1e-9)
    assert 0 <= low <= one.value <= high <= 1
    assert high - low > 0


@given(scores, scores, hs.floats(0.1, 10))
def test_the_auc_hangs_on_the_order_only(ours, theirs, factor):
    moved = [np.exp(factor * np.asarray(group) / 10).tolist() for group in (ours, theirs)]
    assert st.auc(*moved).value == st.auc(ours, theirs).value


@given(scores, scores, hs.floats(0, 3))
def test_raising_the_positives_never_lowers_the_auc(ours, theirs, by):
    assert st.auc([value + by for value in ours], theirs).value >= st.auc(ours, theirs).value


def test_the_interval_of_an_auc_holds_the_true_one_as_often_as_it_says():
    """Oracle: simulated normal scores whose AUC is known, with three binomial standard errors; small groups and a high AUC."""
    rng, times, truth = np.random.default_rng(0), 600, 0.9
    shift = 1.2815515655446004 * np.sqrt(2)  # P(x + shift > y) = 0.9
    held = sum(
        low <= truth <= high
        for low, high in (st.auc(rng.standard_normal(15) + shift, rng.standard_normal(20)).interval() for _ in range(times))
    )
    assert held / times > 0.95 - 3 * np.sqrt(0.95 * 0.05 / times)


@pytest.mark.parametrize(("n", "d", "shift", "folds"), [(30, 50, 0.0, 5), (15, 100, 0.0, 3), (40, 10, 0.5, 5), (20, 30, 0.0, 10)])
def test_the_interval_of_a_cross_validated_auc_holds_the_true_one_as_often_as_it_says(n, d, shift, folds):
    """Oracle: the AUC that the fitted direction has on new normal problems, known in closed form; three binomial standard errors."""
    rng, times, held = np.random.default_rng(0), 300, 0
    apart = np.r_[np.full(4, shift), np.zeros(d - 4)]
    for _ in range(times):
        ours, theirs = rng.standard_normal((2, n, d))
        ours = ours + apart
        direction = ours.mean(0) - theirs.mean(0)
        truth = norm.cdf(apart @ direction / np.linalg.norm(direction) / np.sqrt(2))
        low, high = st.cross_validated_auc(ours, theirs, rng=rng, folds=folds).interval()
        held += low <= truth <= high
    assert held / times > 0.95 - 3 * np.sqrt(0.95 * 0.05 / times)


def test_held_out_problems_of_no_difference_have_an_auc_of_one_half_on_average():
    """Oracle: pure noise in many dimensions, which its own mean difference would separate perfectly."""
    rng = np.random.default_rng(1)
    held_out, fitted = [], []
    for _ in range(300):
        ours, theirs = rng.standard_normal((2, 20, 150))
        held_out.append(st.cross_validated_auc(ours, theirs, rng=rng).value)
        direction = ours.mean(0) - theirs.mean(0)
        fitted.append(st.auc(ours @ direction, theirs @ direction).value)
    error = np.std(held_out, ddof=1) / np.sqrt(len(held_out))
    assert abs(np.mean(held_out) - 0.5) < 3 * error
    assert np.mean(fitted) > 0.99


def test_pairs_of_no_difference_have_an_auc_of_one_half_on_average():
    """Oracle: noise around each problem's own mean, in which leaking a problem from test to train would show."""
    rng = np.random.default_rng(1)
    found = []
    for _ in range(60):
        own = 5 * rng.standard_normal((16, 30))
        ours, theirs = own + rng.standard_normal((16, 30)), own + rng.standard_normal((16, 30))
        found.append(st.cross_validated_auc(ours, theirs, rng=rng, folds=4, paired=True).value)
    assert abs(np.mean(found) - 0.5) < 3 * np.std(found, ddof=1) / np.sqrt(len(found))


@given(seeds, hs.integers(2, 12), hs.integers(2, 12), hs.floats(0.5, 100))
def test_scale_and_shift_leave_stability_and_separability_as_they_are(seed, n, m, factor):
    ours, theirs = np.random.default_rng(seed).standard_normal((n, 4)) + 1, np.random.default_rng(seed + 1).standard_normal((m, 4))
    moved = [factor * group + 3 for group in (ours, theirs)]
    one, other = (st.split_half_cosines(*groups, rng=np.random.default_rng(2), splits=8) for groups in ((ours, theirs), moved))
    assert one.cosines == pytest.approx(other.cosines, abs=1e-6)
    assert all(-1 <= cosine <= 1 for cosine in one.cosines)
    one, other = (st.cross_validated_auc(*groups, rng=np.random.default_rng(2), folds=2) for groups in ((ours, theirs), moved))
    assert one.value == pytest.approx(other.value)


@given(seeds, hs.integers(2, 10), hs.integers(1, 10))
def test_effective_numbers_stay_within_what_there_is(seed, n, d):
    rows = np.random.default_rng(seed).standard_normal((n, d))
    assert 1 - 1e-9 <= st.effective_dimension(rows) <= min(n - 1, d) + 1e-9
    assert 1 <= st.effective_size(rows) <= n


@given(seeds, hs.integers(2, 12))
def test_the_order_of_problems_does_not_matter_to_agreement(seed, n):
    rows = np.random.default_rng(seed).standard_normal((n, 3))
    order = np.random.default_rng(seed).permutation(n)
    assert np.array(st.directional_agreement(rows[order]).cosines) == pytest.approx(np.array(st.directional_agreement(rows).cosines)[order])
