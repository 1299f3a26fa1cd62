"""Interventions: each operator by hand, where it acts, and what is refused."""

import math

import numpy as np
import pytest
import torch

import steerlab as sl
from steerlab.activations.positions import TokenPositions
from steerlab.models.model import hook_name, hooks
from steerlab.models.passes import residuals
from steerlab.steering.interventions import Patch, check_alpha, patch
from steerlab.steering.operators import OPERATORS, ablate, add, clamp, rotate


@pytest.fixture(scope="module")
def toy(toy_model, backend):
    return toy_model(backend)


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(4, 60, (2, 7), generator=torch.Generator().manual_seed(3))


def some(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def stream(model, tokens, layer: int = 1, site: str = "resid_post") -> torch.Tensor:
    """The residual stream behind whatever hooks are on the model."""
    with torch.no_grad():
        return residuals(model, tokens, [layer], site)[layer].clone()


def logits(model, tokens) -> torch.Tensor:
    with torch.no_grad():
        return model(tokens)


def one(value: float) -> torch.Tensor:
    return torch.tensor([[[value]]])


# Operators


BY_HAND = {  # alpha and what becomes of a stream of (3, 4) under a vector of length 2 along the first axis
    "add": [(-1.5, (0.0, 4.0))],
    "ablate": [(1.0, (0.0, 4.0)), (0.5, (1.5, 4.0))],
    "clamp": [(2.5, (5.0, 4.0))],
    "rotate": [(-1.5, (0.0, 5.0)), (0.5, (5 * 4 / math.sqrt(32),) * 2)],
}


@pytest.mark.parametrize("operator", OPERATORS)
def test_every_operator_by_hand(operator):
    for alpha, expected in BY_HAND[operator]:
        resid, vector = torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[2.0, 0.0]]])
        assert OPERATORS[operator](resid, vector, one(alpha))[0, 0].tolist() == pytest.approx(expected)


def test_ablation_removes_the_component_and_nothing_else():
    resid, vector = some(2, 5, 16), some(16, seed=1)
    left = ablate(resid, vector, one(1.0))
    unit = vector / vector.norm()
    torch.testing.assert_close(left @ unit, torch.zeros(2, 5), rtol=0, atol=1e-5)
    torch.testing.assert_close(left, resid - (resid @ unit)[..., None] * unit, rtol=0, atol=1e-5)
    torch.testing.assert_close(ablate(left, vector, one(1.0)), left, rtol=0, atol=1e-5)


def test_clamping_sets_the_projection_whatever_it_was():
    resid, vector = some(2, 5, 16), some(16, seed=1)
    unit = vector / vector.norm()
    left = clamp(resid, vector, one(-2.0))
    torch.testing.assert_close(left @ unit, torch.full((2, 5), -2.0 * float(vector.norm())), rtol=0, atol=1e-4)
    torch.testing.assert_close(ablate(left, vector, one(1.0)), ablate(resid, vector, one(1.0)), rtol=0, atol=1e-4)


def test_rotation_keeps_the_norm_and_stays_in_the_plane():
    resid, vector = some(2, 5, 16), some(16, seed=1)
    turned = rotate(resid, vector, one(0.7))
    torch.testing.assert_close(turned.norm(dim=-1), resid.norm(dim=-1), rtol=1e-5, atol=0)
    cosine = torch.cosine_similarity(turned, resid + 0.7 * vector, dim=-1)
    torch.testing.assert_close(cosine, torch.ones(2, 5), rtol=0, atol=1e-5)


@pytest.mark.parametrize("operator", OPERATORS)
def test_where_a_stream_is_zero_nothing_becomes_nan(operator):
    out = OPERATORS[operator](torch.zeros(1, 1, 4), torch.ones(4), one(1.0))
    assert bool(torch.isfinite(out).all())


# In a model


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("site", ["resid_pre", "resid_mid", "resid_post"])
def test_steering_applies_the_operator_at_the_site(toy, tokens, operator, site):
    """Oracle: the operator applied to the unsteered stream, and the model run on from there by a plain hook."""
    direction = sl.Direction(some(32, seed=2), 1, site)
    expected = OPERATORS[operator](stream(toy, tokens, 1, site), direction.vector, one(1.5))
    with sl.steer(toy, direction, alpha=1.5, operator=operator) as points:
        assert points == [f"blocks.1.hook_{site}"]
        torch.testing.assert_close(stream(toy, tokens, 1, site), expected, rtol=0, atol=1e-5)
        steered = logits(toy, tokens)
    with hooks(toy, [(hook_name(toy, 1, site), lambda resid: expected)]):
        torch.testing.assert_close(steered, logits(toy, tokens), rtol=0, atol=1e-4)
    assert not torch.allclose(steered, logits(toy, tokens), atol=1e-2)


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("alpha", [0, 0.0, -0.0])
def test_alpha_zero_is_the_baseline_to_the_bit(toy, tokens, operator, alpha):
    plain = logits(toy, tokens)
    with sl.steer(toy, sl.Direction(1e6 * some(32), 1), alpha=alpha, operator=operator):
        assert torch.equal(logits(toy, tokens), plain)
    assert torch.equal(logits(toy, tokens), plain)


def test_alpha_zero_repairs_nothing_that_was_broken():
    resid = torch.tensor([[[math.nan, -0.0]]])
    out = patch(sl.Direction(torch.ones(2), 0), [0.0])(resid)
    assert out is resid


@pytest.mark.parametrize(
    ("positions", "where"),
    [("all", range(7)), ("last", [6]), ("prompt", range(7)), (0, [0]), (-2, [5]), ([1, -1], [1, 6])],
)
def test_only_the_positions_asked_for_are_changed(toy, tokens, positions, where):
    direction, plain = sl.Direction(some(32), 1), stream(toy, tokens)
    with sl.steer(toy, direction, alpha=2.0, positions=positions):
        steered = stream(toy, tokens)
    touched = torch.zeros(7, dtype=torch.bool)
    touched[list(where)] = True
    torch.testing.assert_close(steered[:, touched], plain[:, touched] + 2 * direction.vector, rtol=0, atol=1e-5)
    assert torch.equal(steered[:, ~touched], plain[:, ~touched])


def test_the_end_of_a_padded_prompt_is_its_own():
    """Oracle: by hand; rows of 3 and 2 prompt tokens in 4 columns."""

    def columns(positions) -> list[list[int]]:
        return [row.nonzero()[:, 0].tolist() for row in TokenPositions.of(positions).mask([3, 2], 4)]

    assert columns("last") == [[2], [1]]
    assert columns("prompt") == [[0, 1, 2], [0, 1]]
    assert columns("generated") == [[3], [2, 3]]
    assert columns([0, -1]) == [[0, 2], [0, 1]]
    assert TokenPositions.of("all").mask([3, 2], 4) is None


def test_a_direction_with_a_vector_a_position_acts_on_its_own_positions(toy, tokens):
    direction, plain = sl.Direction(some(2, 32), 1, positions=(1, -1)), stream(toy, tokens)
    with sl.steer(toy, direction, alpha=-0.5):
        change = stream(toy, tokens) - plain
    expected = torch.zeros(2, 7, 32)
    expected[:, 1], expected[:, 6] = -0.5 * direction.vector[0], -0.5 * direction.vector[1]
    torch.testing.assert_close(change, expected, rtol=0, atol=1e-5)
    assert not change[:, [0, 2, 3, 4, 5]].any()


def test_several_directions_act_together(toy, tokens):
    """Oracle: both additions by hand, with hooks of our own."""
    first, second = sl.Direction(some(32), 0), sl.Direction(some(32, seed=1), 2, "resid_pre")
    with sl.steer(toy, [first, second], alpha=[2.0, -1.0]) as points:
        steered = logits(toy, tokens)
    assert points == ["blocks.0.hook_resid_post", "blocks.2.hook_resid_pre"]
    by_hand = [(points[0], lambda resid: resid + 2 * first.vector), (points[1], lambda resid: resid - second.vector)]
    with hooks(toy, by_hand):
        torch.testing.assert_close(steered, logits(toy, tokens), rtol=0, atol=1e-5)


def test_two_directions_at_one_place_act_one_after_the_other(toy, tokens):
    first, second = sl.Direction(some(32), 1), sl.Direction(some(32, seed=1), 1)
    plain = stream(toy, tokens)
    with sl.steer(toy, [first, second], alpha=1.0, operator="ablate"):
        steered = stream(toy, tokens)
    expected = ablate(ablate(plain, first.vector, one(1.0)), second.vector, one(1.0))
    torch.testing.assert_close(steered, expected, rtol=0, atol=1e-5)


def test_another_layer_or_site_can_be_named(toy, tokens):
    direction = sl.Direction(some(32), 2)
    with sl.steer(toy, direction, layer=0, site="resid_mid") as points:
        logits(toy, tokens)
    assert points == ["blocks.0.hook_resid_mid"]


def test_an_operator_may_be_any_function_of_stream_vector_and_alpha(toy, tokens):
    direction, plain = sl.Direction(some(32), 1), stream(toy, tokens)
    with sl.steer(toy, direction, alpha=3.0, operator=lambda resid, vector, alpha: resid * alpha - vector):
        torch.testing.assert_close(stream(toy, tokens), 3 * plain - direction.vector, rtol=0, atol=1e-5)


def test_a_patch_acts_where_its_mask_says():
    everywhere = Patch(add, torch.ones(1, 1, 4), one(1.0))
    nowhere = Patch(add, torch.ones(1, 1, 4), one(1.0), mask=torch.zeros(1, 3, dtype=torch.bool))
    stream = torch.zeros(1, 3, 4)
    assert torch.equal(everywhere(stream), torch.ones(1, 3, 4))
    assert torch.equal(nowhere(stream), stream)


# What is refused, and what is said aloud


@pytest.mark.parametrize("alpha", [math.nan, math.inf, -math.inf, "2", None, True, 1j, [1.0], torch.ones(2)])
def test_alpha_is_a_finite_number(alpha):
    with pytest.raises(ValueError, match=r"alpha=.* is not a finite number; use one like -3\.0 or 0\.5"):
        check_alpha(alpha)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": math.nan}, "alpha=nan is not a finite number"),
        ({"alpha": [1.0, 2.0]}, "1 directions and 2 alphas; give at least one direction, and one alpha or one for each"),
        ({"operator": "multiply"}, f"operator='multiply'; use one of {', '.join(OPERATORS)} or a function"),
        ({"positions": "first"}, "positions='first'; use all, last, prompt, generated or a list of indices"),
        ({"positions": "generated"}, "positions='generated': steer does not know where a prompt ends; use sweep"),
        ({"layer": 3}, "layer=3: this model has 3 layers; use 0 to 2"),
        ({"site": "attn_out"}, "site='attn_out'; use one of resid_pre, resid_mid, resid_post"),
    ],
)
def test_a_bad_option_is_refused_before_the_model_runs(toy, options, message):
    with pytest.raises(ValueError, match=message), sl.steer(toy, sl.Direction(some(32), 1), **options):
        pass
    assert toy.hook_dict["blocks.1.hook_resid_post"].fwd_hooks == []


@pytest.mark.parametrize(
    ("direction", "message"),
    [
        (sl.Direction(some(16), 1), "has 16 dimensions; this model's residual stream has 32"),
        (sl.Direction(some(32), 7), "layer=7: this model has 3 layers"),
        (sl.Direction(some(32), 1, model={"processing": "processed"}), "processed weights, this one has raw weights"),
        (sl.Direction(some(2, 32), 1), r"has 2 vectors but positions='last'; give Direction\(positions="),
    ],
)
def test_a_direction_that_does_not_fit_is_refused_before_the_model_runs(toy, direction, message):
    with pytest.raises(ValueError, match=message), sl.steer(toy, direction):
        pass


def test_no_direction_is_refused(toy):
    with pytest.raises(ValueError, match="0 directions and 0 alphas"), sl.steer(toy, []):
        pass


@pytest.mark.parametrize("positions", [7, -8, [0, 9]])
def test_a_position_outside_the_text_is_an_error_and_the_model_is_left_as_it_was(toy, tokens, positions):
    plain = logits(toy, tokens)
    with (
        pytest.raises(ValueError, match="a prompt has 7 tokens; use -7 to 6"),
        sl.steer(toy, sl.Direction(some(32), 1), positions=positions),
    ):
        logits(toy, tokens)
    assert torch.equal(logits(toy, tokens), plain)


def test_steering_that_never_acted_is_said_aloud(toy):
    with (
        pytest.warns(UserWarning, match=r"steering never acted: no run of the model inside the block reached blocks\.1\.hook_resid_post"),
        sl.steer(toy, sl.Direction(some(32), 1)),
    ):
        pass


def test_a_run_that_stops_before_the_hook_is_no_run_of_it(toy, tokens):
    with (
        pytest.warns(UserWarning, match=r"blocks\.2\.hook_resid_post"),
        sl.steer(toy, [sl.Direction(some(32), 0), sl.Direction(some(32), 2)]),
    ):
        stream(toy, tokens, layer=1)


def test_an_error_inside_the_block_is_the_only_thing_heard_of_it(toy):
    with pytest.raises(KeyError, match="mine"), sl.steer(toy, sl.Direction(some(32), 1)):
        raise KeyError("mine")
    assert toy.hook_dict["blocks.1.hook_resid_post"].fwd_hooks == []


def test_the_alphas_are_the_sources_thirteen():
    assert [2 * alpha for alpha in sl.ALPHAS] == list(range(-6, 7))


@pytest.mark.parametrize(("positions", "found"), [(np.int64(1), [1]), (np.array([0, 2]), [0, 2]), (-1, [-1]), ((0, 1), [0, 1])])
def test_whole_numbers_of_every_kind_are_positions(positions, found):
    assert TokenPositions.of(positions).describe() == found


@pytest.mark.parametrize("positions", [1.5, ["a"], [], [0, 1.0], [True]])
def test_other_things_are_no_positions_and_are_shown(positions):
    with pytest.raises(ValueError, match=r"positions=.*; give a whole number or several"):
        TokenPositions.of(positions)


def test_an_alpha_of_no_dimension_is_a_number():
    assert check_alpha(torch.tensor(1.5)) == check_alpha(np.array(1.5)) == 1.5
