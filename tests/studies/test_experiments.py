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
from steerlab.models.model import hook_name, hooks
from steerlab.reports import sections
from steerlab.reports.runs import provenance
from steerlab.studies.protocol import Experiment

SMALL = {"seed": 0, "layers": [0, 1], "alphas": (-2.0, 0.0, 1.0), "n_controls": 4}


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


def with_controls(experiment: Experiment, *controls: ControlResult) -> sl.Significance:
    return sl.Significance(replace(experiment, controls=controls, alpha=controls[0].alpha))


def spread(n: int, centre: int = 50) -> list[int]:
    return [centre + (k % 5) - 2 for k in range(n)]


def test_layer_and_alpha_are_the_best_cell_of_validation(experiment: Experiment) -> None:
    best = experiment.validation.best()
    assert (experiment.layer, experiment.alpha) == (best["layer"], best["alpha"])


def test_no_problem_of_one_split_is_used_in_another(experiment: Experiment) -> None:
    splits = [set(e.frame["problem_id"]) for e in (experiment.train, experiment.validation.baseline, experiment.test.baseline)]
    assert not (splits[0] & splits[1] | splits[0] & splits[2] | splits[1] & splits[2])


def test_controls_stand_at_the_chosen_alpha_and_at_the_strongest_suppression(experiment: Experiment) -> None:
    assert {c.alpha for c in experiment.controls} == {experiment.alpha, -2.0}
    assert all(c.n == 4 and c.layer == experiment.layer for c in experiment.controls)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_and_another_seed_other_controls(
    toy_model: Callable[[str], object], task: sl.Task, experiment: Experiment
) -> None:
    again = sl.run_experiment(toy_model("bridge"), task, **SMALL)
    other = sl.run_experiment(toy_model("bridge"), task, **(SMALL | {"seed": 1}))
    pd.testing.assert_frame_equal(again.controls[0].frame, experiment.controls[0].frame)
    assert not other.controls[0].frame["margin"].equals(experiment.controls[0].frame["margin"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_controls": 0}, "n_controls=0"),
        ({"alphas": (0.0, 1.0)}, "negative value"),
        ({"alphas": (-1.0, 1.0)}, "must include 0"),
        ({"layers": [7]}, "layer=7"),
    ],
)
def test_bad_settings_are_refused(toy_model: Callable[[str], object], task: sl.Task, change: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        sl.run_experiment(toy_model("bridge"), task, **(SMALL | change))


def test_an_empty_split_is_refused_before_any_work(toy_model: Callable[[str], object], task: sl.Task) -> None:
    with pytest.raises(ValueError, match="the validation split of task 'arithmetic' is empty"):
        sl.run_experiment(toy_model("bridge"), replace(task, validation=[]), **SMALL)


def test_a_direction_beyond_all_controls_is_said_to_do_what_they_do_not(experiment: Experiment) -> None:
    said = with_controls(experiment, control(1.0, 90, spread(99)), control(-2.0, 10, spread(99)))
    assert said.tests["p (rank)"].tolist() == [0.01] * 4
    assert said.adjusted(said.experiment.controls[0]) == pytest.approx(0.04)
    assert "raises accuracy more than random directions of the same norm do" in said.answer()
    assert "lowers accuracy more than random directions of the same norm do" in said.answer()
    assert "no evidence" not in said.answer().lower()


def test_a_direction_among_its_controls_is_reported_as_a_null_result_with_what_could_have_been_seen(experiment: Experiment) -> None:
    said = with_controls(experiment, control(1.0, 51, spread(99)), control(-2.0, 49, spread(99)))
    assert said.answer().count("there is no evidence that this direction changes accuracy") == 2
    assert "more than random" not in said.answer()
    assert "with 80% power" in said.answer()


def test_a_large_effect_is_no_evidence_when_random_directions_have_it_too(experiment: Experiment) -> None:
    said = with_controls(experiment, control(-2.0, 10, spread(99, centre=10)))
    assert "-40.0 points" in said.answer()
    assert "there is no evidence that this direction changes accuracy" in said.answer()


def test_a_direction_that_harms_less_than_random_ones_is_not_said_to_harm_more(experiment: Experiment) -> None:
    said = with_controls(experiment, control(-2.0, 48, spread(99, centre=33)))
    assert said.tests["p (rank)"].iloc[0] == 0.01
    assert "lowers accuracy less than random directions of the same norm do" in said.answer()


def test_a_direction_that_changes_nothing_where_random_ones_harm_is_said_not_to_change_accuracy(experiment: Experiment) -> None:
    said = with_controls(experiment, control(-2.0, 50, spread(99, centre=33)))
    assert "does not change accuracy, where random directions of the same norm lower it" in said.answer()


def test_the_answer_names_the_test_the_number_of_controls_and_the_correction(experiment: Experiment) -> None:
    found = with_controls(experiment, control(1.0, 90, spread(99)))
    said = found.answer()
    assert "Accuracy on 100 test problems changed by +40.0 points from the baseline (95% interval" in said
    assert "compared with 99 random directions, p = 0.01, or p = 0.02 after Holm's correction for 2 rank tests (level 0.05)." in said
    finding = found.finding(found.experiment.controls[0])
    assert "0 of 99 are at least as extreme (p = 0.01; p = 0.02 after Holm's" in finding
    assert "sign test p < 0.0001" in finding


def test_too_few_controls_are_warned_of_with_the_number_needed(experiment: Experiment) -> None:
    warned = " ".join(with_controls(experiment, control(1.0, 90, spread(5))).warnings())
    assert "cannot fall below 0.33; use at least 40 controls" in warned
    assert "controls" not in " ".join(with_controls(experiment, control(1.0, 90, spread(99))).warnings())


def test_controls_that_are_all_alike_leave_the_effect_size_undefined_and_not_infinite(experiment: Experiment) -> None:
    said = with_controls(experiment, control(1.0, 90, [50] * 99))
    assert said.tests["Cohen's d"].isna().all()
    assert "Cohen's d undefined" in str(said)


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


def test_other_kinds_of_controls_stand_at_the_chosen_alpha_with_names_of_their_own(experiment: Experiment) -> None:
    assert [c.family for c in experiment.families] == ["shuffled_labels", "equal_kl"]
    assert all(c.alpha == experiment.alpha and c.n == 4 and c.layer == experiment.layer for c in experiment.families)
    drawn = {one.name for c in (*experiment.controls, *experiment.families) if c.alpha == experiment.alpha for one in c.controls}
    assert len(drawn) == 12


def test_controls_of_equal_kl_change_the_texts_as_much_as_the_direction(
    toy_model: Callable[[str], object], experiment: Experiment, task: sl.Task
) -> None:
    texts, about = sl.side_texts(toy_model("bridge"), task.validation)
    assert experiment.settings["texts"] == about
    found = sl.side_effects(toy_model("bridge"), experiment.families[1].controls, texts, alphas=[experiment.alpha])
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
    for line in ("contrast    held-out AUC", "other controls at alpha", "side effects at alpha"):
        assert line in summary
    parts = sections.report_parts(said, {"model": {"name": "toy"}, "versions": {}})
    assert [heading for heading, _ in parts["sections"]] == [
        "The findings in full",
        "Problems that became right or wrong",
        "The contrast set",
        "Controls of other kinds",
        "Side effects",
    ]
    assert parts["references"]
    moved = dict(parts["sections"])["Problems that became right or wrong"]
    assert "became right and" in moved[0]


def test_too_few_problems_for_diagnostics_leave_them_out_and_the_report_stands(experiment: Experiment) -> None:
    said = sl.Significance(replace(experiment, diagnostics=None))
    assert "held-out" not in str(said)
    assert "The contrast set" not in [heading for heading, _ in sections.sections(said)]


def test_a_corrected_p_value_of_exactly_the_level_is_not_below_it_in_any_sentence(experiment: Experiment) -> None:
    """Oracle: by hand. 39 controls and 2 tests: the least corrected p-value is 2 / 40 = 0.05, and below 0.05 is asked for."""
    said = with_controls(experiment, control(1.0, 90, spread(39)))
    (tested,) = said.experiment.controls
    assert said.adjusted(tested) == 0.05
    assert "there is no evidence that this direction changes accuracy" in said.verdict(tested)
    assert "With 39 controls and 2 tests no effect, however large, could have had a corrected p below 0.05." in said.needed(tested)
    assert any(
        "With 39 controls and 2 tests the corrected p-value cannot fall below 0.05; use at least 40" in line for line in said.warnings()
    )
    enough = with_controls(experiment, control(1.0, 90, spread(40)))
    assert "raises accuracy more" in enough.verdict(enough.experiment.controls[0])
    assert "had to be outside" in enough.needed(enough.experiment.controls[0])
    assert not any("cannot fall below" in line for line in enough.warnings())


def test_a_null_result_says_how_extreme_an_effect_would_have_had_to_be_among_these_controls(experiment: Experiment) -> None:
    controls = list(range(1, 100))  # of 100 problems, so that effects are -49 to +49 points around a median of 0
    said = with_controls(experiment, control(1.0, 52, controls))
    assert "outside -49.0 to +49.0 points" in said.needed(said.experiment.controls[0])  # of 2 tests: p may be 0.02, so one control as far
    assert "outside -49.0 to +49.0 points" in said.answer()
    few = with_controls(experiment, control(1.0, 52, controls[:9]))
    assert "no effect, however large, could have had a corrected p below 0.05" in few.answer()


# The protocol once more, by hand: a trained model, in which the chosen alpha is not the strongest suppression, with plain hooks.


@pytest.fixture(scope="module")
def trained() -> tuple[object, sl.Task, Experiment]:
    model = sl.load_model("tiny-arithmetic", device="cpu")
    task = sl.load_task("arithmetic", variant="story", n_train=40, n_validation=16, n_test=16)
    acting = {"operator": "rotate", "positions": "last", "cache_positions": "mean"}
    found = sl.run_experiment(
        model, task, seed=0, layers=[2, 4], alphas=(-1.0, -2.0, 0.0, 1.0, 2.0), n_controls=3, families=["orthogonal"], **acting
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


def test_the_dose_response_is_that_of_the_chosen_layer_on_test_problems(trained) -> None:
    model, task, found = trained
    assert (found.test.frame["layer"] == found.layer).all()
    for alpha in (-2.0, 1.0):
        frame = found.test.frame[found.test.frame["alpha"] == alpha]
        np.testing.assert_allclose(margins_of(frame, task.test), steered_margins(model, task.test, found.direction, alpha), atol=1e-4)


def test_controls_act_on_test_problems_at_the_chosen_alpha_and_at_the_strongest_suppression(trained) -> None:
    model, task, found = trained
    assert [c.alpha for c in found.controls] == [found.alpha, -2.0] == [-1.0, -2.0]
    assert [c.alpha for c in found.families] == [-1.0]
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
    for direction, alpha in ((found.direction, 2.0), (found.controls[1].controls[0], -2.0)):
        with hooks(model, [(hook_name(model, found.layer), turned(direction, alpha))]):
            steered = model(tokens)[0].detach().double().log_softmax(-1)
        kl = float((plain.exp() * (plain - steered)).sum())
        row = found.side_effects.by_text.query("direction == @direction.name and alpha == @alpha and text == 0")
        assert row["kl"].tolist() == [pytest.approx(kl, rel=1e-3)]


# What is said, against counting by hand.


def test_an_effect_on_the_margin_alone_is_said_to_be_one_on_the_margin(experiment: Experiment) -> None:
    one = control(1.0, 51, spread(99))
    one.frame.loc[~one.frame["is_control"], "margin"] += 10
    said = with_controls(experiment, one)
    verdict = said.verdict(said.experiment.controls[0])
    assert "there is no evidence that this direction changes accuracy" in verdict
    assert verdict.endswith("Its effect on the margin does differ from theirs (p = 0.02 after correction).")
    null = with_controls(experiment, control(1.0, 51, spread(99)))
    assert "margin" not in null.verdict(null.experiment.controls[0])


def test_a_finding_has_the_accuracy_before_and_after_and_the_central_95_percent_of_the_controls(experiment: Experiment) -> None:
    """Controls of 0 to 100 right answers lie 50 points on either side; 2.5% of them from the ends is 47.5."""
    said = with_controls(experiment, control(1.0, 90, list(range(101))))
    finding = said.finding(said.experiment.controls[0])
    assert finding.startswith("Test accuracy goes from 50.0% to 90.0% (+40.0 points, 95% interval")
    assert "40 became right, 0 became wrong of 100" in finding
    assert "change it by +0.0 points in the median, 95% of them by -47.5 to +47.5" in finding


def test_the_headline_names_the_alphas_that_stand_out_and_no_others(experiment: Experiment) -> None:
    said = with_controls(experiment, control(1.0, 90, spread(99)), control(-2.0, 49, spread(99)))
    assert said.answer().startswith(
        "At alpha = +1 this direction's effect on accuracy differs from those of random directions of the same norm."
    )
    null = with_controls(experiment, control(1.0, 51, spread(99)), control(-2.0, 49, spread(99)))
    assert null.answer().startswith("No evidence that this direction is special at alpha = +1 or -2,")


def test_a_negative_alpha_may_be_the_one_that_was_chosen(experiment: Experiment) -> None:
    said = with_controls(experiment, control(-1.0, 90, spread(99)), control(-2.0, 10, spread(99)))
    assert [said.place(one) for one in said.experiment.controls] == [
        "at alpha = -1 (chosen on validation)",
        "at alpha = -2 (the strongest suppression)",
    ]


def test_the_summary_counts_answers_that_became_right_before_those_that_became_wrong(trained) -> None:
    found = trained[2]
    lines = [line for line in str(sl.Significance(found)).splitlines() if line.startswith("  alpha ")]
    before = found.test.baseline.frame.set_index("problem_id")["correct"].astype(bool)
    counted = {}
    for alpha, part in found.test.frame.groupby("alpha"):
        now = part.set_index("problem_id")["correct"].astype(bool).loc[before.index]
        counted[f"{alpha:+.1f}"] = (int((~before & now).sum()), int((before & ~now).sum()))
    shown = {line.split()[1]: (int(line.split()[4]), int(line.split()[6])) for line in lines}
    assert shown == counted
    assert any(right != wrong for right, wrong in counted.values())


def test_a_direction_that_beats_its_isotropic_controls_at_the_chosen_alpha_wants_shuffled_labels(experiment: Experiment) -> None:
    beaten, level = control(1.0, 90, spread(99)), control(-2.0, 50, spread(99))
    said = sl.Significance(replace(experiment, controls=(beaten, level), alpha=1.0, families=()))
    assert any("Ask for the family shuffled_labels" in line for line in said.warnings())
    said = sl.Significance(replace(experiment, controls=(beaten, level), alpha=-2.0, families=()))
    assert not any("Ask for the family shuffled_labels" in line for line in said.warnings())


def test_the_fewest_controls_say_how_small_a_corrected_p_value_can_be(experiment: Experiment) -> None:
    warned = " ".join(with_controls(experiment, control(1.0, 90, spread(99)), control(-2.0, 50, spread(5))).warnings())
    assert "With 5 controls and 4 tests the corrected p-value cannot fall below 0.67; use at least 80 controls" in warned
