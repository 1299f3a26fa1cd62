"""What steering does to the task, beside what it does to everything else."""

from collections.abc import Hashable, Mapping
from typing import Any, Literal

import pandas as pd
import plotly.graph_objects as go

from steerlab._checks import InputError
from steerlab.plots import _input, theme
from steerlab.plots.bars import MEASURES

HEIGHT = 330


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
                hovertext=[_hover(row, column, scale, measure) for row in part.to_dict("records")],
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
    theme.legend_below(fig, HEIGHT)
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
    return theme.style(fig, headline, notes, HEIGHT + 110, bottom=110)


def _short(row: Mapping[Hashable, Any]) -> str:
    alpha = f", alpha {theme.alpha_text(row['alpha'])}" if "alpha" in row else ""
    return f"{theme.label(row['direction'], 18)}{alpha}"


def _hover(row: Mapping[Hashable, Any], column: str, scale: float, measure: str) -> str:
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
