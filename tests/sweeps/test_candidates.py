"""Candidates: which layers and alphas a rule names, counted by hand; a rule is given directions and separability, and never an outcome."""

from inspect import signature

import numpy as np
import pytest
import torch

import steerlab as sl
from steerlab.sweeps.candidates import Cell

ALPHAS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)
WORTH = {0: 0.6, 1: 0.9, 2: 0.5, 3: 0.9, 4: 0.7}


def directions(norm=2.0, layers=5):
    """Directions of norm 2 at each layer."""
    return {layer: sl.Direction(torch.tensor([norm, 0.0]), layer) for layer in range(layers)}


def cells(rule, goal="raise", **given):
    return [tuple(cell) for cell in rule.candidates(given.pop("of", directions()), **given)[goal]]


def layers(rule, **given):
    return sorted({layer for layer, _ in cells(rule, **given)})


def alphas(rule, **given):
    return [alpha for layer, alpha in cells(rule, **given) if layer == cells(rule, **given)[0][0]]


def test_a_grid_leaves_out_only_alpha_0_and_is_one_for_both_goals():
    grid = sl.Grid((-1.0, 0.0, 2.0))
    assert cells(grid, of=directions(layers=2)) == cells(grid, "lower", of=directions(layers=2)) == [(0, -1), (0, 2), (1, -1), (1, 2)]
    assert isinstance(grid.candidates(directions())["raise"][0], Cell)


@pytest.mark.parametrize(("n_layers", "expected"), [(1, [1]), (2, [1, 3]), (3, [1, 3, 4]), (4, [0, 1, 3, 4]), (9, [0, 1, 2, 3, 4])])
def test_the_layers_of_best_separability_are_kept_and_of_equals_the_lower(n_layers, expected):
    assert layers(sl.Shortlist(ALPHAS, WORTH, n_layers=n_layers)) == expected


@pytest.mark.parametrize(("n_layers", "expected"), [(1, [2]), (2, [0, 4]), (3, [0, 2, 4]), (5, [0, 1, 2, 3, 4]), (8, [0, 1, 2, 3, 4])])
def test_without_separability_layers_are_evenly_spread(n_layers, expected):
    rule = sl.Shortlist(ALPHAS, n_layers=n_layers)
    assert layers(rule) == expected
    assert layers(rule, separability=WORTH) == expected  # a control's own changes nothing where the direction's was not asked


def test_a_controls_own_separability_is_what_its_shortlist_goes_by():
    rule = sl.Shortlist(ALPHAS, WORTH)
    assert layers(rule, separability={0: 0.9, 1: 0.5, 2: 0.95, 3: 0.5, 4: 0.5}) == [0, 2]
    assert layers(rule, separability=None) == [1, 3]


@pytest.mark.parametrize(
    ("norm", "most", "expected"),
    [
        (2.0, 1.0, [-2, -1, 1, 2]),  # |alpha| * 2 / 4 <= 1
        (2.0, 0.5, [-1, 1]),
        (4.0, 1.0, [-1, 1]),
        (0.5, 1.0, [-3, -2, -1, 1, 2, 3]),
        (40.0, 1.0, [-1, 1]),  # none is short enough: the smallest
    ],
)
def test_alphas_are_those_up_to_a_relative_dose(norm, most, expected):
    """By hand: the median norm of the stream is 4 at each layer."""
    rule = sl.Shortlist(ALPHAS, WORTH, dict.fromkeys(range(5), 4.0), most=most)
    assert alphas(rule, of=directions(norm)) == expected


def test_a_dose_is_that_of_each_layer():
    rule = sl.Shortlist(ALPHAS, WORTH, {layer: {1: 2.0, 3: 6.0}.get(layer, 1.0) for layer in range(5)})
    assert cells(rule) == [(1, -1), (1, 1), *((3, alpha) for alpha in ALPHAS if alpha)]
    moved = {layer: sl.Direction(torch.tensor([2.0, 0.0]), 0) for layer in range(5)}  # measured at layer 0, acting at each
    assert cells(rule, of=moved) == cells(rule)
    assert sl.relative_dose(directions()[1], -3.0, 6.0) == pytest.approx(1)


@pytest.mark.parametrize(
    ("n_alphas", "expected"),
    [
        (2, [-3, 3]),  # of 1 … 5 the middle one
        (4, [-5, -1, 1, 5]),
        (5, [-5, -1, 1, 5]),
        (6, [-5, -3, -1, 1, 3, 5]),
        (10, [-5, -4, -3, -2, -1, 1, 2, 3, 4, 5]),
    ],
)
def test_of_many_alphas_a_few_of_each_sign_are_evenly_spread(n_alphas, expected):
    rule = sl.Shortlist(tuple(float(alpha) for alpha in range(-5, 6)), n_layers=1, n_alphas=n_alphas)
    assert alphas(rule) == expected
    assert len(expected) <= n_alphas


@pytest.mark.parametrize("n_alphas", [2, 6])
def test_a_preset_is_one_cell_a_goal_at_the_best_layer_and_the_largest_alpha_of_its_sign(n_alphas):
    rule = sl.Shortlist(ALPHAS, WORTH, dict.fromkeys(range(5), 4.0), preset=True, n_alphas=n_alphas)
    assert rule.candidates(directions()) == {"raise": ((1, 2.0),), "lower": ((1, -2.0),)}
    assert rule.candidates(directions(), {**WORTH, 4: 0.99}) == {"raise": ((4, 2.0),), "lower": ((4, -2.0),)}
    up = sl.Shortlist((0.0, 1.0, 3.0), preset=True, n_alphas=n_alphas)
    assert up.candidates(directions()) == {"raise": ((2, 3.0),)}  # nothing would lower


def test_both_goals_have_the_same_candidates_unless_they_are_preset():
    found = sl.Shortlist(ALPHAS, WORTH).candidates(directions())
    assert found["raise"] == found["lower"]
    assert list(found) == ["raise", "lower"]


@pytest.mark.parametrize("rule", [sl.Grid, sl.Shortlist])
def test_no_rule_is_given_an_outcome(rule):
    assert list(signature(rule.candidates).parameters) == ["self", "directions", "separability"]


@pytest.mark.parametrize(
    "rule",
    [
        sl.Grid(ALPHAS),
        sl.Shortlist(ALPHAS, WORTH),
        sl.Shortlist(ALPHAS, WORTH, dict.fromkeys(range(5), 4.0)),
        sl.Shortlist(ALPHAS, preset=True),
    ],
)
def test_directions_of_equal_norms_have_equal_candidates(rule):
    """So random controls, whose norms are matched, are compared at the same cells."""
    turned = {layer: one.with_vector(torch.tensor([0.0, -one.norm]), "turned") for layer, one in directions().items()}
    assert rule.candidates(turned) == rule.candidates(directions())


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (sl.Grid(()), r"alphas=\[\]; give at least one other than 0"),
        (sl.Grid((0.0,)), r"alphas=\[0.0\]; give at least one other than 0"),
        (sl.Shortlist((0.0,)), r"alphas=\[0.0\]; give at least one other than 0"),
        (sl.Shortlist(ALPHAS, n_layers=0), "n_layers=0"),
        (sl.Shortlist(ALPHAS, n_alphas=1), "n_alphas=1"),
        (sl.Shortlist(ALPHAS, resid_norms=dict.fromkeys(range(5), 0.0)), "resid_norm=0.0"),
        (sl.Shortlist(ALPHAS, resid_norms=dict.fromkeys(range(5), np.nan)), "resid_norm=nan"),
    ],
)
def test_a_rule_that_names_nothing_is_refused(rule, message):
    with pytest.raises(ValueError, match=message):
        rule.candidates(directions())


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (sl.Grid(ALPHAS), "every layer and alpha"),
        (sl.Shortlist(ALPHAS), "the 2 layers, evenly spread, and 6 alphas, evenly spread"),
        (
            sl.Shortlist(ALPHAS, WORTH, {0: 4.0}),
            "the 2 layers whose contrast separates held-out problems best, and 6 alphas up to a relative dose of 1 (where all are beyond it, the smallest), evenly spread",
        ),
        (sl.Shortlist(ALPHAS, preset=True), "the layer in the middle, and the largest alpha of the goal's sign"),
    ],
)
def test_a_rule_says_itself_in_words(rule, words):
    assert str(rule) == words
