"""One self-contained HTML page from results: nothing is loaded from a network, and all text is escaped."""

import hashlib
import json
import re
from base64 import b64encode
from functools import cache
from importlib import resources
from typing import Any, Final

import plotly.graph_objects as go
from jinja2 import Environment
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from steerlab import _html
from steerlab._checks import InputError
from steerlab.plots import theme
from steerlab.reports.blocks import Drawing, Report, details_payload

MOST_BYTES: Final = 6_000_000
OWN: Final = ("figures", "tables")  # sections whose headings are ours

ASSETS: Final = resources.files("steerlab").joinpath("assets")
STYLE: Final = ASSETS.joinpath("report.css").read_text(encoding="utf-8")

# A figure's text alternative stands in its place until it is drawn, and stays if it cannot be.
SCRIPT: Final = ASSETS.joinpath("report.js").read_text(encoding="utf-8")


def render_report(report: Report) -> str:
    """A report as one self-contained HTML page: question, answer, warnings, then the evidence.

    The page loads nothing, runs two scripts that it names by hash (Plotly and its own), and treats every text as
    untrusted: escaped, isolated from the direction of the text around it, and cut when very long (the full start of a
    cut cell is its tooltip). The same input gives the same bytes.

    Raises:
        ValueError: The page would be larger than 6 MB.
    """
    contents = [
        (source if source in OWN else f"section-{place}", heading, source in OWN, parts)
        for place, (source, heading, parts) in enumerate(report.contents, start=1 - sum(source in OWN for source, _, _ in report.contents))
    ]
    plotly, scripts = "", Markup(SCRIPT) if report.methods_paragraph else ""
    if report.all(Drawing):
        plotly, scripts = Markup(f"\n{get_plotlyjs()}\n"), Markup(SCRIPT)
    # Plotly adds an empty style element and fills it by script, hence the hash of nothing.
    style = f"style-src-elem {_hash(STYLE)} {_hash('')}; style-src-attr 'unsafe-inline'"
    hashes = " ".join(_hash(code) for code in (plotly, scripts) if code)
    script = f"script-src {hashes}; " if hashes else ""
    page = (
        _templates()
        .get_template("report.html.jinja")
        .render(
            report=report,
            contents=contents,
            policy=f"default-src 'none'; {script}{style}; img-src data: blob:; base-uri 'none'; form-action 'none'",
            style=Markup(STYLE),
            plotly=plotly,
            script=scripts,
            map_styles=_map_styles() if plotly else (),
            themes={"light": theme.TEMPLATE.to_plotly_json(), "dark": theme.DARK_TEMPLATE.to_plotly_json()},
        )
    )
    size = len(page.encode())
    if size > MOST_BYTES:
        block = _templates().get_template("blocks.html.jinja").module.block  # type: ignore[attr-defined]
        sizes = {
            f"{source}[{place}]": len(block(number, part))
            for source, _, parts in report.contents
            for place, (number, part) in enumerate(parts)
        }
        largest = max(sizes, key=lambda name: sizes[name], default="the text")
        raise InputError(f"the page has {size:,} bytes: at most {MOST_BYTES:,} are allowed; shorten {largest}")
    return page


@cache
def _templates() -> Environment:
    env = _html.templates().overlay()
    env.filters = env.filters | {"drawn": _drawn, "payload": details_payload, "data": _data}
    return env


def _data(value: Any) -> Markup:
    """A value as ASCII JSON in which no character can end the script element or open a comment in it."""
    shown = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return Markup(re.sub("[<>&]", lambda found: f"\\u{ord(found[0]):04x}", shown))


def _drawn(fig: go.Figure) -> dict[str, Any]:
    """A figure as the page draws it: what stands above it, whose theme it has, and its parts."""
    own, headline = fig.layout.template == theme.TEMPLATE, ""
    notes: list[str] = []
    if theme.is_own(fig):
        # The page sets the title, so that it wraps at any width and can be marked and read aloud.
        headline, notes, fig = theme.without_title(fig)
    spec = json.loads(fig.to_json(engine="json"))
    if own:
        del spec["layout"]["template"]
    return {"headline": headline, "notes": " ".join(notes), "kind": "own" if own else "foreign", "spec": _without_links(spec)}


def _without_links(value: Any) -> Any:
    """A figure's parts without the link tags that Plotly would make clickable; all other text is as it was."""
    if isinstance(value, dict):
        return {key: _without_links(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_links(part) for part in value]
    return re.sub(r"(?i)<(?=\s*/?\s*a[\s>/])", "&lt;", value) if isinstance(value, str) else value


@cache
def _map_styles() -> list[str]:
    # Plotly adds the styles of its maps unless an element has their id; the policy would refuse them with an error.
    return sorted(set(re.findall(r'getElementById\("([0-9a-f]{64})"\)', get_plotlyjs())))


def _hash(said: str) -> str:
    return f"'sha256-{b64encode(hashlib.sha256(said.encode()).digest()).decode()}'"
