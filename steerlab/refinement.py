"""Self-refinement: train, find the training problems that are still answered wrongly, train on these, repeat."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from steerlab._checks import InputError
from steerlab._progress import job
from steerlab.activations.cache import Positions
from steerlab.aft import LearnedVector, learned_vector, settings
from steerlab.cells import run_cells
from steerlab.fitting import How, check_problems, fit, training_work
from steerlab.interventions import Operator
from steerlab.learnables import StaticVector
from steerlab.models.backends import Model
from steerlab.models.forecasts import forecast
from steerlab.models.model import d_model
from steerlab.resumed import Spot
from steerlab.schedules import Candidate, Schedule
from steerlab.tasks.problems import Problem
from steerlab.tasks.scorers import Scorer, Target
from steerlab.variants import Cell, Place
from steerlab.work_kinds import rows_of, steered


@dataclass(frozen=True, eq=False)
class Refinement:
    """The rounds of a self-refinement.

    Attributes:
        frame: one line a round: round, n_trained (problems trained on), train_accuracy (on all training problems, under the round's
            vector), wrong (how many are answered wrongly), validation_accuracy, norm, chosen.
        vectors: one a round.
        stopped: why there was no further round.
    """

    frame: pd.DataFrame
    vectors: tuple[LearnedVector, ...]
    stopped: str

    @property
    def vector(self) -> LearnedVector:
        """That of the chosen round: of the best validation accuracy (the first of equals), without validation the last."""
        return self.vectors[int(self.frame["chosen"].to_numpy().argmax())]

    def warnings(self) -> list[str]:
        """What a reader must know: training that broke off."""
        return [f"Round {k}: {said}" for k, vector in enumerate(self.vectors, 1) for said in vector.warnings()]

    def __repr__(self) -> str:
        line = self.frame[self.frame["chosen"]].iloc[0]
        return (
            f"Refinement({len(self.frame)} rounds, round {line['round']:.0f} chosen, {line['wrong']:.0f} training problems wrong under it)"
        )

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>" + self.frame.to_html(index=False, float_format="{:.3f}".format, escape=True)


@dataclass(frozen=True)
class _Continued(StaticVector):
    """A static vector that begins as another one ended."""

    start: tuple[float, ...] = ()

    def initial(self, rng: np.random.Generator) -> dict[str, Tensor]:
        return {"vector": torch.tensor(self.start)}


@job("problems", "rounds", "epochs")
def self_refine(
    model: Model,
    problems: Sequence[Problem],
    *,
    layer: int,
    validation: Sequence[Problem] | None = None,
    rounds: int = 3,
    epochs: int = 3,
    lr: float = 1e-2,
    batch_size: int = 4,
    accumulation: int = 1,
    shuffle: bool = True,
    l2: float = 0.0,
    norm_cap: float | None = None,
    seed: int = 0,
    early_stopping: float | None = 0.02,
    site: str = "resid_post",
    operator: str | Operator = "add",
    positions: Positions = "all",
    loss: str | Target = "answer",
    scorer: str | Scorer | None = None,
    name: str = "refined vector",
    max_tokens: int | None = None,
    memory: str | int | None = None,
    progress: bool = False,
) -> Refinement:
    """Learn a vector, and go on learning from the training problems that are still answered wrongly under it.

    Training on one's own failures alone forgets the rest, so that a later round may well be worse: the round is chosen on validation.

    Args:
        rounds: at most; the first trains on all problems. There is no further one once fewer are wrong than a step takes.
        model, problems, layer, validation, epochs, lr, batch_size, accumulation, shuffle, l2, norm_cap, seed, early_stopping, site, operator,
            positions, loss, scorer, name, max_tokens, memory, progress: see `learn_vector`; epochs are those of each round. An operator
            that does nothing with a zero vector ("ablate") cannot begin here.

    Raises:
        ValueError: as `learn_vector`.

    Source:
        "Self-refinement loop", named in the programme's list of extensions.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", n_train=24, n_validation=8, n_test=8)
        >>> refined = sl.self_refine(model, task.train, layer=3, validation=task.validation, rounds=2, epochs=1)
        >>> bool(refined.frame["n_trained"].iloc[1] == refined.frame["wrong"].iloc[0])
        True
    """
    if isinstance(rounds, bool) or not isinstance(rounds, int | np.integer) or rounds < 1:
        raise InputError(f"rounds={rounds!r}; use a whole number from 1 up")
    check_problems(model, problems, validation)
    how = How(operator, positions, loss, scorer, max_tokens, memory)
    schedule = Schedule(epochs, batch_size, accumulation, shuffle, "step", norm_cap, early_stopping)
    candidate = Candidate((Spot(layer, site),), seed, l2, lr)
    learnable = StaticVector(d_model(model))
    options: dict[str, Any] = {"scorer": scorer, "max_tokens": max_tokens, "memory": memory}
    if progress:
        made_of = training_work(model, problems, [candidate], learnable, schedule, how, validation=validation, times=rounds)
        at: dict[str, Any] = {"layers": [layer], "together": 1, "site": site, "operator": operator, "positions": positions}
        made_of.append(steered(model, problems, 2 * rounds * rows_of(model, problems, scorer), **at, **options))
        forecast(model, made_of, show=True, extra=f" in {rounds} rounds, at most")
    working, vectors, lines, stopped = list(problems), list[LearnedVector](), [], f"all {rounds} rounds done"
    for k in range(1, rounds + 1):
        found = fit(model, working, [candidate], learnable, schedule, how, validation=validation, progress=progress)
        if found.trained[0].broke == 1 and vectors:
            stopped = f"round {k}: {found.trained[0].stopped}"
            break
        about = settings(schedule, how, learnable, len(working), validation) | {"round": k}
        about |= {"estimator": "learned (self-refinement)", "init": "zero" if k == 1 else f"round {k - 1}"}
        vector = learned_vector(model, found, found.trained[0], about, f"{name}, round {k}")
        vectors.append(vector)
        cell = Cell((Place(vector, layer, site),), 1.0)
        outcomes = run_cells(model, problems, [cell], operator=operator, positions=positions, progress=progress, **options).frames[0]
        wrong = (~outcomes["correct"].astype(bool)).to_numpy()
        measured = vector.method["validation_accuracy"]
        lines.append((k, len(working), float(1 - wrong.mean()), int(wrong.sum()), np.nan if measured is None else measured, vector.norm))
        if found.trained[0].broke is not None:
            stopped = f"round {k}: {found.trained[0].stopped}"
            break
        working = [problem for problem, missed in zip(problems, wrong, strict=True) if missed]
        if len(working) < schedule.per_step and k < rounds:
            stopped = f"after round {k} {len(working)} problems were wrong, fewer than a step takes ({schedule.per_step})"
            break
        learnable = _Continued(d_model(model), start=tuple(vector.vector.tolist()))
    frame = pd.DataFrame(lines, columns=["round", "n_trained", "train_accuracy", "wrong", "validation_accuracy", "norm"])
    best = len(frame) - 1 if validation is None else int(frame["validation_accuracy"].fillna(-np.inf).to_numpy().argmax())
    return Refinement(frame.assign(chosen=np.arange(len(frame)) == best), tuple(vectors), stopped)
