"""The blocks of a report: figures, tables, examples and paragraphs, each made from a plain value."""

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, TypeVar

import pandas as pd
import plotly.graph_objects as go

from steerlab._checks import InputError, InputTypeError
from steerlab._html import ANSWER_LENGTH, PROMPT_LENGTH, middle, plain
from steerlab.plots.sweeps import cell_key
from steerlab.sweeps.changes import CHANGE_COLUMNS

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

    def groups(self) -> Iterator[tuple[str, int, list[dict[Hashable, Any]]]]:
        """Those that became right and those that became wrong: how many, and the ones that are shown."""
        for became in ("right", "wrong"):
            rows = self.frame[self.frame["became"] == became]
            yield became, len(rows), rows.head(self.most).to_dict("records")


Block = str | Drawing | Table | Examples
Part = Block | tuple[Any, ...]
Section = tuple[str, Sequence[Part]]
B = TypeVar("B")


@dataclass(frozen=True, eq=False)
class Report:
    """A report, every part of it checked; a part in a tuple becomes a Drawing or a Table.

    Attributes:
        title: the heading.
        question: what was asked, in words.
        answer: what was found, in words, with its uncertainty.
        warnings: what a reader must know before believing it.
        figures: Drawings, or (caption, figure, text alternative); the last says in words what a reader who cannot see it
            needs. A Drawing with details lists the problems behind a point that is clicked on or chosen.
        tables: Tables, or (caption, frame); at most 200 rows of a frame are shown, and the caption then says so.
        sections: (heading, parts) that stand between the tables and the method, such as what was moved, diagnostics and
            side effects; a part is a paragraph, a Drawing, a Table (or a tuple for either) or Examples. One without parts is left out.
        method: paragraphs.
        provenance: names and values: versions, seeds, hashes.
        methods_paragraph: text to paste into a paper; a button copies it with its references.
        references: what the methods paragraph cites, one line each.

    Raises:
        TypeError: a part is of another type; the message names it.
        ValueError: a required text is empty.

    Example:
        >>> Report("Steering", "Does it matter?", "p = 0.01", tables=[("Accuracy.", pd.DataFrame({"alpha": [0, 1]}))]).tables[0].caption
        'Accuracy.'
    """

    title: str
    question: str
    answer: str
    warnings: Sequence[str] = ()
    figures: Sequence[Drawing | tuple[str, go.Figure, str]] = ()
    tables: Sequence[Table | tuple[str, pd.DataFrame]] = ()
    sections: Sequence[Section] = ()
    method: Sequence[str] = ()
    provenance: Mapping[str, object] | None = None
    methods_paragraph: str = ""
    references: Sequence[str] = ()
    contents: list[tuple[str, str, list[tuple[int, Block]]]] = field(init=False, repr=False)
    """Source, heading and numbered parts of what stands between the warnings and the method."""

    def __post_init__(self) -> None:
        for name in ("title", "question", "answer"):
            required(getattr(self, name), name)
        for name in ("warnings", "method", "references"):
            object.__setattr__(self, name, _texts(getattr(self, name), name))
        if self.methods_paragraph or self.references:
            required(self.methods_paragraph, "methods_paragraph")
        if not isinstance(self.provenance, Mapping | None):
            raise InputTypeError(f"provenance: got {type(self.provenance).__name__}; expected a mapping of names to values")
        given: object = self.sections
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise InputTypeError(f"sections: got {type(self.sections).__name__}; expected a list of (heading, parts)")
        for name, kind in (("figures", _drawing), ("tables", _table)):
            object.__setattr__(self, name, [kind(entry, f"{name}[{place}]") for place, entry in enumerate(getattr(self, name))])
        sections = [_section(entry, f"sections[{place}]") for place, entry in enumerate(self.sections)]
        numbers = {Drawing: count(1), Table: count(1)}
        object.__setattr__(
            self,
            "contents",
            [
                (source, heading, [(next(numbers[type(part)]) if type(part) in numbers else 0, part) for part in parts])
                for source, heading, parts in [("figures", "Figures", self.figures), ("tables", "Tables", self.tables), *sections]
                if parts
            ],
        )

    def all(self, kind: type[B]) -> list[B]:
        """All figures, tables or examples, in the order of their numbers."""
        return [part for _, _, parts in self.contents for _, part in parts if isinstance(part, kind)]


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


def _texts(values: object, name: str) -> list[str]:
    # A str is a sequence of its characters, which is never what was meant.
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise InputTypeError(f"{name}: got {type(values).__name__}; expected a list of str")
    return [required(value, f"{name}[{place}]") for place, value in enumerate(values)]


def _drawing(entry: object, name: str) -> Drawing:
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


def _table(entry: object, name: str) -> Table:
    if isinstance(entry, tuple | list) and len(entry) == 2:
        entry = Table(*entry)
    if not isinstance(entry, Table):
        raise InputTypeError(f"{name}: expected (caption, DataFrame) or a Table, got {type(entry).__name__}")
    if not isinstance(entry.frame, pd.DataFrame):
        raise InputTypeError(f"{name}: got {type(entry.frame).__name__}; expected a pandas DataFrame")
    required(entry.caption, f"{name} caption")
    return entry


def _block(entry: object, name: str) -> Block:
    if isinstance(entry, str):
        return required(entry, name)
    if isinstance(entry, Examples):
        required(entry.caption, f"{name} caption")
        _changes(entry.frame, f"{name} frame")
        return entry
    size = len(entry) if isinstance(entry, tuple | list) else 0
    if isinstance(entry, Drawing) or size == 3:
        return _drawing(entry, name)
    if isinstance(entry, Table) or size == 2:
        return _table(entry, name)
    raise InputTypeError(f"{name}: got {type(entry).__name__}; expected a paragraph, a Drawing, a Table or Examples")


def _section(entry: object, name: str) -> tuple[str, str, list[Block]]:
    if not isinstance(entry, tuple | list) or len(entry) != 2 or isinstance(entry[1], str) or not isinstance(entry[1], Sequence):
        raise InputTypeError(f"{name}: expected (heading, list of parts), got {type(entry).__name__}")
    return name, required(entry[0], f"{name} heading"), [_block(part, f"{name}[{k}]") for k, part in enumerate(entry[1])]


def _changes(frame: object, name: str) -> None:
    if not isinstance(frame, pd.DataFrame):
        raise InputTypeError(f"{name}: got {type(frame).__name__}; expected the DataFrame that steerlab.changed_problems returns")
    missing = [column for column in CHANGE_COLUMNS if column not in frame.columns]
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
