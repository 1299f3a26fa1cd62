"""Separability, stability and what a set holds, each against SciPy, NumPy or a hand calculation that the test names."""

import itertools

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, norm

import steerlab.statistics as st


@pytest.mark.parametrize(
    ("positive", "negative"),
    [
        ([3, 4, 5, 2], [1, 2, 3]),
        ([1, 1, 1], [1, 1]),
        ([0.1], [0.2, 0.3]),
        ([5, 6, 7], [1, 2]),
        (np.random.default_rng(0).integers(0, 5, 40), np.random.default_rng(1).integers(1, 6, 30)),
    ],
)
def test_the_auc_is_scipys_mann_whitney_u_over_the_pairs(positive, negative):
    expected = mannwhitneyu(positive, negative).statistic / (len(positive) * len(negative))
    assert st.auc(positive, negative).value == pytest.approx(expected, abs=1e-15)


def hanley_mcneil(theta: float, m: float, n: float) -> float:
    """Variance of an AUC as Hanley and McNeil (1982) print it, with m and n of method 5 set to their mean inside."""
    q1, q2, mean = theta / (2 - theta), 2 * theta**2 / (1 + theta), (m + n) / 2
    return (theta * (1 - theta) + (mean - 1) * (q1 - theta**2) + (mean - 1) * (q2 - theta**2)) / (m * n)


@pytest.mark.parametrize(("positive", "negative"), [([3, 4, 5, 2], [1, 2, 3]), ([9, 8, 1, 7, 2], [3, 4, 5, 6])])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_the_auc_lies_z_standard_errors_of_hanley_and_mcneil_from_either_limit(positive, negative, confidence):
    """Oracle: the definition of a score interval, with the variance written in its authors' form."""
    found = st.auc(positive, negative)
    z = norm.isf((1 - confidence) / 2)
    for limit in found.interval(confidence):
        error = np.sqrt(hanley_mcneil(limit, len(positive), len(negative)))
        assert abs(found.value - limit) / error == pytest.approx(z, rel=1e-6)


def test_the_interval_of_a_perfect_auc_has_a_width_and_mirrors_that_of_zero():
    """Oracle: at AUC 1 the score equation divides by 1 - theta, and is solved by bisection here."""
    m, n, z = 8, 5, norm.isf(0.025)
    low, high = st.auc(range(10, 10 + m), range(n)).interval()
    below, above = 0.0, 1.0
    for _ in range(100):
        theta = (below + above) / 2
        keeps = (1 - theta) ** 2 > z**2 * hanley_mcneil(theta, m, n)
        below, above = (theta, above) if keeps else (below, theta)
    assert (low, high) == (pytest.approx(below, abs=1e-8), pytest.approx(1.0))
    assert low < 0.9
    mirrored = st.auc(range(m), range(10, 10 + n)).interval()
    assert (mirrored.low, mirrored.high) == (pytest.approx(0.0), pytest.approx(1 - low))


def test_a_cross_validated_auc_is_that_of_each_fold_with_the_direction_of_the_others():
    """Oracle: the folds found again from the scores, in a plain loop with SciPy's U."""
    rng = np.random.default_rng(3)
    ours, theirs = rng.standard_normal((13, 6)) + 0.5, rng.standard_normal((9, 6))
    found = st.cross_validated_auc(ours, theirs, rng=np.random.default_rng(5), folds=3)
    replay = np.random.default_rng(5)
    labels = [replay.permutation(np.arange(len(group)) % 3) for group in (ours, theirs)]
    areas, weights = [], []
    for fold in range(3):
        train = [group[label != fold] for group, label in zip((ours, theirs), labels, strict=True)]
        test = [group[label == fold] for group, label in zip((ours, theirs), labels, strict=True)]
        direction = train[0].mean(0) - train[1].mean(0)
        u = mannwhitneyu(test[0] @ direction, test[1] @ direction).statistic
        areas.append(u / (len(test[0]) * len(test[1])))
        weights.append(len(test[0]) * len(test[1]))
    assert found.by_fold == pytest.approx(tuple(areas))
    assert found.value == pytest.approx(np.average(areas, weights=weights))
    z = norm.isf(0.025) * np.sqrt(1 + 3 / 2)  # Nadeau and Bengio, 3 folds
    for limit in found.interval():
        assert abs(found.value - limit) / np.sqrt(hanley_mcneil(limit, 13, 9)) == pytest.approx(z, rel=1e-6)


def test_halves_of_two_rows_are_the_rows_themselves():
    """Oracle: both ways to pair the rows of two groups of two, by hand."""
    ours, theirs = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[0.0, 1.0], [-1.0, 0.5]])

    def cosine(a, b):
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    by_hand = {round(cosine(ours[0] - theirs[i], ours[1] - theirs[1 - i]), 12) for i in (0, 1)}
    found = st.split_half_cosines(ours, theirs, rng=np.random.default_rng(0), splits=50)
    assert {round(value, 12) for value in found.cosines} == by_hand
    assert len(found.cosines) == 50
    pairs = st.split_half_cosines(ours, theirs, rng=np.random.default_rng(0), splits=50, paired=True)
    assert {round(value, 12) for value in pairs.cosines} == {round(cosine(ours[0] - theirs[0], ours[1] - theirs[1]), 12)}


def test_reliability_is_that_of_spearman_and_brown():
    """Oracle: 2 * 0.6 / 1.6 = 0.75, and none where halves disagree."""
    assert st.SplitHalf((0.5, 0.6, 0.9), 10, 10).reliability == pytest.approx(0.75)
    assert st.SplitHalf((-0.5, -0.1, 0.3), 10, 10).reliability == 0.0
    assert st.SplitHalf((0.0, 1.0), 4, 4).quantiles(0.25, 0.5) == (0.25, 0.5)


def test_the_cosine_of_whole_sets_is_what_halves_predict():
    """Oracle: simulated pairs of independent sets, whose cosine the halves of one of them foretell."""
    rng = np.random.default_rng(0)
    mean = np.full(40, 0.25)
    predicted, actual = [], []
    for _ in range(60):
        first, second = (rng.standard_normal((2, 30, 40)) for _ in range(2))
        predicted.append(st.split_half_cosines(first[0] + mean, first[1], rng=rng, splits=30).reliability)
        one, other = (group[0].mean(0) + mean - group[1].mean(0) for group in (first, second))
        actual.append(one @ other / np.linalg.norm(one) / np.linalg.norm(other))
    assert np.mean(predicted) == pytest.approx(np.mean(actual), abs=0.05)


def test_agreement_leaves_the_problem_out():
    """Oracle: the definition, in a loop."""
    rows = np.random.default_rng(0).standard_normal((7, 4)) + 0.5
    expected = []
    for i, row in enumerate(rows):
        others = np.delete(rows, i, axis=0).mean(0)
        expected.append(row @ others / np.linalg.norm(row) / np.linalg.norm(others))
    found = st.directional_agreement(rows)
    assert found.cosines == pytest.approx(expected)
    assert (found.mean, found.share_against) == (pytest.approx(np.mean(expected)), pytest.approx(np.mean(np.array(expected) < 0)))
    assert st.directional_agreement([[1, 0], [-1, 0], [0, 2]]).cosines == (pytest.approx(-(5**-0.5)), pytest.approx(-(5**-0.5)), 0.0)


@pytest.mark.parametrize("shape", [(6, 20), (40, 5), (520, 530)])
def test_the_effective_dimension_is_the_participation_ratio_of_numpys_eigenvalues(shape):
    rows = np.random.default_rng(0).standard_normal(shape) * np.linspace(0.1, 2, shape[1]) + 100
    values = np.linalg.eigvalsh(np.cov(rows, rowvar=False))
    assert st.effective_dimension(rows) == pytest.approx(values.sum() ** 2 / (values**2).sum(), rel=1e-8)


def test_copies_count_once_in_the_effective_size():
    """Oracle: Kish by hand, 6 rows of which one stands three times: 36 / (9 + 1 + 1 + 1)."""
    rows = np.random.default_rng(0).standard_normal((4, 50)) + 10
    assert st.effective_size(rows[[0, 0, 0, 1, 2, 3]]) == pytest.approx(3.0)
    noisy = rows[[0, 0, 0, 1, 2, 3]] + 1e-6 * np.random.default_rng(1).standard_normal((6, 50))
    assert st.effective_size(noisy) == pytest.approx(3.0)
    assert st.effective_size(np.ones((5, 3))) == 1.0
    many = np.random.default_rng(2).standard_normal((1100, 30))
    assert st.effective_size(many) == 1100
    assert st.effective_size(np.tile(many[:550], (2, 1))) == 550


def test_the_front_is_what_no_other_point_beats():
    """Oracle: every point against every other, on a grid that has ties and twins."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        benefit, cost = rng.integers(0, 6, (2, 15))
        expected = [
            not any(b >= benefit[i] and c <= cost[i] and (b > benefit[i] or c < cost[i]) for b, c in zip(benefit, cost, strict=True))
            for i in range(15)
        ]
        assert st.pareto_front(benefit, cost).tolist() == expected


def test_the_front_of_points_on_a_line_is_all_of_them():
    points = list(itertools.accumulate([1.0] * 5))
    assert st.pareto_front(points, points).all()
