"""What must hold for the best of many cells and for dose-responses, whatever the data."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as hs
from hypothesis.extra.numpy import arrays
from scipy import stats

import steerlab.statistics as st

ALTERNATIVES = ("two-sided", "greater", "less")
MIRROR = {"two-sided": "two-sided", "greater": "less", "less": "greater"}

alternatives = hs.sampled_from(ALTERNATIVES)
statistics = hs.sampled_from(("studentized", "mean"))
shapes = hs.tuples(hs.integers(2, 7), hs.integers(1, 5))
# Small integers make ties; their sums are exact.
grids = shapes.flatmap(lambda shape: arrays(np.int64, shape, elements=hs.integers(-2, 2)))
doses = hs.tuples(hs.integers(2, 7), hs.integers(3, 5)).flatmap(lambda shape: arrays(np.int64, shape, elements=hs.integers(0, 2)))
quick = settings(max_examples=examples(40))


def chance():
    return np.random.default_rng(0)


def best_of(differences, **options):
    return st.max_statistic_test(np.zeros(len(differences)), differences, rng=chance(), **options)


# A true null is rejected no more often than promised


@quick
@given(grids, statistics, alternatives)
def test_if_rows_could_have_been_flipped_p_is_not_too_small(grid, statistic, alternative):
    """Exact: over the 2^n equally likely signs of rows, at most a share t of the smallest p-values is at most t."""
    grid = grid[:5]
    p = sorted(
        best_of(np.array(signs)[:, None] * grid, statistic=statistic, alternative=alternative).pvalue
        for signs in product([1, -1], repeat=len(grid))
    )
    assert all(p[j] >= (j + 1) / len(p) - 1e-12 for j in range(len(p)))


@pytest.mark.parametrize("alternative", ALTERNATIVES)
def test_the_best_of_dependent_cells_is_found_by_chance_as_often_as_promised(alternative):
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(500):
        differences = rng.normal(size=(15, 1)) + rng.normal(size=(15, 12))
        test = st.max_statistic_test(np.zeros(15), differences, rng=rng, alternative=alternative, n_resamples=99)
        hits += test.pvalue <= 0.05
    # Four standard errors of a share of 500.
    assert abs(hits / 500 - 0.05) < 4 * (0.05 * 0.95 / 500) ** 0.5


def test_cells_with_an_effect_do_not_drag_others_along():
    rng = np.random.default_rng(2)
    hits = 0
    for _ in range(300):
        differences = rng.normal(size=(30, 1)) + rng.normal([0] * 8 + [2] * 4, 1, size=(30, 12))
        survivors = st.max_statistic_test(np.zeros(30), differences, rng=rng, n_resamples=99).survivors(0.05)
        assert set(survivors.index) >= {8, 9, 10, 11}
        hits += bool(set(survivors.index) - {8, 9, 10, 11})
    assert hits / 300 < 0.05 + 4 * (0.05 * 0.95 / 300) ** 0.5


def shared_baseline(accuracy: float, n: int, cells: int, alternative: str, repeats: int) -> float:
    """How often cells that all are as accurate as their common baseline have a p of at most 0.05."""
    rng = np.random.default_rng(3)
    tests = (
        st.max_statistic_test(rng.random(n) < accuracy, rng.random((n, cells)) < accuracy, rng=rng, alternative=alternative, n_resamples=99)
        for _ in range(repeats)
    )
    return sum(test.pvalue <= 0.05 for test in tests) / repeats


@pytest.mark.parametrize("alternative", ALTERNATIVES)
@pytest.mark.parametrize("accuracy", [0.5, 0.85])
def test_cells_that_share_a_baseline_of_right_and_wrong_are_no_more_often_found(accuracy, alternative):
    assert shared_baseline(accuracy, 60, 20, alternative, 400) < 0.05 + 4 * (0.05 * 0.95 / 400) ** 0.5


def test_close_to_the_ceiling_one_side_rejects_too_often_and_the_docstring_says_so():
    assert 0.07 < shared_baseline(0.98, 100, 50, "less", 500) < 0.14
    assert shared_baseline(0.98, 100, 50, "two-sided", 500) < 0.05 + 4 * (0.05 * 0.95 / 500) ** 0.5
    assert "98% of 100 problems" in " ".join(st.max_statistic_test.__doc__.split())


def switching(rng, n):
    """Responses that switch once, at any alpha, as often up as down: no trend, but neighbours that agree."""
    up = np.arange(7) >= rng.integers(0, 8, size=n)[:, None]
    return up ^ (rng.random((n, 1)) < 0.5)


def test_responses_that_switch_once_do_not_fool_the_trend_test_but_do_fool_pages():
    rng = np.random.default_rng(4)
    share = {}
    for null in ("reversal", "permutation"):
        tests = (st.trend_test(np.arange(7), switching(rng, 30), rng=rng, null=null, n_resamples=99) for _ in range(400))
        share[null] = sum(test.pvalue <= 0.05 for test in tests) / 400
    assert share["reversal"] < 0.05 + 4 * (0.05 * 0.95 / 400) ** 0.5
    assert share["permutation"] > 0.2


@quick
@given(doses, alternatives)
def test_if_responses_could_have_been_reversed_p_is_not_too_small(values, alternative):
    """Exact: over the 2^n equally likely reversals."""
    values, alphas = values[:5], np.arange(values.shape[1])
    p = sorted(
        st.trend_test(
            alphas, np.array([row[::turn] for row, turn in zip(values, turns, strict=True)]), rng=chance(), alternative=alternative
        ).pvalue
        for turns in product([1, -1], repeat=len(values))
    )
    assert all(p[j] >= (j + 1) / len(p) - 1e-12 for j in range(len(p)))


def test_the_slopes_interval_covers_the_true_slope_about_as_often_as_it_says():
    rng = np.random.default_rng(5)
    alphas = np.array([-2.0, -1.0, 0.0, 1.0, 2.0])
    covered = 0
    for _ in range(400):
        values = rng.random((40, 5)) < 0.5 + 0.1 * alphas + 0.2 * rng.choice([-1, 1], size=(40, 1))
        low, high = st.linear_fit(alphas, values).interval(0.9)
        covered += low <= 0.1 <= high
    # The clipping of probabilities at 0 and 1 at the ends moves nothing: 0.5 + 0.2 + 0.2 and 0.5 - 0.2 - 0.2 lie inside.
    assert abs(covered / 400 - 0.9) < 4 * (0.9 * 0.1 / 400) ** 0.5


# The max-statistic test agrees with itself


@quick
@given(grids, statistics, alternatives)
def test_adjusted_p_is_never_below_a_cells_own_p(grid, statistic, alternative):
    options = {"statistic": statistic, "alternative": alternative}
    adjusted = best_of(grid, **options).frame["pvalue"].to_numpy()
    own = np.array([best_of(grid[:, [j]], **options).pvalue for j in range(grid.shape[1])])
    assert (adjusted >= own - 1e-12).all()


@quick
@given(grids, statistics, alternatives, hs.integers(2, 4))
def test_looking_at_the_same_cells_again_costs_nothing(grid, statistic, alternative, times):
    once = best_of(grid, statistic=statistic, alternative=alternative)
    again = best_of(np.tile(grid, times), statistic=statistic, alternative=alternative)
    assert again.frame["pvalue"].tolist() == once.frame["pvalue"].tolist() * times


@quick
@given(grids, statistics, alternatives)
def test_a_more_extreme_statistic_never_has_a_larger_p_and_the_best_has_the_smallest(grid, statistic, alternative):
    result = best_of(grid, statistic=statistic, alternative=alternative)
    score = {"two-sided": np.abs, "greater": np.positive, "less": np.negative}[alternative](result.frame["statistic"])
    ordered = result.frame["pvalue"].to_numpy()[np.argsort(score.to_numpy(), kind="stable")]
    assert (np.diff(ordered) <= 0).all()
    assert 0 < result.smallest_p <= result.pvalue == ordered[-1] <= 1


@quick
@given(grids, alternatives, hs.randoms(use_true_random=False))
def test_the_order_of_problems_and_of_cells_does_not_matter(grid, alternative, random):
    rows, columns = (random.sample(range(size), size) for size in grid.shape)
    plain = best_of(grid, alternative=alternative).frame["pvalue"]
    moved = best_of(pd.DataFrame(grid).iloc[rows, columns], alternative=alternative).frame["pvalue"]
    assert moved.loc[plain.index].tolist() == plain.tolist()


@quick
@given(grids, statistics, alternatives)
def test_turning_all_differences_mirrors_the_max_statistic_test(grid, statistic, alternative):
    forth = best_of(grid, statistic=statistic, alternative=alternative)
    back = best_of(-grid, statistic=statistic, alternative=MIRROR[alternative])
    assert forth.frame["pvalue"].tolist() == back.frame["pvalue"].tolist()
    assert forth.statistic == -back.statistic


@quick
@given(grids, hs.floats(1e-3, 1e3), alternatives)
def test_units_do_not_matter(grid, unit, alternative):
    plain, scaled = (best_of(values, alternative=alternative).frame["pvalue"].tolist() for values in (grid, grid * unit))
    assert plain == scaled


@quick
@given(grids, statistics, hs.floats(0.5, 0.999))
def test_the_interval_of_the_best_cell_holds_its_change(grid, statistic, confidence):
    result = best_of(grid, statistic=statistic)
    low, high = result.interval(confidence)
    assert low <= result.change <= high


# Dose-responses


@quick
@given(doses, alternatives)
def test_turning_the_signs_of_alphas_mirrors_the_trend(values, alternative):
    alphas = np.arange(values.shape[1]) - 1.0
    for null in ("reversal", "permutation"):
        forth = st.trend_test(alphas, values[:3], rng=chance(), null=null, alternative=alternative)
        back = st.trend_test(-alphas, values[:3], rng=chance(), null=null, alternative=MIRROR[alternative])
        assert forth.z == -back.z
        assert (forth.rising, forth.falling) == (back.falling, back.rising)
        if forth.exact:
            assert forth.pvalue == back.pvalue


@quick
@given(doses, hs.randoms(use_true_random=False))
def test_the_order_in_which_doses_are_given_does_not_matter(values, random):
    alphas = np.arange(values.shape[1]) - 1.0
    order = random.sample(range(alphas.size), alphas.size)
    one, other = (st.dose_response(alphas[o], values[:, o], rng=chance(), n_resamples=20) for o in (slice(None), order))
    assert one._repr_html_() == other._repr_html_()
    assert one.warnings() == other.warnings()


@quick
@given(doses)
def test_a_trend_depends_on_the_order_of_alphas_only(values):
    alphas = np.arange(values.shape[1]) - 1.0
    one, other = (st.trend_test(a, values, rng=chance()) for a in (alphas, np.exp(alphas)))
    assert (one.statistic, one.pvalue) == (other.statistic, other.pvalue)


@quick
@given(doses)
def test_a_response_is_monotonic_exactly_where_its_means_never_step_back(values):
    result = st.dose_response(np.arange(values.shape[1]), values, rng=chance(), n_resamples=20)
    steps = np.diff(values.sum(axis=0))
    assert result.is_monotonic == bool((steps >= 0).all() or (steps <= 0).all())
    assert result.is_monotonic == (result.isotonic.largest_gap < 1e-12)
    assert len([said for said in result.warnings() if "not monotonic" in said]) == (not result.is_monotonic)
    if result.reversal is not None:
        assert 0 < result.reversal.pvalue <= 1
        assert result.reversal.alpha_from < result.reversal.alpha_to


@quick
@given(doses)
def test_the_curve_is_monotone_keeps_the_total_and_lies_in_its_interval(values):
    fit = st.isotonic_fit(np.arange(values.shape[1]), values, rng=chance(), n_resamples=50)
    frame = fit.interval(0.8)
    turn = 1 if fit.increasing else -1
    assert (turn * np.diff(fit.fitted) >= -1e-12).all()
    assert (turn * np.diff(fit.draws, axis=1) >= -1e-12).all()
    assert fit.fitted.sum() == pytest.approx(fit.means.sum())
    assert ((frame["low"] <= frame["fitted"]) & (frame["fitted"] <= frame["high"])).all()


@quick
@given(doses, hs.floats(0.5, 0.99))
def test_rho_lies_in_its_interval_and_both_in_range(values, confidence):
    result = st.spearman(np.arange(values.shape[1]), values, rng=chance(), n_resamples=50)
    low, high = result.interval(confidence)
    assert -1 <= low <= result.rho <= high <= 1


@quick
@given(doses, hs.integers(-3, 3), hs.integers(1, 4))
def test_a_line_follows_its_units(values, shift, unit):
    alphas = np.arange(values.shape[1])
    plain, moved = st.linear_fit(alphas, values), st.linear_fit(unit * alphas, 2 * values + shift)
    assert moved.slope == pytest.approx(2 * plain.slope / unit, abs=1e-12)
    assert moved.intercept == pytest.approx(2 * plain.intercept + shift, abs=1e-12)
    assert moved.slope_error == pytest.approx(2 * plain.slope_error / unit, abs=1e-12)


@quick
@given(hs.lists(hs.integers(-3, 3), min_size=4, max_size=8))
def test_means_have_the_rho_that_their_ranks_have(means):
    rho = st.spearman(np.arange(len(means)), means, rng=chance()).rho
    expected = 0.0 if len(set(means)) == 1 else stats.spearmanr(np.arange(len(means)), means).statistic
    assert rho == pytest.approx(expected)
