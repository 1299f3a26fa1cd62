"""Combine, project and compare directions.

Sums, differences and multiples are operators of `Direction` itself. Directions of several positions are treated position by
position; directions of different models, layers or sites are refused.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from steerlab._checks import InputError, InputTypeError
from steerlab.activations.positions import indices
from steerlab.directions.direction import Direction, check_alike, weighted_sum

NOTHING = 1e-6  # of a vector's length: what is shorter is rounding


def combine(directions: Sequence[Direction], weights: Sequence[float], *, name: str = "combination") -> Direction:
    """A weighted sum of directions, e.g. of task vectors; ``combine([a, b], [w, 1 - w])`` mixes two.

    Args:
        directions: of one model, layer, site and shape.
        weights: one for each.
        name: for tables and figures.

    Raises:
        ValueError: no directions, other numbers of weights, different places or models, or a sum that is zero.

    Source:
        Ilharco et al. (2023), Editing models with task arithmetic (of weights; here of activations).

    Example:
        >>> mathematics, language = Direction(torch.tensor([2.0, 0.0]), 1), Direction(torch.tensor([0.0, 4.0]), 1)
        >>> combine([mathematics, language], [0.5, 0.25]).vector.tolist()
        [1.0, 1.0]
    """
    return weighted_sum(list(directions), list(weights), name)


def average_directions(directions: Sequence[Direction], *, normalise: bool = False, name: str = "average") -> Direction:
    """The mean of directions.

    Args:
        directions: of one model, layer, site and shape.
        normalise: average their unit vectors, so that long ones count no more than short ones, and keep their mean norm.
        name: for tables and figures.

    Raises:
        ValueError: no directions, different places or models, or directions that cancel each other.

    Example:
        >>> long, short = Direction(torch.tensor([8.0, 0.0]), 1), Direction(torch.tensor([0.0, 2.0]), 1)
        >>> average_directions([long, short]).vector.tolist(), [round(v, 3) for v in average_directions([long, short], normalise=True).vector.tolist()]
        ([4.0, 1.0], [3.536, 3.536])
    """
    given = list(directions)
    check_alike(given)
    if not normalise:
        return weighted_sum(given, [1 / len(given)] * len(given), name)
    norms = [one.norm for one in given]
    mean = weighted_sum(given, [1 / norm for norm in norms], name)
    factor = float(np.mean(norms)) / mean.norm
    return weighted_sum(given, [factor / norm for norm in norms], name, {"normalised": True})


def project_out(
    direction: Direction, others: Direction | Sequence[Direction], *, keep_norm: bool = False, name: str | None = None
) -> Direction:
    """A direction without its components along other directions.

    Args:
        direction: the direction.
        others: one or several, which need not be orthogonal to each other.
        keep_norm: scale what is left to the direction's norm, at each position.
        name: default "{name} without {others}".

    Raises:
        ValueError: different places or models, or nothing left.

    Example:
        >>> direction, other = Direction(torch.tensor([3.0, 4.0]), 1, name="a"), Direction(torch.tensor([7.0, 0.0]), 1, name="b")
        >>> left = project_out(direction, other)
        >>> left.name, left.vector.tolist()
        ('a without b', [0.0, 4.0])
    """
    given = [others] if isinstance(others, Direction) else list(others)
    check_alike([direction, *given])
    left = _rest(_rows(direction), [_rows(one) for one in given])
    called = name or f"{direction.name} without {', '.join(one.name for one in given)}"
    about = {"estimator": "project_out", "of": direction.name, "without": [one.name for one in given], "kept_norm": keep_norm}
    return _made(direction, left, called, {**about, "methods": [dict(one.method) for one in (direction, *given)]}, keep_norm)


def orthogonalise(directions: Sequence[Direction], *, keep_norm: bool = False) -> list[Direction]:
    """Orthogonal directions: each without its components along those before it.

    Args:
        directions: the first is kept as it is, so that their order matters.
        keep_norm: scale each to its former norm, at each position.

    Raises:
        ValueError: different places or models, or a direction that those before it span.

    Source:
        Gram and Schmidt, each step taken twice against rounding.

    Example:
        >>> first, second = Direction(torch.tensor([1.0, 0.0]), 1, name="a"), Direction(torch.tensor([5.0, 2.0]), 1, name="b")
        >>> [one.vector.tolist() for one in orthogonalise([first, second])]
        [[1.0, 0.0], [0.0, 2.0]]
    """
    given = list(directions)
    check_alike(given)
    found = [given[0]]
    for k, one in enumerate(given[1:], start=1):
        left = _rest(_rows(one), [_rows(before) for before in given[:k]])
        about = {"estimator": "orthogonalise", "of": one.name, "after": [before.name for before in given[:k]], "kept_norm": keep_norm}
        found.append(_made(one, left, one.name, {**about, "methods": [dict(one.method)]}, keep_norm))
    return found


def cosine_table(directions: Sequence[Direction], *, layers: bool = False) -> pd.DataFrame:
    """Cosines between directions, a line and a column each; over all positions at once where there are several.

    Args:
        directions: of one model, each with a name of its own.
        layers: compare directions of different layers and sites, too; they are then called "{name} (layer …)".

    Raises:
        ValueError: no directions, different models, layers or sites, or names that repeat.

    Example:
        >>> a, b = Direction(torch.tensor([1.0, 0.0]), 1, name="a"), Direction(torch.tensor([3.0, 4.0]), 1, name="b")
        >>> cosine_table([a, b]).round(2).to_dict("list")
        {'a': [1.0, 0.6], 'b': [0.6, 1.0]}
    """
    if not isinstance(directions, Iterable):
        raise InputTypeError(f"directions is a {type(directions).__name__}; give a list of steerlab Directions")
    given = list(directions)
    check_alike(given, layers=not layers)
    shapes = {tuple(one.vector.shape) for one in given}
    if len(shapes) > 1:
        raise InputError(f"directions have shapes {sorted(map(list, shapes))}; compare directions of as many positions")
    names = [f"{one.name} (layer {one.layer})" if layers else one.name for one in given]
    if len(set(names)) < len(names):
        twice = next(one for one in names if names.count(one) > 1)
        raise InputError(f"two directions are called {twice!r}; give each a name of its own")
    rows = torch.stack([one.vector.double().flatten() for one in given])
    unit = rows / rows.norm(dim=1, keepdim=True)
    return pd.DataFrame((unit @ unit.T).clamp(-1, 1).numpy(), index=names, columns=names)


def scale_positions(
    direction: Direction, alphas: Sequence[float], *, positions: Sequence[int] | None = None, name: str | None = None
) -> Direction:
    """A direction with its own coefficient at each position.

    The alpha that it is then steered with multiplies them all. This is for operators whose strength is the vector's length
    ("add", "clamp", "rotate"); ablation does not look at it.

    Args:
        direction: of one vector, or of one vector a position.
        alphas: one for each position; where one is 0, nothing is done.
        positions: where the direction has one vector: the index of each; negative ones count from the prompt's end.
        name: default the direction's.

    Raises:
        ValueError: other numbers of alphas than positions, alphas that are not finite or all 0, or positions that are
            missing, repeated, or given twice over.

    Example:
        >>> fading = scale_positions(Direction(torch.tensor([1.0, 2.0]), 1), [1.0, 0.5, 0.0], positions=[-1, -2, -3])
        >>> fading.positions, fading.vector.tolist()
        ((-1, -2), [[1.0, 2.0], [0.5, 1.0]])
    """
    several = direction.vector.ndim == 2
    if several == (positions is not None):
        have = "has positions of its own, so leave `positions` out" if several else "has one vector, so say at which `positions`"
        raise InputError(f"direction {direction.name!r} {have}")
    if several and isinstance(direction.positions, str):
        raise InputError(
            f"direction {direction.name!r} has positions={direction.positions!r}; give Direction(positions=(…)) one index for each"
        )
    where = indices(direction.positions if several else positions)
    strengths = np.asarray(alphas, dtype=float)
    if strengths.shape != (len(where),):
        raise InputError(f"{strengths.size} alphas and {len(where)} positions; give one alpha for each position")
    if not np.isfinite(strengths).all() or not strengths.any():
        raise InputError(f"alphas={list(alphas)}; they must be finite, and at least one of them not 0")
    if len(set(where)) < len(where):
        raise InputError(f"positions={where} repeat; give each once")
    kept = np.flatnonzero(strengths)
    vectors = direction.vector if several else direction.vector.expand(len(where), -1)
    vector = torch.from_numpy(strengths[kept])[:, None] * vectors[torch.from_numpy(kept)].double()
    method = {"estimator": "scale_positions", "of": direction.name, "alphas": strengths.tolist(), "methods": [dict(direction.method)]}
    at = tuple(where[k] for k in kept)
    return Direction(vector.float(), direction.layer, direction.site, at, name or direction.name, method, direction.model)


def _rows(direction: Direction) -> Tensor:
    return torch.atleast_2d(direction.vector).double()


def _rest(rows: Tensor, others: Sequence[Tensor]) -> Tensor:
    """What is left of each row without what lies in the span of the others' rows there."""
    basis: list[Tensor] = []
    for one in others:
        left = _without(one, basis)
        lengths = left.norm(dim=-1, keepdim=True)
        basis.append(left / torch.where(lengths > 0, lengths, 1.0))
    return _without(rows, basis)


def _without(rows: Tensor, basis: Sequence[Tensor]) -> Tensor:
    """Rows without their components along orthonormal (or zero) ones; zero where only rounding is left."""
    left = rows
    for _ in range(2):
        for unit in basis:
            left = left - (left * unit).sum(-1, keepdim=True) * unit
    return torch.where(left.norm(dim=-1, keepdim=True) > NOTHING * rows.norm(dim=-1, keepdim=True), left, 0.0)


def _made(like: Direction, rows: Tensor, name: str, method: dict[str, object], keep_norm: bool) -> Direction:
    if float(rows.norm()) == 0:
        raise InputError(f"nothing of direction {like.name!r} is left: it lies in the span of the others")
    if keep_norm:
        lengths = rows.norm(dim=-1, keepdim=True)
        rows = rows / torch.where(lengths > 0, lengths, 1.0) * _rows(like).norm(dim=-1, keepdim=True)
    vector = rows if like.vector.ndim == 2 else rows[0]
    return Direction(vector.float(), like.layer, like.site, like.positions, name, method, like.model)
