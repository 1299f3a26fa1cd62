"""Families of controls: norms, places, names, what they are drawn from, and what is refused."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

import steerlab as sl

MODEL = {"name": "m", "processing": "raw"}
POSITIONS = (0, 3, -1)


def some(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def acts(values: torch.Tensor, *, positions="last", prefix="p", **options) -> sl.Activations:
    """Activations ``[problem layer pos d_model]`` at layers 2 and 5."""
    mask = torch.ones(values.shape[0], values.shape[2], dtype=torch.bool)
    ids = tuple(f"{prefix}{i}" for i in range(len(values)))
    return replace(sl.Activations(values, mask, ids, (2, 5), "resid_post", positions, MODEL), **options)


def direction(*shape: int, positions="last", name="mine") -> sl.Direction:
    scale = torch.tensor([[1.0], [20.0], [0.01]]) if len(shape) == 2 else 3.0
    return sl.Direction(some(*shape, seed=9) * scale, 5, "resid_post", positions, name, {}, MODEL)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


ONE, SEVERAL = direction(16), direction(3, 16, positions=POSITIONS)
OTHERS = [sl.Direction(some(16, seed=k), 5, name=f"task {k}") for k in range(20, 30)]
OTHERS_SEVERAL = [sl.Direction(some(3, 16, seed=k), 5, positions=POSITIONS, name=f"task {k}") for k in range(20, 30)]
FAMILIES = {
    "orthogonal": (sl.orthogonal_directions, sl.orthogonal_directions),
    "covariance_matched": (
        sl.covariance_matched(acts(some(7, 2, 1, 16))),
        sl.covariance_matched(acts(some(7, 2, 3, 16), positions=POSITIONS)),
    ),
    "shuffled_labels": (
        sl.shuffled_labels(acts(some(6, 2, 1, 16)), acts(some(5, 2, 1, 16, seed=1), prefix="q")),
        sl.shuffled_labels(acts(some(6, 2, 3, 16), positions=POSITIONS), acts(some(5, 2, 3, 16, seed=1), positions=POSITIONS, prefix="q")),
    ),
    "other_task": (sl.other_task(OTHERS), sl.other_task(OTHERS_SEVERAL)),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("several", [False, True])
def test_every_family_matches_norms_position_by_position_and_says_what_it_is(family, several):
    like = SEVERAL if several else ONE
    drawn = FAMILIES[family][several](like, 9, rng=rng())
    assert len({control.name for control in drawn}) == len(drawn) == 9
    for control in drawn:
        np.testing.assert_allclose(control.token_norms(), like.token_norms(), rtol=1e-5)
        assert (control.layer, control.site, control.positions, dict(control.model)) == (5, "resid_post", like.positions, MODEL)
        assert (control.method["estimator"], control.method["matched"]) == (family, "norm of each position")
    assert len({tuple(control.vector.flatten().tolist()) for control in drawn}) == 9


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_seed_gives_the_same_controls(family):
    first, again, other = (FAMILIES[family][0](ONE, 4, rng=rng(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(a.vector, b.vector) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a.vector, b.vector) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("n", [0, -1, True])
def test_at_least_one_control_is_drawn(family, n):
    with pytest.raises(ValueError, match=f"n={n}; use at least 1 random direction"):
        FAMILIES[family][0](ONE, n, rng=rng())


@pytest.mark.parametrize("family", FAMILIES)
def test_random_control_takes_every_family(family, toy_model, backends):
    model, problems = toy_model(backends[0]), sl.load_task("arithmetic", n_train=6, n_validation=0, n_test=0).train
    layer = 1
    cached = sl.cache_activations(model, problems, layers=[layer])
    ids = cached.problem_ids
    right, wrong = cached.select(ids[:3]), cached.select(ids[3:])
    like = sl.mean_difference(right, wrong, layer=layer)
    draw = {
        "orthogonal": sl.orthogonal_directions,
        "covariance_matched": sl.covariance_matched(cached),
        "shuffled_labels": sl.shuffled_labels(right, wrong),
        "other_task": sl.other_task([like.with_vector(some(32, seed=k), f"task {k}") for k in range(3)]),
    }[family]
    control = sl.random_control(model, problems, like, alpha=1.0, n=2, rng=rng(), draw=draw)
    assert (control.family, control.n) == (family, 2)


# Orthogonal


@pytest.mark.parametrize("like", [ONE, SEVERAL])
def test_orthogonal_directions_have_nothing_of_the_direction_at_any_position(like):
    for control in sl.orthogonal_directions(like, 5, rng=rng()):
        cosines = torch.nn.functional.cosine_similarity(control.vector, like.vector, dim=-1)
        assert float(cosines.abs().max()) < 1e-6


def test_orthogonal_directions_fill_the_rest_of_the_space():
    """Oracle: with d dimensions, d - 1 draws are linearly independent and d are not."""
    like = sl.Direction(some(6), 1)
    drawn = torch.stack([control.vector for control in sl.orthogonal_directions(like, 6, rng=rng())]).double().numpy()
    values = np.linalg.svd(drawn, compute_uv=False)
    assert values[4] > 1e-2
    assert values[5] < 1e-5
    with pytest.raises(ValueError, match="has one dimension; nothing is orthogonal to it"):
        sl.orthogonal_directions(sl.Direction(torch.ones(1), 1), 1, rng=rng())


# Covariance matched


def test_kept_as_drawn_the_covariance_is_that_of_the_activations():
    """Oracle: NumPy's covariance; five standard errors of a sample covariance."""
    values = some(12, 2, 1, 4) @ torch.tensor([[3.0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0.1, 0], [0, 0, 0, 2]]) + 100
    n, like = 4000, sl.Direction(torch.ones(4), 5)
    drawn = np.stack([c.vector.numpy() for c in sl.covariance_matched(acts(values), norm="keep")(like, n, rng=rng())]).astype(float)
    expected = np.cov(values[:, 1, 0].double().numpy(), rowvar=False)
    variances = np.diag(expected)
    error = np.sqrt((expected**2 + np.outer(variances, variances)) / n)
    assert (np.abs(np.cov(drawn, rowvar=False) - expected) < 5 * error).all()
    assert (np.abs(drawn.mean(0)) < 5 * np.sqrt(variances / n)).all()


def test_kept_as_drawn_the_variance_is_that_of_a_sample_with_n_minus_1():
    """Two problems 2 apart along one axis: variance 2, not 1."""
    values = torch.zeros(2, 2, 1, 16)
    values[:, :, 0, 3] = torch.tensor([[1.0], [-1.0]])
    drawn = sl.covariance_matched(acts(values), norm="keep")(ONE, 800, rng=rng())
    assert np.var([float(one.vector[3]) for one in drawn]) == pytest.approx(2.0, rel=0.15)


def test_with_fewer_problems_than_dimensions_draws_stay_where_activations_vary():
    values = some(4, 2, 1, 50) + 7
    centred = values[:, 1, 0] - values[:, 1, 0].mean(0)
    basis = torch.linalg.svd(centred, full_matrices=False)[2][:3]
    for control in sl.covariance_matched(acts(values))(direction(50), 5, rng=rng()):
        within = (control.vector @ basis.T).norm() / control.norm
        assert float(within) == pytest.approx(1.0, abs=1e-4)


def test_several_positions_are_samples_for_a_direction_of_one_vector_and_padding_is_none():
    values = some(3, 2, 4, 16)
    mask = torch.ones(3, 4, dtype=torch.bool)
    mask[0, 2:] = False
    values[0, :, 2:] = 1e6  # a padded position that were read would show
    (control,) = sl.covariance_matched(acts(values, positions="all", mask=mask), norm="keep")(ONE, 1, rng=rng())
    assert control.method["n_samples"] == 10
    assert control.norm < 1e3


def test_positions_vary_together_as_activations_do():
    """Oracle: a position that is twice another one is so in every draw."""
    values = some(6, 2, 1, 8).repeat(1, 1, 2, 1) * torch.tensor([1.0, 2.0])[:, None]
    like = sl.Direction(some(2, 8), 5, positions=(0, 1))
    for control in sl.covariance_matched(acts(values, positions=(0, 1)), norm="keep")(like, 3, rng=rng()):
        assert torch.allclose(2 * control.vector[0], control.vector[1], rtol=1e-4)


@pytest.mark.parametrize(
    ("given", "like", "message"),
    [
        (acts(some(5, 2, 1, 16), layers=(1, 2)), ONE, "layer=5: cached were layers 1, 2"),
        (
            acts(some(5, 2, 1, 16), site="resid_mid"),
            ONE,
            "the activations are of resid_mid, direction 'mine' of resid_post; cache that site",
        ),
        (acts(some(5, 2, 1, 8)), ONE, "the activations have 8 dimensions, direction 'mine' 16"),
        (acts(some(5, 2, 1, 16), model={"processing": "processed"}), ONE, "of a model with raw weights, these are of one with processed"),
        (acts(some(5, 2, 1, 16)), SEVERAL, r"has 3 vectors at positions \(0, 3, -1\), the activations were cached at 'last'"),
        (acts(some(1, 2, 1, 16)), ONE, r"acts hold 1 problem\(s\); a covariance needs at least 2"),
        (
            acts(torch.full((5, 2, 1, 16), 0.1)),
            ONE,
            "covariance_matched: what it draws from does not vary, so no direction has the norm of 'mine'",
        ),
    ],
)
def test_activations_that_do_not_belong_to_the_direction_are_refused(given, like, message):
    with pytest.raises(ValueError, match=message):
        sl.covariance_matched(given)(like, 2, rng=rng())


def test_a_position_that_does_not_vary_is_named():
    values = some(5, 2, 3, 16)
    values[:, :, 1] = 4.0
    with pytest.raises(ValueError, match="does not vary at position 1 of the vector"):
        sl.covariance_matched(acts(values, positions=POSITIONS))(SEVERAL, 1, rng=rng())


def test_where_the_direction_is_nothing_so_is_the_control():
    values = some(5, 2, 3, 16)
    values[:, :, 1] = 4.0
    vector = SEVERAL.vector.clone()
    vector[1] = 0
    like = sl.Direction(vector, 5, positions=POSITIONS)
    (control,) = sl.covariance_matched(acts(values, positions=POSITIONS))(like, 1, rng=rng())
    np.testing.assert_allclose(control.token_norms(), like.token_norms(), rtol=1e-5)


# Shuffled labels


def mean_of(group: sl.Activations, rows: list[int]) -> np.ndarray:
    return group.values[rows, 1, 0].double().numpy().mean(0)


def test_kept_as_estimated_a_control_is_the_difference_of_a_relabelling():
    """Oracle: every way to choose 2 of 4 problems, by hand."""
    both = acts(some(4, 2, 1, 16))
    draw = sl.shuffled_labels(both.select(["p0", "p1"]), both.select(["p2", "p3"]), norm="keep")
    choices = [(i, j) for i in range(4) for j in range(i + 1, 4)]
    expected = [mean_of(both, list(c)) - mean_of(both, [k for k in range(4) if k not in c]) for c in choices]
    seen = set()
    for control in draw(ONE, 60, rng=rng()):
        gaps = [np.abs(control.vector.numpy() - one).max() for one in expected]
        assert min(gaps) < 1e-5
        seen.add(int(np.argmin(gaps)))
    assert seen == set(range(6))


def test_pairs_change_sides_together():
    """Oracle: both signs of each of 3 differences, by hand."""
    ours, theirs = acts(some(3, 2, 1, 16)), acts(some(3, 2, 1, 16, seed=1))
    differences = (ours.values - theirs.values)[:, 1, 0].double().numpy()
    signs = [(a, b, c) for a in (1, -1) for b in (1, -1) for c in (1, -1)]
    expected = [np.mean([s * d for s, d in zip(sign, differences, strict=True)], axis=0) for sign in signs]
    seen = set()
    for control in sl.shuffled_labels(ours, theirs, paired=True, norm="keep")(ONE, 80, rng=rng()):
        gaps = [np.abs(control.vector.numpy() - one).max() for one in expected]
        assert min(gaps) < 1e-5
        seen.add(int(np.argmin(gaps)))
    assert seen == set(range(8))


def test_relabelled_groups_keep_their_sizes_each_on_its_own_side():
    """Oracle: every way to choose 3 of 5 problems, by hand. The estimator is not symmetric: it looks at the first group alone."""

    def sum_of_the_first(positive, negative, *, layer):
        sizes.append((len(positive.problem_ids), len(negative.problem_ids)))
        return sl.mean_difference(positive, negative, layer=layer).with_vector(positive.at(layer).sum(0)[0], "sum", {})

    ours, theirs = acts(some(3, 2, 1, 16)), acts(some(2, 2, 1, 16, seed=1), prefix="q")
    rows = np.concatenate([group.values[:, 1, 0].double().numpy() for group in (ours, theirs)])
    expected = [rows[list(chosen)].sum(0) for chosen in combinations(range(5), 3)]
    sizes: list[tuple[int, int]] = []
    drawn = sl.shuffled_labels(ours, theirs, estimator=sum_of_the_first, norm="keep")(ONE, 40, rng=rng())
    assert set(sizes) == {(3, 2)}
    gaps = [[np.abs(control.vector.numpy() - one).max() for one in expected] for control in drawn]
    assert np.min(gaps, axis=1).max() < 1e-5
    assert len(set(np.argmin(gaps, axis=1).tolist())) > 7  # of 10


def test_another_estimator_is_used_and_recorded():
    def first_of_each(positive, negative, *, layer):
        return sl.mean_difference(positive.select(positive.problem_ids[:1]), negative.select(negative.problem_ids[:1]), layer=layer)

    ours, theirs = acts(some(3, 2, 1, 16)), acts(some(2, 2, 1, 16, seed=1), prefix="q")
    rows = np.concatenate([group.values[:, 1, 0].double().numpy() for group in (ours, theirs)])
    for control in sl.shuffled_labels(ours, theirs, estimator=first_of_each, norm="keep")(ONE, 5, rng=rng()):
        assert min(np.abs(control.vector.numpy() - (a - b)).max() for a in rows for b in rows) < 1e-5
        about = {"estimator": "shuffled_labels", "of": "first_of_each", "matched": "nothing", "n_positive": 3, "n_negative": 2}
        assert about.items() <= dict(control.method).items()


def test_groups_that_cannot_be_shuffled_are_refused():
    ours, theirs = acts(some(3, 2, 1, 16)), acts(some(2, 2, 1, 16, seed=1))
    with pytest.raises(ValueError, match="paired=True: the groups have 3 and 2 problems"):
        sl.shuffled_labels(ours, theirs, paired=True)
    with pytest.raises(ValueError, match="the groups differ in positions: 'last' and 'mean'"):
        sl.shuffled_labels(ours, replace(theirs, positions="mean"))(ONE, 1, rng=rng())
    with pytest.raises(ValueError, match="layer=5: cached were layers 1, 2"):
        sl.shuffled_labels(ours, replace(theirs, layers=(1, 2)))(ONE, 1, rng=rng())
    with pytest.raises((ValueError, TypeError), match=r"norm='unit'; use match|Expected type: typing.Literal"):
        sl.shuffled_labels(ours, theirs, norm="unit")


# Other tasks, and controls that are ready


def test_other_tasks_are_taken_once_each_and_named():
    drawn = sl.other_task(OTHERS, norm="keep")(ONE, 10, rng=rng())
    assert {control.method["source"] for control in drawn} == {one.name for one in OTHERS}
    for control in drawn:
        source = next(one for one in OTHERS if one.name == control.method["source"])
        assert torch.equal(control.vector, source.vector)
        assert control.name.endswith(source.name)


def test_too_few_other_tasks_at_the_layer_are_refused():
    elsewhere = [sl.Direction(some(16, seed=k), 2, name=f"task {k}") for k in range(5)]
    with pytest.raises(ValueError, match="n=3: 2 of the 7 other directions were found at layer 5, resid_post; ask for 2"):
        sl.other_task([*OTHERS[:2], *elsewhere])(ONE, 3, rng=rng())
    with pytest.raises(ValueError, match="none of the 5 other directions was found at layer 5, resid_post"):
        sl.other_task(elsewhere)(ONE, 3, rng=rng())
    with pytest.raises(ValueError, match="n=2: 1 of the 1 other directions"):
        sl.other_task([OTHERS[0], ONE])(ONE, 2, rng=rng())  # the direction itself is no other one
    with pytest.raises(ValueError, match=r"has shape \[3, 16\] at positions \(0, 3, -1\), direction 'mine' \[16\] at 'last'"):
        sl.other_task(OTHERS_SEVERAL)(ONE, 1, rng=rng())


def test_ready_controls_are_given_as_they_are():
    assert sl.given_controls(OTHERS)(ONE, 3, rng=rng()) == OTHERS[:3]
    with pytest.raises(ValueError, match="n=11: only 10 controls are ready"):
        sl.given_controls(OTHERS)(ONE, 11, rng=rng())
