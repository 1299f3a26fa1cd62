"""Controls: whole pipelines that chose their own cell, and other directions at one layer and alpha.

- `pipelines`: `pipeline_control`: is the direction's pipeline better than others that had the same choice?
- `control`: `random_control` and `match_kl`: would other directions of the same size, or of the same KL, do the same at this cell?
- `side_effects`: what steering changes on other text and other tasks.
- `texts`: the neutral sentences that side effects are measured on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from steerlab.activations.cache import Activations
    from steerlab.directions.random import Draw, Norm, Pipelines


@dataclass(frozen=True)
class Family:
    """A kind of controls.

    Attributes:
        words: what they are.
        doubt: which doubt they answer.
        draw: from activations of all problems, of those answered right and of those answered wrong, how they are drawn; None for isotropic
            directions that are then matched in KL.
    """

    words: str
    doubt: str
    draw: "Callable[[Activations, Activations, Activations], Draw] | None"


def _covariance_matched(acts: "Activations", right: "Activations", wrong: "Activations") -> "Draw":
    from steerlab.directions.random import covariance_matched

    return covariance_matched(acts)


def _shuffled_labels(acts: "Activations", right: "Activations", wrong: "Activations") -> "Draw":
    from steerlab.directions.random import shuffled_labels

    return shuffled_labels(right, wrong)


def _orthogonal(acts: "Activations", right: "Activations", wrong: "Activations") -> "Draw":
    from steerlab.directions.random import orthogonal_directions

    return orthogonal_directions


FAMILIES = {
    "covariance_matched": Family(
        "directions drawn from the activations' covariance",
        "directions drawn from the activations' covariance: they lie where activations vary",
        _covariance_matched,
    ),
    "shuffled_labels": Family(
        "mean differences of shuffled labels",
        "mean differences of shuffled labels: does this estimator find as much where labels mean nothing",
        _shuffled_labels,
    ),
    "orthogonal": Family(
        "random directions orthogonal to this one", "orthogonal directions: they share nothing with the direction", _orthogonal
    ),
    "equal_kl": Family(
        "random directions of equal KL on other text",
        "directions of equal KL: scaled until they change other text as much as the direction does",
        None,
    ),
}
"""Controls beside isotropic directions of equal norm that the main protocol can draw at the chosen cell, by name."""


@dataclass(frozen=True)
class PipelineKind:
    """A kind of control pipelines.

    Attributes:
        words: what they are.
        null: under which null their test is exact.
        draw: from activations of problems answered right and wrong, and the group of each problem, how they are drawn.
    """

    words: str
    null: str
    draw: "Callable[[Activations, Activations, Mapping[str, str]], Pipelines]"


def _random_pipelines(right: "Activations", wrong: "Activations", groups: Mapping[str, str]) -> "Pipelines":
    from steerlab.directions.random import random_pipelines

    return random_pipelines


def _shuffled_pipelines(right: "Activations", wrong: "Activations", groups: Mapping[str, str], norm: "Norm" = "match") -> "Pipelines":
    from steerlab.directions.random import shuffled_pipelines

    return shuffled_pipelines(right, wrong, groups=groups, norm=norm)


_EXCHANGEABLE = "right and wrong labels are exchangeable, given the activations (between or within groups)"
PIPELINES = {
    "random": PipelineKind(
        "random pipelines", "the directions are isotropic at random, with these norms and independent between layers", _random_pipelines
    ),
    "shuffled_labels": PipelineKind(
        "shuffled-label pipelines",
        f"{_EXCHANGEABLE} and how long a vector is does not matter, for theirs are given the direction's norms",
        _shuffled_pipelines,
    ),
    "shuffled_labels_own_norm": PipelineKind(
        "shuffled-label pipelines of their own norms", f"{_EXCHANGEABLE}", partial(_shuffled_pipelines, norm="keep")
    ),
}
"""Kinds of control pipelines, by name."""

DEFAULT_PIPELINES = ("random", "shuffled_labels")
"""What the main protocol compares with unless told otherwise."""
