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


def said(experiment, chosen_p=0.01) -> str:
    return " ".join(cautions(experiment, dose=sl.Significance(experiment).questions.dose, chosen_p=chosen_p))


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


def test_too_few_pipelines_for_a_verdict_are_said_with_the_number_needed(experiment):
    """Oracle: two kinds, 4 pipelines each: 2 / 5; with 39 it is 2 / 40 = 0.05."""
    needed = "With 4 pipelines of each of 2 kinds their corrected p-values cannot fall below 0.4; use at least 39"
    assert needed in said(experiment)
    assert "cannot fall below" not in said(replace(experiment, pipelines=tuple(replace(one, planned=39) for one in experiment.pipelines)))


def test_groups_in_two_splits_are_named(experiment):
    def grouped(evaluation, names):
        problems = tuple(replace(p, group=name) for p, name in zip(evaluation.problems, names, strict=True))
        return sl.Evaluation(problems, evaluation.frame, evaluation.scorer)

    train, test = experiment.train, experiment.test.baseline
    apart = replace(
        experiment,
        train=grouped(train, [f"a{k // 2}" for k in range(60)]),
        test=with_baseline(experiment.test, grouped(test, [f"b{k // 2}" for k in range(20)])),
    )
    assert "related problems" not in said(apart)
    spread = replace(apart, test=with_baseline(experiment.test, grouped(test, ["a0"] * 5 + [f"b{k}" for k in range(15)])))
    assert "(2 of 60 train and 5 of 20 test problems): related problems are on both sides" in said(spread)


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
        "up to 4 random pipelines and 4 shuffled-label pipelines",
        "All were compared on 20 problems",
        "Verdict: ",
        "seed 0",
        "steerlab 9.9",
    ):
        assert part in text, part
    cited = sections.references(text)
    assert cited == sorted(cited)
    assert len(cited) == len(sections.REFERENCES)
    assert sections.references("nothing is cited") == []


def test_several_runs_are_corrected_together(experiment):
    both = Comparison({"one": sl.Significance(experiment), "two": sl.Significance(experiment)})
    assert len(both.tests) == 2 * len(sl.Significance(experiment).tests)
    ps = both.tests["p (uncorrected)"].to_numpy()
    np.testing.assert_allclose(both.tests["p (Holm over all runs)"], sl.statistics.holm(ps))
    assert both.effects["name"].tolist() == ["one", "one", "two", "two"]
    assert both.effects["goal"].tolist() == ["raise", "lower"] * 2
    assert f"after Holm's correction for all {len(both.tests)} tests" in both.answer()
    assert any("Whether one run's effect is larger than another's was not tested" in warning for warning in both.warnings())
    assert len(sl.plots.forest(both.effects).data[0].x) == 4
    with pytest.raises(ValueError, match="1 given; a comparison needs at least 2"):
        Comparison({"one": sl.Significance(experiment)})


def test_a_direction_that_changes_more_answers_than_its_controls_is_named(experiment):
    def flipping(one, share):
        """With 40 controls that all change about a tenth."""
        controls = one.frame[one.frame["is_control"]]
        frame = pd.concat([one.frame[~one.frame["is_control"]], *[controls] * 10], ignore_index=True)
        return replace(one, frame=frame.assign(changed=np.where(frame["is_control"], 0.1 + frame.index / 10_000, share)))

    usual, often = (
        said(replace(experiment, pipelines=tuple(flipping(one, share) for one in experiment.pipelines))) for share in (0.104, 0.4)
    )
    assert "changes 40.0% of answers, unlike 40 random pipelines" in often
    assert "of answers, unlike" not in usual


def test_a_direction_that_changes_other_text_more_than_random_ones_is_named(experiment):
    side, one = experiment.side_effects, experiment.controls[0]
    by_text = side.by_text.copy()
    mine = (by_text["layer"] == one.layer) & (by_text["alpha"] == one.alpha) & (by_text["direction"] == one.direction.name)
    by_text.loc[mine, "kl"] *= 1000
    found = said(replace(experiment, side_effects=replace(side, by_text=by_text)))
    assert f"At layer {one.layer}, alpha {one.alpha:+g} the direction's KL on other text is" in found
    assert "unlike those of 20 random directions of its norm there" in found
    assert "two-sided rank test, p = 0.095, uncorrected" in found  # beyond all 20: 2 / 21


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
    layer = int(frame["layer"].iloc[0])
    controls = tuple(replace(experiment.controls[0], layer=layer, alpha=alpha) for alpha in (1.0, -2.0))
    test = replace(experiment.test, baseline=before, frame=frame)
    found = said(replace(experiment, controls=controls, test=test))
    assert f"At layer {layer}, alpha -2 the 15 predictions that changed favour some answers ('B' +15 -0" in found
    assert f"At layer {layer}, alpha +1 the" not in found


def test_fewer_than_thirty_problems_of_a_kind_are_few(experiment):
    def resting_on(n):
        mine = replace(experiment.direction, method={**experiment.direction.method, "n_correct": n})
        return said(replace(experiment, directions={**experiment.directions, experiment.layer: mine}))

    assert "The direction is from 29 right and 29 wrong problems" in resting_on(29)
    assert "so few" not in resting_on(30)
