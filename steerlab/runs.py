"""Write an experiment as a run folder, and read it back without the model."""

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from steerlab import _files, exhibits, store
from steerlab._checks import InputError, InputFileError
from steerlab.controls.control import ControlResult
from steerlab.controls.side_effects import SideEffects
from steerlab.directions.diagnostics import ContrastDiagnostics
from steerlab.directions.direction import Direction
from steerlab.parts import Drawing
from steerlab.significance import Significance
from steerlab.studies.protocol import Experiment
from steerlab.sweeps.sweep import SweepResult
from steerlab.tasks.evaluation import Evaluation
from steerlab.tasks.problems import Problem, left_out
from steerlab.vectors import files

OUTCOMES = ["problem_id", "prediction", "correct", "margin", "nll"]
# What the tables of a run hold.
OF_OUTCOMES = {"problem_id": "text", "prediction": "text", "correct": "flag", "margin": "number", "nll": "number"}
OF_RESULTS = {
    "split": "text",
    "stage": "text",
    "layer": "whole",
    "alpha": "number",
    "direction": "text",
    "is_control": "flag",
    **OF_OUTCOMES,
}
OF_CHECKS = {"split": "text", "stage": "text", "layer": "whole", "direction": "text", "alpha": "number", "calls": "whole"}
OF_CHECKS |= {"resid_change": "number", "score_change": "number"}
OF_PROBLEMS = dict.fromkeys(("split", "problem_id", "target", "choices", "meta"), "text") | {"prompt": "prompt"}
OF_BASELINE = {"text": "whole", "positions": "whole", "predicted": "whole", "entropy": "number", "nll": "number"}
OF_SIDE_EFFECTS = {"layer": "whole", "direction": "text", "alpha": "number", **OF_BASELINE, "kl": "number", "changed": "number"}
# What the provenance says of an experiment, and of each of its controls.
OF_EXPERIMENT: dict[str, type | tuple[type, ...]] = {"task": str, "layer": int, "alpha": (int, float), "scorer": str, "settings": dict}
OF_EXPERIMENT |= {"validation_settings": dict, "test_settings": dict, "side_effects_settings": dict, "controls": list, "directions": list}
OF_CONTROL: dict[str, type | tuple[type, ...]] = {"stage": str, "alpha": (int, float), "layer": int, "site": str, "family": str}


def save_experiment(path: str | Path, experiment: Experiment, provenance: Mapping[str, Any], *, overwrite: bool = False) -> Path:
    """Write results.parquet (every outcome), checks, problems, side effects, diagnostics, directions, provenance and report.html.

    The provenance holds the SHA-256 of every file and of itself, so that a run that was changed is not taken for one that was measured.

    Args:
        path: the folder; new, empty, or an earlier run.
        experiment: what was measured.
        provenance: what `steerlab.store.provenance` says of the model, the configuration and the task.
        overwrite: replace the files of an earlier run there; files that are not a run's stay.

    Raises:
        FileExistsError: the folder holds a run and `overwrite` is False, or something else.
        OSError: it cannot be written.
        ValueError: a provenance that names no model.

    Example:
        >>> import tempfile, steerlab as sl
        >>> from steerlab.store import provenance
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", limit=16)
        >>> found = sl.run_experiment(model, task, seed=0, layers=[3], alphas=[-2, 0, 2], n_controls=4)
        >>> about = provenance(model, {"seed": 0}, task.about)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = sl.save_experiment(f"{folder}/run", found, about)
        ...     sorted(file.name for file in path.glob("*.parquet"))
        ['checks.parquet', 'problems.parquet', 'results.parquet', 'side_effects.parquet', 'side_effects_baseline.parquet']
    """
    if not provenance.get("model", {}).get("name"):
        raise InputError("provenance names no model; give what steerlab.store.provenance(model, config, task.about) returns")
    e, significance = experiment, Significance(experiment)
    results = [
        e.train.frame.assign(split="train", stage="baseline", layer=-1, alpha=0.0, direction=""),
        e.validation.frame.assign(split="validation", stage="sweep"),
        e.test.frame.assign(split="test", stage="sweep"),
        *(c.frame.assign(split="test", stage=stage, layer=c.layer, alpha=c.alpha) for stage, c in _stages(e)),
    ]
    frame = pd.concat(results, ignore_index=True)
    frame["is_control"] = frame["is_control"].fillna(False).astype(bool)
    checks = [e.validation.checks.assign(split="validation", stage="sweep"), e.test.checks.assign(split="test", stage="sweep")]
    checks += [c.checks.assign(split="test", stage=stage) for stage, c in _stages(e)]
    names = [f"directions/layer-{layer:03d}.safetensors" for layer in e.directions]
    outcome = {
        "task": e.task,
        "layer": e.layer,
        "alpha": e.alpha,
        "scorer": e.train.scorer,
        "settings": e.settings,
        "validation_settings": dict(e.validation.settings),
        "test_settings": dict(e.test.settings),
        "controls": [{"stage": stage, "alpha": c.alpha, "layer": c.layer, "site": c.site, "family": c.family} for stage, c in _stages(e)],
        "side_effects_settings": dict(e.side_effects.settings),
        "directions": names,
    }
    full = {**provenance, "experiment": outcome, "answer": significance.answer(), "warnings": significance.warnings()}
    with store.run_folder(path, overwrite=overwrite) as folder:
        store.write_table(folder, "results", frame[["split", "stage", "layer", "alpha", "direction", "is_control", *OUTCOMES]])
        store.write_table(folder, "checks", pd.concat(checks, ignore_index=True))
        splits = {"train": e.train.problems, "validation": e.validation.baseline.problems, "test": e.test.baseline.problems}
        store.write_table(folder, "problems", store.problems_frame(splits))
        store.write_table(folder, "side_effects", e.side_effects.by_text)
        store.write_table(folder, "side_effects_baseline", e.side_effects.baseline)
        if e.diagnostics is not None:
            _files.write_json(folder / "diagnostics.json", asdict(e.diagnostics))
        for name, direction in zip(names, e.directions.values(), strict=True):
            files.save_direction(folder / name, direction)
        files.save_direction(folder / "direction.safetensors", e.direction)
        store.write_report(folder / "report.html", **exhibits.report_parts(significance, full))
        store.write_provenance(folder, full)
    return Path(path)


def _stages(e: Experiment) -> list[tuple[str, ControlResult]]:
    """Every control, with what its lines are called in the tables: random ones, and those of a family."""
    return [("control", c) for c in e.controls] + [(f"control: {c.family}", c) for c in e.families]


def save_sweep(
    path: str | Path,
    result: SweepResult,
    provenance: Mapping[str, Any],
    *,
    question: str,
    figures: Sequence[Drawing | tuple[str, Any, str]],
    overwrite: bool = False,
) -> Path:
    """Write a sweep that makes no claim: every outcome, its directions, provenance and a report; see `save_figures`.

    Raises:
        FileExistsError: the folder holds a run and `overwrite` is False, or something else.
        OSError: it cannot be written.
    """
    interval = result.baseline.interval()
    best = result.best()
    answer = (
        f"Unsteered accuracy is {100 * result.baseline.accuracy:.1f}% of {result.baseline.n} problems (95% interval {100 * interval.low:.1f}% to "
        f"{100 * interval.high:.1f}%). The highest of {len(result.accuracy())} cells is layer {int(best['layer'])}, alpha {best['alpha']:+g}, with "
        f"{100 * best['change']:+.1f} points. It is the best of many, and no test was made; random_control.py makes one on problems of their own."
    )
    return save_figures(
        path,
        provenance,
        title=f"Sweep: {provenance['model']['name']}",
        question=question,
        answer=answer,
        warnings=result.warnings(),
        figures=figures,
        tables={"accuracy": ("Every cell, with 95% Wilson intervals.", result.accuracy()), "results": ("", result.frame)},
        directions=result.directions,
        overwrite=overwrite,
    )


def save_figures(path: str | Path, provenance: Mapping[str, Any], *, overwrite: bool = False, **parts: Any) -> Path:
    """Write tables (Parquet), directions, provenance and a report as a run folder.

    Args:
        path: the folder; new, empty, or an earlier run.
        provenance: what `steerlab.store.provenance` says.
        overwrite: replace the files of an earlier run there; files that are not a run's stay.
        parts: what `write_figures` takes.

    Raises:
        FileExistsError: the folder holds a run and `overwrite` is False, or something else.
        OSError: it cannot be written.
    """
    with store.run_folder(path, overwrite=overwrite) as folder:
        write_figures(folder, provenance, **parts)
    return Path(path)


def write_figures(
    folder: Path,
    provenance: Mapping[str, Any],
    *,
    title: str,
    question: str,
    figures: Sequence[Drawing | tuple[str, Any, str]],
    tables: Mapping[str, tuple[str, pd.DataFrame]],
    answer: str = "This page describes; it tests nothing.",
    warnings: Sequence[str] = (),
    directions: Sequence[Direction] | Mapping[str, Direction] = (),
    method: Sequence[str] = (),
    further: Sequence[str] = (),
) -> None:
    """Write what a run folder holds; a table without a caption, or of over 1,000 lines, stays out of the page.

    Directions are called by their layer (several at one layer by their names, too), or as their keys say. The provenance comes last and seals
    what was written, and the `further` files of the run that are in the folder already.
    """
    for name, (_, table) in tables.items():
        store.write_table(folder, name, table)
    named = directions if isinstance(directions, Mapping) else _named(directions)
    for name, direction in named.items():
        files.save_direction(folder / "directions" / f"{name}.safetensors", direction)
    warnings = [*warnings, *(f"Data: {said}." for said in left_out(provenance.get("task", {})))]
    shown = [(caption, table) for caption, table in tables.values() if caption and len(table) <= 1000]
    store.write_report(
        folder / "report.html",
        title=title,
        question=question,
        answer=answer,
        warnings=warnings,
        figures=figures,
        tables=shown,
        method=method,
        provenance=exhibits.flat_provenance(provenance),
    )
    written = [f"{name}.parquet" for name in tables] + [f"directions/{name}.safetensors" for name in named] + ["report.html", *further]
    store.write_provenance(folder, {**provenance, "warnings": warnings}, written)


def _named(directions: Sequence[Direction]) -> dict[str, Direction]:
    """Directions by their layer and, where one layer has several, their name."""
    layers = [direction.layer for direction in directions]
    names = [f"layer-{d.layer:03d}" + ("-" + re.sub(r"[^\w.-]+", "-", d.name) if layers.count(d.layer) > 1 else "") for d in directions]
    return dict(zip(names, directions, strict=True))


def load_experiment(path: str | Path) -> tuple[Experiment, dict[str, Any]]:
    """Read an experiment and its provenance from a run folder; no model is needed.

    Raises:
        FileNotFoundError: not a run folder, or a file of it is missing.
        ValueError, OSError: a run of another script or version, or a file of it that was changed or damaged.

    Example:
        >>> import tempfile, steerlab as sl
        >>> from steerlab.store import provenance
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", limit=16)
        >>> found = sl.run_experiment(model, task, seed=0, layers=[3], alphas=[-2, 0, 2], n_controls=4)
        >>> about = provenance(model, {"seed": 0}, task.about)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again, read = sl.load_experiment(sl.save_experiment(f"{folder}/run", found, about))
        >>> again.test.accuracy().equals(found.test.accuracy())
        True
    """
    folder = Path(path)
    provenance = store.read_run(folder)
    sealed = store.sealed_files(folder)
    if "experiment" not in provenance:
        raise InputError(f"{folder}: a run of another script; give one that analyses/random_control.py wrote")
    file = folder / store.PROVENANCE
    about = _checked(provenance["experiment"], OF_EXPERIMENT, file, "experiment")
    results = store.read_table(folder, "results", OF_RESULTS)
    unnamed = results["margin"].isna() & (results["prediction"] != "")
    if unnamed.any():
        line = int(unnamed.to_numpy().argmax())
        raise InputFileError(f"{folder / 'results.parquet'}: the margin of line {line} is NaN, though it has a prediction; {store.AGAIN}")
    checks = store.read_table(folder, "checks", OF_CHECKS)
    problems = _problems(folder, about["scorer"])
    directions = {d.layer: d for d in (files.load_direction(folder / str(name)) for name in about["directions"])}
    if about["layer"] not in directions:
        raise InputFileError(f"{file}: layer {about['layer']} was chosen, and there are directions of {sorted(directions)}; {store.AGAIN}")

    def evaluation(split: str, frame: pd.DataFrame) -> Evaluation:
        if list(frame["problem_id"]) != [problem.id for problem in problems[split]]:
            raise InputFileError(f"{folder / 'results.parquet'}: the {split} problems are others than in problems.parquet; {store.AGAIN}")
        return Evaluation(tuple(problems[split]), frame[OUTCOMES].reset_index(drop=True), about["scorer"])

    def swept(split: str, used: Sequence[Direction]) -> SweepResult:
        frame = results.query("split == @split and stage == 'sweep'").reset_index(drop=True)
        zero = frame[frame["alpha"] == 0]
        baseline = evaluation(split, zero[zero["layer"] == zero["layer"].min()])
        columns = ["layer", "alpha", "direction", *OUTCOMES]
        own = checks.query("split == @split and stage == 'sweep'").drop(columns=["split", "stage"])
        return SweepResult(frame[columns], baseline, tuple(used), own.reset_index(drop=True), about[f"{split}_settings"])

    validation = swept("validation", list(directions.values()))
    direction = directions[about["layer"]]
    test = swept("test", [direction])
    controls: dict[bool, list[ControlResult]] = {True: [], False: []}
    for one in (_checked(record, OF_CONTROL, file, "a control") for record in about["controls"]):
        stage, alpha = one["stage"], one["alpha"]
        rows = results.query("stage == @stage and alpha == @alpha").reset_index(drop=True)
        own = checks.query("stage == @stage and alpha == @alpha").drop(columns=["split", "stage"]).reset_index(drop=True)
        if len(rows) == 0:
            raise InputFileError(f"{folder / 'results.parquet'}: no lines of {stage!r} at alpha {alpha:g}; {store.AGAIN}")
        n = int(rows.loc[rows["is_control"], "direction"].nunique())
        columns = ["direction", "is_control", *OUTCOMES]
        found = ControlResult(rows[columns], test.baseline, direction, alpha, one["layer"], one["site"], n, one["family"], own)
        controls[stage == "control"].append(found)
    train = evaluation("train", results.query("split == 'train'"))
    effects = store.read_table(folder, "side_effects", OF_SIDE_EFFECTS), store.read_table(folder, "side_effects_baseline", OF_BASELINE)
    side = SideEffects(effects[0], effects[1], (direction,), about["side_effects_settings"])
    experiment = Experiment(
        about["task"],
        train,
        directions,
        validation,
        about["layer"],
        about["alpha"],
        test,
        tuple(controls[True]),
        tuple(controls[False]),
        _diagnostics(folder) if "diagnostics.json" in sealed else None,
        side,
        about["settings"],
    )
    return experiment, provenance


def _as_given(value: Any) -> Any:
    """Token ids as a problem holds them, which JSON makes a list of; anything else as it is."""
    return tuple(value) if isinstance(value, list) else value


def _checked(record: object, kinds: Mapping[str, type | tuple[type, ...]], file: Path, name: str) -> dict[str, Any]:
    """A table of a JSON file, with all that it must say."""
    if not isinstance(record, dict):
        raise InputFileError(f"{file}: {name} is a {type(record).__name__}, not a table; {store.AGAIN}")
    for key, kind in kinds.items():
        if key not in record:
            raise InputFileError(f"{file}: {name} does not say {key!r}; {store.AGAIN}")
        if not isinstance(record[key], kind) or isinstance(record[key], bool):
            raise InputFileError(f"{file}: {name} says {key}={record[key]!r}, which is a {type(record[key]).__name__}; {store.AGAIN}")
    return record


def _diagnostics(folder: Path) -> ContrastDiagnostics | None:
    file = folder / "diagnostics.json"
    if not file.is_file():
        return None
    record = _files.read_json(file, store.AGAIN)
    try:
        return ContrastDiagnostics.from_record(record)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputFileError(f"{file}: not the diagnostics of a contrast ({type(error).__name__}: {error}); {store.AGAIN}") from error


def _problems(folder: Path, scorer: str) -> dict[str, list[Problem]]:
    frame = store.read_table(folder, "problems", OF_PROBLEMS)
    splits: dict[str, list[Problem]] = {"train": [], "validation": [], "test": []}
    lines: list[dict[Hashable, Any]] = frame.to_dict("records")
    for place, line in enumerate(lines):
        try:
            choices, target, meta = (json.loads(line[key]) for key in ("choices", "target", "meta"))
            if not isinstance(meta, dict) or not isinstance(choices, list | None) or line["split"] not in splits:
                raise InputError(f"split={line['split']!r}, choices={choices!r}, meta={meta!r}")
            if isinstance(target, bool | dict | None):
                raise InputError(f"target={target!r}")
            tokens = line.get("prompt_tokens")
            prompt = json.loads(tokens) if isinstance(tokens, str) else line["prompt"]
            answers = None if choices is None else tuple(map(_as_given, choices))
            problem = Problem(line["problem_id"], _as_given(prompt), _as_given(target), answers, meta, scorer)
        except ValueError as error:
            raise InputFileError(f"{folder / 'problems.parquet'}: line {place} is no problem ({error}); {store.AGAIN}") from error
        splits[line["split"]].append(problem)
    return splits
