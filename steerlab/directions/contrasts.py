"""What all estimators of a direction between two groups of activations share: input, sign, length, provenance."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Unpack

import numpy as np
import torch
from jaxtyping import Float

from steerlab._checks import InputError, takes_options
from steerlab.activations.cache import Activations, Group, as_group, cache_activations
from steerlab.activations.positions import Positions
from steerlab.directions.direction import Direction, check_groups, differing, precision_of
from steerlab.models.backends import Model
from steerlab.models.memory import PassOptions
from steerlab.models.model import n_layers
from steerlab.tasks.evaluation import Evaluation, balance
from steerlab.tasks.scorers import encode_prompt

Scale = Literal["contrast", "unit", "natural"]
SCALES = ("contrast", "unit", "natural")
Rows = Float[np.ndarray, "_ d_model"]  # the groups differ in size
Vector = Float[np.ndarray, " d_model"]
Fit = Callable[[np.ndarray, np.ndarray], np.ndarray]  # of one position's rows of both groups


@takes_options
def balanced_activations(
    model: Model,
    evaluation: Evaluation,
    *,
    rng: np.random.Generator,
    layers: Sequence[int] | None = None,
    site: str = "resid_post",
    positions: Positions = "last",
    **options: Unpack[PassOptions],
) -> tuple[Activations, Activations, Activations]:
    """Activations of equally many right and wrong problems, then of the right ones, and of the wrong ones.

    Args:
        model: the model that was evaluated.
        evaluation: what it got right and wrong.
        rng: draws which problems of the larger group are kept.
        layers: default all.
        site, positions: as in `steerlab.cache_activations`.

    Raises:
        ValueError: nothing right or nothing wrong, or prompts that are all the same.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> acts, right, wrong = balanced_activations(model, sl.evaluate(model, task.train[:40]), rng=np.random.default_rng(0), layers=[3])
        >>> len(acts.problem_ids), len(right.problem_ids), len(wrong.problem_ids)
        (20, 10, 10)
    """
    groups = balance(evaluation, rng=rng, train=1.0)
    where = list(range(n_layers(model))) if layers is None else list(layers)
    tokens = {tuple(encode_prompt(model, problem)) for problem in groups.train}
    if len(tokens) == 1:
        shown = repr(groups.train[0].prompt)
        raise InputError(
            f"the prompts of all {len(groups.train)} problems are the same {len(next(iter(tokens)))} tokens ({shown if len(shown) <= 60 else shown[:60] + '…'}), so "
            "nothing tells right from wrong ones before the answer (where choices are whole sentences, the prompt is empty): give problems whose prompts differ"
        )
    acts = cache_activations(model, groups.train, layers=where, site=site, positions=positions, **options)
    right, wrong = (acts.select([p.id for p in group]) for group in (groups.train_correct, groups.train_incorrect))
    return acts, right, wrong


def fitted(
    positive: Group, negative: Group, fit: Fit, *, layer: int, scale: Scale, name: str, method: Mapping[str, Any], paired: bool = False
) -> Direction:
    """A direction fitted at each position on its own, that points from the negative group to the positive one.

    Args:
        positive, negative: activations from the same model, site and positions; or plain arrays, ``[problem d_model]`` or ``[problem pos d_model]``.
        fit: gives a vector, of either sign, for the rows of both groups at one position, float64.
        layer: the layer to use, among those cached.
        scale: "contrast" (the mean difference's norm, position by position), "unit" (the same, then norm 1) or "natural"
            (what the fit gave).
        name: for tables and figures.
        method: the estimator and its settings.
        paired: row i of both groups is one pair.

    Returns:
        ``[d_model]`` where one position was cached, else ``[pos d_model]``. Where the groups do not differ but for rounding, its row is zero.

    Raises:
        ValueError: groups that cannot be contrasted, pairs that are none, an unknown scale, or groups that do not differ.
    """
    if scale not in SCALES:
        raise InputError(f"scale={scale!r}; use contrast (the mean difference's norm), unit (norm 1) or natural (the estimator's own)")
    eps = precision_of(positive, negative)
    positive, negative = as_group(positive, layer=layer), as_group(negative, layer=layer)
    groups = check_groups(positive, negative, layer=layer)
    check_pairs(len(groups[0]), len(groups[1]), paired=paired)
    ours, theirs = (group.numpy().astype(np.float64) for group in groups)
    for rows, which in ((ours, "positive"), (theirs, "negative")):
        broken = int((~np.isfinite(rows)).any(axis=(1, 2)).sum())
        if broken:
            raise InputError(
                f"{broken} of the {len(rows)} problems in the {which} group have activations that are NaN or infinite; leave them out"
            )
    differ = differing(*groups, name=name, layer=layer, positions=positive.positions, eps=eps).numpy()
    contrast = ours.mean(0) - theirs.mean(0)
    found = np.zeros_like(contrast)
    for k in np.flatnonzero(differ):
        vector = fit(ours[:, k], theirs[:, k])
        found[k] = -vector if vector @ contrast[k] < 0 else vector
    if scale != "natural":
        lengths = np.linalg.norm(found, axis=-1, keepdims=True)
        found = found / np.where(lengths > 0, lengths, 1) * np.linalg.norm(contrast, axis=-1, keepdims=True)
    about = {**method, "scale": scale, "n_positive": len(ours), "n_negative": len(theirs)}
    if scale == "unit" and found.any():
        found = found / np.linalg.norm(found)
    fit_of = torch.from_numpy(found[0] if len(found) == 1 else found).float()
    return Direction(fit_of, layer, positive.site, positive.positions, name, about, positive.model)


def check_pairs(n_positive: int, n_negative: int, *, paired: bool) -> None:
    """Make sure that pairs are pairs.

    Raises:
        ValueError: groups of different sizes.
    """
    if paired and n_positive != n_negative:
        raise InputError(
            f"paired=True: the groups have {n_positive} and {n_negative} problems; row i of both must be one pair (or use paired=False)"
        )


def within(ours: Rows, theirs: Rows) -> Rows:
    """Both groups' rows around their group's mean."""
    return np.concatenate([ours - ours.mean(0), theirs - theirs.mean(0)])


def spread_of(rows: Rows) -> float:
    """Root mean square over rows and dimensions: the unit in which penalties and margins are given.

    Raises:
        ValueError: rows that do not vary.
    """
    size = float(np.sqrt(np.mean(np.square(rows))))
    if size == 0:
        raise InputError(
            "the problems of each group are all alike, so nothing can be fitted to them; use the mean difference, or more problems"
        )
    return size


def shrinkage_of(centred: Rows) -> float:
    """Ledoit and Wolf's weight of the identity, for rows around their mean(s), without the d_model x d_model matrix.

    Source:
        Ledoit and Wolf (2004), A well-conditioned estimator for large-dimensional covariance matrices.

    Example:
        >>> rows = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
        >>> shrinkage_of(rows)  # the covariance is a multiple of the identity, so that all weight may go there
        1.0
    """
    n, d = centred.shape
    gram = centred @ centred.T if n <= d else centred.T @ centred
    total = float(np.square(gram).sum()) / n**2  # squared Frobenius norm of the covariance
    mean = float(np.square(centred).sum()) / (n * d)  # its mean eigenvalue
    distance = total - d * mean**2
    noise = (float(np.square(np.square(centred).sum(1)).sum()) / n - total) / n
    return min(1.0, max(0.0, noise / distance)) if distance > 1e-12 * total else 1.0


def by_covariance(centred: Rows, vector: Vector, *, power: float, shrinkage: float | Literal["auto"]) -> tuple[Vector, float]:
    """A power of the shrunk covariance times a vector, and the shrinkage.

    ``((1 - s) S + s m I) ** power @ vector``, with S the covariance and m its mean eigenvalue, from an eigendecomposition
    in the span of the rows alone.

    Raises:
        ValueError: a shrinkage outside 0 to 1, or 0 where the covariance cannot be inverted.

    Example:
        >>> rows = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 1.0], [0.0, -1.0]])  # covariance diag(2, 0.5)
        >>> by_covariance(rows, np.ones(2), power=-1, shrinkage=0.0)[0].round(6).tolist()
        [0.5, 2.0]
    """
    if shrinkage != "auto" and (isinstance(shrinkage, bool | str) or not 0 <= shrinkage <= 1):
        raise InputError(f"shrinkage={shrinkage!r}; use 'auto' (Ledoit and Wolf) or a number from 0 to 1")
    n, d = centred.shape
    weight = shrinkage_of(centred) if shrinkage == "auto" else float(shrinkage)
    _, sizes, axes = np.linalg.svd(centred, full_matrices=False)
    rank = int((sizes > sizes.max(initial=0) * max(n, d) * np.finfo(float).eps).sum())
    if rank == 0:
        raise InputError("the problems of each group are all alike; a covariance needs rows that differ")
    axes, values = axes[:rank], np.square(sizes[:rank]) / n
    floor = weight * float(values.sum()) / d
    inside = axes @ vector
    if weight == 0 and rank < d:
        raise InputError(
            f"shrinkage=0: {n} problems span {rank} of {d} dimensions, so the covariance has no inverse; use 'auto' or more problems"
        )
    outside = vector - axes.T @ inside
    away = floor**power * outside if floor > 0 else 0.0
    return axes.T @ (((1 - weight) * values + floor) ** power * inside) + away, weight
