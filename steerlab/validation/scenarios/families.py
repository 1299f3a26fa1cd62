"""Families of controls where the labels mean nothing, without a language model.

Activations are Gaussian, with very unequal variances. The direction is the mean difference of two groups labelled by chance; its
effect is the mean change of a fixed readout, linear plus saturating. So the null is true, and the question is whether the controls
match the direction.
"""

from collections.abc import Callable
from functools import cache, partial

import numpy as np
import torch
from numpy.typing import NDArray

from steerlab import statistics as st
from steerlab.activations.cache import Activations
from steerlab.directions.direction import Direction
from steerlab.directions.estimators import mean_difference
from steerlab.directions.random import covariance_matched, orthogonal_directions, other_task, random_directions, shuffled_labels
from steerlab.validation.scenarios._common import Scenario, rejected

N, DIMENSIONS, UNITS = 40, 32, 8
SPREAD = 2.0 / np.sqrt(np.arange(1, DIMENSIONS + 1))  # variances fall as 1/k: a few dimensions hold most of them
CONTROLS, FEW = 99, 19
Controls = Callable[..., list[Direction]]

ISOTROPIC = (
    "an estimated direction lies where activations vary, also with labels that mean nothing; if the model reads more there, it moves "
    "the output more than isotropic directions of its length do, so that a small p says no more than that; use shuffled labels"
)
ORTHOGONAL = f"as isotropic: {ISOTROPIC}"
COVARIANCE = "its draws come from the sample covariance, with the same few activations that gave the direction; shuffled labels are exact"
LENGTHS = (
    "with norm='match' a nonlinear reader sees every control at the length of the direction under test, which is not quite a permutation"
)


@cache
def reader(where: str) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Weights of the linear part, and into and out of the saturating units; fixed.

    Args:
        where: "alike" reads all dimensions alike, "varied" reads dimensions as much as activations vary in them.
    """
    rng = np.random.default_rng(1)
    size = np.ones(DIMENSIONS) if where == "alike" else SPREAD**2
    scale = size / np.sqrt((size**2).sum())
    return rng.normal(size=DIMENSIONS) * scale, rng.normal(size=(DIMENSIONS, UNITS)) * scale[:, None], rng.normal(size=UNITS)


def effects(values: NDArray[np.float64], directions: list[Direction], where: str) -> NDArray[np.float64]:
    """Mean change of what is read, over the activations, of each direction."""
    linear, into, out = reader(where)
    vectors = np.stack([one.vector.double().numpy() for one in directions])
    steered = np.tanh(values @ into + (vectors @ into)[:, None])
    return np.asarray(vectors @ linear + ((steered - np.tanh(values @ into)) @ out).mean(axis=1))


def _activations(rng: np.random.Generator, n: int) -> Activations:
    values = torch.from_numpy(rng.normal(size=(n, 1, 1, DIMENSIONS)) * SPREAD + 1)
    return Activations(values, torch.ones(n, 1, dtype=torch.bool), tuple(map(str, range(n))), (0,), "resid_post", "last", {})


def _labelled(rng: np.random.Generator, real: float) -> tuple[Activations, Activations, Activations]:
    """All activations, and two halves; of a real contrast the first half lies further along what is read."""
    acts = _activations(rng, N)
    if real:
        acts.values[: N // 2, 0, 0] += real * torch.from_numpy(reader("varied")[0])
    return acts, acts.select(acts.problem_ids[: N // 2]), acts.select(acts.problem_ids[N // 2 :])


def _family(name: str, where: str, k: int, rng: np.random.Generator, *, norm: str = "match", real: float = 0.0) -> NDArray[np.float64]:
    acts, positive, negative = _labelled(rng, real)
    direction = mean_difference(positive, negative, layer=0)
    draws: dict[str, Callable[[], Controls]] = {
        "isotropic": lambda: random_directions,
        "orthogonal": lambda: orthogonal_directions,
        "covariance": lambda: covariance_matched(acts),
        "shuffled": lambda: shuffled_labels(positive, negative, norm=norm),  # type: ignore[arg-type]
        "paired": lambda: shuffled_labels(positive, negative, paired=True, norm=norm),  # type: ignore[arg-type]
        "other task": lambda: other_task([mean_difference(*_labelled(rng, 0.0)[1:], layer=0) for _ in range(k)]),
    }
    controls = draws[name]()(direction, k, rng=rng)
    values = acts.at(0)[:, 0].double().numpy()
    observed, *others = effects(values, [direction, *controls], where)
    return rejected(st.rank_test(observed, others).pvalue)


def _isotropic_throughout(rng: np.random.Generator) -> NDArray[np.float64]:
    """The direction under test is drawn as its controls are: what the rank test asks."""
    acts, like = _activations(rng, N), Direction(torch.ones(DIMENSIONS), layer=0)
    observed, *others = effects(acts.at(0)[:, 0].double().numpy(), random_directions(like, CONTROLS + 1, rng=rng), "varied")
    return rejected(st.rank_test(observed, others).pvalue)


ALIKE, VARIED = "reader alike in all dimensions", "reader where activations vary"

SCENARIOS: list[Scenario] = [
    Scenario("99 isotropic controls", "isotropic direction", _isotropic_throughout, share=0.2),
    *(
        Scenario(f"99 {label}", f"mean difference of chance labels, {said}", partial(_family, name, where, CONTROLS), why=why, share=share)
        for name, label, why, share in (
            ("isotropic", "isotropic controls", ISOTROPIC, 0.2),
            ("orthogonal", "orthogonal controls", ORTHOGONAL, 0.1),
            ("covariance", "covariance-matched controls", COVARIANCE, 0.1),
            ("shuffled", "shuffled-label controls", LENGTHS, 0.1),
            ("other task", "other-task controls", LENGTHS, 0.05),
        )
        for where, said in (("alike", ALIKE), ("varied", VARIED))
    ),
    Scenario(
        "99 shuffled-label controls, norm='keep'",
        f"mean difference of chance labels, {VARIED}",
        partial(_family, "shuffled", "varied", CONTROLS, norm="keep"),
        share=0.1,
    ),
    Scenario(
        "19 shuffled-label controls, norm='keep'",
        f"mean difference of chance labels, {VARIED}",
        partial(_family, "shuffled", "varied", FEW, norm="keep"),
        share=0.3,
    ),
    Scenario(
        "99 shuffled-label controls, paired, norm='keep'",
        f"mean difference of chance labels, {VARIED}",
        partial(_family, "paired", "varied", CONTROLS, norm="keep"),
        share=0.1,
    ),
    # A real effect
    *(
        Scenario(
            f"99 {label}",
            f"groups differ along what is read, {VARIED}",
            partial(_family, name, "varied", CONTROLS, real=3.0),
            null=False,
            share=0.05,
        )
        for name, label in (
            ("isotropic", "isotropic controls"),
            ("covariance", "covariance-matched controls"),
            ("shuffled", "shuffled-label controls"),
        )
    ),
]
