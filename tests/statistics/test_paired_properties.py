"""What must hold of the paired tests, the bootstrap and the effect sizes for any data."""

import math

import numpy as np
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as hs

import steerlab.statistics as st

ALTERNATIVES = ("two-sided", "greater", "less")
MIRROR = {"two-sided": "two-sided", "greater": "less", "less": "greater"}
alternatives = hs.sampled_from(ALTERNATIVES)
numbers = hs.integers(-5, 5).map(float) | hs.floats(-1e3, 1e3).map(lambda x: round(x, 6))
pairs = hs.lists(hs.tuples(numbers, numbers), min_size=2, max_size=12)
binary = hs.lists(hs.tuples(hs.booleans(), hs.booleans()), min_size=1, max_size=40)


def rng():
    return np.random.default_rng(0)


def split(rows):
    return [list(column) for column in zip(*rows, strict=True)]


def flip(before, after, **how):
    return st.sign_flip_test(before, after, rng=rng(), n_resamples=2**13, **how)


TESTS = [st.wilcoxon_test, flip]


@pytest.mark.parametrize("test", TESTS)
@given(pairs, alternatives, hs.randoms(use_true_random=False))
def test_the_order_of_the_problems_does_not_matter(test, rows, alternative, random):
    shuffled = list(rows)
    random.shuffle(shuffled)
    assert test(*split(rows), alternative=alternative).pvalue == pytest.approx(test(*split(shuffled), alternative=alternative).pvalue)


@pytest.mark.parametrize("test", TESTS)
@given(pairs, alternatives)
def test_before_and_after_exchanged_mirror_the_test(test, rows, alternative):
    before, after = split(rows)
    mirrored = test(after, before, alternative=MIRROR[alternative])
    assert test(before, after, alternative=alternative).pvalue == pytest.approx(mirrored.pvalue)


@pytest.mark.parametrize("test", TESTS)
@settings(max_examples=examples(25))
@given(hs.lists(numbers, min_size=2, max_size=8), alternatives)
def test_over_all_signs_of_the_differences_p_is_not_too_small(test, differences, alternative):
    """Exact: under the null the 2^n sign patterns are equally likely, and a share of at most t of them has p <= t."""
    n = len(differences)
    patterns = np.array([[1 if code >> i & 1 else -1 for i in range(n)] for code in range(2**n)])
    p = np.sort([test(np.zeros(n), differences * signs, alternative=alternative).pvalue for signs in patterns])
    assert (p >= np.arange(1, len(p) + 1) / len(p) - 1e-9).all()


@given(pairs, hs.floats(0, 50).map(lambda x: round(x, 6)))
def test_more_of_the_same_is_more_evidence(rows, more):
    before, after = map(np.array, split(rows))
    less = flip(before, after, alternative="greater").pvalue
    assert flip(before, after + more, alternative="greater").pvalue <= less + 1e-12


@given(binary, alternatives)
def test_mid_p_is_never_above_exact_p(rows, alternative):
    before, after = split(rows)
    mid, exact = (st.sign_test(before, after, alternative=alternative, mid_p=mid_p).pvalue for mid_p in (True, False))
    assert 0 < mid <= exact + 1e-12


@given(hs.floats(-10, 10), hs.lists(numbers, min_size=3, max_size=20, unique=True), alternatives)
def test_the_prediction_test_and_its_interval_agree(observed, controls, alternative):
    result = st.prediction_test(observed, controls, alternative=alternative)
    mirrored = st.prediction_test(-observed, [-c for c in controls], alternative=MIRROR[alternative])
    assert result.pvalue == pytest.approx(mirrored.pvalue)
    low, high = st.prediction_test(observed, controls).interval(0.9)
    two_sided = st.prediction_test(observed, controls).pvalue
    if abs(two_sided - 0.1) > 1e-6:
        assert (low <= observed <= high) == (two_sided > 0.1)


def test_the_prediction_test_rejects_a_true_null_as_often_as_it_says():
    draws = np.random.default_rng(3).normal(size=(4000, 6))
    p = np.array([st.prediction_test(row[0], row[1:]).pvalue for row in draws])
    for level in (0.05, 0.2):
        assert abs((p <= level).mean() - level) < 4 * (level * (1 - level) / 4000) ** 0.5


@settings(max_examples=examples(20))
@given(hs.lists(numbers, min_size=2, max_size=15), hs.booleans())
def test_the_same_seed_gives_the_same_bytes(values, clustered):
    clusters = [i % 3 if len(values) > 3 else i for i in range(len(values))] if clustered else None
    one, two = (st.bootstrap(values, rng=np.random.default_rng(7), groups=clusters, n_resamples=99) for _ in range(2))
    assert one.draws.tobytes() == two.draws.tobytes()
    low, high = one.interval()
    assert low <= high
    assert min(values) - 1e-9 <= low
    assert high <= max(values) + 1e-9


@given(hs.lists(numbers, min_size=3, max_size=20).filter(lambda v: max(v) - min(v) > 1e-3))
def test_the_interval_of_d_holds_d_and_mirrors(values):
    effect, mirrored = st.effect_size(values, corrected=False), st.effect_size([-v for v in values], corrected=False)
    low, high = effect.interval()
    assert low <= effect.value <= high
    assert tuple(mirrored.interval()) == pytest.approx((-high, -low), abs=1e-6)


@given(hs.floats(0, 1), hs.floats(0, 1))
def test_cohens_h_is_antisymmetric_and_bounded(before, after):
    h = st.cohens_h(before, after)
    assert h == pytest.approx(-st.cohens_h(after, before))
    assert abs(h) <= math.pi
