"""The protocol keeps its splits apart, and its words follow from its numbers."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from results import speaks

import steerlab as sl
from steerlab.controls.control import ControlResult
from steerlab.controls.pipelines import Choice, PipelineControl
from steerlab.models.model import hook_name, hooks
from steerlab.reports import sections
from steerlab.reports.runs import OUTCOMES, provenance
from steerlab.studies.protocol import Experiment

SMALL = {"seed": 0, "layers": [0, 1], "alphas": (-2.0, 0.0, 1.0), "n_controls": 4, "n_same_cell": 4}


@pytest.fixture(scope="module")
def task() -> sl.Task:
    return sl.load_task("arithmetic", n_train=60, n_validation=20, n_test=20)


@pytest.fixture(scope="module")
def experiment(toy_model: Callable[[str], object], task: sl.Task) -> Experiment:
    return sl.run_experiment(toy_model("bridge"), task, **SMALL)


def outcomes(direction: str, is_control: bool, right: int, n: int = 100) -> pd.DataFrame:
    correct = np.arange(n) < right
    ids = [f"p{i}" for i in range(n)]
    margin = correct - 0.5
    return pd.DataFrame(
        {
            "direction": direction,
            "is_control": is_control,
            "problem_id": ids,
            "prediction": "A",
            "correct": correct,
            "margin": margin,
            "nll": 1.0,
        }
    )


def control(alpha: float, right: int, controls: list[int], baseline: int = 50) -> ControlResult:
    """A control in which the direction answers `right` of 100 problems rightly, and the random ones `controls`."""
    d = sl.Direction(torch.ones(4), 1, method={"n_correct": 50})
    base = outcomes("", False, baseline).drop(columns=["direction", "is_control"])
    problems = tuple(sl.Problem(f"p{i}", "?", " A", (" A", " B")) for i in range(100))
    frames = [outcomes(d.name, False, right), *(outcomes(f"control-{k:03d}", True, n) for k, n in enumerate(controls))]
    checks = pd.DataFrame(
        {"layer": [1], "direction": [d.name], "alpha": [alpha], "calls": [1], "resid_change": [1.0], "score_change": [1.0]}
    )
    evaluation = sl.Evaluation(problems, base, "choice")
    return ControlResult(
        pd.concat(frames, ignore_index=True), evaluation, d, alpha, 1, "resid_post", len(controls), "random_isotropic", checks
    )


GROUPS = tuple(f"g{i}" for i in range(100))


def pipelines(
    experiment: Experiment, kind: str, right: dict[str, int], controls: dict[str, list[float]], groups=GROUPS, **about
) -> PipelineControl:
    """Pipelines at the experiment's own cells: the direction's has so many of 100 problems right, of which 50 were; the controls these studentised changes."""
    lines, outcomes_ = [], []
    base = outcomes("", False, 50).drop(columns=["direction", "is_control"])
    for goal, n in right.items():
        after = outcomes("", False, n)[OUTCOMES]
        change = after["correct"].to_numpy(float) - base["correct"].to_numpy(float)
        cell = experiment.cell(goal)
        about_line = {"goal": goal, "layer": cell.layer, "alpha": cell.alpha, "validation": 0.0}
        z = float(change.sum() / max(1.0, np.sqrt(np.abs(change).sum())))
        lines.append({"pipeline": "direction", "is_control": False, **about_line, "change": change.mean(), "z": z, "changed": 0.1})
        lines += [
            {"pipeline": f"{k:03d}", "is_control": True, **about_line, "change": 0.0, "z": value, "changed": 0.1}
            for k, value in enumerate(controls[goal])
        ]
        outcomes_.append(after.assign(goal=goal))
    problems = tuple(sl.Problem(f"p{i}", "?", " A", (" A", " B")) for i in range(100))
    checks = pd.DataFrame(columns=["layer", "direction", "alpha", "calls", "resid_change", "score_change"])
    kinds = {"rule": "by hand", "choice": Choice(), "planned": len(controls["raise"]), "stop_after": None, "checks": checks}
    baseline = sl.Evaluation(problems, base, "choice")
    return PipelineControl(pd.DataFrame(lines), pd.concat(outcomes_), baseline, groups, kind, **(kinds | about))


def found_of(experiment: Experiment, right: dict[str, int], random: list[float], shuffled: list[float], **about) -> sl.Significance:
    """The evidence on two kinds of control pipelines, whose studentised changes are the same for both goals but for the sign."""
    kinds = {"random pipelines": random, "shuffled-label pipelines": shuffled}
    made = tuple(
        pipelines(experiment, kind, right, {"raise": values, "lower": [-z for z in values]}, **about) for kind, values in kinds.items()
    )
    return sl.Significance(replace(experiment, pipelines=made))


WEAK = np.linspace(-1, 1, 99).tolist()  # control pipelines that do little
STRONG = [9.0] * 99  # and others that do as much


def test_the_cells_are_the_best_and_the_worst_of_validation_where_every_cell_is_a_candidate(experiment: Experiment) -> None:
    """Oracle: the sweep of all cells; there are two layers and three alphas, and 20 problems, so that nothing is left out or screened."""
    table = experiment.validation.accuracy().query("alpha != 0")
    table["size"] = table["alpha"].abs()
    best, worst = (
        table.sort_values(["accuracy", "margin_change", "size", "layer"], ascending=[up, up, True, True]).iloc[0] for up in (False, True)
    )
    assert experiment.cell("raise") == (best["layer"], best["alpha"])
    assert experiment.cell("lower") == (worst["layer"], worst["alpha"])


def test_no_problem_of_one_split_is_used_in_another(experiment: Experiment) -> None:
    splits = [set(e.frame["problem_id"]) for e in (experiment.train, experiment.validation.baseline, experiment.test.baseline)]
    assert not (splits[0] & splits[1] | splits[0] & splits[2] | splits[1] & splits[2])


def test_controls_stand_at_the_chosen_cells_and_so_does_the_dose_response(experiment: Experiment) -> None:
    cells = {experiment.cell("raise"), experiment.cell("lower")}
    assert {(c.layer, c.alpha) for c in experiment.controls} == cells
    assert all(c.n == 4 for c in experiment.controls)
    assert set(experiment.test.frame["layer"]) == {layer for layer, _ in cells}


def test_all_kinds_of_pipelines_have_the_directions_own_cells(experiment: Experiment) -> None:
    assert [one.kind for one in experiment.pipelines] == ["random pipelines", "shuffled-label pipelines"]
    assert len({one.cell(goal) for one in experiment.pipelines for goal in experiment.goals}) == len(
        set(map(experiment.cell, experiment.goals))
    )


def test_a_dose_is_relative_to_the_median_activation(experiment: Experiment, toy_model: Callable[[str], object], task: sl.Task) -> None:
    """Oracle: the activations of validation prompts cached again, by NumPy."""
    cell = experiment.cell("lower")
    norms = np.linalg.norm(sl.cache_activations(toy_model("bridge"), task.validation, layers=[cell.layer]).values.numpy()[:, 0, 0], axis=-1)
    dose = abs(cell.alpha) * experiment.directions[cell.layer].norm / np.median(norms)
    assert experiment.dose(cell) == pytest.approx(dose, rel=1e-4)
    for sweep in (experiment.validation, experiment.test):
        line = sweep.accuracy().query("layer == @cell.layer and alpha == @cell.alpha")
        assert line["dose"].tolist() == [pytest.approx(dose, rel=1e-4)]


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_and_another_seed_other_controls(
    toy_model: Callable[[str], object], task: sl.Task, experiment: Experiment
) -> None:
    again = sl.run_experiment(toy_model("bridge"), task, **SMALL)
    other = sl.run_experiment(toy_model("bridge"), task, **(SMALL | {"seed": 1}))
    pd.testing.assert_frame_equal(again.controls[0].frame, experiment.controls[0].frame)
    pd.testing.assert_frame_equal(again.pipelines[1].frame, experiment.pipelines[1].frame)
    assert not other.controls[0].frame["margin"].equals(experiment.controls[0].frame["margin"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_controls": 0}, "n_controls=0"),
        ({"alphas": (0.0, 1.0)}, "negative value"),
        ({"alphas": (-1.0, 1.0)}, "must include 0"),
        ({"layers": [7]}, "layer=7"),
        ({"measure": "odd"}, "measure='odd'; use one of accuracy, margin, nll"),
        ({"choose": "odd"}, "choose='odd'; use one of shortlist, grid, preset"),
        ({"pipelines": ["odd"]}, "pipelines='odd'; use one of random, shuffled_labels"),
        ({"pipelines": []}, "give at least one of random, shuffled_labels"),
    ],
)
def test_bad_settings_are_refused(toy_model: Callable[[str], object], task: sl.Task, change: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        sl.run_experiment(toy_model("bridge"), task, **(SMALL | change))


def test_an_empty_split_is_refused_before_any_work(toy_model: Callable[[str], object], task: sl.Task) -> None:
    with pytest.raises(ValueError, match="the validation split of task 'arithmetic' is empty"):
        sl.run_experiment(toy_model("bridge"), replace(task, validation=[]), **SMALL)


@pytest.mark.parametrize(
    ("right", "random", "shuffled", "text"),
    [
        ({"raise": 90, "lower": 10}, WEAK, WEAK, "specific effect"),
        ({"raise": 90, "lower": 10}, WEAK, STRONG, "effect that is not specific to this direction"),
        ({"raise": 51, "lower": 49}, [-1.0] * 99, [-1.0] * 99, "unusual, but no net effect"),
        ({"raise": 51, "lower": 49}, STRONG, WEAK, "no effect detected"),
    ],
)
def test_the_verdict_is_that_of_the_table_for_both_goals(experiment: Experiment, right, random, shuffled, text) -> None:
    said = found_of(experiment, right, random, shuffled)
    assert [found.verdict.text for found in said.findings] == [text, text]
    assert said.answer().startswith(f"To raise accuracy: {text}\nSteering at layer ")
    assert f"\n\nTo lower accuracy: {text}\n" in said.answer()


def test_the_answer_has_four_lines_a_goal_with_corrected_p_values_that_follow_by_hand(experiment: Experiment) -> None:
    """40 of 100 problems became right: the sign-flip p is 2 ** -40; against 99 pipelines 0.01, which Holm's correction doubles."""
    cell = experiment.cell("raise")
    said = found_of(experiment, {"raise": 90, "lower": 10}, WEAK, STRONG)
    verdict, size, compared = said.answer().split("\n\n")[0].splitlines()
    assert verdict == "To raise accuracy: effect that is not specific to this direction"
    assert size.startswith(f"Steering at layer {cell.layer}, alpha {cell.alpha:+g} (relative dose ")
    assert "; chosen on validation) changed accuracy by +40.0 points [" in size
    assert size.endswith("on 100 test problems: p = 0.0003.")  # 3 / 10,000: flips are drawn
    assert compared == "Against 99 random pipelines: p = 0.02. Against 99 shuffled-label pipelines: p = 1. Corrected for 3 tests (Holm)."
    assert said.finding("raise").could_miss == "An effect of 19.2 points or more would have been found with 80% power."


def test_a_null_result_does_not_say_that_there_is_an_effect(experiment: Experiment) -> None:
    said = found_of(experiment, {"raise": 51, "lower": 49}, WEAK, WEAK).answer()
    assert said.count("no effect detected") == 2
    assert "specific" not in said
    assert said.count("with 80% power") == 2


def test_where_no_answer_changed_nothing_is_said_of_small_effects(experiment: Experiment) -> None:
    said = found_of(experiment, {"raise": 50, "lower": 50}, WEAK, WEAK).answer()
    assert said.count("No answer changed, so that this says nothing of small effects.") == 2


def test_one_control_that_does_great_harm_is_no_veto(experiment: Experiment) -> None:
    """Before: two-sided by distance from the median, so that a control at -90 points made p = 0.02 of an effect above all 99."""
    said = found_of(experiment, {"raise": 90, "lower": 50}, [*WEAK[1:], -9.5], WEAK).finding("raise")
    assert [test.pvalue for test in said.against.values()] == [0.01, 0.01]


def test_problems_in_groups_are_flipped_as_groups_and_the_answer_counts_them(experiment: Experiment) -> None:
    """Oracle: 40 problems of 4 groups became right; of 2 ** 4 flips of these groups one is as good."""
    groups = tuple(f"g{i // 10}" for i in range(100))
    said = found_of(experiment, {"raise": 90, "lower": 10}, WEAK, WEAK, groups=groups)
    found = said.finding("raise")
    assert found.effect.pvalue == 1 / 16
    assert found.verdict.text == "unusual, but no net effect"
    assert "on 100 test problems in 10 groups" in found.size
    assert found.groups.value > 5
    assert any(heading == "Groups of problems" and "100 problems in 10 groups" in parts[0] for heading, parts in sections.sections(said))


def test_pipelines_that_ended_early_are_counted_as_drawn(experiment: Experiment) -> None:
    said = found_of(experiment, {"raise": 51, "lower": 49}, [9.0] * 10 + WEAK[:20], [9.0] * 12, planned=99, stop_after=10)
    assert "Against 10 random pipelines (of 99 planned; 10 were at least as good): p = 1." in said.finding("raise").compared


def test_raw_p_values_are_never_shown_without_the_word(experiment: Experiment) -> None:
    said = sl.Significance(experiment)
    for table in (said.tests, said.same_cell):
        assert all("uncorrected" in column or "Holm" in column for column in table.columns if column.startswith("p "))
    assert "p (Holm)" in said.tests


def test_too_few_pipelines_are_warned_of_with_the_number_needed(experiment: Experiment) -> None:
    """Oracle: with a clear effect Holm's correction of two kinds is by 2, and 2 / 40 = 0.05."""
    few = " ".join(found_of(experiment, {"raise": 90, "lower": 10}, WEAK[:5], WEAK[:5]).warnings())
    assert "With 5 pipelines of each of 2 kinds their corrected p-values cannot fall below 0.33; use at least 39" in few
    enough = found_of(experiment, {"raise": 90, "lower": 10}, WEAK[:39], WEAK[:39])
    assert "cannot fall below" not in " ".join(enough.warnings())
    assert enough.finding("raise").verdict.text == "specific effect"


def test_directions_at_the_same_cell_that_are_all_alike_leave_the_effect_size_undefined(experiment: Experiment) -> None:
    said = sl.Significance(replace(experiment, controls=(control(1.0, 90, [50] * 99),), families=()))
    assert said.same_cell["Cohen's d"].isna().all()


def test_margin_and_loss_can_be_the_measure(toy_model: Callable[[str], object], task: sl.Task) -> None:
    for measure in ("margin", "nll"):
        found = sl.run_experiment(toy_model("bridge"), task, **(SMALL | {"n_controls": 2, "measure": measure, "families": ()}))
        said = sl.Significance(found)
        cell = found.cell("raise")
        frame = found.test.frame[(found.test.frame["layer"] == cell.layer) & (found.test.frame["alpha"] == cell.alpha)].set_index(
            "problem_id"
        )[measure]
        change = frame.mean() - found.test.baseline.frame[measure].mean()
        assert said.finding("raise").change == pytest.approx(change, abs=1e-6)
        assert f"changed {measure} by {change:+.3f} [" in said.answer()
        assert f"to raise {measure} layer" in repr(found)


def test_an_experiment_is_read_back_from_its_run_folder(
    experiment: Experiment, toy_model: Callable[[str], object], task: sl.Task, tmp_path
) -> None:
    record = provenance(toy_model("bridge"), {"seed": 0}, task.about)
    sl.save_experiment(tmp_path / "run", experiment, record)
    loaded, found = sl.load_experiment(tmp_path / "run")
    pd.testing.assert_frame_equal(loaded.test.frame, experiment.test.frame)
    pd.testing.assert_frame_equal(loaded.validation.accuracy(), experiment.validation.accuracy())
    pd.testing.assert_frame_equal(loaded.controls[-1].changes(), experiment.controls[-1].changes())
    assert loaded.train.problems == experiment.train.problems
    assert loaded.diagnostics.layers == experiment.diagnostics.layers
    pd.testing.assert_frame_equal(loaded.side_effects.frame, experiment.side_effects.frame)
    assert [repr(c) for c in loaded.families] == [repr(c) for c in experiment.families]
    assert str(sl.Significance(loaded)) == str(sl.Significance(experiment))
    assert found["model"]["n_layers"] == 3
    described = {k: v for k, v in found.items() if k in ("config", "model", "task", "versions")}
    sl.save_experiment(tmp_path / "run", loaded, described, overwrite=True)
    assert sl.Significance(sl.load_experiment(tmp_path / "run")[0]).answer() == found["answer"]


def test_a_file_that_the_run_did_not_write_is_not_read(experiment, toy_model, task, tmp_path):
    """Before: the diagnostics of another run were taken for this one's."""
    about = provenance(toy_model("bridge"), {"seed": 0}, task.about)
    other = sl.save_experiment(tmp_path / "other", experiment, about)
    mine = sl.save_experiment(tmp_path / "mine", replace(experiment, diagnostics=None), about)
    (mine / "diagnostics.json").write_bytes((other / "diagnostics.json").read_bytes())
    assert sl.load_experiment(other)[0].diagnostics is not None
    assert sl.load_experiment(mine)[0].diagnostics is None


def test_an_experiment_is_not_written_without_the_name_of_its_model(experiment: Experiment, tmp_path) -> None:
    with pytest.raises(ValueError, match="provenance names no model; give what"):
        sl.save_experiment(tmp_path / "run", experiment, {"config": {}})
    assert not (tmp_path / "run").exists()


def test_an_experiment_and_its_significance_show_themselves_in_a_notebook(experiment: Experiment) -> None:
    assert len(repr(experiment)) < 300
    speaks(experiment)
    speaks(sl.Significance(experiment))


def test_other_kinds_of_controls_stand_at_the_cell_chosen_first_with_names_of_their_own(experiment: Experiment) -> None:
    assert [c.family for c in experiment.families] == ["equal_kl"]
    assert all((c.layer, c.alpha) == experiment.cell("raise") and c.n == 4 for c in experiment.families)
    drawn = {one.name for c in (*experiment.controls, *experiment.families) if c.alpha == experiment.alpha for one in c.controls}
    assert len(drawn) == 8


def test_controls_of_equal_kl_change_the_texts_as_much_as_the_direction(
    toy_model: Callable[[str], object], experiment: Experiment, task: sl.Task
) -> None:
    texts, about = sl.side_texts(toy_model("bridge"), task.validation)
    assert experiment.settings["texts"] == about
    found = sl.side_effects(toy_model("bridge"), experiment.families[0].controls, texts, alphas=[experiment.alpha])
    wanted = experiment.side_effects.kl(experiment.direction, experiment.alpha)
    np.testing.assert_allclose(found.frame["kl"], wanted, rtol=0.011)


def test_side_effects_are_known_for_the_direction_at_every_alpha_and_for_its_controls_at_theirs(experiment: Experiment) -> None:
    frame = experiment.side_effects.frame
    assert set(frame.loc[frame["direction"] == experiment.direction.name, "alpha"]) == set(experiment.test.accuracy()["alpha"])
    assert (frame["direction"] != experiment.direction.name).sum() == sum(c.n for c in experiment.controls)


def test_families_are_chosen_and_checked(toy_model: Callable[[str], object], task: sl.Task) -> None:
    found = sl.run_experiment(toy_model("bridge"), task, **SMALL, families=["orthogonal", "covariance_matched"])
    assert [c.family for c in found.families] == ["orthogonal", "covariance_matched"]
    across = [abs(float(one.vector @ found.direction.vector)) for one in found.families[0].controls]
    assert max(across) < 1e-3 * found.direction.norm**2
    with pytest.raises(ValueError, match="families: 'odd'; use any of covariance_matched"):
        sl.run_experiment(toy_model("bridge"), task, **SMALL, families=["odd"])
    with pytest.raises(ValueError, match="equal_kl needs an operator under which length counts"):
        sl.run_experiment(toy_model("bridge"), task, **SMALL, families=["equal_kl"], operator="ablate")


def test_the_contrast_and_the_side_effects_are_in_the_summary_and_the_report(experiment: Experiment) -> None:
    said = sl.Significance(experiment)
    summary = str(said)
    for line in ("contrast    held-out AUC", "the same cell: ", "side effects at layer"):
        assert line in summary
    parts = sections.report_parts(said, {"model": {"name": "toy"}, "versions": {}})
    assert [heading for heading, part in parts["sections"] if part] == [
        "Problems that became right or wrong",
        "The contrast set",
        "Directions at the same cell",
        "Side effects",
    ]
    assert parts["references"]
    moved = dict(parts["sections"])["Problems that became right or wrong"]
    assert "became right and" in moved[0]


def test_too_few_problems_for_diagnostics_leave_them_out_and_the_report_stands(experiment: Experiment) -> None:
    said = sl.Significance(replace(experiment, diagnostics=None))
    assert "held-out" not in str(said)
    assert "The contrast set" not in [heading for heading, _ in sections.sections(said)]


# The protocol once more, by hand: a trained model, in which the chosen alpha is not the strongest suppression, with plain hooks.


@pytest.fixture(scope="module")
def trained() -> tuple[object, sl.Task, Experiment]:
    model = sl.load_model("tiny-arithmetic", device="cpu")
    task = sl.load_task("arithmetic", variant="story", n_train=40, n_validation=16, n_test=16)
    acting = {"operator": "rotate", "positions": "last", "cache_positions": "mean"}
    found = sl.run_experiment(
        model,
        task,
        seed=0,
        layers=[2, 4],
        alphas=(-1.0, -2.0, 0.0, 1.0, 2.0),
        n_controls=3,
        n_same_cell=3,
        families=["orthogonal"],
        **acting,
    )
    return model, task, found


def turned(direction: sl.Direction, alpha: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """The last column of a stream moved by alpha times the direction, at its former norm."""

    def hook(resid: torch.Tensor) -> torch.Tensor:
        last = resid[:, -1]
        moved = last + alpha * direction.vector
        return torch.cat([resid[:, :-1], (moved * last.norm(dim=-1, keepdim=True) / moved.norm(dim=-1, keepdim=True))[:, None]], dim=1)

    return hook


def steered_margins(model: object, problems: list[sl.Problem], direction: sl.Direction, alpha: float) -> list[float]:
    """Oracle: one problem at a time, so that its last column is its last token."""
    with hooks(model, [(hook_name(model, direction.layer), turned(direction, alpha))]):
        return [float(sl.evaluate(model, [problem]).frame["margin"].iloc[0]) for problem in problems]


def margins_of(frame: pd.DataFrame, problems: list[sl.Problem]) -> list[float]:
    return frame.set_index("problem_id")["margin"].loc[[p.id for p in problems]].tolist()


def test_the_direction_is_the_mean_of_right_problems_minus_that_of_as_many_wrong_ones_where_it_was_asked_for(trained) -> None:
    """Oracle: wrong problems are rarer, so all count; what the direction adds to their mean is the mean of some right ones, and of no others."""
    model, task, found = trained
    right = found.train.frame.set_index("problem_id")["correct"]
    for layer in (2, 4):
        means: dict[bool, list[np.ndarray]] = {True: [], False: []}
        for problem in task.train:
            seen: list[torch.Tensor] = []
            with hooks(model, [(hook_name(model, layer), lambda resid, seen=seen: seen.append(resid[0].detach().double().mean(0)))]):
                model(model.to_tokens(problem.prompt))
            means[bool(right[problem.id])].append(seen[0].numpy())
        n = len(means[False])
        assert n == found.directions[layer].method["n_correct"] < len(means[True])
        wanted = found.directions[layer].vector.double().numpy() + np.mean(means[False], axis=0)
        weights = np.linalg.lstsq(np.array(means[True]).T, wanted, rcond=None)[0]
        np.testing.assert_allclose(np.sort(weights), [0.0] * (len(means[True]) - n) + [1 / n] * n, atol=1e-3)


def test_the_dose_response_is_that_of_the_chosen_layers_on_test_problems(trained) -> None:
    model, task, found = trained
    for layer in set(found.test.frame["layer"]):
        for alpha in (-2.0, 1.0):
            frame = found.test.frame.query("layer == @layer and alpha == @alpha")
            wanted = steered_margins(model, task.test, found.directions[layer], alpha)
            np.testing.assert_allclose(margins_of(frame, task.test), wanted, atol=1e-4)


def test_the_directions_pipeline_is_scored_on_test_at_the_cells_that_it_chose(trained) -> None:
    model, task, found = trained
    for goal in found.goals:
        cell, outcome = found.cell(goal), found.pipelines[0].outcomes.query("goal == @goal")
        wanted = steered_margins(model, task.test, found.directions[cell.layer], cell.alpha)
        np.testing.assert_allclose(margins_of(outcome, task.test), wanted, atol=1e-4)


def test_controls_act_on_test_problems_at_the_chosen_cells(trained) -> None:
    model, task, found = trained
    assert [(c.layer, c.alpha) for c in found.controls] == list(dict.fromkeys(map(found.cell, found.goals)))
    assert [(c.layer, c.alpha) for c in found.families] == [found.cell("raise")]
    for control in (*found.controls, *found.families):
        for one in (control.direction, control.controls[1]):
            frame = control.frame[control.frame["direction"] == one.name]
            np.testing.assert_allclose(margins_of(frame, task.test), steered_margins(model, task.test, one, control.alpha), atol=1e-4)


def test_side_effects_are_measured_with_the_operator_and_the_positions_of_the_experiment(trained) -> None:
    model, task, found = trained
    text, about = sl.side_texts(model, task.validation)
    assert found.settings["texts"] == about
    tokens = model.to_tokens(text[0])
    plain = model(tokens)[0].detach().double().log_softmax(-1)
    last = found.controls[-1]
    for direction, alpha in ((found.direction, 2.0), (last.controls[0], last.alpha)):
        with hooks(model, [(hook_name(model, direction.layer), turned(direction, alpha))]):
            steered = model(tokens)[0].detach().double().log_softmax(-1)
        kl = float((plain.exp() * (plain - steered)).sum())
        row = found.side_effects.by_text.query(
            "layer == @direction.layer and direction == @direction.name and alpha == @alpha and text == 0"
        )
        assert row["kl"].tolist() == [pytest.approx(kl, rel=1e-3)]


# What is said, against counting by hand.


def test_the_summary_counts_answers_that_became_right_before_those_that_became_wrong(trained) -> None:
    found = trained[2]
    lines = [line for line in str(sl.Significance(found)).splitlines() if line.startswith("  alpha ")]
    before = found.test.baseline.frame.set_index("problem_id")["correct"].astype(bool)
    counted = []
    for (_, alpha), part in found.test.frame.groupby(["layer", "alpha"]):
        now = part.set_index("problem_id")["correct"].astype(bool).loc[before.index]
        counted.append((f"{alpha:+.1f}", int((~before & now).sum()), int((before & ~now).sum())))
    shown = [(line.split()[1], int(line.split()[4]), int(line.split()[6])) for line in lines]
    assert shown == counted
    assert any(right != wrong for _, right, wrong in counted)
