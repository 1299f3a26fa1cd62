"""One self-contained HTML page from results: nothing is loaded from a network, and all text is escaped."""

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from functools import cache
from html import escape
from importlib import resources
from itertools import count
from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from steerlab import _html
from steerlab._checks import InputError
from steerlab._html import ANSWER_LENGTH, CELL_LENGTH, LINE_LENGTH, PARAGRAPH_LENGTH, PROMPT_LENGTH, TOOLTIP_LENGTH, paragraph, text
from steerlab.plots import theme
from steerlab.reports import blocks
from steerlab.reports.blocks import Drawing, Examples, Part, Section, Table

__all__ = ["MOST_BYTES", "Drawing", "Examples", "Part", "Section", "Table", "render_report"]

MOST_BYTES: Final = 6_000_000

STYLE: Final = resources.files("steerlab").joinpath("assets/report.css").read_text(encoding="utf-8")

# A figure's text alternative stands in its place until it is drawn, and stays if it cannot be.
SCRIPT: Final = resources.files("steerlab").joinpath("assets/report.js").read_text(encoding="utf-8")


def render_report(
    *,
    title: str,
    question: str,
    answer: str,
    warnings: Sequence[str] = (),
    figures: Sequence[Drawing | tuple[str, go.Figure, str]] = (),
    tables: Sequence[Table | tuple[str, pd.DataFrame]] = (),
    sections: Sequence[Section] = (),
    method: Sequence[str] = (),
    provenance: Mapping[str, object] | None = None,
    methods_paragraph: str = "",
    references: Sequence[str] = (),
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
        figures: Drawings, or (caption, figure, text alternative); the last says in words what a reader who cannot see it
            needs. A Drawing with details lists the problems behind a point that is clicked on or chosen.
        tables: Tables, or (caption, frame); at most 200 rows of a frame are shown, and the caption then says so.
        sections: (heading, parts) that stand between the tables and the method, such as what was moved, diagnostics and
            side effects; a part is a paragraph, a Drawing, a Table (or a tuple for either) or Examples.
        method: Paragraphs.
        provenance: Names and values: versions, seeds, hashes.
        methods_paragraph: Text to paste into a paper; a button copies it with its references.
        references: What the methods paragraph cites, one line each.

    Raises:
        TypeError: A part is of another type; the message names it.
        ValueError: A required text is empty, or the page would be larger than 6 MB.
    """
    for name, said in (("title", title), ("question", question), ("answer", answer)):
        blocks.required(said, name)
    writer = _Writer()
    body = [
        _section("question", "Question", paragraph(question)),
        _section("answer", "Answer", paragraph(answer)),
        _section("warnings", "Warnings", _warnings(blocks.texts(warnings, "warnings"))),
    ]
    drawings = [blocks.as_drawing(entry, f"figures[{place}]") for place, entry in enumerate(figures)]
    listed = [blocks.as_table(entry, f"tables[{place}]") for place, entry in enumerate(tables)]
    shown: list[tuple[str, str, str, Sequence[str | Drawing | Table | Examples]]] = [
        ("figures", "Figures", "figures", drawings),
        ("tables", "Tables", "tables", listed),
    ]
    shown += [
        (f"section-{place}", text(heading, LINE_LENGTH), f"sections[{place - 1}]", content)
        for place, (heading, content) in enumerate(blocks.as_sections(sections), start=1)
    ]
    body += [_section(name, heading, writer.parts(content, source)) for name, heading, source, content in shown if content]
    paragraphs = [paragraph(said) for said in blocks.texts(method, "method")]
    if paragraphs:
        body.append(_section("method", "Method", "\n".join(paragraphs)))
    if provenance is not None:
        body.append(_section("provenance", "Provenance", _provenance(blocks.as_provenance(provenance))))
    cited = blocks.texts(references, "references")
    if methods_paragraph or cited:
        body.append(_section("paper", "For a paper", _paper(blocks.required(methods_paragraph, "methods_paragraph"), cited)))
    page = _page(title, "\n".join(body), plotly=writer.figures > 0, scripts=writer.figures > 0 or bool(methods_paragraph))
    size = len(page.encode())
    if size > MOST_BYTES:
        largest = max(writer.sizes, key=lambda name: writer.sizes[name], default="the text")
        raise InputError(f"the page has {size:,} bytes: at most {MOST_BYTES:,} are allowed; shorten {largest}")
    return page


class _Writer:
    """Numbers figures and tables as they come, and remembers how large each is."""

    def __init__(self) -> None:
        self.figures = 0
        self.sizes: dict[str, int] = {}
        self._tables = count(1)

    def parts(self, content: Sequence[str | Drawing | Table | Examples], source: str) -> str:
        written = []
        for place, part in enumerate(content):
            html = self._part(part)
            self.sizes[f"{source}[{place}]"] = len(html)
            written.append(html)
        return "\n".join(written)

    def _part(self, part: str | Drawing | Table | Examples) -> str:
        if isinstance(part, Drawing):
            self.figures += 1
            return _figure(self.figures, part)
        if isinstance(part, Table):
            return _html.table(next(self._tables), part.caption, part.frame)
        return _examples(part) if isinstance(part, Examples) else paragraph(part)


def _page(title: str, body: str, *, plotly: bool, scripts: bool) -> str:
    library = f"\n{_plotly()}\n"
    # Plotly adds an empty style element and fills it by script, hence the hash of nothing.
    style = f"style-src-elem {_hash(STYLE)} {_hash('')}; style-src-attr 'unsafe-inline'"
    hashes = [_hash(library)] * plotly + [_hash(SCRIPT)] * scripts
    script = f"script-src {' '.join(hashes)}; " if hashes else ""
    policy = f"default-src 'none'; {script}{style}; img-src data: blob:; base-uri 'none'; form-action 'none'"
    code = ""
    if plotly:
        themes = {"light": theme.TEMPLATE.to_plotly_json(), "dark": theme.DARK_TEMPLATE.to_plotly_json()}
        code = f"{_map_styles()}{_html.data('themes', themes)}\n<script>{library}</script>\n"
    code += f"<script>{SCRIPT}</script>\n" if scripts else ""
    contents = re.findall(r'<h2 id="([a-z0-9-]+)">(.*?)</h2>', body)
    links = "\n".join(f'<li><a href="#{name}">{heading}</a></li>' for name, heading in contents)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<link rel="icon" href="data:,">
<title>{escape(_html.plain(title, LINE_LENGTH))}</title>
<style>{STYLE}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the report</a>
<header>
<h1>{text(title, LINE_LENGTH)}</h1>
<nav aria-label="Contents"><ul>
{links}
</ul></nav>
</header>
<main id="main" tabindex="-1">
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


def _hash(said: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(said.encode()).digest()).decode()}'"


def _section(name: str, heading: str, content: str) -> str:
    kind = re.sub(r"-\d+$", "", name)
    return f'<section class="{kind}" aria-labelledby="{name}"><h2 id="{name}">{heading}</h2>\n{content}\n</section>'


def _warnings(said: list[str]) -> str:
    if not said:
        return "<p>No warnings.</p>"
    items = "\n".join(f"<li>{text(line, PARAGRAPH_LENGTH)}</li>" for line in said)
    return f"<ul>\n{items}\n</ul>"


def _figure(place: int, drawing: Drawing) -> str:
    fig, words, name = drawing.figure, drawing.words, f"figure-{place}"
    own = fig.layout.template == theme.TEMPLATE
    heading = ""
    if theme.is_own(fig):
        # The page sets the title, so that it wraps at any width and can be marked and read aloud.
        headline, notes, fig = theme.without_title(fig)
        said = f'<p class="notes">{text(" ".join(notes), PARAGRAPH_LENGTH)}</p>\n' if notes else ""
        heading = f"<h3>{text(headline, LINE_LENGTH)}</h3>\n{said}"
    spec = json.loads(fig.to_json(engine="json"))
    if own:
        del spec["layout"]["template"]
    kind = "own" if own else "foreign"
    label = escape(_html.plain(words, TOOLTIP_LENGTH))
    return (
        f'<figure>\n{heading}<div class="plot {kind}" id="{name}" data-theme="{kind}" '
        f'role="img" aria-label="{label}"><p>{text(words, PARAGRAPH_LENGTH)}</p></div>\n'
        f"{_details(name, drawing.details)}"
        f"<figcaption>Figure {place}. {text(drawing.caption, PARAGRAPH_LENGTH)}</figcaption>\n"
        f"{_html.data(f'{name}-data', _without_links(spec))}\n</figure>"
    )


def _details(name: str, details: pd.DataFrame | None) -> str:
    if details is None or details.empty:
        return ""
    payload = blocks.details_payload(details)
    return (
        f'<div class="details" data-figure="{name}" hidden>\n<p><label for="{name}-cell">Problems that changed at</label>\n'
        f'<select id="{name}-cell"><option value="">choose, or click in the figure</option></select></p>\n'
        f'<p class="said" role="status"></p>\n<div class="listed"></div>\n</div>\n{_html.data(f"{name}-details", payload)}\n'
    )


def _without_links(value: Any) -> Any:
    """A figure's parts without the link tags that Plotly would make clickable; all other text is as it was."""
    if isinstance(value, dict):
        return {key: _without_links(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_links(part) for part in value]
    return re.sub(r"(?i)<(?=\s*/?\s*a[\s>/])", "&lt;", value) if isinstance(value, str) else value


def _examples(examples: Examples) -> str:
    written = [f"<p>{text(examples.caption, PARAGRAPH_LENGTH)}</p>"]
    for became in ("right", "wrong"):
        rows = examples.frame[examples.frame["became"] == became]
        shown = rows.head(examples.most)
        few = f", the first {len(shown)} shown" if len(shown) < len(rows) else ""
        written.append(f"<h3>Became {became}: {len(rows)}{few}</h3>")
        items = "\n".join(_example({str(key): value for key, value in row.items()}) for row in shown.to_dict("records"))
        written.append(f'<ol class="problems">\n{items}\n</ol>' if items else "<p>None.</p>")
    return "\n".join(written)


def _example(row: Mapping[str, Any]) -> str:
    right = row["became"] == "right"
    before, after = (_answer(row[key], good) for key, good in (("before", not right), ("after", right)))
    return (
        f'<li class="{row["became"]}"><p class="name">{text(row["problem_id"], ANSWER_LENGTH)}</p>\n'
        f'<div class="prompt" dir="auto">{escape(_html.middle(row["prompt"], PROMPT_LENGTH))}</div>\n'
        f"<p>Unsteered {before}, steered {after}; right is {text(row['target'], ANSWER_LENGTH)}.</p></li>"
    )


def _answer(value: object, good: bool) -> str:
    mark = "✓ right" if good else "✗ wrong"
    return f'{text(value, ANSWER_LENGTH) if str(value) else "(no answer, or a tie)"} <span class="mark">{mark}</span>'


def _paper(said: str, references: list[str]) -> str:
    listed = "\n".join(f"<li>{text(line, PARAGRAPH_LENGTH)}</li>" for line in references)
    cited = f'<ul class="references">\n{listed}\n</ul>\n' if listed else ""
    return (
        f'<div class="copied" id="methods">{paragraph(said)}\n{cited}</div>\n'
        '<p><button type="button" class="copy" data-copies="methods" hidden>Copy the paragraph and its references</button> '
        '<span class="done" role="status"></span></p>'
    )


def _provenance(values: Mapping[str, object]) -> str:
    rows = "\n".join(
        f'<tr><th scope="row">{text(name, CELL_LENGTH)}</th><td class="text">{text(value, LINE_LENGTH)}</td></tr>'
        for name, value in values.items()
    )
    head = '<thead><tr><th scope="col">what</th><th scope="col">value</th></tr></thead>'
    return _html.scrolling("provenance-table", "What this was made from", f"{head}\n<tbody>\n{rows}\n</tbody>")
