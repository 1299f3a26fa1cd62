"""The Watcher of Emergent Activation Snapping: it whitens what it sees, keeps a few attractors, and nudges towards the nearest.

Arrays only; `steerlab.studies.eas.stream` runs it on a model. It sees one vector a problem, the mean residual stream of the prompt
at the watched layer, and moves its attractors to those of right answers.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from steerlab._checks import InputError, is_number, is_whole, one_of

Vector = NDArray[np.float64]
Form = Literal["corrected", "literal"]
Target = Literal["unit", "matched"]


@dataclass(frozen=True)
class Watcher:
    """Settings of a Watcher; the defaults are the sources'.

    Attributes:
        attractors: how many points of the unit sphere a problem can be drawn to.
        strength: alpha_base: how much of the way to the nearest attractor a nudge goes, at most.
        clamp: no coordinate of a nudge, in whitened units, is larger; None lets it be as large as it comes.
        every: right answers between two updates of the attractors.
        updates: move the attractors; without, they stay random.
        adaptive: the strength is ``strength * (1 - cosine)`` with the nearest attractor; without, it is `strength`.
        form: "corrected" maps the nudge back through the standard deviations before it is added; "literal" adds the whitened,
            snapped vector minus the raw one, as the sources' code does, which mixes two spaces.
        target: "unit" draws to the attractor itself, whose norm is 1. A whitened vector has a norm near the square root of its
            width, so the way there is mostly the way to the mean. "matched" draws to the attractor at the vector's own norm.
        epsilon: added to standard deviations before dividing by them.

    Raises:
        ValueError: a setting out of its range.

    Example:
        >>> Watcher(clamp=None).strength
        0.3
    """

    attractors: int = 10
    strength: float = 0.3
    clamp: float | None = 0.5
    every: int = 5
    updates: bool = True
    adaptive: bool = True
    form: Form = "corrected"
    target: Target = "unit"
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        for name in ("attractors", "every"):
            if not is_whole(getattr(self, name), 1):
                raise InputError(f"{name}={getattr(self, name)!r}; use a whole number from 1 up")
        for name, rest in (("strength", ""), ("clamp", ", or None for none"), ("epsilon", "")):
            value = getattr(self, name)
            if not is_number(value, 0) and not (rest and value is None):
                raise InputError(f"{name}={value!r}; use a number above 0{rest}")
        one_of(self.form, "form", get_args(Form))
        one_of(self.target, "target", get_args(Target))


VARIANTS: dict[str, Callable[[Watcher], Watcher | None]] = {
    "watcher": lambda watcher: watcher,
    "no_watcher": lambda watcher: None,
    "no_updates": lambda watcher: replace(watcher, updates=False),
    "fixed_strength": lambda watcher: replace(watcher, adaptive=False),
    "no_clamp": lambda watcher: replace(watcher, clamp=None),
    "literal": lambda watcher: replace(watcher, form="literal"),
    "matched": lambda watcher: replace(watcher, target="matched"),
}


def variant_named(watcher: Watcher, variant: str) -> Watcher | None:
    """The settings of a named baseline: those given, with one thing changed; None is no Watcher.

    Example:
        >>> variant_named(Watcher(), "no_clamp").clamp is None
        True
    """
    one_of(variant, "variant", VARIANTS)
    return VARIANTS[variant](watcher)


def random_attractors(n: int, width: int, *, rng: np.random.Generator) -> NDArray[np.float64]:
    """Points drawn evenly from the unit sphere: ``[attractor d_model]``."""
    drawn = rng.standard_normal((n, width))
    return np.asarray(drawn / np.linalg.norm(drawn, axis=1, keepdims=True), dtype=np.float64)


@dataclass(frozen=True)
class Glance:
    """What a Watcher made of one problem.

    Attributes:
        added: what is added to the residual stream at every position, ``[d_model]``; None where nothing is.
        attractor: the nearest one.
        similarity: cosine with it.
        strength: how much of the way was gone.
        clamped: share of the coordinates that the clamp held back.
        aligned: cosine between the nudge, in whitened units, and the attractor.
        entropy: bits of the attractors' use so far; log2 of their number if all are nearest equally often.
    """

    added: Vector | None
    attractor: int
    similarity: float
    strength: float
    clamped: float
    aligned: float
    entropy: float


class Watching:
    """A Watcher at work: running mean and variance, attractors, and what it has yet to learn from.

    Args:
        watcher: the settings.
        attractors: where they start, ``[attractor d_model]``, each of norm 1.

    Attributes:
        attractors: where they are now.
        wins: right answers so far.
        updates: moves of the attractors so far.
    """

    def __init__(self, watcher: Watcher, attractors: NDArray[Any]) -> None:
        self.watcher, self.attractors = watcher, np.array(attractors, dtype=np.float64)
        self.wins = self.updates = 0
        n, width = self.attractors.shape
        self._seen, self._mean, self._squares = 0, np.zeros(width), np.zeros(width)
        self._assigned, self._used = np.zeros(n, int), np.zeros(n, int)
        self._buffer: list[Vector] = []
        self._last: Vector | None = None

    def see(self, vector: Vector) -> Glance:
        """Whiten a pooled vector with all that was seen, itself included, and say what to add to the stream.

        The first vector has no variance to be whitened by, and none that does not differ from the mean has a direction: nothing is
        added to these.
        """
        self._seen += 1
        before = vector - self._mean
        self._mean = self._mean + before / self._seen
        self._squares = self._squares + before * (vector - self._mean)
        self._last = None
        sigma = np.sqrt(self._squares / max(1, self._seen - 1))
        white = (vector - self._mean) / (sigma + self.watcher.epsilon)
        size = float(np.linalg.norm(white))
        if not 0 < size < math.inf:
            return Glance(None, -1, math.nan, 0.0, 0.0, math.nan, self._entropy())
        self._last = white / size
        cosines = self.attractors @ self._last
        nearest = int(cosines.argmax())
        similarity = float(cosines[nearest])
        self._used[nearest] += 1
        strength = self.watcher.strength * (1 - similarity if self.watcher.adaptive else 1.0)
        goal = self.attractors[nearest] * (size if self.watcher.target == "matched" else 1.0)
        free = strength * (goal - white)
        limit = math.inf if self.watcher.clamp is None else self.watcher.clamp
        nudge = np.clip(free, -limit, limit)
        added = (sigma + self.watcher.epsilon) * nudge if self.watcher.form == "corrected" else white + nudge - vector
        length = float(np.linalg.norm(nudge))
        aligned = float(nudge @ self.attractors[nearest]) / length if length else math.nan
        clamped = float((np.abs(free) > limit).mean())
        return Glance(added if added.any() else None, nearest, similarity, strength, clamped, aligned, self._entropy())

    def learn(self, *, correct: bool) -> None:
        """Hear whether the problem last seen was answered rightly; after every so many right answers, move the attractors."""
        if not correct or self._last is None:
            return
        self.wins += 1
        if not self.watcher.updates:
            return
        self._buffer.append(self._last)
        if len(self._buffer) >= self.watcher.every:
            self._move(np.stack(self._buffer))
            self._buffer = []
            self.updates += 1

    def _move(self, points: NDArray[np.float64]) -> None:
        """A step of mini-batch k-means on the sphere: points by their nearest attractor, each pulling it by one over its points so far.

        Sculley (2010), "Web-scale k-means clustering", with cosines, and the attractors normalised again.
        """
        for point, k in zip(points, (points @ self.attractors.T).argmax(1), strict=True):
            self._assigned[k] += 1
            self.attractors[k] += (point - self.attractors[k]) / self._assigned[k]
        norms = np.linalg.norm(self.attractors, axis=1, keepdims=True)
        self.attractors /= np.where(norms > 0, norms, 1.0)  # opposite points may cancel; such an attractor attracts nobody

    def _entropy(self) -> float:
        shares = self._used[self._used > 0] / max(1, self._used.sum())
        return float(-(shares * np.log2(shares)).sum() + 0.0)
