"""Several effects with their intervals, one under the other."""

import pandas as pd
import plotly.graph_objects as go

from steerlab.plots import _input, theme
from steerlab.statistics._format import format_p

ROW = 34
NAME = 34


def forest(effects: pd.DataFrame, what: str = "change in accuracy") -> go.Figure:
    """Effects with their intervals: a line each, with the interval's place against zero.

    Effects whose interval leaves out zero are blue diamonds, the others grey circles; an effect without an interval is an open
    circle.

    Args:
        effects: one line an effect, in the order shown: name, change (share of 1), low, high, and perhaps n and p (shown on
            hover).
        what: the quantity, in words.

    Raises:
        TypeError: No DataFrame was given.
        ValueError: A column is missing, or there are no rows.

    Example:
        >>> effects = pd.DataFrame({"name": ["a", "b"], "change": [0.05, -0.01], "low": [0.02, -0.04], "high": [0.08, 0.02]})
        >>> forest(effects).data[0].x
        (5.0, -1.0)
    """
    rows = _input.need(effects, "effects", ["name", "change", "low", "high"])
    middle, low, high = (100 * rows[column].to_numpy(float) for column in ("change", "low", "high"))
    known = rows["low"].notna().to_numpy() & rows["high"].notna().to_numpy()
    clear = known & ((low > 0) | (high < 0))
    heights = list(range(len(rows), 0, -1))
    fig = go.Figure(
        go.Scatter(
            x=tuple(middle.tolist()),
            y=heights,
            mode="markers",
            marker={
                "color": [theme.BLUE if one else theme.GREY for one in clear],
                "symbol": ["diamond" if one else "circle" if there else "circle-open" for one, there in zip(clear, known, strict=True)],
                "size": 10,
            },
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [b - a if there else 0 for a, b, there in zip(middle, high, known, strict=True)],
                "arrayminus": [a - b if there else 0 for a, b, there in zip(middle, low, known, strict=True)],
                "color": theme.GREY,
                "thickness": 1.5,
            },
            hovertext=[_hover(row) for row in rows.to_dict("records")],
            hoverinfo="text",
            showlegend=False,
        )
    )
    fig.add_vline(x=0, line={"color": theme.GREY, "dash": "dot", "width": 1.5})
    fig.update_yaxes(tickvals=heights, ticktext=[theme.label(name, NAME) for name in rows["name"]], zeroline=False, showgrid=False)
    fig.update_yaxes(range=[0.4, len(rows) + 0.6])
    fig.update_xaxes(title_text=f"{what} (points)", zeroline=False)
    headline = f"{int(clear.sum())} of {len(rows)} intervals leave out zero"
    return theme.style(fig, headline, ("Intervals are of one effect each, not corrected for their number.",), ROW * len(rows) + 90)


def _hover(row: dict) -> str:  # type: ignore[type-arg]
    lines = [theme.label(row["name"]), f"{theme.signed(100 * row['change'])} points"]
    if pd.notna(row["low"]) and pd.notna(row["high"]):
        lines[1] += f" ({theme.signed(100 * row['low'])} to {theme.signed(100 * row['high'])})"
    if pd.notna(row.get("n")):
        lines.append(f"n = {row['n']:.0f}")
    if pd.notna(row.get("p")):
        lines.append(format_p(row["p"], digits=2))
    return "<br>".join(lines)
