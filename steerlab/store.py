"""Run folders, provenance and vector files: what is kept, and how it is read back.

Formats are safetensors, JSON and Parquet; nothing is pickled. No file carries a date or a path, so that the same seed gives
the same bytes.
"""

import contextlib
import json
import platform
from collections.abc import Collection, Iterator, Mapping, Sequence, Sized
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from steerlab import _files, markdown, report
from steerlab._checks import ExistingFileError, InputFileError, MissingFileError
from steerlab.models.backends import Model
from steerlab.models.model import describe
from steerlab.tasks.problems import Problem, written

RUN_FORMAT = "steerlab-run-1"
PROVENANCE = "provenance.json"
AGAIN = "run the script again (with --overwrite it replaces that folder), or bring the file back"
PACKAGES = ("steerlab", "transformer-lens", "torch", "transformers", "numpy", "scipy", "pandas")


def write_report(path: str | Path, **parts: Any) -> Path:
    """Write one self-contained HTML page, or Markdown where `path` ends in .md; see `steerlab.report.render_report` for the parts.

    Raises:
        OSError: the folder cannot be written.
        ValueError: a page above the size limit.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_report(f"{folder}/report.html", title="Steering", question="Does it matter?", answer="p = 0.01")
        ...     path.read_text()[:15]
        '<!DOCTYPE html>'
    """
    return _files.write_text(path, markdown.render_markdown(**parts) if Path(path).suffix == ".md" else report.render_report(**parts))


def provenance(model: Model | None, config: Mapping[str, Any], task: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """What produced a run: configuration, model, data, versions."""
    return {
        "config": json.loads(json.dumps(dict(config))),  # as it is read back
        "model": {} if model is None else describe(model),
        "task": dict(task),
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
    """Problems as a frame: split, problem_id, prompt, and target, choices and meta as JSON; of token ids also prompt_tokens, as JSON."""
    lines = [
        (split, p.id, written(p.prompt), json.dumps(p.target), json.dumps(p.choices), json.dumps(dict(p.meta), default=str, sort_keys=True))
        for split, problems in splits.items()
        for p in problems
    ]
    frame = pd.DataFrame(lines, columns=["split", "problem_id", "prompt", "target", "choices", "meta"])
    prompts = [p.prompt for problems in splits.values() for p in problems]
    tokens: list[Any] = [json.dumps(prompt) if isinstance(prompt, tuple) else None for prompt in prompts]
    return frame.assign(prompt_tokens=tokens) if any(tokens) else frame


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
