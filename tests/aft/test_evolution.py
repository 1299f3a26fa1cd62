"""Evolutionary search for a vector: it finds what helps, says how, and gives the same for the same seed."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch

import steerlab as sl
from steerlab.aft import evolution
from steerlab.aft.evolution import _accuracy
from steerlab.models.model import hook_name, hooks
from steerlab.tasks.arithmetic import arithmetic

TASK = arithmetic(n_train=16, n_validation=8, n_test=0)
SMALL = {"layer": 1, "dimensions": 4, "population": 6, "generations": 3}


def evolve(model, seed=0, problems=TASK.train, **options):
    return sl.evolve_vector(model, problems, rng=np.random.default_rng(seed), **(SMALL | options))


@pytest.mark.parametrize("objective", ["nll", "margin", "accuracy"])
def test_the_best_of_the_history_is_what_the_vector_scores(toy_model, backend, objective):
    model = toy_model(backend)
    found = evolve(model, objective=objective)
    steered = sl.sweep(model, TASK.train, found, alphas=1.0).frame
    expected = {"nll": steered["nll"].mean(), "margin": -steered["margin"].mean(), "accuracy": _accuracy(steered)}[objective]
    assert found.history["best_so_far"].iloc[-1] == pytest.approx(expected, abs=1e-4)
    assert found.history["best_so_far"].is_monotonic_decreasing
    assert list(found.history.columns) == ["generation", "best", "mean", "norm", "step", "best_so_far", "validation", "evaluations"]
    assert found.history["evaluations"].tolist() == [6 * 16, 12 * 16, 18 * 16]


def test_the_search_lowers_the_loss_of_a_model_that_knows_nothing(toy_model, backend):
    model = toy_model(backend)
    found = evolve(model, dimensions=8, population=12, generations=8)
    plain = sl.evaluate(model, TASK.train).frame["nll"].mean()
    assert found.history["best_so_far"].iloc[-1] < plain - 0.01


def test_the_same_seed_gives_the_same_vector_and_leaves_numpys_global_state_alone(toy_model):
    model = toy_model("bridge")
    before = np.random.get_state()[1].copy()
    one, two, other = evolve(model), evolve(model), evolve(model, seed=1)
    assert torch.equal(one.vector, two.vector)
    pd.testing.assert_frame_equal(one.history, two.history, check_exact=True)
    assert not torch.equal(one.vector, other.vector)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_no_vector_is_longer_than_the_norm_allows(toy_model):
    found = evolve(toy_model("bridge"), norm=0.5, generations=4)
    assert found.history["norm"].max() <= 0.5 + 1e-9
    assert found.norm <= 0.5 + 1e-5


@pytest.mark.parametrize("norm", [None, 3.0])
def test_the_first_step_is_a_quarter_of_the_streams_norm_or_of_the_norm_allowed(toy_model, monkeypatch, norm):
    """Oracle: the stream at each prompt's last token, taken with a plain hook; a step of s in d dimensions is about s * sqrt(d) long."""
    model, steps, norms = toy_model("bridge"), [], []
    search = evolution._search
    monkeypatch.setattr(evolution, "_search", lambda dimensions, step, *rest: (steps.append(step), search(dimensions, step, *rest))[1])
    evolve(model, layer=2, dimensions=9, generations=1, norm=norm)
    for problem in TASK.train:
        with hooks(model, [(hook_name(model, 2), lambda resid: norms.append(float(resid[0, -1].norm())))]):
            sl.evaluate(model, [problem])
    wanted = norm or float(np.median(norms))
    assert steps == [pytest.approx(0.25 * wanted / 3, rel=1e-4)]


def test_the_vector_is_searched_where_it_is_to_act(toy_model):
    model = toy_model("bridge")
    found = evolve(model, positions="last", generations=2, norm=20.0)
    scored = {at: sl.sweep(model, TASK.train, found, alphas=1.0, positions=at).frame["nll"].mean() for at in ("last", "all")}
    assert found.history["best_so_far"].iloc[-1] == pytest.approx(scored["last"], abs=1e-4)
    assert abs(scored["last"] - scored["all"]) > 0.001
    assert found.method["acted_on"] == "last"


def test_a_vector_whose_score_is_not_finite_is_told_to_be_worse_than_all_others(toy_model, monkeypatch):
    told = []

    class Search:
        popsize, sigma = 4, 1.0

        def ask(self):
            return [np.full(4, 0.1 * k) for k in (1, 2, 3, 4)]

        def tell(self, points, values):
            told.append(values)

        def stop(self):
            return {}

    scores = iter([3.0, np.inf, 1.0, np.nan] * 2)
    monkeypatch.setattr(evolution, "_search", lambda *given: Search())
    monkeypatch.setitem(evolution.OBJECTIVES, "nll", lambda frame: next(scores))
    found = evolve(toy_model("bridge"), population=4, generations=2)
    assert told == [[3.0, 4.0, 1.0, 4.0]] * 2
    assert found.history["best"].tolist() == [1.0, 1.0]
    assert found.history["mean"].tolist() == [2.0, 2.0]
    assert found.method["chosen_generation"] == 0  # the first of equals


def test_with_validation_the_generation_that_is_best_there_is_returned(toy_model):
    model = toy_model("bridge")
    found = evolve(model, validation=TASK.validation, generations=4)
    best = int(found.history["validation"].idxmin())
    assert found.method["chosen_generation"] == best
    assert found.method["chosen_on"] == "validation"
    there = sl.sweep(model, TASK.validation, found, alphas=1.0).frame["nll"].mean()
    assert there == pytest.approx(found.history["validation"].iloc[best], abs=1e-4)


def test_the_vector_is_a_direction_that_can_be_kept(toy_model, tmp_path):
    found = evolve(toy_model("bridge"))
    assert isinstance(found, sl.Direction)
    read = sl.load_direction(sl.save_direction(tmp_path / "v.safetensors", found))
    assert torch.equal(read.vector, found.vector)
    assert read.method["estimator"] == "cma-es"
    assert read.method["n_problems"] == 16
    copied = pickle.loads(pickle.dumps(found))  # noqa: S301
    pd.testing.assert_frame_equal(copied.history, found.history)
    assert found.unit().norm == pytest.approx(1)
    assert "evolved vector" in repr(found)


def test_the_vector_lies_in_a_subspace_of_the_dimensions_asked_for(toy_model):
    """Two searches that draw one subspace and go on differently span, with a third, no more than its dimensions."""
    model = toy_model("bridge")
    vectors = [evolve(model, generations=g, dimensions=2).vector for g in (1, 2, 3)]
    assert torch.linalg.matrix_rank(torch.stack(vectors), rtol=1e-4) <= 2


def test_accuracy_comes_first_and_the_nll_only_parts_equals():
    def frame(right, nll):
        return pd.DataFrame({"correct": [True] * right + [False] * (4 - right), "nll": nll})

    """The nll is worth less than one answer of four, however large it is."""
    assert _accuracy(frame(2, 50.0)) < _accuracy(frame(1, 0.01)) < _accuracy(frame(1, 0.02))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"problems": []}, "problems: none given"),
        ({"validation": TASK.train[:3]}, "validation shares 3 problems"),
        ({"layer": 7}, "layer=7: this model has 3 layers"),
        ({"objective": "loss"}, "objective='loss'; use one of nll, margin, accuracy"),
        ({"norm": 0}, "norm=0; use a number above 0, or None"),
        ({"dimensions": 1}, "dimensions=1: use an integer of at least 2"),
        ({"dimensions": 33}, "dimensions=33: this model's residual stream has 32"),
        ({"generations": 0}, "generations=0"),
        ({"population": 3}, "population=3"),
    ],
)
def test_bad_input_is_named_before_anything_runs(toy_model, options, message):
    with pytest.raises(ValueError, match=message):
        evolve(toy_model("bridge"), **options)
