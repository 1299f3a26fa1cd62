"""Draws of control pipelines: random directions at each layer, and permuted labels, against enumeration and estimates by hand."""

from collections import Counter
from dataclasses import replace
from itertools import combinations, islice, product

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from sklearn.metrics import roc_auc_score
from test_control_families import POSITIONS, acts, direction, rng, some

import steerlab as sl
from steerlab.directions.random import permuted, random_pipelines, separability, shuffled_pipelines

RIGHT, WRONG = acts(some(7, 2, 1, 16) + 0.5), acts(some(6, 2, 1, 16, seed=1), prefix="q")


def like(right=RIGHT, wrong=WRONG):
    """The directions under test: mean differences at both layers."""
    return {layer: sl.mean_difference(right, wrong, layer=layer) for layer in right.layers}


def drawn(pipelines, n, directions=None, seed=0):
    return list(islice(pipelines(like() if directions is None else directions, rng(seed)), n))


# Random pipelines


def test_random_pipelines_have_the_norm_of_the_direction_at_each_layer_and_position():
    several = direction(3, 16, positions=POSITIONS)
    given = {2: like()[2], 5: several}
    for one in drawn(random_pipelines, 5, given):
        assert list(one.directions) == [2, 5]
        assert one.separability is None
        for layer, found in one.directions.items():
            np.testing.assert_allclose(found.token_norms(), given[layer].token_norms(), rtol=1e-5)
            assert (found.layer, found.site, found.positions) == (given[layer].layer, given[layer].site, given[layer].positions)


def test_random_pipelines_are_isotropic_and_independent_between_layers_and_draws():
    """Simulation: squared cosines of independent directions are 1/16 in the mean, cosines 0, each with its standard error."""
    found = drawn(random_pipelines, 1000)
    units = torch.stack([torch.stack([one.vector / one.norm for one in pipeline.directions.values()]) for pipeline in found]).numpy()
    pairs = {
        "layers": (units[:, 0] * units[:, 1]).sum(-1),
        "draws": (units[1:, 0] * units[:-1, 0]).sum(-1),
        "the direction": units[:, 0] @ (like()[2].vector / like()[2].norm).numpy(),
    }
    for cosines in pairs.values():
        assert cosines.mean() == pytest.approx(0, abs=4 * 0.25 / 1000**0.5)
        assert (cosines**2).mean() == pytest.approx(1 / 16, abs=4 * float(np.std(cosines**2)) / 1000**0.5)


@pytest.mark.parametrize("pipelines", [random_pipelines, shuffled_pipelines(RIGHT, WRONG)])
def test_the_same_seed_gives_the_same_pipelines_one_after_the_other(pipelines):
    first, again, other = (drawn(pipelines, 4, seed=seed) for seed in (3, 3, 4))
    vectors = [[one.directions[layer].vector for one in found for layer in (2, 5)] for found in (first, again, other)]
    assert all(torch.equal(*pair) for pair in zip(*vectors[:2], strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(vectors[0], vectors[2], strict=True))
    assert len({tuple(vector.tolist()) for vector in vectors[0]}) == 8


# Permuted labels


def assignments(shuffle, n=400):
    """How often each set of problems was called right; the activations of a problem stay its own."""
    found, chance = Counter(), rng()
    for _ in range(n):
        ours, theirs = shuffle(chance)
        found["".join(sorted(ours.problem_ids))] += 1
        assert sorted(ours.problem_ids + theirs.problem_ids) == sorted(SIDES[0].problem_ids + SIDES[1].problem_ids)
    return found


LETTERS = acts(torch.arange(8.0)[:, None, None, None].expand(8, 2, 1, 1).clone())
LETTERS = sl.Activations(LETTERS.values, LETTERS.mask, tuple("abcdefgh"), (2, 5), "resid_post", "last", LETTERS.model)
SIDES = LETTERS.select("abc"), LETTERS.select("defgh")


def each_equally_often(found, expected):
    """By enumeration: exactly these sets, and a chi-square test that they are equally likely."""
    assert sorted(found) == sorted("".join(sorted(one)) for one in expected)
    assert chisquare(list(found.values())).pvalue > 1e-3


def test_without_groups_every_choice_of_as_many_problems_is_equally_likely():
    each_equally_often(assignments(permuted(*SIDES), 1000), combinations("abcdefgh", 3))
    each_equally_often(assignments(permuted(*SIDES, groups={letter: letter for letter in "abcdefgh"}), 1000), combinations("abcdefgh", 3))


def test_labels_are_permuted_within_groups_that_have_both():
    """a, d and e share a group, so that one of them is right; b, c, f, g and h another, of which two are."""
    groups = dict(zip("abcdefgh", "xyyxxyyy", strict=True))
    expected = ["".join(one) + "".join(two) for one, two in product("ade", combinations("bcfgh", 2))]
    each_equally_often(assignments(permuted(*SIDES, groups=groups)), expected)


def test_groups_of_one_label_change_sides_as_a_whole():
    """ab, c, de and fgh have one label each, two of them right: every two of the four may be right, whatever their sizes."""
    groups = dict(zip("abcdefgh", "xxyzzwww", strict=True))
    each_equally_often(assignments(permuted(*SIDES, groups=groups)), ["".join(pair) for pair in combinations(["ab", "c", "de", "fgh"], 2)])


def test_mixed_and_whole_groups_are_permuted_apart():
    """a, d and e are mixed, one of them right; bc, fg and h have one label each, one of the three right."""
    groups = dict(zip("abcdefgh", "xyyxxwwz", strict=True))
    each_equally_often(assignments(permuted(*SIDES, groups=groups)), [one + whole for one, whole in product("ade", ["bc", "fg", "h"])])


def test_pairs_change_sides_together_or_not_at_all():
    """By enumeration: 2^3 patterns of swaps."""
    pairs = LETTERS.select("abc"), LETTERS.select("def")
    found, chance = Counter(), rng()
    for _ in range(400):
        ours, theirs = permuted(*pairs, paired=True)(chance)
        assert all({a, b} in ({"a", "d"}, {"b", "e"}, {"c", "f"}) for a, b in zip(ours.problem_ids, theirs.problem_ids, strict=True))
        found["".join(sorted(ours.problem_ids))] += 1
    each_equally_often(found, ["".join(one) for one in product("ad", "be", "cf")])


@pytest.mark.parametrize("groups", [None, dict(zip("abcdefgh", "xyyxxwwz", strict=True))])
def test_the_activations_of_a_problem_stay_its_own(groups):
    for seed in range(5):
        for side in permuted(*SIDES, groups=groups)(rng(seed)):
            assert side.values[:, 0, 0, 0].tolist() == ["abcdefgh".index(letter) for letter in side.problem_ids]
            assert side.layers == (2, 5)
    assert permuted(*SIDES, groups=groups)(rng(), 5)[0].layers == (5,)


# Pipelines of permuted labels


@pytest.mark.parametrize("norm", ["match", "keep"])
@pytest.mark.parametrize("groups", [None, {f"{p}{i}": f"{p}{i // 2}" for p in "pq" for i in range(7)}])
def test_all_layers_have_one_permutation_and_the_estimator_on_it(norm, groups):
    """By hand: mean activations of what the estimator was given, which is the same problems at each layer."""
    given = []

    def estimator(ours, theirs, *, layer):
        given.append((layer, ours.problem_ids, theirs.problem_ids))
        return sl.mean_difference(ours, theirs, layer=layer)

    found = drawn(shuffled_pipelines(RIGHT, WRONG, estimator=estimator, norm=norm, groups=groups), 4)
    everything = dict(zip(RIGHT.problem_ids + WRONG.problem_ids, torch.cat([RIGHT.values, WRONG.values]), strict=True))
    for one, calls in zip(found, (given[:2], given[2:4], given[4:6], given[6:]), strict=True):
        assert calls[0][1:] == calls[1][1:]
        for layer, right, wrong in calls:
            at = RIGHT.layers.index(layer)
            means = [torch.stack([everything[name][at, 0] for name in side]).double().mean(0) for side in (right, wrong)]
            expected = means[0] - means[1]
            if norm == "match":
                expected *= like()[layer].norm / expected.norm()
            np.testing.assert_allclose(one.directions[layer].vector, expected, atol=1e-5)
            assert one.directions[layer].method["matched"] == {"match": "norm of each position", "keep": "nothing"}[norm]
    assert len({calls[1] for calls in given}) == 4


def test_what_a_contrast_is_worth_is_measured_on_the_permuted_labels():
    """Oracle: scikit-learn's area under the curve in each fold, with the same draws; the folds are the same at both layers."""
    (one,) = drawn(shuffled_pipelines(RIGHT, WRONG, folds=3), 1, seed=6)
    chance = rng(6)
    sides = permuted(RIGHT, WRONG)(chance)
    folds = np.random.default_rng(int(chance.integers(2**63)))
    labels = [folds.permutation(np.arange(len(side.problem_ids)) % 3) for side in sides]
    for layer in (2, 5):
        values, areas, weights = [side.at(layer)[:, 0].double().numpy() for side in sides], [], []
        for fold in range(3):
            fitted = values[0][labels[0] != fold].mean(0) - values[1][labels[1] != fold].mean(0)
            ours, theirs = (group[label == fold] @ fitted for group, label in zip(values, labels, strict=True))
            areas.append(roc_auc_score([1] * len(ours) + [0] * len(theirs), [*ours, *theirs]))
            weights.append(len(ours) * len(theirs))
        assert one.separability[layer] == pytest.approx(np.average(areas, weights=weights))
    assert one.separability != separability(RIGHT, WRONG, (2, 5), rng=rng(6), folds=3)


def test_a_contrast_is_worth_more_with_its_own_labels_than_with_permuted_ones():
    """Groups that differ by 2 standard deviations in each of 16 dimensions: about 1 against about 0.5."""
    right, wrong = acts(some(20, 2, 1, 16) + 2), acts(some(20, 2, 1, 16, seed=1), prefix="q")
    assert min(separability(right, wrong, (2, 5), rng=rng()).values()) > 0.99
    permuted_ones = [one.separability[2] for one in drawn(shuffled_pipelines(right, wrong), 30, like(right, wrong))]
    assert np.mean(permuted_ones) < 0.7
    assert len(set(permuted_ones)) > 10


def test_too_few_problems_for_two_folds_leave_separability_out():
    right, wrong = RIGHT.select(["p0"]), WRONG
    assert separability(right, wrong, (2, 5), rng=rng()) is None
    assert drawn(shuffled_pipelines(right, wrong), 1, like(right, wrong))[0].separability is None


def test_where_a_direction_acts_elsewhere_it_is_estimated_where_it_was_measured():
    """The directions of a pipeline stand by the layer at which they act; this one was measured at layer 2 and acts at 7."""
    (moved,), (here,) = (drawn(shuffled_pipelines(RIGHT, WRONG), 1, {layer: like()[2]}) for layer in (7, 2))
    assert torch.equal(moved.directions[7].vector, here.directions[2].vector)
    assert moved.separability == {7: here.separability[2]}


def test_a_group_that_lacks_a_directions_layer_is_named_when_pipelines_are_drawn():
    elsewhere = replace(WRONG, layers=(2, 9))
    assert list(drawn(shuffled_pipelines(RIGHT, elsewhere), 1, {2: like()[2]})[0].directions) == [2]
    with pytest.raises(ValueError, match="layer=5: cached were layers 2, 9"):
        drawn(shuffled_pipelines(RIGHT, elsewhere), 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"paired": True}, "the groups have 7 and 6 problems"),
        ({"groups": {}}, "groups: none for problem 'p0'"),
    ],
)
def test_bad_input_is_named_before_anything_is_drawn(options, message):
    with pytest.raises(ValueError, match=message):
        shuffled_pipelines(RIGHT, WRONG, **options)
