"""One learned vector at several layers, each with a learned scale (multi-layer activation fine-tuning)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Unpack, overload

import numpy as np
import pandas as pd
from torch import Tensor

from steerlab._checks import InputError, build, takes_options
from steerlab._html import Plotted
from steerlab._progress import job
from steerlab.activations.positions import TokenPositions
from steerlab.aft.aft import broken_off, check_not_zero, outcome, train_as
from steerlab.aft.learnables import StaticVector
from steerlab.aft.training import OneTraining, TrainingRun
from steerlab.directions.direction import Direction
from steerlab.models.backends import Model
from steerlab.models.model import Site, d_model, describe, n_layers
from steerlab.tasks.problems import Problem

SOURCE_DEPTHS = (0.1, 0.5, 0.8)  # of the sources' multi-layer vector
SOURCE_SCALES = (0.5, 1.0, 0.3)


@dataclass(frozen=True, eq=False, repr=False)
class MultiLayerVector(Plotted, Sequence[Direction], figure="training_curve"):
    """One learned vector at several layers, each with its scale; a sequence of directions, lowest layer first as given.

    ``sl.steer(model, it)`` steers with all of them, ``sl.sweep(model, problems, it, together=True)`` sweeps over their common alpha.

    Attributes:
        directions: what acts at each layer: scale times vector.
        vector: the vector itself, ``[d_model]``.
        scales: one a layer.
        history: as of a `LearnedVector`.
        method: how it was learned.
    """

    directions: tuple[Direction, ...]
    vector: Tensor
    scales: tuple[float, ...]
    history: pd.DataFrame
    method: Mapping[str, Any]

    @overload
    def __getitem__(self, index: int) -> Direction: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Direction]: ...
    def __getitem__(self, index: int | slice) -> Direction | Sequence[Direction]:
        return self.directions[index]

    def __len__(self) -> int:
        return len(self.directions)

    def __iter__(self) -> Iterator[Direction]:
        return iter(self.directions)

    def for_model(self, model: Model) -> "MultiLayerVector":
        """The same vector for another model, on purpose; see `steerlab.Direction.for_model`."""
        return replace(self, directions=tuple(one.for_model(model) for one in self.directions))

    @property
    def layers(self) -> tuple[int, ...]:
        """Where it acts."""
        return tuple(direction.layer for direction in self.directions)

    @property
    def norm(self) -> float:
        """Of the vector, before any scale."""
        return float(self.vector.norm())

    def warnings(self) -> list[str]:
        """What a reader must know: training that broke off."""
        return broken_off(self.method)

    def __repr__(self) -> str:
        places = ", ".join(f"{scale:.3g} at layer {d.layer}" for scale, d in zip(self.scales, self.directions, strict=True))
        return f"MultiLayerVector(norm={self.norm:.3g}, {places}, {len(self.history)} epochs)"

    @property
    def frame(self) -> pd.DataFrame:
        """The history: one line an epoch."""
        return self.history

    def summary(self) -> pd.DataFrame:
        """One line a layer: layer, scale, norm (of what acts there)."""
        return pd.DataFrame({"layer": self.layers, "scale": self.scales, "norm": [one.norm for one in self.directions]})


@job("problems", "layers", "epochs")
@takes_options
def learn_multilayer(
    model: Model,
    problems: Sequence[Problem],
    *,
    layers: str | Sequence[int] = "sources",
    scales: Sequence[float] | None = None,
    learn_scales: bool = True,
    name: str = "learned vector",
    **options: Unpack[OneTraining],
) -> MultiLayerVector:
    """One learned vector that acts at several layers, each with its own learned scale.

    Args:
        layers: where it acts, or "sources": 10%, 50% and 80% of the depth, with scales 0.5, 1.0 and 0.3.
        scales: one a layer, to begin with; default the sources' for their layers, else 1.
        learn_scales: learn them with the vector (as the sources do), or keep them as given.
        model, problems, name: see `learn_vector`.
        norm_cap: the largest norm of the vector, without its scales; after each step it is shortened to it.

    Raises:
        ValueError: as `learn_vector`; also unequal numbers of layers and scales, a layer given twice, or a scale of zero.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", n_train=8, n_validation=8, n_test=8)
        >>> learned = sl.learn_multilayer(model, task.train, epochs=1, seed=0)
        >>> learned.layers
        (0, 3, 4)
        >>> with sl.steer(model, learned):
        ...     steered = sl.evaluate(model, task.test)
    """
    where, begin = source_layers(model, layers), _scales(layers, scales)
    if len(begin) != len(where):
        raise InputError(f"{len(where)} layers and {len(begin)} scales; give one scale a layer")
    if len(set(where)) < len(where):
        raise InputError(f"layers={list(where)}; give at least one layer, each once")
    if any(not np.isfinite(scale) or scale == 0 for scale in begin):
        raise InputError(f"scales={list(begin)}; use finite numbers other than 0 (leave a layer out rather than give it 0)")
    run = TrainingRun(tuple(Site(layer, options["site"]) for layer in where), options["seed"], options["l2"], options["lr"])
    learnable = build(StaticVector, options, d_model=d_model(model), scales=begin, learn_scales=learn_scales)
    found, method = train_as(model, problems, [run], learnable, options)
    trained = found.trained[0]
    vector = trained.parameters["vector"].cpu()
    check_not_zero(trained, vector)
    learned = tuple(float(s) for s in trained.parameters["scales"]) if learn_scales else begin
    method |= outcome(found, trained) | {"layers": list(where), "scales": list(learned), "scales_learned": learn_scales}
    at = TokenPositions.of(method["positions"]).where
    directions = tuple(
        Direction(scale * vector, layer, options["site"], at, f"{name} at layer {layer}", method | {"scale": scale}, describe(model))
        for layer, scale in zip(where, learned, strict=True)
    )
    return MultiLayerVector(directions, vector, learned, trained.history, method)


def source_layers(model: Model, layers: str | Sequence[int]) -> tuple[int, ...]:
    """Layers as given, or the sources' share of the depth.

    Raises:
        ValueError: another word, or none.
    """
    if isinstance(layers, str):
        if layers != "sources":
            raise InputError(f"layers={layers!r}; use 'sources' (10%, 50% and 80% of the depth) or a list of layers")
        return tuple(int(n_layers(model) * depth) for depth in SOURCE_DEPTHS)
    found = tuple(np.atleast_1d(np.asarray(layers)).tolist())
    if not found:
        raise InputError("layers=[]; give at least one layer, each once")
    return found


def _scales(layers: str | Sequence[int], scales: Sequence[float] | None) -> tuple[float, ...]:
    if scales is not None:
        return tuple(float(scale) for scale in np.atleast_1d(np.asarray(scales, dtype=float)))
    return SOURCE_SCALES if isinstance(layers, str) else (1.0,) * np.atleast_1d(np.asarray(layers)).size
