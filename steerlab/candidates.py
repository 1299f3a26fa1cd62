"""Many learned vectors from one batched training: layers, seeds, penalties and learning rates side by side.

Rows of all candidates share each pass, which grows from block to block; every candidate has its own order of problems, its own Adam and its
own end, so that it is what it would be alone, rounding aside.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TypeVar, overload

import numpy as np
import pandas as pd

from steerlab._checks import InputError
from steerlab._progress import job
from steerlab.activations.cache import Positions
from steerlab.aft import LearnedVector, learned_vector, settings
from steerlab.fitting import How, fit, training_work
from steerlab.interventions import Operator
from steerlab.learnables import StaticVector
from steerlab.models.backends import Model
from steerlab.models.forecasts import Work
from steerlab.models.model import d_model, n_layers
from steerlab.resumed import Spot
from steerlab.schedules import Candidate, Schedule
from steerlab.tasks.problems import Problem
from steerlab.tasks.scorers import Scorer, Target

Number = TypeVar("Number", int, float)
KEYS = ["layer", "seed", "l2", "lr"]


@dataclass(frozen=True, eq=False, repr=False)
class LearnedVectors(Sequence[LearnedVector]):
    """Candidates that were trained side by side; a sequence of learned vectors, in the order of `frame`.

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

        Choosing is looking: its validation accuracy is the largest of `len(self)`, and flatters it.

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

    def _repr_html_(self) -> str:
        return f"<p>{self!r}</p>" + self.frame.to_html(index=False, float_format="{:.4g}".format, escape=True)


@job("problems", "layers", "seeds", "l2s", "lrs", "epochs")
def learn_vectors(
    model: Model,
    problems: Sequence[Problem],
    *,
    layers: int | Sequence[int] | None = None,
    seeds: int | Sequence[int] = 1,
    l2s: float | Sequence[float] = 0.0,
    lrs: float | Sequence[float] = 1e-2,
    validation: Sequence[Problem] | None = None,
    epochs: int = 5,
    batch_size: int = 4,
    accumulation: int = 1,
    shuffle: bool = True,
    last_batch: str = "step",
    norm_cap: float | None = None,
    init: str = "zero",
    init_norm: float = 0.01,
    early_stopping: float | None = 0.02,
    extend: int = 0,
    halve_every: int | None = None,
    site: str = "resid_post",
    operator: str | Operator = "add",
    positions: Positions = "all",
    loss: str | Target = "answer",
    scorer: str | Scorer | None = None,
    path: str | Path | None = None,
    max_tokens: int | None = None,
    memory: str | int | None = None,
    progress: bool = False,
) -> LearnedVectors:
    """Learn a vector for every layer, seed, penalty and learning rate, all in one batched run.

    Args:
        layers: where; default every layer.
        seeds: how many (0, 1, …), or which.
        l2s, lrs: penalties and learning rates.
        halve_every: successive halving: after every so many epochs the worse half of the candidates on validation ends. Cheaper, and a candidate that
            is slow to learn may be lost; what goes on is what it would be without.
        model, problems, validation, epochs, batch_size, accumulation, shuffle, last_batch, norm_cap, init, init_norm, early_stopping, extend, site,
            operator, positions, loss, scorer, path, max_tokens, memory, progress: see `steerlab.aft.learn_vector`.

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
    candidates = [Candidate((Spot(layer, site),), seed, l2, lr) for layer, seed, l2, lr in product(where, which, penalties, rates)]
    how = How(operator, positions, loss, scorer, max_tokens, memory)
    schedule = Schedule(epochs, batch_size, accumulation, shuffle, last_batch, norm_cap, early_stopping, extend, halve_every)
    learnable = StaticVector(d_model(model), init=init, init_norm=init_norm)
    found = fit(model, problems, candidates, learnable, schedule, how, validation=validation, path=path, progress=progress)
    about = settings(schedule, how, learnable, len(problems), validation)
    vectors, lines = list[LearnedVector](), []
    for trained in found.trained:
        one = trained.candidate
        more = [f"l2={one.l2:g}"] * (len(penalties) > 1) + [f"lr={one.lr:g}"] * (len(rates) > 1)
        name = "-".join([f"aft-L{one.spots[0].layer}-seed{one.seed}", *more])
        kept = trained.history[trained.history["epoch"] == trained.epoch]
        accuracy, nll = (kept[c].iloc[0] if len(kept) else float("nan") for c in ("validation_accuracy", "validation_nll"))
        norm = learnable.norm(trained.parameters)
        last = trained.history["loss"].iloc[-1] if len(trained.history) else float("nan")
        improvement = float("nan") if found.unsteered is None else accuracy - found.unsteered
        lines.append(
            (
                name,
                one.spots[0].layer,
                one.seed,
                one.l2,
                one.lr,
                len(trained.history),
                trained.epoch,
                last,
                norm,
                accuracy,
                nll,
                improvement,
                trained.stopped,
            )
        )
        if norm and trained.broke != 1:  # a random start that no step has moved is no learned vector
            vectors.append(learned_vector(model, found, trained, about, name))
    columns = ["name", *KEYS, "epochs", "epoch", "loss", "norm", "validation_accuracy", "validation_nll", "improvement", "stopped"]
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
    operator: str | Operator = "add",
    positions: Positions = "all",
    scorer: str | Scorer | None = None,
    validation: Sequence[Problem] | None = None,
    times: float = 1,
) -> list[Work]:
    """What `learn_vectors` is made of, for the forecast of a larger job.

    Args:
        seeds: how many.
        times: so many trainings like this one.
        model, problems, layers, lrs, epochs, batch_size, operator, positions, scorer, validation: see `learn_vectors`.
    """
    candidates = [Candidate((Spot(layer),), seed, 0.0, lr) for layer, seed, lr in product(layers, range(seeds), listed("lrs", lrs))]
    how = How(operator, positions, "answer", scorer)
    return training_work(
        model, problems, candidates, StaticVector(d_model(model)), Schedule(epochs, batch_size), how, validation=validation, times=times
    )


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
