"""Studies across tasks, on an untrained model: what is compared with what, what may decide, and whether tables follow from outcomes."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import steerlab as sl
from steerlab.studies.transfer import cosine

SIZES = {"layers": [0, 1], "n_train": 24, "n_validation": 12}


@pytest.fixture(scope="module")
def tasks():
    return {name: sl.load_task("arithmetic", variant=name, n_train=24, n_validation=12, n_test=16) for name in ("story", "largest", "bare")}


@pytest.fixture(scope="module")
def model(toy_model, backends):
    return toy_model(backends[0])


def transferred(model, tasks, seed=0, **options):
    pair = {name: tasks[name] for name in ("story", "largest")}
    options = SIZES | {"alphas": [-2.0, 4.0], "n_random": 5, "n_shuffled": 4, "n_shuffled_learned": 2, "epochs": 2, "lr": 0.1} | options
    return sl.transfer(model, pair, rng=np.random.default_rng(seed), **options)


@pytest.fixture(scope="module")
def found(model, tasks):
    return transferred(model, tasks)


@pytest.fixture(scope="module")
def booster(model, tasks):
    return boosted(model, tasks)


def boosted(model, tasks, **options):
    return sl.universal_booster(model, tasks, rng=np.random.default_rng(0), n_random=4, epochs=1, lr=0.1, **SIZES, **options)


def reversed_problems(task):
    """The same task with other train and validation problems."""
    other = sl.load_task("arithmetic", variant=task.about["variant"], n_train=24, n_validation=12, n_test=1, seed=9)
    return sl.Task(task.name, other.train, other.validation, task.test, scorer=task.scorer, about=task.about)


def test_a_transfer_is_the_paired_change_that_a_sweep_measures(model, tasks, found):
    for key, vector in found.vectors.items():
        for target in ("story", "largest"):
            swept = sl.sweep(model, tasks[target].test, vector, alphas=1.0)
            row = found.frame.set_index(["method", "source", "target"]).loc[(*key, target)]
            after = swept.frame["correct"].to_numpy(bool)
            test = sl.statistics.sign_test(swept.baseline.frame["correct"].to_numpy(bool), after)
            assert (row["change"], row["p"], row["low"], row["high"]) == (test.change, test.p_value, *test.interval())


def test_every_cell_has_its_random_and_shuffled_draws(found):
    counts = found.nulls.groupby(["method", "source", "target", "family"]).size().unstack("family")
    assert len(counts) == 8
    assert (counts["random"] == 5).all()
    assert counts.loc["learned", "shuffled"].tolist() == [2] * 4
    assert counts.loc["mean_difference", "shuffled"].tolist() == [4] * 4


def test_only_cells_between_tasks_are_corrected_together(found):
    apart = found.frame["source"] != found.frame["target"]
    assert found.frame.loc[~apart, ["p_holm", "p_random_all"]].isna().all().all()
    np.testing.assert_allclose(found.frame.loc[apart, "p_holm"], sl.statistics.holm(found.frame.loc[apart, "p"]))
    assert (found.frame.loc[apart, "p_random_all"] >= found.frame.loc[apart, "p_random"]).all()


def test_what_is_tested_has_no_say_in_what_is_chosen(model, tasks, found):
    changed = {name: sl.Task(t.name, t.train, t.validation, t.test[::-1][:8], scorer=t.scorer, about=t.about) for name, t in tasks.items()}
    again = transferred(model, changed)
    pd.testing.assert_frame_equal(again.choices, found.choices)
    pd.testing.assert_frame_equal(again.cosines, found.cosines)


def test_the_same_seed_gives_the_same_transfer(model, tasks, found):
    few = {"methods": ["mean_difference"]}
    one, other = (transferred(model, tasks, seed=3, **few) for _ in range(2))
    pd.testing.assert_frame_equal(one.frame, other.frame)
    assert "mean_difference" in one.summary()
    assert one.matrix("mean_difference").index.tolist() == ["story", "largest"]
    assert found.warnings()
    assert "<table" in found._repr_html_()


def test_cosines_are_held_against_random_ones_and_against_reliability(found):
    assert len(found.cosines) == 4
    assert (found.cosines["random"] == found.cosines["random"].iloc[0]).all()
    assert found.cosines["ceiling"].dropna().between(0, 1).all()
    assert found.cosines.set_index("method")["shuffled"].groupby("method").count().to_dict() == {"learned": 0, "mean_difference": 2}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"methods": ["magic"]}, "give each once, of learned"),
        ({"n_random": 0}, "n_random=0"),
        ({"n_train": 99}, "99 train problems of 'story'"),
    ],
)
def test_bad_input_to_transfer_is_named(model, tasks, options, said):
    with pytest.raises(ValueError, match=said):
        transferred(model, tasks, **options)


def test_a_task_that_is_left_out_has_no_say_in_its_mixture(model, tasks, booster):
    again = boosted(model, tasks | {"bare": reversed_problems(tasks["bare"])})
    assert again.vectors["mixture without bare"].vector.equal(booster.vectors["mixture without bare"].vector)
    assert not again.vectors["mixture of all"].vector.equal(booster.vectors["mixture of all"].vector)


def test_every_vector_is_tested_in_and_out_of_distribution(booster):
    table = booster.frame.groupby(["kind", "trained"]).size().to_dict()
    assert table == {("all", "in"): 3, ("mixture", "in"): 6, ("mixture", "out"): 3, ("single", "in"): 3, ("single", "out"): 6}
    assert booster.frame.loc[booster.frame["kind"] == "single", "p_holm"].isna().all()
    assert (booster.choices["problems"] == 24).all()


def test_means_count_every_task_once_and_rivals_are_paired(model, tasks, booster):
    means = booster.means.set_index("group")["change"]
    out = booster.frame.query("kind == 'mixture' and trained == 'out'")
    assert means["mixtures, task left out"] == pytest.approx(out["change"].mean())
    inside = booster.frame.query("kind == 'mixture' and trained == 'in'").groupby("task")["change"].mean()
    assert means["mixtures, in distribution"] == pytest.approx(inside.mean())
    row = booster.rivals.query("task == 'story' and second == 'largest alone'").iloc[0]
    outcomes = [
        sl.sweep(model, tasks["story"].test, booster.vectors[row[side]], alphas=1.0).frame["correct"] for side in ("second", "first")
    ]
    test = sl.statistics.sign_test(*[one.to_numpy(bool) for one in outcomes])
    assert (row["difference"], row["p"]) == (test.change, test.p_value)
    assert "left-out task" in booster.summary()


def test_a_mixture_needs_three_tasks_and_known_ones(model, tasks):
    with pytest.raises(ValueError, match="at least 3"):
        boosted(model, {name: tasks[name] for name in ("story", "bare")})
    with pytest.raises(ValueError, match=r"left_out=\['poem'\]"):
        boosted(model, tasks, left_out=["poem"])


def stable(model, task, **options):
    options = {"sizes": [4, 8], "seeds": 2, "subsets": 2, "n_shuffled": 1, "epochs": 2, "lr": 0.05} | options
    return sl.seed_stability(model, task, rng=np.random.default_rng(0), **options)


def test_smaller_sizes_take_as_many_steps_and_share_nothing_with_the_reference(model, tasks):
    study = stable(model, tasks["story"])
    steps = study.frame["epochs"] * np.ceil(study.frame["size"] / 4)
    assert (steps == 4).all()
    subsets = study.frame[study.frame["kind"] == "subset"]
    assert (subsets["shared"] == 0).all()
    assert (study.pairs[study.pairs["kind"] == "subset"]["shared"] == 0).all()
    assert (study.frame.loc[study.frame["kind"] != "subset", "shared"] == 1).all()
    for place in (0, 3):
        assert study.frame["cosine"][place] == pytest.approx(cosine(study.vectors[0], study.vectors[place]))
        swept = sl.sweep(model, tasks["story"].test, study.vectors[place], alphas=1.0)
        assert study.frame["accuracy"][place] == swept.accuracy()["accuracy"][0]
    assert study.curve()["cosine_high"].dropna().le(1).all()
    assert "2 seeds on the same 8 problems" in study.summary()


def test_a_split_too_small_for_other_problems_is_said(model, tasks):
    study = stable(model, tasks["story"], sizes=[20], n_shuffled=0)
    assert any("too small" in line for line in study.warnings())
    with pytest.raises(ValueError, match="numbers from 1 to 24"):
        stable(model, tasks["story"], sizes=[25])
    with pytest.raises(ValueError, match="a step takes 4 problems"):
        stable(model, tasks["story"], sizes=[3, 8])


def test_figures_show_every_cell_vector_and_mean(model, tasks, found, booster):
    matrix = sl.plots.transfer_matrix(found)
    assert [trace.z.shape for trace in matrix.data] == [(2, 2), (2, 2)]
    assert "random directions" in matrix.data[0].hovertext[0][1]
    lines = sl.plots.forest(booster.effects())
    assert len(lines.data[0].x) == len(booster.means) + 12
    curve = sl.plots.data_size_curve(stable(model, tasks["story"]))
    assert sum(len(trace.x) for trace in curve.data if trace.hoverinfo == "text") == 2 * 6
    with pytest.raises(TypeError, match=r"steerlab\.transfer"):
        sl.plots.transfer_matrix(SimpleNamespace())


def test_vectors_keep_their_names_in_the_booster(booster):
    assert all(vector.name == name for name, vector in booster.vectors.items())
    assert replace(booster.vectors["story alone"], name="x").layer == booster.choices.set_index("vector").loc["story alone", "layer"]
