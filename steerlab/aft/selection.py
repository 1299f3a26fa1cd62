"""Choose among learned vectors, and train again on what is still wrong.

`adaptive_aft` trains a grid of layers and seeds with early stopping and chooses by a stated rule; `self_refine` repeats training on
the problems that are still answered wrongly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from steerlab._checks import InputError, build, is_whole, only, takes_options
from steerlab._html import Result
from steerlab._progress import job
from steerlab.aft.aft import (
    LearnedVector,
    LearnedVectors,
    ObjectiveOptions,
    check_problems,
    learn_vectors,
    learned_vector,
    listed,
    train_as,
    training_work,
    vectors_work,
)
from steerlab.aft.learnables import StaticVector
from steerlab.aft.training import AdaptiveOptions, FitOptions, Schedule, TrainingRun
from steerlab.models.backends import Model
from steerlab.models.forecasts import forecast
from steerlab.models.model import Site, d_model, n_layers
from steerlab.steering.cells import run_interventions
from steerlab.steering.options import Scoring
from steerlab.steering.variants import Intervention, Placed
from steerlab.steering.work import rows_of, steered
from steerlab.sweeps.sweep import sweep
from steerlab.tasks.problems import Problem, as_problems, in_both

SELECT = ("validation", "retry")
MIDDLE = (0.25, 0.75)  # the sources' "25%-75% depth"


@dataclass(frozen=True, eq=False, repr=False)
class AdaptiveResult(Result, by="validation_accuracy"):
    """The chosen vector of an adaptive protocol, and all candidates.

    Attributes:
        vector: the chosen one.
        frame: one line a candidate, as of `LearnedVectors`, with attempt (from 1) and chosen.
        attempts: one line an attempt: attempt, candidates, name (its best on validation), validation_accuracy, improvement on validation and, with
            select="retry", on the outcome problems: outcome_improvement.
        select: the rule.
        unsteered: validation accuracy without a vector.
    """

    vector: LearnedVector
    frame: pd.DataFrame
    attempts: pd.DataFrame
    select: str
    unsteered: float

    @property
    def n_attempts(self) -> int:
        """How often the whole protocol was run."""
        return len(self.attempts)

    @property
    def improvement(self) -> float:
        """Validation accuracy of the chosen vector above the unsteered one; it was chosen by that number, so it is biased upwards."""
        return float(self.attempts.loc[self.attempts["name"] == self.vector.name, "improvement"].iloc[-1])

    def warnings(self) -> list[str]:
        """What a reader must know about the choice."""
        tried = f"{len(self.frame)} candidates were trained, and their validation accuracies compared at each of {int(self.frame['epochs'].sum())} epochs"
        said = [
            f"{tried}; that of the chosen one is the best of {'its attempt' if self.n_attempts > 1 else 'so many'} and is biased upwards: claim only what problems that "
            "had no part in it show."
        ]
        if self.select == "retry":
            last = self.attempts["outcome_improvement"].iloc[-1]
            ended = "until the outcome was not negative" if last >= 0 else "and all outcomes were negative"
            said.append(
                f"select='retry': the protocol was run {self.n_attempts} time{'s' * (self.n_attempts > 1)}, {ended}. Trying again until a result pleases selects on the "
                "outcome: a negative result cannot be seen, and the outcome problems are no test of this vector."
            )
        broken = self.frame[self.frame["stopped"].str.contains("not finite")]
        return said + [f"{name}: {stopped}." for name, stopped in zip(broken["name"], broken["stopped"], strict=True)]

    def __repr__(self) -> str:
        attempts = f"{self.n_attempts} attempt{'s' * (self.n_attempts > 1)}"
        return (
            f"AdaptiveResult({self.vector.name!r} of {len(self.frame)} candidates in {attempts}, select={self.select!r}, "
            f"validation accuracy {self.unsteered + self.improvement:.3f} (unsteered {self.unsteered:.3f}))"
        )


@job("problems", "layers", "seeds", "l2s", "epochs")
@takes_options
def adaptive_aft(
    model: Model,
    problems: Sequence[Problem],
    *,
    validation: Sequence[Problem],
    layers: str | Sequence[int] = "all",
    step: int = 1,
    seeds: int | Sequence[int] = 3,
    l2s: float | Sequence[float] = 0.0,
    lrs: float | Sequence[float] = 1e-2,
    halve_every: int | None = None,
    extend: int = 5,
    select: str = "validation",
    outcome: Sequence[Problem] | None = None,
    **options: Unpack[AdaptiveOptions],
) -> AdaptiveResult:
    """The best of many learned vectors over layers, seeds and penalties, each trained with early stopping.

    With select="validation" all candidates train in one batched run, and the best on validation is chosen. With select="retry", the sources' rule,
    each seed is an attempt: its best layer on validation is scored on the outcome problems, and the first attempt that is not worse than no vector
    there is taken (the last one, if all are). That selects on the outcome; the result says how often it was tried.

    Args:
        model: a TransformerLens model.
        problems: to train on.
        validation: chooses epoch, layer, seed and penalty.
        layers: "all", "middle" (25% to 75% of the depth, as the sources' rapid protocol), or a list.
        step: every so many of these layers ("all" and "middle" only); the rapid protocol takes 2.
        seeds: how many (0, 1, …), or which; with select="retry" the most attempts.
        l2s, lrs, halve_every: penalties, learning rates and successive halving; see `steerlab.aft.aft.learn_vectors`.
        extend: so many more epochs, at most, while the loss still falls by more than 1% an epoch.
        select: "validation" or "retry".
        outcome: with select="retry", the problems whose outcome decides whether to try again (the sources: the test problems themselves).

    With select="retry" each attempt has a file of its own, named after `path`.

    Raises:
        ValueError: as `learn_vectors`; an unknown rule; outcome problems missing, not wanted, or among those that were trained or validated on.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", n_train=8, n_validation=8, n_test=8)
        >>> found = sl.adaptive_aft(model, task.train, validation=task.validation, layers=[2, 4], seeds=2, epochs=1, extend=0)
        >>> found.n_attempts, len(found.frame)
        (1, 4)
    """
    if select not in SELECT:
        raise InputError(
            f"select={select!r}; use 'validation' (the best on validation) or 'retry' (the sources' rule, which selects on the outcome)"
        )
    if validation is None:
        raise InputError("validation=None: the protocol stops and chooses on validation; give problems that are not trained on")
    for what, given in (("problems", problems), ("validation", validation), ("outcome", outcome or ())):
        as_problems(given, what)
    _check_outcome(model, select, outcome, [*problems, *validation])
    where = chosen_layers(n_layers(model), layers, step)
    shared: dict[str, Any] = {
        "layers": where,
        "l2s": l2s,
        "lrs": lrs,
        "halve_every": halve_every,
        "validation": validation,
        "extend": extend,
    }
    shared |= options
    if select == "validation" or outcome is None:
        found = learn_vectors(model, problems, seeds=seeds, **shared)
        return _result([found], found.best(), [np.nan], select)
    tried: list[LearnedVectors] = []
    outcomes: list[float] = []
    path: Any = shared.pop("path")
    which = listed("seeds", range(seeds) if isinstance(seeds, int | np.integer) else seeds)
    if options["progress"]:
        n, how = len(which), only(options, Scoring)
        known: dict[str, Any] = {"lrs": lrs, "epochs": options["epochs"], "batch_size": options["batch_size"], **how}
        made_of = vectors_work(model, problems, layers=where, validation=validation, times=n * len(listed("l2s", l2s)), **known)
        made_of.append(steered(model, outcome, 2 * n * rows_of(model, outcome, options["scorer"]), layers=where, together=1, **how))
        forecast(model, made_of, show=True, extra=f" in {n} attempts, at most")
    for seed in which:
        own = None if path is None else Path(path).with_name(f"{Path(path).stem}-attempt{len(tried) + 1}{Path(path).suffix}")
        tried.append(learn_vectors(model, problems, seeds=[seed], path=own, **shared))
        result = sweep(model, outcome, tried[-1].best(), alphas=1.0, **only(options, Scoring))
        outcomes.append(float(result.accuracy()["change"].iloc[0]))
        if outcomes[-1] >= 0:
            break
    return _result(tried, tried[-1].best(), outcomes, select)


def _check_outcome(model: Model, select: str, outcome: Sequence[Problem] | None, others: Sequence[Problem]) -> None:
    if select == "retry" and outcome is None:
        raise InputError("select='retry' tries again until an outcome is not negative; give outcome=, the problems that decide it")
    if select == "validation" and outcome is not None:
        raise InputError(
            "outcome= is for select='retry'; with select='validation' nothing else may decide, so score other problems afterwards"
        )
    if outcome is not None:
        if not outcome:
            raise InputError("outcome=[]: no problems decide whether to try again; give some that are neither trained nor validated on")
        if both := in_both(outcome, others):
            raise InputError(
                f"{len(both)} of {len(outcome)} outcome problems are trained or validated on, too ({both[0].id!r} first); give others"
            )
        check_problems(model, outcome, None)


def chosen_layers(n: int, layers: str | Sequence[int], step: int = 1) -> list[int]:
    """Layers by name or as given, of a model that has n.

    Raises:
        ValueError: an unknown word, a step below 1, or a step beside a list.
    """
    if not is_whole(step, 1):
        raise InputError(f"step={step!r}; use 1 for every layer, 2 for every other")
    if not isinstance(layers, str):
        if step != 1:
            raise InputError(f"step={step} with a list of layers; list the layers that you want, or use 'all' or 'middle'")
        return list(layers)
    if layers not in ("all", "middle"):
        raise InputError(f"layers={layers!r}; use 'all', 'middle' (25% to 75% of the depth) or a list")
    first, last = (0, n - 1) if layers == "all" else (int(n * MIDDLE[0]), min(n - 1, int(n * MIDDLE[1])))
    return list(range(first, last + 1, step))


def _result(tried: Sequence[LearnedVectors], chosen: LearnedVector, outcomes: Sequence[float], select: str) -> AdaptiveResult:
    unsteered = float(tried[0].unsteered or 0.0)
    frame = pd.concat([found.frame.assign(attempt=k + 1) for k, found in enumerate(tried)], ignore_index=True)
    frame["chosen"] = (frame["name"] == chosen.name) & (frame["attempt"] == len(tried))
    lines = []
    for k, (found, change) in enumerate(zip(tried, outcomes, strict=True)):
        best = found.best()
        accuracy = float(best.method["validation_accuracy"])
        lines.append((k + 1, len(found.frame), best.name, accuracy, accuracy - unsteered, change))
    columns = ["attempt", "candidates", "name", "validation_accuracy", "improvement", "outcome_improvement"]
    attempts = pd.DataFrame(lines, columns=columns)
    return AdaptiveResult(chosen, frame, attempts if select == "retry" else attempts.drop(columns="outcome_improvement"), select, unsteered)


@dataclass(frozen=True, eq=False)
class Refinement(Result):
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


@dataclass(frozen=True)
class _Continued(StaticVector):
    """A static vector that begins as another one ended."""

    start: tuple[float, ...] = ()

    def initial(self, rng: np.random.Generator) -> dict[str, Tensor]:
        return {"vector": torch.tensor(self.start)}


@job("problems", "rounds", "epochs")
@takes_options
def self_refine(
    model: Model,
    problems: Sequence[Problem],
    *,
    layer: int,
    rounds: int = 3,
    epochs: int = 3,
    lr: float = 1e-2,
    l2: float = 0.0,
    seed: int = 0,
    name: str = "refined vector",
    **options: Unpack[FitOptions],
) -> Refinement:
    """A vector trained in rounds on the training problems that are still answered wrongly under it.

    Training on one's own failures alone forgets the rest, so that a later round may well be worse: the round is chosen on validation.

    Args:
        rounds: at most; the first trains on all problems. There is no further one once fewer are wrong than a step takes.
        model, problems, layer, epochs, lr, l2, seed, name: see `learn_vector`; epochs are those of each round. An operator
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
    if not is_whole(rounds, 1):
        raise InputError(f"rounds={rounds!r}; use a whole number from 1 up")
    validation, site, how = options["validation"], options["site"], only(options, Scoring)
    check_problems(model, problems, validation)
    schedule = build(Schedule, options, epochs=epochs)
    run = TrainingRun((Site(layer, site),), seed, l2, lr)
    learnable = StaticVector(d_model(model))
    if options["progress"]:
        trained = build(ObjectiveOptions, options)
        made_of = training_work(model, problems, [run], learnable, schedule, trained, validation=validation, times=rounds)
        runs = 2 * rounds * rows_of(model, problems, options["scorer"])
        made_of.append(steered(model, problems, runs, layers=[layer], together=1, site=site, **how))
        forecast(model, made_of, show=True, extra=f" in {rounds} rounds, at most")
    working, vectors, lines, stopped = list(problems), list[LearnedVector](), [], f"all {rounds} rounds done"
    for k in range(1, rounds + 1):
        found, about = train_as(model, working, [run], learnable, options, epochs=epochs)
        if found.trained[0].broke == 1 and vectors:
            stopped = f"round {k}: {found.trained[0].stopped}"
            break
        about |= {"round": k, "estimator": "learned (self-refinement)", "init": "zero" if k == 1 else f"round {k - 1}"}
        vector = learned_vector(model, found, found.trained[0], about, f"{name}, round {k}")
        vectors.append(vector)
        cell = Intervention((Placed(vector, Site(layer, site)),), 1.0)
        outcomes = run_interventions(model, problems, [cell], progress=options["progress"], **how).frames[0]
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
