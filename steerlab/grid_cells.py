"""Cells of a grid of models and datasets: each a small description that can be pickled, and `run_cell`, a function of nothing else.

A cell learns a vector at each candidate layer on train, chooses the layer on validation, and scores the choice on test, once, beside random
vectors of its norm.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from steerlab._checks import InputError
from steerlab._files import reading
from steerlab.aft.aft import vectors_work
from steerlab.aft.selection import adaptive_aft, chosen_layers
from steerlab.controls.control import random_control
from steerlab.models.backends import Model
from steerlab.models.forecasts import Work
from steerlab.models.loading import load_model
from steerlab.models.model import describe, n_layers
from steerlab.models.weights import brief
from steerlab.steering.work import rows_of, steered
from steerlab.tasks.arithmetic import VARIANTS
from steerlab.tasks.lengths import fit_to_context
from steerlab.tasks.loaders import load_task
from steerlab.tasks.problems import Task

STREAMS = {"controls": 1}  # of the seed


@dataclass(frozen=True)
class GridCell:
    """One model on one dataset.

    Attributes:
        model: embedded model, local Hugging Face directory, HookedTransformer name or Hub id.
        dataset: a task, a task with a variant or paradigm ("arithmetic:bare"), or a task with a local file ("blimp=FILE.jsonl").
        train, validation, test: at most so many problems.
        layers: candidates: "all", "middle" (25% to 75% of the depth) or a list.
        epochs, lr, batch_size: of training.
        controls: random vectors beside the learned one; 0 for none.
        seed: of data, training and controls.
        backend, device, dtype, prepend_bos: as in `steerlab.load_model`.
        form, scorer: of the task, where not its own.
        too_long: what to do with problems beyond the model's context: "error", "drop" or "truncate".

    Example:
        >>> GridCell("tiny-arithmetic", "arithmetic:bare").layers
        'all'
    """

    model: str
    dataset: str
    train: int = 100
    validation: int = 100
    test: int = 200
    layers: str | tuple[int, ...] = "all"
    epochs: int = 3
    lr: float = 1e-2
    batch_size: int = 4
    controls: int = 39
    seed: int = 0
    backend: str = "auto"
    device: str | None = None
    dtype: str = "float32"
    form: str | None = None
    scorer: str | None = None
    prepend_bos: bool | None = None
    too_long: str = "error"

    @property
    def key(self) -> tuple[str, str]:
        """Model and dataset as tables name them: of paths the last part."""
        return Path(self.model).name, short(self.dataset)

    def load_task(self) -> Task:
        """The task, its splits cut to size.

        Raises:
            ValueError, OSError: what `steerlab.load_task` says.
        """
        name, path, part = parsed(self.dataset)
        options: dict[str, Any] = {} if part is None else {"variant" if name == "arithmetic" else "paradigm": part}
        task = load_task(name, path=path, form=self.form, seed=self.seed, **options)
        task = task if self.scorer is None else task.scored_by(self.scorer)
        cut = {split: getattr(task, split)[: getattr(self, split)] for split in ("train", "validation", "test")}
        return Task(task.name, **cut, scorer=task.scorer, about=task.about)


def parsed(dataset: str) -> tuple[str, str | None, str | None]:
    """A dataset as name, local path and variant or paradigm.

    Raises:
        ValueError: no name.

    Example:
        >>> parsed("arithmetic:bare"), parsed("blimp=data/agreement.jsonl"), parsed("gsm8k")
        (('arithmetic', None, 'bare'), ('blimp', 'data/agreement.jsonl', None), ('gsm8k', None, None))
    """
    name, equals, path = dataset.partition("=")
    name, colon, part = name.partition(":")
    if not name or (equals and not path) or (colon and not part):
        raise InputError(f"dataset {dataset!r}; use TASK, TASK:VARIANT or TASK=PATH, e.g. arithmetic:bare or blimp=FILE.jsonl")
    return name, path or None, part or None


def short(dataset: str) -> str:
    """A dataset as tables name it.

    Example:
        >>> short("blimp=data/agreement.jsonl"), short("arithmetic:bare")
        ('blimp=agreement.jsonl', 'arithmetic:bare')
    """
    name, equals, path = dataset.partition("=")
    return f"{name}={Path(path).name}" if equals else name


def grid(models: Sequence[str] = ("tiny-arithmetic",), datasets: Sequence[str] | None = None, **options: Any) -> list[GridCell]:
    """Every model on every dataset.

    Args:
        models: see `GridCell`.
        datasets: default every variant of the embedded task.
        options: further fields of `GridCell`.

    Raises:
        ValueError: none, or two cells that tables could not tell apart.

    Example:
        >>> [cell.key for cell in grid(datasets=["arithmetic:story", "arithmetic:bare"])]
        [('tiny-arithmetic', 'arithmetic:story'), ('tiny-arithmetic', 'arithmetic:bare')]
    """
    datasets = [f"arithmetic:{variant}" for variant in VARIANTS] if datasets is None else list(datasets)
    for dataset in datasets:
        parsed(dataset)
    cells = [GridCell(model, dataset, **options) for model in models for dataset in datasets]
    keys = [cell.key for cell in cells]
    if not cells or len(set(keys)) < len(keys):
        twice = next((key for key in keys if keys.count(key) > 1), None)
        raise InputError(
            "no models or no datasets given"
            if twice is None
            else f"{' on '.join(twice)} occurs twice; give each model and dataset once, under names that differ in their last part"
        )
    return cells


def run_cell(cell: GridCell, model: Model | None = None) -> dict[str, Any]:
    """Learn, choose and test: one cell, from its description alone.

    Args:
        cell: what to do.
        model: the cell's model, if it is loaded already.

    Returns:
        A record of plain numbers and words: baseline, steered and improvement (shares), low and high (95%, paired), became_right, became_wrong, n,
        p (sign test), validation_improvement, candidates, layer, epoch, norm, controls, p_controls (rank test, None without controls),
        n_train, n_validation, weights (sha256) and source of the data.

    Raises:
        ValueError, OSError: what loading and learning say.

    Example:
        >>> found = run_cell(GridCell("tiny-arithmetic", "arithmetic:bare", train=8, validation=8, test=20, layers=(3,), epochs=1, controls=0))
        >>> found["n"], found["layer"], round(found["steered"] - found["baseline"] - found["improvement"], 6)
        (20, 3, 0.0)
    """
    task = cell.load_task()
    _check(cell, task)
    model = (
        load_model(cell.model, backend=cell.backend, device=cell.device, dtype=cell.dtype, prepend_bos=cell.prepend_bos)
        if model is None
        else model
    )
    task = _fitted(cell, task, model)
    layers = cell.layers if isinstance(cell.layers, str) else list(cell.layers)
    learned = adaptive_aft(
        model,
        task.train,
        validation=task.validation,
        layers=layers,
        seeds=[cell.seed],
        epochs=cell.epochs,
        extend=0,
        lrs=cell.lr,
        batch_size=cell.batch_size,
    )
    vector = learned.vector
    # Without controls one is still drawn, because it costs little and gives the same paired table; it is not reported.
    rng = np.random.default_rng([cell.seed, STREAMS["controls"]])
    tested = random_control(model, task.test, vector, alpha=1.0, n=max(1, cell.controls), rng=rng)
    sign = tested.sign_test()
    low, high = sign.interval()
    about = describe(model)
    return {
        "baseline": tested.baseline.accuracy,
        "steered": tested.baseline.accuracy + sign.change,
        "improvement": sign.change,
        "low": low,
        "high": high,
        "became_right": sign.became_right,
        "became_wrong": sign.became_wrong,
        "n": sign.n,
        "p": sign.p_value,
        "validation_improvement": learned.improvement,
        "candidates": len(learned.frame),
        "layer": vector.layer,
        "epoch": int(vector.method["epoch"]),
        "norm": vector.norm,
        "controls": cell.controls,
        "p_controls": tested.rank_test().p_value if cell.controls else None,
        "n_train": len(task.train),
        "n_validation": len(task.validation),
        "warnings": [*vector.warnings(), *tested.warnings(), *task.left_out()],
        "weights": brief(about),
        "source": task.about.get("source"),
    }


def _check(cell: GridCell, task: Task) -> None:
    for split in ("train", "validation", "test"):
        if not getattr(task, split):
            raise InputError(f"the {split} split of {cell.dataset} is empty; a cell needs all three")


def _fitted(cell: GridCell, task: Task, model: Model) -> Task:
    """The task without what the model cannot hold, where that was asked for."""
    if cell.too_long == "error":  # it comes where such a problem is used
        return task
    task = fit_to_context(model, task, too_long=cell.too_long)
    _check(cell, task)
    return task


def cell_work(cell: GridCell, model: Model) -> list[Work]:
    """What `run_cell` is made of, for a forecast.

    Raises:
        ValueError, OSError: what loading says.
    """
    task = _fitted(cell, cell.load_task(), model)
    layers = chosen_layers(n_layers(model), cell.layers if isinstance(cell.layers, str) else list(cell.layers))
    how: dict[str, Any] = {"epochs": cell.epochs, "lrs": cell.lr, "batch_size": cell.batch_size, "validation": task.validation}
    n = 1 + max(1, cell.controls)
    return [
        *vectors_work(model, task.train, layers=layers, **how),
        steered(model, task.test, (1 + n) * rows_of(model, task.test), layers=layers, together=n),
    ]


def described(cell: GridCell) -> dict[str, Any]:
    """A cell's settings without machine paths, as a run folder keeps them, and digests of its model's and its data's files, if these are local."""
    values = asdict(cell)
    if cell.prepend_bos is None:
        del values["prepend_bos"]  # as in folders that were kept before there was a choice
    if cell.too_long == "error":
        del values["too_long"]
    values["model"], values["dataset"] = cell.key
    _, path, _ = parsed(cell.dataset)
    return values | {"model_files": _digest_of(cell.model), "data_files": None if path is None else _digest_of(path)}


def _digest_of(path: str) -> str | None:
    """Over the contents of a file, or of a folder's files in the order of their names; None where nothing stands there."""
    target = Path(path).expanduser()
    if not target.exists():
        return None
    found = sorted(target.rglob("*")) if target.is_dir() else [target]
    stamps = tuple((str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in found if file.is_file())
    return _digest(stamps)


@cache
def _digest(files: tuple[tuple[str, int, int], ...]) -> str:
    found = hashlib.sha256()
    for name, size, _ in files:
        found.update(f"{Path(name).name} {size} ".encode())
        with reading(name), open(name, "rb") as stream:
            while chunk := stream.read(1 << 22):
                found.update(chunk)
    return found.hexdigest()
