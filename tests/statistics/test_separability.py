"""Separability, stability and effective numbers: bad and degenerate input."""

import numpy as np
import pytest

import steerlab.statistics as st

ROWS = np.random.default_rng(0).standard_normal((6, 3))
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: st.auc([], [1]), r"positive: 0 value\(s\) given; at least 1 needed"),
        (lambda: st.auc([1], [np.nan]), r"negative\[0\]=nan: not finite"),
        (lambda: st.auc([1], [2]).interval(95), "confidence=95: use a number between 0 and 1"),
        (lambda: st.cross_validated_auc(ROWS[0], ROWS, rng=RNG), r"positive: shape \(3,\); give one row per problem, in two dimensions"),
        (lambda: st.cross_validated_auc(ROWS, ROWS[:, :2], rng=RNG), "positive and negative have 3 and 2 dimensions"),
        (lambda: st.cross_validated_auc(ROWS, ROWS[:4], rng=RNG), "folds=5: the smaller group has 4 rows; use 2 to 4 folds"),
        (lambda: st.cross_validated_auc(ROWS, ROWS, rng=RNG, folds=1), "folds=1: use an integer of at least 2"),
        (lambda: st.cross_validated_auc(ROWS, ROWS[:5], rng=RNG, paired=True), "paired=True: positive and negative have 6 and 5 rows"),
        (lambda: st.split_half_cosines(ROWS[:1], ROWS, rng=RNG), r"positive: 1 row\(s\) given; at least 2 needed"),
        (lambda: st.split_half_cosines(ROWS, ROWS, rng=RNG, splits=0), "splits=0: use an integer of at least 1"),
        (lambda: st.split_half_cosines(ROWS, ROWS, rng=RNG, paired=True), "positive and negative do not differ in any half"),
        (lambda: st.SplitHalf((0.1,), 2, 2).quantiles(0.9, 0.1), "low=0.9, high=0.1: use shares from 0 to 1, the lower first"),
        (lambda: st.directional_agreement(ROWS[:1]), r"differences: 1 row\(s\) given; at least 2 needed"),
        (lambda: st.directional_agreement(np.zeros((3, 2))), "all differences are zero, so they have no direction"),
        (lambda: st.effective_dimension(np.ones((3, 2))), "values: all 3 rows are equal, so they vary in no dimension"),
        (lambda: st.effective_size(np.ones((0, 2))), r"values: 0 row\(s\) given; at least 1 needed"),
        (lambda: st.pareto_front([1, 2], [1]), "benefit and cost have lengths 2 and 1"),
        (lambda: st.pareto_front([np.inf], [1]), r"benefit\[0\]=inf: not finite"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("function", [st.cross_validated_auc, st.split_half_cosines])
@pytest.mark.parametrize("rng", [0, None, np.random.RandomState(0)])
def test_chance_needs_a_generator(function, rng):
    with pytest.raises(TypeError, match=r"give a generator, e.g. numpy.random.default_rng\(0\)"):
        function(ROWS, ROWS, rng=rng)


def test_groups_of_one_value_are_not_told_apart():
    same = np.full((10, 3), 0.1)
    found = st.cross_validated_auc(same, same, rng=RNG)
    assert (found.value, set(found.by_fold)) == (0.5, {0.5})
    assert st.auc([1, 1], [1, 1, 1]).value == 0.5


def test_rounding_does_not_break_ties():
    """The groups differ along the first dimension alone, and not at all where they are held out."""
    base = np.random.default_rng(1).standard_normal(200)
    rows = np.tile(base, (12, 1))
    jitter = 1e-15 * np.random.default_rng(2).standard_normal(rows.shape)
    assert st.cross_validated_auc(rows + jitter, rows, rng=RNG, folds=3).value == 0.5


def test_the_same_generator_gives_the_same_result():
    for function in (st.cross_validated_auc, st.split_half_cosines):
        one, again = (function(ROWS, ROWS + 1, rng=np.random.default_rng(7)) for _ in range(2))
        assert one == again


def test_results_show_themselves():
    area = st.cross_validated_auc(ROWS + 1, ROWS, rng=np.random.default_rng(0), folds=2)
    assert str(area).startswith(f"AUC {area.value:.4g}, 6 against 6, 2 folds; 95% interval")
    halves = st.split_half_cosines(ROWS + 1, ROWS, rng=np.random.default_rng(0))
    assert f"cosine between halves {halves.median:.3g}" in str(halves)
    agreement = st.directional_agreement(ROWS)
    assert "mean cosine of 6 differences" in str(agreement)
    for result in (area, halves, agreement):
        assert result._repr_html_().startswith("<table>")
