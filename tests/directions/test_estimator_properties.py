"""What holds for every estimator whatever the activations: signs, lengths, places and bases of the residual stream."""

import numpy as np
import pytest
from examples import examples
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

import steerlab as sl

# Of rotations ICA is left out: where sources are hardly independent, its optimum depends on the last digits of the start.
ESTIMATORS = {name: estimator for name, estimator in sl.ESTIMATORS.items() if name != "ica"}
PAIRED = {
    "pca of differences": lambda *groups, layer: sl.pca_direction(*groups, layer=layer, paired=True),
    "paired probe": lambda *groups, layer: sl.probe_direction(*groups, layer=layer, paired=True),
    "paired contrastive": lambda *groups, layer: sl.contrastive_direction(*groups, layer=layer, paired=True),
}
ALL = {**ESTIMATORS, **PAIRED}
SEARCHED = ("contrastive", "paired contrastive")  # by gradient descent, which takes seconds
EACH = [pytest.param(name, marks=pytest.mark.slow) if name in SEARCHED else name for name in ALL]
quick = settings(max_examples=examples(8), derandomize=True, database=None, phases=[Phase.explicit, Phase.generate])


@st.composite
def contrasts(draw):
    """Two groups that differ, in more or fewer dimensions than there are problems; principal variances apart from each other."""
    n, d = draw(st.sampled_from([(6, 3), (15, 5), (8, 20)]))
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    spread = np.concatenate([[6.0, 3.0], np.linspace(1.5, 0.5, d - 2)])
    ours, theirs = (rng.standard_normal((n, d)) * spread for _ in range(2))
    return ours + rng.standard_normal(d) * 2, theirs, rng


def found(name, ours, theirs):
    direction = ALL[name](sl.as_activations(ours, layer=0), sl.as_activations(theirs, layer=0), layer=0)
    return direction.vector.double().numpy()


def close(a, b, atol=2e-3):
    np.testing.assert_allclose(a, b, rtol=0, atol=atol * np.linalg.norm(b))


@pytest.mark.parametrize("name", [name for name in EACH if name != "singular"])
@quick
@given(contrasts())
def test_swapping_the_labels_flips_the_sign(name, contrast):
    """Not of singular directions, which belong to one class."""
    ours, theirs, _ = contrast
    close(found(name, theirs, ours), -found(name, ours, theirs))


@pytest.mark.parametrize("name", EACH)
@quick
@given(contrasts(), st.floats(0.01, 100))
def test_scaling_the_stream_scales_the_direction(name, contrast, factor):
    ours, theirs, _ = contrast
    close(found(name, ours * factor, theirs * factor), factor * found(name, ours, theirs))


@pytest.mark.parametrize("name", EACH)
@quick
@given(contrasts())
def test_moving_the_origin_changes_nothing(name, contrast):
    ours, theirs, rng = contrast
    shift = rng.standard_normal(ours.shape[1]) * 5
    close(found(name, ours + shift, theirs + shift), found(name, ours, theirs))


@pytest.mark.parametrize("name", EACH)
@quick
@given(contrasts())
def test_rotating_the_stream_rotates_the_direction(name, contrast):
    ours, theirs, rng = contrast
    rotation = ortho_group.rvs(ours.shape[1], random_state=rng)
    close(found(name, ours @ rotation, theirs @ rotation), found(name, ours, theirs) @ rotation)


@pytest.mark.parametrize("name", EACH)
@quick
@given(contrasts())
def test_the_order_of_problems_does_not_matter(name, contrast):
    ours, theirs, rng = contrast
    first = rng.permutation(len(ours))
    second = first if name in PAIRED else rng.permutation(len(theirs))
    close(found(name, ours[first], theirs[second]), found(name, ours, theirs))


@quick
@given(contrasts(), st.floats(-3, 3), st.floats(-3, 3))
def test_arithmetic_of_directions_is_that_of_vectors(contrast, a, b):
    ours, theirs, _ = contrast
    one, two = (
        sl.Direction(sl.as_activations(rows, layer=0).values.mean((0, 1, 2)), 0, name=name) for rows, name in ((ours, "a"), (theirs, "b"))
    )
    expected = a * one.vector.double() + b * two.vector.double()
    if float(expected.norm()) < 1e-3:
        return
    np.testing.assert_allclose(sl.combine([one, two], [a, b]).vector.numpy(), expected.numpy(), rtol=0, atol=1e-5)
    left = sl.project_out(one, two)
    assert abs(float(left.vector.double() @ two.vector.double())) <= 1e-5 * left.norm * two.norm + 1e-6
    restored = left + sl.project_out(one, left)  # what was taken away, and what was left
    np.testing.assert_allclose(restored.vector.numpy(), one.vector.numpy(), rtol=0, atol=1e-4 * one.norm)
