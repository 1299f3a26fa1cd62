"""Untrusted text and frames, made ready for a page: escaped, cut when very long, without what HTML cannot hold; what results say of themselves."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:  # tasks are results, and a script's --help names them
    import jinja2
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


def heads_of(frame: pd.DataFrame) -> int:
    """How many of a frame's index levels name its rows: an unnamed 0, 1, 2, ... says nothing."""
    import pandas as pd

    return 0 if isinstance(frame.index, pd.RangeIndex) and frame.index.name is None else frame.index.nlevels


class Cells(NamedTuple):
    """What a report shows of a frame: its heads, its first rows as a reader expects them, which columns are set as numbers, and what is left out."""

    names: list[object]
    rows: list[list[object]]
    heads: int
    right: list[bool]
    left_out: str


def cells(frame: pd.DataFrame, most: int = MOST_ROWS) -> Cells:
    """A frame as a report shows it, the columns of its index first."""
    heads, few = heads_of(frame), frame.head(most)
    rows = [
        [cell(value) for value in [*((row[0] if heads > 1 else (row[0],)) if heads else ()), *row[1:]]]
        for row in few.itertuples(index=True, name=None)
    ]
    names = [column(name) for name in [*(frame.index.names if heads else []), *frame.columns]]
    right = [False] * heads + [is_number(frame.iloc[:, i]) for i in range(frame.shape[1])]
    left_out = f" (the first {most} of {len(frame):,} rows)" if len(frame) > most else ""
    return Cells(names, rows, heads, right, left_out)


def is_number(values: pd.Series) -> bool:
    """Whether a column holds numbers."""
    import pandas as pd

    return pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)


def column(name: object) -> object:
    """The head of a column."""
    return " / ".join(map(str, name)) if isinstance(name, tuple) else "" if name is None else name


@cache
def templates() -> jinja2.Environment:
    """The templates of pages; whatever they insert is escaped."""
    import jinja2

    env = jinja2.Environment(
        loader=jinja2.PackageLoader("steerlab", "assets"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    env.globals |= {name.removesuffix("_LENGTH"): value for name, value in globals().items() if name.endswith("_LENGTH")} | {"LONG": LONG}
    env.filters |= {"plain": plain, "middle": middle, "cells": cells}
    return env


def render(template: str, **values: object) -> str:
    """A page, or a part of one, from a template in assets/."""
    return templates().get_template(template).render(values)


def cell(value: object) -> object:
    """A cell as a reader expects it: four significant digits, yes and no, a dash for what is missing."""
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        return "–" if math.isnan(value) else f"{value:.4g}".replace("-", "−", 1 if value < 0 else 0)
    if isinstance(value, int | np.integer):
        return str(value).replace("-", "−", 1)
    import pandas as pd

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
        import pandas as pd

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
        facts = {name.replace("_", " "): cell(value) for name, value in self._facts().items() if value is not None}
        table = None if self._shown else self.summary()
        return render("result.html.jinja", title=self._title, said=str(self), facts=facts, table=table, warnings=self.warnings())


class OneLine(Result):
    """A result that is one case."""

    @property
    def frame(self) -> pd.DataFrame:
        """One line: the numbers of `summary`."""
        return self.summary()

    def warnings(self) -> list[str]:
        """What a reader must know: where the interval is approximate."""
        found = self._facts().get("interval")
        return found.warnings() if isinstance(found, Result) else []


class Plotted(Result):
    """A result with one obvious figure."""

    def plot(self, **options: Any) -> Any:
        """The result's figure; options are those of its function in `steerlab.plots`."""
        return figure(self._figure, getattr(self, self._drawn)() if self._drawn else self, **options)

    def _page(self, title: str, question: str, caption: str, tables: dict[str, tuple[str, pd.DataFrame]], **more: Any) -> dict[str, Any]:
        """What `report_parts` of a study says: what it says of itself, its figure with a caption, its tables as {file: (caption, frame)}, and more."""
        page = {"title": title, "question": question, "answer": str(self), "warnings": self.warnings(), "tables": tables} | more
        return page if "figures" in more else page | {"figures": [(caption, self.plot())]}


def figure(name: str, what: object, **options: Any) -> Any:
    """A figure of `steerlab.plots`; the one place where a result asks for it, so that no other module imports what stands above it."""
    from steerlab import plots

    return getattr(plots, name)(what, **options)
