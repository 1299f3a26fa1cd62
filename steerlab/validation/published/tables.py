"""The published numbers and the claims about them, read from CSV files and checked."""

import csv
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pandas as pd

from steerlab._checks import InputError, MissingFileError
from steerlab._files import reading
from steerlab.validation.published.numbers import Printed, printed

CLAIMS = "claims.csv"
RESULT = "audit.csv"
CELL_COLUMNS = ("document", "heading", "table", "row", "column", "printed")
CLAIM_COLUMNS = ("document", "heading", "id", "claim", "claimed", "reading", "recipe", "arguments", "note", "repeats")
MAY_BE_EMPTY = ("reading", "arguments", "note", "repeats")


@dataclass(frozen=True)
class Cell:
    """One printed number and where it stands."""

    document: str
    table: str
    row: str
    column: str
    value: Printed

    def __str__(self) -> str:
        return self.value.text


Cells = tuple[Cell, ...]


def read_folder(folder: str | Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The numbers of all documents in a folder, and the claims.

    Args:
        folder: holds claims.csv, and one CSV of numbers per document, named after it.

    Returns:
        Two frames of text, as `judge` takes them.

    Raises:
        FileNotFoundError: the folder, its claims or its numbers are not there.
        ValueError: a file is not such a table; the message names file, line and value.
    """
    here = Path(folder)
    if not (here / CLAIMS).is_file():
        raise MissingFileError(f"{here / CLAIMS} is not there; give a folder with {CLAIMS} and one CSV of numbers per document")
    claims = _read(here / CLAIMS, CLAIM_COLUMNS)
    parts = []
    for path in sorted(here.glob("*.csv")):
        if path.name in (CLAIMS, RESULT):
            continue
        part = _read(path, CELL_COLUMNS)
        for line, document in enumerate(part["document"], start=2):
            if document != path.stem:
                raise InputError(f"{path.name} line {line}: document={document!r}; the file holds the numbers of {path.stem!r} only")
        parts.append(part)
    if not parts:
        raise MissingFileError(f"{here} has {CLAIMS} and no CSV of numbers; add one per document")
    return pd.concat(parts, ignore_index=True), claims


def _read(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    # Not pandas' own reader: it fills short lines and cuts long ones without a word.
    try:
        with reading(path), path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.reader(file, strict=True))
    except (csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path.name}: not a CSV table in UTF-8 ({error}); its columns are {', '.join(columns)}") from error
    header, rows = (lines[0], lines[1:]) if lines else ([], [])
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise InputError(f"{path.name} line {number}: {len(row)} fields under {len(header)} columns; quote a field that has a comma")
    frame = pd.DataFrame(rows, columns=header, dtype=object)
    check_columns(frame, columns, path.name)
    return frame


def check_columns(frame: pd.DataFrame, columns: tuple[str, ...], name: str) -> None:
    """Refuse a table with other columns, or with an empty field where one is needed."""
    if tuple(frame.columns) != columns:
        raise InputError(f"{name}: columns {', '.join(map(str, frame.columns))}; expected {', '.join(columns)}")
    for column in columns:
        if column in MAY_BE_EMPTY:
            continue
        empty = [line for line, value in enumerate(frame[column], start=2) if not isinstance(value, str) or not value.strip()]
        if empty:
            raise InputError(f"{name} line {empty[0]}: no {column}; fill it in")


class Numbers:
    """Printed numbers, found by ``table/row/column`` or ``document:table/row/column``.

    Args:
        frame: columns document, heading, table, row, column and printed, all of them text.

    Raises:
        ValueError: other columns, a number that cannot be read, or two numbers in the same place.
    """

    def __init__(self, frame: pd.DataFrame) -> None:
        check_columns(frame, CELL_COLUMNS, "numbers")
        self._cells: dict[tuple[str, str, str, str], Cell] = {}
        for document, _, table, row, column, text in frame.itertuples(index=False, name=None):
            place = (document, table, row, column)
            if place in self._cells:
                raise InputError(f"{document}: {table}/{row}/{column} is there twice; give every number a place of its own")
            try:
                value = printed(text)
            except ValueError as error:
                raise InputError(f"{document}: {table}/{row}/{column}: {error}") from error
            self._cells[place] = Cell(document, table, row, column, value)

    def find(self, reference: str, document: str) -> Cells:
        """The cells that a reference names, in the order of the file.

        Args:
            reference: each part may hold ``*`` for anything, and ``|`` between alternatives.
            document: where to look when the reference names none.

        Raises:
            ValueError: not a reference, or an alternative of it names nothing.
        """
        prefix, colon, rest = reference.partition(":")
        where, path = (prefix, rest) if colon else (document, reference)
        parts = [part.split("|") for part in path.split("/")]
        if len(parts) != 3:
            raise InputError(f"{reference!r}: not a place; write table/row/column or document:table/row/column")
        inside = [place for place in self._cells if place[0] == where]
        for depth, alternatives in enumerate(parts, start=1):
            for pattern in alternatives:
                if not any(fnmatchcase(place[depth], pattern) for place in inside):
                    raise InputError(f"{reference!r}: nothing in {where} is called {pattern!r}; see {where}.csv")
            inside = [place for place in inside if any(fnmatchcase(place[depth], pattern) for pattern in alternatives)]
        return tuple(self._cells[place] for place in inside)
