"""Which direction, and how much of it, for which problem: by keyword or nearest class mean, alpha by a rule.

A router is a function ``(model, problems)`` that names a route for each problem; an alpha rule gives a number for each. Both see
prompts and the unsteered model, never the answers. `steerlab.evaluate_routed` uses them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from steerlab._checks import InputError
from steerlab.activations.cache import Activations, cache_activations
from steerlab.directions.direction import Direction
from steerlab.models.backends import Model
from steerlab.models.weights import another_model
from steerlab.steering.operators import projections
from steerlab.tasks.problems import Problem, written

Router = Callable[[Model, Sequence[Problem]], Sequence[str]]
AlphaRule = Callable[[Model, Sequence[Problem]], Sequence[float]]

# The sources' words, in the order in which they are looked for.
KEYWORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"math": ("calculate", "solve", "math"), "reasoning": ("complete", "best answer")}
)


@dataclass(frozen=True)
class KeywordRouter:
    """A router by words in the prompt: the first route one of whose words occurs (the sources' rule).

    Attributes:
        keywords: words (or parts of words, or several words) of each route, in the order in which routes are tried; upper
            and lower case are the same.
        default: the route of a prompt that has none of them.

    Example:
        >>> problems = [Problem("a", "Solve 3 + 4.", 7), Problem("b", "Good morning", "?")]
        >>> KeywordRouter()(None, problems)
        ['math', 'general']
    """

    keywords: Mapping[str, Sequence[str]] = field(default_factory=lambda: dict(KEYWORDS))
    default: str = "general"

    def __post_init__(self) -> None:
        for route, words in self.keywords.items():
            if isinstance(words, str) or not words or not all(isinstance(word, str) and word for word in words):
                raise InputError(f"route {route!r} has keywords {words!r}; give a list of at least one word")

    def __call__(self, model: Model, problems: Sequence[Problem]) -> list[str]:
        """The route of each problem; the model is not asked."""
        found = []
        for problem in problems:
            prompt = written(problem.prompt).lower()
            hits = (route for route, words in self.keywords.items() if any(word.lower() in prompt for word in words))
            found.append(next(hits, self.default))
        return found


@dataclass(frozen=True, eq=False)
class NearestMean:
    """A router to the class whose mean activation is nearest; see `nearest_mean`.

    Attributes:
        names: of the classes.
        means: ``[class pos*d_model]``.
        layer, site, positions: where activations are compared.
        cosine: compare angles rather than distances.
        model: whose activations they are.
    """

    names: tuple[str, ...]
    means: np.ndarray
    layer: int
    site: str
    positions: str | tuple[int, ...]
    cosine: bool = False
    model: Mapping[str, Any] = field(default_factory=dict)

    def of(self, acts: Activations) -> list[str]:
        """The nearest class of each problem, of equals the first.

        Raises:
            ValueError: activations of another model, site, positions or width, or without the layer.
        """
        if (acts.site, acts.positions) != (self.site, self.positions):
            raise InputError(
                f"the activations are of {acts.site} at {acts.positions!r}, the class means of {self.site} at {self.positions!r}; cache both alike"
            )
        different = another_model(self.model, acts.model)
        if different:
            raise InputError(f"the activations are of another model than the class means ({different}); cache the classes in this model")
        rows = _flat(acts, self.layer)
        if rows.shape[1] != self.means.shape[1]:
            raise InputError(f"the activations have {rows.shape[1]} values a problem, the class means {self.means.shape[1]}; use one model")
        means = self.means
        if self.cosine:
            rows, means = (values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-30) for values in (rows, means))
        distances = np.square(means).sum(1) - 2 * rows @ means.T
        return [self.names[k] for k in distances.argmin(1)]

    def __call__(self, model: Model, problems: Sequence[Problem]) -> list[str]:
        """The route of each problem, from its unsteered activations."""
        return self.of(cache_activations(model, problems, layers=[self.layer], site=self.site, positions=self.positions))


def nearest_mean(classes: Mapping[str, Activations], *, layer: int, cosine: bool = False) -> NearestMean:
    """A router to the class whose mean activation is nearest.

    Args:
        classes: activations of each class's (train) problems, from one model, site and positions.
        layer: the layer to compare at; one before the steered block, or at it, is known before steering.
        cosine: compare angles rather than Euclidean distances.

    Raises:
        ValueError: fewer than two classes, an empty one, or classes that differ in model, site or positions.

    Example:
        >>> from steerlab.activations.cache import as_activations
        >>> router = nearest_mean({"low": as_activations([[0.0], [1.0]], layer=1), "high": as_activations([[9.0]], layer=1)}, layer=1)
        >>> router.of(as_activations([[2.0], [7.0]], layer=1))
        ['low', 'high']
    """
    if len(classes) < 2:
        raise InputError(f"{len(classes)} class given; routing needs at least 2")
    first = next(iter(classes.values()))
    means = []
    for name, acts in classes.items():
        for what in ("site", "positions", "model"):
            mine, theirs = getattr(acts, what), getattr(first, what)
            if mine != theirs:
                raise InputError(f"class {name!r} differs in {what}: {mine!r}, not {theirs!r}; cache all alike")
        if not len(acts.problem_ids):
            raise InputError(f"class {name!r} is empty; every class needs a problem")
        means.append(_flat(acts, layer).mean(0))
    if len({mean.shape for mean in means}) > 1:
        raise InputError("the classes hold different numbers of positions; cache all alike")
    return NearestMean(tuple(classes), np.stack(means), layer, first.site, first.positions, cosine, first.model)


@dataclass(frozen=True, eq=False)
class ReachProjection:
    """An alpha rule: the alpha that brings each problem's projection on a direction to a target.

    Added at the place where it was measured, alpha times the direction moves the projection there exactly; steps keep the
    number of different alphas, each of which is a pass of its own, small.

    Attributes:
        direction: of one vector.
        target: in residual-stream units; see `steerlab.steering.operators.midpoint`.
        low, high: alphas are cut off here.
        step: alphas are multiples of this.
        positions: where the projection is measured: "last", "mean" or one index.

    Example:
        >>> import torch
        >>> rule = ReachProjection(Direction(torch.tensor([3.0, 4.0]), layer=1), target=2.0, low=-1.0, high=1.0)
        >>> rule.step, rule.positions
        (0.5, 'last')
    """

    direction: Direction
    target: float
    low: float = -3.0
    high: float = 3.0
    step: float = 0.5
    positions: str | int = "last"

    def __post_init__(self) -> None:
        if not (np.isfinite([self.target, self.low, self.high, self.step]).all() and self.low < self.high and self.step > 0):
            raise InputError(
                f"target={self.target}, low={self.low}, high={self.high}, step={self.step}; use finite ones, low < high and step > 0"
            )

    def of(self, acts: Activations) -> list[float]:
        """The alpha of each problem, from its activations.

        Example:
            >>> import torch
            >>> from steerlab.activations.cache import as_activations
            >>> rule = ReachProjection(Direction(torch.tensor([2.0, 0.0]), layer=1), target=3.0)
            >>> rule.of(as_activations([[3.0, 5.0], [0.0, 5.0], [99.0, 5.0]], layer=1))
            [0.0, 1.5, -3.0]
        """
        there = projections(acts, self.direction)
        if there.shape[1] != 1:
            raise InputError(f"the activations hold {there.shape[1]} positions; measure the projection at one")
        wanted = (self.target - there[:, 0]) / self.direction.norm
        steps = np.clip(np.round(wanted / self.step), np.ceil(self.low / self.step), np.floor(self.high / self.step))
        return [float(alpha) for alpha in steps * self.step + 0.0]

    def __call__(self, model: Model, problems: Sequence[Problem]) -> list[float]:
        """The alpha of each problem, from its unsteered run."""
        where = self.positions if isinstance(self.positions, str) else [self.positions]
        return self.of(cache_activations(model, problems, layers=[self.direction.layer], site=self.direction.site, positions=where))


def _flat(acts: Activations, layer: int) -> np.ndarray:
    """Activations of a layer, one row a problem, in float64."""
    if not bool(acts.mask.all()):
        raise InputError("prompts of different lengths were cached with positions='all'; use last, mean or indices to route by")
    return acts.at(layer).flatten(1).double().numpy()
