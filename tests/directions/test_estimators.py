"""Estimators of directions: place and provenance, sign and length, several positions, what is refused."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

import steerlab as sl

MODEL = {"name": "m", "processing": "raw"}
PAIRED = {
    "pca of differences": partial(sl.pca_direction, paired=True),
    "paired probe": partial(sl.probe_direction, paired=True),
    "paired contrastive": partial(sl.contrastive_direction, paired=True),
}
ALL = {**sl.ESTIMATORS, **PAIRED}
SCALED = {name: estimator for name, estimator in ALL.items() if name != "mean_difference"}


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def acts(n: int, *, shift: float = 0.0, positions="last", pos: int = 1, seed: int = 0, d: int = 8, **changed) -> sl.Activations:
    values = rng(seed).laplace(size=(n, pos, d)) ** 3 * np.linspace(0.5, 2, d) + shift * np.arange(d) / d
    return replace(sl.as_activations(values, layer=4, site="resid_mid", positions=positions), model=MODEL, **changed)


RIGHT, WRONG = acts(20, shift=1.0), acts(20, seed=1)


@pytest.mark.parametrize("name", ALL)
def test_each_estimator_says_where_and_how_it_found_a_direction_that_points_from_negative_to_positive(name, tmp_path):
    direction = ALL[name](RIGHT, WRONG, layer=4)
    assert (direction.layer, direction.site, direction.positions, direction.model) == (4, "resid_mid", "last", MODEL)
    assert 20 in direction.method.values()
    assert direction.method["estimator"]
    difference = sl.mean_difference(RIGHT, WRONG, layer=4)
    assert float(direction.vector @ difference.vector) > 0
    assert direction.norm == pytest.approx(difference.norm, rel=1e-5)
    again = sl.load_direction(sl.save_direction(tmp_path / "d.safetensors", direction))  # what is recorded can be written
    assert torch.equal(again.vector, ALL[name](RIGHT, WRONG, layer=4).vector)  # and the same input gives the same bytes


@pytest.mark.parametrize("name", SCALED)
def test_three_scales_are_three_lengths_of_one_direction(name):
    one, unit, own = (SCALED[name](RIGHT, WRONG, layer=4, scale=scale) for scale in ("contrast", "unit", "natural"))
    assert unit.norm == pytest.approx(1)
    torch.testing.assert_close(one.vector / one.norm, unit.vector, rtol=0, atol=1e-6)
    torch.testing.assert_close(own.vector / own.norm, unit.vector, rtol=0, atol=1e-6)
    assert own.norm != pytest.approx(one.norm, rel=1e-3)
    assert [d.method["scale"] for d in (one, unit, own)] == ["contrast", "unit", "natural"]
    with pytest.raises((ValueError, TypeError), match=r"scale='long'; use contrast|Type-check"):
        SCALED[name](RIGHT, WRONG, layer=4, scale="long")


@pytest.mark.parametrize("name", ALL)
def test_several_positions_are_fitted_one_by_one(name):
    positions = (0, 2, -1)
    right, wrong = acts(20, shift=1.0, pos=3, positions=positions), acts(20, seed=1, pos=3, positions=positions)
    direction = ALL[name](right, wrong, layer=4)
    assert direction.positions == positions
    for k in range(3):
        parts = [replace(g, values=g.values[:, :, [k]], mask=g.mask[:, [k]], positions="last") for g in (right, wrong)]
        torch.testing.assert_close(direction.vector[k], ALL[name](*parts, layer=4).vector, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_a_position_at_which_nothing_varies_gets_no_vector(name):
    """As the first token of every prompt: its activation is the same, but for rounding."""
    right, wrong = (acts(20, shift=s, pos=2, positions=(0, -1), seed=k) for s, k in ((1.0, 0), (0.0, 1)))
    for group in (right, wrong):
        group.values[:, :, 0] = 7.0
    direction = ALL[name](right, wrong, layer=4)
    assert direction.token_norms()[0] == 0
    assert direction.token_norms()[1] > 0


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        (RIGHT, replace(WRONG, site="resid_pre"), "the groups differ in site"),
        (RIGHT, replace(WRONG, model={**MODEL, "name": "other"}), "the groups differ in model"),
        (RIGHT, replace(WRONG, positions="mean"), "the groups differ in positions"),
        (RIGHT, WRONG.select([]), "the incorrect group is empty"),
        (replace(RIGHT, layers=(2,)), replace(WRONG, layers=(2,)), "layer=4: cached were layers 2"),
        (RIGHT, RIGHT, "is zero: the two groups do not differ"),
    ],
)
def test_groups_that_cannot_be_contrasted_are_refused(name, right, wrong, message):
    with pytest.raises(ValueError, match=message):
        ALL[name](right, wrong, layer=4)


@pytest.mark.parametrize("name", SCALED)
def test_broken_activations_are_counted(name):
    broken = replace(WRONG, values=WRONG.values.clone())
    broken.values[3, 0, 0, 1] = float("nan")
    with pytest.raises(ValueError, match="1 of the 20 problems in the negative group have activations that are NaN"):
        SCALED[name](RIGHT, broken, layer=4)


@pytest.mark.parametrize("name", PAIRED)
def test_pairs_are_as_many_on_both_sides(name):
    with pytest.raises(ValueError, match="paired=True: the groups have 20 and 7 problems; row i of both must be one pair"):
        PAIRED[name](RIGHT, acts(7, seed=1), layer=4)


@pytest.mark.parametrize("name", sl.ESTIMATORS)
def test_groups_of_different_sizes_are_welcome_elsewhere(name):
    assert sl.ESTIMATORS[name](RIGHT, acts(7, seed=1), layer=4).norm > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (partial(sl.pca_direction, component=8), "component=8: there are 8; use 0 to 7"),
        (partial(sl.pca_direction, component=-1), "component=-1"),
        (partial(sl.singular_direction, centre="middle"), "centre='middle'; use one of own, negative, none"),
        (partial(sl.singular_directions, n=0), "n=0; use at least 1"),
        (partial(sl.ica_direction, components=9), "components=9: 40 problems have 8 dimensions here; use 1 to 8"),
        (partial(sl.ica_direction, components=3, component=3), "component=3: there are 3"),
        (partial(sl.probe_direction, l2=0.0), "l2=0.0; use a positive number"),
        (partial(sl.contrastive_direction, margin=-1.0), "margin=-1.0; use a positive number"),
        (partial(sl.lda_direction, shrinkage=1.5), "shrinkage=1.5; use 'auto'"),
        (partial(sl.random_direction, rng=rng(), scale="natural"), "a random direction has no length of its own"),
        (partial(sl.shuffled_label_direction, rng=rng(), scale="long"), "scale='long'; use one of"),
    ],
)
def test_settings_that_make_no_sense_are_refused(call, message):
    with pytest.raises((ValueError, TypeError), match=message + "|parameter '(centre|scale)'"):
        call(RIGHT, WRONG, layer=4)


def test_a_covariance_without_inverse_asks_for_shrinkage():
    few = [acts(3, shift=s, seed=k) for s, k in ((1.0, 0), (0.0, 1))]
    with pytest.raises(ValueError, match="shrinkage=0: 6 problems span 4 of 8 dimensions"):
        sl.lda_direction(*few, layer=4, shrinkage=0)
    assert sl.lda_direction(*few, layer=4).norm > 0


@pytest.mark.parametrize("name", ["probe", "contrastive", "lda", "whitened_mean_difference"])
def test_single_problems_leave_nothing_to_weigh_by(name):
    """One problem a group has a mean difference and no spread."""
    with pytest.raises(ValueError, match="the problems of each group are all alike"):
        sl.ESTIMATORS[name](acts(1, shift=1.0), acts(1, seed=1), layer=4)


def test_singular_directions_are_orthogonal_and_come_in_order():
    found = sl.singular_directions(RIGHT, WRONG, layer=4, n=4, scale="natural")
    assert [one.name for one in found] == [f"singular {k}" for k in range(4)]
    rows = torch.stack([one.vector for one in found])
    torch.testing.assert_close(rows @ rows.T, torch.diag(rows.square().sum(1)), rtol=1e-5, atol=1e-4)
    assert sorted(one.norm for one in found) == [one.norm for one in found][::-1]


def test_ica_that_does_not_converge_says_so():
    """Gaussian activations have no independent components to find."""
    right, wrong = (sl.as_activations(rng(k).standard_normal((100, 24)) + shift, layer=4) for k, shift in ((2, 0.2), (3, 0.0)))
    with pytest.warns(UserWarning, match="ICA did not converge with components=24; ask for fewer"):
        direction = sl.ica_direction(right, wrong, layer=4, components=24)
    assert direction.method["components"] == [24]
    fewer = sl.ica_direction(right, wrong, layer=4)  # asks for as many as it can have
    assert fewer.method["components"][0] in (1, 2, 4, 8)


def test_ica_starts_at_random_only_where_asked():
    one, again, other = (sl.ica_direction(RIGHT, WRONG, layer=4, components=3, rng=rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(one.vector, again.vector)
    assert not torch.equal(one.vector, other.vector)


def test_what_knows_nothing_has_the_length_and_place_of_the_contrast():
    difference = sl.mean_difference(RIGHT, WRONG, layer=4)
    for draw, estimator in ((sl.random_direction, "random_isotropic"), (sl.shuffled_label_direction, "shuffled_labels")):
        one, again, other = (draw(RIGHT, WRONG, layer=4, rng=rng(seed)) for seed in (1, 1, 2))
        assert torch.equal(one.vector, again.vector)
        assert not torch.equal(one.vector, other.vector)
        assert one.norm == pytest.approx(difference.norm, rel=1e-5)
        assert (one.method["estimator"], one.site, one.model) == (estimator, "resid_mid", MODEL)
        assert draw(RIGHT, WRONG, layer=4, rng=rng(), scale="unit").norm == pytest.approx(1)


def test_shuffled_labels_take_any_estimator_and_its_options():
    direction = sl.shuffled_label_direction(
        RIGHT, WRONG, layer=4, rng=rng(), estimator=sl.pca_direction, paired=True, scale="natural", centre=True
    )
    assert (direction.method["of"], direction.method["paired"]) == ("pca_direction", True)


@pytest.mark.parametrize("name", ALL)
def test_every_estimator_can_be_a_family_of_controls(name):
    direction = ALL[name](RIGHT, WRONG, layer=4)
    drawn = sl.shuffled_labels(RIGHT, WRONG, estimator=ALL[name], paired=name in PAIRED)(direction, 3, rng=rng())
    assert len({control.norm for control in drawn} | {direction.norm}) <= 4
    assert all(control.norm == pytest.approx(direction.norm, rel=1e-5) for control in drawn)


def test_arrays_become_activations():
    made = sl.as_activations(np.ones((3, 2, 4), np.float16), layer=2, positions=[0, -1], ids=["a", "b", "c"])
    assert (made.values.shape, made.values.dtype, made.positions, made.problem_ids) == (
        (3, 1, 2, 4),
        torch.float32,
        (0, -1),
        ("a", "b", "c"),
    )
    for values, options, message in (
        (np.ones(3), {}, r"values have shape \[3\]; use \[problem, d_model\]"),
        (np.ones((3, 2, 4)), {"positions": [0]}, "1 positions for values at 2"),
        (np.ones((3, 4)), {"ids": ["a"]}, "1 ids for 3 problems"),
    ):
        with pytest.raises(ValueError, match=message):
            sl.as_activations(values, layer=2, **options)


# Function vectors


def test_the_sources_prompts_ask_to_reason_or_to_answer():
    """Oracle: the sources' text."""
    pairs = sl.reasoning_pairs()
    assert len(pairs) == 10
    assert pairs[1] == (
        "Question: Solve 24 * 12.\nLet's think step by step to find the correct answer:\n",
        "Question: Solve 24 * 12.\nAnswer:",
    )
    assert sl.reasoning_pairs(["{x}?"], reasoning="a {query}", direct="b {query}") == [("a {x}?", "b {x}?")]
    with pytest.raises(ValueError, match=r"direct='Answer:' has no \{query\}"):
        sl.reasoning_pairs(direct="Answer:")
    with pytest.raises(ValueError, match="give a list of at least one question"):
        sl.reasoning_pairs("one question")


def test_a_function_vector_is_the_mean_difference_of_its_prompts(toy_model, backend):
    """Oracle: both lists of prompts cached as problems."""
    pairs = [(f"{problem.prompt} A", problem.prompt) for problem in sl.load_task("arithmetic").train[:4]]
    direction = sl.function_vector(toy_model(backend), pairs, layer=2, site="resid_pre")
    lists = [[sl.Problem(str(i), pair[k], "") for i, pair in enumerate(pairs)] for k in (0, 1)]
    means = [sl.cache_activations(toy_model(backend), one, layers=2, site="resid_pre").values.double().mean(0)[0, 0] for one in lists]
    torch.testing.assert_close(direction.vector.double(), means[0] - means[1], rtol=0, atol=1e-6)
    assert (direction.layer, direction.site, direction.method["estimator"]) == (2, "resid_pre", "function_vector")
    assert direction.method["pairs"] == [list(pair) for pair in pairs]
    unit = sl.function_vector(toy_model(backend), pairs, layer=2, site="resid_pre", normalise=True)
    torch.testing.assert_close(unit.vector, direction.vector / direction.norm, rtol=0, atol=1e-6)


def test_the_sources_queries_make_a_function_vector_of_a_real_language_model(stories, backend):
    direction = sl.function_vector(stories(backend), layer=2)
    assert len(direction.method["pairs"]) == 10
    assert direction.norm > 0


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "no pairs of prompts given"),
        ([("a", "b", "c")], "pair 0 is .* give two prompts"),
        (["ab"], "pair 0 is 'ab'; give two prompts"),
        ([("a", "a")], "pair 0: both prompts are 'a'"),
    ],
)
def test_pairs_of_prompts_are_two_that_differ(toy_model, backend, pairs, message):
    with pytest.raises((ValueError, TypeError), match=message + "|Type-check"):
        sl.prompt_contrast(toy_model(backend), pairs, layers=1)


@pytest.mark.parametrize("name", list(sl.ESTIMATORS))
def test_estimators_take_plain_arrays_tensors_and_frames(name):
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(12, 5)) + 1, rng.normal(size=(12, 5))
    wanted = sl.ESTIMATORS[name](sl.as_activations(ours, layer=2), sl.as_activations(theirs, layer=2), layer=2).vector
    kinds = (np.asarray, pd.DataFrame, torch.as_tensor, lambda values: torch.as_tensor(values).requires_grad_())
    for kind in kinds:
        found = sl.ESTIMATORS[name](kind(ours), kind(theirs), layer=2)
        assert torch.equal(found.vector, wanted)
        assert (found.layer, found.site) == (2, "resid_post")
    several = sl.mean_difference(ours.reshape(4, 3, 5), theirs.reshape(4, 3, 5), layer=2)
    assert several.positions == (0, 1, 2)
    with pytest.raises(ValueError, match="the groups have 5 and 4 dimensions"):
        sl.ESTIMATORS[name](ours, theirs[:, :4], layer=2)
