"""Run folders and provenance: write an experiment as a folder, and read it back without the model.

Formats are safetensors, JSON and Parquet; nothing is pickled. No file carries a date or a path, so the same seed gives the same
bytes.
"""

import contextlib
import json
import platform
import re
from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence, Sized
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from types import NoneType
from typing import Any

import pandas as pd
import pyarrow as pa

from steerlab import _files
from steerlab._checks import ExistingFileError, InputError, InputFileError, MissingFileError
from steerlab.controls.control import ControlResult
from steerlab.controls.pipelines import Choice, PipelineControl
from steerlab.controls.side_effects import SideEffects
from steerlab.directions.diagnostics import ContrastDiagnostics
from steerlab.directions.direction import Direction
from steerlab.models.backends import Model
from steerlab.models.model import describe
from steerlab.reports import sections
from steerlab.reports.blocks import Report
from steerlab.reports.evidence import evidence
from steerlab.reports.export import write_page
from steerlab.reports.scored import note_scoring
from steerlab.studies.protocol import Experiment
from steerlab.sweeps.sweep import SweepResult
from steerlab.tasks.evaluation import Evaluation
from steerlab.tasks.groups import groups_of
from steerlab.tasks.problems import Problem, Task, written
from steerlab.vectors import files

RUN_FORMAT = "steerlab-run-2"
PROVENANCE = "provenance.json"
AGAIN = "run the script again (with --overwrite it replaces that folder), or bring the file back"
PACKAGES = ("steerlab", "transformer-lens", "torch", "transformers", "numpy", "scipy", "pandas")


def provenance(
    model: Model | Mapping[str, Any] | None,
    config: Mapping[str, Any] | None = None,
    task: Task | Mapping[str, Any] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """What produced a run: configuration, model (or what was recorded of it), data (a task, tasks by name, or what they say of themselves), versions."""
    about = {"name": task.name, **task.about} if isinstance(task, Task) else dict(task or {})
    return {
        "config": json.loads(json.dumps(dict(config or {}))),  # as it is read back
        "model": dict(model or {}) if isinstance(model, Mapping | None) else describe(model),
        "task": {name: dict(one.about) if isinstance(one, Task) else one for name, one in about.items()},
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        **more,
    }


@contextlib.contextmanager
def run_folder(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A folder that goes to its place, sealed, once everything in it is written, and vanishes on an error.

    Args:
        path: where it goes.
        overwrite: replace the files of an earlier run there. Files that are not a run's stay, always.

    Raises:
        FileExistsError: `path` holds a run and `overwrite` is False, or something else, or another process writes there.
        OSError: it cannot be written.
    """
    with reserved(path, overwrite=overwrite) as target, _files.new_folder(target, own=_own_files(target), last=PROVENANCE) as folder:
        yield folder


@contextlib.contextmanager
def reserved(path: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """The place of a run, checked before the work and held while it is done, so that nobody else writes there; the errors are those of `run_folder`."""
    with _files.locked(path) as target:
        if not _files.is_vacant(target):
            if not target.is_dir() or not (target / PROVENANCE).is_file():
                raise ExistingFileError(f"{target} exists and is not a run of ours; choose another folder (--out), or remove it")
            if not overwrite:
                raise ExistingFileError(
                    f"{target} holds a run already; choose another folder (--out), or replace the run (--overwrite, in Python overwrite=True)"
                )
            _own_files(target)
        yield target


def _own_files(folder: Path) -> list[str] | None:
    """The files of the run in a folder; None where nothing is there."""
    if _files.is_vacant(folder):
        return None
    record = _files.read_sealed(
        folder / PROVENANCE, RUN_FORMAT, "which files there are a run's cannot be known: choose another folder (--out), or remove it"
    )
    return [*_files.own_files(folder / PROVENANCE, record.get("files")), PROVENANCE]


def write_provenance(folder: Path, provenance: Mapping[str, Any], names: Collection[str] | None = None) -> None:
    """Seal a run: write its provenance, with the SHA-256 of every file in the folder (or of those named) and of the provenance itself."""
    listed = _files.digests(folder, [name for name in names if name != PROVENANCE] if names is not None else None)
    listed.pop(PROVENANCE, None)
    _files.write_sealed(folder / PROVENANCE, RUN_FORMAT, {**provenance, "files": listed})


def write_table(folder: Path, name: str, table: pd.DataFrame) -> None:
    """Write a frame as Parquet."""
    with _files.replacing(folder / f"{name}.parquet") as temporary:
        table.to_parquet(temporary, index=False)


def read_table(folder: Path, name: str, columns: Mapping[str, str]) -> pd.DataFrame:
    """Read what `write_table` wrote.

    Args:
        folder, name: as it was written.
        columns: the columns that must be there, and what they hold: text, whole, number, flag or prompt.

    Raises:
        FileNotFoundError: no such file.
        ValueError, OSError: it cannot be read, or lacks a column of that kind.
    """
    file = folder / f"{name}.parquet"
    if not file.is_file():
        raise MissingFileError(f"{file}: no such file; {AGAIN}")
    try:
        table = pd.read_parquet(file)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputFileError(f"{file}: not a table that can be read ({error}); the file was changed or damaged; {AGAIN}") from error
    for column, kind in columns.items():
        if column not in table:
            raise InputFileError(f"{file}: has no column {column!r}, only {', '.join(map(str, table.columns))}; {AGAIN}")
        if not KINDS[kind](table[column]):
            raise InputFileError(f"{file}: column {column!r} holds {table[column].dtype}, not {kind}s; {AGAIN}")
    return table


def _texts(column: pd.Series) -> bool:
    return all(isinstance(value, str) for value in column)


def _wholes(column: pd.Series) -> bool:
    return bool(pd.api.types.is_integer_dtype(column))


def _numbers(column: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column))


def _flags(column: pd.Series) -> bool:
    return bool(pd.api.types.is_bool_dtype(column))


def _prompts(column: pd.Series) -> bool:
    return all(isinstance(value, Sized) for value in column)


KINDS = {"prompt": _prompts, "text": _texts, "whole": _wholes, "number": _numbers, "flag": _flags}


def problems_frame(splits: Mapping[str, Sequence[Problem]]) -> pd.DataFrame:
    """Problems as a frame: split, problem_id, prompt, and target, choices and meta as JSON; group, where any problem has one;
    of token ids also prompt_tokens, as JSON."""
    lines = [
        (split, p.id, written(p.prompt), json.dumps(p.target), json.dumps(p.choices), json.dumps(dict(p.meta), default=str, sort_keys=True))
        for split, problems in splits.items()
        for p in problems
    ]
    frame = pd.DataFrame(lines, columns=["split", "problem_id", "prompt", "target", "choices", "meta"])
    prompts = [p.prompt for problems in splits.values() for p in problems]
    tokens: list[Any] = [json.dumps(prompt) if isinstance(prompt, tuple) else None for prompt in prompts]
    groups: list[Any] = [p.group for problems in splits.values() for p in problems]
    return frame.assign(**({"prompt_tokens": tokens} if any(tokens) else {}), **({"group": groups} if any(groups) else {}))


def sealed_files(path: str | Path) -> frozenset[str]:
    """The files that a run wrote, by their names in its folder; what else lies there is not of the run."""
    file = Path(path) / PROVENANCE
    return frozenset(_files.own_files(file, _files.read_sealed(file, RUN_FORMAT, AGAIN).get("files")))


def read_run(path: str | Path) -> dict[str, Any]:
    """The provenance of a run folder, which is sealed: every file of the run must be as it was written.

    Raises:
        FileNotFoundError: not a run folder, or a file of it is missing.
        ValueError, OSError: a file was changed or damaged, or is of another version.
    """
    file = Path(path) / PROVENANCE
    if not file.is_file():
        raise MissingFileError(f"{path}: no {PROVENANCE} there; give a folder that a steerlab script wrote")
    record = _files.read_sealed(file, RUN_FORMAT, AGAIN)
    _files.own_files(file, record.get("files"))
    _files.check_digests(path, record.pop("files"), AGAIN)
    return record


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
OF_PIPELINES = {"pipeline": "text", "is_control": "flag", "goal": "text", "layer": "whole"}
OF_PIPELINES |= dict.fromkeys(("alpha", "validation", "change", "z", "changed"), "number")
# What the provenance says of an experiment, and of each of its controls.
OF_EXPERIMENT: dict[str, type | tuple[type, ...]] = {"task": str, "pipelines": list, "scorer": str, "settings": dict}
OF_EXPERIMENT |= {"validation_settings": dict, "test_settings": dict, "side_effects_settings": dict, "controls": list, "directions": list}
OF_PIPELINE: dict[str, type | tuple[type, ...]] = {"kind": str, "rule": str, "choice": dict, "planned": int, "stop_after": (int, NoneType)}
OF_CHOICE: dict[str, type | tuple[type, ...]] = {"measure": str, "screen": (int, NoneType), "problems": (int, NoneType), "keep": int}
OF_CONTROL: dict[str, type | tuple[type, ...]] = {"stage": str, "alpha": (int, float), "layer": int, "site": str, "family": str}


def save_experiment(path: str | Path, experiment: Experiment, provenance: Mapping[str, Any], *, overwrite: bool = False) -> Path:
    """Write results.parquet (every outcome), pipelines, checks, problems, side effects, diagnostics, directions, provenance and report.html.

    The provenance holds the SHA-256 of every file and of itself, so that a run that was changed is not taken for one that was measured.

    Args:
        path: the folder; new, empty, or an earlier run.
        experiment: what was measured.
        provenance: what `steerlab.reports.runs.provenance` says of the model, the configuration and the task.
        overwrite: replace the files of an earlier run there; files that are not a run's stay.

    Raises:
        FileExistsError: the folder holds a run and `overwrite` is False, or something else.
        OSError: it cannot be written.
        ValueError: a provenance that names no model.

    Example:
        >>> import tempfile, steerlab as sl
        >>> from steerlab.reports.runs import provenance
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", limit=16)
        >>> found = sl.run_experiment(model, task, seed=0, layers=[3], alphas=[-2, 0, 2], n_controls=4)
        >>> about = provenance(model, {"seed": 0}, task.about)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = sl.save_experiment(f"{folder}/run", found, about)
        ...     sorted(file.name for file in path.glob("*.parquet"))
        ['checks.parquet', 'pipelines.parquet', 'problems.parquet', 'results.parquet', 'side_effects.parquet', 'side_effects_baseline.parquet']
    """
    if not provenance.get("model", {}).get("name"):
        raise InputError("provenance names no model; give what steerlab.reports.runs.provenance(model, config, task.about) returns")
    e, found = experiment, evidence(experiment)
    results = [
        e.train.frame.assign(split="train", stage="baseline", layer=-1, alpha=0.0, direction=""),
        e.validation.frame.assign(split="validation", stage="sweep"),
        e.test.frame.assign(split="test", stage="sweep"),
        *(_chosen(one) for one in e.pipelines),
        *(c.frame.assign(split="test", stage=stage, layer=c.layer, alpha=c.alpha) for stage, c in _stages(e)),
    ]
    frame = pd.concat(results, ignore_index=True)
    frame["is_control"] = frame["is_control"].fillna(False).astype(bool)
    checks = [e.validation.checks.assign(split="validation", stage="sweep"), e.test.checks.assign(split="test", stage="sweep")]
    checks += [one.checks.assign(split="test", stage=one.kind) for one in e.pipelines]
    checks += [c.checks.assign(split="test", stage=stage) for stage, c in _stages(e)]
    kinds = pd.concat([one.frame.assign(kind=one.kind) for one in e.pipelines], ignore_index=True)
    names = [f"directions/layer-{layer:03d}.safetensors" for layer in e.directions]
    outcome = {
        "task": e.task,
        "pipelines": [
            {"kind": one.kind, "rule": one.rule, "choice": asdict(one.choice), "planned": one.planned, "stop_after": one.stop_after}
            for one in e.pipelines
        ],
        "scorer": e.train.scorer,
        "settings": e.settings,
        "validation_settings": dict(e.validation.settings),
        "test_settings": dict(e.test.settings),
        "controls": [{"stage": stage, "alpha": c.alpha, "layer": c.layer, "site": c.site, "family": c.family} for stage, c in _stages(e)],
        "side_effects_settings": dict(e.side_effects.settings),
        "directions": names,
    }
    with run_folder(path, overwrite=overwrite) as folder:
        scored = note_scoring(
            path, e.settings["test_problems"], {"config": provenance.get("config"), "settings": e.settings, "model": provenance["model"]}
        )
        full = {**provenance, "experiment": outcome, "answer": found.answer(), "warnings": found.warnings(), "scored": scored}
        write_table(folder, "results", frame[["split", "stage", "layer", "alpha", "direction", "is_control", *OUTCOMES]])
        write_table(folder, "pipelines", kinds[["kind", *OF_PIPELINES]])
        write_table(folder, "checks", pd.concat(checks, ignore_index=True))
        splits = {"train": e.train.problems, "validation": e.validation.baseline.problems, "test": e.test.baseline.problems}
        write_table(folder, "problems", problems_frame(splits))
        write_table(folder, "side_effects", e.side_effects.by_text)
        write_table(folder, "side_effects_baseline", e.side_effects.baseline)
        if e.diagnostics is not None:
            _files.write_json(folder / "diagnostics.json", asdict(e.diagnostics))
        for name, direction in zip(names, e.directions.values(), strict=True):
            files.save_direction(folder / name, direction)
        files.save_direction(folder / "direction.safetensors", e.direction)
        write_page(folder / "report.html", Report(**sections.report_parts(found, full)))
        write_provenance(folder, full)
    return Path(path)


def _chosen(one: PipelineControl) -> pd.DataFrame:
    """The direction's outcomes at the cells that its pipeline chose, as lines of the results; `direction` says for which goal."""
    cells = {goal: one.cell(goal) for goal in one.goals}
    goals = one.outcomes["goal"]
    layers, alphas = [cells[goal].layer for goal in goals], [cells[goal].alpha for goal in goals]
    return one.outcomes.drop(columns="goal").assign(split="test", stage=one.kind, layer=layers, alpha=alphas, direction=goals)


def _stages(e: Experiment) -> list[tuple[str, ControlResult]]:
    """Every control, with what its lines are called in the tables: random ones, and those of a family."""
    return [("control", c) for c in e.controls] + [(f"control: {c.family}", c) for c in e.families]


def save_result(path: str | Path, result: Any, provenance: Mapping[str, Any], *, overwrite: bool = False, **more: Any) -> Path:
    """Write the result of a study as a run folder: tables (Parquet), directions, provenance and the page that `steerlab.write_report` writes of it.

    Args:
        path: the folder; new, empty, or an earlier run.
        result: a result with a page (its `report_parts`), or such parts.
        provenance: what `steerlab.reports.runs.provenance` says.
        overwrite: replace the files of an earlier run there; files that are not a run's stay.
        more: parts in place of the result's own, and further tables.

    Raises:
        FileExistsError: the folder holds a run and `overwrite` is False, or something else.
        OSError: it cannot be written.
    """
    with run_folder(path, overwrite=overwrite) as folder:
        write_result(folder, result, provenance, **more)
    return Path(path)


def write_result(folder: Path, result: Any, provenance: Mapping[str, Any], *, further: Sequence[str] = (), **more: Any) -> None:
    """Write what a run folder holds.

    Directions are called by their layer (several at one layer by their names, too), or as their keys say. The provenance comes last and seals
    what was written, and the `further` files of the run that are in the folder already.
    """
    parts = sections.result_parts(result, provenance, **more)
    for name, (_, table) in parts["tables"].items():
        write_table(folder, name, table)
    directions = parts["directions"]
    named = directions if isinstance(directions, Mapping) else _named(directions)
    for name, direction in named.items():
        files.save_direction(folder / "directions" / f"{name}.safetensors", direction)
    write_page(folder / "report.html", sections.page(parts))
    written = (
        [f"{name}.parquet" for name in parts["tables"]] + [f"directions/{name}.safetensors" for name in named] + ["report.html", *further]
    )
    write_provenance(folder, {**provenance, "warnings": parts["warnings"]}, written)


def _named(directions: Sequence[Direction]) -> dict[str, Direction]:
    """Directions by their layer and, where one layer has several, their name."""
    layers = [direction.layer for direction in directions]
    names = [f"layer-{d.layer:03d}" + ("-" + re.sub(r"[^\w.-]+", "-", d.name) if layers.count(d.layer) > 1 else "") for d in directions]
    return dict(zip(names, directions, strict=True))


def load_experiment(path: str | Path) -> tuple[Experiment, dict[str, Any]]:
    """An experiment and its provenance from a run folder; no model is needed.

    Raises:
        FileNotFoundError: not a run folder, or a file of it is missing.
        ValueError, OSError: a run of another script or version, or a file of it that was changed or damaged.

    Example:
        >>> import tempfile, steerlab as sl
        >>> from steerlab.reports.runs import provenance
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", limit=16)
        >>> found = sl.run_experiment(model, task, seed=0, layers=[3], alphas=[-2, 0, 2], n_controls=4)
        >>> about = provenance(model, {"seed": 0}, task.about)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     again, read = sl.load_experiment(sl.save_experiment(f"{folder}/run", found, about))
        >>> again.test.accuracy().equals(found.test.accuracy())
        True
    """
    folder = Path(path)
    provenance = read_run(folder)
    sealed = sealed_files(folder)
    if "experiment" not in provenance:
        raise InputError(f"{folder}: a run of another script; give one that analyses/random_control.py wrote")
    file = folder / PROVENANCE
    about = _checked(provenance["experiment"], OF_EXPERIMENT, file, "experiment")
    results = read_table(folder, "results", OF_RESULTS)
    unnamed = results["margin"].isna() & (results["prediction"] != "")
    if unnamed.any():
        line = int(unnamed.to_numpy().argmax())
        raise InputFileError(f"{folder / 'results.parquet'}: the margin of line {line} is NaN, though it has a prediction; {AGAIN}")
    checks = read_table(folder, "checks", OF_CHECKS)
    problems = _problems(folder, about["scorer"])
    directions = {d.layer: d for d in (files.load_direction(folder / str(name)) for name in about["directions"])}

    def evaluation(split: str, frame: pd.DataFrame) -> Evaluation:
        if list(frame["problem_id"]) != [problem.id for problem in problems[split]]:
            raise InputFileError(f"{folder / 'results.parquet'}: the {split} problems are others than in problems.parquet; {AGAIN}")
        return Evaluation(tuple(problems[split]), frame[OUTCOMES].reset_index(drop=True), about["scorer"])

    def swept(split: str, used: Sequence[Direction]) -> SweepResult:
        frame = results.query("split == @split and stage == 'sweep'").reset_index(drop=True)
        zero = frame[frame["alpha"] == 0]
        baseline = evaluation(split, zero[zero["layer"] == zero["layer"].min()])
        columns = ["layer", "alpha", "direction", *OUTCOMES]
        own = checks.query("split == @split and stage == 'sweep'").drop(columns=["split", "stage"])
        return SweepResult(frame[columns], baseline, tuple(used), own.reset_index(drop=True), about[f"{split}_settings"])

    validation = swept("validation", list(directions.values()))
    test = swept("test", [directions[layer] for layer in sorted(set(_layers(results, directions, folder)))])
    kinds = read_table(folder, "pipelines", {"kind": "text", **OF_PIPELINES})
    groups = groups_of(test.baseline.problems)
    pipelines = []
    for one in (_checked(record, OF_PIPELINE, file, "a kind of pipelines") for record in about["pipelines"]):
        own = kinds[kinds["kind"] == one["kind"]].reset_index(drop=True)
        if not {True, False} == set(own["is_control"]):
            raise InputFileError(f"{folder / 'pipelines.parquet'}: no lines of the direction and of {one['kind']}; {AGAIN}")
        rows = results.query("stage == @one['kind']").reset_index(drop=True)
        seen = checks.query("stage == @one['kind']").drop(columns=["split", "stage"]).reset_index(drop=True)
        pipelines.append(
            PipelineControl(
                own[list(OF_PIPELINES)], rows[OUTCOMES].assign(goal=rows["direction"]), test.baseline, groups, one["kind"], one["rule"],
                _choice(one["choice"], file), one["planned"], one["stop_after"], seen,
            )
        )  # fmt: skip
    controls: dict[bool, list[ControlResult]] = {True: [], False: []}
    for one in (_checked(record, OF_CONTROL, file, "a control") for record in about["controls"]):
        stage, layer, alpha = one["stage"], one["layer"], one["alpha"]
        rows = results.query("stage == @stage and layer == @layer and alpha == @alpha").reset_index(drop=True)
        own = (
            checks.query("stage == @stage and layer == @layer and alpha == @alpha").drop(columns=["split", "stage"]).reset_index(drop=True)
        )
        if len(rows) == 0 or layer not in directions:
            raise InputFileError(f"{folder / 'results.parquet'}: no lines of {stage!r} at layer {layer}, alpha {alpha:g}; {AGAIN}")
        n = int(rows.loc[rows["is_control"], "direction"].nunique())
        columns = ["direction", "is_control", *OUTCOMES]
        found = ControlResult(rows[columns], test.baseline, directions[layer], alpha, layer, one["site"], n, one["family"], own)
        controls[stage == "control"].append(found)
    train = evaluation("train", results.query("split == 'train'"))
    effects = read_table(folder, "side_effects", OF_SIDE_EFFECTS), read_table(folder, "side_effects_baseline", OF_BASELINE)
    side = SideEffects(effects[0], effects[1], test.directions, about["side_effects_settings"])
    experiment = Experiment(
        about["task"],
        train,
        directions,
        validation,
        tuple(pipelines),
        test,
        tuple(controls[True]),
        tuple(controls[False]),
        _diagnostics(folder) if "diagnostics.json" in sealed else None,
        side,
        about["settings"],
    )
    return experiment, provenance


def _choice(record: Mapping[str, Any], file: Path) -> Choice:
    known = _checked(record, OF_CHOICE, file, "the choice of pipelines")
    return Choice(**{name: known[name] for name in OF_CHOICE})


def _layers(results: pd.DataFrame, directions: Mapping[int, Direction], folder: Path) -> list[int]:
    """The layers of the sweep on test."""
    layers = results.query("split == 'test' and stage == 'sweep'")["layer"].unique().tolist()
    if lacking := [layer for layer in layers if layer not in directions]:
        raise InputFileError(
            f"{folder / PROVENANCE}: layer {lacking[0]} was chosen, and there are directions of {sorted(directions)}; {AGAIN}"
        )
    return layers


def _as_given(value: Any) -> Any:
    """Token ids as a problem holds them, which JSON makes a list of; anything else as it is."""
    return tuple(value) if isinstance(value, list) else value


def _checked(record: object, kinds: Mapping[str, type | tuple[type, ...]], file: Path, name: str) -> dict[str, Any]:
    """A table of a JSON file, with all that it must say."""
    if not isinstance(record, dict):
        raise InputFileError(f"{file}: {name} is a {type(record).__name__}, not a table; {AGAIN}")
    for key, kind in kinds.items():
        if key not in record:
            raise InputFileError(f"{file}: {name} does not say {key!r}; {AGAIN}")
        if not isinstance(record[key], kind) or isinstance(record[key], bool):
            raise InputFileError(f"{file}: {name} says {key}={record[key]!r}, which is a {type(record[key]).__name__}; {AGAIN}")
    return record


def _diagnostics(folder: Path) -> ContrastDiagnostics | None:
    file = folder / "diagnostics.json"
    if not file.is_file():
        return None
    record = _files.read_json(file, AGAIN)
    try:
        return ContrastDiagnostics.from_record(record)
    except (KeyError, TypeError, AttributeError) as error:
        raise InputFileError(f"{file}: not the diagnostics of a contrast ({type(error).__name__}: {error}); {AGAIN}") from error


def _problems(folder: Path, scorer: str) -> dict[str, list[Problem]]:
    frame = read_table(folder, "problems", OF_PROBLEMS)
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
            group = line.get("group")
            group = group if isinstance(group, str) else None
            problem = Problem(line["problem_id"], _as_given(prompt), _as_given(target), answers, meta, scorer, group)
        except ValueError as error:
            raise InputFileError(f"{folder / 'problems.parquet'}: line {place} is no problem ({error}); {AGAIN}") from error
        splits[line["split"]].append(problem)
    return splits
