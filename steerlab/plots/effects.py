"""Several effects with their intervals, and what steering does to the task against its side effects on other text."""

from collections.abc import Hashable, Mapping
from typing import Any, Literal

import pandas as pd
import plotly.graph_objects as go

from steerlab._checks import InputError
from steerlab.plots import _input, theme
from steerlab.plots.controls import MEASURES
from steerlab.statistics._format import format_p

ROW = 34
NAME = 34


def forest(effects: pd.DataFrame, what: str = "change in accuracy") -> go.Figure:
    """Effects with their intervals, one line each.

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
    headline = f"{int(clear.sum())} of {len(rows)} intervals exclude zero"
    return theme.style(fig, headline, ("Each interval is for one effect; not corrected for their number.",), ROW * len(rows) + 90)


def _hover(row: dict) -> str:  # type: ignore[type-arg]
    lines = [theme.label(row["name"]), f"{theme.signed(100 * row['change'])} points"]
    if pd.notna(row["low"]) and pd.notna(row["high"]):
        lines[1] += f" ({theme.signed(100 * row['low'])} to {theme.signed(100 * row['high'])})"
    if pd.notna(row.get("n")):
        lines.append(f"n = {row['n']:.0f}")
    if pd.notna(row.get("p")):
        lines.append(format_p(row["p"], digits=2))
    return "<br>".join(lines)


FRONTIER_HEIGHT = 340


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
    theme.legend_below(fig, FRONTIER_HEIGHT)
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
    return theme.style(fig, headline, notes, FRONTIER_HEIGHT + 170, bottom=170)


TRADEOFF_HEIGHT = 330


def pareto(effects: pd.DataFrame, measure: Literal["accuracy", "margin"] = "accuracy") -> go.Figure:
    """Effect on the task against KL on neutral text: directions under test in colour, controls in grey.

    Points on the Pareto front (no other does as much at no more KL) have a blue rim; those under test are named. The KL
    axis is logarithmic where KLs differ by more than a factor of 30 and none is 0.

    Args:
        effects: what ``SideEffects.against`` returns: direction, kl, dominant, the effect's column, and perhaps layer,
            alpha, is_control, correct and n.
        measure: "accuracy" or "margin", as it was asked for there.

    Raises:
        TypeError: No DataFrame was given.
        ValueError: Unknown measure, a column is missing, or there are no rows.

    Example:
        >>> effects = pd.DataFrame({"direction": ["mine", "c0"], "is_control": [False, True], "change": [0.2, 0.1], "kl": [0.3, 0.4]})
        >>> fig = pareto(effects.assign(dominant=[True, False]))
        >>> [trace.name for trace in fig.data]
        ['1 controls', '1 under test']
    """
    if measure not in MEASURES:
        raise InputError(f"measure={repr(measure)[:60]}: expected {' or '.join(MEASURES)}")
    column, scale, unit = MEASURES[measure]
    rows = _input.need(effects, "effects", ["direction", "kl", "dominant", column])
    control = rows["is_control"].astype(bool) if "is_control" in rows else pd.Series(data=False, index=rows.index)
    fig = go.Figure()
    for drawn, mask, colour, symbol, size in (
        ("controls", control, theme.GREY, "circle", 8),
        ("under test", ~control, theme.VERMILLION, "diamond", 12),
    ):
        part = rows[mask]
        if part.empty:
            continue
        named = drawn == "under test" and len(part) <= 5
        fig.add_trace(
            go.Scatter(
                x=part["kl"],
                y=scale * part[column],
                mode="markers+text" if named else "markers",
                text=[_short(row) for row in part.to_dict("records")] if named else None,
                textposition=[("top left" if 2 * kl > rows["kl"].max() else "top right") for kl in part["kl"]],
                marker={
                    "color": colour,
                    "symbol": symbol,
                    "size": size,
                    "opacity": 1 if drawn == "under test" else 0.6,
                    "line": {"width": [2 if front else 0 for front in part["dominant"]], "color": theme.BLUE},
                },
                name=f"{len(part)} {drawn}",
                hovertext=[_tradeoff_hover(row, column, scale, measure) for row in part.to_dict("records")],
                hoverinfo="text",
            )
        )
    fig.add_hline(y=0, line={"color": theme.GREY, "dash": "dot", "width": 1.5})
    kl = rows["kl"]
    wide = kl.min() > 0 and kl.max() > 30 * kl.min()
    fig.update_xaxes(
        title_text=f"KL on other text (nats per token{', log scale' if wide else ''})", zeroline=False, type="log" if wide else "linear"
    )
    if wide:
        fig.update_xaxes(tickvals=theme.log_ticks(float(kl.min()), float(kl.max())), tickformat="~g")
    fig.update_yaxes(title_text=unit, zeroline=False)
    theme.legend_below(fig, TRADEOFF_HEIGHT)
    mine, front = rows[~control], rows["dominant"].astype(bool)
    on = int(front[~control].sum())
    headline = (
        f"{on or 'None'} of {len(mine)} points under test {'is' if on == 1 else 'are'} on the Pareto front"
        if len(mine) > 1
        else f"The direction under test is {'' if on else 'not '}on the Pareto front"
        if len(mine)
        else "No point is under test"
    )
    notes = (f"{len(rows)} points, {int(front.sum())} on the front (blue rim).",)
    return theme.style(fig, headline, notes, TRADEOFF_HEIGHT + 110, bottom=110)


def _short(row: Mapping[Hashable, Any]) -> str:
    alpha = f", alpha {theme.alpha_text(row['alpha'])}" if "alpha" in row else ""
    return f"{theme.label(row['direction'], 18)}{alpha}"


def _tradeoff_hover(row: Mapping[Hashable, Any], column: str, scale: float, measure: str) -> str:
    where = ", ".join(
        text
        for key, text in (("layer", f"layer {row.get('layer')}"), ("alpha", f"alpha {theme.alpha_text(row.get('alpha') or 0)}"))
        if key in row
    )
    unit = " points of accuracy" if measure == "accuracy" else " of margin"
    front = "<br>on the Pareto front" if row["dominant"] else ""
    digits = 1 if measure == "accuracy" else 3
    counts = f" ({row['correct']} of {row['n']} right)" if measure == "accuracy" and {"correct", "n"} <= set(row) else ""
    return f"{theme.label(row['direction'])}<br>{where}<br>{theme.signed(scale * row[column], digits)}{unit}{counts}<br>KL {row['kl']:.3g} nats per token{front}"
