"""The best of many cells: labels, ties, cells without a change, and input that is refused."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

import steerlab.statistics as st

BEFORE = np.array([0, 0, 0, 0, 0, 0, 0, 1, 1, 1], dtype=bool)


def chance(seed=0):
    return np.random.default_rng(seed)


def sweep() -> pd.DataFrame:
    """Outcomes of 2 layers and 3 alphas; alpha = 0 changes nothing and layer 6 at alpha 2 helps."""
    columns = pd.MultiIndex.from_product([[3, 6], [-2.0, 0.0, 2.0]], names=["layer", "alpha"])
    outcomes = pd.DataFrame(dict.fromkeys(columns, BEFORE))
    outcomes.columns = columns
    outcomes[(6, 2.0)] = True
    outcomes.loc[0, (3, 2.0)] = True
    return outcomes


def test_the_best_cell_has_the_label_of_its_column():
    result = st.max_statistic_test(BEFORE, sweep(), rng=chance())
    assert result.best == (6, 2.0)
    assert result.change == pytest.approx(0.7)
    assert (result.n_cells, result.n_problems, result.n_moved) == (6, 10, 7)
    assert result.pvalue == 2 / 2**7
    assert result.frame["pvalue"].unstack("alpha").shape == (2, 3)


def test_survivors_are_the_cells_below_the_level_best_first():
    result = st.max_statistic_test(BEFORE, sweep(), rng=chance())
    assert result.survivors().index.tolist() == [(6, 2.0)]
    assert result.survivors(0.01).empty
    assert result.survivors(0.999).index.tolist() == [(6, 2.0)]
    more = st.max_statistic_test(np.zeros(9), np.array([[1, 2]] * 8 + [[-1, 2]]), rng=chance())
    assert more.survivors(0.5).index.tolist() == [1, 0]


def test_cells_where_nothing_changed_have_statistic_0_and_p_1():
    frame = st.max_statistic_test(BEFORE, sweep(), rng=chance()).frame
    still = frame.xs(0.0, level="alpha")
    assert (still["statistic"] == 0).all()
    assert (still["pvalue"] == 1).all()
    assert frame.notna().all(axis=None)


def test_nothing_changed_anywhere_is_no_evidence():
    for alternative in ("two-sided", "greater", "less"):
        result = st.max_statistic_test(BEFORE, np.stack([BEFORE] * 3, axis=1), rng=chance(), alternative=alternative)
        assert (result.pvalue, result.statistic, result.best, result.smallest_p) == (1, 0, 0, 1)


def test_rounding_noise_is_not_a_change():
    before = chance().normal(size=20)
    result = st.max_statistic_test(before, before[:, None] + np.array([0.0, 1e-15]), rng=chance())
    assert result.frame["statistic"].tolist() == [0, 0]


def test_differences_that_are_all_equal_have_a_finite_statistic():
    result = st.max_statistic_test(np.zeros(16), np.full((16, 1), 0.1), rng=chance())
    assert result.statistic == pytest.approx(4)
    assert tuple(result.interval()) == pytest.approx((0.1, 0.1))


def test_ties_count_against_us():
    # The only flips with a larger gain than 2 of 3 are 1 of 8; those with exactly as much are 3.
    result = st.max_statistic_test([0, 0, 1], [[1], [1], [0]], rng=chance(), alternative="greater")
    assert result.pvalue == 4 / 8


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_draws():
    after = chance(1).random((40, 30)) < 0.5
    before = chance(2).random(40) < 0.5
    one, same, other = (st.max_statistic_test(before, after, rng=chance(seed)) for seed in (5, 5, 6))
    assert one.null.tobytes() == same.null.tobytes() != other.null.tobytes()
    assert one.frame.equals(same.frame)
    assert (one.null.size, one.exact, one.smallest_p) == (9999, False, 1 / 10_000)


def test_a_random_test_never_reaches_zero():
    result = st.max_statistic_test(np.zeros(60), np.ones((60, 2)), rng=chance(), n_resamples=99)
    assert result.pvalue == result.smallest_p == 0.01


def test_a_grid_of_a_real_size_is_tested_with_all_draws():
    rng = chance()
    before = rng.random(1000) < 0.5
    after = before[:, None] ^ (rng.random((1000, 156)) < 0.1)
    result = st.max_statistic_test(before, after, rng=rng)
    assert result.null.size == 9999


def test_a_noisy_cell_wins_by_its_mean_and_a_quiet_one_by_its_studentized_mean():
    quiet, noisy = np.repeat([1.0, -1.0], [11, 1]), np.repeat([9.0, -9.0], [7, 5])
    after = pd.DataFrame({"quiet": quiet, "noisy": noisy})
    assert st.max_statistic_test(np.zeros(12), after, rng=chance()).best == "quiet"
    assert st.max_statistic_test(np.zeros(12), after, rng=chance(), statistic="mean").best == "noisy"


def test_series_and_frames_in_different_orders_are_not_paired():
    before = pd.Series([1.0, 2.0, 4.0], index=["a", "b", "c"])
    after = pd.DataFrame({"x": [1.0, 3.0, 4.0]}, index=["a", "c", "b"])
    with pytest.raises(ValueError, match="different orders"):
        st.max_statistic_test(before, after, rng=chance())
    assert st.max_statistic_test(before, after.set_axis([0, 1, 2]), rng=chance()).n_moved == 1


@pytest.mark.parametrize(
    ("before", "after", "options", "message"),
    [
        ([0, 1, 1], [[1], [1]], {}, "lengths 3 and 2"),
        ([0], [[1]], {}, r"before: 1 value\(s\) given; at least 2"),
        ([0, 1], [1, 1], {}, r"after: shape \(2,\); give one row per problem and one column per cell"),
        ([0, 1], np.zeros((2, 0)), {}, r"after: shape \(2, 0\)"),
        ([0, 1], [[1, np.nan], [1, 1]], {}, r"after\[:, 1\]\[0\]=nan: not finite"),
        ([0, np.inf], [[1], [1]], {}, r"before\[1\]=inf"),
        ([0, 1], pd.DataFrame([[0, 1], [1, 1]], columns=["a", "a"]), {}, "two columns are called 'a'"),
        ([0, 1], [[1], [1]], {"alternative": "up"}, "alternative='up'"),
        ([0, 1], [[1], [1]], {"statistic": "t"}, "statistic='t': use 'studentized' or 'mean'"),
        ([0, 1], [[1], [1]], {"n_resamples": 0}, "n_resamples=0"),
    ],
)
def test_what_is_not_a_grid_of_pairs_is_refused(before, after, options, message):
    with pytest.raises(ValueError, match=message):
        st.max_statistic_test(before, after, rng=chance(), **options)


def test_a_seed_is_not_a_generator_and_levels_are_shares():
    with pytest.raises(TypeError, match=r"rng=0; give a generator, e\.g\. numpy\.random\.default_rng\(0\)"):
        st.max_statistic_test([0, 1], [[1], [1]], rng=0)
    result = st.max_statistic_test([0, 1], [[1], [1]], rng=chance())
    with pytest.raises(ValueError, match="level=5"):
        result.survivors(5)
    with pytest.raises(ValueError, match="confidence=95"):
        result.interval(95)


def test_the_result_reads_as_one_line_and_as_a_table_and_is_frozen():
    result = st.max_statistic_test(BEFORE, sweep(), rng=chance())
    assert str(result).startswith("best of 6 cells: (6, 2.0), change +0.7")
    assert "all 128 flips" in str(result)
    assert "\n" not in str(result)
    assert ">n cells</th><td><bdi>6</bdi></td>" in result._repr_html_()
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.best = (3, 2.0)
