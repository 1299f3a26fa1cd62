"""Norms and projections by token position."""

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from steerlab.plots import _input, theme

# More tokens than this cannot be read side by side on a narrow page.
MOST_TOKENS = 32


def token_magnitudes(d_or_magnitudes: _input.Vector | _input.Magnitudes) -> go.Figure:
    """Norms by position: of a direction as bars, of a magnitude analysis as one line per layer.

    A second panel shows the mean projection where the analysis has one. The axis is logarithmic when norms differ by
    more than a factor of 30, as they do where the first position holds an attention sink.

    Raises:
        TypeError: Neither a Direction nor a Magnitudes was given.
        ValueError: A column is missing or there are no rows.

    Example:
        >>> import steerlab as sl, torch
        >>> direction = sl.Direction(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), layer=2, positions=(-2, -1))
        >>> sl.plots.token_magnitudes(direction).data[0].y
        array([5., 1.])
    """
    if isinstance(d_or_magnitudes, _input.Magnitudes):
        return _magnitude_lines(d_or_magnitudes)
    d = _input.expect(d_or_magnitudes, _input.Vector, "d_or_magnitudes", "a Direction or a Magnitudes")
    norms = np.atleast_1d(np.asarray(d.token_norms(), dtype=float))
    name = theme.label(getattr(d, "name", f"layer {d.layer}"))
    hover = [f"position {i}<br>norm {norm:.4g}" for i, norm in enumerate(norms)]
    fig = go.Figure(go.Bar(x=list(range(len(norms))), y=norms, marker_color=theme.BLUE, hovertext=hover, hoverinfo="text"))
    fig.update_xaxes(title_text="position in the vector", zeroline=False, **({"dtick": 1} if len(norms) <= 12 else {}))
    fig.update_yaxes(title_text="norm (residual-stream units)")
    note = f"Layer {d.layer}; the largest is {norms.max():.3g} at position {int(norms.argmax())}."
    return theme.style(fig, f"Norm of {name} at each position", (note,), 354)


def _magnitude_lines(m: _input.Magnitudes) -> go.Figure:
    rows = _input.need(m.by_position(), "by_position()", ["layer", "position", "n", "norm", "projection"])
    frame = _input.need(m.frame, "frame", ["problem_id", "position", "token"])
    measures = ["norm", "projection"] if rows["projection"].notna().any() else ["norm"]
    fig = make_subplots(rows=len(measures), cols=1, shared_xaxes=True, vertical_spacing=0.08)
    layers = sorted(rows["layer"].unique().tolist())
    tokens = _tokens(frame)
    what = "mean norm" if frame["problem_id"].nunique() > 1 else "norm"
    ticks = tokens if len(tokens) <= MOST_TOKENS else {}
    for place, layer in enumerate(layers):
        part = rows[rows["layer"] == layer].sort_values("position")
        few = len(layers) <= len(theme.LINES)
        share = place / max(len(layers) - 1, 1)
        colour = theme.LINES[place] if few else sample_colorscale(list(theme.SEQUENTIAL), [share])[0]
        for panel, measure in enumerate(measures, start=1):
            hover = [
                f"layer {layer}, position {row['position']} {tokens.get(row['position'], '')}<br>"
                f"{what.replace('norm', measure)} {row[measure]:.4g}<br>n {row['n']}"
                for row in part.to_dict("records")
            ]
            line = _line_by_position(part, measure, colour, place if few else 0)
            line.update(name=f"layer {layer}", legendgroup=str(layer), showlegend=panel == 1, hovertext=hover)
            fig.add_trace(line, row=panel, col=1)
    norms = rows["norm"]
    wide = norms.min() > 0 and norms.max() > 30 * norms.min()
    scale = ", log scale" if wide else ""
    fig.update_yaxes(title_text=f"{what}{scale}<br>(residual-stream units)", row=1, col=1)
    if wide:
        fig.update_yaxes(type="log", tickvals=theme.log_ticks(norms.min(), norms.max()), tickformat=",~g", row=1, col=1)
    if len(measures) == 2:
        fig.update_yaxes(title_text=f"{what.replace('norm', 'projection')}<br>(residual-stream units)", row=2, col=1)
    fig.update_xaxes(zeroline=False)
    title = "position in the prompt"
    if ticks:
        fig.update_xaxes(tickvals=list(ticks), ticktext=list(ticks.values()), tickangle=-60)
        title = "token"
    fig.update_xaxes(title_text=title, row=len(measures), col=1)
    inner = 210 * len(measures) + 60
    theme.legend_below(fig, inner)
    if ticks:  # tokens hang deeper than numbers
        fig.update_layout(legend_y=-110 / inner)
    count = frame["problem_id"].nunique()
    top = rows.iloc[int(norms.argmax())]
    at = f"layer {top['layer']:.0f}, position {top['position']:.0f}"
    token = tokens.get(int(top["position"]))
    notes = (f"{count} problem{'s' if count > 1 else ''}.", f"The token there is {token}." if token else "")
    bottom = 150 if ticks else 100
    return theme.style(fig, f"The residual stream is largest at {at}: {what} {_short(top['norm'])}", notes, inner + bottom, bottom=bottom)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _line_by_position(part: pd.DataFrame, measure: str, colour: str, place: int) -> go.Scatter:
    return go.Scatter(
        x=part["position"],
        y=part[measure],
        mode="lines+markers",
        line={"color": colour, "dash": theme.DASHES[place]},
        marker={"symbol": theme.SYMBOLS[place], "size": 6},
        hoverinfo="text",
    )


def _tokens(frame: pd.DataFrame) -> dict[int, str]:
    # Means over several prompts belong to no token.
    one = frame.drop_duplicates("position").sort_values("position")
    if frame["problem_id"].nunique() > 1:
        return {}
    return {int(p): theme.label(str(t).replace(" ", "·"), 12) for p, t in zip(one["position"], one["token"], strict=True)}
