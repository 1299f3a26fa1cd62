"""Learned steering vectors: ``h' = h + v`` at one layer, with v trained to make right answers likely and the model frozen.

Adam lowers the cross-entropy of the right answer. Only the blocks after the vector run, on kept streams. `learn_vectors` trains
many (layers, seeds, penalties, learning rates) in one batch; each is what it would be alone, rounding aside.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import partial
from itertools import product
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any, TypeVar, Unpack, overload

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from steerlab._checks import InputError, build, takes_options
from steerlab._html import Result
from steerlab._progress import job
from steerlab.activations.positions import Positions, TokenPositions
from steerlab.aft.learnables import ContextLearnable, Learnable, StaticVector
from steerlab.aft.objectives import AnswerLoss, LearnedActing, ValidationScore
from steerlab.aft.training import HISTORY_COLUMNS, FitOptions, OneTraining, Schedule, Trained, TrainingRun, TrainOptions, train
from steerlab.directions.direction import Direction
from steerlab.models.backends import Model
from steerlab.models.forecasts import Work, forecast
from steerlab.models.model import Site, backend_of, d_model, describe, device_of, frozen, hook_name, n_layers
from steerlab.models.threads import on_suitable_threads
from steerlab.steering.operators import Operator, check_operator, operator_label, operator_named
from steerlab.steering.options import Scoring
from steerlab.steering.work import rows_of
from steerlab.tasks.evaluation import check_ids
from steerlab.tasks.problems import Problem, as_problems, in_both
from steerlab.tasks.scorers import Scorer, Target, target_named

TIMED_CANDIDATES = 4  # of a timed batch, at most
SMALL = 1e-3


@dataclass(frozen=True)
class ObjectiveOptions:
    """How vectors act and what they are trained for; each field is described in `steerlab.aft.training.FitOptions`."""

    operator: str | Operator = "add"
    positions: Positions = "all"
    loss: str | Target = "answer"
    scorer: str | Scorer | None = None
    max_tokens: int | None = None
    memory: str | int | None = None

    def said(self) -> dict[str, Any]:
        """What a direction's method records."""
        return {
            "operator": operator_label(self.operator),
            "positions": TokenPositions.of(self.positions).describe(),
            "loss": self.loss if isinstance(self.loss, str) else f"{getattr(self.loss, '__name__', 'custom')} (custom)",
        }


@dataclass(frozen=True, eq=False)
class Fit:
    """What came of a training: one outcome a candidate, and the validation accuracy of the model as it is."""

    trained: list[Trained]
    unsteered: float | None


@on_suitable_threads
def fit(
    model: Model,
    problems: Sequence[Problem],
    candidates: Sequence[TrainingRun],
    learnable: Learnable,
    schedule: Schedule,
    how: ObjectiveOptions,
    *,
    validation: Sequence[Problem] | None = None,
    path: str | Path | None = None,
    progress: bool = False,
) -> Fit:
    """Train candidates on problems; the model is left as it was, and none of its parameters gets a gradient.

    Raises:
        ValueError: bad input, found before anything is trained, or a file at `path` that holds another training.
    """
    check_problems(model, problems, validation)
    for site in {site for candidate in candidates for site in candidate.sites}:
        hook_name(model, *site)
    check_operator(model, how.operator)
    target = target_named(how.loss)
    shortest = min(target(model, problem).prompt_length for problem in problems)
    TokenPositions.of(how.positions).mask([shortest], shortest)
    if len(problems) >= schedule.per_step:
        fresh = path is None or not Path(path).exists()  # what is done already is known to the bar alone
        more = f", and up to {schedule.extend} epochs more while the loss falls" if schedule.extend else ""
        made_of = training_work(model, problems, candidates, learnable, schedule, how, validation=validation) if progress and fresh else []
        forecast(model, made_of, show=progress and fresh, extra=more)
    with frozen(model):
        score = None if validation is None else _score(model, validation, candidates, learnable, how)
        objective = _objective(model, problems, candidates, learnable, how)
        work = _work(model, problems, validation, how) if path is not None else {}
        how_long: dict[str, Any] = {"path": path, "work": work, "device": device_of(model), "progress": progress}
        trained = train(objective, learnable, candidates, schedule, validator=score, **how_long)
        with torch.no_grad():
            unsteered = None if score is None else score.unsteered()
    return Fit(trained, unsteered)


def _acting(how: ObjectiveOptions) -> LearnedActing:
    return {"operator": operator_named(how.operator), "positions": how.positions, "max_tokens": how.max_tokens, "memory": how.memory}


def _objective(
    model: Model, problems: Sequence[Problem], candidates: Sequence[TrainingRun], learnable: Learnable, how: ObjectiveOptions
) -> AnswerLoss:
    return AnswerLoss(model, problems, [one.sites for one in candidates], learnable, target_named(how.loss), **_acting(how))


def _score(
    model: Model, problems: Sequence[Problem], candidates: Sequence[TrainingRun], learnable: Learnable, how: ObjectiveOptions
) -> ValidationScore:
    return ValidationScore(model, problems, [one.sites for one in candidates], learnable, scorer=how.scorer, **_acting(how))


def training_work(
    model: Model,
    problems: Sequence[Problem],
    candidates: Sequence[TrainingRun],
    learnable: Learnable,
    schedule: Schedule,
    how: ObjectiveOptions,
    *,
    validation: Sequence[Problem] | None = None,
    times: float = 1,
) -> list[Work]:
    """What a training is made of: every problem forward and back under every candidate, and validation, in every epoch that is planned.

    Args:
        model, problems, candidates, learnable, schedule, how, validation: as in `fit`.
        times: so many trainings like this one.

    Raises:
        ValueError: problems that the model or their scorer cannot take.
    """
    epochs = _candidate_epochs(len(candidates), schedule)
    few = [candidates[k] for k in np.linspace(0, len(candidates) - 1, min(TIMED_CANDIDATES, len(candidates))).round().astype(int)]

    def begun() -> dict[int, dict[str, Tensor]]:
        """Parameters that act, if only a little: what is zero may be left out of a run."""
        found = {}
        for c, one in enumerate(few):
            initial = learnable.initial(np.random.default_rng([int(one.seed), 1]))
            found[c] = {name: (value + SMALL).to(device_of(model), torch.float32) for name, value in initial.items()}
        return found

    def kept(some: Sequence[Problem]) -> AnswerLoss:
        with frozen(model):
            return _objective(model, some, few, learnable, how)

    def steps(objective: AnswerLoss) -> int:
        with frozen(model):
            parameters = {c: {name: value.requires_grad_() for name, value in mine.items()} for c, mine in begun().items()}
            for start in range(0, objective.size, schedule.per_step):
                batch = range(start, min(start + schedule.per_step, objective.size))
                for _, losses in objective.losses([(c, i) for c in parameters for i in batch], parameters):
                    if losses.requires_grad:
                        losses.sum().backward()
        return objective.size * len(few)

    def scored(some: Sequence[Problem]) -> tuple[ValidationScore, int]:
        with frozen(model):
            return _score(model, some, few, learnable, how), rows_of(model, some, how.scorer)

    def measure(kept: tuple[ValidationScore, int]) -> int:
        score, rows = kept
        with frozen(model):
            score(begun())
        return rows * len(few)

    found = [Work("training", round(times * len(problems) * epochs), problems, steps, prepare=kept)]
    if validation is not None:
        runs = round(times * rows_of(model, validation, how.scorer) * (epochs + 1))
        found.append(Work("validation", runs, validation, measure, prepare=scored))
    return found


def _candidate_epochs(n: int, schedule: Schedule) -> int:
    """Epochs of all candidates together, where none ends early."""
    total = 0
    for epoch in range(1, schedule.epochs + 1):
        total += n
        n = (n + 1) // 2 if schedule.halve_every and epoch % schedule.halve_every == 0 else n
    return total


def check_problems(model: Model, problems: Sequence[Problem], validation: Sequence[Problem] | None) -> None:
    """Make sure that there is something to train on, and that validation is something else.

    Raises:
        TypeError: a task or a single problem instead of a list.
        ValueError: none, repeated ids, or a problem in both lists.
    """
    backend_of(model)
    for name, given in (("problems", problems), ("validation", validation)):
        if given is not None or name == "problems":
            as_problems(given, name)
        if given is not None and not given:
            what = "there is nothing to train on" if name == "problems" else "give None to train without validation"
            raise InputError(f"no {name} given; {what}")
        if given is not None:
            check_ids(given)
    if validation is None:
        return
    both = in_both(validation, problems)
    if both:
        raise InputError(
            f"{len(both)} of {len(validation)} validation problems are training problems, too ({both[0].id!r} first); "
            "what a vector was trained on says nothing about it: give other problems"
        )


def made_of(given: Any) -> str:
    """What tells one function from another, in this process and the next: its code and what it closes over; anything else by its repr."""
    if isinstance(given, Tensor):
        return f"tensor {tuple(given.shape)} {hashlib.sha256(given.detach().float().cpu().contiguous().numpy().tobytes()).hexdigest()}"
    if isinstance(given, partial):
        return f"partial {made_of(given.func)} {[made_of(value) for value in given.args]} {[(k, made_of(v)) for k, v in sorted(given.keywords.items())]}"
    if isinstance(given, MethodType):
        return f"method {made_of(given.__func__)} of {made_of(given.__self__)}"
    if is_dataclass(given) and not isinstance(given, type):  # in full: what it shows of itself may be rounded, or have an address
        return f"{type(given).__module__}.{type(given).__qualname__} {[(f.name, made_of(getattr(given, f.name))) for f in fields(given)]}"
    if isinstance(given, Mapping):
        return f"mapping {[(repr(key), made_of(value)) for key, value in given.items()]}"
    if isinstance(given, list | tuple):
        return f"{type(given).__name__} {[made_of(value) for value in given]}"
    if isinstance(given, np.ndarray):
        return f"array {given.dtype} {given.shape} {hashlib.sha256(np.ascontiguousarray(given).tobytes()).hexdigest()}"
    if isinstance(given, set | frozenset):
        return f"{type(given).__name__} {sorted(made_of(value) for value in given)}"
    if not isinstance(given, FunctionType):
        return repr(given)
    closed = [made_of(cell.cell_contents) for cell in given.__closure__ or ()]
    inner = [made_of_code(given.__code__), [made_of(value) for value in given.__defaults__ or ()], closed]
    return f"{given.__module__}.{given.__qualname__} {inner}"


def made_of_code(code: CodeType) -> str:
    """A digest of compiled code, that of functions inside it included."""
    constants = [made_of_code(value) if isinstance(value, CodeType) else made_of(value) for value in code.co_consts]
    return hashlib.sha256(code.co_code + repr([constants, code.co_names]).encode()).hexdigest()


def _work(model: Model, problems: Sequence[Problem], validation: Sequence[Problem] | None, how: ObjectiveOptions) -> Mapping[str, Any]:
    def listed(given: Sequence[Problem]) -> list[Any]:
        return [(p.id, p.prompt, p.target, p.choices) for p in given]

    scorer = how.scorer if isinstance(how.scorer, str | None) else made_of(how.scorer)
    about = describe(model, anew=True)
    return {
        "weights": {key: about.pop(key) for key in ("weights_sha256", "fingerprint")},
        "functions": [made_of(how.operator), made_of(how.loss)],
        "model": about,
        "problems": listed(problems),
        "validation": None if validation is None else listed(validation),
        "scorer": scorer,
        **how.said(),
    }


@dataclass(frozen=True, eq=False, repr=False)
class LearnedVector(Direction, title="Learned vector", figure="training_curve"):
    """A learned direction with its training history; it works wherever a `Direction` does.

    What it is scaled or turned into by `unit` or `with_vector` is a plain `Direction`: it was not learned.

    Attributes:
        history: one line an epoch: epoch, step (the optimiser's, so far), loss (mean cross-entropy, nats), norm,
            validation_accuracy and validation_nll (missing without validation).
    """

    history: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=HISTORY_COLUMNS))

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

    @property
    def frame(self) -> pd.DataFrame:
        """The history: one line an epoch."""
        return self.history

    def _facts(self) -> dict[str, Any]:
        return super()._facts() | {key: self.method.get(key) for key in ("epoch", "validation_accuracy")}


def broken_off(method: Mapping[str, Any]) -> list[str]:
    """A warning about a training that stopped early."""
    broke = method.get("broke_at_step")
    said = f"Training stopped early: {method.get('stopped')}. The vector is that of epoch {method.get('epoch')}; a smaller lr may help."
    return [] if broke is None else [said]


@job("problems", "epochs")
@takes_options
def learn_vector(
    model: Model, problems: Sequence[Problem], *, layer: int, name: str = "learned vector", **options: Unpack[OneTraining]
) -> LearnedVector:
    """A vector learned at one layer (static activation fine-tuning, "AFT"), with its training history.

    The defaults are those of the sources' Phi-2 loop. Their loop with one problem a step is ``batch_size=1, lr=1e-3``; where their batches do
    not divide the problems, ``last_batch="carry"`` does what they do.

    Args:
        model: a TransformerLens model; it stays as it is, and its parameters get no gradient.
        problems: to train on. An answer of several tokens counts with all of them, each behind the right ones before it (see `loss`).
        layer: where the vector acts.
        name: for tables and figures.

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
    run = TrainingRun((Site(layer, options["site"]),), options["seed"], options["l2"], options["lr"])
    found, about = train_as(model, problems, [run], build(StaticVector, options, d_model=d_model(model)), options)
    return learned_vector(model, found, found.trained[0], about, name)


def train_as(
    model: Model,
    problems: Sequence[Problem],
    runs: Sequence[TrainingRun],
    learnable: StaticVector | ContextLearnable,
    options: FitOptions | TrainOptions,
    **more: Any,
) -> tuple[Fit, dict[str, Any]]:
    """What came of a training as options ask for, and what the method of each of its vectors records.

    Args:
        more: of the schedule.
        model, problems, runs, learnable: as in `fit`.
        options: of a function that learns vectors.
    """
    how, schedule, validation = build(ObjectiveOptions, options), build(Schedule, options, **more), options["validation"]
    path: Any = options.get("path")
    found = fit(model, problems, runs, learnable, schedule, how, validation=validation, path=path, progress=options["progress"])
    return found, settings(schedule, how, learnable, len(problems), validation)


def learned_vector(model: Model, found: Fit, trained: Trained, about: Mapping[str, Any], name: str) -> LearnedVector:
    """What a training of one place gives back.

    Raises:
        ValueError: training broke off before there was a vector.
    """
    vector = trained.parameters["vector"].cpu()
    check_not_zero(trained, vector)
    site = trained.candidate.sites[0]
    positions = TokenPositions.of(about["positions"]).where
    return LearnedVector(vector, *site, positions, name, dict(about) | outcome(found, trained), describe(model), trained.history)


def check_not_zero(trained: Trained, vector: Tensor) -> None:
    """Make sure that there is a vector to give back.

    Raises:
        ValueError: training broke off before there was one.
    """
    if trained.broke == 1 or not float(vector.norm()):
        raise InputError(
            f"layer {trained.candidate.sites[0].layer}: {trained.stopped}, before there was a vector to keep; use a smaller lr than "
            f"{trained.candidate.lr:g}, or check that the model's logits are finite on these problems"
        )


def settings(
    schedule: Schedule, how: ObjectiveOptions, learnable: StaticVector | ContextLearnable, n: int, validation: Sequence[Problem] | None
) -> dict[str, Any]:
    """What the method of every vector of a training records."""
    return {
        "estimator": "learned (AFT)",
        "n_problems": n,
        "n_validation": 0 if validation is None else len(validation),
        **how.said(),
        **{key: value for key, value in asdict(schedule).items() if key != "halve_every"},
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


Number = TypeVar("Number", int, float)
CANDIDATE_KEYS = ["layer", "seed", "l2", "lr"]


@dataclass(frozen=True, eq=False, repr=False)
class LearnedVectors(Result, Sequence[LearnedVector], by="validation_accuracy"):
    """Learned vectors of several candidates trained in one run, in the order of `frame`.

    Attributes:
        vectors: those that training gave; one that broke off before it had any vector is in the frame only.
        frame: one line a candidate: name, layer, seed, l2, lr, epochs, epoch (kept), loss (of the last epoch), norm, validation_accuracy and validation_nll
            (of the kept epoch), improvement (over the unsteered accuracy), stopped.
        unsteered: validation accuracy without any vector; None without validation.
    """

    vectors: tuple[LearnedVector, ...]
    frame: pd.DataFrame
    unsteered: float | None

    @overload
    def __getitem__(self, index: int) -> LearnedVector: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[LearnedVector]: ...
    def __getitem__(self, index: int | slice) -> LearnedVector | Sequence[LearnedVector]:
        return self.vectors[index]

    def __len__(self) -> int:
        return len(self.vectors)

    def __iter__(self) -> Iterator[LearnedVector]:
        return iter(self.vectors)

    @property
    def history(self) -> pd.DataFrame:
        """Every candidate's history, with its name in front."""
        return pd.concat([v.history.assign(name=v.name)[["name", *v.history.columns]] for v in self.vectors], ignore_index=True)

    def best(self) -> LearnedVector:
        """The candidate of highest validation accuracy; equals go to the smaller validation nll, then to the first.

        Its validation accuracy is the largest of `len(self)`, and so biased upwards.

        Raises:
            ValueError: there was no validation, or every training broke off before it.
        """
        if self.unsteered is None:
            raise InputError("these vectors were trained without validation; give validation=, and the best of them can be told")
        measured = self.frame[self.frame["validation_accuracy"].notna()]
        if measured.empty:
            raise InputError(
                f"no candidate ended an epoch, so none was validated; {self.frame['name'].iloc[0]}: {self.frame['stopped'].iloc[0]}; use a smaller lr"
            )
        ranked = measured.sort_values(["validation_accuracy", "validation_nll"], ascending=[False, True], kind="stable")
        by_name = {vector.name: vector for vector in self.vectors}
        return by_name[next(name for name in ranked["name"] if name in by_name)]

    def warnings(self) -> list[str]:
        """Trainings that broke off."""
        broken = self.frame[self.frame["stopped"].str.contains("not finite")]
        return [f"{name}: {stopped}." for name, stopped in zip(broken["name"], broken["stopped"], strict=True)]

    def __repr__(self) -> str:
        layers = self.frame["layer"].nunique()
        shown = (
            ""
            if self.unsteered is None
            else f", best validation accuracy {self.frame['validation_accuracy'].max():.3f} (unsteered {self.unsteered:.3f})"
        )
        return f"LearnedVectors({len(self.frame)} candidates at {layers} layers{shown})"


@job("problems", "layers", "seeds", "l2s", "lrs", "epochs")
@takes_options
def learn_vectors(
    model: Model,
    problems: Sequence[Problem],
    *,
    layers: int | Sequence[int] | None = None,
    seeds: int | Sequence[int] = 1,
    l2s: float | Sequence[float] = 0.0,
    lrs: float | Sequence[float] = 1e-2,
    halve_every: int | None = None,
    **options: Unpack[TrainOptions],
) -> LearnedVectors:
    """Vectors learned for every layer, seed, penalty and learning rate, in one batched run.

    Args:
        layers: where; default every layer.
        seeds: how many (0, 1, …), or which.
        l2s, lrs: penalties and learning rates.
        halve_every: successive halving: after every so many epochs the worse half of the candidates on validation ends. Cheaper, and a candidate that
            is slow to learn may be lost; what goes on is what it would be without.
        model, problems: see `steerlab.aft.aft.learn_vector`.

    Raises:
        ValueError: as `learn_vector`; also a list without entries or with repeated ones, or no candidate that gave a vector.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", n_train=8, n_validation=8, n_test=8)
        >>> found = sl.learn_vectors(model, task.train, layers=[2, 4], seeds=2, epochs=1, validation=task.validation)
        >>> [vector.name for vector in found]
        ['aft-L2-seed0', 'aft-L2-seed1', 'aft-L4-seed0', 'aft-L4-seed1']
    """
    where = listed("layers", range(n_layers(model)) if layers is None else layers)
    which = listed("seeds", range(int(seeds)) if isinstance(seeds, int | np.integer) else seeds)
    penalties, rates = listed("l2s", l2s), listed("lrs", lrs)
    candidates = [
        TrainingRun((Site(layer, options["site"]),), seed, l2, lr) for layer, seed, l2, lr in product(where, which, penalties, rates)
    ]
    learnable = build(StaticVector, options, d_model=d_model(model))
    found, about = train_as(model, problems, candidates, learnable, options, halve_every=halve_every)
    vectors, lines = list[LearnedVector](), []
    for trained in found.trained:
        one = trained.candidate
        more = [f"l2={one.l2:g}"] * (len(penalties) > 1) + [f"lr={one.lr:g}"] * (len(rates) > 1)
        name = "-".join([f"aft-L{one.sites[0].layer}-seed{one.seed}", *more])
        kept = trained.history[trained.history["epoch"] == trained.epoch]
        accuracy, nll = (kept[c].iloc[0] if len(kept) else float("nan") for c in ("validation_accuracy", "validation_nll"))
        norm = learnable.norm(trained.parameters)
        last = trained.history["loss"].iloc[-1] if len(trained.history) else float("nan")
        improvement = float("nan") if found.unsteered is None else accuracy - found.unsteered
        told = (len(trained.history), trained.epoch, last, norm, accuracy, nll, improvement, trained.stopped)
        lines.append((name, one.sites[0].layer, one.seed, one.l2, one.lr, *told))
        if norm and trained.broke != 1:  # a random start that no step has moved is no learned vector
            vectors.append(learned_vector(model, found, trained, about, name))
    columns = [
        "name",
        *CANDIDATE_KEYS,
        "epochs",
        "epoch",
        "loss",
        "norm",
        "validation_accuracy",
        "validation_nll",
        "improvement",
        "stopped",
    ]
    frame = pd.DataFrame(lines, columns=columns)
    if not vectors:
        raise InputError(
            f"none of {len(frame)} candidates gave a vector; {frame['name'].iloc[0]}: {frame['stopped'].iloc[0]}; use a smaller lr"
        )
    return LearnedVectors(tuple(vectors), frame, found.unsteered)


def vectors_work(
    model: Model,
    problems: Sequence[Problem],
    *,
    layers: Sequence[int],
    seeds: int = 1,
    lrs: float | Sequence[float] = 1e-2,
    epochs: int,
    batch_size: int = 4,
    validation: Sequence[Problem] | None = None,
    times: float = 1,
    **acting: Unpack[Scoring],
) -> list[Work]:
    """What `learn_vectors` is made of, for the forecast of a larger job.

    Args:
        seeds: how many.
        times: so many trainings like this one.
        model, problems, layers, lrs, epochs, batch_size, validation, acting: see `learn_vectors`.
    """
    candidates = [TrainingRun((Site(layer),), seed, 0.0, lr) for layer, seed, lr in product(layers, range(seeds), listed("lrs", lrs))]
    learnable, schedule = StaticVector(d_model(model)), Schedule(epochs, batch_size)
    how = build(ObjectiveOptions, acting)
    return training_work(model, problems, candidates, learnable, schedule, how, validation=validation, times=times)


def listed(name: str, given: Number | Sequence[Number]) -> list[Number]:
    """One or several values as a list.

    Raises:
        ValueError: none, or repeated ones.
    """
    values: list[Number] = (
        np.asarray(given).ravel().tolist() if isinstance(given, np.ndarray) else list(given) if isinstance(given, Sequence) else [given]
    )
    if not values or len(set(values)) < len(values):
        raise InputError(f"{name}={values}; give at least one, each once")
    return values
