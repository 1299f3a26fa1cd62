"""Studies across tasks, on an untrained model: what is compared with what, what may decide, and whether tables follow from outcomes."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from results import speaks

import steerlab as sl
from steerlab._progress import Stages
from steerlab.studies import mixtures as universal
from steerlab.studies import transfer as transfer_sources
from steerlab.studies.transfer import Found, Learning, _judged, _test, contrast_source, cosine, cosines, full_reliability, learned_source

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


@pytest.mark.slow
def test_the_forecast_of_a_booster_draws_what_the_run_draws_and_takes_nothing_from_its_generator(model, tasks, monkeypatch):
    mixed, drawn = universal.mixture, []

    def watched(problems, n, *, rng):
        found = mixed(problems, n, rng=rng)
        drawn.append([problem.id for problem in found])
        return found

    monkeypatch.setattr(universal, "mixture", watched)
    monkeypatch.setattr(universal, "forecast", lambda *given, **options: None)
    boosted(model, tasks, progress=True)
    assert drawn[2:4] == drawn[:2]


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
            assert (row["change"], row["p"], row["low"], row["high"]) == (test.change, test.pvalue, *test.interval())


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


@pytest.mark.slow
def test_what_is_tested_has_no_say_in_what_is_chosen(model, tasks, found):
    changed = {name: sl.Task(t.name, t.train, t.validation, t.test[::-1][:8], scorer=t.scorer, about=t.about) for name, t in tasks.items()}
    again = transferred(model, changed)
    pd.testing.assert_frame_equal(again.choices, found.choices)
    pd.testing.assert_frame_equal(again.cosines, found.cosines)


def test_the_same_seed_gives_the_same_transfer(model, tasks, found):
    few = {"methods": ["mean_difference"]}
    one, other = (transferred(model, tasks, seed=3, **few) for _ in range(2))
    pd.testing.assert_frame_equal(one.frame, other.frame)
    assert "mean_difference" in str(one)
    assert one.matrix("mean_difference").index.tolist() == ["story", "largest"]
    assert found.warnings()
    speaks(found)


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


@pytest.mark.slow
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
    assert (row["difference"], row["p"]) == (test.change, test.pvalue)
    assert "left-out task" in str(booster)
    speaks(booster)


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
    assert "2 seeds on the same 8 problems" in str(study)
    speaks(study)


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


# Against counting by hand


def judged_by_hand() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Two tasks, one method: what vectors did, and what three random and three shuffled draws did."""
    cells = [("a", "a", 0.9, 0.001), ("a", "b", 0.5, 0.01), ("b", "a", -0.3, 0.04), ("b", "b", 0.1, 0.5)]
    frame = pd.DataFrame(cells, columns=["source", "target", "change", "p"]).assign(method="m")
    draws = {"random": (-0.1, 0.0, 0.4), "shuffled": (0.2, 0.3, 0.8)}
    lines = [("m", s, t, family, k, change) for s, t, *_ in cells for family, mine in draws.items() for k, change in enumerate(mine)]
    return frame, pd.DataFrame(lines, columns=["method", "source", "target", "family", "draw", "change"])


def test_every_cell_is_held_against_its_own_nulls():
    found = _judged(*judged_by_hand()).set_index(["source", "target"])
    assert found["random"].tolist() == [0.0] * 4  # medians, not means
    assert found["shuffled"].tolist() == [0.3] * 4
    # Of 0.2, 0.3, 0.8 and 0.9 the median is 0.55: 0.2 lies as far from it, 0.9 itself counts; 0.5 among them is the nearest but 0.3.
    assert found.loc[("a", "a"), "p_shuffled"] == 0.5
    assert found.loc[("b", "a"), "p_shuffled"] == 0.5  # median 0.25: 0.8 lies as far as -0.3
    assert found.loc[("a", "b"), "p_random"] == 0.5  # median 0.2: -0.1 lies as far as 0.5
    assert found["p_holm"].tolist() == [pytest.approx(np.nan, nan_ok=True), 0.02, 0.04, pytest.approx(np.nan, nan_ok=True)]


def test_only_other_tasks_are_paid_for_by_the_max_statistic():
    """Cells on the own task have no say: without them the numbers are the same."""
    frame, _ = judged_by_hand()
    draws = {True: (0.0, 0.1, -0.1, 0.05, 5.0), False: (0.5, -0.5, 0.1, -0.1, 0.0)}  # on the own task one draw goes far out
    lines = [
        ("m", s, t, family, k, change)
        for s, t in zip(frame["source"], frame["target"], strict=True)
        for family in ("random", "shuffled")
        for k, change in enumerate(draws[s == t])
    ]
    nulls = pd.DataFrame(lines, columns=["method", "source", "target", "family", "draw", "change"])
    found = _judged(frame, nulls)
    alone = _judged(frame.iloc[[1, 2]].reset_index(drop=True), nulls)
    assert found["p_random_all"].dropna().tolist() == alone["p_random_all"].tolist()
    assert found["p_random_all"].isna().tolist() == [True, False, False, True]


def test_the_summary_counts_what_intervals_say_and_names_the_largest_on_either_side(found):
    frame = found.frame.assign(change=0.1, low=-0.1, high=0.2, p_holm=1.0)
    place = frame.set_index(["method", "source", "target"]).index
    own = place.get_loc(("learned", "story", "story"))
    far = place.get_loc(("learned", "story", "largest"))
    frame.loc[own, ["low", "high"]] = 0.05, 0.2
    frame.loc[far, ["change", "low", "high", "p_holm"]] = -0.4, -0.6, -0.1, 0.01
    said = str(replace(found, frame=frame))
    assert "learned: on their own task 1 of 2 vectors raise accuracy and 0 lower it" in said
    assert "Of 2 transfers 0 raise and 1 lower accuracy after Holm's correction over all 4" in said
    assert "The largest is story to largest: -40.0 points (95% interval -60.0 to -10.0, p = 0.01 corrected)" in said
    matrix = replace(found, frame=frame).matrix("learned")
    assert (matrix.loc["story", "largest"], matrix.loc["largest", "story"]) == (-0.4, 0.1)


def test_an_estimate_acts_at_one_with_its_coefficient_in_it_and_so_do_its_shuffled_ones(model, tasks):
    task, rng = tasks["story"], np.random.default_rng(2)
    one = contrast_source(
        model, "story", "mean_difference", task.train, task.validation, [0, 1], [-2.0], 3, operator="add", rng=rng, progress=False
    )
    swept = sl.sweep(model, task.validation, one.by_layer, alphas=[-2.0]).accuracy().set_index("layer")["change"]
    assert (one.alpha, one.candidates, one.validation_change) == (-2.0, 2, swept[one.layer])
    assert swept[one.layer] == swept.max()
    assert one.vector.vector.equal(-2 * one.by_layer[one.layer].vector)
    assert [d.vector.equal(-2 * plain.vector) for d, plain in zip(one.shuffled, one.shuffled_by_layer[one.layer], strict=True)] == [
        True
    ] * 3
    found = {("mean_difference", "story"): one}
    tests = {name: tasks[name].test for name in ("story", "largest")}
    _, nulls, _ = _test(model, tests, found, 2, operator="add", rng=rng, progress=False, stages=Stages(9, show=False))
    swept = sl.sweep(model, task.test, one.shuffled[1], alphas=1.0)
    mine = nulls.query("family == 'shuffled' and draw == 1 and target == 'story'").iloc[0]
    before, after = swept.baseline.frame, swept.frame
    assert mine["change"] == pytest.approx(after["correct"].mean() - before["correct"].mean())
    assert mine["margin_change"] == pytest.approx(after["margin"].mean() - before["margin"].mean(), abs=1e-5)


def test_vectors_from_permuted_targets_have_the_learned_vectors_length(model, tasks):
    learning = Learning(epochs=1, lr=0.1, operator="add", n_shuffled=2, progress=False)
    one = learned_source(model, "story", tasks["story"].train, tasks["story"].validation, [1], learning, rng=np.random.default_rng(1))
    assert [d.norm for d in one.shuffled] == pytest.approx([one.vector.norm] * 2)
    assert all(abs(d.method["norm_before"] - one.vector.norm) > 1e-3 for d in one.shuffled)


def test_halves_share_nothing_and_their_agreement_is_that_of_two_wholes():
    for n, size in ((10, 5), (11, 5)):
        one, other = transfer_sources._halves(list(range(n)), np.random.default_rng(0))
        assert len(one) == len(other) == size
        assert not set(one) & set(other)
    assert [full_reliability(r) for r in (0.5, 1.0, -0.2)] == pytest.approx([2 / 3, 1, 0])  # Spearman and Brown


def test_the_ceiling_of_a_cosine_is_the_geometric_mean_of_both_reliabilities():
    def of(vector, reliability, shuffled):
        plain = sl.Direction(torch.tensor(vector), 0)
        return Found(plain, 0, 1.0, 1, 0.0, (), {0: plain}, {0: reliability}, {0: [sl.Direction(torch.tensor(v), 0) for v in shuffled]})

    both = {("m", "a"): of([1.0, 0.0], 0.25, [[0.0, 1.0]]), ("m", "b"): of([1.0, 1.0], 1.0, [[0.0, -2.0], [3.0, 0.0]])}
    (line,) = cosines(both, 0.3).to_dict("records")
    assert (line["first"], line["second"], line["random"]) == ("a", "b", 0.3)
    assert line["cosine"] == pytest.approx(np.sqrt(0.5))
    assert line["ceiling"] == pytest.approx(0.5)
    assert line["shuffled"] == pytest.approx(0.95)  # cosines -1 and 0: 95% of the way from 0 to 1


def test_a_mean_over_tasks_averages_vectors_on_one_task_first():
    """Changes of 1/2 and 0 on task x (two vectors, four problems), of -1/4 on y: means 1/4 and -1/4, so 0."""
    moved = {
        ("u", "x"): np.array([1.0, 1.0, 0.0, 0.0]),
        ("v", "x"): np.array([0.0, 0.0, 1.0, -1.0]),
        ("u", "y"): np.array([0.0, 0.0, 0.0, -1.0]),
    }
    cells = pd.DataFrame({"task": ["x", "x", "y"], "vector": ["u", "v", "u"]})
    line = universal._mean("group", cells, moved)
    assert (line["cells"], line["tasks"], line["change"]) == (3, 2, 0)
    # On x problems moved by 1/2, 1/2, 1/2 and -1/2 (variance 1/4), on y by 0, 0, 0 and -1 (variance 1/4).
    assert line["high"] == pytest.approx(1.96 * np.sqrt(0.25 / 4 + 0.25 / 4) / 2)
    assert line["low"] == -line["high"]


def test_mixtures_are_held_against_their_own_draws_on_the_same_task():
    frame = pd.DataFrame(
        [
            ("mix", "mixture", "x", 0.5, 0.01),
            ("mix", "mixture", "y", 0.1, 0.04),
            ("one", "single", "x", 0.9, 0.5),
            ("all", "all", "y", 0.2, 0.03),
        ],
        columns=["vector", "kind", "task", "change", "p"],
    )
    frame = pd.concat([frame, frame.iloc[[3]].assign(task="x")], ignore_index=True)
    random = np.array([[[0.0, 0.1, 0.5], [0.2, 0.3, 0.7]], [[-0.5, -0.4, 0.0], [0.6, 0.7, 0.8]]])  # all and mix, on x and y, three draws
    found = universal._judged(frame, ["all", "mix"], random)
    assert found["random"].tolist() == [-0.4, 0.7, pytest.approx(np.nan, nan_ok=True), 0.3, 0.1]
    assert found["p_holm"].tolist() == pytest.approx([0.04, 0.09, np.nan, 0.09, 0.09], nan_ok=True)


def test_random_directions_of_a_mixture_move_the_stream_as_far_as_it_does(booster):
    checks = booster.checks
    for name in (name for name in booster.vectors if name.startswith("mixture")):
        mine = checks[checks["direction"] == name]
        theirs = checks[checks["direction"].str.startswith(f"random like {name}")]
        assert set(theirs["layer"]) == {booster.vectors[name].layer}
        assert theirs["resid_change"].to_numpy() == pytest.approx(np.repeat(mine["resid_change"].to_numpy(), 4), rel=1e-3)


def test_the_gain_on_validation_is_over_the_unsteered_model(model, tasks, booster):
    name = "story alone"
    problems = tasks["story"].validation
    swept = sl.sweep(model, problems, booster.vectors[name], alphas=1.0)
    gain = booster.choices.set_index("vector").loc[name, "validation_change"]
    assert gain == pytest.approx(swept.frame["correct"].mean() - swept.baseline.frame["correct"].mean())


def test_the_summary_says_on_which_tasks_the_mixture_without_it_is_worse(booster):
    rivals = booster.rivals.assign(p_holm=1.0, difference=0.1)
    own = rivals.index[rivals["second"] == rivals["task"] + " alone"]
    rivals.loc[own[0], ["p_holm", "difference", "low", "high"]] = 0.01, -0.5, -0.7, -0.2
    said = str(replace(booster, rivals=rivals))
    assert "is worse on 1 and better on 0 of 3 tasks after correction" in said
    assert f"difference is -50.0 points on {rivals.loc[own[0], 'task']} (95% interval -70.0 to -20.0, p = 0.01 corrected)" in said
