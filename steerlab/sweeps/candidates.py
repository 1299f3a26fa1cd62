"""Which cells are compared on validation: fixed by a rule that sees no steered outcome, and that controls follow as well."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

import numpy as np

from steerlab._checks import InputError, count
from steerlab.directions.direction import Direction

Goal = Literal["raise", "lower"]
GOALS: tuple[Goal, ...] = ("raise", "lower")
T = TypeVar("T")
NO_ALPHA = "alphas={}; give at least one other than 0"


class Cell(NamedTuple):
    """A layer and a coefficient.

    Example:
        >>> Cell(3, -0.5).alpha
        -0.5
    """

    layer: int
    alpha: float


Candidates = Mapping[Goal, tuple[Cell, ...]]


def relative_dose(direction: Direction, alpha: float, resid_norm: float) -> float:
    """How long alpha times the vector is, as a share of the median activation's length at its layer.

    Args:
        direction: what is added.
        alpha: its coefficient.
        resid_norm: median norm of the residual stream where it is added.

    Raises:
        ValueError: a norm that is not above 0.

    Example:
        >>> import torch
        >>> relative_dose(Direction(torch.tensor([3.0, 4.0]), layer=1), -2.0, 20.0)
        0.5
    """
    if not resid_norm > 0:
        raise InputError(f"resid_norm={resid_norm}: the stream's norm is above 0")
    return abs(alpha) * direction.norm / resid_norm


@dataclass(frozen=True)
class Grid:
    """Every cell of a grid, for both goals: the rule that leaves nothing out.

    Example:
        >>> import torch
        >>> len(Grid((-1, 0, 1)).candidates({layer: Direction(torch.ones(4), layer=layer) for layer in range(3)})["lower"])
        6
    """

    alphas: tuple[float, ...]

    def candidates(self, directions: Mapping[int, Direction], separability: Mapping[int, float] | None = None) -> Candidates:
        """The cells, for the directions of a pipeline.

        Raises:
            ValueError: no alpha other than 0.
        """
        if not any(self.alphas):
            raise InputError(NO_ALPHA.format(list(self.alphas)))
        cells = tuple(Cell(layer, alpha) for layer in sorted(directions) for alpha in self.alphas if alpha != 0)
        return dict.fromkeys(GOALS, cells)

    def __str__(self) -> str:
        return "every layer and alpha"


@dataclass(frozen=True)
class Shortlist:
    """A few layers and alphas: the layers whose contrast separates held-out problems best, and alphas by relative dose.

    Of the alphas given, those at which the vector is no longer than the median activation are used (else the smallest); of more than
    `n_alphas` / 2 of a sign, as many that are evenly spread.

    Attributes:
        alphas: what is chosen from.
        separability: of the direction's own contrast, by layer; None takes the layers evenly spread.
        resid_norms: median norm of the residual stream, by layer; None uses all alphas.
        n_layers, n_alphas: how many are kept, at most; 2 alphas or more.
        most: the largest relative dose.
        preset: one cell for each goal, which leaves nothing to choose: the best layer, and its largest alpha of the goal's sign.
        raises: the sign of the alphas that are meant to raise the measure: -1 for a loss.

    Example:
        >>> import torch
        >>> directions = {layer: Direction(torch.ones(4), layer=layer) for layer in range(3)}
        >>> rule = Shortlist((-2, -1, 0, 1, 2), {0: 0.5, 1: 0.9, 2: 0.7}, {0: 4.0, 1: 3.0, 2: 1.0}, n_layers=2)
        >>> [tuple(cell) for cell in rule.candidates(directions)["raise"]]
        [(1, -1), (1, 1), (2, -1), (2, 1)]
    """

    alphas: tuple[float, ...]
    separability: Mapping[int, float] | None = None
    resid_norms: Mapping[int, float] | None = None
    n_layers: int = 2
    n_alphas: int = 6
    most: float = 1.0
    preset: bool = False
    raises: int = 1

    def candidates(self, directions: Mapping[int, Direction], separability: Mapping[int, float] | None = None) -> Candidates:
        """The cells, for the directions of a pipeline and what its own contrast is worth at each layer (default the direction's).

        Raises:
            ValueError: no alpha other than 0, fewer than 1 layer or 2 alphas to keep, or a median norm that is not above 0.
        """
        worth = self.separability if self.separability is None or separability is None else separability
        layers = sorted(directions)
        keep = 1 if self.preset else count(self.n_layers, "n_layers", at_least=1)
        if worth is not None:
            layers = sorted(sorted(layers, key=lambda layer: (-worth[layer], layer))[:keep])
        else:
            layers = _evenly(layers, keep)
        found: dict[Goal, tuple[Cell, ...]] = {}
        for goal in GOALS:
            sign = self.raises if goal == "raise" else -self.raises
            cells = [Cell(layer, alpha) for layer in layers for alpha in self._alphas(layer, directions[layer])]
            if self.preset:
                cells = sorted((cell for cell in cells if cell.alpha * sign > 0), key=lambda cell: -abs(cell.alpha))[:1]
            found[goal] = tuple(cells)
        if not any(found.values()):
            raise InputError(NO_ALPHA.format(list(self.alphas)))
        return {goal: cells for goal, cells in found.items() if cells}

    def _alphas(self, layer: int, direction: Direction) -> list[float]:
        kept: list[float] = []
        for sign in (-1, 1):
            mine = sorted((alpha for alpha in self.alphas if alpha * sign > 0), key=abs)
            if self.resid_norms is not None and mine:
                resid = self.resid_norms[layer]
                mine = [alpha for alpha in mine if relative_dose(direction, alpha, resid) <= self.most] or mine[:1]
            kept += mine if self.preset else _evenly(mine, count(self.n_alphas, "n_alphas", at_least=2) // 2)
        return sorted(kept)

    def __str__(self) -> str:
        layers = "" if self.separability is None else " whose contrast separates held-out problems best"
        doses = "" if self.resid_norms is None else f" up to a relative dose of {self.most:g} (where all are beyond it, the smallest)"
        if self.preset:
            return f"the layer{layers or ' in the middle'}, and the largest alpha of the goal's sign{doses}"
        return f"the {self.n_layers} layers{layers or ', evenly spread'}, and {self.n_alphas} alphas{doses}, evenly spread"


def _evenly(of: Sequence[T], most: int) -> list[T]:
    if len(of) <= most:
        return list(of)
    places = np.linspace(0, len(of) - 1, most) if most > 1 else [(len(of) - 1) // 2]
    return [of[round(float(place))] for place in places]


Rule = Grid | Shortlist
