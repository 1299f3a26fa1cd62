"""Directions made of directions: arithmetic, projections, cosines, a coefficient for each position."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import steerlab as sl

MODEL = {"name": "m", "weights_sha256": "abc", "processing": "raw", "n_layers": 6, "d_model": 4, "backend": "hooked"}


def d(*values: float, name: str = "a", **changed) -> sl.Direction:
    return replace(
        sl.Direction(torch.tensor(values, dtype=torch.float32), 3, "resid_mid", "last", name, {"estimator": name}, MODEL), **changed
    )


def rows(*values: list[float], name: str = "a", positions=(0, -1)) -> sl.Direction:
    return sl.Direction(torch.tensor(values), 3, "resid_mid", positions, name)


A, B, C = d(3, 0, 0, 0), d(1, 2, 0, 0, name="b"), d(0, 0, 5, 0, name="c")


def test_directions_are_added_subtracted_and_scaled_like_vectors():
    """Oracle: by hand."""
    for made, values, name in (
        (A + B, [4, 2, 0, 0], "a + b"),
        (A - B, [2, -2, 0, 0], "a - b"),
        (-A, [-3, 0, 0, 0], "-a"),
        (2 * B, [2, 4, 0, 0], "2 b"),
        (B * np.float32(0.5), [0.5, 1, 0, 0], "0.5 b"),
        (np.float64(2) * B, [2, 4, 0, 0], "2 b"),
        (B / 2, [0.5, 1, 0, 0], "0.5 b"),
        (sum([A, B, C]), [4, 2, 5, 0], "a + b + c"),
    ):
        assert made.vector.tolist() == values
        assert (made.name, made.layer, made.site, made.positions, made.model) == (name, 3, "resid_mid", "last", MODEL)


def test_what_was_composed_is_recorded_and_can_be_saved(tmp_path):
    mixed = sl.combine([A, B], [0.25, 0.75], name="mixed")
    assert mixed.vector.tolist() == [1.5, 1.5, 0, 0]
    assert mixed.method == {
        "estimator": "combination",
        "of": ["a", "b"],
        "weights": [0.25, 0.75],
        "methods": [{"estimator": "a"}, {"estimator": "b"}],
    }
    again = sl.load_direction(sl.save_direction(tmp_path / "mixed.safetensors", sl.project_out(mixed, C + A)))
    assert again.name == "mixed without c + a"


def test_only_numbers_scale_and_only_directions_add():
    for wrong in (lambda: A + 1.0, lambda: A + torch.ones(4), lambda: A * B, lambda: A * True, lambda: "2" * A, lambda: A - 0):
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(ValueError, match="direction 'a' divided by 0"):
        A / 0
    with pytest.raises(ValueError, match="'0 a' is zero: the weighted directions cancel each other, or every weight is 0"):
        0 * A
    with pytest.raises(ValueError, match="'a - a' is zero"):
        A - A
    one, other = (sl.Direction(torch.randn(64, generator=torch.Generator().manual_seed(seed)), 3) for seed in (0, 1))
    both = one + other
    assert float((both.vector.double() - one.vector.double() - other.vector.double()).norm()) > 0  # float32 rounded it
    with pytest.raises(ValueError, match="is zero: the weighted directions cancel each other"):
        sl.combine([both, one, other], [1, -1, -1])
    assert sl.combine([both, one, other], [1, -1, -0.9999]).norm == pytest.approx(1e-4 * other.norm, rel=0.01)
    with pytest.raises(ValueError, match="weight nan is not a finite number"):
        float("nan") * A


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (replace(B, layer=4), r"directions 'a' and 'b' differ in layer: 3 and 4; .* dataclasses.replace\(direction, layer="),
        (replace(B, site="resid_post"), "differ in site: 'resid_mid' and 'resid_post'"),
        (replace(B, model={**MODEL, "name": "n", "weights_sha256": "xyz"}), r"different models \('m' and 'n'\)"),
        (replace(B, model={"name": "n"}), r"different models \('m' and 'n'\)"),
        (replace(B, model={**MODEL, "processing": "processed"}), "models that differ in processing: 'raw' and 'processed'"),
        (replace(B, vector=torch.ones(5), model={}), r"shapes \[4\] and \[5\]"),
        (rows([1.0, 2, 0, 0], [0.0, 0, 0, 1]), r"shapes \[4\] and \[2, 4\]"),
    ],
)
@pytest.mark.parametrize(
    "compose",
    [
        lambda a, b: a + b,
        lambda a, b: a - b,
        lambda a, b: sl.combine([a, b], [1, 1]),
        lambda a, b: sl.average_directions([a, b], normalise=True),
        sl.project_out,
        lambda a, b: sl.orthogonalise([a, b]),
        lambda a, b: sl.cosine_table([a, b]),
    ],
)
def test_directions_of_different_models_or_places_do_not_mix(compose, other, message):
    with pytest.raises(ValueError, match=message):
        compose(A, other)


def test_what_is_not_known_of_a_model_is_not_held_against_it():
    for other in ({}, {**MODEL, "backend": "bridge", "dtype": "bfloat16"}, {**MODEL, "name": "m again, from elsewhere"}):
        assert (A + replace(B, model=other)).model == MODEL
        assert (replace(B, model=other) + A).vector.tolist() == [4, 2, 0, 0]
    assert (A + replace(B, positions="mean")).positions == "mixed"


def test_per_position_directions_add_row_by_row_at_the_same_positions():
    one, two = rows([1.0, 0], [0.0, 2]), rows([0.0, 1], [0.0, 3], name="b")
    assert (one + two).vector.tolist() == [[1, 1], [0, 5]]
    assert (one + two).positions == (0, -1)
    with pytest.raises(ValueError, match=r"at positions \(0, -1\) and \(0, 1\)"):
        one + rows([0.0, 1], [0.0, 3], positions=(0, 1))


def test_combinations_need_a_weight_for_each():
    with pytest.raises(ValueError, match="2 directions and 1 weights"):
        sl.combine([A, B], [1.0])
    for empty in (lambda: sl.combine([], []), lambda: sl.average_directions([]), lambda: sl.cosine_table([]), lambda: sl.orthogonalise([])):
        with pytest.raises(ValueError, match="no directions given"):
            empty()


def test_averages_weigh_alike_or_by_length():
    """Oracle: by hand; normalised, 3 and 5 have the mean length 4, half way between the axes."""
    assert sl.average_directions([A, C]).vector.tolist() == [1.5, 0, 2.5, 0]
    assert sl.average_directions([A, C], normalise=True).vector.tolist() == pytest.approx([8**0.5, 0, 8**0.5, 0])


def test_projecting_out_leaves_what_least_squares_does_not_explain():
    """Oracle: NumPy's least squares, with others that are not orthogonal to each other, and one that is spanned."""
    generator = torch.Generator().manual_seed(0)
    made = [sl.Direction(torch.randn(16, generator=generator), 3, name=f"d{k}") for k in range(4)]
    others = [*made[1:], made[1] + made[2]]
    left = sl.project_out(made[0], others)
    basis = torch.stack([one.vector for one in made[1:]]).double().numpy().T
    target = made[0].vector.double().numpy()
    expected = target - basis @ np.linalg.lstsq(basis, target, rcond=None)[0]
    np.testing.assert_allclose(left.vector.numpy(), expected, rtol=0, atol=1e-6)
    kept = sl.project_out(made[0], others, keep_norm=True)
    assert kept.norm == pytest.approx(made[0].norm)
    torch.testing.assert_close(kept.vector / kept.norm, left.vector / left.norm)
    with pytest.raises(ValueError, match="nothing of direction 'd1 \\+ d2' is left"):
        sl.project_out(others[-1], made[1:])


def test_orthogonalised_directions_are_those_of_a_qr_decomposition():
    """Oracle: NumPy's QR, whose factors are unique up to signs."""
    generator = torch.Generator().manual_seed(1)
    made = [sl.Direction(torch.randn(9, generator=generator), 3, name=f"d{k}") for k in range(4)]
    found = torch.stack([one.vector for one in sl.orthogonalise(made)]).double().numpy()
    q, r = np.linalg.qr(np.stack([one.vector.double().numpy() for one in made], 1))
    np.testing.assert_allclose(found.T, q * np.diag(r), rtol=0, atol=1e-5)
    assert torch.equal(sl.orthogonalise(made)[0].vector, made[0].vector)
    assert [one.norm for one in sl.orthogonalise(made, keep_norm=True)] == pytest.approx([one.norm for one in made])
    with pytest.raises(ValueError, match="nothing of direction 'twice' is left"):
        sl.orthogonalise([made[0], sl.Direction(2 * made[0].vector, 3, name="twice")])


def test_positions_are_orthogonalised_apart():
    left = sl.project_out(rows([3.0, 4], [3.0, 4]), rows([1.0, 0], [0.0, 1], name="b"))
    assert left.vector.tolist() == [[0, 4], [3, 0]]


def test_cosines_are_those_of_the_vectors():
    table = sl.cosine_table([A, B, C])
    assert list(table.index) == list(table.columns) == ["a", "b", "c"]
    np.testing.assert_allclose(table.to_numpy(), [[1, 5**-0.5, 0], [5**-0.5, 1, 0], [0, 0, 1]], atol=1e-12)
    across = sl.cosine_table([A, replace(A, layer=5, site="resid_post")], layers=True)
    assert list(across.columns) == ["a (layer 3)", "a (layer 5)"]
    with pytest.raises(ValueError, match="two directions are called 'a'"):
        sl.cosine_table([A, A])
    with pytest.raises(ValueError, match="compare directions of as many positions"):
        sl.cosine_table([A, rows([1.0, 2, 0, 0], [0.0, 0, 0, 1], name="r")], layers=True)


def test_each_position_gets_its_own_coefficient():
    one = sl.scale_positions(A, [0.5, -1.0, 0.0], positions=[-1, 2, 4])
    assert one.positions == (-1, 2)
    assert one.vector.tolist() == [[1.5, 0, 0, 0], [-3, 0, 0, 0]]
    several = sl.scale_positions(rows([1.0, 0], [0.0, 2]), [2.0, 0.5])  # e.g. latent steps
    assert several.vector.tolist() == [[2, 0], [0, 1]]
    for call, message in (
        (lambda: sl.scale_positions(A, [1.0]), "has one vector, so say at which `positions`"),
        (lambda: sl.scale_positions(rows([1.0, 0], [0.0, 2]), [1.0, 1.0], positions=[0, 1]), "leave `positions` out"),
        (lambda: sl.scale_positions(A, [1.0], positions=[0, 1]), "1 alphas and 2 positions"),
        (lambda: sl.scale_positions(A, [0.0, 0.0], positions=[0, 1]), "at least one of them not 0"),
        (lambda: sl.scale_positions(A, [1.0, float("inf")], positions=[0, 1]), "they must be finite"),
        (lambda: sl.scale_positions(A, [1.0, 2.0], positions=[1, 1]), "positions=\\[1, 1\\] repeat"),
        (lambda: sl.scale_positions(rows([1.0, 0], [0.0, 2], positions="all"), [1.0, 2.0]), "give Direction\\(positions="),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_a_coefficient_for_each_position_steers_each_position_by_it(toy_model, backend):
    """Oracle: rows written by hand; and equal coefficients, which must give something else."""
    model = toy_model(backend)
    problems = sl.load_task("arithmetic").test[:3]
    one = sl.Direction(torch.randn(32, generator=torch.Generator().manual_seed(0)), 1)
    uneven = sl.scale_positions(one, [1.0, -0.5], positions=[-1, -2])
    by_hand = sl.Direction(torch.stack([one.vector, -0.5 * one.vector]), 1, positions=(-1, -2))
    found, expected = (sl.sweep(model, problems, d, alphas=[2.0]).frame for d in (uneven, by_hand))
    assert found["margin"].to_numpy() == pytest.approx(expected["margin"].to_numpy(), abs=1e-6)
    even = sl.sweep(model, problems, one, alphas=[2.0], positions=[-1, -2]).frame
    assert np.abs(found["margin"].to_numpy() - even["margin"].to_numpy()).max() > 1e-3


def test_directions_of_different_models_do_not_act_together(toy_model, backends):
    model = toy_model(backends[0])
    one, other = (
        sl.Direction(torch.ones(32), layer, name=f"d{layer}", model={"name": sha, "weights_sha256": sha})
        for layer, sha in ((0, "a"), (1, "b"))
    )
    problems = sl.load_task("arithmetic", n_train=2, n_validation=0, n_test=0).train
    with pytest.raises(ValueError, match="different models"), sl.steer(model, [one, other]):
        pass
    with pytest.raises(ValueError, match="different models"):
        sl.sweep(model, problems, [one, other], together=True)
    with pytest.raises(ValueError, match=r"'d0' was found in another model than this one \('a' and 'toy'\).*direction.for_model\(model\)"):
        sl.sweep(model, problems, [one, other], alphas=1.0)
    assert len(sl.sweep(model, problems, [one.for_model(model), other.for_model(model)], alphas=1.0).frame) == 4  # on purpose, they do
