"""What holds for a Watcher whatever it sees."""

import math

import numpy as np
from examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from steerlab.studies.eas.watcher import Watcher, Watching, random_attractors

quick = settings(max_examples=examples(40), derandomize=True, database=None)
streams = st.integers(2, 12).flatmap(lambda n: arrays(np.float64, (n, 5), elements=st.floats(-100, 100, width=32)))
watchers = st.builds(
    Watcher,
    attractors=st.integers(1, 4),
    strength=st.floats(0.01, 3),
    clamp=st.none() | st.floats(0.01, 2),
    every=st.integers(1, 3),
    updates=st.booleans(),
    adaptive=st.booleans(),
    target=st.sampled_from(["unit", "matched"]),
)


@quick
@given(watcher=watchers, seen=streams, right=st.lists(st.booleans(), min_size=12, max_size=12), seed=st.integers(0, 99))
def test_attractors_stay_on_the_sphere_and_nudges_within_the_clamp(watcher, seen, right, seed):
    state = Watching(watcher, random_attractors(watcher.attractors, 5, rng=np.random.default_rng(seed)))
    for i, (vector, correct) in enumerate(zip(seen, right, strict=False)):
        glance = state.see(vector)
        state.learn(correct=correct)
        norms = np.linalg.norm(state.attractors, axis=1)
        assert np.allclose(norms[norms > 0], 1)  # opposite points may cancel, see `Watching`
        assert -1e-9 <= glance.entropy <= math.log2(watcher.attractors) + 1e-9
        if glance.added is None:
            continue
        sigma = np.std(seen[: i + 1], axis=0, ddof=1) + watcher.epsilon
        limit = math.inf if watcher.clamp is None else watcher.clamp
        assert (np.abs(glance.added) <= limit * sigma * (1 + 1e-6) + 1e-6).all()
        assert -1 - 1e-9 <= glance.similarity <= 1 + 1e-9
        assert glance.strength + 1e-9 >= 0
        assert glance.strength <= watcher.strength * 2 + 1e-9
    assert state.updates <= state.wins <= len(seen)


@quick
@given(seen=streams, scale=st.floats(0.5, 4), shift=st.floats(-50, 50))
def test_what_is_whitened_does_not_hang_on_unit_and_origin(seen, scale, shift):
    """Scaling and shifting all that is seen scales the corrected nudge, and changes no choice of attractor."""
    seen = seen + np.arange(len(seen))[:, None] * np.array([3.0, -2.0, 5.0, 1.0, -4.0])  # every coordinate varies
    start = random_attractors(3, 5, rng=np.random.default_rng(0))
    watcher = Watcher(attractors=3, epsilon=1e-12)
    one, two = Watching(watcher, start), Watching(watcher, start)
    for vector in seen:
        plain, moved = one.see(vector), two.see(scale * vector + shift)
        if plain.added is None or moved.added is None:
            assert plain.added is None
            assert moved.added is None
            continue
        assert np.allclose(moved.added, scale * plain.added, rtol=1e-4, atol=1e-4)
