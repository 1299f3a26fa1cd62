"""What a contrast gives at each layer, before anything is steered."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from steerlab.plots import _input, theme

PANEL = 190


def separability(diagnostics: _input.Diagnostics) -> go.Figure:
    """Held-out AUC, and the cosine between directions of random halves, at each layer; of pairs, their agreement, too.

    Args:
        diagnostics: what `steerlab.contrast_diagnostics` returns.

    Raises:
        TypeError: `diagnostics` is something else.
        ValueError: A column is missing or there are no rows.

    Example:
        >>> import numpy as np, steerlab as sl, torch
        >>> noise = torch.from_numpy(np.random.default_rng(0).standard_normal((40, 2, 1, 16))).float()
        >>> ids = tuple(f"p{i}" for i in range(40))
        >>> acts = sl.Activations(noise, torch.ones(40, 1, dtype=torch.bool), ids, (3, 6), "resid_post", "last", {})
        >>> found = sl.contrast_diagnostics(acts.select(ids[:20]), acts.select(ids[20:]), rng=np.random.default_rng(1))
        >>> fig = sl.plots.separability(found)
        >>> fig.data[1].x.tolist()  # one point a layer
        [3, 6]
    """
    found = _input.expect(diagnostics, _input.Diagnostics, "diagnostics", "what steerlab.contrast_diagnostics returns")
    needed = ["layer", "auc", "auc_low", "auc_high", "stability", "stability_low", "stability_high"]
    rows = _input.need(found.frame, "diagnostics.frame", needed).sort_values("layer")
    panels = [("auc", "held-out AUC<br>(0.5 is chance)", 0.5), ("stability", "cosine<br>between halves", 0.0)]
    if "agreement" in rows:
        panels.append(("agreement", "cosine of a pair<br>with the others", 0.0))
    fig = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.07)
    for place, (column, unit, nothing) in enumerate(panels):
        for trace in _line(rows, column, theme.LINES[place], place):
            fig.add_trace(trace, row=place + 1, col=1)
        fig.add_hline(y=nothing, line={"color": theme.GREY, "dash": "dot", "width": 1.5}, row=place + 1, col=1)
        fig.update_yaxes(title_text=unit, zeroline=False, row=place + 1, col=1)
    fig.update_xaxes(zeroline=False)
    fig.update_xaxes(title_text="layer", row=len(panels), col=1)
    best = rows.iloc[int(rows["auc"].argmax())]
    kind = f"{found.n_positive} pairs" if found.paired else f"{found.n_positive} against {found.n_negative} problems"
    notes = (f"{kind}. Bands: 95% interval of the AUC; 90% of random halves.",)
    headline = f"Held-out AUC is highest at layer {best['layer']:.0f}: {theme.number(best['auc'], 2)}"
    return theme.style(fig, headline, notes, PANEL * len(panels) + 54)


def _line(rows: pd.DataFrame, column: str, colour: str, place: int) -> list[go.Scatter]:
    banded = f"{column}_low" in rows
    spans = (
        [f" ({low:.3g} to {high:.3g})" for low, high in zip(rows[f"{column}_low"], rows[f"{column}_high"], strict=True)]
        if banded
        else [""] * len(rows)
    )
    line = go.Scatter(
        x=rows["layer"],
        y=rows[column],
        mode="lines+markers",
        line={"color": colour},
        marker={"symbol": theme.SYMBOLS[place], "size": 6},
        hovertext=[f"layer {at}<br>{column} {value:.3g}{span}" for at, value, span in zip(rows["layer"], rows[column], spans, strict=True)],
        hoverinfo="text",
        showlegend=False,
    )
    if not banded:
        return [line]
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    band = go.Scatter(
        x=pd.concat([rows["layer"], rows["layer"][::-1]]),
        y=pd.concat([rows[f"{column}_high"], rows[f"{column}_low"][::-1]]),
        fill="toself",
        fillcolor=f"rgba({red},{green},{blue},0.18)",
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
    )
    return [band, line]
