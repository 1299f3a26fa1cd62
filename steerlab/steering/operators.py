"""What steering does to the stream: add, ablate, clamp, rotate, keep norms; conditions and rules for alpha.

An operator is a function of (resid, vector, alpha) on each position by itself, so the fast path holds for all. With ``along``, the
decision depends on one given direction, so a direction and its random controls act at the same places. A rule that jumps where a
stream lies on its threshold makes a sweep disagree with the plain run, and it is refused.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from steerlab._checks import InputError, InputTypeError
from steerlab.activations.cache import Activations
from steerlab.directions.direction import Direction, check_directions
from steerlab.models.backends import Model
from steerlab.models.weights import another_model
from steerlab.steering import OPERATORS

Operator = Callable[[Tensor, Tensor, Tensor], Tensor]


def add(resid: Tensor, vector: Tensor, alpha: Tensor) -> Tensor:
    """``resid + alpha * vector``."""
    return resid + alpha * vector


def ablate(resid: Tensor, vector: Tensor, alpha: Tensor) -> Tensor:
    """Take away alpha times the component along the vector; alpha = 1 removes it (directional ablation)."""
    unit = vector / vector.norm(dim=-1, keepdim=True).clamp_min(1e-30)
    return resid - alpha * (resid * unit).sum(-1, keepdim=True) * unit


def clamp(resid: Tensor, vector: Tensor, alpha: Tensor) -> Tensor:
    """Set the component along the vector to alpha times its norm, whatever it was (alpha = 0 is no intervention; to remove it, ablate)."""
    norm = vector.norm(dim=-1, keepdim=True).clamp_min(1e-30)
    unit = vector / norm
    return resid + (alpha * norm - (resid * unit).sum(-1, keepdim=True)) * unit


def rotate(resid: Tensor, vector: Tensor, alpha: Tensor) -> Tensor:
    """Turn the stream towards ``resid + alpha * vector`` and keep its norm."""
    moved = resid + alpha * vector
    return moved * (resid.norm(dim=-1, keepdim=True) / moved.norm(dim=-1, keepdim=True).clamp_min(1e-30))


def operator_named(operator: str | Operator) -> Operator:
    """Look an operator up; a function of (resid, vector, alpha) is taken as it is."""
    if callable(operator):
        return operator
    if operator not in OPERATORS:
        raise InputError(f"operator={operator!r}; use one of {', '.join(OPERATORS)} or a function of (resid, vector, alpha)")
    return OPERATORS[operator]


def check_operator(model: Model, operator: str | Operator, directions: Iterable[Direction] = ()) -> None:
    """Make sure that an operator can act in a model, and that it is the one that directions were learned under, where that was the user's own.

    Raises:
        ValueError: an unknown name, a direction of another model to look along, or a built-in's name for vectors learned under another function.
    """
    inner: Any = operator_named(operator)
    while inner is not None:
        along = getattr(inner, "along", None)
        if isinstance(along, Direction):
            check_directions(model, [along])
        inner = getattr(inner, "operator", None)
    if not isinstance(operator, str):
        return
    for direction in directions:
        own = direction.method.get("operator", operator)
        if isinstance(own, str) and own not in OPERATORS:
            raise InputError(
                f"direction {direction.name!r} was learned under the operator {own!r}, a function, and would act under {operator!r}; give that function "
                f"as operator=, or steerlab.steering.operators.OPERATORS[{operator!r}] if {operator!r} is meant"
            )


def operator_label(operator: str | Operator) -> str:
    """What results and files call an operator; that of a function of the user's own is never the name of one of `OPERATORS`.

    Example:
        >>> def clamp(resid, vector, alpha):
        ...     return resid
        >>> operator_label("clamp"), operator_label(clamp)
        ('clamp', 'clamp (custom)')
    """
    if isinstance(operator, str):
        return operator
    name = str(getattr(operator, "__name__", "custom"))
    return f"{name} (custom)" if name in OPERATORS and operator is not OPERATORS[name] else name


Rule = Callable[[Tensor], Tensor]


def rotate_by(resid: Tensor, vector: Tensor, alpha: Tensor) -> Tensor:
    """The stream rotated by alpha radians towards the vector (away from it where alpha is negative), in the plane of both.

    Its norm stays. The vector's length does not matter, and a stream that lies along the vector, in no plane, is left alone.

    Source:
        Vu and Nguyen (2025), Angular steering: behavior control via rotation in activation space.

    Example:
        >>> turned = rotate_by(torch.tensor([[[3.0, 0.0]]]), torch.tensor([0.0, 9.0]), torch.tensor([[[np.pi / 2]]]))
        >>> [abs(round(value, 5)) for value in turned.flatten().tolist()]
        [0.0, 3.0]
    """
    length = vector.norm(dim=-1, keepdim=True)
    unit = vector / length.clamp_min(1e-30)
    along = (resid * unit).sum(-1, keepdim=True)
    across = resid - along * unit
    height = across.norm(dim=-1, keepdim=True)
    cos, sin = torch.cos(alpha), torch.sin(alpha)
    turned = (along * cos + height * sin) * unit + across * ((height * cos - along * sin) / height.clamp_min(1e-30))
    plane = (length > 0) & (height > 1e-6 * resid.norm(dim=-1, keepdim=True))
    return torch.where(plane, turned, resid)


@dataclass(frozen=True)
class NormPreserving:
    """An operator whose result has the stream's norm; see `norm_preserving`."""

    operator: str | Operator

    @property
    def __name__(self) -> str:
        return f"norm_preserving({_name(self.operator)})"

    def __call__(self, resid: Tensor, vector: Tensor, alpha: Tensor) -> Tensor:
        moved = operator_named(self.operator)(resid, vector, alpha)
        return moved * (resid.norm(dim=-1, keepdim=True) / moved.norm(dim=-1, keepdim=True).clamp_min(1e-30))


@dataclass(frozen=True, eq=False)
class Conditional:
    """An operator that acts only where the stream's projection passes a threshold; see `conditional`."""

    operator: str | Operator
    above: float | None
    below: float | None
    along: Direction | None

    @property
    def __name__(self) -> str:
        limits = [f"{word} {value:g}" for word, value in (("above", self.above), ("below", self.below)) if value is not None]
        return f"{_name(self.operator)} where {self.along.name if self.along else 'the projection'} is {' and '.join(limits)}"

    def __call__(self, resid: Tensor, vector: Tensor, alpha: Tensor) -> Tensor:
        seen = _projection(resid, vector, self.along)
        acts = torch.ones_like(seen, dtype=torch.bool)
        if self.above is not None:
            acts = acts & (seen > self.above)
        if self.below is not None:
            acts = acts & (seen < self.below)
        return torch.where(acts, operator_named(self.operator)(resid, vector, alpha), resid)


@dataclass(frozen=True, eq=False)
class Adaptive:
    """An operator whose alpha follows the stream; see `adaptive`."""

    rule: Rule
    operator: str | Operator
    along: Direction | None

    @property
    def __name__(self) -> str:
        return f"{_name(self.operator)} by {getattr(self.rule, '__name__', 'a rule')}"

    def __call__(self, resid: Tensor, vector: Tensor, alpha: Tensor) -> Tensor:
        factor = self.rule(_projection(resid, vector, self.along))
        return operator_named(self.operator)(resid, vector, alpha * factor)


def norm_preserving(operator: str | Operator = "add") -> NormPreserving:
    """An operator that restores the stream's norm at every position. Of "add" it is "rotate".

    Raises:
        ValueError: an unknown operator.

    Example:
        >>> moved = norm_preserving("ablate")(torch.tensor([[[3.0, 4.0]]]), torch.tensor([1.0, 0.0]), torch.ones(1, 1, 1))
        >>> moved.tolist()
        [[[0.0, 5.0]]]
    """
    operator_named(operator)
    return NormPreserving(operator)


def conditional(
    operator: str | Operator = "add", *, above: float | None = None, below: float | None = None, along: Direction | None = None
) -> Conditional:
    """An operator that acts only at positions where the stream's projection passes a threshold.

    Args:
        operator: a name among `steerlab.OPERATORS`, or a function of (resid, vector, alpha).
        above, below: act where the projection (in residual-stream units; see `projections` and `midpoint`) is above the one
            and below the other.
        along: the direction to project on; default the one that is steered with.

    Raises:
        ValueError: no threshold, one that is not finite, an empty range, an unknown operator, or a direction of several positions.

    Source:
        Lee et al. (2025), Programming refusal with conditional activation steering (there, one decision a prompt).

    Example:
        >>> act = conditional("add", above=1.0)
        >>> act(torch.tensor([[[0.5, 0.0], [2.0, 0.0]]]), torch.tensor([1.0, 0.0]), torch.ones(1, 1, 1)).tolist()
        [[[0.5, 0.0], [3.0, 0.0]]]
    """
    operator_named(operator)
    limits = [value for value in (above, below) if value is not None]
    if not limits or not np.isfinite(limits).all():
        raise InputError(f"above={above!r}, below={below!r}; give at least one threshold, a finite number")
    if above is not None and below is not None and above >= below:
        raise InputError(f"above={above!r} and below={below!r} leave nothing between them; use above < below")
    _check_along(along)
    return Conditional(operator, above, below, along)


def adaptive(rule: Rule, *, operator: str | Operator = "add", along: Direction | None = None) -> Adaptive:
    """An operator whose alpha is multiplied by a rule of the stream's projection at each position.

    Args:
        rule: a function from projections ``[batch pos 1]`` to factors of this shape; a named one, should work be sent to
            other processes.
        operator: a name among `steerlab.OPERATORS`, or a function of (resid, vector, alpha).
        along: the direction to project on; default the one that is steered with.

    Raises:
        TypeError: a rule that is no function.
        ValueError: an unknown operator, or a direction of several positions.

    Example:
        >>> push_back = adaptive(lambda projection: (-projection).clamp(min=0))  # the more, the further it lies behind
        >>> push_back(torch.tensor([[[-2.0, 5.0], [3.0, 5.0]]]), torch.tensor([1.0, 0.0]), torch.ones(1, 1, 1)).tolist()
        [[[0.0, 5.0], [3.0, 5.0]]]
    """
    if not callable(rule):
        raise InputTypeError(f"rule is a {type(rule).__name__}; give a function from projections to factors")
    operator_named(operator)
    _check_along(along)
    return Adaptive(rule, operator, along)


def projections(acts: Activations, direction: Direction) -> Float[np.ndarray, "problem pos"]:
    """Projections of activations on the unit vector of a direction, at its layer; NaN where a prompt has no such position.

    Raises:
        ValueError: a layer that was not cached, another site or width, or a direction of several positions.

    Example:
        >>> values = torch.tensor([[3.0, 4.0], [0.0, 2.0]]).reshape(2, 1, 1, 2)
        >>> acts = Activations(values, torch.ones(2, 1, dtype=torch.bool), ("a", "b"), (1,), "resid_post", "last", {})
        >>> projections(acts, Direction(torch.tensor([0.0, 7.0]), layer=1)).tolist()
        [[4.0], [2.0]]
    """
    _check_along(direction)
    values = acts.at(direction.layer)
    if acts.site != direction.site or values.shape[-1] != direction.vector.shape[-1]:
        raise InputError(
            f"the activations are of {acts.site} and have {values.shape[-1]} dimensions, direction {direction.name!r} is of {direction.site} "
            f"and has {direction.vector.shape[-1]}; cache its site, of its model"
        )
    different = another_model(direction.model, acts.model)
    if different:
        raise InputError(f"direction {direction.name!r} is of another model than the activations ({different}); cache them in its model")
    found = values.double() @ direction.vector.double() / direction.norm
    return torch.where(acts.mask, found, torch.nan).numpy()


def midpoint(positive: Activations, negative: Activations, direction: Direction) -> float:
    """The threshold halfway between two groups' mean projections.

    Example:
        >>> ones = torch.ones(2, 1, 1, 2)
        >>> groups = [Activations(k * ones, torch.ones(2, 1, dtype=torch.bool), ("a", "b"), (1,), "resid_post", "last", {}) for k in (5, 1)]
        >>> midpoint(*groups, Direction(torch.tensor([2.0, 0.0]), layer=1))
        3.0
    """
    return float(np.mean([np.nanmean(projections(group, direction)) for group in (positive, negative)]))


def _projection(resid: Tensor, vector: Tensor, along: Direction | None) -> Tensor:
    on = vector if along is None else along.vector.to(resid)
    if on.shape[-1] != resid.shape[-1]:
        raise InputError(f"the direction to project on has {on.shape[-1]} dimensions; the residual stream has {resid.shape[-1]}")
    return (resid * (on / on.norm(dim=-1, keepdim=True).clamp_min(1e-30))).sum(-1, keepdim=True)


def _check_along(along: Direction | None) -> None:
    if along is not None and along.vector.ndim != 1:
        raise InputError(f"direction {along.name!r} has {len(along.vector)} vectors; project on a direction of one")


def _name(operator: Any) -> str:
    return operator if isinstance(operator, str) else str(getattr(operator, "__name__", "custom"))
