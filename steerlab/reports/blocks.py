"""The blocks of a report: figures, tables, examples and paragraphs, each made from a plain value."""

import json
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go

from steerlab._checks import InputError, InputTypeError
from steerlab._html import ANSWER_LENGTH, PROMPT_LENGTH, middle, plain
from steerlab.sweeps.changes import COLUMNS, cell_key

# Characters of a prompt, and problems of a cell that became right and that became wrong: the first pair that fits is taken.
LIMITS: Final = ((PROMPT_LENGTH, 20), (600, 20), (600, 10), (300, 10), (300, 5), (300, 3), (120, 3), (120, 2), (120, 1))
DETAILS_BYTES: Final = 350_000


@dataclass(frozen=True, eq=False)
class Drawing:
    """A figure of a report.

    Attributes:
        caption: what it is, in a line.
        figure: a Plotly figure.
        words: what a reader who cannot see it needs to know.
        details: what `steerlab.changed_problems` returns; a click on a point of the figure, or a choice from the list under it, then
            shows the problems behind that point.

    Example:
        >>> drawn = Drawing("Change of accuracy.", go.Figure(go.Scatter(y=[1, 2])), "It rises from 1 to 2.")
        >>> drawn.details is None
        True
    """

    caption: str
    figure: go.Figure
    words: str
    details: pd.DataFrame | None = None


@dataclass(frozen=True, eq=False)
class Table:
    """A table of a report.

    Attributes:
        caption: what it holds, in a line.
        frame: the cells; a report shows the first 200 rows, a CSV file all.

    Example:
        >>> Table("Accuracy.", pd.DataFrame({"alpha": [0, 1], "accuracy": [0.5, 0.6]})).frame.shape
        (2, 2)
    """

    caption: str
    frame: pd.DataFrame


@dataclass(frozen=True, eq=False)
class Examples:
    """Example problems of a report: the question, the answer before and the answer after.

    Attributes:
        caption: which problems.
        frame: lines of what `steerlab.changed_problems` returns.
        most: how many of those that became right, and how many of those that became wrong, are shown; the first ones.

    Example:
        >>> import steerlab as sl, torch
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> sw = sl.sweep(model, task.test[:30], sl.Direction(torch.ones(model.cfg.d_model), layer=2), alphas=[0, 2])
        >>> Examples("What changed at alpha = 2.", sl.changed_problems(sw)).frame["became"].isin(["right", "wrong"]).all().item()
        True
    """

    caption: str
    frame: pd.DataFrame
    most: int = 5


Part = str | Drawing | Table | Examples | tuple[Any, ...]
Section = tuple[str, Sequence[Part]]


def required(text: object, name: str) -> str:
    """A text that is there.

    Raises:
        TypeError: not a str.
        ValueError: empty.
    """
    if not isinstance(text, str):
        raise InputTypeError(f"{name}: got {type(text).__name__}; expected a str")
    if not text.strip():
        raise InputError(f"{name}: empty; a report needs one in words")
    return text


def texts(values: Sequence[str], name: str) -> list[str]:
    """A list of texts that are there."""
    # A str is a sequence of its characters, which is never what was meant.
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise InputTypeError(f"{name}: got {type(values).__name__}; expected a list of str")
    return [required(value, f"{name}[{place}]") for place, value in enumerate(values)]


def as_drawing(entry: object, name: str) -> Drawing:
    """A drawing, or (caption, figure, words) as one."""
    if isinstance(entry, tuple | list) and len(entry) == 3:
        entry = Drawing(*entry)
    if not isinstance(entry, Drawing):
        raise InputTypeError(f"{name}: expected (caption, Figure, text alternative) or a Drawing, got {type(entry).__name__}")
    if not isinstance(entry.figure, go.Figure):
        raise InputTypeError(f"{name}: got {type(entry.figure).__name__}; expected a plotly.graph_objects.Figure")
    required(entry.caption, f"{name} caption")
    required(entry.words, f"{name} text")
    if entry.details is not None:
        _changes(entry.details, f"{name} details")
    return entry


def as_table(entry: object, name: str) -> Table:
    """A table, or (caption, frame) as one."""
    if isinstance(entry, tuple | list) and len(entry) == 2:
        entry = Table(*entry)
    if not isinstance(entry, Table):
        raise InputTypeError(f"{name}: expected (caption, DataFrame) or a Table, got {type(entry).__name__}")
    if not isinstance(entry.frame, pd.DataFrame):
        raise InputTypeError(f"{name}: got {type(entry.frame).__name__}; expected a pandas DataFrame")
    required(entry.caption, f"{name} caption")
    return entry


def as_part(entry: object, name: str) -> str | Drawing | Table | Examples:
    """A part of a section: a paragraph, a drawing, a table (or a tuple for either), or examples."""
    if isinstance(entry, str):
        return required(entry, name)
    if isinstance(entry, Examples):
        required(entry.caption, f"{name} caption")
        _changes(entry.frame, f"{name} frame")
        return entry
    if isinstance(entry, Drawing) or (isinstance(entry, tuple | list) and len(entry) == 3):
        return as_drawing(entry, name)
    if isinstance(entry, Table) or (isinstance(entry, tuple | list) and len(entry) == 2):
        return as_table(entry, name)
    raise InputTypeError(f"{name}: got {type(entry).__name__}; expected a paragraph, a Drawing, a Table or Examples")


def as_sections(sections: Sequence[Section]) -> list[tuple[str, list[str | Drawing | Table | Examples]]]:
    """Headings with their parts; a section without parts is left out."""
    given: object = sections
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise InputTypeError(f"sections: got {type(sections).__name__}; expected a list of (heading, parts)")
    found = []
    for place, entry in enumerate(sections):
        if not isinstance(entry, tuple | list) or len(entry) != 2 or isinstance(entry[1], str) or not isinstance(entry[1], Sequence):
            raise InputTypeError(f"sections[{place}]: expected (heading, list of parts), got {type(entry).__name__}")
        heading = required(entry[0], f"sections[{place}] heading")
        parts = [as_part(part, f"sections[{place}][{k}]") for k, part in enumerate(entry[1])]
        if parts:
            found.append((heading, parts))
    return found


def as_provenance(values: object) -> Mapping[str, object]:
    """Names and values."""
    if not isinstance(values, Mapping):
        raise InputTypeError(f"provenance: got {type(values).__name__}; expected a mapping of names to values")
    return values


def _changes(frame: object, name: str) -> None:
    if not isinstance(frame, pd.DataFrame):
        raise InputTypeError(f"{name}: got {type(frame).__name__}; expected the DataFrame that steerlab.changed_problems returns")
    missing = [column for column in COLUMNS if column not in frame.columns]
    if missing:
        raise InputError(f"{name}: no column {', '.join(missing)}; expected what steerlab.changed_problems returns")


def details_payload(frame: pd.DataFrame) -> dict[str, Any]:
    """Changed problems as a page holds them: every problem once, every cell with its counts and its first problems.

    At most 20 problems a cell became right and 20 became wrong; fewer, and shorter prompts, where all cells together
    would take more than 350 kB.
    """
    cells = _cells(frame)
    payload: dict[str, Any] = {}
    for length, most in LIMITS:
        payload = _payload(cells, length, most)
        if len(json.dumps(payload)) <= DETAILS_BYTES:
            break
    return payload


def _cells(frame: pd.DataFrame) -> list[tuple[dict[str, Any], list[dict[Hashable, Any]]]]:
    """Name and counts of each cell, with its lines."""
    several = frame["direction"].nunique() > 1
    most = max(shown for _, shown in LIMITS)
    cells = []
    for key, cell in frame.groupby(["layer", "direction", "alpha"], sort=True):
        layer, direction, alpha = key[0], key[1], float(str(key[2]))
        parts = {became: cell[cell["became"] == became] for became in ("right", "wrong")}
        where = f"layer {layer}, alpha {'+' if alpha > 0 else ''}{alpha:g}".replace("-", "−")
        about = {
            "key": cell_key(layer, alpha, direction),
            "name": f"{where}, {plain(direction, 60)}" if several else where,
            **{became: len(part) for became, part in parts.items()},
        }
        cells.append((about, [row for part in parts.values() for row in part.head(most).to_dict("records")]))
    return cells


def _payload(cells: list[tuple[dict[str, Any], list[dict[Hashable, Any]]]], length: int, most: int) -> dict[str, Any]:
    places: dict[str, int] = {}
    problems: list[list[str]] = []
    listed = []
    for about, rows in cells:
        shown = []
        for became in ("right", "wrong"):
            for row in [row for row in rows if row["became"] == became][:most]:
                name = str(row["problem_id"])
                if name not in places:
                    places[name] = len(problems)
                    answers = [plain(row[key], ANSWER_LENGTH) for key in ("target", "before")]
                    problems.append([plain(name, ANSWER_LENGTH), middle(row["prompt"], length), *answers])
                shown.append([places[name], plain(row["after"], ANSWER_LENGTH), became])
        listed.append({**about, "shown": shown})
    return {"cells": listed, "problems": problems}
