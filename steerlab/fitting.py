"""From a model and problems to a training: input is checked, streams are kept, candidates are trained."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from pathlib import Path
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from steerlab._errors import InputError
from steerlab.activations import Positions, indices
from steerlab.forecasts import Work, forecast
from steerlab.interventions import Operator, check_operator, operator_label, operator_named, position_mask
from steerlab.learnables import Learnable
from steerlab.models import Model, backend_of, describe, device_of, frozen, hook_name
from steerlab.objectives import AnswerLoss, ValidationScore
from steerlab.schedules import Candidate, Schedule
from steerlab.tasks import Problem, Scorer, in_both
from steerlab.tasks.problem import as_problems
from steerlab.tasks.scoring import check_ids
from steerlab.tasks.targets import Target, target_named
from steerlab.threads import on_suitable_threads
from steerlab.training import Trained, train
from steerlab.work_kinds import rows_of

TIMED_CANDIDATES = 4  # of a timed batch, at most
SMALL = 1e-3


@dataclass(frozen=True)
class How:
    """How vectors act and what they are trained for.

    Attributes:
        operator: "add", "rotate", "ablate", "clamp", or a function of (resid, vector, alpha); alpha is 1.
        positions: "all", "last" (of the prompt), "prompt", "generated" (the answer's own), an index or indices.
        loss: "answer" (every token of the right answer, summed), "first" (its first token alone), or a function of (model, problem) that gives a Row.
        scorer: how validation is judged; default the task's own.
        max_tokens: rows times positions of one pass; default what is fast on the model's device.
        memory: what a pass may take, e.g. "2GB".
    """

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
            "positions": self.positions if isinstance(self.positions, str) else indices(self.positions),
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
    candidates: Sequence[Candidate],
    learnable: Learnable,
    schedule: Schedule,
    how: How,
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
    for spot in {spot for candidate in candidates for spot in candidate.spots}:
        hook_name(model, spot.layer, spot.site)
    check_operator(model, how.operator)
    target = target_named(how.loss)
    shortest = min(target(model, problem).prompt_length for problem in problems)
    position_mask(how.positions, [shortest], shortest)
    if len(problems) >= schedule.per_step:
        fresh = path is None or not Path(path).exists()  # what is done already is known to the bar alone
        more = f", and up to {schedule.extend} epochs more while the loss falls" if schedule.extend else ""
        made_of = training_work(model, problems, candidates, learnable, schedule, how, validation=validation) if progress and fresh else []
        forecast(model, made_of, show=progress and fresh, extra=more)
    with frozen(model):
        score = None if validation is None else _score(model, validation, candidates, learnable, how)
        objective = _objective(model, problems, candidates, learnable, how)
        trained = train(
            objective,
            learnable,
            candidates,
            schedule,
            validator=score,
            path=path,
            work=_work(model, problems, validation, how) if path is not None else {},
            device=device_of(model),
            progress=progress,
        )
        with torch.no_grad():
            unsteered = None if score is None else score.unsteered()
    return Fit(trained, unsteered)


def _options(how: How) -> dict[str, Any]:
    return {"operator": operator_named(how.operator), "positions": how.positions, "max_tokens": how.max_tokens, "memory": how.memory}


def _objective(model: Model, problems: Sequence[Problem], candidates: Sequence[Candidate], learnable: Learnable, how: How) -> AnswerLoss:
    return AnswerLoss(model, problems, [one.spots for one in candidates], learnable, target_named(how.loss), **_options(how))


def _score(model: Model, problems: Sequence[Problem], candidates: Sequence[Candidate], learnable: Learnable, how: How) -> ValidationScore:
    return ValidationScore(model, problems, [one.spots for one in candidates], learnable, scorer=how.scorer, **_options(how))


def training_work(
    model: Model,
    problems: Sequence[Problem],
    candidates: Sequence[Candidate],
    learnable: Learnable,
    schedule: Schedule,
    how: How,
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


def _work(model: Model, problems: Sequence[Problem], validation: Sequence[Problem] | None, how: How) -> Mapping[str, Any]:
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
