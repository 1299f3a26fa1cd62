"""The `Direction` type: a vector in the residual stream, its layer and site, where it came from, and its arithmetic."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from steerlab._checks import InputError, InputTypeError, check_rng, is_number, is_whole, one_of
from steerlab._html import OneLine, Plotted
from steerlab.activations.cache import Activations
from steerlab.activations.positions import indices
from steerlab.models.backends import Model
from steerlab.models.encoding import prepends_bos
from steerlab.models.model import SITES, Site, d_model, describe, hook_name, processing_of
from steerlab.models.weights import another_model

CANCELLED = 1e-6  # of the longest part's length: a sum that is shorter is rounding
ROUNDING = 32  # units in the last place of float32, as a share of the activations' size: what is smaller is rounding


@dataclass(frozen=True, eq=False)
class Direction(OneLine, Plotted, title="Direction", shown="name layer site positions norm", figure="direction_heatmap"):
    """A vector in the residual stream, with the layer and site at which it was measured.

    Directions of one place add up: ``a + b``, ``a - b``, ``-a``, ``2 * a``, ``a / 2``, ``sum([a, b])``. See also
    `steerlab.directions.composing`.

    It acts in the model that it was found in, whatever the dtype and backend that this is loaded with; to use it in another one, such as a
    fine-tuned variant, say so with `for_model`. One that was made by hand acts everywhere.

    Attributes:
        vector: ``[d_model]``, or ``[pos d_model]`` for one vector a position; float32.
        layer: 0-based block.
        site: "resid_pre", "resid_mid" or "resid_post".
        positions: the positions it was measured at: "last", "mean", "all" or indices, one for each row of `vector`; "mixed"
            where directions of one vector that were measured at different positions have been combined.
        name: what tables and figures call it.
        method: the estimator and its settings.
        model: what `steerlab.models.model.describe` says of the model it was measured in; empty if unknown.

    Raises:
        ValueError: a vector that is empty, zero, not finite, complex or of the wrong rank, or an unknown layer or site.
        TypeError: a vector that is no array of numbers, or a model that is no description.

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

    by_prompt: ClassVar[bool] = False  # another vector for each prompt, see `steerlab.directions.prompt_vectors`

    def __post_init__(self) -> None:
        vector = as_vector(self.vector, f"direction {self.name!r}")
        for which in ("model", "method"):
            if not isinstance(getattr(self, which), Mapping):
                raise InputTypeError(
                    f"direction {self.name!r}: {which} is a {type(getattr(self, which)).__name__}; give a dict (of a model, what steerlab.models.model.describe says)"
                )
        if not isinstance(self.positions, str):
            object.__setattr__(self, "positions", tuple(indices(self.positions)))
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
        one_of(self.site, "site", SITES)
        if not is_whole(self.layer, 0):
            raise InputError(f"direction {self.name!r}: layer={self.layer!r}; use a block number from 0, the first one")
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

    def for_model(self, model: Model) -> "Direction":
        """The same vector for another model, on purpose: a fine-tuned variant of the one that it was found in, say.

        Where it came from is recorded in its method, as "moved_from", and results that are steered with it say so.

        Args:
            model: the model that it is going to act in.

        Raises:
            ValueError: a layer, site or width that this model lacks, or other weight processing.

        Example:
            >>> import steerlab as sl
            >>> model = sl.load_model("tiny-arithmetic")
            >>> found = Direction(torch.ones(128), layer=3, model={"name": "its base model"})
            >>> found.for_model(model).method["moved_from"]["name"]
            'its base model'
        """
        here, method = describe(model), moved_from(self, model)
        found = self if method is self.method else replace(self, model=here, method=method)
        check_direction(model, found)
        return found

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


if TYPE_CHECKING:
    Directions = Direction | Sequence[Direction] | Mapping[int, Direction]
else:
    Directions = object  # `as_directions` says what is wrong, and what to give instead


def as_vector(given: object, what: str) -> Tensor:
    """Numbers as a float32 tensor of their own, on the CPU, without gradients.

    Args:
        given: a tensor, an array or a list of numbers.
        what: it is of, for errors.

    Raises:
        TypeError: something else.
        ValueError: complex numbers.

    Example:
        >>> as_vector([1, 2], "a direction")
        tensor([1., 2.])
    """
    if isinstance(given, Tensor):
        vector = given.detach()
    else:
        try:
            array = np.asarray(given)
        except ValueError as error:
            raise InputTypeError(f"{what}: the vector is a ragged {type(given).__name__}; give numbers of shape [d_model]") from error
        if array.dtype.kind not in "iufcb":
            raise InputTypeError(f"{what}: the vector is a {type(given).__name__}; give a tensor, an array or a list of numbers")
        vector = torch.from_numpy(np.array(array.astype(np.complex128 if array.dtype.kind == "c" else np.float64), order="C"))
        vector = vector.bool() if array.dtype.kind == "b" else vector
    if vector.is_complex():
        raise InputError(
            f"{what}: its numbers are complex ({vector.dtype}), and the residual stream is real; give vector.real, or another part"
        )
    if vector.dtype == torch.bool:
        raise InputTypeError(f"{what}: the vector is of booleans; give numbers")
    return vector.to("cpu", torch.float32, copy=True)


def as_directions(given: object, what: str = "directions", *, needs: str = "give at least one") -> list[tuple[Direction, int | None]]:
    """Directions as all functions take them, each with the layer that it is given for, if any.

    Args:
        given: one, several, or ``{layer: direction}``.
        what: the argument is called, for errors.
        needs: what is said where there are none.

    Raises:
        TypeError: something else than directions.
        ValueError: none.

    Example:
        >>> as_directions({2: Direction(torch.ones(4), layer=1)})
        [(Direction('direction', layer=1, site='resid_post', shape=[4], norm=2), 2)]
    """
    if isinstance(given, Direction):
        return [(given, None)]
    if isinstance(given, Mapping):
        for key, one in given.items():
            check_type(one, f"{what}[{key!r}]", key)
            if not is_whole(key):
                raise InputTypeError(f"{what}: key {key!r} is no layer; give {{layer: direction}}, such as {{3: direction}}")
        placed: list[tuple[Direction, int | None]] = [(one, int(key)) for key, one in given.items()]
    elif isinstance(given, str | Tensor | np.ndarray) or not isinstance(given, Iterable):
        check_type(given, what)
        placed = []
    else:
        several = list(given)
        for i, one in enumerate(several):
            check_type(one, f"{what}[{i}]")
        placed = [(one, None) for one in several]
    if not placed:
        raise InputError(f"no {what} given; {needs}")
    return placed


def check_type(given: object, what: str, layer: object = "…") -> None:
    """Make sure that something is a direction.

    Raises:
        TypeError: anything else; the message says what to give.
    """
    if isinstance(given, Direction):
        return
    kind, fix = f"a {type(given).__name__}", "give a steerlab Direction, e.g. sl.Direction(vector, layer=3)"
    if isinstance(given, Tensor | np.ndarray):
        kind, fix = f"{kind} of shape {list(given.shape)}", f"give sl.Direction(vector, layer={layer})"
    elif isinstance(given, tuple) and len(given) == 2 and any(isinstance(one, Direction) for one in given):
        kind, fix = "a pair of a layer and a direction", "give a dict, {layer: direction}, or the directions alone"
    elif isinstance(given, Mapping):
        fix = "give one direction, or a function that takes several"
    elif isinstance(given, Sequence) and not isinstance(given, str) and any(isinstance(one, Direction) for one in given):
        kind, fix = f"{kind} of {len(given)}", "give one steerlab Direction (of a vector at several layers, one of its `directions`)"
    elif callable(getattr(given, "on", None)):
        fix = "give vector.on(model, problems), its vectors of these problems' prompts"
    raise InputTypeError(f"{what} is {kind}; {fix}")


def check_direction(model: Model, direction: Direction) -> None:
    """Make sure that a direction can act in a model.

    Raises:
        TypeError: something else than a direction.
        ValueError: another width, a layer that the model lacks, or a direction found in another model or under other weight processing or special tokens.
    """
    check_directions(model, [direction])


def check_directions(model: Model, directions: Iterable[Direction]) -> None:
    """Make sure that directions can act in a model; which weights it has is looked up once.

    Raises:
        TypeError: something else than a direction.
        ValueError: another width, a layer that the model lacks, or a direction found in another model or under other weight processing.
    """
    here: dict[str, Any] = {}
    for direction in directions:
        check_type(direction, "direction")
        width = int(direction.vector.shape[-1])
        if width != d_model(model):
            raise InputError(f"direction {direction.name!r} has {width} dimensions; this model's residual stream has {d_model(model)}")
        hook_name(model, direction.layer, direction.site)
        check_processing(direction.name, direction.model, model)
        if direction.model:
            here = here or describe(model)
            different = another_model(direction.model, here)
            if different:
                raise InputError(
                    f"direction {direction.name!r} was found in another model than this one ({different}): in general their residual streams have "
                    "nothing in common. To use it here all the same, e.g. in a fine-tuned variant, give direction.for_model(model)"
                )


def moved_from(one: Any, model: Model) -> Mapping[str, Any]:
    """The method of a direction (or of another vector with a model and a method) that is to act in a model, with where it was found.

    Raises:
        ValueError: other weight processing.
    """
    here = describe(model)
    if another_model(one.model, here) is None:
        return cast("Mapping[str, Any]", one.method)
    check_processing(one.name, one.model, model)
    source = one.method.get("moved_from") or dict(one.model)
    rest = {key: value for key, value in one.method.items() if key != "moved_from"}
    return rest if another_model(source, here) is None else {**rest, "moved_from": source}


def check_processing(name: str, found_in: Mapping[str, Any], model: Model) -> None:
    """Make sure that a direction was found under the model's weight processing, which decides about the basis of the residual stream, and its special tokens.

    Raises:
        ValueError: it was found under another.
    """
    found_under = found_in.get("processing")
    if found_under is not None and found_under != processing_of(model):
        raise InputError(
            f"direction {name!r} was found in a model with {found_under} weights, this one has {processing_of(model)} "
            f"weights: the residual streams differ; load the model with processing={found_under!r}"
        )
    rule, ours = found_in.get("prepend_bos"), prepends_bos(model)
    if rule is not None and ours is not None and rule != ours:
        raise InputError(
            f"direction {name!r} was found with prepend_bos={rule}, and in this model prepend_bos={ours} is in force: every prompt "
            f"begins with other tokens; load the model with prepend_bos={rule}"
        )


def moved(directions: Iterable[Direction]) -> list[str]:
    """A sentence on directions that act in another model than they were found in, because `Direction.for_model` was asked for."""
    pairs = [(one.name, one.method["moved_from"].get("name"), one.model.get("name")) for one in directions if "moved_from" in one.method]
    return [
        f"Direction {name!r} was found in another model ({source or 'unknown'!r}) than the one that it acts in ({here!r})."
        for name, source, here in dict.fromkeys(pairs)
    ]


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
        check_type(one, "direction")
    first = directions[0]
    for one in directions[1:]:
        both = f"directions {first.name!r} and {one.name!r}"
        different = another_model(first.model, one.model)
        if different:
            raise InputError(
                f"{both} were found in different models ({different}): their residual streams have nothing in common. To use both in one model all "
                "the same, e.g. in a fine-tuned variant, say so with direction.for_model(model)"
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
    bad = [weight for weight in weights if not is_number(weight)]
    if bad:
        raise InputError(f"weight {bad[0]!r} is not a finite number; use one like 0.5")
    parts = [one.vector.double() * float(weight) for one, weight in zip(directions, weights, strict=True)]
    vector = torch.stack(parts).sum(0)
    if float(vector.norm()) <= CANCELLED * max(float(part.norm()) for part in parts):
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
        if what == "model" and ours != theirs:  # what they disagree about
            keys = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
            ours, theirs = ({key: about.get(key) for key in keys} for about in (ours, theirs))
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
        raise InputError(f"the groups have {found[0].shape[1]} and {found[1].shape[1]} positions; cache both alike")
    return found[0], found[1]


def differing(positive: Tensor, negative: Tensor, *, name: str, layer: int, positions: object, eps: float) -> Tensor:
    """Where two groups' means differ by more than rounding; how large rounding is follows from the size of the activations.

    Size is the root mean square norm of both groups' activations at a position. Below `ROUNDING` units in the last place of float32 of it, or
    below one unit in the last place of the activations' dtype where that is coarser, activations count as equal. Rounding to a coarse dtype is
    another one for each problem, so that for means this unit is divided by the root of the groups' sizes.

    Args:
        positive, negative: activations, ``[problem pos d_model]``.
        name, layer, positions: of the direction, for errors.
        eps: see `precision_of`.

    Returns:
        ``[pos]``, True where there is a difference.

    Raises:
        ValueError: there is none at any position; the message says whether the problems are all alike, or the groups are.
    """
    norms = torch.cat([torch.linalg.vector_norm(group, dim=-1, dtype=torch.float64) for group in (positive, negative)])
    size = norms.square().mean(0).sqrt()
    means = [group.mean(0, dtype=torch.float64) for group in (positive, negative)]
    gap = (means[0] - means[1]).norm(dim=-1)
    least = ROUNDING * torch.finfo(torch.float32).eps
    differ = ~(
        gap <= max(least, eps * (1 / len(positive) + 1 / len(negative)) ** 0.5) * size
    )  # what is not finite differs, and says so later
    alike = torch.zeros_like(differ)
    for k in (gap <= 2 * max(least, eps) * size).nonzero()[:, 0].tolist():  # problems that are all alike have means that near
        both = torch.cat([positive[:, k], negative[:, k]]).double()
        alike[k] = bool((both - both.mean(0)).norm(dim=-1).max() <= max(least, eps) * size[k])
    differ &= ~alike
    if not bool(differ.any()):
        where = f"direction {name!r} is zero: the two groups do not differ at layer {layer}, positions={positions!r}, but for rounding"
        if bool(alike.all()):
            reason = f"all {len(norms)} problems give the same activations there: their prompts are the same up to this position"
            fix = "give problems whose prompts differ there, or measure at another position"
        else:
            reason = f"their means lie {float(gap.max()):.2g} apart, of a norm of {float(size.max()):.2g}: perhaps both groups are the same problems"
            fix = "give groups that differ"
        raise InputError(f"{where} ({reason}); {fix}")
    return differ


def precision_of(*groups: object) -> float:
    """One unit in the last place at 1 of the coarsest dtype that groups of activations were computed in; of float32, where it is unknown."""
    names = [group.model.get("dtype") if isinstance(group, Activations) else str(getattr(group, "dtype", "")) for group in groups]
    known = (getattr(torch, str(name).removeprefix("torch."), None) for name in names)
    return max((torch.finfo(dtype).eps for dtype in known if isinstance(dtype, torch.dtype) and dtype.is_floating_point), default=0.0)


def check_draw(n: int, rng: np.random.Generator) -> None:
    """Make sure that so many controls can be drawn.

    Raises:
        TypeError: rng is no generator.
        ValueError: n below 1.
    """
    check_rng(rng)
    if not is_whole(n, 1):
        raise InputError(f"n={n!r}; use at least 1 random direction (99 give p-values down to 0.01)")


def site_of(direction: Direction, layer: int | None = None, site: str | None = None) -> Site:
    """Where a direction acts: where it was measured, unless another layer or site is named."""
    return Site(direction.layer if layer is None else layer, direction.site if site is None else site)
