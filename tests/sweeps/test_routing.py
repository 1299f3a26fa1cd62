"""A direction and an alpha for each problem, and a coefficient chosen on validation."""

import numpy as np
import pandas as pd
import pytest
import torch

import steerlab as sl
from steerlab import statistics as st


@pytest.fixture(scope="module")
def toy(toy_model, backends):
    """One kind of model: what runs underneath is the sweep's engine, which is tested on all of them."""
    return toy_model(backends[-1])


@pytest.fixture(scope="module")
def task():
    return sl.load_task("arithmetic")


def direction(seed: int, name: str, layer: int = 1) -> sl.Direction:
    return sl.Direction(torch.randn(32, generator=torch.Generator().manual_seed(seed)), layer, name=name)


UP, DOWN = direction(0, "up"), direction(1, "down", layer=0)


# Routers


def route_as_the_sources_do(text: str) -> str:
    """The sources' rule, written out."""
    if any(word in text.lower() for word in ["calculate", "solve", "math"]):
        return "math"
    if any(word in text.lower() for word in ["complete", "best answer"]):
        return "reasoning"
    return "general"


def test_keywords_route_as_in_the_sources():
    texts = ["Solve it.", "CALCULATE and complete", "The best answer is:", "aftermath", "Hello", "Complete the sentence"]
    problems = [sl.Problem(str(i), text, 0) for i, text in enumerate(texts)]
    found = sl.KeywordRouter()(None, problems)
    assert found == [route_as_the_sources_do(text) for text in texts]
    assert set(found) == {"math", "reasoning", "general"}
    own = sl.KeywordRouter({"greeting": ["HELLO"]}, default="other")
    assert own(None, problems) == ["other"] * 4 + ["greeting", "other"]
    for words in ("hello", [], [""]):
        with pytest.raises(ValueError, match="route 'x' has keywords"):
            sl.KeywordRouter({"x": words})


def test_the_nearest_mean_is_found_by_distance_or_by_angle():
    """Oracle: SciPy-like distances in a loop."""
    rng = np.random.default_rng(0)
    classes = {name: rng.standard_normal((5, 2, 4)) * size for name, size in (("a", 1), ("b", 2), ("c", 5))}
    rows = rng.standard_normal((30, 2, 4)) * 2
    acts = {name: sl.as_activations(values, layer=2, positions=[0, -1]) for name, values in classes.items()}
    new = sl.as_activations(rows, layer=2, positions=[0, -1])
    means = {name: values.mean(0).ravel() for name, values in classes.items()}
    by_distance = [min(means, key=lambda name: np.linalg.norm(row.ravel() - means[name])) for row in rows]
    by_angle = [max(means, key=lambda name: row.ravel() @ means[name] / np.linalg.norm(means[name])) for row in rows]
    assert sl.nearest_mean(acts, layer=2).of(new) == by_distance
    assert sl.nearest_mean(acts, layer=2, cosine=True).of(new) == by_angle
    assert by_distance != by_angle


def test_a_router_by_means_caches_what_it_needs(toy, task):
    lists = [task.train[:6], task.train[6:12]]
    acts = [sl.cache_activations(toy, some, layers=[0, 1], positions="mean") for some in lists]
    router = sl.nearest_mean({"first": acts[0], "second": acts[1]}, layer=1)
    assert router(toy, task.test[:8]) == router.of(sl.cache_activations(toy, task.test[:8], layers=1, positions="mean"))


def test_classes_that_cannot_be_compared_are_refused():
    one = sl.as_activations([[1.0, 2.0]], layer=2)
    router = sl.nearest_mean({"a": one, "b": sl.as_activations([[0.0, 0.0]], layer=2)}, layer=2)
    for call, message in (
        (lambda: sl.nearest_mean({"a": one}, layer=2), "1 class given; routing needs at least 2"),
        (lambda: sl.nearest_mean({"a": one, "b": one.select([])}, layer=2), "class 'b' is empty"),
        (lambda: sl.nearest_mean({"a": one, "b": sl.as_activations([[1.0, 2.0]], layer=2, site="resid_pre")}, layer=2), "differs in site"),
        (lambda: sl.nearest_mean({"a": one, "b": one}, layer=3), "layer=3: cached were layers 2"),
        (lambda: router.of(sl.as_activations([[1.0, 2.0]], layer=2, positions="mean")), "the class means of resid_post at 'last'"),
        (lambda: router.of(sl.as_activations([[1.0, 2.0, 3.0]], layer=2)), "3 values a problem, the class means 2"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_alphas_reach_a_projection_in_steps_between_limits():
    """Oracle: by hand, with a direction of norm 2; and adding what the rule says reaches the target."""
    along = sl.Direction(torch.tensor([2.0, 0.0]), 1)
    acts = sl.as_activations([[3.0, 5.0], [0.0, 5.0], [99.0, 5.0], [2.4, 0.0], [-99.0, 0.0]], layer=1)
    assert sl.ReachProjection(along, 3.0).of(acts) == [0.0, 1.5, -3.0, 0.5, 3.0]
    fine = sl.ReachProjection(along, 3.0, low=-100, high=100, step=0.001)
    moved = acts.values[:, 0, 0, 0].double().numpy() + 2 * np.array(fine.of(acts))
    np.testing.assert_allclose(moved, 3.0, atol=1e-3)
    assert sl.ReachProjection(along, 3.0, low=-0.7, high=0.7).of(acts) == [0.0, 0.5, -0.5, 0.5, 0.5]
    for options in ({"step": 0.0}, {"low": 1.0, "high": 1.0}, {"high": float("inf")}):
        with pytest.raises(ValueError, match="use finite ones, low < high and step > 0"):
            sl.ReachProjection(along, 3.0, **options)


# Evaluation


def test_every_problem_gets_its_own_direction_and_alpha(toy, task):
    """Oracle: each problem in a sweep of its own."""
    problems = task.test[:7]
    routes = ["up", "down", "none", "up", "down", "up", "up"]
    alphas = [1.0, -2.0, 1.0, 3.0, -2.0, 0.0, 1.0]
    known = {"up": UP, "down": DOWN, "none": None, "unused": UP}
    done = sl.evaluate_routed(toy, problems, known, routes=routes, alpha=alphas)
    plain = sl.evaluate(toy, problems)
    assert done.frame["problem_id"].tolist() == [problem.id for problem in problems]
    pd.testing.assert_frame_equal(done.baseline.frame, plain.frame, atol=1e-5)
    for i, problem in enumerate(problems):
        line = done.frame.iloc[i]
        one = known[routes[i]]
        if one is None:
            expected = plain.frame.iloc[i]
            assert (line["direction"], line["alpha"]) == ("none", 0.0)
        else:
            expected = sl.sweep(toy, [problem], one, alphas=[alphas[i]]).frame.iloc[0]
            assert (line["direction"], line["alpha"]) == (one.name, alphas[i])
        assert line["margin"] == pytest.approx(expected["margin"], abs=1e-4)
        assert line["prediction"] == expected["prediction"]
    assert done.accuracy == done.evaluation.accuracy == pytest.approx(done.frame["correct"].mean())
    table = done.summary().set_index("route")
    assert table["n"].to_dict() == {"up": 4, "down": 2, "none": 1}
    assert table["correct"].sum() == done.frame["correct"].sum()
    assert table.loc["none", ["change", "became_right", "became_wrong"]].tolist() == [0, 0, 0]
    before, after = done.paired()
    assert (table["became_right"] - table["became_wrong"]).sum() == after.astype(int).sum() - before.astype(int).sum()
    test = st.sign_test(before, after)
    assert [test.became_right, test.became_wrong] == table[["became_right", "became_wrong"]].sum().tolist()
    assert "up: 4" in repr(done)
    assert done.warnings() == []


def test_one_direction_takes_an_alpha_rule(toy, task):
    problems = task.test[:6]
    acts = sl.cache_activations(toy, problems, layers=1)
    target = float(np.median(sl.projections(acts, UP)))
    rule = sl.ReachProjection(UP, target)
    done = sl.evaluate_routed(toy, problems, UP, alpha=rule)
    assert done.frame["alpha"].tolist() == rule.of(acts)
    assert done.frame["route"].unique().tolist() == ["up"]


def test_a_routers_choice_is_followed(toy, task):
    router = sl.KeywordRouter({"down": ["spends", "drops"], "up": ["gets"]}, default="other")
    done = sl.evaluate_routed(toy, task.test[:6], {"up": UP, "down": DOWN, "other": None}, routes=router)
    assert done.frame["route"].tolist() == ["down", "down", "other", "down", "down", "up"]
    assert done.frame["direction"].tolist() == ["down", "down", "none", "down", "down", "up"]


def test_problems_of_one_list_are_judged_by_one_scorer(toy):
    """Alone, the second would pass for a question with letters."""
    problems = [sl.Problem("a", "1 + 1 =", " 2 2", (" 2 2", " 3 3")), sl.Problem("b", "1 + 1 =", " A", (" A", " B"))]
    done = sl.evaluate_routed(toy, problems, {"up": UP, "none": None}, routes=["none", "up"], alpha=0.0)
    assert done.evaluation.scorer == sl.evaluate(toy, problems).scorer == "continuation"
    pd.testing.assert_frame_equal(done.evaluation.frame, sl.evaluate(toy, problems).frame, atol=1e-5)


def test_what_cannot_be_routed_is_refused_before_anything_runs(toy, task):
    problems = task.test[:3]
    other = sl.Direction(UP.vector, 1, name="other", model={"name": "other model"})
    mine = sl.Direction(UP.vector, 1, name="mine", model={"name": "this model"})
    both = {"up": UP, "down": DOWN}
    for options, message in (
        ({"directions": both, "routes": ["up", "left", "up"]}, "is routed to 'left', which has no direction \\(routes are 'up', 'down'\\)"),
        ({"directions": both, "routes": ["up"]}, "1 routes for 3 problems"),
        ({"directions": UP, "alpha": [1.0, 2.0]}, "2 alphas for 3 problems"),
        ({"directions": UP, "alpha": [1.0, 2.0, float("nan")]}, "alpha=nan is not a finite number"),
        ({"directions": UP, "routes": ["up"] * 3}, "one direction needs no routes"),
        ({"directions": both}, "one direction needs no routes, and several need them"),
        ({"directions": {"a": mine, "b": other}, "routes": ["a", "b", "a"]}, "found in different models"),
        ({"directions": {"a": direction(0, "deep", layer=9)}, "routes": ["a"] * 3}, "layer=9: this model has 3 layers"),
    ):
        with pytest.raises(ValueError, match=message):
            sl.evaluate_routed(toy, problems, **options)
    with pytest.raises(ValueError, match="no problems given"):
        sl.evaluate_routed(toy, [], UP)
    with pytest.raises(ValueError, match="id"):
        sl.evaluate_routed(toy, [problems[0], problems[0]], both, routes=["up", "down"])


# Coefficients


def test_the_sources_coefficients_are_the_default_grid():
    assert sl.COEFFICIENTS == (0.3, 0.5, 0.7, 1.0, 1.3, 1.5, 2.0)


def test_a_coefficient_is_chosen_on_validation_and_tested_once(toy, task):
    """Oracle: the two sweeps that this stands for."""
    validation, test = task.validation[:30], task.test[:20]
    grid = sl.coefficient_grid(toy, validation, test, UP, positions="last")
    swept = sl.sweep(toy, validation, UP, alphas=sl.COEFFICIENTS, positions="last")
    assert grid.coefficient == swept.best()["alpha"]
    tested = sl.sweep(toy, test, UP, alphas=[grid.coefficient], positions="last")
    pd.testing.assert_frame_equal(grid.test.frame, tested.frame)
    frame = grid.frame
    assert frame["split"].tolist() == ["validation"] * 7 + ["test"]
    chosen = frame[frame["chosen"]].set_index("split")["change"]
    assert grid.bias == pytest.approx(chosen["validation"] - chosen["test"])
    assert grid.paired_interval().low <= chosen["test"] <= grid.paired_interval().high
    assert grid.sign_test().pvalue == st.sign_test(tested.baseline.frame["correct"], tested.frame["correct"]).pvalue
    assert f"coefficient={grid.coefficient}" in repr(grid)


def test_a_coefficient_is_not_tested_on_what_it_was_chosen_on(toy, task):
    for validation, test, options, message in (
        (task.test[:5], task.test[4:9], {}, f"1 problems stand in validation and in test, '{task.test[4].id}' for one"),
        ([], task.test[:3], {}, "0 validation and 3 test problems"),
        (task.validation[:3], task.test[:3], {"coefficients": [0.0, 1.0]}, "coefficients include 0, which is the baseline"),
        (task.validation[:3], task.test[:3], {"coefficients": []}, "give at least one"),
    ):
        with pytest.raises(ValueError, match=message):
            sl.coefficient_grid(toy, validation, test, UP, **options)
