"""The language that every result speaks, as one check for tests of results wherever they are made."""

from html.parser import HTMLParser

import pandas as pd
import plotly.graph_objects as go

from steerlab._html import LONG, Plotted, Result

TAGS = {"p", "pre", "bdi", "table", "caption", "thead", "tbody", "tr", "th", "td"}
ATTRIBUTES = {"class", "scope", "title"}


class Balanced(HTMLParser):
    """Fails where a tag is closed that was not open; keeps what tags have."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def shown(result: object) -> str:
    """What a notebook shows of it, as text; the HTML is well-formed and has no tag or attribute that outside text could have brought."""
    html = result._repr_html_()
    page = Balanced(html)
    assert page.open == []
    assert page.tags <= TAGS
    assert page.attributes <= ATTRIBUTES
    assert 10 < len(html) < 50_000
    return "".join(page.texts)


def speaks(result: Result) -> None:
    """It has a tidy frame, a small summary, warnings in sentences, a picture of itself, and where it names a figure that figure."""
    assert isinstance(result, Result)
    assert isinstance(result.frame, pd.DataFrame)
    assert result.frame.index.is_unique
    assert result.frame.columns.is_unique
    summary = result.summary()
    assert isinstance(summary, pd.DataFrame)
    assert 1 <= len(summary) <= LONG
    warnings = result.warnings()
    assert isinstance(warnings, list)
    assert all(isinstance(said, str) for said in warnings)
    html = shown(result)
    assert all(said[:100] in html for said in warnings)
    if isinstance(result, Plotted):
        assert isinstance(result.plot(), go.Figure)
