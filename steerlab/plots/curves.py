"""Curves: accuracy against alpha, and the training of a learned vector."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from steerlab._checks import InputError
from steerlab.plots import _cells, _input, theme

PLOT_HEIGHT = 300


def alpha_progression(
    sw: _input.Sweep, layer: int | None = None, control: _input.Control | Sequence[_input.Control] | None = None
) -> go.Figure:
    """Accuracy against alpha, with the Wilson interval as a band and the baseline as a line.

    Up to five lines have a band each; of more lines (many layers), colour is the layer and the interval is in the
    hover. With controls, their directions stand as points at their alpha (side by side where they coincide), with the
    central 95% of them as a bar.

    Args:
        sw: A sweep's result.
        layer: The layer to show; with a control its layer, else all by default.
        control: A random control of the same model and task, or several at one layer.

    Raises:
        TypeError: `sw` is no sweep result, or `control` no control result.
        ValueError: No such layer, or a control is of another one.

    Example:
        >>> import steerlab as sl, torch
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> direction = sl.Direction(torch.ones(model.cfg.d_model), layer=3)
        >>> sw = sl.sweep(model, task.validation[:20], direction, alphas=[-1, 0, 1])
        >>> sl.plots.alpha_progression(sw).layout.xaxis.title.text
        'coefficient alpha'
    """
    rows, points = _cells.cells(sw), []
    given: list[Any] = [] if control is None else list(control) if isinstance(control, list | tuple) else [control]
    controls: list[_input.Control] = [
        _input.expect(one, _input.Control, "control", "a ControlResult, as steerlab.random_control returns it") for one in given
    ]
    for one in controls:
        if one.layer is None or one.alpha is None:
            raise InputError("control: it does not say at which layer and alpha it acted; give controls_from_frame both")
        if layer is not None and layer != one.layer:
            raise InputError(f"layer={layer}: the control was made at layer {one.layer}; use that layer or none")
        layer = one.layer
    if controls:
        where = " and ".join(theme.alpha_text(alpha) for alpha in sorted(one.alpha for one in controls if one.alpha is not None))
        points = [f"Points: random directions at alpha {where}; bar: central 95% of them."]
    rows = _cells.only(rows, "layer", layer)
    lines = list(rows.groupby(["layer", "direction"], sort=False))
    several = rows["direction"].nunique() > rows["layer"].nunique()
    fig = go.Figure()
    gaps = np.diff(np.sort(rows["alpha"].unique()))
    for place, one in enumerate(controls):
        _control(fig, one, int(rows["n"].max()), float(gaps.min()) if len(gaps) else 1.0, first=place == 0)
    if len(lines) <= len(theme.LINES):
        for place, ((at, name), part) in enumerate(lines):
            _band(fig, part, place)
            text = f"layer {at}: {theme.label(name, 30)}" if several else f"layer {at}"
            fig.add_trace(_line(part, theme.LINES[place], text, place))
    else:
        _many_lines(fig, lines)
    start = 100 * (rows["accuracy"] - rows["change"]).iloc[0]
    alphas = rows["alpha"]
    fig.add_trace(
        go.Scatter(
            x=[alphas.min(), alphas.max()],
            y=[start, start],
            mode="lines",
            line={"color": theme.GREY, "dash": "dot", "width": 1.5},
            name="baseline",
            hoverinfo="skip",
        )
    )
    fig.update_xaxes(title_text="coefficient alpha", zeroline=False)
    fig.update_yaxes(title_text="accuracy (%)", zeroline=False)
    many = len(lines) > len(theme.LINES)
    if many:
        fig.update_layout(showlegend=False)
    else:
        theme.legend_below(fig, PLOT_HEIGHT)
    where = f"layer {rows['layer'].iloc[0]}" if rows["layer"].nunique() == 1 else f"{rows['layer'].nunique()} layers"
    least, most = (rows.iloc[int(place)] for place in (rows["accuracy"].argmin(), rows["accuracy"].argmax()))
    ends = [f"{theme.percent(row['accuracy'])} (alpha {theme.alpha_text(row['alpha'])})" for row in (least, most)]
    notes = [f"Baseline {_cells.baseline(rows)}."]
    notes.append("Wilson intervals are in the hover." if many else "Bands are 95% Wilson intervals.")
    return theme.style(fig, f"Accuracy lies between {ends[0]} and {ends[1]}, {where}", (*notes, *points), PLOT_HEIGHT + 110, bottom=110)


def _line(part: pd.DataFrame, colour: str, text: str, place: int) -> go.Scatter:
    return go.Scatter(
        x=part["alpha"],
        y=100 * part["accuracy"],
        mode="lines+markers",
        line={"color": colour, "dash": theme.DASHES[place % len(theme.DASHES)], "width": 2},
        marker={"symbol": theme.SYMBOLS[place % len(theme.SYMBOLS)], "size": 7},
        name=text,
        hovertext=[_cells.cell_hover(row) for row in part.to_dict("records")],
        customdata=_cells.keys(part),
        hoverinfo="text",
    )


def _band(fig: go.Figure, part: pd.DataFrame, place: int) -> None:
    colour = theme.LINES[place]
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    fig.add_trace(
        go.Scatter(
            x=pd.concat([part["alpha"], part["alpha"][::-1]]),
            y=100 * pd.concat([part["high"], part["low"][::-1]]),
            fill="toself",
            fillcolor=f"rgba({red},{green},{blue},0.18)",
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
        )
    )


def _many_lines(fig: go.Figure, lines: list[tuple[Any, pd.DataFrame]]) -> None:
    layers = [at for (at, _), _ in lines]
    low, span = min(layers), max(max(layers) - min(layers), 1)
    for (at, name), part in lines:
        colour = sample_colorscale(list(theme.SEQUENTIAL), [(at - low) / span])[0]
        fig.add_trace(_line(part, colour, f"layer {at}: {theme.label(name, 30)}", 0))
    # A trace without points carries the colour bar that stands for the legend.
    bar = theme.colorbar_below("layer", PLOT_HEIGHT)
    fig.add_trace(
        go.Scatter(
            x=[None],
            y=[None],
            mode="markers",
            marker={"color": [low], "coloraxis": "coloraxis"},
            hoverinfo="skip",
        )
    )
    fig.update_layout(coloraxis={"colorscale": list(theme.SEQUENTIAL), "cmin": low, "cmax": low + span, "colorbar": bar})


def _control(fig: go.Figure, control: _input.Control, n: int, gap: float, first: bool) -> None:
    rows = _input.need(control.changes(), "control.changes()", ["direction", "is_control", "accuracy"])
    accuracy = 100 * rows.loc[rows["is_control"].astype(bool), "accuracy"].to_numpy(dtype=float)
    if not len(accuracy):
        raise InputError("control.changes(): no row has is_control; a control needs at least one random direction")
    names = rows.loc[rows["is_control"].astype(bool), "direction"]
    low, middle, high = np.quantile(accuracy, [0.025, 0.5, 0.975])
    fig.add_trace(
        go.Scatter(
            x=control.alpha + _side_by_side(accuracy, gap),
            y=accuracy,
            mode="markers",
            marker={"color": theme.GREY, "opacity": 0.7, "size": 5, "symbol": "circle-open"},
            name=f"{len(accuracy)} random directions",
            legendgroup="controls",
            showlegend=first,
            hovertext=[
                f"{theme.label(name)}<br>accuracy {theme.number(a)}% ({round(a * n / 100)} of {n})"
                for name, a in zip(names, accuracy, strict=True)
            ],
            hoverinfo="text",
        )
    )
    fig.add_trace(
        go.Scatter(
            x=[control.alpha],
            y=[middle],
            error_y={
                "type": "data",
                "array": [high - middle],
                "arrayminus": [middle - low],
                "thickness": 3,
                "width": 8,
            },
            mode="markers",
            marker={"color": theme.GREY, "size": 9, "symbol": "line-ew-open", "line": {"width": 3}},
            hovertext=[f"random directions: median {theme.number(middle)}%<br>central 95%: {low:.1f} to {high:.1f}%"],
            hoverinfo="text",
            showlegend=False,
        )
    )


def _side_by_side(values: np.ndarray, gap: float) -> np.ndarray:
    """How far points move sideways so that equal ones can be counted, never nearer than half way to the next alpha."""
    _, group, sizes = np.unique(values.round(9), return_inverse=True, return_counts=True)
    step = min(0.08, 0.8 / max(int(sizes.max()) - 1, 1)) * gap
    place = np.zeros(len(values))
    for each, size in enumerate(sizes):
        place[group == each] = np.arange(size) - (size - 1) / 2
    return step * place


def training_curve(history: pd.DataFrame | _input.Learned) -> go.Figure:
    """Loss, vector norm and validation accuracy by epoch, one panel each.

    Args:
        history: A learned vector, or its history: columns epoch, loss, norm, validation_accuracy (a share of 1; all missing when there was none).

    Raises:
        TypeError: Neither was given.
        ValueError: A column is missing or there are no rows.

    Example:
        >>> history = pd.DataFrame({"epoch": [1, 2], "loss": [2.0, 1.5], "norm": [1.0, 1.2], "validation_accuracy": [0.5, 0.6]})
        >>> training_curve(history).layout.title.text.replace("<br>", " ").split(" <span")[0]
        'Training loss falls from 2 to 1.5 in 2 epochs'
    """
    table = history.history if isinstance(history, _input.Learned) else history
    rows = _input.need(table, "history", ["epoch", "loss", "norm", "validation_accuracy"]).sort_values("epoch")
    series = [("loss", rows["loss"], "training loss (nats)"), ("norm", rows["norm"], "norm of the vector")]
    accuracy = 100 * rows["validation_accuracy"].astype(float)
    if accuracy.notna().any():
        series.append(("validation accuracy", accuracy, "validation<br>accuracy (%)"))
    fig = make_subplots(rows=len(series), cols=1, shared_xaxes=True, vertical_spacing=0.07)
    for place, (name, values, unit) in enumerate(series):
        fig.add_trace(
            go.Scatter(
                x=rows["epoch"],
                y=values,
                mode="lines+markers",
                line={"color": theme.LINES[place]},
                marker={"symbol": theme.SYMBOLS[place], "size": 6},
                hovertext=[f"epoch {e}<br>{name} {v:.4g}" for e, v in zip(rows["epoch"], values, strict=True)],
                hoverinfo="text",
                showlegend=False,
            ),
            row=place + 1,
            col=1,
        )
        fig.update_yaxes(title_text=unit, row=place + 1, col=1)
    fig.update_xaxes(title_text="epoch", row=len(series), col=1)
    first, last = rows["loss"].iloc[0], rows["loss"].iloc[-1]
    verb = "falls" if last < first else "rises" if last > first else "stays"
    notes = ["There was no validation set."]
    if accuracy.notna().any():
        best = int(np.nanargmax(accuracy))
        notes = [f"Validation accuracy is highest at epoch {rows['epoch'].iloc[best]}: {theme.number(accuracy.iloc[best])}%."]
    headline = f"Training loss {verb} from {first:.3g} to {last:.3g} in {len(rows)} epochs"
    return theme.style(fig, headline, tuple(notes), 140 * len(series) + 54)
