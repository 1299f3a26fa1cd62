"""Directions in the residual stream: where they come from, and whether there is one at all.

- `direction`: the `Direction` type and its arithmetic.
- `estimators`, `components`: directions from two groups of activations; all estimators by name.
- `contrasts`: what estimators share: input, sign, length.
- `function_vectors`: directions from pairs of prompts.
- `composing`: sums, projections, cosines of directions.
- `random`: families of random and shuffled-label directions.
- `prompt_vectors`: another vector for every prompt.
- `diagnostics`: is there a direction in the data, and is it stable?
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from steerlab._checks import Choices

if TYPE_CHECKING:
    from steerlab.directions.direction import Direction

_FIT, _PARTS = "steerlab.directions.estimators", "steerlab.directions.components"
ESTIMATORS: "Choices[Callable[..., Direction]]" = Choices(
    {
        "mean_difference": (f"{_FIT}:mean_difference", "the difference between the groups' means"),
        "whitened_mean_difference": (
            f"{_FIT}:whitened_mean_difference",
            "the mean difference where activations vary alike in all directions",
        ),
        "lda": (f"{_FIT}:lda_direction", "Fisher's linear discriminant"),
        "probe": (f"{_FIT}:probe_direction", "the weights of a logistic regression"),
        "contrastive": (f"{_FIT}:contrastive_direction", "ranks positive above negative activations by a margin"),
        "pca": (f"{_PARTS}:pca_direction", "a principal component"),
        "ica": (f"{_PARTS}:ica_direction", "an independent component"),
        "singular": (f"{_PARTS}:singular_direction", "a singular vector of the differences from the other group's mean"),
    }
)
"""Estimators of a direction from two groups of activations, by name: functions ``(positive, negative, *, layer)`` that need no chance and no pairs."""
