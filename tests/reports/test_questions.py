"""The secondary analyses of an experiment, and what a sweep gives to the tests."""

import re
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from experiments import chosen

import steerlab as sl
from steerlab.reports import sections
from steerlab.reports.evidence import Significance
from steerlab.reports.secondary import Questions

SMALL = {"seed": 0, "layers": [0, 1], "alphas": (-2.0, -1.0, 0.0, 1.0, 2.0), "n_controls": 6, "n_same_cell": 6}


@pytest.fixture(scope="module")
def experiment(toy_model):
    return sl.run_experiment(toy_model("bridge"), sl.load_task("arithmetic", n_train=60, n_validation=30, n_test=24), **SMALL)


def rng():
    return np.random.default_rng(0)


def shown(fig) -> str:
    """The title and its notes, without their mark-up and line breaks."""
    return " ".join(re.sub(r"<[^>]*>", " ", fig.layout.title.text).split())


def test_a_sweep_pairs_each_problem_with_itself(experiment):
    sweep = experiment.validation
    before, after = sweep.paired()
    assert after.shape == (30, 8)  # 2 layers by 4 alphas; alpha = 0 is no cell that was tried
    assert list(before.index) == list(after.index) == [problem.id for problem in sweep.baseline.problems]
    accuracy = sweep.accuracy().set_index(["layer", "direction", "alpha"])["accuracy"]
    for cell in after.columns:
        assert after[cell].mean() == pytest.approx(accuracy[cell])
    assert sweep.paired("margin")[1].dtypes.eq(float).all()
    with pytest.raises(ValueError, match="measure='accuracy'; use one of correct, margin, nll"):
        sweep.paired("accuracy")


def test_the_cells_are_chosen_among_all_where_they_are_few(experiment):
    assert experiment.cell("raise") == tuple(experiment.validation.best()[["layer", "alpha"]])
    assert experiment.validation.baseline.n == 30
    assert experiment.test.baseline.n == 24


def test_the_best_cell_pays_for_all_that_were_tried(experiment):
    sweep = experiment.validation
    tested = sweep.max_statistic_test(rng=rng())
    assert tested.n_cells == 8
    before, after = sweep.paired()
    alone = sl.statistics.max_statistic_test(before, after, rng=rng())
    assert tested.pvalue == alone.pvalue
    assert sweep.max_statistic_test(rng=rng(), measure="margin").frame["change"].notna().all()


def test_a_dose_response_needs_one_line_of_the_grid(experiment):
    found = experiment.test.dose_response(rng=rng(), layer=experiment.layer)
    assert list(found.alphas) == [-2, -1, 0, 1, 2]
    assert found.n_problems == 24
    accuracy = experiment.test.accuracy().query("layer == @experiment.layer").sort_values("alpha")["accuracy"]
    assert found.values.mean(0) == pytest.approx(accuracy.to_numpy())
    with pytest.raises(
        ValueError, match=r"layer=None, direction=None leaves 2 of the sweep's lines; choose one of layer 0 \(.*\), layer 1"
    ):
        experiment.validation.dose_response(rng=rng())
    assert experiment.validation.dose_response(rng=rng(), layer=1).n_problems == 30
    with pytest.raises(ValueError, match="layer=7, direction=None leaves 0"):
        experiment.validation.dose_response(rng=rng(), layer=7)


def test_every_question_has_an_answer_and_the_seed_decides_them(experiment):
    one, two = Questions(experiment).frame, Questions(experiment).frame
    pd.testing.assert_frame_equal(one, two)
    assert one["question"].is_unique
    assert not one["answer"].str.contains("nan").any()
    text = " ".join(one["question"])
    for word in ("chance", "alpha", "mirror", "margin fall", "practically unchanged", "monotonic", "repetition"):
        assert word in text


def test_the_wrong_way_is_down_at_every_alpha(experiment):
    for control in experiment.controls:
        (answer,) = (said for asked, said in Questions(experiment).about(control) if "did the margin fall" in asked)
        assert answer == str(sl.statistics.anti_steerable_share(*control.paired("margin"), wanted="up"))


def answer(experiment, part: str) -> str:
    frame = Questions(experiment).frame
    (found,) = frame.loc[frame["question"].str.contains(part, regex=False), "answer"]
    return found


def test_the_p_value_of_the_chosen_cell_is_that_of_its_own_layer_and_alpha(experiment):
    """Oracle: of two cells, the one whose accuracy changed more has no larger p; the best cell's is the test's own."""
    tested = Questions(experiment).best_cell
    ps = {}
    for layer, name, alpha in tested.frame.index:
        ps[layer, name, alpha] = Questions(chosen(experiment, layer, alpha)).chosen_p
    assert ps == tested.frame["pvalue"].to_dict()
    assert ps[tested.best] == min(ps.values()) < max(ps.values())


def test_themost_extreme_cell_may_be_one_that_harms():
    index = pd.MultiIndex.from_product([[0, 1], ["d"], [-1.0, 1.0]], names=["layer", "direction", "alpha"])
    after = pd.DataFrame({cell: [cell != (1, "d", -1.0)] * 20 for cell in index})
    after.columns = index
    found = Questions(None)
    found.__dict__["best_cell"] = sl.statistics.max_statistic_test(pd.Series([True] * 20), after, rng=rng())
    assert found.most_extreme().startswith("at layer 1, alpha -1 (accuracy -100.0 points)")


def test_what_controls_do_to_other_text_is_told_without_the_direction(experiment):
    for control in experiment.controls:
        frame = experiment.side_effects.frame.query("layer == @control.layer and alpha == @control.alpha").set_index("direction")["kl"]
        kls = np.sort([frame[one.name] for one in control.controls])  # six of them
        middle, low, high = (kls[2] + kls[3]) / 2, kls[0] + 0.125 * (kls[1] - kls[0]), kls[5] - 0.125 * (kls[5] - kls[4])
        said = Questions(experiment).beside(control)
        assert said.startswith(f"KL {frame[experiment.direction.name]:.3g} nats a token")
        assert said.endswith(f"KL of 6 random directions: median {middle:.3g}, 95% of them {low:.3g} to {high:.3g}")


def test_a_repetition_is_planned_for_all_answers_that_moved_and_for_their_net_change(experiment):
    control = experiment.controls[0]
    n = control.baseline.n
    before = control.baseline.frame.assign(correct=np.arange(n) < 12)
    moved = np.isin(np.arange(n), [0, 20, 21, 22, 23, 19])  # five became right, one wrong
    mine = ~control.frame["is_control"].to_numpy()
    frame = control.frame.copy()
    frame.loc[mine, "correct"] = (np.arange(n) < 12) ^ moved
    one = replace(control, frame=frame, baseline=sl.Evaluation(control.baseline.problems, before, "choice"))
    told = replace(experiment, controls=(one,))
    planned = sl.statistics.plan(change=4 / n, discordant=6 / n, comparisons=3, alternative="greater")
    assert answer(told, "repetition need") == str(planned)
    frame.loc[mine, "correct"] = (np.arange(n) < 12) ^ np.isin(np.arange(n), [0, 1, 2])
    other = replace(experiment, controls=(replace(one, frame=frame),))
    assert answer(other, "repetition need").startswith("the cell chosen to raise accuracy did not do so")
    frame.loc[mine, "correct"] = (np.arange(n) < 12) ^ moved
    right, wrong = before["correct"].to_numpy(), (np.arange(n) < 12) ^ moved
    assert answer(told, "practically unchanged") == str(sl.statistics.equivalence_test(right, wrong, margin=0.05))


def test_the_main_jobs_words_and_tables_hold_the_questions(experiment):
    found = Significance(experiment)
    assert "8 cells compared on validation" in str(found)
    assert any("Secondary analyses" in table.caption for table in sections.tables(found))
    heatmap = next(one.figure for one in sections.figures(found) if one.caption.startswith("Validation split"))
    assert "max-statistic test of all 8 cells" in shown(heatmap)


def test_a_heatmap_outlines_the_cells_that_survive():
    index = pd.MultiIndex.from_product([[0, 1], ["d"], [-1.0, 1.0]], names=["layer", "direction", "alpha"])
    before = pd.Series([False] * 20)
    after = pd.DataFrame({cell: [cell == (1, "d", 1.0)] * 20 for cell in index})
    after.columns = index
    tested = sl.statistics.max_statistic_test(before, after, rng=rng())
    frame = pd.concat(
        [
            pd.DataFrame({"layer": c[0], "direction": c[1], "alpha": c[2], "problem_id": range(20), "correct": after[c], "margin": 0.0})
            for c in index
        ]
    )
    base = pd.DataFrame({"problem_id": range(20), "prediction": "A", "correct": before, "margin": 0.0, "nll": 1.0})
    problems = tuple(sl.Problem(str(i), "?", " A", (" A", " B")) for i in range(20))
    checks = pd.DataFrame(columns=["layer", "direction", "alpha", "calls", "resid_change", "score_change"])
    sweep = sl.SweepResult(frame.assign(prediction="A", nll=1.0), sl.Evaluation(problems, base, "choice"), (), checks, {})
    fig = sl.plots.layer_alpha_heatmap(sweep, tested=tested)
    hovers = [hover for row in fig.data[0].hovertext for hover in row]
    assert ["significant after correction at 0.05" in hover for hover in hovers] == [False, False, False, True]
    assert fig.layout.shapes[0].path == "M0.5,0.5L0.5,1.5M1.5,0.5L1.5,1.5M0.5,0.5L1.5,0.5M0.5,1.5L1.5,1.5"
    assert "Outlined: 1 significant in the max-statistic test of all 4 cells at 0.05." in shown(fig)


@pytest.mark.parametrize("measure", ["margin", "nll"])
def test_the_heatmap_and_the_comparisons_are_of_the_measure_that_was_named(experiment, measure):
    """Oracle: means of the sweep's own lines, by hand."""
    told = replace(experiment, settings={**experiment.settings, "measure": measure})
    frame, base = experiment.validation.frame, experiment.validation.baseline.frame[measure].mean()
    wanted = frame.groupby(["layer", "alpha"])[measure].mean().unstack() - base
    (heat,) = sl.plots.layer_alpha_heatmap(experiment.validation, measure=measure).data
    np.testing.assert_allclose(heat.z, wanted.to_numpy(), atol=1e-9)
    assert Questions(told).best_cell.frame["change"].to_numpy() == pytest.approx(
        [wanted.loc[layer, alpha] for layer, _, alpha in Questions(told).best_cell.frame.index]
    )
    assert f"({measure} " in Questions(told).most_extreme()
    with pytest.raises(ValueError, match="measure='odd': expected accuracy, margin, nll"):
        sl.plots.layer_alpha_heatmap(experiment.validation, measure="odd")
