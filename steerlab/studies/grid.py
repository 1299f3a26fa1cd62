"""A grid of models and datasets: does a learned vector help everywhere, and how sure may we be?

A job is a small picklable description and `run_job` a function of nothing else: learn a vector at each candidate layer on train,
choose the layer on validation, score it once on test beside random vectors of its norm. Each finished job is one file of a folder,
and a later call resumes from there.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest, norm

from steerlab import _files
from steerlab._checks import InputError, InputFileError, one_of
from steerlab._files import reading
from steerlab._html import Plotted
from steerlab._progress import forecast_wanted, job, progress_bar
from steerlab.aft.aft import vectors_work
from steerlab.aft.selection import adaptive_aft, chosen_layers
from steerlab.controls.control import random_control
from steerlab.models.backends import Model
from steerlab.models.forecasts import Work, forecast
from steerlab.models.loading import load_model
from steerlab.models.model import describe, n_layers
from steerlab.models.weights import brief
from steerlab.statistics._format import format_p
from steerlab.statistics.multiplicity import benjamini_hochberg, holm, significant
from steerlab.statistics.pooling import PooledEffect, pooled_effect
from steerlab.steering.work import rows_of, steered
from steerlab.studies.protocol import STREAMS
from steerlab.sweeps.effects import points
from steerlab.tasks.arithmetic import VARIANTS
from steerlab.tasks.lengths import fit_to_context
from steerlab.tasks.loaders import load_task
from steerlab.tasks.problems import Task


@dataclass(frozen=True)
class GridJob:
    """One model on one dataset, as a small picklable description.

    Attributes:
        model: embedded model, local Hugging Face directory, HookedTransformer name or Hub id.
        dataset: a task, a task with a variant or paradigm ("arithmetic:bare"), or a task with a local file ("blimp=FILE.jsonl").
        train, validation, test: at most so many problems.
        layers: candidates: "all", "middle" (25% to 75% of the depth) or a list.
        epochs, lr, batch_size: of training.
        controls: random vectors to compare with the learned one; 0 for none.
        seed: of data, training and controls.
        backend, device, dtype, prepend_bos: as in `steerlab.load_model`.
        form, scorer: of the task, where not its own.
        too_long: what to do with problems beyond the model's context: "error", "drop" or "truncate".

    Example:
        >>> GridJob("tiny-arithmetic", "arithmetic:bare").layers
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
        name, equals, path = self.dataset.partition("=")
        return Path(self.model).name, f"{name}={Path(path).name}" if equals else name

    def load_model(self) -> Model:
        """The model."""
        return load_model(self.model, backend=self.backend, device=self.device, dtype=self.dtype, prepend_bos=self.prepend_bos)

    def load_task(self) -> Task:
        """The task, its splits cut to size."""
        name, path, part = parsed(self.dataset)
        options: dict[str, Any] = {} if part is None else {"variant" if name == "arithmetic" else "paradigm": part}
        task = load_task(name, path=path, form=self.form, seed=self.seed, **options)
        task = task if self.scorer is None else task.scored_by(self.scorer)
        cut = {split: getattr(task, split)[: getattr(self, split)] for split in ("train", "validation", "test")}
        return Task(task.name, **cut, scorer=task.scorer, about=task.about)

    def fitted(self, task: Task, model: Model) -> Task:
        """The task without what the model cannot hold, where that was asked for.

        Raises:
            ValueError: a split without problems.
        """
        if self.too_long != "error":  # an error comes where such a problem is used
            task = fit_to_context(model, task, too_long=self.too_long)
        for split in ("train", "validation", "test"):
            if not getattr(task, split):
                raise InputError(f"the {split} split of {self.dataset} is empty; a cell needs all three")
        return task


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


def model_task_grid(models: Sequence[str] = ("tiny-arithmetic",), datasets: Sequence[str] | None = None, **options: Any) -> list[GridJob]:
    """The jobs of a grid: every model on every dataset.

    Args:
        models: see `GridJob`.
        datasets: default every variant of the embedded task.
        options: further fields of `GridJob`.

    Raises:
        ValueError: none, or two cells that tables could not tell apart.

    Example:
        >>> [cell.key for cell in model_task_grid(datasets=["arithmetic:story", "arithmetic:bare"])]
        [('tiny-arithmetic', 'arithmetic:story'), ('tiny-arithmetic', 'arithmetic:bare')]
    """
    datasets = [f"arithmetic:{variant}" for variant in VARIANTS] if datasets is None else list(datasets)
    for dataset in datasets:
        parsed(dataset)
    cells = [GridJob(model, dataset, **options) for model in models for dataset in datasets]
    keys = [cell.key for cell in cells]
    if not cells:
        raise InputError("no models or no datasets given")
    for key in keys:
        if keys.count(key) > 1:
            raise InputError(
                f"{' on '.join(key)} occurs twice; give each model and dataset once, under names that differ in their last part"
            )
    return cells


def run_job(cell: GridJob, model: Model | None = None) -> dict[str, Any]:
    """The result of one job: a vector learned, chosen on validation and tested.

    Returns:
        A record of plain numbers and words: baseline, steered and improvement (shares), low and high (95%, paired), became_right, became_wrong, n,
        p (sign test), validation_improvement, candidates, layer, epoch, norm, controls, p_controls (rank test, None without controls),
        n_train, n_validation, weights (sha256) and source of the data.

    Raises:
        ValueError, OSError: what loading and learning say.

    Example:
        >>> found = run_job(GridJob("tiny-arithmetic", "arithmetic:bare", train=8, validation=8, test=20, layers=(3,), epochs=1, controls=0))
        >>> found["n"], found["layer"], round(found["steered"] - found["baseline"] - found["improvement"], 6)
        (20, 3, 0.0)
    """
    task = cell.load_task()
    model = cell.load_model() if model is None else model
    task = cell.fitted(task, model)
    how: dict[str, Any] = {"validation": task.validation, "epochs": cell.epochs, "lrs": cell.lr, "batch_size": cell.batch_size}
    learned = adaptive_aft(model, task.train, layers=cell.layers, seeds=[cell.seed], extend=0, **how)
    vector = learned.vector
    # Without controls one is still drawn, because it costs little and gives the same paired table; it is not reported.
    rng = np.random.default_rng([cell.seed, STREAMS["raise"]])
    tested = random_control(model, task.test, vector, alpha=1.0, n=max(1, cell.controls), rng=rng)
    sign, before = tested.sign_test(), tested.baseline.accuracy
    low, high = sign.interval()
    about = describe(model)
    return {
        "baseline": before, "steered": before + sign.change, "improvement": sign.change, "low": low, "high": high,
        "became_right": sign.became_right, "became_wrong": sign.became_wrong, "n": sign.n, "p": sign.pvalue,
        "validation_improvement": learned.improvement, "candidates": len(learned.frame), "layer": vector.layer,
        "epoch": int(vector.method["epoch"]), "norm": vector.norm, "controls": cell.controls,
        "p_controls": tested.rank_test().pvalue if cell.controls else None,
        "n_train": len(task.train), "n_validation": len(task.validation),
        "warnings": [*vector.warnings(), *tested.warnings(), *task.left_out()],
        "weights": brief(about), "source": task.about.get("source"),
    }  # fmt: skip


def cell_work(cell: GridJob, model: Model) -> list[Work]:
    """What `run_job` is made of, for a forecast."""
    task, n = cell.fitted(cell.load_task(), model), 1 + max(1, cell.controls)
    layers = chosen_layers(n_layers(model), cell.layers)
    how: dict[str, Any] = {"epochs": cell.epochs, "lrs": cell.lr, "batch_size": cell.batch_size, "validation": task.validation}
    tested = steered(model, task.test, (1 + n) * rows_of(model, task.test), layers=layers, together=n)
    return [*vectors_work(model, task.train, layers=layers, **how), tested]


def described(cell: GridJob) -> dict[str, Any]:
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


OUTCOMES = ("positive", "neutral", "negative")
GRID_COLUMNS = [
    "model", "dataset", "baseline", "steered", "improvement", "low", "high", "n", "became_right", "became_wrong", "p", "p_holm", "p_bh",
    "outcome", "outcome_by_interval", "validation_improvement", "candidates", "layer", "epoch", "norm", "controls", "p_controls", "n_train",
    "n_validation", "error",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Universality(Plotted, figure="forest", drawn="effects"):
    """Effects of learned vectors over a grid of models and datasets.

    Attributes:
        cells: what was done.
        records: for each, what `run_job` gave, or {"error": message}.
    """

    cells: tuple[GridJob, ...]
    records: tuple[dict[str, Any], ...]

    @property
    def frame(self) -> pd.DataFrame:
        """One line a cell: model, dataset, baseline, steered, improvement with low and high (95%, paired), n, became_right, became_wrong, p (sign
        test) with p_holm and p_bh over all finished cells, outcome (of the point estimate), outcome_by_interval, and what `run_job` records; error
        where it failed.
        """
        lines = [{"model": cell.key[0], "dataset": cell.key[1], **record} for cell, record in zip(self.cells, self.records, strict=True)]
        table = pd.DataFrame(lines).reindex(columns=GRID_COLUMNS)
        done = table["error"].isna()
        texts = ["outcome", "outcome_by_interval", "error"]
        table[texts] = table[texts].astype(object)
        if done.any():
            p = table.loc[done, "p"].to_numpy(float)
            table.loc[done, "p_holm"], table.loc[done, "p_bh"] = holm(p), benjamini_hochberg(p)
            for name, low, high in (("outcome", "improvement", "improvement"), ("outcome_by_interval", "low", "high")):
                table.loc[done, name] = np.select(
                    [table.loc[done, low] > 0, table.loc[done, high] < 0], ["positive", "negative"], "neutral"
                )
        return table

    def summary(self) -> pd.DataFrame:
        """Positives, neutrals and negatives by point estimate (any gain is positive), by interval (95%, uncorrected) and after Holm's correction."""
        done = self._done()
        held = significant(done["p_holm"])
        corrected = done["outcome"].where(held, "neutral")
        columns = {"point estimate": done["outcome"], "95% interval": done["outcome_by_interval"], "sign test after Holm": corrected}
        return pd.DataFrame(
            [{"judged by": name, **{kind: int((judged == kind).sum()) for kind in OUTCOMES}} for name, judged in columns.items()]
        )

    def sign_p(self) -> float:
        """Binomial sign test: among cells that moved, are as many positive as negative? 1 if none moved.

        It takes cells as independent, which those of one model, or of one dataset, are not.
        """
        outcome = self._done()["outcome"]
        positive, negative = int((outcome == "positive").sum()), int((outcome == "negative").sum())
        return float(binomtest(positive, positive + negative).pvalue) if positive + negative else 1.0

    def pooled(self, by: str | None = None) -> PooledEffect | None:
        """The mean improvement over finished cells, how much true improvements differ, and each drawn towards the mean; None for fewer than two.

        Errors are read off the cells' paired intervals. Cells of one model, or of one dataset, are not independent: over all cells the interval is
        about these models and datasets, and `by` says what else is to be generalised to.

        Args:
            by: "model" pools each model's cells first, then the models; "dataset" likewise; None pools all cells at once.

        Raises:
            ValueError: another `by`.
        """
        if by is not None:
            one_of(by, "by", ("model", "dataset"))
        done = self._done()
        change, error = done["improvement"].to_numpy(float), _half_widths(done) / norm.isf(0.025)
        names = [" on ".join(pair) for pair in zip(done["model"], done["dataset"], strict=True)]
        if by is not None:
            parts = [
                (name, change[rows], error[rows]) for name, rows in done.reset_index(drop=True).groupby(by, sort=False).indices.items()
            ]
            within = [None if len(changes) < 2 else pooled_effect(changes, errors) for _, changes, errors in parts]
            names = [str(name) for name, _, _ in parts]
            change = np.array([one.mean if one else part[1][0] for one, part in zip(within, parts, strict=True)])
            error = np.array([one.standard_error if one else part[2][0] for one, part in zip(within, parts, strict=True)])
        return None if len(names) < 2 else pooled_effect(change, error, names)

    def _pooled(self) -> dict[str, PooledEffect]:
        """Pooled over cells and, where there are several of both, over models and over datasets."""
        done = self._done()
        several = done["model"].nunique() > 1 and done["dataset"].nunique() > 1
        found = {f"{by or 'cell'}s": self.pooled(by) for by in ((None, "model", "dataset") if several else (None,))}
        return {name: one for name, one in found.items() if one is not None}

    def _done(self) -> pd.DataFrame:
        table = self.frame
        return table[table["error"].isna()]

    def summary_json(self) -> dict[str, Any]:
        """The sources' summary (counts, percentages, the best result, the most consistent model, baseline, steered and improvement by model and
        dataset), and under "uncertainty" what it leaves out: intervals, corrected p-values, counts by interval, the sign test.
        """
        done, table = self._done(), self.frame
        keys = ("baseline", "steered", "improvement")
        results, intervals = dict[str, dict[str, Any]](), dict[str, dict[str, Any]]()
        for row in table.to_dict("records"):
            ok = pd.isna(row["error"])
            results.setdefault(row["model"], {})[row["dataset"]] = {key: row[key] for key in keys} if ok else {"error": row["error"]}
            if ok:
                said = {key: float(row[key]) for key in ("low", "high", "p", "p_holm", "p_bh")} | {"n": int(row["n"])}
                intervals.setdefault(row["model"], {})[row["dataset"]] = said | {"outcome_by_interval": row["outcome_by_interval"]}
        count, by_interval, by_holm = ({kind: int(line[kind]) for kind in OUTCOMES} for line in self.summary().to_dict("records"))
        summary: dict[str, Any] = {
            "models_tested": len(results),
            "datasets": int(table["dataset"].nunique()),
            "total_experiments": len(table),
            "failed": int(table["error"].notna().sum()),
            **{f"{kind}_results": {"count": n, "percentage": 100 * n / len(done) if len(done) else 0.0} for kind, n in count.items()},
            "results": results,
            "average_improvement": {str(name): float(mean) for name, mean in done.groupby("model")["improvement"].mean().items()},
            "best_single_result": None,
            "most_consistent_model": None,
            "uncertainty": {"cells": intervals, "by_interval": by_interval, "after_holm": by_holm, "sign_test_p": self.sign_p()},
        }
        summary["uncertainty"]["pooled"] = {
            over: {"mean": one.mean, "low": one.interval.low, "high": one.interval.high, "tau": one.tau}
            for over, one in self._pooled().items()
        }
        if len(done):
            best = done.iloc[int(done["improvement"].to_numpy(float).argmax())].to_dict()
            summary["best_single_result"] = {key: best[key] for key in ("model", "dataset", *keys)}
            # The sources call the model most consistent whose least improvement is highest.
            summary["most_consistent_model"] = str(done.groupby("model")["improvement"].min().idxmax())
        return summary

    def __str__(self) -> str:
        """What the grid says, in a paragraph."""
        done, failed = self._done(), int(self.frame["error"].notna().sum())
        if done.empty:
            return f"All {failed} cells failed; there is nothing to say. The messages are in the table."
        rows = self.summary().set_index("judged by")
        said = []
        for over, one in self._pooled().items():
            further = "" if one.n < 3 else f", and a further one would be expected at {points(*one.prediction)}"
            said.append(
                f"Pooled over {one.n} {over}, the improvement is {points(one.mean)} points (95% interval {points(*one.interval)}); true ones differ by "
                f"{100 * one.tau:.1f} points (sd){further}."
            )
        said.append(f"Of {len(done)} finished cells{f' ({failed} failed)' if failed else ''}:")
        said.append("; ".join(f"by {name}: {', '.join(f'{row[kind]} {kind}' for kind in OUTCOMES)}" for name, row in rows.iterrows()) + ".")
        said.append(
            f"Sign test of positive against negative cells: {format_p(self.sign_p())} (as if cells were independent, which those of one model are not). "
            f"The mean improvement is {points(done['improvement'].mean())} points on test, where it is {points(done['validation_improvement'].mean())} on the "
            "validation problems that epoch and layer were chosen on."
        )
        best = done.iloc[int(done["improvement"].to_numpy(float).argmax())].to_dict()
        said.append(
            f"The largest of {len(done)} is {best['model']} on {best['dataset']}: {points(best['improvement'])} points ({points(best['low'], best['high'])}; "
            f"{format_p(best['p_holm'], digits=2)} after Holm's correction)."
        )
        beside = done[done["p_controls"].notna()]
        if len(beside):
            special = int(significant(beside["p_controls"]).sum())
            least = 1 / (beside["controls"].min() + 1)
            said.append(
                f"In {special} of {len(beside)} cells the learned vector's effect differs from those of random vectors of its norm (rank test, uncorrected; p cannot fall "
                f"below {least:.3g})."
            )
        return " ".join(said)

    def effects(self) -> pd.DataFrame:
        """What `steerlab.plots.effects` draws of finished cells: name, change, low, high, n, p."""
        done = self._done()
        one = done["model"].nunique() == 1
        names = [dataset if one else f"{model}, {dataset}" for model, dataset in zip(done["model"], done["dataset"], strict=True)]
        return done.assign(name=names, change=done["improvement"])[["name", "change", "low", "high", "n", "p"]].reset_index(drop=True)

    def origins(self) -> dict[str, Any]:
        """For provenance: the weights (sha256) and the source of the data of every finished cell."""
        pairs = zip(self.cells, self.records, strict=True)
        return {" on ".join(c.key): {"weights_sha256": r["weights"], "data": r["source"]} for c, r in pairs if "error" not in r}

    def method(self) -> list[str]:
        """How the numbers came about, in paragraphs."""
        first = self.cells[0]
        return [
            f"In each cell a vector was learned at each candidate layer ({first.layers}) on at most {first.train} train problems for at most {first.epochs} epochs; "
            f"epoch and layer were chosen by accuracy on at most {first.validation} validation problems, and the choice, at alpha = 1, was scored once on at most "
            f"{first.test} test problems.",
            "Positive, neutral and negative by point estimate count any gain or loss, as summaries of such grids often do; by interval they count cells whose "
            "95% paired interval leaves out zero, of which one in twenty does by chance alone.",
            "Pooled improvements are random-effects means (Paule and Mandel; intervals of Hartung and Knapp). Cells of one model share it, and those of one "
            "dataset share its problems: an interval over cells is about these, and one over models or datasets takes each as one case.",
        ]

    def warnings(self) -> list[str]:
        """What a reader must know: cells that failed, trainings that broke off, interventions that did nothing."""
        said = []
        for cell, record in zip(self.cells, self.records, strict=True):
            name = " on ".join(cell.key)
            said += [f"{name} failed: {record['error']}"] if "error" in record else [f"{name}: {warning}" for warning in record["warnings"]]
        return said

    def report_parts(self) -> dict[str, Any]:
        """What `steerlab.write_report` shows of it: question, answer, figures and tables in words."""
        models, datasets = (len(set(keys)) for keys in zip(*(cell.key for cell in self.cells), strict=True))
        tables = {
            "cells": ("Every cell. p: sign test against no steering; Holm and Benjamini-Hochberg over all finished cells.", self.frame),
            "counts": ("Cells by outcome.", self.summary()),
        }
        for over, one in self._pooled().items():
            tables[f"pooled_{over}"] = (
                f"Improvements of {over}, each drawn towards the mean of all by the share of its spread that is error.",
                one.frame,
            )
        more: dict[str, Any] = {"method": self.method()} | ({} if len(self._done()) else {"figures": []})
        question = "On which models and datasets does a learned vector change test accuracy, and on how many would chance alone have?"
        caption = "Improvement on test of every finished cell, with 95% paired intervals of one cell each."
        return self._page(f"Universality: {models} models, {datasets} datasets", question, caption, tables, **more)

    def __repr__(self) -> str:
        counts = self.summary().iloc[0]
        return f"Universality({len(self.cells)} cells: {', '.join(f'{counts[kind]} {kind}' for kind in OUTCOMES)} by point estimate, sign test p={self.sign_p():.3g})"


GRID_FORMAT, CELL = "steerlab-grid-2", "steerlab-grid-cell-1"
GRID = "grid.json"


def _half_widths(done: pd.DataFrame) -> np.ndarray:
    return (done["high"].to_numpy(float) - done["low"].to_numpy(float)) / 2


def check_grid_folder(path: str | Path, cells: Sequence[GridJob]) -> Path:
    """Make sure that a folder is empty, or holds this very grid.

    Raises:
        FileExistsError: it holds something else.
        ValueError: it holds another grid; the message names a setting that differs.
        OSError: it cannot be written.
    """
    folder = Path(path)
    if not (folder / GRID).is_file():
        _files.check_vacant(folder, "a grid of ours")
        _files.writable_folder(folder.parent)
        return folder
    kept = _files.read_sealed(folder / GRID, GRID_FORMAT, "give another folder, or remove this one to begin anew")
    wanted = json.loads(json.dumps([described(cell) for cell in cells]))
    cells_kept = kept.get("cells") or []
    if cells_kept != wanted:
        pairs = ((key, old.get(key), new[key]) for old, new in zip(cells_kept, wanted, strict=False) for key in new)
        counts = f"it had {len(cells_kept)} cells, and {len(wanted)} are asked for now"
        differs = next((f"{key} was {old!r} and is {new!r} now" for key, old, new in pairs if old != new), counts)
        raise InputError(f"{folder} is of another grid: {differs}; use its settings, or another folder")
    return folder


@job("cells")
def run_grid(
    cells: Sequence[GridJob],
    path: str | Path,
    *,
    runner: Callable[..., dict[str, Any]] = run_job,
    progress: bool = False,
) -> Universality:
    """All results of a grid of jobs; finished ones are read from the folder, the others run and kept.

    A cell that fails is recorded with its message and does not stop the others; a later call tries it again. Cells of one model that follow on
    each other share it in memory.

    Args:
        cells: see `steerlab.model_task_grid`.
        path: the folder; it keeps what to run (grid.json) and a file for each cell.
        runner: what a cell does: a function of (cell, model) that gives a record as `run_job` does.
        progress: show a progress bar.

    Raises:
        FileExistsError, ValueError, OSError: a folder that holds something else, or another grid, or a cell that was changed, or that another
            process writes to, or that cannot be written.

    Example:
        >>> import tempfile
        >>> from steerlab.studies.grid import model_task_grid
        >>> cells = model_task_grid(datasets=["arithmetic:bare"], train=8, validation=8, test=20, layers=(3,), epochs=1, controls=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first = run_grid(cells, f"{folder}/grid")
        ...     again = run_grid(cells, f"{folder}/grid")
        >>> first.records == again.records
        True
    """
    with _files.locked(path):
        folder = check_grid_folder(path, cells)
        _files.writable_folder(folder / "cells")
        _files.write_sealed(folder / GRID, GRID_FORMAT, {"cells": [described(cell) for cell in cells]})
        names = [re.sub(r"[^A-Za-z0-9.=-]+", "-", "-".join(cell.key))[:80] for cell in cells]
        paths = [folder / "cells" / f"{number:03d}-{name}.json" for number, name in enumerate(names)]
        records = [_kept(file, cell) for file, cell in zip(paths, cells, strict=True)]
        left = [k for k, record in enumerate(records) if "error" in record]
        held: dict[tuple[Any, ...], Model] = {}
        for k, cell in enumerate(progress_bar(cells, desc="cells", unit="cell", show=progress)):
            if k in left:
                records[k] = _run(cell, runner, held, len(left) if progress and runner is run_job else 0)
                _files.write_sealed(paths[k], CELL, {"cell": described(cell), "record": records[k]})
        return Universality(tuple(cells), tuple(records))


def _kept(file: Path, cell: GridJob) -> dict[str, Any]:
    """The record of a cell that was run before."""
    if not file.is_file():
        return {"error": "not run yet"}
    loaded = _files.read_sealed(file, CELL, "remove it, and the cell is run again")
    if loaded.get("cell") != json.loads(json.dumps(described(cell))):
        raise InputError(f"{file} is of another cell; use another folder, or remove it")
    record = loaded.get("record")
    if not isinstance(record, dict):
        raise InputFileError(f"{file}: has no record; remove it, and the cell is run again")
    return record


def _run(cell: GridJob, runner: Callable[..., dict[str, Any]], held: dict[tuple[Any, ...], Model], foretold: int) -> dict[str, Any]:
    """The record of a cell; so many cells like it are forecast first, unless that is done."""
    key = (cell.model, cell.backend, cell.device, cell.dtype, cell.prepend_bos)
    try:
        if key not in held:
            held.clear()
            held[key] = cell.load_model()
        if foretold and forecast_wanted():
            made_of = [replace(one, runs=foretold * one.runs) for one in cell_work(cell, held[key])]
            forecast(held[key], made_of, show=True, extra=f" in {foretold} cells, if all are like the first")
        # As it will be read back, so that a run in one go and a resumed one give the same.
        found: dict[str, Any] = json.loads(json.dumps(runner(cell, held[key]), allow_nan=False))
    except Exception as error:  # noqa: BLE001 - whatever ends one cell must not end a grid of days; the message is recorded and reported
        return {"error": " ".join(f"{type(error).__name__}: {error}".split())}
    return found
