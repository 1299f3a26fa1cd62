"""Controls of equal side effect: they have it, what cannot have it is said, and what makes no sense is refused."""

import numpy as np
import pytest
import torch
from results import speaks

import steerlab as sl
from steerlab.controls.control import _Search

TOKENS = [(3, 9, 27, 17), (5, 6, 7, 8, 9, 10, 11), (2, 4), (60, 1, 33, 20)]


@pytest.fixture(scope="module")
def model(tiny_model, backend):
    return tiny_model("llama-grouped", backend)


def direction(scale: float = 1.0) -> sl.Direction:
    return sl.Direction(scale * torch.randn(32, generator=torch.Generator().manual_seed(0)), 1, name="mine", method={"estimator": "hand"})


def controls(n: int = 5, scale: float = 1.0) -> list[sl.Direction]:
    return [c.with_vector(scale * c.vector) for c in sl.random_directions(direction(), n, rng=np.random.default_rng(0))]


@pytest.mark.parametrize("scale", [0.05, 1.0, 20.0])
def test_every_control_has_the_kl_of_the_direction(model, scale):
    """Oracle: side_effects of what came back, whose own oracle is the plain hooked run."""
    matched = sl.match_kl(model, direction(), controls(scale=scale), TOKENS, alpha=-1.5)
    measured = sl.side_effects(model, [direction(), *matched.directions], TOKENS, alphas=-1.5).frame["kl"].to_numpy()
    assert matched.target == pytest.approx(measured[0], rel=1e-5)
    np.testing.assert_allclose(measured[1:], measured[0], rtol=0.011)
    np.testing.assert_allclose(matched.frame["kl"], measured[1:], rtol=1e-4)
    assert matched.frame["reached"].all()
    assert matched.warnings() == []
    for given, one, line in zip(controls(scale=scale), matched.directions, matched.frame.to_dict("records"), strict=True):
        assert torch.allclose(one.vector, line["scale"] * given.vector)
        assert (one.name, line["norm"]) == (given.name, pytest.approx(one.norm))
        assert (one.method["estimator"], one.method["matched"]) == ("random_isotropic", "output KL")


def test_a_control_that_is_the_direction_stays_as_it_is(model):
    matched = sl.match_kl(model, direction(), [direction().with_vector(direction().vector, "twin")], TOKENS, alpha=1.0)
    assert matched.frame["scale"].tolist() == [1.0]


def test_a_smaller_tolerance_is_kept(model):
    matched = sl.match_kl(model, direction(), controls(2), TOKENS, alpha=1.0, tolerance=1e-4)
    np.testing.assert_allclose(matched.frame["kl"], matched.target, rtol=1e-4)


def test_a_control_that_cannot_reach_it_is_kept_and_reported(model):
    matched = sl.match_kl(model, direction(), controls(4, scale=1e-3), TOKENS, alpha=1.0, max_scale=8)
    assert not matched.frame["reached"].any()
    assert matched.frame["scale"].tolist() == [8.0] * 4
    (said,) = matched.warnings()
    assert said.startswith(f"4 of 4 controls do not reach a KL of {matched.target:.3g} nats within 1% at any length tried")
    assert len(matched.directions) == 4
    mixed = sl.match_kl(model, direction(), [*controls(1), controls(2, scale=1e-3)[1]], TOKENS, alpha=1.0, max_scale=8)
    assert mixed.frame["reached"].tolist() == [True, False]
    assert "control-001 comes nearest" in mixed.warnings()[0]


def test_random_control_takes_matched_controls(toy_model, backends):
    model, problems = toy_model(backends[0]), sl.load_task("arithmetic", n_train=6, n_validation=0, n_test=0).train
    texts = [problem.prompt for problem in problems]
    matched = sl.match_kl(model, direction(), controls(3), texts, alpha=1.0)
    options = {"alpha": 1.0, "rng": np.random.default_rng(0), "draw": matched.draw}
    control = sl.random_control(model, problems, direction(), n=3, **options)
    assert (control.family, control.n) == ("random_isotropic", 3)
    assert all(torch.equal(a.vector, b.vector) for a, b in zip(control.controls, matched.directions, strict=True))
    with pytest.raises(ValueError, match="n=4: only 3 controls are ready"):
        sl.random_control(model, problems, direction(), n=4, **options)
    with pytest.raises(ValueError, match="these controls are matched to 'mine', not to 'other'"):
        sl.random_control(model, problems, direction().with_vector(torch.ones(32), "other"), n=3, **options)
    nearly = direction().vector.clone()
    nearly[0] += 1
    with pytest.raises(ValueError, match="these controls are matched to 'mine', not to 'nearly'"):
        sl.random_control(model, problems, direction().with_vector(nearly, "nearly"), n=3, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"controls": []}, "no controls given"),
        ({"alpha": 0}, "alpha=0 changes nothing"),
        ({"tolerance": 1.0}, "tolerance=1.0: use a share between 0 and 1"),
        ({"max_scale": 0.5}, "max_scale=0.5: use a number of at least 1"),
        ({"max_scale": float("inf")}, "max_scale=inf: use a number of at least 1"),
        ({"operator": "ablate"}, "operator='ablate': a vector's length does not tell how much it does; use add or rotate"),
        ({"alpha": 1e-30}, "direction 'mine' changes no distribution on these texts at alpha 1e-30; there is nothing to match"),
        ({"texts": []}, "0 texts given"),
        ({"layer": 3}, "layer=3: this model has 3 layers"),
    ],
)
def test_bad_input_is_refused(tiny_model, backends, options, message):
    wanted = {"controls": controls(2), "texts": TOKENS, "alpha": 1.0} | options
    with pytest.raises(ValueError, match=message):
        sl.match_kl(tiny_model("llama-grouped", backends[0]), direction(), wanted.pop("controls"), wanted.pop("texts"), **wanted)


@pytest.mark.parametrize(
    "kl",
    [
        lambda s: s**2,
        lambda s: 100 * s**2,
        lambda s: 1e-4 * s**2,
        lambda s: 3 * (1 - np.exp(-(s**2))),
        lambda s: s**8,
        lambda s: 0.0 if s < 3 else (s - 3) ** 2,
        lambda s: s**2 * (1 + 0.9 * np.sin(5 * s)),
    ],
)
def test_the_search_finds_the_length_within_a_few_passes(kl):
    """Oracle: the curve itself."""
    search, passes = _Search(1.0, 0.01, 256.0), 0
    while not search.done and passes < 25:
        search.see(kl(search.scale))
        passes += 1
    assert search.reached
    assert kl(search.best[0]) == pytest.approx(1.0, rel=0.01)
    assert search.best[1] == kl(search.best[0])


def test_a_curve_that_jumps_over_the_target_is_not_called_reached():
    search = _Search(1.0, 0.01, 64.0)
    for _ in range(40):
        if search.done:
            break
        search.see(0.1 if search.scale < 2 else 5.0)
    assert not search.reached
    assert search.best[1] == 0.1


def test_a_result_shows_itself(tiny_model, backends):
    evil = [control.with_vector(control.vector, "<script>") for control in controls(1)]
    matched = sl.match_kl(tiny_model("llama-grouped", backends[0]), direction(), evil, TOKENS, alpha=1.0)
    assert repr(matched).startswith("MatchedControls(1 of 1 controls at KL")
    assert "<script>" not in matched._repr_html_()
    speaks(matched)
