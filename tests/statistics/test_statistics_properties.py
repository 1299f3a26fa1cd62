"""What must hold for any data: error rates, order, symmetry, and agreement of a result with itself."""

import numpy as np
import pytest
from examples import examples
from hypothesis import assume, given, settings
from hypothesis import strategies as hs

import steerlab.statistics as st

ALTERNATIVES = ("two-sided", "greater", "less")
MIRROR = {"two-sided": "two-sided", "greater": "less", "less": "greater"}

alternatives = hs.sampled_from(ALTERNATIVES)
# Small integers make ties, which is where rank tests go wrong.
numbers = hs.floats(-1e3, 1e3).map(lambda x: round(x, 9))
effects = hs.one_of(hs.integers(-4, 4).map(float), numbers)
pairs = hs.lists(hs.tuples(hs.booleans(), hs.booleans()), min_size=1, max_size=60)
real_pairs = hs.lists(hs.tuples(numbers, numbers), min_size=2, max_size=40)
pvalues = hs.lists(hs.floats(0, 1), min_size=1, max_size=40)


def split(rows):
    return [list(column) for column in zip(*rows, strict=True)]


# A true null is rejected no more often than promised


@given(hs.lists(effects, min_size=2, max_size=25), alternatives)
def test_if_any_value_could_have_been_the_observed_one_p_is_not_too_small(values, alternative):
    """Exact: over the K + 1 equally likely choices of the observed one, at most j have p <= j / (K + 1)."""
    p = sorted(st.rank_test(value, values[:i] + values[i + 1 :], alternative=alternative).pvalue for i, value in enumerate(values))
    assert all(p[j] >= (j + 1) / len(values) - 1e-12 for j in range(len(values)))


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("k", [2, 19])
def test_the_rank_test_rejects_a_true_null_as_often_as_it_says(alternative, k):
    rng = np.random.default_rng(k)
    draws = rng.exponential(size=(4000, k + 1))
    p = np.array([st.rank_test(row[0], row[1:], alternative=alternative).pvalue for row in draws])
    for level in (1 / 3, 2 / 3) if k == 2 else (0.05, 0.1, 0.5):
        # Four standard errors of a share of 4000.
        assert abs((p <= level + 1e-12).mean() - level) < 4 * (level * (1 - level) / 4000) ** 0.5


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("changed", [1, 6, 25])
def test_the_sign_test_rejects_a_true_null_no_more_often_than_it_says(changed, alternative):
    """Exact: the 2^m equally likely ways in which m outcomes can change, grouped by the number of gains."""
    weights = np.array([1.0])
    for _ in range(changed):
        weights = np.convolve(weights, [0.5, 0.5])
    gains = [np.arange(changed) < right for right in range(changed + 1)]
    p = np.array([st.sign_test(~after, after, alternative=alternative).pvalue for after in gains])
    for level in (0.01, 0.05, 0.1, 0.5):
        assert weights[p <= level].sum() <= level + 1e-12


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_the_paired_t_test_rejects_a_true_null_as_often_as_it_says(alternative):
    rng = np.random.default_rng(7)
    before, after = rng.normal(size=(2, 1500, 12)) + rng.normal(size=(1500, 12))
    p = np.array([st.paired_t_test(b, a, alternative=alternative).pvalue for b, a in zip(before, after, strict=True)])
    assert abs((p <= 0.05).mean() - 0.05) < 4 * (0.05 * 0.95 / 1500) ** 0.5


# P-values are p-values


@given(pairs, alternatives)
def test_the_p_of_a_sign_test_is_above_zero_and_at_most_one(rows, alternative):
    assert 0 < st.sign_test(*split(rows), alternative=alternative).pvalue <= 1


@given(real_pairs, alternatives)
def test_the_p_of_a_t_test_is_above_zero_and_at_most_one(rows, alternative):
    before, after = split(rows)
    try:
        result = st.paired_t_test(before, after, alternative=alternative)
    except ValueError as error:
        assert "t needs values that vary" in str(error)  # noqa: PT017 - the only allowed refusal
        return
    assert 0 < result.pvalue <= 1
    assert np.isfinite([result.statistic, result.cohens_d, *result.interval()]).all()
    assert result.interval().low <= result.mean <= result.interval().high


@given(effects, hs.lists(effects, min_size=1, max_size=30), alternatives)
def test_the_rank_p_follows_from_the_rank(observed, controls, alternative):
    result = st.rank_test(observed, controls, alternative=alternative)
    assert 0 < result.smallest_p <= result.pvalue <= 1
    assert result.pvalue == result.rank / (result.n_controls + 1)
    assert 0 <= result.exceeds <= result.n_controls == len(controls)


# More evidence is never a larger p


@given(effects, numbers.map(abs), hs.lists(effects, min_size=1, max_size=30))
def test_an_effect_further_up_has_no_larger_p(observed, step, controls):
    near, far = (st.rank_test(value, controls, alternative="greater").pvalue for value in (observed, observed + step))
    assert far <= near


@given(hs.integers(-4, 4), hs.integers(0, 4), hs.lists(hs.integers(-4, 4), min_size=1, max_size=30))
def test_an_effect_further_from_the_median_has_no_larger_two_sided_p(observed, step, controls):
    assume(observed >= np.median([*controls, observed]))
    assert st.rank_test(observed + step, controls).pvalue <= st.rank_test(observed, controls).pvalue


@given(hs.integers(0, 30), hs.integers(0, 30), hs.integers(0, 5))
def test_one_more_gain_is_more_evidence_of_gain(right, wrong, rest):
    def p(gains: int) -> float:
        sizes = [gains, wrong, rest + 1]
        outcomes = np.repeat([False, True, True], sizes), np.repeat([True, False, True], sizes)
        return st.sign_test(*outcomes, alternative="greater").pvalue

    assert p(right + 1) <= p(right)


# Names and order of problems do not matter; swapping before and after mirrors


@given(pairs, alternatives, hs.randoms(use_true_random=False))
def test_the_order_of_problems_does_not_matter(rows, alternative, random):
    shuffled = random.sample(rows, len(rows))
    assert st.sign_test(*split(rows), alternative=alternative) == st.sign_test(*split(shuffled), alternative=alternative)
    assert st.paired_interval(*split(rows)) == st.paired_interval(*split(shuffled))


@given(effects, hs.lists(effects, min_size=1, max_size=20), alternatives, hs.randoms(use_true_random=False))
def test_the_order_of_controls_does_not_matter(observed, controls, alternative, random):
    shuffled = random.sample(controls, len(controls))
    one, other = (st.rank_test(observed, c, alternative=alternative) for c in (controls, shuffled))
    assert one.pvalue == other.pvalue


@given(pairs, alternatives)
def test_swapping_before_and_after_mirrors_the_sign_test(rows, alternative):
    before, after = split(rows)
    forth = st.sign_test(before, after, alternative=alternative)
    back = st.sign_test(after, before, alternative=MIRROR[alternative])
    assert forth.pvalue == pytest.approx(back.pvalue)
    assert forth.change == -back.change
    low, high = back.interval()
    assert tuple(forth.interval()) == pytest.approx((-high, -low), abs=1e-12)


@given(real_pairs, alternatives)
def test_swapping_before_and_after_mirrors_the_t_test(rows, alternative):
    before, after = split(rows)
    assume(np.ptp(np.subtract(after, before)) > 1e-6)
    forth = st.paired_t_test(before, after, alternative=alternative)
    back = st.paired_t_test(after, before, alternative=MIRROR[alternative])
    assert (forth.pvalue, forth.statistic, forth.cohens_d) == pytest.approx((back.pvalue, -back.statistic, -back.cohens_d))


@given(effects, hs.lists(effects, min_size=1, max_size=20), alternatives)
def test_turning_the_sign_of_all_effects_mirrors_the_rank_test(observed, controls, alternative):
    forth = st.rank_test(observed, controls, alternative=alternative)
    back = st.rank_test(-observed, [-c for c in controls], alternative=MIRROR[alternative])
    assert forth.pvalue == back.pvalue


# Intervals hold their estimate


@given(hs.integers(1, 3000), hs.floats(0, 1), hs.floats(0.01, 0.9999))
def test_wilsons_interval_holds_the_estimate(n, share, confidence):
    successes = round(share * n)
    low, high = st.wilson_interval(successes, n, confidence=confidence)
    assert 0 <= low <= successes / n <= high <= 1
    assert low < high


@given(pairs, hs.floats(0.01, 0.9999))
def test_the_paired_interval_holds_the_change(rows, confidence):
    result = st.sign_test(*split(rows))
    low, high = result.interval(confidence)
    assert -1 <= low <= result.change <= high <= 1


@given(pairs)
def test_more_confidence_is_a_wider_interval(rows):
    narrow, wide = (st.paired_interval(*split(rows), confidence=c) for c in (0.5, 0.99))
    assert wide.low <= narrow.low <= narrow.high <= wide.high


# Corrections


@given(pvalues)
def test_corrections_only_raise_and_keep_the_order(p):
    for adjusted in (st.holm(p), st.benjamini_hochberg(p)):
        assert ((adjusted >= np.array(p) - 1e-12) & (adjusted <= 1)).all()
        assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()
    assert (st.benjamini_hochberg(p) <= st.holm(p) + 1e-12).all()


@given(pvalues, hs.randoms(use_true_random=False))
def test_corrections_follow_their_p_values_through_a_shuffle(p, random):
    order = random.sample(range(len(p)), len(p))
    for correct in (st.holm, st.benjamini_hochberg):
        assert correct(p)[order] == pytest.approx(correct([p[i] for i in order]))


# Power


@settings(max_examples=examples(40))
@given(hs.integers(1, 120), hs.floats(0.05, 1), hs.floats(0.1, 0.9))
def test_the_smallest_detectable_change_is_possible_and_shrinks_with_n(n, discordant, power):
    change = st.smallest_detectable_change(n, discordant=discordant, power=power)
    more = st.smallest_detectable_change(4 * n, discordant=discordant, power=power)
    if change is not None:
        assert 0 < more < change <= discordant
