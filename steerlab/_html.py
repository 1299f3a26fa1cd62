"""Untrusted text as HTML: escaped, isolated from the direction of the text around it, and cut when very long; what results say of themselves."""

import json
import math
import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np
import pandas as pd

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


def text(value: object, limit: int) -> str:
    """Untrusted text for the page: escaped, in a bdi of its own, with the full start as a tooltip when it was cut."""
    shown = str(value)
    tooltip = f' title="{escape(plain(shown, TOOLTIP_LENGTH))}"' if len(shown) > limit else ""
    return f"<bdi{tooltip}>{escape(plain(shown, limit))}</bdi>"


def paragraph(value: str) -> str:
    """A paragraph; its line breaks show."""
    return f"<p>{text(value, PARAGRAPH_LENGTH)}</p>"


def data(name: str, value: Any) -> str:
    """A value as JSON in a script element that no character of it can end."""
    shown = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    # ASCII JSON in which no character can end the script element or open a comment in it.
    for character in "<>&":
        shown = shown.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{name}">{shown}</script>'


def heads_of(frame: pd.DataFrame) -> int:
    """How many of a frame's index levels name its rows: an unnamed 0, 1, 2, ... says nothing."""
    return 0 if isinstance(frame.index, pd.RangeIndex) and frame.index.name is None else frame.index.nlevels


def names_of(frame: pd.DataFrame) -> list[object]:
    """The heads of the columns that are shown, those of the index first."""
    return [column(name) for name in [*(frame.index.names if heads_of(frame) else []), *frame.columns]]


def rows_of(frame: pd.DataFrame) -> list[list[Any]]:
    """The cells that are shown, row by row, those of the index first."""
    heads = heads_of(frame)
    return [[*((row[0] if heads > 1 else (row[0],)) if heads else ()), *row[1:]] for row in frame.itertuples(index=True, name=None)]


def numeric(frame: pd.DataFrame) -> list[bool]:
    """Which of the shown columns are set as numbers."""
    return [False] * heads_of(frame) + [is_number(frame.iloc[:, i]) for i in range(frame.shape[1])]


def table(place: int, caption: str, frame: pd.DataFrame) -> str:
    """A frame as a table that scrolls inside the page; at most 200 rows, and the caption then says so."""
    said = f"Table {place}. {text(caption, PARAGRAPH_LENGTH)}{left_out(frame)}"
    return scrolling(f"table-{place}", said, _lines(frame, MOST_ROWS), long=len(frame) > LONG)


def left_out(frame: pd.DataFrame, most: int = MOST_ROWS) -> str:
    """What a caption says of a long table."""
    return f" (the first {most} of {len(frame):,} rows)" if len(frame) > most else ""


def _lines(frame: pd.DataFrame, most: int) -> str:
    heads, right = heads_of(frame), numeric(frame)
    head = "".join(
        f'<th scope="col"{" class=number" if number else ""}>{text(shown, CELL_LENGTH)}</th>'
        for shown, number in zip(names_of(frame), right, strict=True)
    )
    body = "\n".join(_row(cells, heads, right) for cells in rows_of(frame.head(most)))
    return f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>"


def scrolling(name: str, caption: str, rows: str, *, long: bool = False) -> str:
    """A table in a region that scrolls by keyboard; the caption stays in sight, and a long table does not fill the page."""
    return (
        f'<div class="scroll{" long" if long else ""}" role="region" aria-labelledby="{name}" tabindex="0"><table>\n'
        f'<caption id="{name}"><span class="caption">{caption}</span></caption>\n{rows}\n</table></div>'
    )


def _row(cells: Sequence[Any], heads: int, right: Sequence[bool]) -> str:
    parts = []
    for place, (value, number) in enumerate(zip(cells, right, strict=True)):
        content = text(cell(value), CELL_LENGTH)
        kind = "number" if number else "text"
        parts.append(f'<th scope="row">{content}</th>' if place < heads else f'<td class="{kind}">{content}</td>')
    return f"<tr>{''.join(parts)}</tr>"


def is_number(values: pd.Series) -> bool:
    """Whether a column holds numbers."""
    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def column(name: object) -> object:
    """The head of a column."""
    return " / ".join(map(str, name)) if isinstance(name, tuple) else "" if name is None else name


def cell(value: object) -> object:
    """A cell as a reader expects it: four significant digits, yes and no, a dash for what is missing."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return "–" if math.isnan(value) else f"{value:.4g}".replace("-", "−", 1 if value < 0 else 0)
    if isinstance(value, int | np.integer):
        return str(value).replace("-", "−", 1)
    return "–" if value is None or value is pd.NaT or value is pd.NA else value


def few(frame: pd.DataFrame, column: str) -> pd.DataFrame:
    """At most 30 lines of a frame: those with the largest numbers of a column, of either sign, in the frame's order."""
    largest = frame[column].abs().sort_values(ascending=False, kind="stable").index[:LONG]
    return frame.loc[largest].sort_index().reset_index(drop=True)


class Result:
    """What every result says of itself in the same words: `frame` (tidy, one line a case), `summary`, `warnings`; a notebook shows the last two.

    Args:
        title: what stands above; default the result as text.
        shown: the attributes and methods that give the numbers of a result of few; others are summed up by their frame, or have a `summary` of their own.
        by: of a longer frame, the column whose 30 largest numbers are summed up.
        figure: the function of `steerlab.plots` that shows it.
        drawn: the method that gives what is drawn; default the result itself.
    """

    _title: ClassVar[str] = ""
    _shown: ClassVar[Sequence[str]] = ()
    _by: ClassVar[str] = ""
    _figure: ClassVar[str] = ""
    _drawn: ClassVar[str] = ""

    def __init_subclass__(cls, title: str = "", shown: str = "", by: str = "", figure: str = "", drawn: str = "", **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._title, cls._shown = title or cls._title, shown.split() or cls._shown
        cls._by, cls._figure, cls._drawn = by or cls._by, figure or cls._figure, drawn or cls._drawn

    if TYPE_CHECKING:

        @property
        def frame(self) -> pd.DataFrame: ...

    def _facts(self) -> dict[str, Any]:
        """What was to be shown; of an array, how many values it has."""
        facts: dict[str, Any] = {}
        for name in self._shown:
            value = getattr(self, name)
            if isinstance(value, np.ndarray) or (isinstance(value, tuple) and all(isinstance(one, float) for one in value)):
                facts[f"n_{name}"] = len(value)
            else:
                facts[name] = value() if callable(value) else value
        return facts

    def summary(self) -> pd.DataFrame:
        """The result in a few lines; an interval's ends are `low` and `high`."""
        if not self._shown:
            return few(self.frame, self._by) if self._by else self.frame.copy()
        line: dict[str, Any] = {}
        for name, value in self._facts().items():
            if hasattr(value, "confidence"):
                stem = name.removesuffix("interval")
                line |= {f"{stem}low": value.low, f"{stem}high": value.high}
            else:
                line[name] = value
        return pd.DataFrame([line])

    def warnings(self) -> list[str]:
        """What a reader must know, a sentence each."""
        return []

    def _repr_html_(self) -> str:
        head = f"<table><caption>{text(self._title, LINE_LENGTH)}</caption>" if self._title else f"{paragraph(str(self))}<table>"
        if self._shown:
            facts = {name.replace("_", " "): cell(value) for name, value in self._facts().items() if value is not None}
            lines = "".join(
                f'<tr><th scope="row">{escape(name)}</th><td>{text(value, CELL_LENGTH)}</td></tr>' for name, value in facts.items()
            )
            body = f"<tbody>{lines}</tbody></table>"
        else:
            table = self.summary()
            body = f"{_lines(table, LONG)}</table>{left_out(table, LONG)}"
        return head + body + "".join(map(paragraph, self.warnings()))


class OneLine(Result):
    """A result that is one case."""

    @property
    def frame(self) -> pd.DataFrame:
        """One line: the numbers of `summary`."""
        return self.summary()


class Plotted(Result):
    """A result with one obvious figure."""

    def plot(self, **options: Any) -> Any:
        """The result's figure; options are those of its function in `steerlab.plots`."""
        from steerlab import plots

        return getattr(plots, self._figure)(getattr(self, self._drawn)() if self._drawn else self, **options)
