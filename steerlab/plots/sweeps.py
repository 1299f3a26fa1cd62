"""Figures of sweeps: accuracy against alpha, heatmaps over layer and alpha, dimensions of directions, training curves."""

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from steerlab._checks import InputError
from steerlab.plots import _input, theme
from steerlab.statistics.multiplicity import MaxStatisticTest

CELL = ["layer", "direction", "alpha"]


def only(rows: pd.DataFrame, column: str, value: object) -> pd.DataFrame:
    """The rows where `column` is `value`; all rows when it is None."""
    if value is None:
        return rows
    found = rows[rows[column] == value]
    if found.empty:
        there = _input.listed(pd.unique(rows[column].sort_values()))
        raise InputError(f"{column}={repr(value)[:60]}: this sweep has {column} {there}")
    return found


SHOWN = {
    "accuracy": ("change", 100.0, "change in accuracy (points)", 0),
    "margin": ("margin_change", 1.0, "change of the mean margin", 1),
    "nll": ("nll_change", 1.0, "change of the mean loss (nats)", 1),
}


def cells(sw: _input.Sweep, *more: str) -> pd.DataFrame:
    """Accuracy and transitions of a sweep side by side, one row per layer, direction and alpha; and more columns of its accuracy table."""
    sweep = _input.expect(sw, _input.Sweep, "sw", "a SweepResult, as steerlab.sweep returns it")
    measured = list(dict.fromkeys(["n", "correct", "accuracy", "low", "high", "change", *more]))
    table = _input.need(sweep.accuracy(), "sw.accuracy()", [*CELL, *measured])
    rows = table[[*CELL, *(["dose"] if "dose" in table else []), *measured]]
    counts = ["stayed_right", "became_right", "became_wrong", "stayed_wrong"]
    moved = _input.need(sweep.transitions(), "sw.transitions()", [*CELL, *counts])[CELL + counts]
    for name, frame in (("sw.accuracy()", rows), ("sw.transitions()", moved)):
        if frame.duplicated(CELL).any():
            twice = frame[frame.duplicated(CELL)].iloc[0]
            raise InputError(f"{name}: layer {twice.layer}, alpha {twice.alpha:g} occurs twice; one row per cell is needed")
    if rows["change"].isna().any():
        raise InputError("sw.accuracy(): change is missing; sweep with alpha 0 among the alphas so that there is a baseline")
    # A baseline may have no row of transitions: nothing moved.
    return rows.merge(moved, on=CELL, how="left").sort_values(["layer", "alpha"], kind="stable").reset_index(drop=True)


def panels(rows: pd.DataFrame) -> list[tuple[str | None, pd.DataFrame]]:
    """One panel when no cell of layer and alpha is held twice, else one per direction."""
    if not rows.duplicated(["layer", "alpha"]).any():
        return [(None, rows)]
    return [(str(name), part) for name, part in rows.groupby("direction", sort=False)]


def cell_hover(row: Mapping[Hashable, Any]) -> str:
    """The words that a cell of a sweep shows under the pointer."""
    moved, dose = "no answers moved", f", relative dose {row['dose']:.2g}" if not pd.isna(row.get("dose")) else ""
    if not pd.isna(row["became_right"]):
        moved = f"became right {row['became_right']:.0f} / became wrong {row['became_wrong']:.0f}"
    return (
        f"{theme.label(row['direction'])}<br>layer {row['layer']}, alpha {theme.alpha_text(row['alpha'])}{dose}"
        f"<br>accuracy {theme.percent(row['accuracy'])} ({row['correct']} of {row['n']})"
        f"<br>95% interval {theme.percent(row['low'])} to {theme.percent(row['high'])}<br>change {theme.signed(100 * row['change'])} points"
        f"<br>{moved}"
    )


def cell_key(layer: object, alpha: float, direction: object) -> str:
    """The name by which a point of a figure finds the problems behind it; of the direction's own name it holds a digest only."""
    digest = hashlib.sha256(str(direction).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{layer}|{float(alpha):g}|{digest[:12]}"


def keys(rows: pd.DataFrame) -> list[str]:
    """The names by which a page finds the problems behind the points of a figure."""
    return [cell_key(row["layer"], row["alpha"], row["direction"]) for row in rows.to_dict("records")]


def baseline(rows: pd.DataFrame) -> str:
    """The unsteered accuracy of a sweep in words, with its n."""
    before = rows["accuracy"] - rows["change"]
    low, high, n = float(before.min()), float(before.max()), int(rows["n"].max())
    if high - low < 1e-9:
        return f"{theme.percent(low)} ({round(low * n)} of {n})"
    return f"{theme.percent(low)} to {theme.percent(high)} (n up to {n})"


def alpha_ticks(alphas: Sequence[float]) -> tuple[list[int], list[str]]:
    """Places and labels for alphas at 0, 1, 2, ...; only the whole ones when all would not fit a narrow page."""
    whole = [i for i, alpha in enumerate(alphas) if float(alpha).is_integer()]
    few = len(alphas) <= 8 or len(whole) < 3
    places = list(range(0, len(alphas), -(-len(alphas) // 13))) if few else whole
    return places, [theme.alpha_text(alphas[i]) for i in places]


MOST_DIMENSIONS = 64


def layer_alpha_heatmap(
    sw: _input.Sweep,
    direction: str | None = None,
    *,
    measure: str = "accuracy",
    tested: MaxStatisticTest | None = None,
    level: float = 0.05,
) -> go.Figure:
    """Change in accuracy, or in another measure, for every layer and alpha of a sweep.

    Colour is the change (of accuracy in percentage points), centred on 0 (blue: more right answers; red: fewer). The title states
    the baseline; the hover states the counts behind a cell. Several directions at one layer get a panel each. A report
    that is given `steerlab.changed_problems(sw)` lists the problems behind a cell that is clicked on.

    Args:
        sw: A sweep's result.
        direction: Name of the direction to show; all by default.
        measure: "accuracy", "margin" or "nll": whose change is shown.
        tested: What `SweepResult.max_statistic_test` found; cells with p below the level are outlined, and a note says how many were compared.
        level: of the corrected p-values.

    Raises:
        TypeError: `sw` is no sweep result.
        ValueError: No such direction or measure, the sweep has no baseline, or a level outside (0, 1).

    Example:
        >>> import steerlab as sl, torch
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> directions = {layer: sl.Direction(torch.ones(model.cfg.d_model), layer=layer) for layer in (2, 3)}
        >>> sw = sl.sweep(model, task.validation[:20], directions, alphas=[-1, 0, 1])
        >>> sl.plots.layer_alpha_heatmap(sw).data[0].z.shape
        (2, 3)
    """
    if measure not in SHOWN:
        raise InputError(f"measure={repr(measure)[:60]}: expected {', '.join(SHOWN)}")
    column, scale, unit, digits = SHOWN[measure]
    rows = only(cells(sw, column), "direction", direction)
    rows = rows.assign(shown=scale * rows[column], hover=[cell_hover(row) for row in rows.to_dict("records")])
    survivors = set() if tested is None else set(tested.survivors(level).index)
    rows["outlined"] = [(row["layer"], row["direction"], row["alpha"]) in survivors for row in rows.to_dict("records")]
    rows.loc[rows["outlined"], "hover"] += f"<br>significant after correction at {level:g}"
    most = rows.iloc[int(rows["shown"].abs().argmax())]
    largest = f"Largest change {theme.signed(most['shown'], digits + 1)}{' points' if measure == 'accuracy' else ''}, at layer {most['layer']}, alpha "
    notes = [largest + theme.alpha_text(most["alpha"]) + ".", _about(rows)]
    if tested is not None:
        outlined = f"Outlined: {len(survivors)} significant in" if survivors else "None significant in"
        notes.append(f"{outlined} the max-statistic test of all {tested.n_cells} cells at {level:g}.")
    title = f"Change in accuracy from a baseline of {baseline(rows)}" if measure == "accuracy" else f"Change of the mean {measure}"
    return _grid(rows, unit, title, tuple(notes), digits=digits)


def preview_heatmap(pv: _input.Preview, direction: str | None = None) -> go.Figure:
    """The change of the mean margin that the gradient predicts for every layer and alpha.

    Args:
        pv: A preview's result.
        direction: Name of the direction to show; all by default.

    Raises:
        TypeError: `pv` is no preview.
        ValueError: No such direction.

    Example:
        >>> import steerlab as sl, torch
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> direction = sl.Direction(torch.ones(model.cfg.d_model), layer=3)
        >>> pv = sl.preview(model, task.validation[:20], direction, alphas=[-1, 1])
        >>> sl.plots.preview_heatmap(pv).data[0].z.shape
        (6, 2)
    """
    pv = _input.expect(pv, _input.Preview, "pv", "a Preview, as steerlab.preview returns it")
    rows = only(_input.need(pv.frame, "pv.frame", [*CELL, "margin_change"]), "direction", direction)
    hover = [
        f"{theme.label(row['direction'])}<br>layer {row['layer']}, alpha {theme.alpha_text(row['alpha'])}"
        f"<br>predicted change of the mean margin {theme.signed(row['margin_change'], 2)}"
        for row in rows.to_dict("records")
    ]
    rows = rows.assign(shown=rows["margin_change"], hover=hover)
    found = pv.correlation
    agrees = (
        "Not compared with a measured sweep."
        if found is None
        else f"Correlation with the measured sweep: {found.pearson:.2f} over {found.n} cells (rank: {found.spearman:.2f})."
    )
    most = rows.iloc[int(rows["margin_change"].abs().argmax())]
    largest = f"Largest {theme.signed(most['margin_change'], 2)}, at layer {most['layer']}, alpha {theme.alpha_text(most['alpha'])}."
    title = "Predicted change of the mean margin, to first order"
    return _grid(rows, "change of the mean margin", title, (largest, agrees, _about(rows)), digits=1)


def _about(rows: pd.DataFrame) -> str:
    who = pd.unique(rows["direction"])
    return f"Direction: {theme.label(who[0])}." if len(who) == 1 else f"{len(who)} directions."


def _grid(rows: pd.DataFrame, unit: str, title: str, notes: tuple[str, ...], *, digits: int) -> go.Figure:
    """Layers by alphas, coloured by the column `shown` around 0; one panel a direction where cells would coincide."""
    parts = panels(rows)
    layers, alphas = sorted(rows["layer"].unique().tolist()), sorted(rows["alpha"].unique().tolist())
    each = max(150, 26 * len(layers)) + 24
    inner = each * len(parts)
    names = [theme.label(name) if name is not None else "" for name, _ in parts]
    fig = make_subplots(
        rows=len(parts),
        cols=1,
        shared_xaxes=True,
        subplot_titles=names if len(parts) > 1 else None,
        vertical_spacing=30 / inner if len(parts) > 1 else None,
    )
    for place, (_, part) in enumerate(parts, start=1):
        fig.add_trace(_cells_trace(part, layers, alphas, digits), row=place, col=1)
        if "outlined" in part and part["outlined"].any():
            path = _outline(
                {(layers.index(at), alphas.index(alpha)) for at, alpha in part.loc[part["outlined"], ["layer", "alpha"]].to_numpy()}
            )
            fig.add_shape(type="path", path=path, line_width=2.5, row=place, col=1)
    values, texts = alpha_ticks(alphas)
    fig.update_xaxes(tickvals=values, ticktext=texts, tickangle=0, showgrid=False, zeroline=False)
    fig.update_xaxes(title_text="coefficient alpha", row=len(parts), col=1)
    shown = range(0, len(layers), -(-len(layers) // 24))
    fig.update_yaxes(
        title_text="layer",
        tickvals=list(shown),
        ticktext=[str(layers[i]) for i in shown],
        showgrid=False,
        zeroline=False,
    )
    limit = theme.positive_range(float(rows["shown"].abs().max()))
    bar = theme.colorbar_below(unit, inner)
    # The template holds the colours, so that a dark page can have its own.
    fig.update_layout(coloraxis={"autocolorscale": True, "cmin": -limit, "cmax": limit, "colorbar": bar})
    return theme.style(fig, title, notes, inner + 130, bottom=130)


def _cells_trace(part: pd.DataFrame, layers: list[int], alphas: list[float], digits: int) -> go.Heatmap:
    shape = (len(layers), len(alphas))
    change = np.full(shape, np.nan)
    text, hover = np.full(shape, "", dtype=object), np.full(shape, "not measured", dtype=object)
    keys = np.full(shape, "", dtype=object)
    for row in part.to_dict("records"):
        cell = layers.index(row["layer"]), alphas.index(row["alpha"])
        change[cell] = row["shown"]
        text[cell] = theme.signed(change[cell], digits)
        hover[cell] = row["hover"]
        keys[cell] = cell_key(row["layer"], row["alpha"], row["direction"])
    return go.Heatmap(
        z=change,
        text=text.tolist(),
        texttemplate="%{text}",
        hovertext=hover.tolist(),
        hoverinfo="text",
        customdata=keys.tolist(),
        xgap=1,
        ygap=1,
        coloraxis="coloraxis",
    )


def _outline(cells: set[tuple[int, int]]) -> str:
    """The border around cells (row, column) as an SVG path: the edges that no two of them share."""
    steps = []
    for row, column in sorted(cells):
        left, right, low, high = column - 0.5, column + 0.5, row - 0.5, row + 0.5
        for beside, (x0, y0, x1, y1) in (
            ((row, column - 1), (left, low, left, high)),
            ((row, column + 1), (right, low, right, high)),
            ((row - 1, column), (left, low, right, low)),
            ((row + 1, column), (left, high, right, high)),
        ):
            if beside not in cells:
                steps.append(f"M{x0},{y0}L{x1},{y1}")
    return "".join(steps)


def direction_heatmap(d: _input.Vector | Sequence[_input.Vector] | Mapping[object, _input.Vector]) -> go.Figure:
    """The values of one direction (position by dimension) or of several (layer by dimension).

    Dimensions are ordered by their loading on the rows' first right singular vector, so that dimensions that move
    together stand together; for a single row that is the order of the values. Of more than 64 dimensions the 64 with
    the largest absolute value in any row are shown, and the title says so.

    Args:
        d: A Direction, a list of them, or a dict of them (for example by layer).

    Raises:
        TypeError: Something else was given.
        ValueError: No direction, directions of different d_model, or a value that is not finite.

    Example:
        >>> import steerlab as sl, torch
        >>> directions = [sl.Direction(torch.eye(4)[k], layer=k, name=f"axis {k}") for k in range(2)]
        >>> sl.plots.direction_heatmap(directions).data[0].z.shape
        (2, 4)
    """
    named = _named(d)
    widths = {values.shape[1] for _, values in named}
    if len(widths) > 1:
        raise InputError(f"d: directions of d_model {_input.listed(sorted(widths))}; all must come from one model")
    labels = [
        name if len(values) == 1 else f"position {i}" if len(named) == 1 else f"{name} position {i}"
        for name, values in named
        for i in range(len(values))
    ]
    values = np.concatenate([values for _, values in named])
    width = values.shape[1]
    # The stable sort makes equal values keep the order of their dimension.
    largest = np.sort(np.argsort(-np.abs(values).max(axis=0), kind="stable")[:MOST_DIMENSIONS])
    order = largest[_seriation(values[:, largest])]
    hover = [[f"{name}<br>dimension {k}<br>value {values[i, k]:.4g}" for k in order] for i, name in enumerate(labels)]
    limit = theme.positive_range(float(np.abs(values).max()))
    inner = max(110, 24 * len(labels))
    fig = go.Figure(go.Heatmap(z=values[:, order], hovertext=hover, hoverinfo="text", coloraxis="coloraxis"))
    bar = theme.colorbar_below("value (residual-stream units)", inner)
    fig.update_layout(coloraxis={"autocolorscale": True, "cmin": -limit, "cmax": limit, "colorbar": bar})
    step = -(-len(order) // 6)
    fig.update_xaxes(
        title_text="dimension of the residual stream",
        tickvals=list(range(0, len(order), step)),
        ticktext=[str(k) for k in order[::step]],
        tickangle=0,
        showgrid=False,
        zeroline=False,
    )
    shown = list(range(0, len(labels), -(-len(labels) // 32)))
    fig.update_yaxes(tickvals=shown, ticktext=[labels[i] for i in shown], autorange="reversed", showgrid=False, zeroline=False)
    all_of = f"all {width} dimensions" if width == len(order) else f"the {len(order)} largest of {width} dimensions"
    what = named[0][0] if len(named) == 1 else f"{len(named)} directions"
    note = "Dimensions are ordered so that similar ones are adjacent."
    return theme.style(fig, f"Values of {what}: {all_of}", (note,), inner + 130, bottom=130)


def _named(d: Any) -> list[tuple[str, np.ndarray]]:
    wanted = "a Direction, or a list or dict of Directions"
    if isinstance(d, Mapping):
        items = [(f"layer {k}" if isinstance(k, int) else theme.label(k, 24), v) for k, v in d.items()]
    elif isinstance(d, Sequence) and not isinstance(d, str | bytes):
        layers = [getattr(v, "layer", None) for v in d]
        named_too = len(set(layers)) < len(layers)  # several at one layer are told apart by name
        items = [(f"layer {v.layer}, {theme.label(v.name, 16)}" if named_too and hasattr(v, "name") else "", v) for v in d]
    else:
        single = _input.expect(d, _input.Vector, "d", wanted)
        return [(theme.label(getattr(single, "name", f"layer {single.layer}"), 24), _input.matrix(single, "d"))]
    if not items:
        raise InputError(f"d: nothing to show; expected {wanted}")
    named = []
    for place, (name, value) in enumerate(items):
        vector = _input.expect(value, _input.Vector, f"d[{place}]", wanted)
        named.append((name or f"layer {vector.layer}", _input.matrix(vector, f"d[{place}]")))
    return named


def _seriation(values: np.ndarray) -> np.ndarray:
    loading = np.linalg.svd(values, full_matrices=False)[2][0]
    # A singular vector's sign is arbitrary; the largest value of the rows decides it, so that the order is repeatable.
    strongest = np.unravel_index(np.abs(values).argmax(), values.shape)
    sign = 1.0 if loading[strongest[1]] * values[strongest] >= 0 else -1.0
    return np.argsort(sign * loading, kind="stable")


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
    rows, points = cells(sw), []
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
    rows = only(rows, "layer", layer)
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
    notes = [f"Baseline {baseline(rows)}."]
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
        hovertext=[cell_hover(row) for row in part.to_dict("records")],
        customdata=keys(part),
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
