"""From results to one HTML page that stands alone: no network, and nothing on it is trusted."""

import hashlib
import json
import math
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib import resources
from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from steerlab.plots import theme

MOST_BYTES: Final = 6_000_000
MOST_ROWS: Final = 200
CELL_LENGTH: Final = 80
ANSWER_LENGTH: Final = 600  # of a cell that is a sentence, and so can be broken between words
LINE_LENGTH: Final = 300
PARAGRAPH_LENGTH: Final = 5_000
TOOLTIP_LENGTH: Final = 1_000

STYLE: Final = resources.files("steerlab").joinpath("assets/report.css").read_text(encoding="utf-8")

# A figure's text alternative stands in its place until it is drawn, and stays if it cannot be.
SCRIPT: Final = resources.files("steerlab").joinpath("assets/report.js").read_text(encoding="utf-8")


def render_report(
    *,
    title: str,
    question: str,
    answer: str,
    warnings: Sequence[str] = (),
    figures: Sequence[tuple[str, go.Figure, str]] = (),
    tables: Sequence[tuple[str, pd.DataFrame]] = (),
    method: Sequence[str] = (),
    provenance: Mapping[str, object] | None = None,
) -> str:
    """A report as one self-contained HTML page: question, answer, warnings, then the evidence.

    The page loads nothing, runs two scripts that it names by hash (Plotly and its own), and treats every text as
    untrusted: escaped, isolated from the direction of the text around it, and cut when very long (the full start of a
    cut cell is its tooltip). The same input gives the same bytes.

    Args:
        title: The page's heading.
        question: What was asked, in words.
        answer: What was found, in words, with its uncertainty.
        warnings: What a reader must know before believing it.
        figures: (caption, figure, text alternative); the last says in words what a reader who cannot see it needs.
        tables: (caption, frame); at most 200 rows of a frame are shown, and the caption then says so.
        method: Paragraphs.
        provenance: Names and values: versions, seeds, hashes.

    Raises:
        TypeError: A part is of another type; the message names it.
        ValueError: A required text is empty, or the page would be larger than 6 MB.
    """
    for name, text in (("title", title), ("question", question), ("answer", answer)):
        _required(text, name)
    body = [
        f"<h1>{_text(title, LINE_LENGTH)}</h1>",
        _section("question", "Question", _paragraph(question)),
        _section("answer", "Answer", _paragraph(answer)),
        _section("warnings", "Warnings", _warnings(_texts(warnings, "warnings"))),
    ]
    drawn = [_figure(place, *_figure_parts(entry, place)) for place, entry in enumerate(figures, start=1)]
    if drawn:
        body.append(_section("figures", "Figures", "\n".join(drawn)))
    shown = [_table(place, *_table_parts(entry, place)) for place, entry in enumerate(tables, start=1)]
    if shown:
        body.append(_section("tables", "Tables", "\n".join(shown)))
    paragraphs = [_paragraph(text) for text in _texts(method, "method")]
    if paragraphs:
        body.append(_section("method", "Method", "\n".join(paragraphs)))
    if provenance is not None:
        body.append(_section("provenance", "Provenance", _provenance(provenance)))
    page = _page(title, "\n".join(body), scripts=bool(drawn))
    size = len(page.encode())
    if size > MOST_BYTES:
        parts = {f"figures[{i}]": len(part) for i, part in enumerate(drawn)}
        parts |= {f"tables[{i}]": len(part) for i, part in enumerate(shown)}
        largest = max(parts, key=lambda name: parts[name], default="the text")
        raise ValueError(f"the page has {size:,} bytes: at most {MOST_BYTES:,} are allowed; shorten {largest}")
    return page


def _page(title: str, body: str, scripts: bool) -> str:
    plotly = f"\n{_plotly()}\n"
    # Plotly adds an empty style element and fills it by script, hence the hash of nothing.
    style = f"style-src-elem {_hash(STYLE)} {_hash('')}; style-src-attr 'unsafe-inline'"
    script = f"script-src {_hash(plotly)} {_hash(SCRIPT)}; " if scripts else ""
    policy = f"default-src 'none'; {script}{style}; img-src data: blob:; base-uri 'none'; form-action 'none'"
    code = ""
    if scripts:
        themes = {"light": theme.TEMPLATE.to_plotly_json(), "dark": theme.DARK_TEMPLATE.to_plotly_json()}
        code = f"{_map_styles()}{_data('themes', themes)}\n<script>{plotly}</script>\n<script>{SCRIPT}</script>\n"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{escape(_plain(title, LINE_LENGTH))}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
{body}
</main>
{code}</body>
</html>
"""


@cache
def _plotly() -> str:
    return str(get_plotlyjs())


@cache
def _map_styles() -> str:
    # Plotly adds the styles of its maps unless an element has their id; the policy would refuse them with an error.
    names = sorted(set(re.findall(r'getElementById\("([0-9a-f]{64})"\)', _plotly())))
    return "".join(f'<template id="{name}"></template>\n' for name in names)


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _section(name: str, heading: str, content: str) -> str:
    return f'<section class="{name}" aria-labelledby="{name}"><h2 id="{name}">{heading}</h2>\n{content}\n</section>'


def _plain(value: object, limit: int) -> str:
    """Text without what HTML cannot hold (lone surrogates, NUL and other controls), cut to `limit` characters."""
    text = str(value)
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", text)


def _text(value: object, limit: int) -> str:
    """Untrusted text for the page: escaped, in a bdi of its own, with the full start as a tooltip when it was cut."""
    text = str(value)
    tooltip = f' title="{escape(_plain(text, TOOLTIP_LENGTH))}"' if len(text) > limit else ""
    return f"<bdi{tooltip}>{escape(_plain(text, limit))}</bdi>"


def _paragraph(text: str) -> str:
    return f"<p>{_text(text, PARAGRAPH_LENGTH)}</p>"


def _required(text: object, name: str) -> str:
    if not isinstance(text, str):
        raise TypeError(f"{name}: got {type(text).__name__}; expected a str")
    if not text.strip():
        raise ValueError(f"{name}: empty; a report needs one in words")
    return text


def _texts(values: Sequence[str], name: str) -> list[str]:
    # A str is a sequence of its characters, which is never what was meant.
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise TypeError(f"{name}: got {type(values).__name__}; expected a list of str")
    return [_required(value, f"{name}[{place}]") for place, value in enumerate(values)]


def _warnings(texts: list[str]) -> str:
    if not texts:
        return "<p>No warnings.</p>"
    items = "\n".join(f"<li>{_text(text, PARAGRAPH_LENGTH)}</li>" for text in texts)
    return f"<ul>\n{items}\n</ul>"


def _figure_parts(entry: object, place: int) -> tuple[str, go.Figure, str]:
    if not isinstance(entry, tuple | list) or len(entry) != 3:
        raise TypeError(f"figures[{place - 1}]: expected (caption, Figure, text alternative), got {type(entry).__name__}")
    caption, fig, words = entry
    if not isinstance(fig, go.Figure):
        raise TypeError(f"figures[{place - 1}]: got {type(fig).__name__}; expected a plotly.graph_objects.Figure")
    return _required(caption, f"figures[{place - 1}] caption"), fig, _required(words, f"figures[{place - 1}] text")


def _figure(place: int, caption: str, fig: go.Figure, words: str) -> str:
    spec = json.loads(fig.to_json(engine="json"))
    own = fig.layout.template == theme.TEMPLATE
    if own:
        del spec["layout"]["template"]
    name, theme_name = f"figure-{place}", "own" if own else "foreign"
    label = escape(_plain(words, TOOLTIP_LENGTH))
    return (
        f'<figure>\n<div class="plot {theme_name}" id="{name}" data-theme="{theme_name}" '
        f'role="img" aria-label="{label}"><p>{_text(words, PARAGRAPH_LENGTH)}</p></div>\n'
        f"<figcaption>Figure {place}. {_text(caption, PARAGRAPH_LENGTH)}</figcaption>\n"
        f"{_data(f'{name}-data', _without_links(spec))}\n</figure>"
    )


def _data(name: str, value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    # ASCII JSON in which no character can end the script element or open a comment in it.
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return f'<script type="application/json" id="{name}">{text}</script>'


def _without_links(value: Any) -> Any:
    """A figure's parts without the link tags that Plotly would make clickable; all other text is as it was."""
    if isinstance(value, dict):
        return {key: _without_links(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_links(part) for part in value]
    return re.sub(r"(?i)<(?=\s*/?\s*a[\s>/])", "&lt;", value) if isinstance(value, str) else value


def _table_parts(entry: object, place: int) -> tuple[str, pd.DataFrame]:
    if not isinstance(entry, tuple | list) or len(entry) != 2:
        raise TypeError(f"tables[{place - 1}]: expected (caption, DataFrame), got {type(entry).__name__}")
    caption, frame = entry
    if not isinstance(frame, pd.DataFrame):
        raise TypeError(f"tables[{place - 1}]: got {type(frame).__name__}; expected a pandas DataFrame")
    return _required(caption, f"tables[{place - 1}] caption"), frame


def _table(place: int, caption: str, frame: pd.DataFrame) -> str:
    name = f"table-{place}"
    # An unnamed 0, 1, 2, ... says nothing; any other index is the rows' name.
    heads = 0 if isinstance(frame.index, pd.RangeIndex) and frame.index.name is None else frame.index.nlevels
    shown = frame.head(MOST_ROWS)
    rows = shown.itertuples(index=True, name=None)
    left_out = f" (the first {MOST_ROWS} of {len(frame):,} rows)" if len(frame) > MOST_ROWS else ""
    names = [*(frame.index.names if heads else []), *frame.columns]
    right = [False] * heads + [_is_number(frame.iloc[:, i]) for i in range(frame.shape[1])]
    head = "".join(
        f'<th scope="col"{" class=number" if number else ""}>{_text(_column(column), CELL_LENGTH)}</th>'
        for column, number in zip(names, right, strict=True)
    )
    body = "\n".join(_row(row, heads, right) for row in rows)
    return (
        f'<div class="scroll" role="region" aria-labelledby="{name}" tabindex="0"><table>\n'
        f'<caption id="{name}">Table {place}. {_text(caption, PARAGRAPH_LENGTH)}{left_out}</caption>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _row(row: tuple[Any, ...], heads: int, right: list[bool]) -> str:
    index = row[0] if heads > 1 else (row[0],)
    cells = [*(index if heads else ()), *row[1:]]
    parts = []
    for place, (cell, number) in enumerate(zip(cells, right, strict=True)):
        sentence = isinstance(cell, str) and " " in cell[:CELL_LENGTH]
        content = _text(_cell(cell), ANSWER_LENGTH if sentence else CELL_LENGTH)
        kind = "number" if number else "text"
        parts.append(f'<th scope="row">{content}</th>' if place < heads else f'<td class="{kind}">{content}</td>')
    return f"<tr>{''.join(parts)}</tr>"


def _is_number(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _column(name: object) -> object:
    return " / ".join(map(str, name)) if isinstance(name, tuple) else "" if name is None else name


def _cell(value: object) -> object:
    """A cell as a reader expects it: four significant digits, yes and no, a dash for what is missing."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:.4g}".replace("-", "−", 1 if value < 0 else 0)
    if isinstance(value, int):
        return str(value).replace("-", "−", 1)
    return "–" if value is None or value is pd.NaT or value is pd.NA else value


def _provenance(values: Mapping[str, object]) -> str:
    if not isinstance(values, Mapping):
        raise TypeError(f"provenance: got {type(values).__name__}; expected a mapping of names to values")
    rows = "\n".join(
        f'<tr><th scope="row">{_text(name, CELL_LENGTH)}</th><td class="text">{_text(value, LINE_LENGTH)}</td></tr>'
        for name, value in values.items()
    )
    return (
        '<div class="scroll" role="region" aria-labelledby="provenance-table" tabindex="0"><table>\n'
        '<caption id="provenance-table">What this was made from</caption>\n'
        f'<thead><tr><th scope="col">what</th><th scope="col">value</th></tr></thead>\n<tbody>\n{rows}\n</tbody>\n'
        "</table></div>"
    )
