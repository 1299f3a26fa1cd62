"""Untrusted text and frames, made ready for a page: cut when very long, without what HTML cannot hold."""

import math
import re
from collections.abc import Mapping
from html import escape
from typing import Final, NamedTuple

import pandas as pd


def html_table(title: str, rows: Mapping[str, object]) -> str:
    """A small table of names and values for notebooks; everything in it is escaped."""
    body = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in rows.items())
    return f"<table><caption>{escape(title)}</caption><tbody>{body}</tbody></table>"


MOST_ROWS: Final = 200
LONG: Final = 30  # rows; more scroll in a window of their own
CELL_LENGTH: Final = 300
LINE_LENGTH: Final = 300
PARAGRAPH_LENGTH: Final = 5_000
PROMPT_LENGTH: Final = 1_200
ANSWER_LENGTH: Final = 200
TOOLTIP_LENGTH: Final = 1_000


def plain(value: object, limit: int) -> str:
    """Text without what HTML cannot hold (lone surrogates, NUL and other controls), cut to `limit` characters."""
    text = str(value)
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", text)


def middle(value: object, limit: int) -> str:
    """Text cut in its middle: a prompt's question stands at its end, often after long examples."""
    shown = str(value)
    if len(shown) > limit:
        start, end = limit // 3, limit - limit // 3
        shown = f"{shown[:start]}\n[… {len(shown) - limit:,} characters …]\n{shown[-end:]}"
    return plain(shown, len(shown))


def heads_of(frame: pd.DataFrame) -> int:
    """How many of a frame's index levels name its rows: an unnamed 0, 1, 2, ... says nothing."""
    return 0 if isinstance(frame.index, pd.RangeIndex) and frame.index.name is None else frame.index.nlevels


class Cells(NamedTuple):
    """What a report shows of a frame: its heads, its first rows as a reader expects them, which columns are set as numbers, and what is left out."""

    names: list[object]
    rows: list[list[object]]
    heads: int
    right: list[bool]
    left_out: str


def cells(frame: pd.DataFrame) -> Cells:
    """A frame as a report shows it, the columns of its index first; at most 200 rows."""
    heads, few = heads_of(frame), frame.head(MOST_ROWS)
    rows = [
        [cell(value) for value in [*((row[0] if heads > 1 else (row[0],)) if heads else ()), *row[1:]]]
        for row in few.itertuples(index=True, name=None)
    ]
    names = [column(name) for name in [*(frame.index.names if heads else []), *frame.columns]]
    right = [False] * heads + [is_number(frame.iloc[:, i]) for i in range(frame.shape[1])]
    left_out = f" (the first {MOST_ROWS} of {len(frame):,} rows)" if len(frame) > MOST_ROWS else ""
    return Cells(names, rows, heads, right, left_out)


def is_number(values: pd.Series) -> bool:
    """Whether a column holds numbers."""
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def column(name: object) -> object:
    """The head of a column."""
    return " / ".join(map(str, name)) if isinstance(name, tuple) else "" if name is None else name


def cell(value: object) -> object:
    """A cell as a reader expects it: four significant digits, yes and no, a dash for what is missing."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4g}".replace("-", "−", 1 if value < 0 else 0)
    if isinstance(value, int):
        return str(value).replace("-", "−", 1)
    return "–" if value is None or value is pd.NaT or value is pd.NA else value
