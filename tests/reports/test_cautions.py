"""Each caution is said where its reason stands, and nowhere else."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import steerlab as sl
from steerlab.reports import sections
from steerlab.reports.evidence import Comparison
from steerlab.reports.warnings import cautions

SMALL = {"seed": 0, "layers": [0, 1], "alphas": (-2.0, 0.0, 1.0), "n_controls": 4}


@pytest.fixture(scope="module")
def experiment(toy_model):
    return sl.run_experiment(toy_model("bridge"), sl.load_task("arithmetic", n_train=60, n_validation=20, n_test=20), **SMALL)


def said(experiment, n_tests=4, chosen_p=0.01) -> str:
    return " ".join(cautions(experiment, n_tests=n_tests, dose=sl.Significance(experiment).questions.dose, chosen_p=chosen_p))


def with_outcomes(evaluation, right):
    frame = evaluation.frame.assign(correct=np.arange(evaluation.n) < right)
    return sl.Evaluation(evaluation.problems, frame, evaluation.scorer)


def with_baseline(sweep, evaluation):
    return replace(sweep, baseline=evaluation)


def test_a_problem_that_stands_in_two_splits_is_named_as_selection_on_test(experiment):
    assert "Selection on test" not in said(experiment)
    leaky = with_baseline(experiment.validation, experiment.test.baseline)
    assert "Selection on test: 20 problems of validation are also in test; what was chosen there was chosen on test problems." in said(
        replace(experiment, validation=leaky)
    )


def test_train_problems_in_another_split_are_named_for_what_that_spoils(experiment):
    tested = replace(experiment, train=experiment.test.baseline)
    assert "Training on test: 20 problems of train are also in test; the direction was found on problems that it is tested on." in said(
        tested
    )
    chosen = replace(experiment, train=experiment.validation.baseline)
    assert "the choice was made on problems that the direction was found on." in said(chosen)
    assert "Selection on test" not in said(chosen)


def test_the_same_prompt_under_another_name_is_a_leak_all_the_same(experiment):
    base = experiment.test.baseline
    renamed = tuple(replace(p, id=f"other-{k}") for k, p in enumerate(base.problems))
    ids = {p.id: q.id for p, q in zip(base.problems, renamed, strict=True)}
    frame = base.frame.assign(problem_id=base.frame["problem_id"].map(ids))
    leaky = with_baseline(experiment.validation, sl.Evaluation(renamed, frame, base.scorer))
    assert "20 problems of validation are also in test" in said(replace(experiment, validation=leaky))


def test_too_few_controls_for_the_p_asked_are_said_with_the_number_needed(experiment):
    assert "With 4 controls and 4 tests the corrected p-value cannot fall below 0.8; use at least 80 controls" in said(experiment)
    assert "cannot fall below" not in said(experiment, n_tests=0)


def test_a_rare_kind_of_train_outcome_is_called_unbalanced(experiment):
    assert "Unbalanced: 3 of 60 train problems" in said(replace(experiment, train=with_outcomes(experiment.train, 3)))
    assert "Unbalanced: 30" not in said(replace(experiment, train=with_outcomes(experiment.train, 30)))
    assert "Unbalanced: 57 of 60 train problems" in said(
        replace(experiment, train=with_outcomes(experiment.train, 57))
    )  # wrong ones are rare


def test_splits_that_differ_beyond_chance_are_said_to(experiment):
    differ = replace(
        experiment,
        validation=with_baseline(experiment.validation, with_outcomes(experiment.validation.baseline, 20)),
        test=with_baseline(experiment.test, with_outcomes(experiment.test.baseline, 4)),
    )
    # Of 40 problems 24 are right: 2 C(24, 20) / C(40, 20) = 1.5e-07, by hand.
    assert (
        "The splits differ: unsteered accuracy is 100.0% on validation and 20.0% on test (Fisher's exact test, n = 20 and 20, p = 1.5e-07)"
        in said(differ)
    )


def test_test_problems_whose_right_choice_is_always_the_same_are_called_unbalanced(experiment):
    base = experiment.test.baseline
    same = tuple(replace(p, target=p.choices[0]) for p in base.problems)
    found = said(replace(experiment, test=with_baseline(experiment.test, sl.Evaluation(same, base.frame, base.scorer))))
    assert "Unbalanced answers: the right choice of the test problems is number 1 20 times, number 2 0 times" in found


def test_the_word_significant_is_never_said_without_its_test(experiment):
    found = sl.Significance(experiment)
    provenance = {"model": {"name": "toy"}, "versions": {}}
    words = " ".join([found.answer(), str(found), *found.warnings(), *sections.method(found), sections.paragraph(found, provenance)])
    assert "significant" not in words
    assert "p = 0.0000" not in words
    assert "p = 0 " not in words


def test_the_methods_paragraph_states_the_splits_the_seed_the_controls_and_cites_what_it_uses(experiment):
    found = sl.Significance(experiment)
    text = sections.paragraph(found, {"model": {"name": "toy"}, "versions": {"steerlab": "9.9"}})
    for part in (
        "60 training, 20 validation and 20 test problems",
        "4 isotropic",
        "p = (1 + r) / (4 + 1)",
        "seed 0",
        "steerlab 9.9",
        "4 combinations",
    ):
        assert part in text, part
    cited = sections.references(text)
    assert cited == sorted(cited)
    assert len(cited) == len(sections.REFERENCES)
    assert sections.references("nothing is cited") == []


def test_several_runs_are_corrected_together(experiment):
    both = Comparison({"one": sl.Significance(experiment), "two": sl.Significance(experiment)})
    assert len(both.tests) == 2 * len(sl.Significance(experiment).tests)
    ps = both.tests["p (rank)"].to_numpy()
    np.testing.assert_allclose(both.tests["p (rank, Holm over all runs)"], sl.statistics.holm(ps))
    assert both.effects["name"].tolist() == ["one", "two"]
    assert f"after Holm's correction for all {len(both.tests)} rank tests" in both.answer()
    assert any("Whether one run's effect is larger than another's was not tested" in warning for warning in both.warnings())
    assert len(sl.plots.forest(both.effects).data[0].x) == 2
    with pytest.raises(ValueError, match="1 given; a comparison needs at least 2"):
        Comparison({"one": sl.Significance(experiment)})


def special(control, shift):
    """A control result whose controls (or whose direction, with 0) answer so many problems more rightly."""
    frame = control.frame.copy()
    outcomes = frame.groupby("direction", sort=False).ngroup()
    for k in range(outcomes.max() + 1):
        right = 10 + (k % 3) if k else 10 + shift
        place = frame.index[outcomes == k]
        frame.loc[place, "correct"] = np.arange(len(place)) < right
    return replace(control, frame=frame)


def many(control, n=40):
    """The same control result with more controls."""
    mine, one = control.frame[~control.frame["is_control"]], control.frame[control.frame["direction"] == control.controls[0].name]
    parts = [mine, *(one.assign(direction=f"c{k}") for k in range(n))]
    return replace(control, frame=pd.concat(parts, ignore_index=True), n=n)


def test_isotropic_controls_that_are_beaten_while_shuffled_labels_are_not_are_warned_of(experiment):
    at = next(c for c in experiment.controls if c.alpha == experiment.alpha)
    others = tuple(c for c in experiment.controls if c is not at)
    shuffled = next(c for c in experiment.families if c.family == "shuffled_labels")
    beaten, level = special(many(at), 9), special(many(shuffled), 1)
    found = said(replace(experiment, controls=(beaten, *others), families=(level,)))
    assert "differs from 40 random directions (p = 0.024, not corrected) but not from 40 mean differences of shuffled labels" in found
    assert "No controls of shuffled labels were run" in said(replace(experiment, controls=(beaten, *others), families=()))
    both = said(replace(experiment, controls=(beaten, *others), families=(special(many(shuffled), 9),)))
    assert "easy to beat" not in both
    assert "easy to beat" not in said(experiment)


def test_a_chosen_cell_that_chance_explains_is_said_to(experiment):
    assert "4 cells compared on validation; the chosen one is consistent with chance (max-statistic test, p = 0.97)" in said(
        experiment, chosen_p=0.97
    )
    assert "consistent with chance" not in said(experiment, chosen_p=0.01)


def test_predictions_that_all_move_to_one_answer_are_called_a_preference(experiment):
    base = experiment.test.baseline
    letters = np.resize(["A", "B", "C", "D"], base.n)
    before = sl.Evaluation(base.problems, base.frame.assign(prediction=letters), base.scorer)
    n = len(experiment.test.frame) // base.n
    frame = experiment.test.frame.assign(prediction=np.tile(letters, n))
    same = replace(experiment, test=replace(experiment.test, baseline=before, frame=frame))
    assert "favour some answers" not in said(same)
    to_b = frame.assign(prediction=np.where(frame["alpha"] == 0, frame["prediction"], "B"))
    biased = said(replace(experiment, test=replace(experiment.test, baseline=before, frame=to_b)))
    assert "the 15 predictions that changed favour some answers ('B' +15 -0" in biased


def test_a_preference_is_said_of_the_alpha_at_which_it_shows(experiment):
    base = experiment.test.baseline
    letters = np.resize(["A", "B", "C", "D"], base.n)
    before = sl.Evaluation(base.problems, base.frame.assign(prediction=letters), base.scorer)
    frame = experiment.test.frame.assign(prediction=np.tile(letters, len(experiment.test.frame) // base.n))
    frame = frame.assign(prediction=np.where(frame["alpha"] == -2, "B", frame["prediction"]))
    controls = tuple(replace(experiment.controls[0], alpha=alpha) for alpha in (1.0, -2.0))
    test = replace(experiment.test, baseline=before, frame=frame)
    found = said(replace(experiment, alpha=1.0, controls=controls, test=test))
    assert "At alpha = -2 the 15 predictions that changed favour some answers ('B' +15 -0" in found
    assert "At alpha = +1 the" not in found


def test_fewer_than_thirty_problems_of_a_kind_are_few(experiment):
    def resting_on(n):
        mine = replace(experiment.direction, method={**experiment.direction.method, "n_correct": n})
        return said(replace(experiment, directions={**experiment.directions, experiment.layer: mine}))

    assert "The direction is from 29 right and 29 wrong problems" in resting_on(29)
    assert "so few" not in resting_on(30)
