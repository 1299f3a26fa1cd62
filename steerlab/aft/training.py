"""The training loop: several candidates in one batch, each with its own order of problems, optimiser, history and early stop.

It knows no model: an objective gives losses, a validator accuracies (`steerlab.aft.objectives`). After every epoch the state is one
safetensors file, from which an interrupted training resumes. Order, steps, early stop and kept vector are those of the sources.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypedDict

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from steerlab import _files
from steerlab._checks import InputError, Option, is_number, is_whole, one_of
from steerlab._progress import ProgressBar, progress_bar
from steerlab.aft.differentiable import Pair
from steerlab.aft.learnables import Learnable, Parameters
from steerlab.aft.objectives import Measured, Objective, Validator
from steerlab.models.memory import is_out_of_memory
from steerlab.models.model import Site
from steerlab.steering.options import ScoreOptions
from steerlab.tasks.problems import Problem
from steerlab.tasks.scorers import Target

LARGEST = 1e6  # learning rate


@dataclass(frozen=True)
class TrainingRun:
    """One training among several.

    Attributes:
        sites: where the vector acts.
        seed: of the order of problems and of a random start.
        l2: what the squared norm is multiplied by and added to each problem's loss.
        lr: Adam's learning rate.
    """

    sites: tuple[Site, ...]
    seed: int = 0
    l2: float = 0.0
    lr: float = 1e-2

    def __post_init__(self) -> None:
        if not is_whole(self.seed, 0, 2**32 - 1):
            raise InputError(f"seed={self.seed!r}; use a whole number from 0 to 2**32 - 1")
        for name, value, least in (("l2", self.l2, "of at least 0"), ("lr", self.lr, "above 0")):
            if not is_number(value) or value < 0:
                raise InputError(f"{name}={value!r}; use a finite number {least}")
        if not 0 < self.lr <= LARGEST:
            raise InputError(f"lr={self.lr:g} learns nothing; use a learning rate above 0 and up to {LARGEST:g}, e.g. 1e-2")


@dataclass(frozen=True)
class Schedule:
    """How long training goes on, and in what steps; each field but one is described in `TrainOptions`.

    Attributes:
        halve_every: after every so many epochs the worse half of the candidates still in training ends (successive halving); None lets all go on.
    """

    epochs: int = 5
    batch_size: int = 4
    accumulation: int = 1
    shuffle: bool = True
    last_batch: str = "step"
    norm_cap: float | None = None
    early_stopping: float | None = 0.02
    extend: int = 0
    halve_every: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("accumulation", 1), ("extend", 0)):
            value = getattr(self, name)
            if not is_whole(value, least):
                raise InputError(f"{name}={value!r}; use a whole number of at least {least}")
        if self.halve_every is not None and not is_whole(self.halve_every, 1):
            raise InputError(f"halve_every={self.halve_every!r}; use a whole number of epochs of at least 1, or None")
        one_of(self.last_batch, "last_batch", ("step", "carry"))
        if self.norm_cap is not None and not is_number(self.norm_cap, 0):
            raise InputError(f"norm_cap={self.norm_cap!r}; use a finite norm above 0, or None")
        if self.early_stopping is not None and not (is_number(self.early_stopping) and self.early_stopping >= 0):
            raise InputError(f"early_stopping={self.early_stopping!r}; use a share such as 0.02, or None to train all epochs")

    @property
    def per_step(self) -> int:
        """Problems a step."""
        return self.batch_size * self.accumulation


class StepOptions(ScoreOptions, total=False):
    """Options of every training but for its length and what it is validated on."""

    batch_size: Annotated[int, Option(4, "problems a batch")]
    accumulation: Annotated[int, Option(1, "batches a step of the optimiser; the losses of all their problems are summed")]
    shuffle: Annotated[
        bool, Option(True, "a new order each epoch, that of `np.random.shuffle` from `seed`, as in the sources; otherwise the order given")
    ]
    last_batch: Annotated[
        str,
        Option("step", 'problems left over at an epoch\'s end make a "step", or "carry" their gradients into the next epoch\'s first step'),
    ]
    norm_cap: Annotated[float | None, Option(None, "the largest norm; the vector is shortened to it after each step")]
    early_stopping: Annotated[
        float | None, Option(0.02, "stop when validation accuracy is more than this below its best; None trains all epochs")
    ]
    site: Annotated[str, Option("resid_post", 'where the vector acts in its block: "resid_pre", "resid_mid" or "resid_post"')]
    loss: Annotated[
        str | Target,
        Option(
            "answer",
            '"answer" (all tokens of the right answer, summed), "first" (only its first), or a function of (model, problem) that gives a Row',
        ),
    ]


class FitOptions(StepOptions, total=False):
    """Options of every training but for its length."""

    validation: Annotated[
        Sequence[Problem] | None,
        Option(None, "other problems, scored after each epoch; the epoch with the best accuracy gives the vector (the first of equals)"),
    ]
    extend: Annotated[int, Option(0, "so many more epochs, at most, while the loss still falls by more than 1% an epoch")]


class StartOptions(TypedDict, total=False):
    """Options of a training from the start."""

    epochs: Annotated[int, Option(5, "passes over the problems")]
    init: Annotated[str, Option("zero", 'start at "zero", or with a "random" vector of a small norm')]
    init_norm: Annotated[float, Option(0.01, "norm of a random start")]
    path: Annotated[
        str | Path | None,
        Option(None, "a file that is written after each epoch; after an interruption the same call goes on from it, to the same vector"),
    ]


class TrainOptions(FitOptions, StartOptions, total=False):
    """Options of a training of one or many vectors."""


class AdaptiveOptions(StepOptions, StartOptions, total=False):
    """Options of an adaptive protocol, which says itself what it validates on and how long it goes on."""


class OneTraining(TrainOptions, total=False):
    """Options of the training of one vector."""

    lr: Annotated[float, Option(1e-2, "Adam's learning rate")]
    l2: Annotated[float, Option(0.0, "times the vector's squared norm, added to each problem's loss")]
    seed: Annotated[int, Option(0, "of the order and of a random start; the same seed gives the same vector, to the bit")]


TRAINING_FORMAT = "steerlab-training-2"


def write(path: str | Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any], work: Mapping[str, Any]) -> None:
    """Write the state after an epoch.

    Args:
        path: the file.
        tensors: parameters, the optimiser's moments, gradients that are carried on.
        about: the rest of the state.
        work: what is trained on what, and how; another work does not go on from here.

    Raises:
        OSError: the folder cannot be written.
    """
    kept = {k: t.detach().contiguous().clone() for k, t in tensors.items()}
    said: dict[str, Any] = {"format": TRAINING_FORMAT, "about": dict(about), "work": work_digest(work)}
    said["sha256"] = _files.digest(_content(kept), said)
    _files.write_bytes(path, save(kept, metadata={"steerlab": json.dumps(said, sort_keys=True)}))


def read(path: str | Path, work: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What `write` wrote, or None where there is no such file.

    Raises:
        ValueError: not such a file, a damaged one, or one of another training.
    """
    file = Path(path)
    if not file.exists():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            said = json.loads((opened.metadata() or {}).get("steerlab", "{}"))
            if not isinstance(said, dict) or said.get("format") != TRAINING_FORMAT:
                raise InputError(f"path={str(file)!r}: a safetensors file, but not a training of {TRAINING_FORMAT}; choose another path")
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise InputError(f"path={str(file)!r}: not a training that can be read ({error}); choose another path or remove it") from error
    if said.get("sha256") != _files.digest(_content(tensors), said):
        raise InputError(
            f"path={str(file)!r}: numbers and description do not match their sha256; the file was changed or damaged; remove it to begin anew"
        )
    wanted = work_digest(work)
    different = sorted(key for key in wanted if said["work"].get(key) != wanted[key])
    if different:
        raise InputError(
            f"path={str(file)!r} has a training with other {', '.join(different)}; give what it was begun with, another path, or remove it"
        )
    return tensors, said["about"]


def _content(tensors: Mapping[str, Tensor]) -> bytes:
    """All numbers, in the order of their names, each with its name, type and shape."""
    parts = [(f"{key} {t.dtype} {list(t.shape)}".encode(), t.detach().cpu().contiguous()) for key, t in sorted(tensors.items())]
    return b"".join(name + t.reshape(-1).view(torch.uint8).numpy().tobytes() for name, t in parts)


def work_digest(work: Mapping[str, Any]) -> dict[str, str]:
    """A digest of each thing that the work is made of."""
    return {key: hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16] for key, value in work.items()}


HISTORY_COLUMNS = ["epoch", "step", "loss", "norm", "validation_accuracy", "validation_nll"]
FALLING = 0.01  # the loss still falls where an epoch takes more than this share off it


@dataclass(frozen=True, eq=False)
class Trained:
    """What came of a candidate.

    Attributes:
        candidate: what was trained.
        parameters: those that are kept: of the epoch with the best validation accuracy (the first of equals); without
            validation those of the last epoch; before the end of any, the last that gave a finite loss.
        history: one line an epoch: epoch, step (optimiser's, so far), loss (mean cross-entropy), norm, validation_accuracy, validation_nll.
        epoch: whose parameters they are; 0 where training broke off before the end of any.
        stopped: why it ended, as a sentence.
        broke: at which step the loss was not finite; None where it always was.
    """

    candidate: TrainingRun
    parameters: dict[str, Tensor]
    history: pd.DataFrame
    epoch: int
    stopped: str
    broke: int | None


@dataclass(eq=False)
class _State:
    """A candidate in training."""

    candidate: TrainingRun
    leaves: dict[str, Tensor]
    optimizer: torch.optim.Adam
    shuffler: np.random.RandomState
    order: list[int]
    kept: dict[str, Tensor]  # what would be given back now
    kept_epoch: int = 0
    best: float = -math.inf
    step: int = 0
    lines: list[list[float]] = field(default_factory=list)
    stopped: str = ""
    broke: int | None = None
    sum: float = 0.0  # of this epoch's losses

    def copy(self) -> dict[str, Tensor]:
        return {name: leaf.detach().clone() for name, leaf in self.leaves.items()}


def train(
    objective: Objective,
    learnable: Learnable,
    candidates: Sequence[TrainingRun],
    schedule: Schedule,
    *,
    validator: Validator | None = None,
    path: str | Path | None = None,
    work: Mapping[str, Any] | None = None,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> list[Trained]:
    """Train candidates side by side. Rows of a batch do not see each other, so each is what it would be alone, rounding aside.

    Args:
        objective: the training problems' losses.
        learnable: what has the parameters.
        candidates: what is trained.
        schedule: how long, in what steps.
        validator: accuracy and mean nll after each epoch.
        path: a file that is written after every epoch; the same call goes on from it after an interruption, to the same bits.
        work: whatever decides the outcome, for recognising the same call.
        device: where the parameters live.
        progress: show a progress bar.

    Raises:
        ValueError: fewer problems than a step takes, halving without validation, or nothing that is read depends on the parameters.
    """
    if schedule.halve_every and validator is None:
        raise InputError(f"halve_every={schedule.halve_every}: the worse half is told by validation; give validation problems, or None")
    if objective.size < schedule.per_step:
        raise InputError(
            f"batch_size={schedule.batch_size} x accumulation={schedule.accumulation} takes {schedule.per_step} problems a step, and there are "
            f"{objective.size}; give more problems or use a smaller batch_size"
        )
    states = [_begun(learnable, candidate, objective.size, device) for candidate in candidates]
    work = dict(work or {}) | {"candidates": [repr(c) for c in candidates], "schedule": repr(schedule), "learnable": repr(learnable)}
    done = _resume(path, states, schedule, work)
    total = schedule.epochs * objective.size * len(states)
    with progress_bar(total=total, initial=min(total, done * total // schedule.epochs), desc="train", unit="row", show=progress) as bar:
        for epoch in range(done + 1, schedule.epochs + schedule.extend + 1):
            active = [c for c, state in enumerate(states) if not state.stopped]
            if not active:
                break
            _epoch(objective, learnable, states, active, schedule, bar)
            _after_epoch(epoch, learnable, states, active, schedule, validator)
            if schedule.halve_every and epoch % schedule.halve_every == 0:
                _halve(states, epoch)
            if path is not None:
                _save(path, states, epoch, work)
    histories = [pd.DataFrame(s.lines, columns=HISTORY_COLUMNS).astype({"epoch": int, "step": int}) for s in states]
    return [Trained(s.candidate, s.kept, h, s.kept_epoch, s.stopped, s.broke) for s, h in zip(states, histories, strict=True)]


def _begun(learnable: Learnable, candidate: TrainingRun, size: int, device: torch.device | str) -> _State:
    initial = learnable.initial(np.random.default_rng([int(candidate.seed), 1]))
    leaves = {name: value.to(device, torch.float32).clone().requires_grad_() for name, value in initial.items()}
    shuffler = np.random.RandomState(int(candidate.seed))  # the generator of the sources' np.random.shuffle
    optimizer = torch.optim.Adam(list(leaves.values()), lr=float(candidate.lr))
    return _State(candidate, leaves, optimizer, shuffler, list(range(size)), {name: leaf.detach().clone() for name, leaf in leaves.items()})


def _epoch(
    objective: Objective, learnable: Learnable, states: Sequence[_State], active: Sequence[int], schedule: Schedule, bar: ProgressBar
) -> None:
    for c in active:
        states[c].sum = 0.0
        if schedule.shuffle:
            states[c].shuffler.shuffle(states[c].order)
    for start in range(0, objective.size, schedule.per_step):
        going = [c for c in active if not states[c].stopped]
        batches = {c: states[c].order[start : start + schedule.per_step] for c in going}
        losses = _backward(objective, states, batches)
        whole = start + schedule.per_step <= objective.size or schedule.last_batch == "step"
        for c, mine in losses.items():
            _step(learnable, states[c], mine, schedule, whole=whole)
        bar.update(sum(map(len, batches.values())))
        if losses:
            bar.set_postfix(loss=f"{np.mean([np.mean(mine) for mine in losses.values()]):.3f}")


def _backward(objective: Objective, states: Sequence[_State], batches: Mapping[int, Sequence[int]]) -> dict[int, list[float]]:
    """Add the gradients of a step's problems to each candidate's parameters; give back their losses."""
    pairs = [(c, i) for c, batch in batches.items() for i in batch]
    parameters: dict[int, Parameters] = {c: states[c].leaves for c in batches}
    found: dict[int, list[float]] = {c: [] for c in batches}
    if not pairs:
        return found
    values, before = np.empty(len(pairs)), {c: {name: leaf.grad for name, leaf in states[c].leaves.items()} for c in batches}
    while not _summed(objective, pairs, parameters, values):
        for c, grads in before.items():
            for name, leaf in states[c].leaves.items():
                leaf.grad = grads[name]
        objective.shrink()
    for (c, _), value in zip(pairs, values.tolist(), strict=True):
        found[c].append(value)
    return found


def _summed(objective: Objective, pairs: Sequence[Pair], parameters: Mapping[int, Parameters], values: np.ndarray) -> bool:
    """Add the gradients of pairs and fill in their losses; False where memory ran out, with some gradients added."""
    for mine in parameters.values():
        for leaf in mine.values():
            leaf.grad = None if leaf.grad is None else leaf.grad.clone()  # so that what was there before is not written over
    try:
        for which, losses in objective.losses(pairs, parameters):
            values[which] = losses.detach().double().cpu().numpy()
            if losses.requires_grad:
                losses.sum().backward()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return False
    return True


def _step(learnable: Learnable, state: _State, losses: Sequence[float], schedule: Schedule, *, whole: bool) -> None:
    grads = [leaf.grad for leaf in state.leaves.values()]
    if state.step == 0 and all(grad is None or not bool(grad.any()) for grad in grads) and np.isfinite(losses).all():
        raise InputError(
            f"layer {state.candidate.sites[0].layer}: the loss does not depend on the vector (its gradient is zero). Either no position that is steered "
            "comes before one that is read, or the operator does nothing with a zero vector (ablate): use other positions, or init='random'"
        )
    if not np.isfinite(losses).all() or not all(grad is None or bool(grad.isfinite().all()) for grad in grads):
        state.broke = state.step + 1
        state.stopped = f"the loss or its gradient was not finite at step {state.broke}"
        return
    if state.candidate.l2:
        (state.candidate.l2 * len(losses) * learnable.penalty(state.leaves)).backward()
    state.sum += math.fsum(losses)
    if state.kept_epoch == 0:  # should the next step break, these parameters gave a finite loss at least
        state.kept = state.copy()
    if not whole:
        return
    state.optimizer.step()
    state.optimizer.zero_grad()
    state.step += 1
    if schedule.norm_cap is not None:
        with torch.no_grad():
            learnable.shrink(state.leaves, schedule.norm_cap)


def _after_epoch(
    epoch: int, learnable: Learnable, states: Sequence[_State], active: Sequence[int], schedule: Schedule, validator: Validator | None
) -> None:
    """Validate, keep, and decide who goes on."""
    finished = {c: states[c] for c in active if not states[c].stopped}
    measured: dict[int, Measured] = {}
    if validator is not None and finished:
        measured = validator({c: state.copy() for c, state in finished.items()})
    for c, state in finished.items():
        accuracy, nll = measured.get(c, (math.nan, math.nan))
        norm = learnable.norm({name: leaf.detach() for name, leaf in state.leaves.items()})
        state.lines.append([epoch, state.step, state.sum / len(state.order), norm, accuracy, nll])
        if validator is None or accuracy > state.best:
            state.kept, state.kept_epoch = state.copy(), epoch
            state.best = accuracy if validator is not None else state.best
        elif schedule.early_stopping is not None and accuracy < state.best - schedule.early_stopping:
            state.stopped = f"validation accuracy {accuracy:.3f} at epoch {epoch} is more than {schedule.early_stopping:g} below {state.best:.3f} at epoch {state.kept_epoch}"
        if not state.stopped and epoch >= schedule.epochs:
            state.stopped = _ending(state, epoch, schedule)


def _halve(states: Sequence[_State], epoch: int) -> None:
    """End the worse half of what still trains: of lower validation accuracy, then of higher validation nll, at the epochs that are kept."""
    going = [state for state in states if not state.stopped]
    ranked = sorted(going, key=lambda state: (-state.best, state.lines[state.kept_epoch - 1][HISTORY_COLUMNS.index("validation_nll")]))
    for state in ranked[(len(going) + 1) // 2 :]:
        state.stopped = f"in the worse half of {len(going)} candidates on validation at epoch {epoch}"


def _ending(state: _State, epoch: int, schedule: Schedule) -> str:
    """Why training ends with an epoch from the last planned one on; empty where it goes on."""
    if not schedule.extend:
        return f"all {epoch} epochs done"
    if epoch == schedule.epochs + schedule.extend:
        return f"all {epoch} epochs done, {schedule.extend} of them because the loss still fell"
    before, now = (state.lines[-2][2] if len(state.lines) > 1 else math.inf), state.lines[-1][2]
    return "" if now < before * (1 - FALLING) else f"the loss no longer fell by more than {FALLING:.0%} at epoch {epoch}"


def _save(path: str | Path, states: Sequence[_State], epoch: int, work: Mapping[str, Any]) -> None:
    tensors: dict[str, Tensor] = {}
    about = []
    for c, state in enumerate(states):
        for name, leaf in state.leaves.items():
            tensors |= {f"{c}.{name}.value": leaf, f"{c}.{name}.kept": state.kept[name]}
            if leaf.grad is not None:
                tensors[f"{c}.{name}.grad"] = leaf.grad
            tensors |= {f"{c}.{name}.adam.{key}": value for key, value in state.optimizer.state[leaf].items()}
        about.append({name: getattr(state, name) for name in ("kept_epoch", "best", "step", "lines", "stopped", "broke")})
    write(path, tensors, {"epoch": epoch, "candidates": about}, work)


def _resume(path: str | Path | None, states: Sequence[_State], schedule: Schedule, work: Mapping[str, Any]) -> int:
    """Take up what a file holds; returns the epochs that are done."""
    found = None if path is None else read(path, work)
    if found is None:
        return 0
    tensors, about = found
    for c, (state, said) in enumerate(zip(states, about["candidates"], strict=True)):
        for name, value in said.items():
            setattr(state, name, value)
        for name, leaf in state.leaves.items():
            with torch.no_grad():
                leaf.copy_(tensors[f"{c}.{name}.value"])
            state.kept[name] = tensors[f"{c}.{name}.kept"].to(leaf.device)
            if f"{c}.{name}.grad" in tensors:
                leaf.grad = tensors[f"{c}.{name}.grad"].to(leaf.device)
            key = f"{c}.{name}.adam."
            moments = {
                k.removeprefix(key): v if k.endswith(".step") else v.to(leaf.device) for k, v in tensors.items() if k.startswith(key)
            }
            if moments:
                state.optimizer.state[leaf] = moments
        if schedule.shuffle:
            for _ in range(len(state.lines) if not state.broke else len(state.lines) + 1):
                state.shuffler.shuffle(state.order)
    return int(about["epoch"])
