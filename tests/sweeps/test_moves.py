"""The problems behind a sweep's counts."""

import pandas as pd
import pytest

import steerlab as sl


@pytest.fixture(scope="module")
def swept(toy_model, backends) -> sl.SweepResult:
    model, task = toy_model(backends[0]), sl.load_task("arithmetic", limit=24)
    directions = sl.random_directions(sl.Direction(vector=40 * _ones(model), layer=1, site="resid_post"), n=2, rng=_rng())
    return sl.sweep(model, task.validation, directions, alphas=[-2, 0, 2])


def _ones(model):
    import torch

    return torch.ones(model.cfg.d_model)


def _rng():
    import numpy as np

    return np.random.default_rng(0)


def test_their_number_is_that_of_the_transitions(swept):
    found = sl.changed_problems(swept)
    counts = found.groupby(["layer", "direction", "alpha"])["became"].value_counts().unstack(fill_value=0)
    table = swept.transitions().set_index(["layer", "direction", "alpha"])
    assert len(found) == table[["became_right", "became_wrong"]].to_numpy().sum() > 0
    for cell, row in counts.iterrows():
        assert (row.get("right", 0), row.get("wrong", 0)) == tuple(table.loc[cell, ["became_right", "became_wrong"]])


def test_a_line_holds_what_was_asked_and_answered(swept):
    found = sl.changed_problems(swept)
    problems = {problem.id: problem for problem in swept.baseline.problems}
    for row in found.itertuples():
        problem = problems[row.problem_id]
        assert row.prompt == problem.prompt
        assert row.target == problem.choices[problem.target_index].strip()
        assert (row.before == row.target) == (row.became == "wrong")
        assert (row.after == row.target) == (row.became == "right")
        assert (row.margin_change > 0) == (row.became == "right")


def test_cells_and_kinds_can_be_chosen(swept):
    found = sl.changed_problems(swept)
    name = found["direction"].iloc[0]
    some = sl.changed_problems(swept, direction=name, alpha=2, became="wrong")
    expected = found.query("direction == @name and alpha == 2 and became == 'wrong'").reset_index(drop=True)
    pd.testing.assert_frame_equal(some, expected)


def test_in_a_cell_what_became_right_comes_first_in_the_order_of_the_data(swept):
    place = {problem.id: k for k, problem in enumerate(swept.baseline.problems)}
    for _, cell in sl.changed_problems(swept).groupby(["layer", "direction", "alpha"]):
        assert cell["became"].is_monotonic_increasing
        for _, part in cell.groupby("became"):
            assert part["problem_id"].map(place).is_monotonic_increasing


def test_the_order_of_the_data_is_not_that_of_the_names():
    names = ("z", "b", "a")
    problems = tuple(sl.Problem(name, "?", " A", (" A", " B")) for name in names)
    base = pd.DataFrame({"problem_id": names, "prediction": "A", "correct": True, "margin": 1.0, "nll": 0.5})
    cells = base.assign(layer=3, alpha=-2.0, direction="d", prediction="B", correct=False, margin=[-0.5, -1.0, -2.0])
    checks = pd.DataFrame(columns=["layer", "direction", "alpha", "calls", "resid_change", "score_change"])
    found = sl.changed_problems(sl.SweepResult(cells, sl.Evaluation(problems, base, "choice"), (), checks, {}))
    assert found["problem_id"].tolist() == list(names)
    assert found["margin_change"].tolist() == [-1.5, -2.0, -3.0]
    assert found[["before", "after", "became"]].values.tolist() == [["A", "B", "wrong"]] * 3


def test_a_sweep_in_which_nothing_changed_has_no_lines_and_all_columns(swept):
    still = sl.changed_problems(swept, alpha=0)
    assert len(still) == 0
    assert list(still.columns) == list(sl.changed_problems(swept).columns)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": 7}, "layer=7: this sweep has layer 1"),
        ({"alpha": 9.0}, r"alpha=9\.0: this sweep has alpha -2\.0, 0\.0, 2\.0"),
        ({"direction": "mine"}, "direction='mine': this sweep has direction"),
        ({"became": "better"}, "became='better'; use 'right', 'wrong'"),
    ],
)
def test_what_is_not_there_is_named(swept, options, message):
    with pytest.raises(ValueError, match=message):
        sl.changed_problems(swept, **options)
