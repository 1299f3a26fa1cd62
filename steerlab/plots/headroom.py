"""Answers that changed sides, beside how many would have if moves of the margin befell problems at random."""

from typing import Protocol, runtime_checkable

import pandas as pd
import plotly.graph_objects as go

from steerlab.plots import _input, theme

HEIGHT = 320


@runtime_checkable
class Failures(Protocol):
    """The part of a failure analysis that is drawn."""

    @property
    def layer(self) -> int: ...

    @property
    def headroom(self) -> pd.DataFrame: ...


def headroom(found: Failures) -> go.Figure:
    """Fixed and broken answers at each alpha, observed (markers) and expected from margins alone (lines).

    Args:
        found: what `steerlab.failure_analysis` returns.

    Raises:
        TypeError: `found` is something else.
        ValueError: There are no rows.

    Example:
        >>> import steerlab as sl, torch
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> sw = sl.sweep(model, task.test[:30], sl.Direction(torch.ones(model.cfg.d_model), layer=2), alphas=[-1, 0, 1])
        >>> [trace.name for trace in sl.plots.headroom(sl.failure_analysis(sw)).data][:2]
        ['fixed, expected', 'fixed, observed']
    """
    found = _input.expect(found, Failures, "found", "what steerlab.failure_analysis returns")
    rows = _input.need(
        found.headroom, "found.headroom", ["alpha", "fixed", "fixed_expected", "broken", "broken_expected", "wrong", "right"]
    )
    rows = rows.sort_values("alpha")
    fig = go.Figure()
    for place, (kind, room) in enumerate((("fixed", "wrong"), ("broken", "right"))):
        colour = (theme.BLUE, theme.VERMILLION)[place]
        fig.add_trace(
            go.Scatter(
                x=rows["alpha"],
                y=rows[f"{kind}_expected"],
                mode="lines",
                line={"color": colour, "dash": theme.DASHES[place]},
                name=f"{kind}, expected",
                hoverinfo="skip",
            )
        )
        fig.add_trace(
            go.Scatter(
                x=rows["alpha"],
                y=rows[kind],
                mode="markers",
                marker={"color": colour, "symbol": theme.SYMBOLS[place], "size": 9},
                name=f"{kind}, observed",
                hovertext=[
                    f"alpha {theme.alpha_text(alpha)}<br>{seen} of {of} {room} answers {kind}<br>{expected:.1f} expected"
                    for alpha, seen, of, expected in zip(rows["alpha"], rows[kind], rows[room], rows[f"{kind}_expected"], strict=True)
                ],
                hoverinfo="text",
            )
        )
    fig.update_xaxes(title_text="alpha", zeroline=False)
    fig.update_yaxes(title_text="answers", zeroline=False, rangemode="tozero")
    theme.legend_below(fig, HEIGHT)
    gap = (rows["change"] - rows["change_expected"]).abs().max() * 100
    off = max(float((rows[kind] - rows[f"{kind}_expected"]).abs().max()) for kind in ("fixed", "broken"))
    headline = f"Margins alone give the net change to within {theme.number(gap)} points, and counts to within {off:.0f} answers"
    notes = (f"Layer {found.layer}. Lines: if moves of the margin befell problems at random.",)
    return theme.style(fig, headline, notes, HEIGHT + 130, bottom=120)
