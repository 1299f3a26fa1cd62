"""Evaluating a model, and balancing what it got right and wrong."""

import numpy as np
import pandas as pd
import pytest
import torch
from results import speaks

import steerlab as sl
from steerlab.models.model import d_model


@pytest.fixture(scope="module")
def toy(toy_model, backend):
    return toy_model(backend)


@pytest.fixture(scope="module")
def problems():
    return sl.load_task("arithmetic", n_train=60, n_validation=0, n_test=0).train


@pytest.fixture(scope="module")
def evaluation(toy, problems):
    return sl.evaluate(toy, problems)


def answered(right: int, wrong: int) -> sl.Evaluation:
    """An evaluation of made-up problems; the right ones come first."""
    problems = tuple(sl.Problem(f"p{i}", "x", 0, (" A", " B")) for i in range(right + wrong))
    correct = [True] * right + [False] * wrong
    ids = [problem.id for problem in problems]
    return sl.Evaluation(problems, pd.DataFrame({"problem_id": ids, "correct": correct}), "choice")


def test_the_frame_has_one_line_a_problem_in_their_order(evaluation, problems):
    assert list(evaluation.frame.columns) == ["problem_id", "prediction", "correct", "margin", "nll"]
    assert evaluation.frame["problem_id"].tolist() == [problem.id for problem in problems]
    assert evaluation.n == len(problems)
    assert evaluation.scorer == "choice"


def test_right_means_the_target_is_predicted_and_leads(evaluation, problems):
    targets = [problem.choices[problem.target_index].strip() for problem in problems]
    frame = evaluation.frame
    assert 0 < frame["correct"].sum() < len(frame)
    assert frame["correct"].tolist() == (frame["prediction"] == targets).tolist() == (frame["margin"] > 0).tolist()
    assert (frame["nll"] > 0).all()


def test_accuracy_and_its_interval_are_those_of_the_frame(evaluation):
    right = int(evaluation.frame["correct"].sum())
    assert evaluation.accuracy == right / evaluation.n
    assert evaluation.interval() == sl.statistics.wilson_interval(right, evaluation.n)
    assert f"n={evaluation.n}" in repr(evaluation)
    speaks(evaluation)


def test_right_and_wrong_problems_are_all_problems(evaluation, problems):
    right, wrong = evaluation.correct(), evaluation.incorrect()
    assert len(right) == evaluation.frame["correct"].sum()
    assert {p.id for p in right} | {p.id for p in wrong} == {p.id for p in problems}
    assert not {p.id for p in right} & {p.id for p in wrong}


def test_the_same_evaluation_twice_is_the_same_to_the_bit(toy, problems, evaluation):
    pd.testing.assert_frame_equal(sl.evaluate(toy, problems).frame, evaluation.frame, check_exact=True)


def test_hooks_that_are_on_the_model_act(toy, problems, evaluation):
    direction = sl.Direction(torch.ones(d_model(toy)), 1)
    with sl.steer(toy, direction, alpha=2.0):
        steered = sl.evaluate(toy, problems).frame
    assert (steered["margin"] != evaluation.frame["margin"]).all()


def test_balance_draws_as_many_right_as_wrong_problems():
    right, wrong = answered(30, 20).correct(), answered(30, 20).incorrect()
    split = sl.balance(answered(30, 20), rng=np.random.default_rng(0), train=0.8)
    assert [len(part) for part in (split.train_correct, split.train_incorrect, split.test_correct, split.test_incorrect)] == [16, 16, 4, 4]
    assert all(problem in right for problem in split.train_correct + split.test_correct)
    assert all(problem in wrong for problem in split.train_incorrect + split.test_incorrect)


def test_no_problem_is_in_train_and_in_test():
    split = sl.balance(answered(30, 20), rng=np.random.default_rng(0))
    ids = [problem.id for problem in split.train + split.test]
    assert len(ids) == len(set(ids)) == 40


def test_balance_follows_the_generator_and_nothing_else():
    draws = [sl.balance(answered(30, 20), rng=np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_every_problem_of_the_larger_group_has_the_same_chance():
    """Oracle: each of 30 right problems is kept with probability 1/3; 600 draws, five standard errors."""
    rng, kept = np.random.default_rng(0), np.zeros(30)
    for _ in range(600):
        for problem in sl.balance(answered(30, 10), rng=rng, train=1.0).train_correct:
            kept[int(problem.id[1:])] += 1
    assert np.abs(kept / 600 - 1 / 3).max() < 5 * np.sqrt(2 / 9 / 600)


@pytest.mark.parametrize(("right", "wrong", "which"), [(0, 5, "right"), (5, 0, "wrong")])
def test_a_contrast_needs_right_and_wrong_answers(right, wrong, which):
    with pytest.raises(ValueError, match=f"none of the 5 problems was answered {which}; a contrast needs both"):
        sl.balance(answered(right, wrong), rng=np.random.default_rng(0))


@pytest.mark.parametrize("train", [0.0, -0.5, 1.5, float("nan")])
def test_a_share_outside_its_range_is_refused(train):
    with pytest.raises(ValueError, match="use a share above 0 and at most 1"):
        sl.balance(answered(5, 5), rng=np.random.default_rng(0), train=train)


def test_a_share_that_leaves_nothing_to_train_on_is_refused():
    with pytest.raises(ValueError, match="leaves none to train on"):
        sl.balance(answered(5, 5), rng=np.random.default_rng(0), train=0.05)


def test_something_that_is_no_model_is_named():
    task = sl.load_task("arithmetic", n_train=4, n_validation=0, n_test=0)
    with pytest.raises(TypeError, match="model is a str"):
        sl.evaluate("gpt2", task.train)


def test_results_have_short_representations_for_notebooks(toy_model):
    task = sl.load_task("arithmetic", n_train=60, n_validation=0, n_test=0)
    split = sl.balance(sl.evaluate(toy_model("bridge"), task.train), rng=np.random.default_rng(0))
    acts = sl.cache_activations(toy_model("bridge"), split.train, layers=1)
    direction = sl.Direction(torch.ones(32), 1, name="<b>")
    for result in (task, split, acts, direction):
        assert len(repr(result)) < 300
        assert len(result._repr_html_()) < 2_000
        speaks(result)
    assert "<b>" not in direction._repr_html_()
