"""Estimators of a direction between two groups of activations, and `ESTIMATORS`, all of them by name.

Each is a function ``(positive, negative, *, layer)`` that returns a `Direction` from negative to positive with the length of the
mean difference. A direction that separates groups need not be one that causes the difference (Haufe et al. 2014): that is what
sweeps and controls test.
`steerlab.ESTIMATORS` has them by name.
"""

import warnings
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from scipy.optimize import minimize

from steerlab._checks import InputError, is_number
from steerlab.activations.cache import Group, as_group
from steerlab.directions.contrasts import Rows, Scale, Vector, by_covariance, fitted, spread_of, within
from steerlab.directions.direction import Direction, check_groups, differing, precision_of


def mean_difference(correct: Group, incorrect: Group, *, layer: int, normalise: bool = False, name: str = "mean difference") -> Direction:
    """Mean activation of one group minus mean activation of another (the sources' ``correct_mean - wrong_mean``).

    Args:
        correct: activations of the first group, ``[problem layer pos d_model]``, or a plain array ``[problem d_model]``.
        incorrect: those of the second, from the same model, site and positions.
        layer: the layer to use, among those cached; of plain arrays, the one that they are of.
        normalise: scale to norm 1.
        name: for tables and figures.

    Returns:
        ``[d_model]`` where one position was cached, else ``[pos d_model]``; zero at positions where the groups do not differ but for rounding
        (see `differing`).

    Raises:
        ValueError: groups that differ in model, site or positions, an empty group, a difference that is not finite, or none but for rounding.

    Example:
        >>> from steerlab.activations.cache import Activations
        >>> values, mask = torch.tensor([[1.0, 2.0], [3.0, 2.0], [0.0, 1.0], [0.0, 5.0]]).reshape(4, 1, 1, 2), torch.ones(4, 1, dtype=torch.bool)
        >>> acts = Activations(values, mask, ("a", "b", "c", "d"), (6,), "resid_post", "last", {})
        >>> mean_difference(acts.select("ab"), acts.select("cd"), layer=6).vector
        tensor([ 2., -1.])
    """
    eps = precision_of(correct, incorrect)
    correct, incorrect = as_group(correct, layer=layer), as_group(incorrect, layer=layer)
    groups = check_groups(correct, incorrect, layer=layer)
    differ = differing(*groups, name=name, layer=layer, positions=correct.positions, eps=eps)
    means = [group.mean(0, dtype=torch.float64) for group in groups]
    difference = torch.where(differ[:, None], means[0] - means[1], 0.0)
    method = {
        "estimator": "mean_difference",
        "normalised": normalise,
        "n_correct": len(correct.problem_ids),
        "n_incorrect": len(incorrect.problem_ids),
    }
    vector = (difference[0] if len(difference) == 1 else difference).float()
    direction = Direction(vector, layer, correct.site, correct.positions, name, method, correct.model)
    return direction.unit() if normalise else direction


ROUNDS = 10_000  # of a solver
Estimator = Callable[..., Direction]  # (positive, negative, *, layer)
Shrinkage = float | Literal["auto"]


def probe_direction(
    positive: Group,
    negative: Group,
    *,
    layer: int,
    l2: float = 1.0,
    paired: bool = False,
    scale: Scale = "contrast",
    name: str = "probe",
) -> Direction:
    """The weights of a logistic regression that separates the groups.

    Groups of different sizes weigh alike. Activations are measured in units of their root mean square deviation from their
    group's mean, so that `l2` does not depend on the layer's size.

    Args:
        positive, negative: activations of the groups, ``[problem layer pos d_model]``.
        layer: the layer to use, among those cached.
        l2: penalty, half of it times the squared norm of the weights, beside the sum of the log losses.
        paired: row i of both is one pair; each pair is centred on its own mean, and there is no intercept.
        scale: "contrast" (the mean difference's norm), "unit" or "natural" (log-odds by residual-stream unit).
        name: for tables and figures.

    Returns:
        ``[d_model]`` where one position was cached, else ``[pos d_model]``.

    Raises:
        ValueError: groups that cannot be contrasted, pairs that are none, or l2 that is not positive.

    Example:
        >>> from steerlab.activations.cache import as_activations
        >>> right = as_activations([[3.0, 1.0], [-2.0, 1.2], [1.0, 1.6], [-0.5, 1.4]], layer=1)
        >>> wrong = as_activations([[2.0, 0.1], [-3.0, 0.4], [0.0, -0.2], [1.5, 0.0]], layer=1)
        >>> [round(value, 2) for value in probe_direction(right, wrong, layer=1).unit().vector.tolist()]
        [0.09, 1.0]
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    _check_positive("l2", l2)

    def fit(ours: Rows, theirs: Rows) -> Vector:
        if paired:
            half = (ours - theirs) / 2
            ours, theirs = half, -half
        middle = (ours.mean(0) + theirs.mean(0)) / 2
        size = spread_of(within(ours, theirs))
        weighted = None if paired or len(ours) == len(theirs) else "balanced"
        model = LogisticRegression(C=1 / l2, fit_intercept=not paired, class_weight=weighted, tol=1e-8, max_iter=ROUNDS)
        labels = np.repeat([1, 0], [len(ours), len(theirs)])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit((np.concatenate([ours, theirs]) - middle) / size, labels)
        if model.n_iter_.max() >= ROUNDS:
            warnings.warn(f"the probe's logistic regression did not converge with l2={l2:g}; use a larger one", UserWarning, stacklevel=4)
        weights: Vector = model.coef_[0] / size
        return weights

    method = {"estimator": "probe", "l2": float(l2), "paired": paired}
    return fitted(positive, negative, fit, layer=layer, scale=scale, name=name, method=method, paired=paired)


def lda_direction(
    positive: Group,
    negative: Group,
    *,
    layer: int,
    shrinkage: Shrinkage = "auto",
    scale: Scale = "contrast",
    name: str = "LDA",
) -> Direction:
    """Fisher's linear discriminant: the inverse covariance within groups times the mean difference.

    Args:
        positive, negative, layer: as in `probe_direction`.
        shrinkage: weight of the identity in the covariance: "auto" (Ledoit and Wolf), or a number from 0 to 1.
        scale: "contrast" (the mean difference's norm), "unit" or "natural" (log-odds by residual-stream unit, if the groups
            are Gaussian).
        name: for tables and figures.

    Raises:
        ValueError: groups that cannot be contrasted, or shrinkage 0 with fewer problems than dimensions.

    Source:
        Fisher (1936), The use of multiple measurements in taxonomic problems; Ledoit and Wolf (2004).

    Example:
        >>> from steerlab.activations.cache import as_activations
        >>> right = as_activations([[3.0, 1.0], [-2.0, 1.2], [1.0, 1.6], [-0.5, 1.4]], layer=1)
        >>> wrong = as_activations([[2.0, 0.1], [-3.0, 0.4], [0.0, -0.2], [1.5, 0.0]], layer=1)
        >>> [round(value, 2) for value in lda_direction(right, wrong, layer=1, shrinkage=0.0).unit().vector.tolist()]
        [0.05, 1.0]
    """
    return _by_covariance(positive, negative, -1.0, shrinkage, layer=layer, scale=scale, name=name, estimator="lda")


def whitened_mean_difference(
    positive: Group,
    negative: Group,
    *,
    layer: int,
    shrinkage: Shrinkage = "auto",
    scale: Scale = "contrast",
    name: str = "whitened mean difference",
) -> Direction:
    """The mean difference after whitening (in coordinates with equal variance in all directions).

    It is the covariance within groups to the power of -1/2, times the mean difference: half way from the mean difference
    (power 0) to the discriminant (power -1).

    Args:
        positive, negative, layer, shrinkage, name: as in `lda_direction`.
        scale: "contrast" (the mean difference's norm), "unit" or "natural" (standard deviations).

    Raises:
        ValueError: as `lda_direction`.

    Example:
        >>> from steerlab.activations.cache import as_activations
        >>> right = as_activations([[3.0, 1.0], [-2.0, 1.2], [1.0, 1.6], [-0.5, 1.4]], layer=1)
        >>> wrong = as_activations([[2.0, 0.1], [-3.0, 0.4], [0.0, -0.2], [1.5, 0.0]], layer=1)
        >>> whitened = whitened_mean_difference(right, wrong, layer=1, shrinkage=0.0)
        >>> [round(value, 2) for value in whitened.unit().vector.tolist()]
        [0.07, 1.0]
    """
    return _by_covariance(positive, negative, -0.5, shrinkage, layer=layer, scale=scale, name=name, estimator="whitened_mean_difference")


def contrastive_direction(
    positive: Group,
    negative: Group,
    *,
    layer: int,
    margin: float = 1.0,
    l2: float = 0.1,
    paired: bool = False,
    scale: Scale = "contrast",
    name: str = "contrastive",
) -> Direction:
    """The max-margin direction: positive activations lie above negative ones by a margin, as far as possible.

    It minimises ``l2 / 2 |w|^2 + mean(max(0, margin - w (p - n))^2)`` over all pairs of a positive activation p and a
    negative one n, or over the pairs given: a ranking loss. Units are those of `probe_direction`.

    Args:
        positive, negative, layer, name: as in `probe_direction`.
        margin: by how much.
        l2: penalty.
        paired: row i of both is one pair; only these are compared.
        scale: "contrast" (the mean difference's norm), "unit" or "natural" (margins by residual-stream unit).

    Raises:
        ValueError: groups that cannot be contrasted, pairs that are none, or a margin or penalty that is not positive.

    Source:
        Chapelle and Keerthi (2010), Efficient algorithms for ranking with SVMs (squared hinge, sorted projections).

    Example:
        >>> from steerlab.activations.cache import as_activations
        >>> right = as_activations([[3.0, 1.0], [-2.0, 1.2], [1.0, 1.6], [-0.5, 1.4]], layer=1)
        >>> wrong = as_activations([[2.0, 0.1], [-3.0, 0.4], [0.0, -0.2], [1.5, 0.0]], layer=1)
        >>> [round(value, 2) for value in contrastive_direction(right, wrong, layer=1).unit().vector.tolist()]
        [0.06, 1.0]
    """
    _check_positive("margin", margin)
    _check_positive("l2", l2)

    def fit(ours: Rows, theirs: Rows) -> Vector:
        size = spread_of(within(ours, theirs))
        ours, theirs = ours / size, theirs / size
        differences = ours - theirs if paired else None

        def loss(w: Vector) -> tuple[float, Vector]:
            if differences is not None:
                missing = np.maximum(0, margin - differences @ w)
                value, gradient = float(np.square(missing).mean()), -2 * missing @ differences / len(missing)
            else:
                value, up, down = _ranking_loss(ours @ w, theirs @ w, margin)
                gradient = up @ ours + down @ theirs
            return value + l2 / 2 * float(w @ w), gradient + l2 * w

        options = {"maxiter": 10_000, "maxfun": 20_000, "ftol": 1e-15, "gtol": 1e-9}
        done = minimize(loss, np.zeros(ours.shape[1]), jac=True, method="L-BFGS-B", options=options)
        found: Vector = done.x / size
        return found

    method = {"estimator": "contrastive", "margin": float(margin), "l2": float(l2), "paired": paired}
    return fitted(positive, negative, fit, layer=layer, scale=scale, name=name, method=method, paired=paired)


def _ranking_loss(ours: np.ndarray, theirs: np.ndarray, margin: float) -> tuple[float, np.ndarray, np.ndarray]:
    """Mean over all pairs of ``max(0, margin - (p - n))^2``, and its gradients by p and by n, without building the pairs."""
    pairs = len(ours) * len(theirs)
    wanted = ours - margin  # a negative one above this is too near

    def above(values: np.ndarray, limits: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each limit, how many values lie above it, their sum and their sum of squares."""
        ordered = np.sort(values)[::-1]
        count = np.searchsorted(-ordered, -limits)
        sums = [np.concatenate([[0.0], np.cumsum(part)])[count] for part in (ordered, np.square(ordered))]
        return count, sums[0], sums[1]

    count, total, squares = above(theirs, wanted)
    value = float((squares - 2 * wanted * total + count * np.square(wanted)).sum()) / pairs
    up = -2 * (total - count * wanted) / pairs
    count, total, _ = above(-wanted, -theirs)
    down = 2 * (total + count * theirs) / pairs
    return value, up, down


def _by_covariance(
    positive: Group, negative: Group, power: float, shrinkage: Shrinkage, *, layer: int, scale: Scale, name: str, estimator: str
) -> Direction:
    used: list[float] = []

    def fit(ours: Rows, theirs: Rows) -> Vector:
        found, weight = by_covariance(within(ours, theirs), ours.mean(0) - theirs.mean(0), power=power, shrinkage=shrinkage)
        used.append(weight)
        return found

    method = {"estimator": estimator, "shrinkage": shrinkage, "weights_of_identity": used}
    return fitted(positive, negative, fit, layer=layer, scale=scale, name=name, method=method)


def _check_positive(what: str, value: float) -> None:
    if not is_number(value, 0):
        raise InputError(f"{what}={value!r}; use a positive number")
