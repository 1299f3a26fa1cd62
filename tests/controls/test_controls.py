"""Random controls: the frame, the effects, and that the tests are those of steerlab.statistics."""

import numpy as np
import pandas as pd
import pytest
import torch
from results import shown, speaks

import steerlab as sl
from steerlab import statistics

N, ALPHA = 9, 1.5


@pytest.fixture(scope="module")
def toy(toy_model, backend):
    return toy_model(backend)


@pytest.fixture(scope="module")
def problems():
    return sl.load_task("arithmetic", n_train=24, n_validation=0, n_test=0).train


def direction() -> sl.Direction:
    vector = torch.randn(32, generator=torch.Generator().manual_seed(0))
    return sl.Direction(vector / vector.norm() * 8, 1, name="mine")


@pytest.fixture(scope="module")
def control(toy, problems):
    return sl.random_control(toy, problems, direction(), alpha=ALPHA, n=N, rng=np.random.default_rng(0))


def effects(control: sl.ControlResult, column: str) -> tuple[float, np.ndarray]:
    """Oracle: means over the frame, minus the baseline's."""
    means = control.frame.groupby(["is_control", "direction"])[column].mean() - control.baseline.frame[column].mean()
    return float(means[False].iloc[0]), means[True].to_numpy(float)


def test_the_frame_has_one_line_a_direction_and_problem(control, problems):
    frame = control.frame
    assert list(frame.columns) == ["direction", "is_control", "problem_id", "prediction", "correct", "margin", "nll"]
    assert len(frame) == (N + 1) * len(problems)
    assert frame.groupby("direction", sort=False)["problem_id"].apply(list).tolist() == [[p.id for p in problems]] * (N + 1)
    assert frame.loc[~frame["is_control"], "direction"].unique().tolist() == ["mine"]
    assert frame.loc[frame["is_control"], "direction"].unique().tolist() == [f"control-{i:03d}" for i in range(N)]
    assert (control.n, control.alpha, control.layer, control.site, control.family) == (N, ALPHA, 1, "resid_post", "random_isotropic")


def test_the_directions_outcomes_are_those_of_a_sweep(control, toy, problems):
    swept = sl.sweep(toy, problems, direction(), alphas=[ALPHA]).frame
    mine = control.frame[~control.frame["is_control"]]
    columns = ["problem_id", "prediction", "correct", "margin", "nll"]
    pd.testing.assert_frame_equal(mine[columns], swept[columns], check_exact=False, rtol=0, atol=1e-4)


def test_a_controls_outcomes_are_those_of_a_sweep_with_it(control, toy, problems):
    drawn = sl.random_directions(direction(), N, rng=np.random.default_rng(0))[-1]
    swept = sl.sweep(toy, problems, drawn, alphas=[ALPHA]).frame
    last = control.frame[control.frame["direction"] == drawn.name].reset_index(drop=True)
    columns = ["problem_id", "prediction", "correct", "margin", "nll"]
    pd.testing.assert_frame_equal(last[columns], swept[columns], check_exact=False, rtol=0, atol=1e-4)


def test_changes_are_against_the_baseline(control, toy, problems):
    table = control.changes()
    assert list(table.columns) == ["direction", "is_control", "accuracy", "correct", "n", "change", "margin_change"]
    assert len(table) == N + 1
    assert control.baseline.accuracy == sl.evaluate(toy, problems).accuracy
    for column, name in (("correct", "change"), ("margin", "margin_change")):
        observed, drawn = effects(control, column)
        assert table.loc[~table["is_control"], name].tolist() == pytest.approx([observed])
        assert table.loc[table["is_control"], name].tolist() == pytest.approx(drawn.tolist())
    assert table["margin_change"].nunique() == N + 1


@pytest.mark.parametrize(("measure", "column"), [("accuracy", "correct"), ("margin", "margin")])
@pytest.mark.parametrize("alternative", ["two-sided", "greater", "less"])
def test_the_tests_are_those_of_the_statistics_on_the_frame(control, measure, column, alternative):
    """Oracle: steerlab.statistics, on effects computed from the frame here."""
    observed, drawn = effects(control, column)
    rank, mine = statistics.rank_test(observed, drawn, alternative=alternative), control.rank_test(measure=measure, alternative=alternative)
    assert (mine.pvalue, mine.exceeds, mine.n_controls) == (rank.pvalue, rank.exceeds, N)
    t, mine = (
        statistics.one_sample_t_test(drawn, observed, alternative=alternative),
        control.t_test(measure=measure, alternative=alternative),
    )
    assert mine.pvalue == pytest.approx(t.pvalue)
    assert control.cohens_d(measure=measure) == pytest.approx(statistics.cohens_d(observed, drawn))
    assert control.cohens_d(measure=measure) == pytest.approx((observed - drawn.mean()) / drawn.std(ddof=1))


def test_the_sign_test_is_that_of_the_statistics_on_the_frame(control):
    before = control.baseline.frame["correct"].to_numpy(bool)
    after = control.frame.loc[~control.frame["is_control"], "correct"].to_numpy(bool)
    assert control.sign_test() == statistics.sign_test(before, after)
    assert control.sign_test(alternative="less") == statistics.sign_test(before, after, alternative="less")
    assert control.sign_test().change == pytest.approx(control.effect()[0])


def test_an_unknown_measure_is_refused(control):
    with pytest.raises(ValueError, match="measure='nll'; use one of accuracy, margin"):
        control.rank_test(measure="nll")


def test_the_same_seed_gives_the_same_frame(control, toy, problems):
    again, other = (sl.random_control(toy, problems, direction(), alpha=ALPHA, n=N, rng=np.random.default_rng(seed)) for seed in (0, 1))
    pd.testing.assert_frame_equal(control.frame, again.frame, check_exact=True)
    drawn = control.frame["is_control"]
    assert not np.allclose(control.frame.loc[drawn, "margin"], other.frame.loc[drawn, "margin"])


def test_controls_can_act_at_another_place(toy, problems):
    moved = sl.random_control(toy, problems, direction(), alpha=ALPHA, n=2, rng=np.random.default_rng(0), layer=0, site="resid_mid")
    assert (moved.layer, moved.site) == (0, "resid_mid")
    assert set(moved.checks["layer"]) == {0}
    assert moved.warnings() == []


def test_a_control_that_changes_nothing_that_is_read_is_said_aloud(toy, problems):
    still = sl.random_control(toy, problems, direction(), alpha=1e-30, n=2, rng=np.random.default_rng(0))
    assert len(still.warnings()) == 3
    assert all("this is not evidence of no effect" in said for said in still.warnings())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0}, "alpha=0 is the baseline; a control needs a coefficient other than 0"),
        ({"alpha": float("inf")}, "alpha=inf is not a finite number"),
        ({"n": 0}, "n=0; use at least 1 random direction"),
        ({"layer": 3}, "layer=3: this model has 3 layers"),
        (
            {"draw": lambda like, n, rng: [like.with_vector(-like.vector, "twin")] * n},
            "draw gave 3 controls, 1 of them with a name of their own",
        ),
        ({"draw": lambda like, n, rng: []}, "draw gave 0 controls"),
    ],
)
def test_bad_input_is_refused(toy, problems, options, message):
    with pytest.raises(ValueError, match=message):
        sl.random_control(toy, problems, direction(), **({"alpha": 1.0, "n": 3, "rng": np.random.default_rng(0)} | options))


def test_another_way_to_draw_controls_is_recorded(toy, problems):
    def opposite(like, n, *, rng):
        return [like.with_vector(-(i + 1) * like.vector, f"minus-{i + 1}", {"estimator": "opposite"}) for i in range(n)]

    control = sl.random_control(toy, problems, direction(), alpha=ALPHA, n=2, rng=np.random.default_rng(0), draw=opposite)
    assert (control.family, control.n) == ("opposite", 2)
    swept = sl.sweep(toy, problems, direction(), alphas=[-ALPHA]).frame
    drawn = control.frame.loc[control.frame["direction"] == "minus-1", "margin"].to_numpy()
    np.testing.assert_allclose(drawn, swept["margin"].to_numpy(), atol=1e-4)


def test_a_result_shows_itself(control):
    assert f"p={control.rank_test().pvalue:.3g}" in repr(control)
    speaks(control)
    assert "'mine', layer=1, alpha=1.5" in shown(control)
