"""The methods that a comparison sets against each other: for each, what it would add at each layer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from steerlab._checks import InputError
from steerlab.activations.cache import Positions
from steerlab.aft.aft import How, learn_vectors, training_work, vectors_work
from steerlab.aft.differentiable import Spot
from steerlab.aft.learnables import StaticVector
from steerlab.aft.multilayer import SOURCE_DEPTHS, SOURCE_SCALES, learn_multilayer
from steerlab.aft.training import Candidate, Schedule
from steerlab.directions.contrasts import balanced_activations
from steerlab.directions.direction import Direction
from steerlab.directions.estimators import ESTIMATORS, mean_difference
from steerlab.directions.function_vectors import prompt_contrast
from steerlab.models.backends import Model
from steerlab.models.forecasts import Work
from steerlab.models.model import d_model, n_layers
from steerlab.prompting import contrast_pairs
from steerlab.steering.work import rows_of, unsteered
from steerlab.tasks.evaluation import evaluate
from steerlab.tasks.problems import Problem

METHODS = ("mean_difference", "function_vector", "pca", "probe", "aft", "multilayer_aft", "prompt")
"""What is compared by default."""

KNOWN = (*ESTIMATORS, "function_vector", "aft", "multilayer_aft", "prompt")
LABELS = {"pca": "PCA", "lda": "LDA", "ica": "ICA", "aft": "AFT", "multilayer_aft": "multi-layer AFT"}


@dataclass(frozen=True, eq=False)
class Contender:
    """A method, and what it adds at each candidate layer.

    Attributes:
        name: for tables.
        candidates: by candidate layer, the directions that act together; one, or for a multi-layer vector several.
        about: how they were found.
    """

    name: str
    candidates: Mapping[int, tuple[Direction, ...]]
    about: str

    def norm(self, layer: int) -> float:
        """Of all that a candidate adds at alpha = 1, over its layers: the root of the summed squares."""
        return float(np.sqrt(sum(direction.norm**2 for direction in self.candidates[layer])))


def label(method: str) -> str:
    """A method's name for tables.

    Example:
        >>> label("multilayer_aft"), label("mean_difference")
        ('multi-layer AFT', 'mean difference')
    """
    return LABELS.get(method, method.replace("_", " "))


def check_methods(methods: Sequence[str]) -> list[str]:
    """Methods by name, each once.

    Raises:
        ValueError: none, an unknown one, or one that is given twice.
    """
    unknown = [method for method in methods if method not in KNOWN]
    if unknown:
        raise InputError(f"methods: {unknown[0]!r}; use any of {', '.join(KNOWN)}")
    if not methods or len(set(methods)) < len(methods):
        raise InputError(f"methods={list(methods)}; give at least one, each once")
    return list(methods)


def contenders(
    model: Model,
    train: Sequence[Problem],
    *,
    methods: Sequence[str] = METHODS,
    layers: Sequence[int] | None = None,
    seed: int = 0,
    epochs: int = 3,
    lr: float = 1e-2,
    batch_size: int = 8,
    cache_positions: Positions = "last",
    positions: Positions = "all",
    progress: bool = False,
) -> tuple[list[Contender], dict[str, str]]:
    """Find every method's vectors, all from the same train problems and none from any other.

    Learned vectors train for a fixed number of epochs and do not look at validation, so that in a comparison no method looks there more often
    than another. The multi-layer vector of a layer has the sources' shape (10%, 50% and 80% of the depth), scaled so that its middle stands there.

    Args:
        model: a TransformerLens model.
        train: problems to learn and estimate from.
        methods: any of `KNOWN`; "prompt" adds no vector and is left to `steerlab.prompting`.
        layers: candidates; default all.
        seed: of balancing and of the order of training.
        epochs, lr, batch_size: of learned vectors.
        cache_positions: where estimated directions are measured.
        positions: where learned vectors act while they learn.
        progress: show progress bars.

    Returns:
        The contenders, and for each method that has none the reason.

    Raises:
        ValueError: unknown methods, bad layers, nothing right or nothing wrong among the problems of an estimated direction.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", n_train=40, n_validation=4, n_test=4)
        >>> found, missing = contenders(model, task.train, methods=["probe", "multilayer_aft"], layers=[3], epochs=1)
        >>> [(one.name, len(one.candidates[3])) for one in found]
        [('probe', 1), ('multi-layer AFT', 3)]
    """
    methods = check_methods(methods)
    where = list(range(n_layers(model))) if layers is None else list(layers)
    found: list[Contender] = []
    missing: dict[str, str] = {}
    estimated = [method for method in methods if method in ESTIMATORS]
    right = wrong = None
    if estimated:
        evaluation, rng = evaluate(model, train, progress=progress), np.random.default_rng([seed, 0])
        _, right, wrong = balanced_activations(model, evaluation, rng=rng, layers=where, positions=cache_positions, progress=progress)
    learning: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "positions": positions, "progress": progress}
    taught = f"learned from {len(train)} train problems in {epochs} epochs"
    vectors: dict[int, tuple[Direction, ...]]
    for method in methods:
        name = label(method)
        if right is not None and wrong is not None and method in estimated:
            vectors = {layer: (ESTIMATORS[method](right, wrong, layer=layer),) for layer in where}
            about = f"from {len(right.problem_ids)} right and as many wrong train problems"
        elif method == "function_vector":
            pairs, about = contrast_pairs(model, train)
            if not pairs:
                missing[name] = f"{about}: no pair of prompts fits into this model's context"
                continue
            asked = prompt_contrast(model, pairs, layers=where, progress=progress)
            vectors = {layer: (mean_difference(*asked, layer=layer, name=name),) for layer in where}
        elif method == "aft":
            learned = learn_vectors(model, train, layers=where, seeds=[seed], lrs=lr, **learning)
            vectors = {vector.layer: (vector,) for vector in learned}
            about = taught
        elif method == "multilayer_aft":
            spread = {layer: spread_layers(model, layer) for layer in where}
            vectors = {
                layer: tuple(learn_multilayer(model, train, layers=at, scales=scales, seed=seed, lr=lr, **learning))
                for layer, (at, scales) in spread.items()
            }
            about = f"{taught}, at several layers with learned scales"
        else:
            continue
        found.append(Contender(name, vectors, about))
    return found, missing


def contenders_work(
    model: Model,
    train: Sequence[Problem],
    *,
    methods: Sequence[str],
    layers: Sequence[int],
    epochs: int,
    batch_size: int,
    positions: Positions,
) -> list[Work]:
    """What `contenders` is made of; problems that are run again for their activations, and pairs of prompts, are not counted."""
    rows = rows_of(model, train)
    found = [unsteered(model, train, rows, again=rows)] if set(methods) & set(ESTIMATORS) else []
    if "function_vector" in methods:
        found.append(unsteered(model, train, 0, again=2 * len(contrast_pairs(model, train)[0])))
    if "aft" in methods:
        found += vectors_work(model, train, layers=layers, epochs=epochs, batch_size=batch_size, positions=positions)
    if "multilayer_aft" in methods:
        at, scales = spread_layers(model, layers[len(layers) // 2])
        candidate, learnable = Candidate(tuple(Spot(layer) for layer in at)), StaticVector(d_model(model), tuple(scales), learn_scales=True)
        schedule, how = Schedule(epochs, batch_size), How(positions=positions)
        found += training_work(model, train, [candidate], learnable, schedule, how, times=len(layers))
    return found


def spread_layers(model: Model, layer: int) -> tuple[list[int], list[float]]:
    """The sources' three layers and scales, their depths scaled so that the middle one is at a layer; layers that coincide count once.

    Example:
        >>> import steerlab as sl
        >>> model = sl.load_model("tiny-arithmetic")
        >>> spread_layers(model, 3), spread_layers(model, 5)
        (([0, 3, 4], [0.5, 1.0, 0.3]), ([1, 5], [0.5, 1.0]))
    """
    most = n_layers(model) - 1
    middle = SOURCE_DEPTHS[1]
    at = {layer: SOURCE_SCALES[1]}
    for depth, scale in zip(SOURCE_DEPTHS, SOURCE_SCALES, strict=True):
        at.setdefault(min(most, int(layer * depth / middle + 1e-9)), scale)
    return sorted(at), [at[one] for one in sorted(at)]
