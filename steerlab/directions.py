"""Directions of the residual stream, and how they are estimated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from steerlab._errors import InputError, InputTypeError
from steerlab.activations import Activations
from steerlab.arrays import Group, as_group
from steerlab.models import SITES, Model, d_model, hook_name, prepends_bos, processing_of
from steerlab.statistics._input import check_rng


@dataclass(frozen=True, eq=False)
class Direction:
    """A vector of the residual stream that knows where it was measured.

    Directions of one place add up: ``a + b``, ``a - b``, ``-a``, ``2 * a``, ``a / 2``, ``sum([a, b])``. See also
    `steerlab.composing`.

    Attributes:
        vector: ``[d_model]``, or ``[pos d_model]`` for one vector a position; float32.
        layer: 0-based block.
        site: "resid_pre", "resid_mid" or "resid_post".
        positions: the positions it was measured at: "last", "mean", "all" or indices, one for each row of `vector`; "mixed"
            where directions of one vector that were measured at different positions have been combined.
        name: what tables and figures call it.
        method: the estimator and its settings.
        model: what `steerlab.models.describe` says of the model it was measured in; empty if unknown.

    Raises:
        ValueError: a vector that is empty, zero, not finite or of the wrong rank, or an unknown site.

    Example:
        >>> direction = Direction(torch.tensor([3.0, 4.0]), layer=6)
        >>> direction
        Direction('direction', layer=6, site='resid_post', shape=[2], norm=5)
        >>> direction.unit().norm
        1.0
    """

    vector: Float[Tensor, "*pos d_model"]
    layer: int
    site: str = "resid_post"
    positions: str | tuple[int, ...] = "last"
    name: str = "direction"
    method: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)

    by_prompt: ClassVar[bool] = False  # another vector for each prompt, see `steerlab.prompt_vectors`

    def __post_init__(self) -> None:
        vector = torch.as_tensor(self.vector).detach().to("cpu", torch.float32, copy=True)
        if vector.ndim not in (1, 2) or vector.numel() == 0:
            raise InputError(f"direction {self.name!r}: shape {list(vector.shape)}; use [d_model] or [pos, d_model]")
        if not bool(torch.isfinite(vector).all()):
            bad = int((~torch.isfinite(vector)).sum())
            raise InputError(
                f"direction {self.name!r}: {bad} of {vector.numel()} values are NaN or infinite; steering with it would destroy every logit"
            )
        if float(vector.norm()) == 0:
            raise InputError(
                f"direction {self.name!r} is zero: the two groups do not differ at layer {self.layer}, positions={self.positions!r}"
            )
        if self.site not in SITES:
            raise InputError(f"site={self.site!r}; use one of {', '.join(SITES)}")
        if isinstance(self.layer, bool) or not isinstance(self.layer, int | np.integer) or self.layer < 0:
            raise InputError(f"layer={self.layer!r}; use a block number from 0")
        if vector.ndim == 2 and not isinstance(self.positions, str) and len(self.positions) != len(vector):
            raise InputError(f"direction {self.name!r}: {len(vector)} rows for {len(self.positions)} positions; give one row a position")
        object.__setattr__(self, "vector", vector)
        object.__setattr__(self, "layer", int(self.layer))
        object.__setattr__(self, "method", MappingProxyType(dict(self.method)))
        object.__setattr__(self, "model", MappingProxyType(dict(self.model)))

    def __reduce__(self) -> tuple[Any, ...]:
        return Direction, (self.vector, self.layer, self.site, self.positions, self.name, dict(self.method), dict(self.model))

    @property
    def norm(self) -> float:
        """Euclidean norm; over all positions where there are several (the sources' "total magnitude")."""
        return float(self.vector.norm())

    def unit(self) -> "Direction":
        """The same direction with norm 1."""
        return self.with_vector(self.vector / self.norm)

    def token_norms(self) -> Float[np.ndarray, " pos"]:
        """Norm of each position's vector; a single value where there is one vector."""
        norms: np.ndarray = torch.atleast_2d(self.vector).norm(dim=-1).numpy()
        return norms

    def with_vector(self, vector: Tensor, name: str | None = None, method: Mapping[str, Any] | None = None) -> "Direction":
        """Another vector at the same place."""
        return replace(self, vector=vector, name=name or self.name, method=self.method if method is None else method)

    def __add__(self, other: "Direction | int") -> "Direction":
        if isinstance(other, int) and other == 0:  # where `sum` begins
            return self
        return weighted_sum([self, other], (1.0, 1.0), f"{self.name} + {other.name}") if isinstance(other, Direction) else NotImplemented

    __radd__ = __add__

    def __sub__(self, other: "Direction") -> "Direction":
        return weighted_sum([self, other], (1.0, -1.0), f"{self.name} - {other.name}") if isinstance(other, Direction) else NotImplemented

    def __neg__(self) -> "Direction":
        return weighted_sum([self], (-1.0,), f"-{self.name}")

    def __mul__(self, factor: float | np.number) -> "Direction":
        if isinstance(factor, bool) or not isinstance(factor, int | float | np.integer | np.floating):
            return NotImplemented
        return weighted_sum([self], (float(factor),), f"{float(factor):g} {self.name}")

    __rmul__ = __mul__
    __array_ufunc__ = None  # so that a NumPy number times a direction comes to __rmul__

    def __truediv__(self, factor: float | np.number) -> "Direction":
        if factor == 0:
            raise InputError(f"direction {self.name!r} divided by 0; use a number other than 0")
        return self * (1 / float(factor))

    def __repr__(self) -> str:
        return f"Direction({self.name!r}, layer={self.layer}, site={self.site!r}, shape={list(self.vector.shape)}, norm={self.norm:.3g})"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>"


def check_direction(model: Model, direction: Direction) -> None:
    """Make sure that a direction can act in a model.

    Raises:
        ValueError: another width, a layer that the model lacks, or a direction found under other weight processing or special tokens.
    """
    if not isinstance(direction, Direction):
        raise InputTypeError(
            f"direction is a {type(direction).__name__}; give a steerlab Direction, e.g. Direction(vector, layer) (of a vector at several layers, one of "
            "its `directions`)"
        )
    width = int(direction.vector.shape[-1])
    if width != d_model(model):
        raise InputError(f"direction {direction.name!r} has {width} dimensions; this model's residual stream has {d_model(model)}")
    hook_name(model, direction.layer, direction.site)
    found_under = direction.model.get("processing")
    if found_under is not None and found_under != processing_of(model):
        raise InputError(
            f"direction {direction.name!r} was found in a model with {found_under} weights, this one has {processing_of(model)} "
            f"weights: the residual streams differ; load the model with processing={found_under!r}"
        )
    rule, ours = direction.model.get("prepend_bos"), prepends_bos(model)
    if rule is not None and ours is not None and rule != ours:
        raise InputError(
            f"direction {direction.name!r} was found with prepend_bos={rule}, and in this model prepend_bos={ours} is in force: every prompt "
            f"begins with other tokens; load the model with prepend_bos={rule}"
        )


SAME_MODEL = ("processing", "prepend_bos", "n_layers", "d_model")


def check_alike(directions: Sequence[Direction], *, layers: bool = True) -> None:
    """Make sure that directions are vectors of one space.

    What is not known of a model (a direction made by hand) is not compared. One model may have been loaded by different
    backends, or in different dtypes.

    Args:
        directions: at least one.
        layers: whether they have to be of one layer, site and shape, too.

    Raises:
        TypeError: something else than a direction.
        ValueError: none, or different models, weight processing, widths, layers, sites or positions.
    """
    if not directions:
        raise InputError("no directions given; give at least one")
    for one in directions:
        if not isinstance(one, Direction):
            raise InputTypeError(f"direction is a {type(one).__name__}; give a steerlab Direction, e.g. Direction(vector, layer)")
    first = directions[0]
    for one in directions[1:]:
        both = f"directions {first.name!r} and {one.name!r}"
        sha, other = (d.model.get("weights_sha256") or d.model.get("fingerprint") for d in (first, one))
        names = (first.model.get("name"), one.model.get("name"))
        if (sha != other) if sha and other else (None not in names and names != (names[0],) * 2):
            raise InputError(
                f"{both} were found in different models ({names[0]!r} and {names[1]!r}): their residual streams have nothing in common"
            )
        for key in SAME_MODEL:
            if first.model.get(key) is not None and one.model.get(key) is not None and first.model[key] != one.model[key]:
                raise InputError(
                    f"{both} were found in models that differ in {key}: {first.model[key]!r} and {one.model[key]!r}; use one model"
                )
        for key in ("layer", "site") if layers else ():
            if getattr(first, key) != getattr(one, key):
                raise InputError(
                    f"{both} differ in {key}: {getattr(first, key)!r} and {getattr(one, key)!r}; find both at one place "
                    f"(or say that you mean it, with dataclasses.replace(direction, {key}=…))"
                )
        elsewhere = first.vector.ndim == 2 and first.positions != one.positions
        if first.vector.shape[-1] != one.vector.shape[-1] or (layers and (first.vector.shape != one.vector.shape or elsewhere)):
            raise InputError(
                f"{both} have shapes {list(first.vector.shape)} and {list(one.vector.shape)}, at positions {first.positions!r} and "
                f"{one.positions!r}; use the same positions of one model"
            )


def weighted_sum(
    directions: Sequence[Direction], weights: Sequence[float], name: str, method: Mapping[str, Any] | None = None
) -> Direction:
    """The sum of directions of one place, each times its weight.

    Raises:
        ValueError: none, different places or models, a weight that is not finite, as many weights as directions are not
            given, or a sum that is zero.
    """
    check_alike(directions)
    if any(one.by_prompt for one in directions):
        raise InputError(
            f"{name!r}: a direction that is another vector for each prompt cannot be added to others; steer with both together"
        )
    if len(weights) != len(directions):
        raise InputError(f"{len(directions)} directions and {len(weights)} weights; give one weight for each direction")
    bad = [weight for weight in weights if isinstance(weight, bool) or not np.isfinite(weight)]
    if bad:
        raise InputError(f"weight {bad[0]!r} is not a finite number; use one like 0.5")
    parts = [one.vector.double() * float(weight) for one, weight in zip(directions, weights, strict=True)]
    vector = torch.stack(parts).sum(0)
    if float(vector.norm()) <= 1e-7 * max(float(part.norm()) for part in parts):
        raise InputError(f"{name!r} is zero: the weighted directions cancel each other, or every weight is 0")
    about = {"estimator": "combination", "of": [one.name for one in directions], "weights": [float(weight) for weight in weights]}
    first = directions[0]
    positions = first.positions if all(one.positions == first.positions for one in directions) else "mixed"
    model = next((one.model for one in directions if one.model), first.model)
    methods = [dict(one.method) for one in directions]
    return Direction(vector.float(), first.layer, first.site, positions, name, {**about, "methods": methods, **(method or {})}, model)


def check_groups(positive: Activations, negative: Activations, *, layer: int) -> tuple[Tensor, Tensor]:
    """Both groups' activations at a layer, ``[problem pos d_model]``, if a contrast can be drawn between them.

    Raises:
        ValueError: groups that differ in model, site or positions, an empty group, or a layer that was not cached.
    """
    for what in ("site", "positions", "model"):
        ours, theirs = getattr(positive, what), getattr(negative, what)
        if ours != theirs:
            raise InputError(f"the groups differ in {what}: {ours!r} and {theirs!r}; cache both alike")
    found = []
    for group, which in ((positive, "correct"), (negative, "incorrect")):
        if len(group.problem_ids) == 0:
            raise InputError(f"the {which} group is empty; a contrast needs both groups")
        if not bool(group.mask.all()):
            raise InputError("prompts of different lengths were cached with positions='all'; use last, mean or indices for a contrast")
        found.append(group.at(layer))
    if found[0].shape[2] != found[1].shape[2]:
        raise InputError(f"the groups have {found[0].shape[2]} and {found[1].shape[2]} dimensions; give activations of one model")
    if found[0].shape[1] != found[1].shape[1]:
        raise InputError(f"the groups hold {found[0].shape[1]} and {found[1].shape[1]} positions; cache both alike")
    return found[0], found[1]


def mean_difference(correct: Group, incorrect: Group, *, layer: int, normalise: bool = False, name: str = "mean difference") -> Direction:
    """Mean activation of one group minus mean activation of another (the sources' ``correct_mean - wrong_mean``).

    Args:
        correct: activations of the first group, ``[problem layer pos d_model]``, or a plain array ``[problem d_model]``.
        incorrect: those of the second, from the same model, site and positions.
        layer: the layer to use, among those cached; of plain arrays, the one that they are of.
        normalise: scale to norm 1.
        name: for tables and figures.

    Returns:
        ``[d_model]`` where one position was cached, else ``[pos d_model]``.

    Raises:
        ValueError: groups that differ in model, site or positions, an empty group, or a zero or non-finite difference.

    Example:
        >>> values, mask = torch.tensor([[1.0, 2.0], [3.0, 2.0], [0.0, 1.0], [0.0, 5.0]]).reshape(4, 1, 1, 2), torch.ones(4, 1, dtype=torch.bool)
        >>> acts = Activations(values, mask, ("a", "b", "c", "d"), (6,), "resid_post", "last", {})
        >>> mean_difference(acts.select("ab"), acts.select("cd"), layer=6).vector
        tensor([ 2., -1.])
    """
    correct, incorrect = as_group(correct, layer=layer), as_group(incorrect, layer=layer)
    means = [group.mean(0, dtype=torch.float64) for group in check_groups(correct, incorrect, layer=layer)]
    difference = means[0] - means[1]
    method = {
        "estimator": "mean_difference",
        "normalised": normalise,
        "n_correct": len(correct.problem_ids),
        "n_incorrect": len(incorrect.problem_ids),
    }
    vector = (difference[0] if len(difference) == 1 else difference).float()
    direction = Direction(vector, layer, correct.site, correct.positions, name, method, correct.model)
    return direction.unit() if normalise else direction


def random_directions(like: Direction, n: int, *, rng: np.random.Generator, name: str = "control") -> list[Direction]:
    """Isotropic Gaussian directions with the norm of a given one, position by position.

    Args:
        like: gives shape, place and norms.
        n: how many.
        rng: the only source of chance.
        name: they are called ``{name}-000`` and so on.

    Raises:
        ValueError: n below 1.

    Example:
        >>> like = Direction(torch.tensor([3.0, 4.0]), layer=6)
        >>> drawn = random_directions(like, 3, rng=np.random.default_rng(0))
        >>> [f"{one.name} {one.norm:.3f}" for one in drawn]
        ['control-000 5.000', 'control-001 5.000', 'control-002 5.000']
    """
    check_draw(n, rng)
    norms = like.vector.norm(dim=-1, keepdim=True)
    drawn = []
    for i in range(int(n)):
        noise = torch.from_numpy(rng.standard_normal(tuple(like.vector.shape))).float()
        vector = noise / noise.norm(dim=-1, keepdim=True) * norms
        drawn.append(like.with_vector(vector, f"{name}-{i:03d}", {"estimator": "random_isotropic", "matched": "norm of each position"}))
    return drawn


def check_draw(n: int, rng: np.random.Generator) -> None:
    """Make sure that so many controls can be drawn.

    Raises:
        TypeError: rng is no generator.
        ValueError: n below 1.
    """
    check_rng(rng)
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise InputError(f"n={n!r}; use at least 1 random direction (99 give p-values down to 0.01)")


def place(direction: Direction, layer: int | None, site: str | None) -> tuple[int, str]:
    """Where a direction acts: where it was measured, unless another layer or site is named."""
    return direction.layer if layer is None else layer, direction.site if site is None else site
