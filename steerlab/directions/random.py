"""Random directions and other families of controls, for `steerlab.random_control`.

Each family answers another doubt: would any direction of this norm do (`random_directions`), any with the data's covariance
(`covariance_matched`), this estimator on shuffled labels (`shuffled_labels`), any orthogonal one (`orthogonal_directions`), one of
`other_task`? A family is a function ``(direction, n, *, rng)``; norms are matched position by position unless ``norm="keep"``.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from steerlab._checks import InputError, one_of
from steerlab.activations.cache import Activations, Group, as_group
from steerlab.directions.contrasts import SCALES, Scale
from steerlab.directions.direction import Direction, check_draw
from steerlab.directions.estimators import Estimator, mean_difference
from steerlab.models.weights import another_model
from steerlab.statistics.separability import cross_validated_auc


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


def random_direction(
    positive: Group, negative: Group, *, layer: int, rng: np.random.Generator, scale: Scale = "contrast", name: str = "random"
) -> Direction:
    """A random isotropic direction with the norm of two groups' mean difference.

    Args:
        positive, negative: activations of the groups.
        layer: the layer to use, among those cached.
        rng: the only source of chance.
        scale: "contrast" (the mean difference's norm) or "unit".
        name: for tables and figures.

    Example:
        >>> from steerlab.activations.cache import as_activations
        >>> right, wrong = as_activations([[3.0, 4.0, 0.0]], layer=1), as_activations([[0.0, 0.0, 0.0]], layer=1)
        >>> round(random_direction(right, wrong, layer=1, rng=np.random.default_rng(0)).norm, 4)
        5.0
    """
    if scale not in ("contrast", "unit"):
        raise InputError(f"scale={scale!r}: a random direction has no length of its own; use contrast or unit")
    (found,) = random_directions(mean_difference(positive, negative, layer=layer), 1, rng=rng)
    found = found.with_vector(found.vector, name, {**found.method, "scale": scale})
    return found.unit() if scale == "unit" else found


def shuffled_label_direction(
    positive: Group,
    negative: Group,
    *,
    layer: int,
    rng: np.random.Generator,
    estimator: Estimator = mean_difference,
    paired: bool = False,
    scale: Scale = "contrast",
    name: str = "shuffled labels",
    **options: Any,
) -> Direction:
    """The direction of an estimator on the same problems with permuted labels.

    Args:
        positive, negative, layer, rng: as in `random_direction`.
        estimator: a function ``(positive, negative, *, layer)``; see `ESTIMATORS`.
        paired: row i of both is one pair; its two activations change sides, or do not, together.
        scale: "contrast" (the norm of the mean difference of the true labels), "unit" or "natural" (what the estimator gives).
        name: for tables and figures.
        options: for the estimator.

    Example:
        >>> from steerlab.activations.cache import as_activations
        >>> right, wrong = as_activations([[3.0, 4.0], [2.0, 4.5]], layer=1), as_activations([[0.0, 0.2], [0.1, 0.0]], layer=1)
        >>> shuffled = shuffled_label_direction(right, wrong, layer=1, rng=np.random.default_rng(0))
        >>> shuffled.method["estimator"], abs(shuffled.norm / mean_difference(right, wrong, layer=1).norm - 1) < 1e-6
        ('shuffled_labels', True)
    """
    one_of(scale, "scale", SCALES)
    positive, negative = as_group(positive, layer=layer), as_group(negative, layer=layer)
    like = mean_difference(positive, negative, layer=layer, name=name)

    def chosen(ours: Activations, theirs: Activations, *, layer: int) -> Direction:
        return estimator(ours, theirs, layer=layer, **options)

    chosen.__name__ = getattr(estimator, "__name__", "custom")
    draw = shuffled_labels(positive, negative, estimator=chosen, paired=paired, norm="keep" if scale == "natural" else "match")
    (found,) = draw(like, 1, rng=rng)
    found = found.with_vector(found.vector, name, {**found.method, "scale": scale})
    return found.unit() if scale == "unit" else found


Draw = Callable[..., list[Direction]]  # (direction, n, *, rng)
Norm = Literal["match", "keep"]
NOTHING = 1e-6  # of the activations' size: what is shorter is rounding


def orthogonal_directions(like: Direction, n: int, *, rng: np.random.Generator, name: str = "orthogonal") -> list[Direction]:
    """Isotropic Gaussian directions without any component along a given one, with its norm, position by position.

    Args:
        like: the direction under test; gives shape, place and norms.
        n: how many.
        rng: the only source of chance.
        name: they are called ``{name}-000`` and so on.

    Raises:
        ValueError: n below 1, or a residual stream of one dimension, where nothing is orthogonal.
        TypeError: rng is no generator.

    Example:
        >>> like = Direction(torch.tensor([3.0, 4.0, 0.0]), layer=1)
        >>> (drawn,) = orthogonal_directions(like, 1, rng=np.random.default_rng(0))
        >>> print(f"{drawn.norm:.3f} {abs(float(drawn.vector @ like.vector)):.3f}")
        5.000 0.000
    """
    check_draw(n, rng)
    if like.vector.shape[-1] < 2:
        raise InputError(f"direction {like.name!r} has one dimension; nothing is orthogonal to it")
    vector = like.vector.double()
    norms = vector.norm(dim=-1, keepdim=True)
    unit = vector / torch.where(norms > 0, norms, 1.0)
    drawn = []
    for i in range(int(n)):
        noise = torch.from_numpy(rng.standard_normal(tuple(vector.shape)))
        found = noise - (noise * unit).sum(-1, keepdim=True) * unit
        drawn.append(_control(like, found, "orthogonal", f"{name}-{i:03d}", "match"))
    return drawn


def covariance_matched(acts: Activations, *, norm: Norm = "match", name: str = "covariance") -> Draw:
    """Gaussian directions with the covariance of activations at the direction's layer.

    Activations vary far more in some directions than in others, and an isotropic direction lies mostly where they do not.
    Each draw is a random combination of centred activations, which has exactly their sample covariance and never builds
    the d_model x d_model matrix, so that it works with fewer problems than dimensions.

    Args:
        acts: activations of any problems, at the direction's layer and site. Several positions count as so many samples
            for a direction of one vector; for one of several vectors they must be its positions.
        norm: "match" the direction's norm at each position, or "keep" what was drawn.
        name: they are called ``{name}-000`` and so on.

    Returns:
        A function ``(direction, n, *, rng)``. It raises ValueError for activations that lack the direction's layer, are of
        another site, width, positions or weight processing, or do not vary.

    Example:
        >>> values = torch.zeros(3, 1, 1, 4)
        >>> values[:, 0, 0, 2] = torch.tensor([1.0, 2.0, 6.0])  # they vary in one dimension only
        >>> acts = Activations(values, torch.ones(3, 1, dtype=torch.bool), ("a", "b", "c"), (1,), "resid_post", "last", {})
        >>> draw = covariance_matched(acts)
        >>> draw(Direction(torch.ones(4), layer=1), 1, rng=np.random.default_rng(0))[0].vector.abs().tolist()
        [0.0, 0.0, 2.0, 0.0]
    """
    _check_norm(norm)

    def draw(direction: Direction, n: int, *, rng: np.random.Generator) -> list[Direction]:
        check_draw(n, rng)
        values = _samples(acts, direction)
        if len(values) < 2:
            raise InputError(f"acts have {len(values)} problem(s); a covariance needs at least 2")
        centred = values - values.mean(0)
        size = float(values.square().mean().sqrt())
        about = {"n_samples": len(values)}
        drawn = []
        for i in range(int(n)):
            weights = torch.from_numpy(rng.standard_normal(len(values))) / (len(values) - 1) ** 0.5
            found = torch.tensordot(weights, centred, 1)
            drawn.append(_control(direction, found, "covariance_matched", f"{name}-{i:03d}", norm, about, size))
        return drawn

    return draw


def shuffled_labels(
    positive: Activations,
    negative: Activations,
    *,
    estimator: Callable[..., Direction] = mean_difference,
    paired: bool = False,
    norm: Norm = "match",
    name: str = "shuffled",
) -> Draw:
    """A family of controls: the same estimator on the same problems with permuted labels, in groups of the same sizes.

    Args:
        positive, negative: the activations that the direction was estimated from.
        estimator: a function ``(positive, negative, layer=layer)`` that gives a `Direction`.
        paired: row i of both is one problem; its two activations change sides, or do not, together.
        norm: "match" the direction's norm at each position, or "keep" what the estimator gives (shuffled differences are
            shorter, so that "keep" asks about length, too).
        name: they are called ``{name}-000`` and so on.

    Returns:
        A function ``(direction, n, *, rng)``. It raises ValueError for groups that lack the direction's layer, are of
        another site, width, positions or weight processing than the direction, or differ in these from each other.

    Raises:
        ValueError: pairs that are none, or an unknown norm.

    Source:
        Fisher (1935), The Design of Experiments (the permutation test), with the direction as what is permuted.

    Example:
        >>> values = torch.arange(12.0).reshape(6, 1, 1, 2) ** 2
        >>> ids, mask = tuple("abcdef"), torch.ones(6, 1, dtype=torch.bool)
        >>> acts = Activations(values, mask, ids, (1,), "resid_post", "last", {})
        >>> right, wrong = acts.select("def"), acts.select("abc")
        >>> direction = mean_difference(right, wrong, layer=1)
        >>> drawn = shuffled_labels(right, wrong)(direction, 9, rng=np.random.default_rng(0))
        >>> len(drawn), all(abs(one.norm / direction.norm - 1) < 1e-6 for one in drawn)
        (9, True)
    """
    _check_norm(norm)
    shuffle = permuted(positive, negative, paired=paired)

    def draw(direction: Direction, n: int, *, rng: np.random.Generator) -> list[Direction]:
        check_draw(n, rng)
        for group in (positive, negative):
            _samples(group, direction)  # says so if they are of another place
        drawn = []
        for i in range(int(n)):
            found = estimator(*shuffle(rng, direction.layer), layer=direction.layer).vector
            about = _about_shuffle(positive, negative, estimator, paired)
            drawn.append(_control(direction, found.double(), "shuffled_labels", f"{name}-{i:03d}", norm, about))
        return drawn

    return draw


def _about_shuffle(positive: Activations, negative: Activations, estimator: Callable[..., Direction], paired: bool) -> dict[str, Any]:
    sizes = {"n_positive": len(positive.problem_ids), "n_negative": len(negative.problem_ids)}
    return {"of": getattr(estimator, "__name__", "custom"), "paired": paired, **sizes}


def permuted(
    positive: Activations, negative: Activations, *, paired: bool = False, groups: Mapping[str, str] | None = None
) -> Callable[..., tuple[Activations, Activations]]:
    """A function ``(rng, layer=None)`` that gives both groups of activations with permuted labels, at one layer or at all that both have.

    Args:
        positive, negative: activations of the groups, cached alike.
        paired: row i of both is one problem; its two activations change sides, or do not, together.
        groups: a label for each problem id; problems of one label are not independent. Their labels are permuted among themselves where
            they have both, and as a whole with those of other such groups where they have one.

    Raises:
        ValueError: groups cached differently, pairs that are none, or labels under which nothing can be permuted.

    Example:
        >>> ids, mask = tuple("abcd"), torch.ones(4, 1, dtype=torch.bool)
        >>> acts = Activations(torch.arange(8.0).reshape(4, 1, 1, 2), mask, ids, (1,), "resid_post", "last", {})
        >>> shuffle = permuted(acts.select("ab"), acts.select("cd"), groups={"a": "x", "b": "x", "c": "y", "d": "y"})
        >>> sorted({"".join(sorted(shuffle(np.random.default_rng(seed))[0].problem_ids)) for seed in range(20)})
        ['ab', 'cd']
    """
    sizes = len(positive.problem_ids), len(negative.problem_ids)
    if paired and sizes[0] != sizes[1]:
        raise InputError(f"paired=True: the groups have {sizes[0]} and {sizes[1]} problems; row i of both must be one problem")
    for what in ("site", "positions", "model"):
        if getattr(positive, what) != getattr(negative, what):
            raise InputError(f"the groups differ in {what}: {getattr(positive, what)!r} and {getattr(negative, what)!r}; cache both alike")
    ids = positive.problem_ids + negative.problem_ids
    if groups is not None and (lacking := [one for one in ids if one not in groups]):
        raise InputError(f"groups: none for problem {lacking[0]!r}; give one for each of {len(ids)}")
    order = _order_of_pairs(sizes[0]) if paired else _order_of(sizes, None if groups is None else [groups[one] for one in ids])

    def shuffle(rng: np.random.Generator, layer: int | None = None) -> tuple[Activations, Activations]:
        first, second = order(rng)
        both = _joined(positive, negative, [one for one in positive.layers if one in negative.layers] if layer is None else (layer,))
        return _rows(both, first), _rows(both, second)

    return shuffle


def _order_of_pairs(n: int) -> Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]:
    def order(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        swapped = rng.integers(2, size=n, dtype=np.int64) * n
        return np.arange(n) + swapped, np.arange(n) + n - swapped

    return order


def _order_of(sizes: tuple[int, int], labels: Sequence[str] | None) -> Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]:
    n, total = sizes[0], sum(sizes)
    if labels is None or len(set(labels)) == total:

        def free(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
            order = rng.permutation(total)
            return order[:n], order[n:]

        return free
    members: dict[str, list[int]] = {}
    for i, label in enumerate(labels):
        members.setdefault(label, []).append(i)
    mixed = [np.array(rows) for rows in members.values() if rows[0] < n <= rows[-1]]
    whole = [np.array(rows) for rows in members.values() if not rows[0] < n <= rows[-1]]
    if not mixed and len({rows[0] < n for rows in whole}) < 2:
        raise InputError("groups: all problems of each side are in groups of one label, so that no label can be permuted")

    def order(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        first = np.arange(total) < n
        for rows in mixed:
            first[rows] = first[rng.permutation(rows)]
        sides = rng.permutation([bool(rows[0] < n) for rows in whole])
        for rows, side in zip(whole, sides, strict=True):
            first[rows] = side
        return np.flatnonzero(first), np.flatnonzero(~first)

    return order


class Drawn(NamedTuple):
    """The directions of one control pipeline, by layer, and what its contrast is worth at each, where it has one of its own."""

    directions: Mapping[int, Direction]
    separability: Mapping[int, float] | None = None


Pipelines = Callable[[Mapping[int, Direction], np.random.Generator], Iterator[Drawn]]
"""A kind of control pipelines: from the directions under test, draws without end."""


def random_pipelines(directions: Mapping[int, Direction], rng: np.random.Generator) -> Iterator[Drawn]:
    """Control pipelines of random directions: at each layer an isotropic one of its own, with the norm of the direction there.

    Exact under the null that the directions under test are isotropic at random themselves, independent between layers.

    Example:
        >>> like = {1: Direction(torch.tensor([3.0, 4.0]), layer=1), 2: Direction(torch.tensor([6.0, 8.0]), layer=2)}
        >>> drawn = next(random_pipelines(like, np.random.default_rng(0))).directions
        >>> [round(one.norm, 3) for one in drawn.values()]
        [5.0, 10.0]
    """
    while True:
        yield Drawn({layer: random_directions(one, 1, rng=rng, name="random")[0] for layer, one in directions.items()})


def shuffled_pipelines(
    positive: Activations,
    negative: Activations,
    *,
    estimator: Callable[..., Direction] = mean_difference,
    paired: bool = False,
    norm: Norm = "match",
    groups: Mapping[str, str] | None = None,
    folds: int = 5,
) -> Pipelines:
    """Control pipelines of permuted labels: the permutation test of the claim itself.

    Labels are permuted once for all layers, the directions estimated again at each, and what the contrast is worth there measured again,
    so that a rule that goes by it is followed with these labels. With ``norm="keep"`` exact under the null that labels are exchangeable, given the
    activations. With ``norm="match"`` the permuted vectors are given the directions' lengths, which asks about where they point alone: exact as well
    where the length does not matter, and in simulations where it decides everything a true null was rejected in 10% of cases at 0.05.

    Args:
        positive, negative: the activations that the directions were estimated from.
        estimator, paired, norm: as in `shuffled_labels`.
        groups: as in `permuted`.
        folds: of the held-out separability, at most the problems of a group; with fewer than 2 it is left out.

    Returns:
        A function ``(directions, rng)`` that gives pipelines.

    Raises:
        ValueError: what `permuted` refuses, or an unknown norm.

    Source:
        Fisher (1935), The Design of Experiments (the permutation test), with the outcome of the whole choice as the statistic.
    """
    _check_norm(norm)
    shuffle = permuted(positive, negative, paired=paired, groups=groups)
    about = _about_shuffle(positive, negative, estimator, paired)

    def draw(directions: Mapping[int, Direction], rng: np.random.Generator) -> Iterator[Drawn]:
        for like, group in product(directions.values(), (positive, negative)):
            _samples(group, like)  # says so if they are of another place
        while True:
            ours, theirs = shuffle(rng)
            found = {
                layer: _control(like, estimator(ours, theirs, layer=like.layer).vector.double(), "shuffled_labels", "shuffled", norm, about)
                for layer, like in directions.items()
            }
            worth = separability(ours, theirs, {like.layer for like in directions.values()}, rng=rng, folds=folds, paired=paired)
            yield Drawn(found, worth and {layer: worth[like.layer] for layer, like in directions.items()})

    return draw


def separability(
    positive: Activations, negative: Activations, layers: Iterable[int], *, rng: np.random.Generator, folds: int = 5, paired: bool = False
) -> dict[int, float] | None:
    """How well the mean difference separates held-out problems at each layer: areas under the curve, 0 to 1.

    The folds are the same at each layer. None where there are too few problems for two folds.
    """
    folds = min(folds, len(positive.problem_ids), len(negative.problem_ids))
    if folds < 2:
        return None
    seed, found = int(rng.integers(2**63)), {}
    for layer in layers:
        ours, theirs = (group.at(layer).flatten(1).double().numpy() for group in (positive, negative))
        found[layer] = cross_validated_auc(ours, theirs, rng=np.random.default_rng(seed), folds=folds, paired=paired).value
    return found


def other_task(directions: Sequence[Direction], *, norm: Norm = "match", name: str = "other-task") -> Draw:
    """A family of controls: directions found on other tasks, at the same layer and site.

    Args:
        directions: found on other tasks; more than are asked for are drawn from without repetition. The direction under test
            is left out, should it be among them.
        norm: "match" the direction's norm at each position, or "keep" their own.
        name: they are called ``{name}-000`` and so on, followed by their own names.

    Returns:
        A function ``(direction, n, *, rng)``. It raises ValueError if fewer than n directions are at the layer and site of
        the direction, or if one has another shape, other positions or was found under other weight processing.

    Example:
        >>> found = [Direction(torch.eye(4)[k], layer=1, name=f"task {k}") for k in range(3)]
        >>> [one.name for one in other_task(found)(Direction(torch.ones(4), layer=1), 2, rng=np.random.default_rng(0))]
        ['other-task-000 task 1', 'other-task-001 task 2']
    """
    _check_norm(norm)
    given = list(directions)

    def draw(direction: Direction, n: int, *, rng: np.random.Generator) -> list[Direction]:
        check_draw(n, rng)
        others = [one for one in given if not torch.equal(one.vector, direction.vector)]
        here = [one for one in others if (one.layer, one.site) == (direction.layer, direction.site)]
        if len(here) < n:
            raise InputError(
                f"n={n}: {len(here)} of the {len(others)} other directions were found at layer {direction.layer}, {direction.site}; "
                f"ask for {len(here)}, or find directions on more tasks there"
                if here
                else f"none of the {len(others)} other directions was found at layer {direction.layer}, {direction.site}; find some there"
            )
        for one in here:
            if one.vector.shape != direction.vector.shape or (one.vector.ndim == 2 and one.positions != direction.positions):
                raise InputError(
                    f"direction {one.name!r} has shape {list(one.vector.shape)} at positions {one.positions!r}, direction {direction.name!r} "
                    f"{list(direction.vector.shape)} at {direction.positions!r}; find both alike"
                )
            _check_processing(one.model, direction)
        chosen = [here[i] for i in rng.choice(len(here), int(n), replace=False)]
        return [
            _control(direction, one.vector.double(), "other_task", f"{name}-{i:03d} {one.name}", norm, {"source": one.name})
            for i, one in enumerate(chosen)
        ]

    return draw


def given_controls(directions: Sequence[Direction]) -> Draw:
    """A family of controls that are already drawn (and perhaps matched by `steerlab.match_kl`), in their order.

    Returns:
        A function ``(direction, n, *, rng)`` that gives the first n. It raises ValueError if there are fewer.

    Example:
        >>> controls = [Direction(torch.eye(4)[k], layer=1, name=f"c{k}") for k in range(3)]
        >>> [one.name for one in given_controls(controls)(Direction(torch.ones(4), layer=1), 2, rng=np.random.default_rng(0))]
        ['c0', 'c1']
    """
    given = list(directions)

    def draw(direction: Direction, n: int, *, rng: np.random.Generator) -> list[Direction]:
        check_draw(n, rng)
        if len(given) < n:
            raise InputError(f"n={n}: only {len(given)} controls are given; ask for no more")
        return given[: int(n)]

    return draw


def _check_norm(norm: str) -> None:
    if norm not in ("match", "keep"):
        raise InputError(f"norm={norm!r}; use match (the direction's norm at each position) or keep (what was drawn)")


def _control(
    like: Direction,
    found: Float[Tensor, "*pos d_model"],
    family: str,
    name: str,
    norm: Norm,
    about: Mapping[str, Any] | None = None,
    size: float | None = None,
) -> Direction:
    """A drawn vector as a control of a direction.

    Args:
        like: the direction under test.
        found: what was drawn.
        family, name, norm, about: what is recorded.
        size: of what it was drawn from; default the longest vector found.
    """
    if found.shape != like.vector.shape:
        raise InputError(
            f"{family}: a draw has shape {list(found.shape)}, direction {like.name!r} {list(like.vector.shape)}; use the same positions"
        )
    matched = "norm of each position" if norm == "match" else "nothing"
    if norm == "match":
        norms, lengths = like.vector.double().norm(dim=-1, keepdim=True), found.norm(dim=-1, keepdim=True)
        nothing = NOTHING * (float(lengths.max()) if size is None else size)
        still = (lengths <= nothing) & (norms > nothing)
        if bool(still.any()):
            where = f" at position {int(still.flatten().nonzero()[0])} of the vector" if found.ndim == 2 else ""
            raise InputError(f"{family}: what it draws from does not vary{where}, so no direction has the norm of {like.name!r} there")
        found = found / torch.where(lengths > 0, lengths, 1.0) * norms
    return like.with_vector(found.float(), name, {"estimator": family, "matched": matched, **(about or {})})


def _samples(acts: Activations, direction: Direction) -> Float[Tensor, "sample *pos d_model"]:
    """Activations at the direction's place, in float64: ``[sample d_model]``, or ``[problem pos d_model]`` for a vector a position."""
    if acts.site != direction.site:
        raise InputError(f"the activations are of {acts.site}, direction {direction.name!r} of {direction.site}; cache that site")
    _check_processing(acts.model, direction)
    values = acts.at(direction.layer)
    if values.shape[-1] != direction.vector.shape[-1]:
        raise InputError(
            f"the activations have {values.shape[-1]} dimensions, direction {direction.name!r} {direction.vector.shape[-1]}; use one model"
        )
    if direction.vector.ndim == 1:
        return values[acts.mask].double()
    if acts.positions != direction.positions or values.shape[1] != len(direction.vector) or not bool(acts.mask.all()):
        raise InputError(
            f"direction {direction.name!r} has {len(direction.vector)} vectors at positions {direction.positions!r}, the activations were cached at "
            f"{acts.positions!r}; cache these positions of every problem"
        )
    return values.double()


def _check_processing(model: Mapping[str, Any], direction: Direction) -> None:
    ours, theirs = direction.model.get("processing"), model.get("processing")
    if ours is not None and theirs is not None and ours != theirs:
        raise InputError(
            f"direction {direction.name!r} is of a model with {ours} weights, these are of one with {theirs} weights; use one model"
        )
    different = another_model(direction.model, model)
    if different:
        raise InputError(f"direction {direction.name!r} is of another model than these ({different}); use one model")
    rules = direction.model.get("prepend_bos"), model.get("prepend_bos")
    if None not in rules and rules[0] != rules[1]:
        raise InputError(
            f"direction {direction.name!r} was found with prepend_bos={rules[0]}, these with prepend_bos={rules[1]}; use one rule for both"
        )


def _joined(positive: Activations, negative: Activations, layers: Sequence[int]) -> Activations:
    """Both groups, at some layers."""
    values = torch.cat([torch.stack([group.at(layer) for layer in layers], 1) for group in (positive, negative)])
    mask = torch.cat([positive.mask, negative.mask])
    ids = positive.problem_ids + negative.problem_ids
    return Activations(values, mask, ids, tuple(layers), positive.site, positive.positions, positive.model)


def _rows(acts: Activations, rows: np.ndarray) -> Activations:
    """Some problems by place: their ids may repeat."""
    index = torch.from_numpy(rows)
    ids = tuple(acts.problem_ids[i] for i in rows)
    return Activations(acts.values[index], acts.mask[index], ids, acts.layers, acts.site, acts.positions, acts.model)
