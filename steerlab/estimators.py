"""All estimators of a direction, by name, and the two that know nothing: random and shuffled labels.

An estimator is a function ``(positive, negative, *, layer)`` of two groups of activations that gives a `Direction`; what
`shuffled_labels` permutes, what a comparison of methods goes through.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from steerlab._checks import InputError
from steerlab.activations.cache import Activations, Group, as_group
from steerlab.components import ica_direction, pca_direction, singular_direction
from steerlab.contrasts import SCALES, Scale
from steerlab.control_families import shuffled_labels
from steerlab.directions import Direction, mean_difference, random_directions
from steerlab.separating import contrastive_direction, lda_direction, probe_direction, whitened_mean_difference

Estimator = Callable[..., Direction]  # (positive, negative, *, layer)

ESTIMATORS: Mapping[str, Estimator] = MappingProxyType(
    {
        "mean_difference": mean_difference,
        "whitened_mean_difference": whitened_mean_difference,
        "lda": lda_direction,
        "probe": probe_direction,
        "contrastive": contrastive_direction,
        "pca": pca_direction,
        "ica": ica_direction,
        "singular": singular_direction,
    }
)
"""Estimators that need no chance and no pairs."""


def random_direction(
    positive: Group, negative: Group, *, layer: int, rng: np.random.Generator, scale: Scale = "contrast", name: str = "random"
) -> Direction:
    """An isotropic direction, which knows of the groups only where they are and how far apart; its sign is chance, too.

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
    """What an estimator gives for the same problems with permuted labels.

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
    if scale not in SCALES:
        raise InputError(f"scale={scale!r}; use one of {', '.join(SCALES)}")
    positive, negative = as_group(positive, layer=layer), as_group(negative, layer=layer)
    like = mean_difference(positive, negative, layer=layer, name=name)

    def chosen(ours: Activations, theirs: Activations, *, layer: int) -> Direction:
        return estimator(ours, theirs, layer=layer, **options)

    chosen.__name__ = getattr(estimator, "__name__", "custom")
    draw = shuffled_labels(positive, negative, estimator=chosen, paired=paired, norm="keep" if scale == "natural" else "match")
    (found,) = draw(like, 1, rng=rng)
    found = found.with_vector(found.vector, name, {**found.method, "scale": scale})
    return found.unit() if scale == "unit" else found
