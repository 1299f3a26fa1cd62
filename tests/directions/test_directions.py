"""Directions: what is refused, the mean difference, random directions."""

import pickle

import numpy as np
import pytest
import torch

import steerlab as sl
from steerlab.directions.direction import check_direction, site_of

MODEL = {"name": "m", "processing": "raw"}
NAN, INF = float("nan"), float("inf")


def some(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def acts(values: torch.Tensor, *, layers=(2, 5), site="resid_post", positions="last", model=MODEL, mask=None) -> sl.Activations:
    """Activations ``[problem layer pos d_model]`` of made-up problems."""
    mask = torch.ones(values.shape[0], values.shape[2], dtype=torch.bool) if mask is None else mask
    return sl.Activations(values, mask, tuple(f"p{i}" for i in range(len(values))), layers, site, positions, model)


# What a direction is


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (
            torch.tensor([1.0, NAN, 2.0, INF]),
            "direction 'd': 2 of 4 values are NaN or infinite; steering with it would destroy every logit",
        ),
        (torch.tensor([1.0, -INF]), "direction 'd': 1 of 2 values"),
        (torch.zeros(4), "direction 'd' is zero: the two groups do not differ at layer 1, positions='last'"),
        (torch.zeros(0), r"direction 'd': shape \[0\]; use \[d_model\] or \[pos, d_model\]"),
        (torch.ones(1, 2, 3), r"direction 'd': shape \[1, 2, 3\]"),
        (torch.tensor(1.0), r"direction 'd': shape \[\]|Expected type"),
    ],
)
def test_a_vector_that_cannot_steer_is_refused(vector, message):
    with pytest.raises((ValueError, TypeError), match=message):
        sl.Direction(vector, 1, name="d")


@pytest.mark.parametrize("layer", [-1, True])
def test_a_layer_is_a_block_number(layer):
    with pytest.raises(ValueError, match=f"layer={layer}; use a block number from 0"):
        sl.Direction(torch.ones(4), layer)


def test_a_site_is_one_of_three():
    with pytest.raises(ValueError, match="site='mlp_out'; use one of resid_pre, resid_mid, resid_post"):
        sl.Direction(torch.ones(4), 1, "mlp_out")


def test_every_row_needs_a_position():
    assert sl.Direction(torch.ones(2, 4), 1, positions=(0, -1)).positions == (0, -1)
    with pytest.raises(ValueError, match="3 rows for 2 positions; give one row a position"):
        sl.Direction(torch.ones(3, 4), 1, positions=(0, -1))


def test_norms_are_euclidean():
    """Oracle: 3-4-5 and 6-8-10 triangles; together the root of 125."""
    direction = sl.Direction(torch.tensor([[3.0, 4.0], [6.0, 8.0]]), 1, positions=(0, 1))
    assert direction.token_norms().tolist() == [5.0, 10.0]
    assert direction.norm == pytest.approx(125**0.5)
    assert direction.unit().norm == pytest.approx(1.0)
    assert sl.Direction(torch.tensor([3.0, 4.0]), 1).token_norms().tolist() == [5.0]


def test_the_unit_direction_stays_where_it_was_measured():
    direction = sl.Direction(some(4), 3, "resid_mid", "mean", "mine", {"estimator": "hand"}, MODEL)
    unit = direction.unit()
    assert torch.allclose(unit.vector * direction.norm, direction.vector)
    for name in ("layer", "site", "positions", "name", "method", "model"):
        assert getattr(unit, name) == getattr(direction, name)


def test_a_direction_keeps_its_values_when_its_source_changes():
    source, method = torch.ones(4), {"estimator": "hand"}
    direction = sl.Direction(source, 1, method=method)
    source[0], method["estimator"] = 9.0, "other"
    assert direction.vector.tolist() == [1.0] * 4
    assert direction.method == {"estimator": "hand"}
    with pytest.raises(AttributeError):
        direction.layer = 2
    with pytest.raises(TypeError):
        direction.method["estimator"] = "other"


def test_other_number_types_become_float32():
    for dtype in (torch.float64, torch.bfloat16):
        assert sl.Direction(torch.ones(4, dtype=dtype), 1).vector.dtype == torch.float32


def test_a_direction_survives_pickling():
    direction = sl.Direction(some(2, 4), 3, "resid_pre", (0, -1), "mine", {"estimator": "hand"}, MODEL)
    again = pickle.loads(pickle.dumps(direction))  # noqa: S301 - our own bytes
    assert torch.equal(again.vector, direction.vector)
    for name in ("layer", "site", "positions", "name", "method", "model"):
        assert getattr(again, name) == getattr(direction, name)


def test_a_direction_must_fit_the_model(toy_model, backend):
    model = toy_model(backend)
    check_direction(model, sl.Direction(some(32), 2, model={"processing": "raw"}))
    for direction, message in (
        (sl.Direction(some(31), 1), "has 31 dimensions; this model's residual stream has 32"),
        (sl.Direction(some(32), 3), "layer=3: this model has 3 layers; use 0 to 2"),
        (
            sl.Direction(some(32), 1, model={"processing": "processed"}),
            "found in a model with processed weights, this one has raw weights: .* processing='processed'",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            check_direction(model, direction)


def test_a_direction_acts_where_it_was_measured_unless_told_otherwise():
    direction = sl.Direction(some(4), 3, "resid_mid")
    assert site_of(direction, None, None) == (3, "resid_mid")
    assert site_of(direction, 0, None) == (0, "resid_mid")
    assert site_of(direction, None, "resid_post") == (3, "resid_post")


# Mean difference


def test_the_mean_difference_is_what_numpy_computes():
    """Oracle: NumPy in float64."""
    right, wrong = some(7, 2, 1, 4), some(5, 2, 1, 4, seed=1)
    for k, layer in enumerate((2, 5)):
        direction = sl.mean_difference(acts(right), acts(wrong), layer=layer)
        expected = right[:, k, 0].double().numpy().mean(0) - wrong[:, k, 0].double().numpy().mean(0)
        np.testing.assert_allclose(direction.vector.numpy(), expected, rtol=0, atol=1e-6)
        assert (direction.layer, direction.site, direction.positions, direction.model) == (layer, "resid_post", "last", MODEL)
        assert (direction.method["n_correct"], direction.method["n_incorrect"]) == (7, 5)


def test_several_positions_give_one_vector_each():
    right, wrong = some(7, 2, 3, 4), some(5, 2, 3, 4, seed=1)
    direction = sl.mean_difference(acts(right, positions=(0, 1, -1)), acts(wrong, positions=(0, 1, -1)), layer=5)
    expected = right[:, 1].double().numpy().mean(0) - wrong[:, 1].double().numpy().mean(0)
    np.testing.assert_allclose(direction.vector.numpy(), expected, rtol=0, atol=1e-6)
    assert direction.positions == (0, 1, -1)


def test_a_large_common_part_does_not_drown_the_difference():
    """Oracle: a difference of 1 beside values of 4096, whose float32 sum over 20,000 rows would be off."""
    right = torch.full((20_000, 2, 1, 4), 4097.0)
    direction = sl.mean_difference(acts(right), acts(right - 1), layer=2)
    assert direction.vector.tolist() == [1.0] * 4


def test_normalised_it_has_norm_one_and_the_same_direction():
    right, wrong = acts(some(7, 2, 1, 4)), acts(some(5, 2, 1, 4, seed=1))
    plain, unit = (sl.mean_difference(right, wrong, layer=2, normalise=normalise) for normalise in (False, True))
    assert unit.norm == pytest.approx(1.0)
    assert torch.allclose(unit.vector * plain.norm, plain.vector)
    assert unit.method["normalised"] is True


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"site": "resid_pre"}, "the groups differ in site: 'resid_post' and 'resid_pre'; cache both alike"),
        ({"positions": "mean"}, "the groups differ in positions: 'last' and 'mean'"),
        ({"model": {**MODEL, "processing": "processed"}}, "the groups differ in model"),
    ],
)
def test_groups_that_differ_are_not_compared(other, message):
    with pytest.raises(ValueError, match=message):
        sl.mean_difference(acts(some(3, 2, 1, 4)), acts(some(3, 2, 1, 4, seed=1), **other), layer=2)


def test_an_empty_group_a_missing_layer_and_groups_that_do_not_differ_are_refused():
    group = acts(some(3, 2, 1, 4))
    with pytest.raises(ValueError, match="the incorrect group is empty; a contrast needs both groups"):
        sl.mean_difference(group, group.select([]), layer=2)
    with pytest.raises(ValueError, match="layer=3: cached were layers 2, 5"):
        sl.mean_difference(group, group, layer=3)
    for normalise in (False, True):
        with pytest.raises(ValueError, match="'mean difference' is zero: the two groups do not differ at layer 2"):
            sl.mean_difference(group, group, layer=2, normalise=normalise)


def test_one_broken_activation_is_noticed():
    values = some(3, 2, 1, 4)
    values[1, 0, 0, 2] = NAN
    with pytest.raises(ValueError, match="1 of 4 values are NaN or infinite"):
        sl.mean_difference(acts(values), acts(some(3, 2, 1, 4, seed=1)), layer=2)


def test_prompts_of_different_lengths_have_no_position_by_position_mean():
    mask = torch.tensor([[True, True], [True, False]])
    group = acts(some(2, 2, 2, 4), positions="all", mask=mask)
    with pytest.raises(ValueError, match="prompts of different lengths were cached with positions='all'; use last, mean or indices"):
        sl.mean_difference(group, group, layer=2)
    long, short = acts(some(2, 2, 3, 4), positions="all"), acts(some(2, 2, 2, 4), positions="all")
    with pytest.raises(ValueError, match="the groups have 3 and 2 positions"):
        sl.mean_difference(long, short, layer=2)


# Random directions


def test_random_directions_have_the_norm_of_each_position():
    like = sl.Direction(some(3, 16) * torch.tensor([[1.0], [20.0], [0.01]]), 2, "resid_mid", (0, 1, 5))
    for direction in sl.random_directions(like, 5, rng=np.random.default_rng(0)):
        np.testing.assert_allclose(direction.token_norms(), like.token_norms(), rtol=1e-5)
        assert (direction.layer, direction.site, direction.positions) == (2, "resid_mid", (0, 1, 5))


def test_the_same_seed_gives_the_same_random_directions():
    like = sl.Direction(some(16), 2)
    first, again, other = (sl.random_directions(like, 4, rng=np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert all(torch.equal(a.vector, b.vector) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a.vector, b.vector) for a, b in zip(first, other, strict=True))
    assert [direction.name for direction in first] == ["control-000", "control-001", "control-002", "control-003"]


def test_random_directions_point_everywhere_alike():
    """Oracle: cosines of isotropic vectors in d dimensions have mean 0 and variance 1/d; five standard errors."""
    d, n = 64, 400
    like = sl.Direction(some(d), 2)
    drawn = torch.stack([direction.vector / direction.norm for direction in sl.random_directions(like, n, rng=np.random.default_rng(1))])
    to_like = drawn @ (like.vector / like.norm)
    assert abs(float(to_like.mean())) < 5 / (d * n) ** 0.5
    assert float(to_like.var()) == pytest.approx(1 / d, rel=5 * (2 / n) ** 0.5)
    among = (drawn @ drawn.T)[~torch.eye(n, dtype=torch.bool)]
    assert float(among.abs().max()) < 0.9
    assert abs(float(among.mean())) < 0.01


@pytest.mark.parametrize("n", [0, -1, True])
def test_at_least_one_random_direction_is_drawn(n):
    with pytest.raises(ValueError, match=f"n={n}; use at least 1 random direction"):
        sl.random_directions(sl.Direction(some(4), 0), n, rng=np.random.default_rng(0))


# Rounding is no direction


def groups_apart(gap: float, *, scale: float = 1.0, rows: int = 6, spread: float = 1.0, d: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows around one common vector of norm `scale`, and their twins, moved by `gap` along a unit vector."""
    common = some(d)
    common *= scale / common.norm()
    around = spread * scale * some(rows, d, seed=1) / d**0.5
    along = some(d, seed=2)
    return common + around + gap * scale * along / along.norm(), common + around


ESTIMATED = sorted(sl.ESTIMATORS)


@pytest.mark.parametrize("estimator", ESTIMATED)
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_identical_problems_give_no_direction_by_any_estimator(estimator, scale):
    """Activations of one norm that differ by a few float32 roundings, as those of the same prompt in other batches do."""
    common = some(16)
    common *= scale / common.norm()
    groups = [common * (1 + 2e-7 * some(5, 16, seed=seed)) for seed in (3, 4)]
    assert float((groups[0].double().mean(0) - groups[1].double().mean(0)).norm()) > 0
    with pytest.raises(
        sl.InputError, match=r"zero: .* at layer 1, .*but for rounding \(all 10 problems give the same activations there: their prompts"
    ):
        sl.ESTIMATORS[estimator](*(group[:, None].numpy() for group in groups), layer=1)


@pytest.mark.parametrize("estimator", ESTIMATED)
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_groups_of_the_same_problems_give_no_direction_by_any_estimator(estimator, scale):
    right, wrong = groups_apart(0.0, scale=scale)
    wrong = wrong * (1 + 1e-7 * some(6, 16, seed=5))
    with pytest.raises(sl.InputError, match=r"but for rounding \(their means lie .* apart, .* perhaps both groups are the same problems\)"):
        sl.ESTIMATORS[estimator](right.numpy(), wrong.flip(0).numpy(), layer=1)


@pytest.mark.parametrize("estimator", ESTIMATED)
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_a_small_difference_that_is_no_rounding_is_a_direction(estimator, scale):
    """Oracle: the mean difference is what was added, 1e-4 of the activations' norm; by default all estimators give its norm."""
    right, wrong = groups_apart(1e-4, scale=scale)
    found = sl.ESTIMATORS[estimator](right.numpy(), wrong.numpy(), layer=1)
    assert found.norm == pytest.approx(1e-4 * scale, rel=0.01)


@pytest.mark.parametrize(("dtype", "eps"), [("bfloat16", 2**-7), ("float16", 2**-10)])
def test_what_counts_as_rounding_follows_the_activations_dtype(dtype, eps):
    """Oracle: by hand. One unit in the last place of the norm is rounding where all problems are alike; of means, this over the root of n."""
    common = some(1, 1, 1, 16).expand(8, 1, 1, 16)
    bump = torch.zeros(16)
    bump[3] = float(common[0].norm())
    model = {**MODEL, "dtype": dtype}
    near, far = (acts(common + share * eps * bump, layers=(1,), model=model) for share in (0.5, 3.0))
    plain = acts(common, layers=(1,), model=model)
    with pytest.raises(sl.InputError, match="but for rounding"):
        sl.mean_difference(near, plain, layer=1)
    assert sl.mean_difference(far, plain, layer=1).norm == pytest.approx(3 * eps * float(bump.norm()), rel=0.01)
    exact = acts(common + 0.5 * eps * bump, layers=(1,)), acts(common, layers=(1,))  # in float32 the same is a difference
    assert sl.mean_difference(*exact, layer=1).norm == pytest.approx(0.5 * eps * float(bump.norm()), rel=0.01)


def test_many_rounded_problems_show_a_difference_below_one_rounding():
    """Oracle: bfloat16 rounds each problem on its own, so that 400 a group show a difference of half a unit in the last place."""
    rows = 1 + 0.1 * some(800, 1, 1, 16)
    shift = 0.5 * 2**-7 * float(rows.norm(dim=-1).mean()) / 4  # along (1, …, 1), of norm 4
    right, wrong = ((rows[k::2] + (1 - k) * shift).bfloat16().float() for k in (0, 1))
    model = {**MODEL, "dtype": "bfloat16"}
    expected = (right - wrong).double().mean(0)[0, 0]
    found = sl.mean_difference(acts(right, layers=(1,), model=model), acts(wrong, layers=(1,), model=model), layer=1)
    assert torch.allclose(found.vector.double(), expected, atol=1e-6)


def test_a_position_at_which_nothing_differs_gets_a_row_of_zeros():
    """The beginning-of-sequence token sees nothing of a prompt; rounding there is no direction, and the other position keeps its own."""
    right, wrong = some(6, 2, 2, 8), some(6, 2, 2, 8, seed=1)
    right[:, :, 0], wrong[:, :, 0] = some(8, seed=2), some(8, seed=2) * (1 + 1e-7)
    pair = [acts(values, positions=(0, -1)) for values in (right, wrong)]
    for estimator in (sl.mean_difference, sl.ESTIMATORS["lda"]):
        assert [norm > 0 for norm in estimator(*pair, layer=2).token_norms()] == [False, True]


@pytest.mark.parametrize("estimate", ["experiment", "contrast", "function"])
def test_prompts_that_are_all_the_same_are_named_before_anything_is_reported(toy_model, backend, estimate):
    """As in BLiMP's paradigms whose choices are whole sentences: every prompt is empty."""
    words = sl.load_task("arithmetic", n_train=30, n_validation=8, n_test=8)

    def emptied(problems: list[sl.Problem]) -> list[sl.Problem]:
        both = [
            (p, p.choices[i % len(p.choices)]) for i, p in enumerate(problems) if p.choices
        ]  # any target, so that some are right and some are wrong
        return [sl.Problem(p.id, "", target, p.choices, scorer="continuation") for p, target in both]

    task = sl.Task("empty", emptied(words.train), emptied(words.validation), emptied(words.test), "continuation")
    model = toy_model(backend)
    if estimate == "experiment":
        with pytest.raises(sl.InputError, match=r"prompts of all \d+ problems are the same 1 tokens \(''\)"):
            sl.run_experiment(model, task, seed=0, layers=[1], alphas=[-1, 0, 1], n_controls=4)
    elif estimate == "contrast":
        with pytest.raises(sl.InputError, match=r"prompts of all \d+ problems are the same 1 tokens \(''\)"):
            sl.contrast_directions(model, sl.evaluate(model, task.train), rng=np.random.default_rng(0))
    else:
        with pytest.raises(sl.InputError, match="pair 1: '3 apples' and '3  apples' are the same tokens to this model"):
            sl.function_vector(model, [("3 apples", "3 pears"), ("3 apples", "3  apples")], layer=1)
