"""Operators made of operators: turning, keeping norms, conditions, rules; alone, in `steer` and on the fast path."""

import math
import pickle

import numpy as np
import pytest
import torch

import steerlab as sl
from steerlab.models.model import hook_name, hooks
from steerlab.models.passes import forward
from steerlab.steering.operators import ablate, add, rotate


def some(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def one(value: float) -> torch.Tensor:
    return torch.tensor([[[value]]])


def behind(projection: torch.Tensor) -> torch.Tensor:
    """The more, the further the stream lies behind."""
    return (-projection).clamp(min=0)


GATE = sl.Direction(some(32, seed=7), 0, name="gate")
OPERATORS = {
    "rotate_by": sl.rotate_by,
    "norm-preserving add": sl.norm_preserving(),
    "norm-preserving ablation": sl.norm_preserving("ablate"),
    "conditional": sl.conditional(above=0.0, along=GATE),
    "conditional on itself": sl.conditional("clamp", below=0.2),
    "adaptive": sl.adaptive(behind, along=GATE),
    "adaptive turn": sl.adaptive(torch.tanh, operator=sl.rotate_by),
}


def test_turning_goes_by_an_angle_and_keeps_the_norm():
    """Oracle: complex numbers, and the angles before and after."""
    resid, vector = some(4, 6, 16), some(16, seed=1)
    for alpha in (-0.6, 0.2, 0.7):
        turned = sl.rotate_by(resid, vector, one(alpha))
        torch.testing.assert_close(turned.norm(dim=-1), resid.norm(dim=-1), rtol=1e-5, atol=0)
        before, after = (torch.arccos(torch.cosine_similarity(x, vector, dim=-1)) for x in (resid, turned))
        torch.testing.assert_close(before - after, torch.full_like(before, alpha), rtol=0, atol=1e-3)
        torch.testing.assert_close(sl.rotate_by(turned, vector, one(-alpha)), resid, rtol=0, atol=1e-4)
    z = 3 + 4j
    by_hand = z * np.exp(-0.5j)  # towards the positive real axis
    assert sl.rotate_by(torch.tensor([[[3.0, 4.0]]]), torch.tensor([9.0, 0.0]), one(0.5)).flatten().tolist() == pytest.approx(
        [by_hand.real, by_hand.imag], rel=1e-5
    )


def test_a_stream_without_a_plane_to_turn_in_is_left_alone():
    vector = torch.tensor([2.0, 0.0, 0.0])
    for resid in (torch.zeros(1, 1, 3), torch.tensor([[[5.0, 0.0, 0.0]]])):
        assert torch.equal(sl.rotate_by(resid, vector, one(0.5)), resid)
    assert torch.equal(sl.rotate_by(some(1, 2, 3), torch.zeros(3), one(0.5)), some(1, 2, 3))


def test_norm_preserving_addition_is_rotation():
    resid, vector = some(2, 5, 16), some(16, seed=1)
    torch.testing.assert_close(sl.norm_preserving("add")(resid, vector, one(0.7)), rotate(resid, vector, one(0.7)), rtol=0, atol=0)
    kept = sl.norm_preserving("ablate")(resid, vector, one(1.0))
    torch.testing.assert_close(kept.norm(dim=-1), resid.norm(dim=-1), rtol=1e-5, atol=0)
    torch.testing.assert_close(torch.cosine_similarity(kept, ablate(resid, vector, one(1.0)), dim=-1), torch.ones(2, 5), rtol=0, atol=1e-5)


def test_conditions_look_at_each_position_alone():
    resid, vector = some(3, 7, 16), some(16, seed=1)
    along = sl.Direction(some(16, seed=2), 0)
    seen = resid @ (along.vector / along.norm)
    for limits, acts in (
        ({"above": 0.3}, seen > 0.3),
        ({"below": -0.1}, seen < -0.1),
        ({"above": -0.5, "below": 0.5}, (seen > -0.5) & (seen < 0.5)),
    ):
        out = sl.conditional("add", along=along, **limits)(resid, vector, one(2.0))
        torch.testing.assert_close(out, torch.where(acts[..., None], add(resid, vector, one(2.0)), resid), rtol=0, atol=0)
        assert 0 < int(acts.sum()) < acts.numel()
    own = sl.conditional("ablate", above=0.0)(resid, vector, one(1.0))
    torch.testing.assert_close((own @ vector).clamp(min=0), torch.zeros(3, 7), rtol=0, atol=1e-4)


def test_rules_scale_alpha_at_each_position():
    resid, vector = some(3, 7, 16), some(16, seed=1)
    along = sl.Direction(some(16, seed=2), 0)
    factor = behind((resid @ (along.vector / along.norm))[..., None])
    torch.testing.assert_close(sl.adaptive(behind, along=along)(resid, vector, one(2.0)), resid + 2 * factor * vector)


@pytest.mark.parametrize("name", OPERATORS)
def test_they_steer_and_sweep_like_the_built_in_ones(toy_model, backend, name):
    """Oracle: each problem alone through the whole model, with the operator called by a plain hook."""
    model, operator = toy_model(backend), OPERATORS[name]
    positions = "all" if list(OPERATORS).index(name) % 2 else [-1]
    problems = sl.load_task("arithmetic", n_train=0, n_validation=0, n_test=2).test
    direction = sl.Direction(some(32, seed=3), 1)
    swept = sl.sweep(model, problems, direction, alphas=[0.0, 1.5], operator=operator, positions=positions)
    assert swept.settings["operator"] == operator.__name__

    def act(resid):
        steered = operator(resid, direction.vector, one(1.5))
        return steered if positions == "all" else torch.cat([resid[:, :-1], steered[:, -1:]], 1)

    for problem in problems:
        tokens = model.to_tokens(problem.prompt)
        with torch.no_grad(), hooks(model, [(hook_name(model, 1, "resid_post"), act)]):
            expected = forward(model, tokens)[0, -1]
        with torch.no_grad(), sl.steer(model, direction, alpha=1.5, operator=operator, positions=positions):
            torch.testing.assert_close(model(tokens)[0, -1], expected, rtol=0, atol=1e-5)
        scores = expected[[int(model.to_tokens(choice, prepend_bos=False)[0, -1]) for choice in problem.choices]]
        others = [float(score) for k, score in enumerate(scores) if k != problem.target_index]
        line = swept.frame[(swept.frame["alpha"] == 1.5) & (swept.frame["problem_id"] == problem.id)]
        assert float(line["margin"].iloc[0]) == pytest.approx(float(scores[problem.target_index]) - max(others), abs=1e-4)


def test_a_condition_along_a_given_direction_is_the_same_for_controls(toy_model, backend):
    """Oracle: a gate that no position passes, and a gate that all pass."""
    model, problems = toy_model(backend), sl.load_task("arithmetic", n_train=0, n_validation=0, n_test=2).test
    direction = sl.Direction(some(32, seed=3), 1)
    changes = []
    for operator in (sl.conditional(above=1e6, along=GATE), sl.conditional(above=-1e6, along=GATE), "add"):
        done = sl.random_control(model, problems, direction, alpha=1.5, n=2, rng=np.random.default_rng(0), operator=operator)
        changes.append(done.frame["margin"].to_numpy() - np.tile(done.baseline.frame["margin"].to_numpy(), 3))
    assert np.abs(changes[0]).max() < 1e-5
    assert changes[1] == pytest.approx(changes[2], abs=1e-5)
    assert np.abs(changes[1]).min() > 1e-4


@pytest.mark.parametrize("name", OPERATORS)
def test_operators_can_be_sent_to_other_processes(name):
    again = pickle.loads(pickle.dumps(OPERATORS[name]))  # noqa: S301 - our own bytes
    resid, vector = some(2, 3, 32), some(32, seed=1)
    assert torch.equal(again(resid, vector, one(0.5)), OPERATORS[name](resid, vector, one(0.5)))


def test_names_say_what_an_operator_does():
    assert sl.conditional(above=1.5, below=2, along=GATE).__name__ == "add where gate is above 1.5 and below 2"
    assert sl.norm_preserving(sl.rotate_by).__name__ == "norm_preserving(rotate_by)"
    assert sl.adaptive(behind).__name__ == "add by behind"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (sl.conditional, "give at least one threshold"),
        (lambda: sl.conditional(above=math.nan), "above=nan"),
        (lambda: sl.conditional(above=2, below=1), "leave nothing between them"),
        (lambda: sl.conditional("multiply", above=0), "operator='multiply'; use one of"),
        (lambda: sl.norm_preserving("multiply"), "operator='multiply'"),
        (
            lambda: sl.conditional(above=0, along=sl.Direction(some(2, 32), 0, positions=(0, 1))),
            "has 2 vectors; project on a direction of one",
        ),
        (
            lambda: sl.conditional(above=0, along=sl.Direction(some(31), 0))(some(1, 1, 32), some(32), one(1.0)),
            "has 31 dimensions; the residual",
        ),
    ],
)
def test_operators_that_make_no_sense_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_rule_is_a_function():
    with pytest.raises(TypeError, match=r"rule is a float|parameter 'rule'"):
        sl.adaptive(0.5)


def test_projections_are_on_the_unit_vector():
    """Oracle: NumPy."""
    acts = sl.as_activations(some(5, 8), layer=2)
    direction = sl.Direction(some(8, seed=1), 2)
    expected = some(5, 8).numpy() @ (direction.vector.numpy() / np.linalg.norm(direction.vector.numpy()))
    np.testing.assert_allclose(sl.projections(acts, direction)[:, 0], expected, rtol=1e-5)
    other = sl.as_activations(some(4, 8, seed=2), layer=2)
    assert sl.midpoint(acts, other, direction) == pytest.approx(
        (sl.projections(acts, direction).mean() + sl.projections(other, direction).mean()) / 2
    )
    with pytest.raises(ValueError, match="cache its site, of its model"):
        sl.projections(sl.as_activations(some(5, 8), layer=2, site="resid_pre"), direction)
