"""Sweeps: the same as steering by hand, cell by cell; what is summed up, what is refused, what is said aloud."""

import numpy as np
import pandas as pd
import pytest
import torch
from results import speaks

import steerlab as sl
from steerlab.steering import cells, wavefront
from steerlab.sweeps.sweep import KEYS

ALPHAS = (-2.0, 0.0, 1.0)
OUTCOMES = ["problem_id", "prediction", "correct", "margin", "nll"]


@pytest.fixture(scope="module")
def toy(toy_model, backend):
    return toy_model(backend)


@pytest.fixture(scope="module")
def problems():
    return sl.load_task("arithmetic", n_train=10, n_validation=0, n_test=0).train


def direction(layer: int = 1, seed: int = 0, site: str = "resid_post", name: str = "direction") -> sl.Direction:
    vector = torch.randn(32, generator=torch.Generator().manual_seed(seed))
    return sl.Direction(vector / vector.norm() * 6, layer, site, name=name)


@pytest.fixture(scope="module")
def swept(toy, problems):
    """Two layers, two directions at one of them."""
    directions = [direction(0), direction(2), direction(2, seed=1, name="other")]
    return sl.sweep(toy, problems, directions, alphas=ALPHAS)


def cell(result: sl.SweepResult, **where) -> pd.DataFrame:
    frame = result.frame
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame[OUTCOMES].reset_index(drop=True)


def same(first: pd.DataFrame, second: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(first, second, check_exact=False, rtol=0, atol=1e-4)


# The frame


def test_the_frame_has_one_line_a_layer_alpha_direction_and_problem(swept, problems):
    assert list(swept.frame.columns) == ["layer", "alpha", "direction", *OUTCOMES]
    assert len(swept.frame) == 3 * len(ALPHAS) * len(problems)
    assert not swept.frame.duplicated([*KEYS, "problem_id"]).any()
    assert swept.frame.groupby(KEYS)["problem_id"].apply(list).tolist() == [[p.id for p in problems]] * 9
    assert len(swept.checks) == 9
    assert not swept.frame.isna().any().any()


def test_alpha_zero_is_the_evaluation_itself(toy, swept, problems):
    plain = sl.evaluate(toy, problems).frame
    for layer, name in ((0, "direction"), (2, "direction"), (2, "other")):
        pd.testing.assert_frame_equal(cell(swept, layer=layer, direction=name, alpha=0.0), plain, check_exact=True)
    pd.testing.assert_frame_equal(swept.baseline.frame, plain, check_exact=True)


@pytest.mark.parametrize(
    ("operator", "scorer"),
    [
        pytest.param(operator, scorer, marks=[] if (i + k) % 2 == 0 else pytest.mark.slow)
        for i, operator in enumerate(sl.OPERATORS)
        for k, scorer in enumerate(["choice", "continuation"])
    ],
)
def test_a_cell_is_what_evaluate_gives_inside_steer(toy, problems, operator, scorer):
    """Oracle: a plain run of the whole model under sl.steer, for each cell."""
    places = [direction(0), direction(2, site="resid_pre"), direction(1, site="resid_mid"), direction(2)]
    for one in places:
        result = sl.sweep(toy, problems, one, alphas=ALPHAS, operator=operator, scorer=scorer)
        for alpha in ALPHAS:
            with sl.steer(toy, one, alpha=alpha, operator=operator):
                same(cell(result, alpha=alpha), sl.evaluate(toy, problems, scorer=scorer).frame)


@pytest.mark.parametrize("positions", ["last", 0, -3, [1, -1]])
def test_at_some_positions_too(toy, problems, positions):
    """Oracle: each problem run alone under sl.steer, so that the last column is the prompt's last token."""
    result = sl.sweep(toy, problems, direction(), alphas=ALPHAS, positions=positions)
    for alpha in ALPHAS:
        with sl.steer(toy, direction(), alpha=alpha, positions=positions):
            alone = pd.concat([sl.evaluate(toy, [problem]).frame for problem in problems], ignore_index=True)
        same(cell(result, alpha=alpha), alone)


def test_a_direction_with_a_vector_a_position_beside_one_without(toy, problems):
    """Oracle: each problem run alone under sl.steer."""
    several = sl.Direction(torch.stack([direction().vector, direction(seed=1).vector]), 1, positions=(1, -1), name="several")
    result = sl.sweep(toy, problems, [direction(), several], alphas=[1.0])
    for one in (direction(), several):
        with sl.steer(toy, one, alpha=1.0):
            alone = pd.concat([sl.evaluate(toy, [problem]).frame for problem in problems], ignore_index=True)
        same(cell(result, direction=one.name), alone)


def test_the_size_of_a_batch_changes_nothing(toy, problems, swept):
    directions = list(swept.directions)
    small = sl.sweep(toy, problems, directions, alphas=ALPHAS, max_tokens=1)
    pd.testing.assert_frame_equal(small.frame, swept.frame, check_exact=False, rtol=0, atol=1e-4)


def test_generated_answers_are_swept_too(toy):
    problems = sl.load_task("arithmetic", form="numeric", n_train=4, n_validation=0, n_test=0).train
    result = sl.sweep(toy, problems, direction(), alphas=ALPHAS)
    assert result.settings["scorer"] == "numeric"
    pd.testing.assert_frame_equal(cell(result, alpha=0.0), sl.evaluate(toy, problems).frame, check_exact=True)
    with sl.steer(toy, direction(), alpha=-2.0):
        same(cell(result, alpha=-2.0), sl.evaluate(toy, problems).frame)


def test_the_model_is_left_as_it_was(toy, problems, swept):
    assert all(point.fwd_hooks == [] for point in toy.hook_dict.values())
    pd.testing.assert_frame_equal(sl.evaluate(toy, problems).frame, swept.baseline.frame, check_exact=True)


# How directions are given


def test_one_a_list_and_a_mapping_of_directions_say_the_same(toy, problems):
    frames = [sl.sweep(toy, problems, given, alphas=ALPHAS).frame for given in (direction(1), [direction(1)], {1: direction(1)})]
    pd.testing.assert_frame_equal(frames[0], frames[1])
    pd.testing.assert_frame_equal(frames[0], frames[2])


def test_a_mapping_says_where_each_direction_acts(toy, problems):
    result = sl.sweep(toy, problems, {0: direction(1), 2: direction(1)}, alphas=[1.0])
    for layer in (0, 2):
        with sl.steer(toy, direction(1), alpha=1.0, layer=layer):
            same(cell(result, layer=layer), sl.evaluate(toy, problems).frame)
    with pytest.raises(ValueError, match=r"layer=1: the directions are given as \{layer: direction\}.*; leave layer out"):
        sl.sweep(toy, problems, {0: direction(1)}, layer=1)


def test_another_layer_and_site_can_be_named(toy, problems):
    result = sl.sweep(toy, problems, direction(1), alphas=[1.0], layer=2, site="resid_pre")
    assert (set(result.frame["layer"]), result.settings["sites"]) == ({2}, ["resid_pre"])
    with sl.steer(toy, direction(1), alpha=1.0, layer=2, site="resid_pre"):
        same(cell(result), sl.evaluate(toy, problems).frame)


# Summaries, on made-up outcomes


def made_up(outcomes: dict[float, list[bool]], margins: dict[float, float] | None = None, layer: int = 0) -> sl.SweepResult:
    """A sweep with these right answers at each alpha."""
    ids = [f"p{i}" for i in range(len(outcomes[0.0]))]
    parts = [
        pd.DataFrame({"layer": layer, "alpha": alpha, "direction": "d", "problem_id": ids, "prediction": "", "correct": correct,
                      "margin": (margins or {}).get(alpha, 0.0), "nll": 1.0})
        for alpha, correct in outcomes.items()
    ]  # fmt: skip
    problems = tuple(sl.Problem(i, "x", 0, (" A", " B")) for i in ids)
    baseline = sl.Evaluation(problems, parts[list(outcomes).index(0.0)][OUTCOMES], "choice")
    return sl.SweepResult(pd.concat(parts, ignore_index=True), baseline, (), pd.DataFrame(), {})


def test_accuracy_change_and_intervals_by_hand():
    """Oracle: by hand; 1 of 4 right becomes 3 of 4, Wilson's interval from steerlab.statistics."""
    table = made_up({0.0: [True, False, False, False], 1.0: [True, True, True, False]}, {0.0: -1.0, 1.0: 0.5}).accuracy()
    assert table["alpha"].tolist() == [0.0, 1.0]
    assert table["correct"].tolist() == [1, 3]
    assert table["n"].tolist() == [4, 4]
    assert table["accuracy"].tolist() == [0.25, 0.75]
    assert table["change"].tolist() == [0.0, 0.5]
    assert table["margin_change"].tolist() == [0.0, 1.5]
    interval = sl.statistics.wilson_interval(3, 4)
    assert table.loc[1, ["low", "high"]].tolist() == [interval.low, interval.high]


def test_a_table_that_was_changed_does_not_change_the_next():
    result = made_up({0.0: [True, False], 1.0: [True, True]})
    table = result.accuracy()
    table["accuracy"] = 7.0
    assert result.accuracy()["accuracy"].tolist() == [0.5, 1.0]


def test_transitions_by_hand():
    """Oracle: by hand."""
    table = made_up({0.0: [True, True, True, False, False, False], 2.0: [True, True, False, True, False, False]}).transitions()
    assert table.set_index("alpha").loc[2.0, ["stayed_right", "became_right", "became_wrong", "stayed_wrong"]].tolist() == [2, 1, 1, 2]
    assert table.set_index("alpha").loc[0.0, ["stayed_right", "became_right", "became_wrong", "stayed_wrong"]].tolist() == [3, 0, 0, 3]


def test_what_became_right_is_not_what_became_wrong():
    table = made_up({0.0: [True, False, False, False], 2.0: [False, True, True, True]}).transitions().set_index("alpha")
    assert table.loc[2.0, ["stayed_right", "became_right", "became_wrong", "stayed_wrong"]].tolist() == [0, 3, 1, 0]


def test_transitions_add_up_to_the_problems_and_to_the_accuracy(swept, problems):
    moved, table = swept.transitions(), swept.accuracy()
    kinds = ["stayed_right", "became_right", "became_wrong", "stayed_wrong"]
    assert (moved[kinds].sum(axis=1) == len(problems)).all()
    both = moved.merge(table, on=KEYS)
    assert len(both) == len(table) == 9
    assert (both["stayed_right"] + both["became_right"] == both["correct"]).all()
    np.testing.assert_allclose((both["became_right"] - both["became_wrong"]) / len(problems), both["change"], atol=1e-12)


def test_the_best_cell_has_the_highest_accuracy_then_margin_then_the_smallest_alpha():
    right, wrong = [True, True], [True, False]
    assert made_up({-1.0: wrong, 0.0: right, 1.0: wrong, 2.0: right}).best()["alpha"] == 2.0
    assert made_up({0.0: wrong, 1.0: wrong, 2.0: right}, {1.0: 9.0, 2.0: -9.0}).best()["alpha"] == 2.0  # accuracy before margin
    tied = {-2.0: right, -1.0: right, 0.0: wrong, 1.0: right}
    assert made_up(tied, {-2.0: 3.0, -1.0: 2.0, 1.0: 1.0}).best()["alpha"] == -2.0
    assert made_up({-2.0: right, 0.0: wrong, 1.0: right}).best()["alpha"] == 1.0


def test_of_equal_cells_the_lower_layer_is_the_best_in_whichever_order_they_stand():
    outcomes = {0.0: [True, False], 1.0: [True, True]}
    for layers in ((4, 2), (2, 4)):
        parts = [made_up(outcomes, layer=layer) for layer in layers]
        both = sl.SweepResult(pd.concat([part.frame for part in parts], ignore_index=True), parts[0].baseline, (), pd.DataFrame(), {})
        assert both.best()["layer"] == 2


def test_the_best_cell_can_be_sought_on_one_side():
    right, wrong = [True, True], [True, False]
    result = made_up({-1.0: wrong, 0.0: right, 1.0: right})
    assert result.best(sign=-1)["alpha"] == -1.0
    assert result.best(sign=1)["alpha"] == 1.0
    with pytest.raises(ValueError, match=r"sign=-1: the sweep has no such alpha; its alphas are \[0.0, 1.0\]"):
        made_up({0.0: wrong, 1.0: right}).best(sign=-1)


def test_a_result_shows_itself(swept):
    assert repr(swept).startswith("SweepResult(9 cells x 10 problems, baseline accuracy 0.")
    speaks(swept)


# What is refused


@pytest.mark.parametrize(
    ("given", "options", "message"),
    [
        ([], {}, "no directions given; a sweep needs at least one"),
        (direction(), {"alphas": []}, r"alphas=\[\]; give at least one, each once"),
        (direction(), {"alphas": [1.0, 1]}, r"alphas=\[1.0, 1.0\]; give at least one, each once"),
        (direction(), {"alphas": [float("nan")]}, "alpha=nan is not a finite number"),
        ([direction(), direction(seed=1)], {}, "two directions are called 'direction' at layer 1; give each a name of its own"),
        ([direction(0), direction(2)], {"layer": 1}, "two directions are called 'direction' at layer 1"),
        (direction(3), {}, "layer=3: this model has 3 layers; use 0 to 2"),
        (direction(), {"site": "mlp"}, "site='mlp'; use one of"),
        (direction(), {"operator": "multiply"}, "operator='multiply'; use one of"),
        (direction(), {"positions": "first"}, "positions='first'; use all, last, prompt, generated"),
        (direction(), {"positions": 40}, r"position 40: a prompt has \d+ tokens"),
        (sl.Direction(torch.ones(16), 1), {}, "has 16 dimensions"),
        (sl.Direction(torch.ones(2, 32), 1), {}, "has 2 vectors but positions='last'"),
    ],
)
def test_bad_input_is_found_before_the_first_run(toy, problems, monkeypatch, given, options, message):
    monkeypatch.setattr(cells, "run_batch", lambda *args: pytest.fail("the model was run"))
    with pytest.raises(ValueError, match=message):
        sl.sweep(toy, problems, given, **options)


def test_a_resumed_run_that_disagrees_with_a_plain_run_is_an_error(toy, problems, monkeypatch):
    run_from = wavefront.run_from
    monkeypatch.setattr(wavefront, "run_from", lambda *args, **options: run_from(*args, **options) + 0.05)
    with pytest.raises(RuntimeError, match=r"layer 1, alpha 1.0: the resumed, batched run gives other scores than the plain hooked run"):
        sl.sweep(toy, problems, direction(), alphas=[1.0])


# What is said aloud


def test_cells_that_act_are_no_reason_for_a_warning(swept):
    assert swept.warnings() == []
    steered = swept.checks[swept.checks["alpha"] != 0]
    assert (steered[["calls", "resid_change", "score_change"]] > 0).all(axis=None)
    assert (swept.checks.loc[swept.checks["alpha"] == 0, ["calls", "resid_change", "score_change"]] == 0).all(axis=None)


@pytest.mark.parametrize("site", ["resid_pre", "resid_mid", "resid_post"])
def test_the_change_of_the_stream_is_relative_to_its_norm(toy, problems, site):
    """Oracle: alpha times the vector's norm over the smallest norm of the stream, from the magnitudes."""
    result = sl.sweep(toy, problems, direction(1, site=site), alphas=[0.5])
    smallest = sl.token_magnitudes(toy, problems, layers=[1], site=site).frame["norm"].min()
    assert result.checks["resid_change"][0] == pytest.approx(3.0 / smallest, rel=0.02)


def test_positions_that_no_prompt_has_are_said_to_show_nothing(toy, problems):
    said = sl.sweep(toy, problems, direction(), alphas=ALPHAS, positions="generated").warnings()
    assert said == ["Layer 1, direction: the intervention never acted in 2 of 2 cells; those cells show nothing."]


def test_an_alpha_too_small_to_move_anything_is_said_to_show_nothing(toy, problems):
    said = sl.sweep(toy, problems, direction(), alphas=[1e-30, 1.0]).warnings()
    assert len(said) == 1
    assert "1 of 2 cells changed no number that is read (it was too small to move the stream); this is not evidence of no effect" in said[0]


def test_a_place_that_the_answer_does_not_depend_on_is_said_to_show_nothing(toy, problems):
    said = sl.sweep(toy, problems, direction(2), alphas=[1.0], positions=0).warnings()
    assert "(the stream was moved, but no position that is read depends on it)" in said[0]
