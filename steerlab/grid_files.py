"""A grid of cells in a folder, one file a cell: what is finished is kept, and a later call goes on from there."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from steerlab import _files
from steerlab._checks import InputError, InputFileError
from steerlab._progress import forecast_wanted, job, progress_bar
from steerlab.grid_cells import GridCell, cell_work, described, run_cell
from steerlab.models.backends import Model
from steerlab.models.forecasts import forecast
from steerlab.models.loading import load_model
from steerlab.universality import Universality

FORMAT, CELL = "steerlab-grid-2", "steerlab-grid-cell-1"
GRID = "grid.json"


def check_grid_folder(path: str | Path, cells: Sequence[GridCell]) -> Path:
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
    kept = _files.read_sealed(folder / GRID, FORMAT, "give another folder, or remove this one to begin anew")
    wanted = json.loads(json.dumps([described(cell) for cell in cells]))
    if kept.get("cells") != wanted:
        raise InputError(
            f"{folder} holds another grid: {_difference(kept.get('cells') or [], wanted)}; use its settings, or another folder"
        )
    return folder


def _difference(kept: Sequence[Mapping[str, Any]], wanted: Sequence[Mapping[str, Any]]) -> str:
    for old, new in zip(kept, wanted, strict=False):
        for key in new:
            if old.get(key) != new[key]:
                return f"{key} was {old.get(key)!r} and is {new[key]!r} now"
    return f"it had {len(kept)} cells, and {len(wanted)} are asked for now"


@job("cells")
def run_grid(
    cells: Sequence[GridCell],
    path: str | Path,
    *,
    runner: Callable[..., dict[str, Any]] = run_cell,
    progress: bool = False,
) -> Universality:
    """Run what is not finished yet, one cell at a time, and keep each as it ends.

    A cell that fails is recorded with its message and does not stop the others; a later call tries it again. Cells of one model that follow on
    each other share it in memory.

    Args:
        cells: see `steerlab.grid_cells.grid`.
        path: the folder; it keeps what to run (grid.json) and a file for each cell.
        runner: what a cell does: a function of (cell, model) that gives a record as `run_cell` does.
        progress: show a progress bar.

    Raises:
        FileExistsError, ValueError, OSError: a folder that holds something else, or another grid, or a cell that was changed, or that another
            process writes to, or that cannot be written.

    Example:
        >>> import tempfile
        >>> from steerlab.grid_cells import grid
        >>> cells = grid(datasets=["arithmetic:bare"], train=8, validation=8, test=20, layers=(3,), epochs=1, controls=0)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     first = run_grid(cells, f"{folder}/grid")
        ...     again = run_grid(cells, f"{folder}/grid")
        >>> first.records == again.records
        True
    """
    with _files.locked(path):
        folder = check_grid_folder(path, cells)
        _files.writable_folder(folder / "cells")
        _files.write_sealed(folder / GRID, FORMAT, {"cells": [described(cell) for cell in cells]})
        return _run_in(folder, cells, runner, progress)


def _run_in(folder: Path, cells: Sequence[GridCell], runner: Callable[..., dict[str, Any]], progress: bool) -> Universality:
    held: dict[tuple[Any, ...], Model] = {}
    paths = [
        folder / "cells" / f"{number:03d}-{re.sub(r'[^A-Za-z0-9.=-]+', '-', '-'.join(cell.key))[:80]}.json"
        for number, cell in enumerate(cells)
    ]
    found = {file: _kept(file, cell) for file, cell in zip(paths, cells, strict=True)}
    left = sum(record is None or "error" in record for record in found.values())
    records = []
    for file, cell in zip(paths, progress_bar(cells, desc="cells", unit="cell", show=progress), strict=True):
        record = found[file]
        if record is None or "error" in record:
            record = _run(cell, runner, held, left if progress and runner is run_cell else 0)
            _files.write_sealed(file, CELL, {"cell": described(cell), "record": record})
        records.append(record)
    return Universality(tuple(cells), tuple(records))


def _kept(file: Path, cell: GridCell) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    loaded = _files.read_sealed(file, CELL, "remove it, and the cell is run again")
    if loaded.get("cell") != json.loads(json.dumps(described(cell))):
        raise InputError(f"{file} holds another cell; use another folder, or remove it")
    record = loaded.get("record")
    if not isinstance(record, dict):
        raise InputFileError(f"{file}: holds no record; remove it, and the cell is run again")
    return record


def _run(cell: GridCell, runner: Callable[..., dict[str, Any]], held: dict[tuple[Any, ...], Model], foretold: int) -> dict[str, Any]:
    """The record of a cell; so many cells like it are forecast first, unless that is done."""
    key = (cell.model, cell.backend, cell.device, cell.dtype, cell.prepend_bos)
    try:
        if key not in held:
            held.clear()
            held[key] = load_model(cell.model, backend=cell.backend, device=cell.device, dtype=cell.dtype, prepend_bos=cell.prepend_bos)
        if foretold and forecast_wanted():
            made_of = [replace(one, runs=foretold * one.runs) for one in cell_work(cell, held[key])]
            forecast(held[key], made_of, show=True, extra=f" in {foretold} cells, if all are like the first")
        # As it will be read back, so that a run in one go and a resumed one give the same.
        found: dict[str, Any] = json.loads(json.dumps(runner(cell, held[key]), allow_nan=False))
    except Exception as error:  # noqa: BLE001 - whatever ends one cell must not end a grid of days; the message is recorded and reported
        return {"error": " ".join(f"{type(error).__name__}: {error}".split())}
    return found
