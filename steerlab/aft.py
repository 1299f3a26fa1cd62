"""Learned vectors (activation fine-tuning): the frozen model's residual stream plus a vector that makes right answers likely.

``h' = h + v`` at one layer (`steerlab.multilayer`: at several); Adam lowers the cross-entropy of the right answer. Only the blocks behind
the vector run, on streams that are kept, and only what is scored is unembedded.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from steerlab._checks import InputError
from steerlab._progress import job
from steerlab.activations.cache import Positions, indices
from steerlab.context_learnables import ContextLearnable
from steerlab.directions.direction import Direction
from steerlab.fitting import Fit, How, fit
from steerlab.interventions import Operator
from steerlab.learnables import StaticVector
from steerlab.models.backends import Model
from steerlab.models.model import d_model, describe
from steerlab.resumed import Spot
from steerlab.schedules import Candidate, Schedule
from steerlab.tasks.problems import Problem
from steerlab.tasks.scorers import Scorer, Target
from steerlab.training import COLUMNS, Trained


@dataclass(frozen=True, eq=False, repr=False)
class LearnedVector(Direction):
    """A direction that was learned, with the course of its training; it works wherever a `Direction` does.

    What it is scaled or turned into by `unit` or `with_vector` is a plain `Direction`: it was not learned.

    Attributes:
        history: one line an epoch: epoch, step (the optimiser's, so far), loss (mean cross-entropy, nats), norm,
            validation_accuracy and validation_nll (missing without validation).
    """

    history: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=COLUMNS))

    def __reduce__(self) -> tuple[Any, ...]:
        about = (self.vector, self.layer, self.site, self.positions, self.name, dict(self.method), dict(self.model))
        return LearnedVector, (*about, self.history)

    def with_vector(self, vector: Tensor, name: str | None = None, method: Mapping[str, Any] | None = None) -> Direction:
        """Another vector at the same place, as a plain direction."""
        said = {**self.method, "estimator": "from a learned vector"} if method is None else method
        return Direction(vector, self.layer, self.site, self.positions, name or self.name, said, self.model)

    def warnings(self) -> list[str]:
        """What a reader must know: training that broke off."""
        return broken_off(self.method)

    def __repr__(self) -> str:
        epochs, kept = len(self.history), self.method.get("epoch", len(self.history))
        accuracy = self.method.get("validation_accuracy")
        shown = "" if accuracy is None else f", validation accuracy {accuracy:.3f}"
        return (
            f"LearnedVector({self.name!r}, layer={self.layer}, site={self.site!r}, norm={self.norm:.3g}, epoch {kept} of {epochs}{shown})"
        )

    def _repr_html_(self) -> str:
        return super()._repr_html_() + self.history.to_html(index=False, float_format="{:.4f}".format, escape=True)


def broken_off(method: Mapping[str, Any]) -> list[str]:
    """A sentence on a training that broke off, for readers of its vector."""
    broke = method.get("broke_at_step")
    return (
        []
        if broke is None
        else [f"Training broke off: {method['stopped']}. The vector is that of epoch {method['epoch']}; a smaller lr may help."]
    )


@job("problems", "epochs")
def learn_vector(
    model: Model,
    problems: Sequence[Problem],
    *,
    layer: int,
    validation: Sequence[Problem] | None = None,
    epochs: int = 5,
    lr: float = 1e-2,
    batch_size: int = 4,
    accumulation: int = 1,
    shuffle: bool = True,
    last_batch: str = "step",
    l2: float = 0.0,
    norm_cap: float | None = None,
    seed: int = 0,
    init: str = "zero",
    init_norm: float = 0.01,
    early_stopping: float | None = 0.02,
    extend: int = 0,
    site: str = "resid_post",
    operator: str | Operator = "add",
    positions: Positions = "all",
    loss: str | Target = "answer",
    scorer: str | Scorer | None = None,
    name: str = "learned vector",
    path: str | Path | None = None,
    max_tokens: int | None = None,
    memory: str | int | None = None,
    progress: bool = False,
) -> LearnedVector:
    """Learn one vector at one layer (static activation fine-tuning, "AFT").

    The defaults are those of the sources' Phi-2 loop. Their loop with one problem a step is ``batch_size=1, lr=1e-3``; where their batches do
    not divide the problems, ``last_batch="carry"`` does what they do.

    Args:
        model: a TransformerLens model; it stays as it is, and its parameters get no gradient.
        problems: to train on. An answer of several tokens counts with all of them, each behind the right ones before it (see `loss`).
        layer, site: where the vector acts.
        validation: other problems, scored after each epoch; the epoch with the best accuracy gives the vector (the first of equals).
        epochs: passes over the problems.
        lr: Adam's learning rate.
        batch_size, accumulation: a step follows on `accumulation` batches of `batch_size` problems, whose losses are summed.
        shuffle: a new order each epoch, from `seed`; otherwise the order given.
        last_batch: problems left over at an epoch's end make a "step", or "carry" their gradients into the next epoch's first step.
        l2: times the vector's squared norm, added to each problem's loss.
        norm_cap: the largest norm; the vector is shortened to it after each step.
        seed: of the order and of a random start; the same seed gives the same vector, to the bit.
        init, init_norm: start at "zero", or with a "random" vector of a small norm.
        early_stopping: stop when validation accuracy is more than this below its best; None trains all epochs.
        extend: so many more epochs, at most, while the loss still falls by more than 1% an epoch.
        operator: "add", "rotate", "ablate", "clamp" (these two from a random start), or a function of (resid, vector, alpha); alpha is 1.
        positions: "all", "last" (of the prompt), "prompt", "generated" (the answer's own), an index or indices.
        loss: "answer" (all tokens of the right answer, summed), "first" (only its first), or a function of (model, problem) that gives a Row.
        scorer: how validation is judged; default the task's own.
        name: for tables and figures.
        path: a file that is written after each epoch; after an interruption the same call goes on from it, to the same vector.
        max_tokens: rows times positions of one pass; default what is fast on the model's device.
        memory: what a pass may take, e.g. "2GB".
        progress: show a progress bar.

    Returns:
        The vector with its history. `method` says how it was learned; a loss that was not finite ends training, keeps the best vector so far
        and stands in `warnings()`.

    Raises:
        ValueError: bad input; validation that overlaps with training; a loss that does not depend on the vector, or that is not finite before
            there is any vector to keep.

    Source:
        Activation fine-tuning: the loops of its research programme, whose order, batches and early stop these are.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", n_train=8, n_validation=8, n_test=8)
        >>> learned = sl.learn_vector(model, task.train, layer=3, validation=task.validation, epochs=2, seed=0)
        >>> learned.layer, list(learned.history["epoch"])
        (3, [1, 2])
        >>> learned.history["loss"].is_monotonic_decreasing
        True
    """
    how = How(operator, positions, loss, scorer, max_tokens, memory)
    schedule = Schedule(epochs, batch_size, accumulation, shuffle, last_batch, norm_cap, early_stopping, extend)
    candidate = Candidate((Spot(layer, site),), seed, l2, lr)
    learnable = StaticVector(d_model(model), init=init, init_norm=init_norm)
    found = fit(model, problems, [candidate], learnable, schedule, how, validation=validation, path=path, progress=progress)
    about = settings(schedule, how, learnable, len(problems), validation)
    return learned_vector(model, found, found.trained[0], about, name)


def learned_vector(model: Model, found: Fit, trained: Trained, about: Mapping[str, Any], name: str) -> LearnedVector:
    """What a training of one place gives back.

    Raises:
        ValueError: training broke off before there was a vector.
    """
    vector = trained.parameters["vector"].cpu()
    check_not_zero(trained, vector)
    spot = trained.candidate.spots[0]
    positions = about["positions"] if isinstance(about["positions"], str) else tuple(indices(about["positions"]))
    return LearnedVector(
        vector, spot.layer, spot.site, positions, name, dict(about) | outcome(found, trained), describe(model), trained.history
    )


def check_not_zero(trained: Trained, vector: Tensor) -> None:
    """Make sure that there is a vector to give back.

    Raises:
        ValueError: training broke off before there was one.
    """
    if trained.broke == 1 or not float(vector.norm()):
        raise InputError(
            f"layer {trained.candidate.spots[0].layer}: {trained.stopped}, before there was a vector to keep; use a smaller lr than "
            f"{trained.candidate.lr:g}, or check that the model's logits are finite on these problems"
        )


def settings(
    schedule: Schedule, how: How, learnable: StaticVector | ContextLearnable, n: int, validation: Sequence[Problem] | None
) -> dict[str, Any]:
    """What the method of every vector of a training records."""
    return {
        "estimator": "learned (AFT)",
        "n_problems": n,
        "n_validation": 0 if validation is None else len(validation),
        **how.said(),
        **{
            key: getattr(schedule, key)
            for key in ("epochs", "batch_size", "accumulation", "shuffle", "last_batch", "norm_cap", "early_stopping", "extend")
        },
        "init": learnable.init if learnable.init == "zero" else f"random, norm {learnable.init_norm:g}",
    }


def outcome(found: Fit, trained: Trained) -> dict[str, Any]:
    """What the method of one vector records beside: its own settings, and what came of it."""
    kept = trained.history[trained.history["epoch"] == trained.epoch]
    accuracy = None if found.unsteered is None or kept.empty else float(kept["validation_accuracy"].iloc[0])
    return {
        **{key: getattr(trained.candidate, key) for key in ("seed", "l2", "lr")},
        "epoch": trained.epoch,
        "stopped": trained.stopped,
        "broke_at_step": trained.broke,
        "validation_accuracy": accuracy,
        "unsteered_validation_accuracy": found.unsteered,
    }
