"""Control pipelines against loops over `sl.sweep`, written by hand: candidates on validation, the choice, the chosen cell on test."""

import math
from dataclasses import replace
from itertools import islice, repeat

import numpy as np
import pandas as pd
import pytest
import torch
from results import shown, speaks

import steerlab as sl
from steerlab.controls import pipelines
from steerlab.directions.random import Drawn, random_pipelines, shuffled_pipelines
from steerlab.sweeps.candidates import Cell
from steerlab.tasks.scorers import Outcome, scorer_for

ALPHAS, N, GOALS = (-2.0, 1.0, 2.0), 4, ("raise", "lower")
COLUMNS = {"accuracy": "correct", "margin": "margin", "nll": "nll"}
TIGHT, ALL = {"screen": 2, "problems": 12, "keep": 1}, {"screen": None, "problems": None}


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def toy(toy_model, backends):
    return toy_model(backends[0])


@pytest.fixture(scope="module")
def splits():
    """Validation and test problems; those of the test are in groups of three."""
    task = sl.load_task("arithmetic", limit=15)
    return task.validation, [replace(p, group=f"trio {i // 3}") for i, p in enumerate(task.test)]


@pytest.fixture(scope="module")
def directions():
    return {layer: sl.random_directions(sl.Direction(torch.ones(32), layer), 1, rng=rng(layer))[0] for layer in range(3)}


@pytest.fixture(scope="module")
def run(toy, splits, directions):
    """`pipeline_control` of the same directions and splits, unless it is told otherwise."""

    def call(**changes):
        given = {"rule": sl.Grid(ALPHAS), "n": N, "stop_after": None, "rng": rng(), "choice": sl.Choice(**TIGHT)} | changes
        return sl.pipeline_control(toy, *given.pop("splits", splits), given.pop("directions", directions), **given)

    return call


@pytest.fixture(scope="module")
def swept(toy, splits, directions):
    """Every cell of the direction's pipeline and of N random ones, on validation and on test, by `sl.sweep`."""
    drawn = [directions, *(one.directions for one in islice(random_pipelines(directions, rng()), N))]
    return [[sl.sweep(toy, split, one, alphas=ALPHAS) for split in splits] for one in drawn]


@pytest.fixture(scope="module")
def control(run):
    return run()


def changes(sweep, cell, column):
    """The change of each problem at a cell."""
    at = sweep.frame[(sweep.frame["layer"] == cell[0]) & (sweep.frame["alpha"] == cell[1])]
    return at[column].to_numpy(float) - sweep.baseline.frame[column].to_numpy(float)


def chosen(validation, column, goal, *, screen, problems, keep=2):
    """A goal's cell by hand: the best of all cells on the first problems go on, the best of those on more is taken."""
    cells, sign = [(layer, alpha) for layer in range(3) for alpha in ALPHAS], {"raise": 1, "lower": -1}[goal]
    for most, left in ((screen, keep), (problems, 1)):
        table = pd.DataFrame(cells, columns=["layer", "alpha"])
        for name in (column, "margin"):
            table[f"mean {name}"] = [sign * changes(validation, cell, name)[:most].mean() for cell in cells]
        table["size"] = table["alpha"].abs()
        best = table.sort_values([f"mean {column}", "mean margin", "size", "layer"], ascending=[False, False, True, True], kind="stable")
        cells = list(best[["layer", "alpha"]].itertuples(index=False, name=None))[:left]
    return cells[0], sign * float(best[f"mean {column}"].iloc[0])


@pytest.mark.parametrize(("measure", "how"), [("accuracy", TIGHT), ("margin", TIGHT), ("nll", TIGHT), ("accuracy", ALL)])
def test_each_pipeline_is_a_loop_of_sweeps(run, swept, splits, measure, how):
    """Oracle: `sl.sweep` of each pipeline, its frame sorted by pandas; groups summed by pandas."""
    found, column = run(choice=sl.Choice(measure, **how)), COLUMNS[measure]
    expected = []
    for k, (validation, test) in enumerate(swept):
        for goal in GOALS:
            cell, mean = chosen(validation, column, goal, **how)
            change = pd.Series(changes(test, cell, column))
            groups = change.groupby([p.group for p in splits[1]]).sum()
            size = np.sqrt((groups**2).sum())
            at = test.frame[(test.frame["layer"] == cell[0]) & (test.frame["alpha"] == cell[1])]
            other = (at["prediction"].to_numpy() != test.baseline.frame["prediction"].to_numpy()).mean()
            name = "direction" if k == 0 else f"{k - 1:03d}"
            expected.append((name, k > 0, goal, *cell, mean, change.mean(), groups.sum() / size if size else 0.0, other))
    pd.testing.assert_frame_equal(found.frame, pd.DataFrame(expected, columns=found.frame.columns), check_dtype=False, atol=1e-4)
    assert len({(line.layer, line.alpha) for line in found.frame.itertuples()}) > 3
    for goal in GOALS:
        mine, *others = (line[7] for line in expected if line[2] == goal)
        sign = {"raise": 1, "lower": -1}[goal]
        assert found.test(goal).exceeds == sum(sign * z >= sign * mine - 1e-9 for z in others)
        assert found.test(goal).pvalue == (1 + found.test(goal).exceeds) / (N + 1)


def test_what_the_direction_did_at_its_cell_is_a_sweep_there(control, swept, splits):
    for goal in GOALS:
        before, after = control.paired(goal)
        change = changes(swept[0][1], control.cell(goal), "correct")
        assert (after.astype(float) - before).tolist() == change.tolist()
        assert list(before.index) == list(after.index) == [p.id for p in splits[1]]
        line = control.frame[(control.frame["pipeline"] == "direction") & (control.frame["goal"] == goal)].iloc[0]
        assert line["change"] == pytest.approx(change.mean())
    assert control.groups == tuple(p.group for p in splits[1])


def test_problems_that_stand_alone_are_groups_of_their_own(run, splits):
    """Oracle: the signed root of McNemar's statistic, net / sqrt(discordant)."""
    alone = run(splits=(splits[0], [replace(p, group=None) for p in splits[1]]))
    for goal in GOALS:
        before, after = (outcome.astype(float) for outcome in alone.paired(goal))
        won, lost = int((after > before).sum()), int((after < before).sum())
        assert alone.test(goal).observed == pytest.approx((won - lost) / np.sqrt(max(won + lost, 1)))


def test_the_direction_is_run_as_its_controls_are(run, directions):
    """Controls that are the direction itself come to what it comes to, and tie with it."""
    found = run(draw=lambda like, rng: repeat(Drawn(like)), kind="copies")
    mine = found.frame[~found.frame["is_control"]].drop(columns=["pipeline", "is_control"]).reset_index(drop=True)
    for k in range(N):
        its = found.frame[found.frame["pipeline"] == f"{k:03d}"].drop(columns=["pipeline", "is_control"]).reset_index(drop=True)
        pd.testing.assert_frame_equal(its, mine, atol=1e-5)
    assert [found.test(goal).pvalue for goal in GOALS] == [1, 1]


@pytest.mark.parametrize("together", [1, 20])
def test_an_early_stop_gives_the_prefix_of_the_whole_run_in_whatever_portions(run, control, monkeypatch, together):
    """Oracle: the z of the unstopped run, counted by hand until two are at least as good."""
    monkeypatch.setattr(pipelines, "TOGETHER", together)
    stopped, early = run(stop_after=2), 0
    for goal in GOALS:
        whole = control.frame[control.frame["is_control"] & (control.frame["goal"] == goal)]
        mine, sign = control.test(goal).observed, {"raise": 1, "lower": -1}[goal]
        reached = (sign * whole["z"].to_numpy() >= sign * mine - 1e-9).cumsum()
        drawn = int((reached < 2).sum()) + 1 if reached[-1] >= 2 else N
        test = stopped.test(goal)
        assert test.n_controls == drawn
        assert test.pvalue == (2 / drawn if reached[-1] >= 2 else (1 + reached[-1]) / (N + 1))
        assert test.controls == pytest.approx(whole["z"].tolist()[:drawn], abs=1e-5)
        its = stopped.frame[stopped.frame["is_control"] & (stopped.frame["goal"] == goal)]
        pd.testing.assert_frame_equal(its.reset_index(drop=True), whole.head(len(its)).reset_index(drop=True), atol=1e-4)
        early += drawn < N
    assert early


def test_a_goal_is_chosen_for_alike_whether_or_not_the_other_one_is(run, control):
    class OnlyRaise(sl.Grid):
        def candidates(self, directions, separability=None):
            return {"raise": super().candidates(directions)["raise"]}

    alone = run(rule=OnlyRaise(ALPHAS))
    both = control.frame[control.frame["goal"] == "raise"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone.frame, both, atol=1e-5)
    assert alone.goals == ("raise",)


# How many runs


@pytest.fixture
def counted(monkeypatch):
    """Lists of problems, and numbers of cells, that went through the model."""
    done, real = [], pipelines.run_interventions

    def run_interventions(model, problems, cells, **how):
        done.append(([p.id for p in problems], len(cells)))
        return real(model, problems, cells, **how)

    monkeypatch.setattr(pipelines, "run_interventions", run_interventions)
    return done


def test_a_preset_sees_no_validation_problem(run, counted, splits):
    found = run(rule=sl.Shortlist(ALPHAS, preset=True))
    assert {cell for ids, _ in counted for cell in ids} == {p.id for p in splits[1]}
    assert {(line.goal, line.layer, line.alpha) for line in found.frame.itertuples()} == {("raise", 1, 2.0), ("lower", 1, -2.0)}
    assert found.frame["validation"].isna().all()


@pytest.mark.parametrize("keep", [1, 2])
def test_the_runs_of_a_choice_are_those_that_were_done(run, counted, splits, keep):
    choice = sl.Choice("margin", screen=2, problems=12, keep=keep)
    run(choice=choice)
    validation, test = ([len(ids) * cells for ids, cells in counted if ids[0] in {p.id for p in split}] for split in splits)
    assert sum(validation) == (N + 1) * choice.runs(15, 9, 2) == (N + 1) * (2 * 9 + 10 * 2 * keep)
    assert [sorted({len(ids) for ids, _ in counted}), sum(test)] == [[2, 10, 15], (N + 1) * 2 * 15]


@pytest.mark.parametrize(
    ("options", "n", "stages", "runs"),
    [
        ({}, 30, [30], 30 * 12),
        ({}, 50, [50], 50 * 12),
        ({}, 120, [50, 120], 50 * 12 + 70 * 4),
        ({}, 400, [50, 150], 50 * 12 + 100 * 4),
        ({"keep": 9}, 400, [50, 150], 150 * 12),  # all go on
        ({"screen": None}, 400, [150], 150 * 12),
        ({"screen": None, "problems": None}, 400, [400], 400 * 12),
        ({"screen": 10, "problems": None}, 400, [10, 400], 10 * 12 + 390 * 4),
    ],
)
def test_stages_and_runs_by_hand(options, n, stages, runs):
    choice = sl.Choice(**options)
    assert (choice.stages(n), choice.runs(n, 12, 2)) == (stages, runs)


# What is said, kept and refused


def test_the_same_seed_gives_the_same_pipelines(run, control):
    again, other = run(), run(rng=rng(1))
    pd.testing.assert_frame_equal(again.frame, control.frame, check_exact=True)
    assert not other.frame[other.frame["is_control"]].equals(control.frame[control.frame["is_control"]])
    assert other.frame[~other.frame["is_control"]].equals(control.frame[~control.frame["is_control"]])


@pytest.mark.parametrize(
    ("mine", "often"), [(0.0, True), (0.07, True), (0.08, False), (0.5, False), (0.88, False), (0.9, True), (1.0, True)]
)
def test_answers_change_unusually_often_or_seldom_by_a_two_sided_rank_test(control, mine, often):
    """By hand: 41 controls whose shares are 0.08, 0.10 … 0.88; beyond all of them p is 2 / 42, with one as far 4 / 42."""
    shares = np.linspace(0.08, 0.88, 41)
    line = control.frame.iloc[0].to_dict()
    rows = [line | {"changed": mine}] + [
        line | {"pipeline": f"{k:03d}", "is_control": True, "changed": share} for k, share in enumerate(shares)
    ]
    found = replace(control, frame=pd.DataFrame(rows), planned=41)
    assert found.changed_too_often("raise") == often
    assert len(found.unusual()) == often
    assert all(
        f"changes {100 * mine:.1f}% of answers, unlike 41 random pipelines (48.0% in the median; two-sided rank test, p = 0.048, uncorrected)"
        in said
        for said in found.unusual()
    )


def test_pipelines_of_permuted_labels_go_by_their_own_separability(toy, run, splits):
    """Oracle: the same draws, taken by hand; what their own contrast is worth ranks the layers."""
    acts = sl.cache_activations(toy, splits[0], layers=[0, 1, 2])
    ids = acts.problem_ids
    right, wrong = acts.select(ids[::2]), acts.select(ids[1::2])
    directions = {layer: sl.mean_difference(right, wrong, layer=layer) for layer in range(3)}
    rule, draw = sl.Shortlist((-1.0, 1.0), {0: 0.9, 1: 0.8, 2: 0.7}, n_layers=1), shuffled_pipelines(right, wrong)
    found = run(directions=directions, rule=rule, draw=draw, kind="shuffled-label pipelines")
    expected = [max(one.separability, key=lambda layer: (one.separability[layer], -layer)) for one in islice(draw(directions, rng()), N)]
    assert found.frame["layer"].tolist() == [0, 0, *np.repeat(expected, 2)]
    assert len(set(expected)) > 1


def test_ties_go_to_the_smaller_alpha_and_the_lower_layer_where_answers_have_no_margin(run, splits):
    nothing = replace(scorer_for(splits[0]), judge=lambda model, problem, answers: Outcome("?", False, math.nan, math.nan))
    small = {"splits": [split[:2] for split in splits], "rule": sl.Grid((-2.0, 1.0, -1.0)), "n": 1, "scorer": nothing}
    found = run(**small)
    assert {(line.layer, line.alpha) for line in found.frame.itertuples()} == {(0, 1.0)}
    assert [found.test(goal).pvalue for goal in GOALS] == [1, 1]
    with pytest.raises(ValueError, match="measure='margin': this scorer gives none for some test problems"):
        run(**small, choice=sl.Choice("margin"))


def test_a_problem_in_both_splits_is_refused(run, splits):
    validation, test = splits
    with pytest.raises(ValueError, match=f"1 problems stand in validation and in test, {validation[3].id!r} for one"):
        run(splits=(validation, [*test, replace(validation[3], id="another")]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n=0"),
        ({"stop_after": 0}, "stop_after=0"),
        ({"rule": sl.Grid((0.0,))}, r"alphas=\[0.0\]; give at least one other than 0"),
        ({"rule": sl.Shortlist((0.0,))}, r"alphas=\[0.0\]; give at least one other than 0"),
        ({"draw": lambda like, rng: [Drawn(like)] * 2}, "draw gave 2 pipelines, n=4 at most are needed"),
        ({"splits": ([], [])}, "0 validation and 0 test problems"),
    ],
)
def test_bad_input_is_named(run, options, message):
    with pytest.raises(ValueError, match=message):
        run(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measure": "prediction"}, "measure='prediction'; use one of"),
        ({"screen": 0}, "screen=0"),
        ({"problems": 0}, "problems=0"),
        ({"keep": 0}, "keep=0"),
    ],
)
def test_a_choice_is_checked_where_it_is_made(options, message):
    with pytest.raises(ValueError, match=message):
        sl.Choice(**options)


def test_a_goal_that_was_not_chosen_for_is_named(control):
    for call in (control.test, control.cell, control.paired, control.changed_too_often):
        with pytest.raises(ValueError, match="goal='best'; use one of raise, lower"):
            call("best")


def test_a_result_shows_itself(control):
    speaks(control)
    assert (
        f"raise: layer {control.cell('raise').layer}, alpha {control.cell('raise').alpha:g}, p={control.test('raise').pvalue:.3g}"
        in repr(control)
    )
    assert "4 random pipelines" in shown(control)
    summary = control.summary().set_index("goal")
    assert [Cell(*line) for line in summary[["layer", "alpha"]].itertuples(index=False)] == [control.cell(goal) for goal in GOALS]
    assert summary["pvalue"].tolist() == [control.test(goal).pvalue for goal in GOALS]
