"""What several methods do to accuracy, beside how much they change other text."""

import pandas as pd
import plotly.graph_objects as go

from steerlab._checks import InputError
from steerlab.plots import _input, theme

HEIGHT = 340


def effect_against_kl(doses: pd.DataFrame, controls: pd.DataFrame | None = None) -> go.Figure:
    """Change of accuracy against KL: a line a method over its levels, the tested level filled; random vectors are grey dots.

    Args:
        doses: one line a method and level: method, level, kl (nats a token, log axis), change (share of 1), chosen.
        controls: one line a random vector: kl and change.

    Raises:
        TypeError: No DataFrame was given.
        ValueError: A column is missing, there are no rows, or no KL is above 0.

    Example:
        >>> doses = pd.DataFrame({"method": ["a", "a"], "level": [1, 2], "kl": [0.01, 0.1], "change": [0.0, 0.02], "chosen": [False, True]})
        >>> [trace.name for trace in effect_against_kl(doses).data]
        ['a']
    """
    rows = _input.need(doses, "doses", ["method", "level", "kl", "change", "chosen"])
    rows = rows[rows["kl"] > 0]
    if rows.empty:
        raise InputError("doses: no KL above 0; nothing changed, and there is nothing to draw")
    fig = go.Figure()
    if controls is not None and len(controls):
        dots = _input.need(controls, "controls", ["kl", "change"])
        dots = dots[dots["kl"] > 0]
        fig.add_trace(
            go.Scatter(
                x=dots["kl"],
                y=100 * dots["change"],
                mode="markers",
                marker={"color": theme.GREY, "size": 5, "opacity": 0.4},
                name="random",
                hoverinfo="skip",
            )
        )
    for place, (name, part) in enumerate(rows.groupby("method", sort=False)):
        line = part.sort_values("kl")
        again = place // len(theme.LINES)  # where colours begin again, dashes and symbols are others
        colour = theme.LINES[place % len(theme.LINES)]
        symbol, dash = (kinds[(place + again) % len(kinds)] for kinds in (theme.SYMBOLS, theme.DASHES))
        fig.add_trace(
            go.Scatter(
                x=line["kl"],
                y=100 * line["change"],
                mode="lines+markers",
                line={"color": colour, "dash": dash},
                marker={
                    "color": colour,
                    "size": [13 if chosen else 8 for chosen in line["chosen"]],
                    "symbol": [symbol if chosen else f"{symbol}-open" for chosen in line["chosen"]],
                },
                name=theme.label(name, 24),
                hovertext=[
                    f"{theme.label(name)}<br>{theme.signed(100 * row['change'])} points<br>KL {row['kl']:.3g} nats per token"
                    for row in line.to_dict("records")
                ],
                hoverinfo="text",
            )
        )
    fig.add_hline(y=0, line={"color": theme.GREY, "dash": "dot", "width": 1.5})
    ticks = theme.log_ticks(float(rows["kl"].min()), float(rows["kl"].max()))
    fig.update_xaxes(title_text="KL on other text (nats per token, log scale)", type="log", tickvals=ticks, tickformat="~g", zeroline=False)
    fig.update_yaxes(title_text="change in accuracy (percentage points)", zeroline=False)
    theme.legend_below(fig, HEIGHT)
    chosen = rows[rows["chosen"].astype(bool)]
    low, high = (theme.signed(100 * value) for value in (chosen["change"].min(), chosen["change"].max()))
    headline = (
        "No level was tested"
        if chosen.empty
        else f"At the tested level, accuracy changes by {low} points"
        if low == high
        else f"At the tested level, accuracy changes by {low} to {high} points"
    )
    notes = ("Filled: the level chosen on validation. Open: other levels, at the same layer and sign.",)
    return theme.style(fig, headline, notes, HEIGHT + 170, bottom=170)
