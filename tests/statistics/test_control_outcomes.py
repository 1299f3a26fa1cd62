"""Controls from given outcomes: no model, the same tests, and plain words for frames that cannot be compared."""

import numpy as np
import pandas as pd
import pytest
import torch

import steerlab as sl
from steerlab import statistics

IDS = list("abcdefgh")
RIGHT = {"mine": 1, "one": 6, "two": 5, "three": 7, "four": 6}


def baseline() -> pd.DataFrame:
    return pd.DataFrame({"problem_id": IDS, "correct": [True] * 6 + [False] * 2, "margin": np.linspace(1, -1, 8)})


def frame() -> pd.DataFrame:
    lines = [
        (name, name != "mine", problem, k < right, 0.1 * k - (name == "mine"))
        for name, right in RIGHT.items()
        for k, problem in enumerate(IDS)
    ]
    return pd.DataFrame(lines, columns=["direction", "is_control", "problem_id", "correct", "margin"])


def test_effects_are_those_counted_by_hand():
    """Oracle: right answers of 8, minus the baseline's 6."""
    found = sl.controls_from_frame(baseline(), frame())
    observed, controls = found.effect()
    assert (observed, controls.tolist()) == (pytest.approx(-5 / 8), pytest.approx([0.0, -1 / 8, 1 / 8, 0.0]))
    assert (found.n, found.name, found.family) == (4, "mine", "given")
    rank = found.rank_test(alternative="less")
    assert (rank.pvalue, rank.smallest_p) == (0.2, 0.2)
    assert found.sign_test() == statistics.sign_test([1] * 6 + [0] * 2, [1] + [0] * 7)
    assert found.cohens_d() == pytest.approx(statistics.cohens_d(observed, controls))
    assert found.t_test().pvalue == pytest.approx(statistics.one_sample_t_test(controls, observed).pvalue)
    assert found.effect("margin")[0] == pytest.approx(np.mean(0.1 * np.arange(8) - 1) - 0.0)


def test_the_order_of_lines_does_not_matter():
    shuffled = frame().sample(frac=1, random_state=0)
    one, other = (sl.controls_from_frame(baseline(), lines) for lines in (frame(), shuffled))
    assert one.rank_test().pvalue == other.rank_test().pvalue
    assert one.sign_test() == other.sign_test()


def test_integers_and_a_result_with_a_frame_will_do():
    lines = frame().astype({"correct": int, "is_control": int})
    evaluation = sl.Evaluation((), baseline(), "given")
    assert sl.controls_from_frame(evaluation, lines).sign_test() == sl.controls_from_frame(baseline(), frame()).sign_test()


def test_margins_are_not_needed():
    found = sl.controls_from_frame(baseline().drop(columns="margin"), frame().drop(columns="margin"))
    assert list(found.changes().columns) == ["direction", "is_control", "accuracy", "correct", "n", "change"]
    with pytest.raises(ValueError, match="measure='margin': the frames have no column margin"):
        found.rank_test(measure="margin")


def changed(**columns: object) -> pd.DataFrame:
    return frame().assign(**columns)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            baseline(),
            frame().drop(columns=["is_control", "correct"]),
            "frame: no column is_control, correct; it has direction, problem_id, margin",
        ),
        (baseline().drop(columns="problem_id"), frame(), "baseline: no column problem_id"),
        (baseline().drop(columns="margin"), frame(), "frame has a column margin and baseline has none"),
        (baseline(), frame().iloc[:-1], "frame: direction 'four' lacks problem 'h'"),
        (baseline().iloc[:-1], frame(), "frame: direction 'mine' has, and the baseline lacks, problem 'h'"),
        (baseline(), pd.concat([frame(), frame().tail(1)]), "frame: direction 'four', problem_id 'h' is there more than once"),
        (pd.concat([baseline(), baseline().head(1)]), frame(), "baseline: problem_id 'a' is there more than once"),
        (baseline(), frame()[~frame()["is_control"]], "frame: no controls"),
        (baseline(), changed(is_control=True), r"frame: 0 directions under test \(is_control False\); give exactly one"),
        (baseline(), changed(is_control=False), "frame: 5 directions under test"),
        (baseline(), changed(is_control=[False] * 4 + [True] * 36), "frame: direction 'mine' is both under test and a control"),
        (baseline(), changed(correct=0.5), r"frame\['correct'\]: dtype float64; outcomes are booleans"),
        (baseline(), changed(margin=np.nan), r"frame\['margin'\]\[0\]=nan: not finite"),
        (baseline(), changed(problem_id=None), "frame: a line has no direction or no problem_id"),
    ],
)
def test_frames_that_cannot_be_compared_are_refused(before, after, message):
    with pytest.raises(ValueError, match=message):
        sl.controls_from_frame(before, after)


def test_problems_may_be_numbers():
    before, after = (table.assign(problem_id=table["problem_id"].map(IDS.index)) for table in (baseline(), frame()))
    assert sl.controls_from_frame(before, after).rank_test() == sl.controls_from_frame(baseline(), frame()).rank_test()
    with pytest.raises(ValueError, match="frame: direction 'four' lacks problem 7"):
        sl.controls_from_frame(before, after.iloc[:-1])


@pytest.mark.parametrize("wrong", [None, "frame", [1, 2]])
def test_what_is_no_frame_is_refused(wrong):
    with pytest.raises(TypeError, match=r"frame: a .*; give a pandas DataFrame with direction, problem_id, is_control, correct"):
        sl.controls_from_frame(baseline(), wrong)
    with pytest.raises(TypeError, match="baseline: a "):
        sl.controls_from_frame(wrong, frame())


def test_a_measured_result_gives_the_same_tests_from_its_frames(toy_model, backends):
    """Oracle: the result of random_control itself."""
    model, problems = toy_model(backends[0]), sl.load_task("arithmetic", n_train=12, n_validation=0, n_test=0).train
    (direction,) = sl.random_directions(sl.Direction(torch.full((32,), 1.5), 1), 1, rng=np.random.default_rng(3), name="mine")
    measured = sl.random_control(model, problems, direction, alpha=1.0, n=4, rng=np.random.default_rng(0))
    given = sl.controls_from_frame(measured.baseline, measured.frame, layer=1, alpha=1.0)
    pd.testing.assert_frame_equal(given.changes(), measured.changes())
    for measure in ("accuracy", "margin"):
        assert given.rank_test(measure=measure) == measured.rank_test(measure=measure)
    assert given.sign_test() == measured.sign_test()
    assert [control.name for control in measured.controls] == measured.changes()["direction"].tolist()[1:]


def test_a_result_shows_itself_and_can_be_drawn():
    evil = frame().replace({"direction": {"mine": "<script>"}})
    found = sl.controls_from_frame(baseline(), evil)
    assert "4 controls (given), 8 problems: observed -0.625 ranks 1 of 5" in str(found)
    assert "<script>" not in found._repr_html_()
    said = sl.plots.null_distribution(found).layout.title.text
    assert "Controls: " in said
    assert "None" not in said
    placed = sl.plots.null_distribution(sl.controls_from_frame(baseline(), frame(), layer=3, alpha=-2.0)).layout.title.text
    assert "Layer 3, alpha −2" in placed


def test_a_control_without_a_place_cannot_stand_beside_a_sweep(toy_model, backends):
    problems = sl.load_task("arithmetic", n_train=4, n_validation=0, n_test=0).train
    swept = sl.sweep(toy_model(backends[0]), problems, sl.Direction(torch.ones(32), 1), alphas=[0.0, 1.0])
    with pytest.raises(ValueError, match="it does not say at which layer and alpha it acted"):
        sl.plots.alpha_progression(swept, control=sl.controls_from_frame(baseline(), frame()))
    fig = sl.plots.alpha_progression(swept, control=sl.controls_from_frame(baseline(), frame(), layer=1, alpha=1.0))
    assert "4 random directions" in {trace.name for trace in fig.data}
