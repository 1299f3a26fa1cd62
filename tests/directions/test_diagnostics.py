"""Diagnostics of a contrast: the statistics of each layer's activations, pairs kept together, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from results import speaks

import steerlab as sl
import steerlab.statistics as st

LAYERS = (2, 5, 7)


def acts(values: np.ndarray, prefix: str = "p", positions="last") -> sl.Activations:
    mask = torch.ones(values.shape[0], values.shape[2], dtype=torch.bool)
    ids = tuple(f"{prefix}{i}" for i in range(len(values)))
    return sl.Activations(torch.from_numpy(values).float(), mask, ids, LAYERS, "resid_post", positions, {"name": "m"})


def groups(shift=(0.0, 1.0, 3.0), n: int = 20, m: int = 15, width: int = 1, prefix: str = "q") -> tuple[sl.Activations, sl.Activations]:
    """The layers differ in how far the groups are apart."""
    rng = np.random.default_rng(0)
    ours, theirs = rng.standard_normal((n, 3, width, 12)), rng.standard_normal((m, 3, width, 12))
    return acts(ours + np.array(shift)[:, None, None]), acts(theirs, prefix)


def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def test_layers_that_differ_more_are_more_separable_and_more_stable():
    found = sl.contrast_diagnostics(*groups(), rng=rng())
    frame = found.frame
    assert frame["layer"].tolist() == list(LAYERS)
    assert frame["auc"].is_monotonic_increasing
    assert frame["stability"].is_monotonic_increasing
    assert frame["auc_low"].iloc[0] < 0.5 < frame["auc_low"].iloc[1]
    assert frame["auc"].iloc[2] == 1.0
    assert (frame["stability_low"] <= frame["stability"]).all()
    assert "agreement" not in frame
    assert not found.paired
    assert not frame.isna().any().any()


def test_the_numbers_are_those_of_the_statistics():
    """Oracle: steerlab.statistics on the activations, mean_difference for the norm, and the harmonic mean by hand."""
    ours, theirs = groups()
    found = sl.contrast_diagnostics(ours, theirs, rng=rng(), layers=5).at(5)
    a, b = ours.values[:, 1, 0].double().numpy(), theirs.values[:, 1, 0].double().numpy()
    assert found.norm == pytest.approx(sl.mean_difference(ours, theirs, layer=5).norm)
    assert found.effective_dimension == pytest.approx(st.effective_dimension(np.concatenate([a - a.mean(0), b - b.mean(0)])))
    assert found.effective_n == pytest.approx(2 / (1 / 20 + 1 / 15))
    assert len(found.auc.by_fold) == 5
    assert len(found.stability.cosines) == 200


def test_several_positions_count_as_one_long_vector():
    wide, narrow = groups(width=3), groups(width=1)
    found = sl.contrast_diagnostics(*wide, rng=rng())
    flat = tuple(acts(g.values.flatten(2).double().numpy()[:, :, None], g.problem_ids[0][0]) for g in wide)
    np.testing.assert_allclose(found.frame, sl.contrast_diagnostics(*flat, rng=rng()).frame)
    assert found.at(5).effective_dimension > sl.contrast_diagnostics(*narrow, rng=rng()).at(5).effective_dimension


def test_folds_and_halves_are_the_same_at_every_layer():
    values = np.repeat(np.random.default_rng(0).standard_normal((20, 1, 1, 6)), 3, axis=1)
    frame = sl.contrast_diagnostics(acts(values[:10] + 0.5), acts(values[10:], "q"), rng=rng()).frame.drop(columns="layer")
    assert (frame.nunique() == 1).all()


def test_the_same_problems_are_pairs_whatever_their_order():
    """Oracle: differences by hand; a common part of each problem, which pairs cancel, swamps the groups."""
    random = np.random.default_rng(0)
    own = 50 * random.standard_normal((16, 3, 1, 12))
    ours, theirs = acts(own + 1 + 0.5 * random.standard_normal(own.shape)), acts(own + 0.5 * random.standard_normal(own.shape))
    shuffled = theirs.select([f"p{i}" for i in random.permutation(16)])
    found = sl.contrast_diagnostics(ours, shuffled, rng=rng())
    differences = (ours.values.double() - theirs.values.double())[:, 1, 0].numpy()
    assert found.paired
    assert found.at(5).agreement == st.directional_agreement(differences)
    assert found.at(5).effective_n == 16
    assert found.at(5).effective_dimension == pytest.approx(st.effective_dimension(differences))
    assert found.frame["agreement"].min() > 0.7
    assert found.frame["stability"].min() > 0.9  # of pairs, halves hold whole problems
    apart = sl.contrast_diagnostics(ours, shuffled, rng=rng(), pairs=False)
    assert not apart.paired
    assert apart.frame["stability"].max() < 0.9


def test_copies_do_not_count():
    ours, theirs = groups(n=10, m=10)
    twice = replace(ours, values=ours.values.repeat(4, 1, 1, 1), mask=ours.mask.repeat(4, 1), problem_ids=tuple(f"p{i}" for i in range(40)))
    found = sl.contrast_diagnostics(twice, replace_four(theirs), rng=rng())
    assert found.at(5).effective_n == pytest.approx(10)
    assert "Many problems are copies of each other: 40 and 40 count as 10 a group." in found.warnings()


def replace_four(group: sl.Activations) -> sl.Activations:
    ids = tuple(f"q{i}" for i in range(40))
    return replace(group, values=group.values.repeat(4, 1, 1, 1), mask=group.mask.repeat(4, 1), problem_ids=ids)


def test_the_same_seed_gives_the_same_numbers():
    one, again = (sl.contrast_diagnostics(*groups(), rng=rng()).frame for _ in range(2))
    other = sl.contrast_diagnostics(*groups(), rng=np.random.default_rng(5)).frame
    assert one.equals(again)
    assert not one.equals(other)


def test_a_direction_that_rests_on_little_is_said_aloud():
    said = sl.contrast_diagnostics(*groups(), rng=rng()).warnings()
    assert any(line.startswith("Layer 2: held-out problems are not separated") for line in said)
    assert any(line.startswith("Layer 2: directions of random halves") for line in said)
    assert sl.contrast_diagnostics(*groups(), rng=rng(), layers=[7]).warnings() == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda a, b: sl.contrast_diagnostics(a, b, rng=rng(), layers=3), "layer=3: cached were layers 2, 5, 7"),
        (lambda a, b: sl.contrast_diagnostics(a, b, rng=rng(), layers=[]), "layers is empty"),
        (lambda a, b: sl.contrast_diagnostics(a, b, rng=rng(), pairs=True), "the groups have 20 and 15 problems, 0 of them in common"),
        (
            lambda a, b: sl.contrast_diagnostics(a, replace(b, problem_ids=("p0", *b.problem_ids[1:])), rng=rng()),
            "the groups have 20 and 15 problems, 1 of them in common; give both the same problems",
        ),
        (lambda a, b: sl.contrast_diagnostics(a, b, rng=rng(), folds=16), "folds=16: the smaller group has 15 rows"),
        (lambda a, b: sl.contrast_diagnostics(a, b.select([]), rng=rng()), "the incorrect group is empty"),
        (lambda a, b: sl.contrast_diagnostics(a, replace(b, site="resid_pre"), rng=rng()), "the groups differ in site"),
        (
            lambda a, b: sl.contrast_diagnostics(a, replace(a, problem_ids=tuple("abcdefghijklmnopqrst")), rng=rng()),
            "is zero: the two groups",
        ),
        (lambda a, b: sl.contrast_diagnostics(a, b, rng=rng()).at(3), "layer=3: these are of layers 2, 5, 7"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(*groups())


def test_a_model_gives_what_its_activations_hold(toy_model, backends):
    model, problems = toy_model(backends[0]), sl.load_task("arithmetic", n_train=16, n_validation=0, n_test=0).train
    cached = sl.cache_activations(model, problems, layers=[0, 2])
    ids = cached.problem_ids
    found = sl.contrast_diagnostics(cached.select(ids[:8]), cached.select(ids[8:]), rng=rng(), folds=4)
    assert found.frame["layer"].tolist() == [0, 2]
    assert found.frame["auc"].between(0, 1).all()


def test_a_result_shows_itself():
    found = sl.contrast_diagnostics(*groups(), rng=rng())
    assert repr(found).startswith("ContrastDiagnostics(20 against 15, 3 layers; layer 7: held-out AUC 1.000")
    speaks(found)
