"""The look that all figures share: colour-blind-safe colours, light and dark templates, and safe text."""

import html
import math
import textwrap
import unicodedata
from typing import Final

import plotly.graph_objects as go

from steerlab._checks import InputError

# Okabe and Ito (2008), those of the eight that keep a contrast of 3:1 on white and on near-black alike.
BLUE: Final = "#0072B2"
VERMILLION: Final = "#D55E00"
GREEN: Final = "#009E73"
PURPLE: Final = "#CC79A7"
GREY: Final = "#808080"
LINES: Final = (BLUE, VERMILLION, GREEN, PURPLE, GREY)
# A second channel next to colour, so that a line is known in print and to a colour-blind eye.
DASHES: Final = ("solid", "dash", "dot", "dashdot", "longdash")
SYMBOLS: Final = ("circle", "square", "diamond", "triangle-up", "x")

# ColorBrewer RdBu: safe for red-green blindness; blue is "more" in every figure.
DIVERGING: Final = ("#b2182b", "#ef8a62", "#fddbc7", "#f7f7f7", "#d1e5f0", "#67a9cf", "#2166ac")
# The same meaning on a dark page: the middle is near the background and both ends are light.
DIVERGING_DARK: Final = ("#ff9a76", "#c85a3f", "#6b3328", "#262b33", "#26476b", "#3c7fbf", "#8cc8ff")
# Viridis without its ends, which vanish on a dark and on a white page.
SEQUENTIAL: Final = ("#46327e", "#365c8d", "#277f8e", "#1fa187", "#4ac16d", "#9fb52a")

FONT: Final = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
TITLE_WIDTH: Final = 38  # characters; at 16 px they fit a page of 390 px
NOTE_WIDTH: Final = 52  # characters; at 12 px they fit a page of 390 px
MARGIN: Final = {"l": 58, "r": 14, "b": 54}


def _stops(colours: tuple[str, ...]) -> list[list[object]]:
    return [[i / (len(colours) - 1), colour] for i, colour in enumerate(colours)]


def _template(ink: str, muted: str, grid: str, paper: str, diverging: tuple[str, ...]) -> go.layout.Template:
    axis = {
        "gridcolor": grid,
        "linecolor": muted,
        "tickcolor": muted,
        "zerolinecolor": muted,
        "zerolinewidth": 1,
        "tickfont": {"size": 12},
        "title": {"font": {"size": 13}, "standoff": 8},
        "automargin": True,
    }
    layout = go.Layout(
        font={"family": FONT, "size": 13, "color": ink},
        paper_bgcolor=paper,
        plot_bgcolor=paper,
        colorway=list(LINES),
        colorscale={"diverging": _stops(diverging), "sequential": _stops(SEQUENTIAL)},
        coloraxis={"colorbar": {"outlinewidth": 0, "thickness": 10, "tickcolor": muted, "tickfont": {"size": 12}}},
        hoverlabel={"align": "left", "bgcolor": paper, "bordercolor": muted, "font": {"color": ink, "size": 13}},
        hovermode="closest",
        margin=MARGIN,
        title={"font": {"size": 16}, "x": 0, "xref": "container", "xanchor": "left", "pad": {"l": 12}},
        # Plotly's own buttons have one that sends the figure's data to a website.
        modebar={"remove": ["sendChartToCloud"]},
        legend={"orientation": "h", "x": 0, "xanchor": "left", "yanchor": "top"},
        xaxis=axis,
        yaxis=axis,
        annotationdefaults={"font": {"color": ink, "size": 12}, "showarrow": False},
        shapedefaults={"line": {"color": ink}},
    )
    return go.layout.Template(layout=layout)


TEMPLATE: Final = _template("#1b1f24", "#8b949e", "#e4e7eb", "#ffffff", DIVERGING)
DARK_TEMPLATE: Final = _template("#e6e8eb", "#7d8590", "#30363d", "#161b22", DIVERGING_DARK)


def label(value: object, limit: int = 40) -> str:
    """Outside text (a name, an id, a token) as text that Plotly shows literally.

    Plotly reads a small HTML in titles, ticks and hovers, so markup is escaped. Control and bidirectional formatting
    characters are spelled out, because one of them would reorder the rest of the figure's line; right-to-left words
    are isolated for the same reason. Longer than `limit` characters is cut with an ellipsis.
    """
    # Cut before and after: the first keeps a huge text cheap, the second counts what the spelling out adds.
    shown = "".join(visible(character) for character in str(value)[: limit + 1])
    shown = shown if len(shown) <= limit else shown[: limit - 1] + "…"
    if any(unicodedata.bidirectional(character) in ("R", "AL", "AN") for character in shown):
        shown = f"\u2068{shown}\u2069"
    return html.escape(shown, quote=False)


def visible(character: str) -> str:
    """A character, or its escape where it would be invisible or reorder the text around it."""
    if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
        return character.encode("unicode_escape").decode("ascii")
    return character


def number(value: float, digits: int = 1) -> str:
    """A number with a true minus sign and `digits` decimals."""
    return f"{value:.{digits}f}".replace("-", "−") if round(value, digits) else f"{0:.{digits}f}"


def signed(value: float, digits: int = 1) -> str:
    """A change, with its sign: `+3.0`, `−1.5`, `0.0`."""
    return ("+" if round(value, digits) > 0 else "") + number(value, digits)


def percent(share: float) -> str:
    """A share of 1 as a percentage with one decimal."""
    return f"{number(100 * share)}%"


def alpha_text(alpha: float) -> str:
    """A coefficient as short as it can be written."""
    return f"{alpha:g}".replace("-", "−")


def positive_range(largest: float) -> float:
    """Half of a colour range that is centred on 0, never empty."""
    return largest if largest > 0 else 1.0


def log_ticks(low: float, high: float) -> list[float]:
    """Ticks of a logarithmic axis: 1, 2, 5, 10, ... between two values above 0; powers of ten alone over more than three of them."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [step * 10.0**power for power in powers for step in ((1, 2, 5) if len(powers) <= 4 else (1,))]
    return [value for value in values if low / 2 <= value <= 2 * high]


def style(fig: go.Figure, headline: str, notes: tuple[str, ...] = (), height: int = 400, bottom: int = 54) -> go.Figure:
    """Give a figure the template, a wrapped title with smaller notes under it, and a height that holds them.

    Headline and notes stand in the figure's `meta`, too: a page shows them as text of its own (`without_title`), and a
    wider picture wraps them anew (`fitted`).

    Args:
        fig: The figure, changed in place and returned.
        headline: What is seen. Outside text in it must have gone through `label`.
        notes: Lines under the headline: baseline, n, what was left out.
        height: Pixels without the title.
        bottom: Pixels under the plot for ticks, axis title, legend or colour bar.
    """
    fig.update_annotations(font_size=13)
    shown = [note for note in notes if note]
    fig.update_layout(template=TEMPLATE, margin={"b": bottom}, meta={"headline": headline, "notes": shown, "height": height})
    return _titled(fig, TITLE_WIDTH, NOTE_WIDTH)


def _titled(fig: go.Figure, title_width: int, note_width: int) -> go.Figure:
    said = fig.layout.meta
    top = textwrap.wrap(said["headline"], title_width, break_long_words=False)
    under = [line for note in said["notes"] for line in textwrap.wrap(note, note_width, break_long_words=False)]
    small = "".join(f"<br><span style='font-size:12px'>{line}</span>" for line in under)
    # Plotly does not make room for a title's lines, so the room is counted here; 16 pixels stand above the first.
    room = 38 + 21 * len(top) + 16 * len(under)
    height = said["height"] + room
    # Plotly puts the top of a single line at y, but of several lines the first one's foot.
    first = 16 if len(top) + len(under) == 1 else 28
    title = {"text": "<br>".join(top) + small, "y": 1 - first / height, "yref": "container", "yanchor": "top"}
    return fig.update_layout(title=title, margin={"t": room}, height=height)


def is_own(fig: go.Figure) -> bool:
    """Whether a figure went through `style`, and still has what it said."""
    said = fig.layout.meta
    return bool(fig.layout.template == TEMPLATE and isinstance(said, dict) and {"headline", "notes", "height"} <= set(said))


def words(fig: go.Figure) -> str:
    """The title of a figure as plain text: the least that its text alternative can be.

    Raises:
        ValueError: the figure is not of ours.

    Example:
        >>> import pandas as pd, steerlab as sl
        >>> words(sl.plots.training_curve(pd.DataFrame({"epoch": [1, 2], "loss": [2, 1.5], "norm": [1, 1.2], "validation_accuracy": None})))
        'Training loss falls from 2 to 1.5 in 2 epochs. There was no validation set.'
    """
    if not is_own(fig):
        raise InputError("fig: a figure of steerlab.plots is needed; put another one into words yourself")
    headline, notes, _ = without_title(fig)
    return " ".join([headline if headline.endswith(".") else f"{headline}.", *notes])


def without_title(fig: go.Figure) -> tuple[str, list[str], go.Figure]:
    """The headline and the notes of a figure of ours as plain text, and a copy of the figure that leaves their room out."""
    said = fig.layout.meta
    room = 34 if fig.layout.annotations else 16  # names of panels stand above the plot
    bare = go.Figure(fig).update_layout(title=None, margin={"t": room}, height=said["height"] + room)
    return html.unescape(said["headline"]), [html.unescape(note) for note in said["notes"]], bare


def fitted(fig: go.Figure, width: int, *, dark: bool = False) -> go.Figure:
    """A copy of a figure for a picture of `width` pixels: its title wrapped to that width, its colours light or dark."""
    copy = go.Figure(fig)
    if is_own(fig):
        columns = max(width - 40, 300) // 9
        _titled(copy, columns, columns * 4 // 3)
        copy.update_layout(template=DARK_TEMPLATE if dark else TEMPLATE)
    return copy.update_layout(width=width)


def legend_below(fig: go.Figure, plot_height: int) -> None:
    """Put the legend under the x axis' title, where it costs no width."""
    fig.update_layout(showlegend=True, legend={"y": -52 / plot_height})


def colorbar_below(title: str, plot_height: int, **options: object) -> dict[str, object]:
    """A horizontal colour bar under the x axis' title, where it costs no width."""
    return {
        "orientation": "h",
        "x": 0.5,
        "xanchor": "center",
        "y": -50 / plot_height,
        "yanchor": "top",
        "len": 1.0,
        "title": {"text": title, "side": "top", "font": {"size": 13}},
        **options,
    }
