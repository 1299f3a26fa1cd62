"""Directions along which activations vary: principal and independent components, singular directions.

Each points from the negative group to the positive one, and has the length of the mean difference; with ``scale="natural"`` its
length is one standard deviation of the activations along it (root mean square, where they are not centred).
"""

import warnings
from typing import Literal

import numpy as np

from steerlab._checks import InputError, check_rng, is_whole, one_of
from steerlab.activations.cache import Group
from steerlab.directions.contrasts import Rows, Scale, Vector, fitted
from steerlab.directions.direction import Direction

Centre = Literal["own", "negative", "none"]
MOST = 16  # independent components, unless a number is given
ICA_TOLERANCE, ROUNDS = 1e-5, 500  # of FastICA


def pca_direction(
    positive: Group,
    negative: Group,
    *,
    layer: int,
    paired: bool = False,
    centre: bool | None = None,
    component: int = 0,
    scale: Scale = "contrast",
    name: str = "PCA",
) -> Direction:
    """A principal component of the pairs' differences, or of both groups pooled.

    Args:
        positive, negative: activations of the groups, ``[problem layer pos d_model]``.
        layer: the layer to use, among those cached.
        paired: row i of both is one pair, and the differences are decomposed; else the pool of both groups.
        centre: take the mean away first. Default: of the pool, yes; of differences, no, because their mean is what is
            looked for. (The package steering-vectors does not centre differences, and neither does the "pca_center" of
            repeng; its "pca_diff" does.)
        component: 0 is the one of largest variance.
        scale: "contrast" (the mean difference's norm), "unit" or "natural" (one standard deviation).
        name: for tables and figures.

    Returns:
        ``[d_model]`` where one position was cached, else ``[pos d_model]``.

    Raises:
        ValueError: groups that cannot be contrasted, pairs that are none, or a component that there is not.

    Source:
        Zou et al. (2023), Representation Engineering (of differences); Pearson (1901).

    Example:
        >>> from steerlab.activations.cache import as_activations
        >>> right = as_activations([[3.0, 1.0], [-2.0, 1.2], [1.0, 1.6]], layer=1)
        >>> wrong = as_activations([[3.0, 0.1], [-2.0, 0.0], [1.0, 0.5]], layer=1)
        >>> [round(value, 2) for value in pca_direction(right, wrong, layer=1, paired=True, scale="unit").vector.tolist()]
        [0.0, 1.0]
    """
    centred = (not paired) if centre is None else bool(centre)

    def fit(ours: Rows, theirs: Rows) -> Vector:
        rows = ours - theirs if paired else np.concatenate([ours, theirs])
        return _component(rows - rows.mean(0) if centred else rows, component)

    method = {"estimator": "pca", "of": "differences" if paired else "pool", "centred": centred, "component": int(component)}
    return fitted(positive, negative, fit, layer=layer, scale=scale, name=name, method=method, paired=paired)


def singular_direction(
    positive: Group,
    negative: Group,
    *,
    layer: int,
    component: int = 0,
    centre: Centre = "own",
    scale: Scale = "contrast",
    name: str = "singular",
) -> Direction:
    """A right singular vector of the positive group's activations; the negative group gives its sign and length.

    Args:
        positive, negative, layer, name: as in `pca_direction`.
        component: 0 is the one of the largest singular value.
        centre: what is taken away first: the group's "own" mean, the "negative" group's mean (the first direction then
            leans to the mean difference), or "none" (it then leans to the stream's mean).
        scale: "contrast" (the mean difference's norm), "unit" or "natural" (root mean square along it).

    Raises:
        ValueError: groups that cannot be contrasted, another centre, or a component that there is not.

    Example:
        >>> from steerlab.activations.cache import as_activations
        >>> right = as_activations([[3.0, 1.0], [-2.0, 1.2], [1.0, 1.6]], layer=1)
        >>> wrong = as_activations([[1.9, 0.1], [-3.0, 0.0], [0.1, 0.5]], layer=1)
        >>> [round(value, 2) for value in singular_direction(right, wrong, layer=1, scale="unit").vector.tolist()]
        [1.0, -0.03]
    """
    one_of(centre, "centre", ("own", "negative", "none"))

    def fit(ours: Rows, theirs: Rows) -> Vector:
        means = {"own": ours.mean(0), "negative": theirs.mean(0), "none": np.zeros(ours.shape[1])}
        return _component(ours - means[centre], component)

    method = {"estimator": "singular", "of": "positive", "centre": centre, "component": int(component)}
    return fitted(positive, negative, fit, layer=layer, scale=scale, name=name, method=method)


def singular_directions(
    positive: Group,
    negative: Group,
    *,
    layer: int,
    n: int = 3,
    centre: Centre = "own",
    scale: Scale = "contrast",
    name: str = "singular",
) -> list[Direction]:
    """The top n right singular vectors of the positive group's activations, named ``{name} 0`` and so on.

    Arguments are those of `singular_direction`.

    Raises:
        ValueError: n below 1, or more than there are.

    Example:
        >>> from steerlab.activations.cache import as_activations
        >>> right = as_activations([[3.0, 1.0], [-2.0, 1.2], [1.0, 1.6]], layer=1)
        >>> wrong = as_activations([[1.9, 0.1], [-3.0, 0.0], [0.1, 0.5]], layer=1)
        >>> first, second = singular_directions(right, wrong, layer=1, n=2)
        >>> abs(float(first.vector @ second.vector)) < 1e-6
        True
    """
    if not is_whole(n, 1):
        raise InputError(f"n={n!r}; use at least 1 direction")
    return [
        singular_direction(positive, negative, layer=layer, component=k, centre=centre, scale=scale, name=f"{name} {k}") for k in range(n)
    ]


def ica_direction(
    positive: Group,
    negative: Group,
    *,
    layer: int,
    components: int | None = None,
    component: int = 0,
    rng: np.random.Generator | None = None,
    scale: Scale = "contrast",
    name: str = "ICA",
) -> Direction:
    """The independent component of both groups' activations that separates them best.

    FastICA unmixes the pooled activations, without looking at the groups; components are then ranked by the distance of
    the groups' means in standard deviations within groups. What is given is the component's column of the mixing matrix:
    adding it adds to this one source and to no other.

    Args:
        positive, negative, layer, name: as in `pca_direction`.
        components: how many sources; default a fifth of the problems (at most 16 and the rank), or half of that, and so on
            until FastICA converges. Those used, at each position, are recorded.
        component: 0 is the one that tells the groups apart best.
        rng: draws the start; default the principal components, so that no chance is involved.
        scale: "contrast" (the mean difference's norm), "unit" or "natural" (one standard deviation of the source).

    Raises:
        ValueError: groups that cannot be contrasted, or more components than the activations have.

    Warns:
        UserWarning: FastICA did not converge with the number of components that was asked for.

    Source:
        Hyvärinen and Oja (2000), Independent component analysis: algorithms and applications.

    Example:
        >>> from steerlab.activations.cache import as_activations
        >>> grid = np.array([[a, b] for a in (-3.0, -1.0, 1.0, 3.0) for b in (-1.0, 1.0)])
        >>> mixed = grid @ [[1.0, 1.0], [0.0, 1.0]]  # the second source decides
        >>> right, wrong = (as_activations(mixed[grid[:, 1] == sign], layer=1) for sign in (1, -1))
        >>> ica_direction(right, wrong, layer=1, components=2, scale="natural").vector.round(decimals=2).abs().tolist()
        [0.0, 1.0]
    """
    if rng is not None:
        check_rng(rng)
    used: list[int] = []

    def fit(ours: Rows, theirs: Rows) -> Vector:
        rows = np.concatenate([ours, theirs])
        centred = rows - rows.mean(0)
        rank = _rank(np.linalg.svd(centred, compute_uv=False), centred.shape)
        most = max(1, min(MOST, len(rows) // 5, rank)) if components is None else components
        if not is_whole(most, 1, rank):
            raise InputError(f"components={components!r}: {len(rows)} problems have {rank} dimensions here; use 1 to {rank}")
        sources, mixing, converged = _unmixed(centred, most, rng)
        while components is None and not converged:
            most = max(1, most // 2)
            sources, mixing, converged = _unmixed(centred, most, rng)
        if not converged:
            warnings.warn(f"ICA did not converge with components={most}; ask for fewer", UserWarning, stacklevel=4)
        _check_component(component, most)
        used.append(most)
        groups = sources[: len(ours)], sources[len(ours) :]
        within = np.sqrt(sum(np.square(group - group.mean(0)).sum(0) for group in groups) / len(rows))
        apart = np.abs(groups[0].mean(0) - groups[1].mean(0)) / np.maximum(within, np.finfo(float).tiny)
        best = np.argsort(-apart, kind="stable")[component]
        column: Vector = mixing[:, best]
        return column

    method = {"estimator": "ica", "components": used, "component": int(component)}
    return fitted(positive, negative, fit, layer=layer, scale=scale, name=name, method=method)


def _unmixed(centred: Rows, n: int, rng: np.random.Generator | None) -> tuple[np.ndarray, np.ndarray, bool]:
    """Sources ``[problem source]``, mixing matrix ``[d_model source]``, and whether FastICA came to an end."""
    from sklearn.decomposition import FastICA
    from sklearn.exceptions import ConvergenceWarning

    if n == 1:  # there is nothing to unmix
        vector = _component(centred, 0)
        return (centred @ vector / (vector @ vector))[:, None], vector[:, None], True
    start = np.eye(n) if rng is None else rng.standard_normal((n, n))
    model = FastICA(n_components=n, whiten="unit-variance", w_init=start, tol=ICA_TOLERANCE, max_iter=ROUNDS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # said by the caller
        sources = model.fit_transform(centred)
    return sources, model.mixing_, model.n_iter_ < ROUNDS


def _component(rows: Rows, component: int) -> Vector:
    """A right singular vector, as long as the root mean square of the rows along it."""
    _, sizes, axes = np.linalg.svd(rows, full_matrices=False)
    rank = _rank(sizes, rows.shape)
    if rank == 0:
        raise InputError(
            "the activations do not vary once their mean is taken away; there is no component. Use other problems or another centre"
        )
    _check_component(component, rank)
    vector: Vector = axes[component] * sizes[component] / np.sqrt(len(rows))
    return vector


def _rank(sizes: np.ndarray, shape: tuple[int, ...]) -> int:
    return int((sizes > sizes.max(initial=0) * max(shape) * np.finfo(np.float32).eps).sum())


def _check_component(component: int, n: int) -> None:
    if not is_whole(component, 0, n - 1):
        raise InputError(f"component={component!r}: there are {n}; use 0 to {n - 1}")
