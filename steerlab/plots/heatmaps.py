"""Heatmaps: accuracy over layer and alpha, and the dimensions of directions."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from steerlab._checks import InputError
from steerlab.plots import _cells, _input, theme
from steerlab.statistics.multiplicity import MaxStatisticTest
from steerlab.sweeps.changes import cell_key

MOST_DIMENSIONS = 64


def layer_alpha_heatmap(
    sw: _input.Sweep, direction: str | None = None, *, tested: MaxStatisticTest | None = None, level: float = 0.05
) -> go.Figure:
    """Change in accuracy for every layer and alpha of a sweep.

    Colour is the change in percentage points, centred on 0 (blue: more right answers; red: fewer). The title states
    the baseline; the hover states the counts behind a cell. Several directions at one layer get a panel each. A report
    that is given `steerlab.changes(sw)` lists the problems behind a cell that is clicked on.

    Args:
        sw: A sweep's result.
        direction: Name of the direction to show; all by default.
        tested: What `SweepResult.max_statistic_test` found; cells that survive it are outlined, and a note says how many were tried.
        level: At which they survive.

    Raises:
        TypeError: `sw` is no sweep result.
        ValueError: No such direction, the sweep has no baseline, or a level outside (0, 1).

    Example:
        >>> import steerlab as sl, torch
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> directions = {layer: sl.Direction(torch.ones(model.cfg.d_model), layer=layer) for layer in (2, 3)}
        >>> sw = sl.sweep(model, task.validation[:20], directions, alphas=[-1, 0, 1])
        >>> sl.plots.layer_alpha_heatmap(sw).data[0].z.shape
        (2, 3)
    """
    rows = _cells.only(_cells.cells(sw), "direction", direction)
    rows = rows.assign(shown=100 * rows["change"], hover=[_cells.cell_hover(row) for row in rows.to_dict("records")])
    survivors = set() if tested is None else set(tested.survivors(level).index)
    rows["outlined"] = [(row["layer"], row["direction"], row["alpha"]) in survivors for row in rows.to_dict("records")]
    rows.loc[rows["outlined"], "hover"] += f"<br>survives the correction at {level:g}"
    most = rows.iloc[int(rows["change"].abs().argmax())]
    largest = f"Largest change {theme.signed(100 * most['change'])} points, at layer {most['layer']}, alpha "
    notes = [largest + theme.alpha_text(most["alpha"]) + ".", _about(rows)]
    if tested is not None:
        outlined = f"Outlined: {len(survivors)} survive" if len(survivors) != 1 else "Outlined: 1 survives"
        outlined = outlined if survivors else "None survives"
        notes.append(f"{outlined} the max-statistic test of all {tested.n_cells} cells at {level:g}.")
    return _grid(
        rows, "change in accuracy (points)", f"Change in accuracy from a baseline of {_cells.baseline(rows)}", tuple(notes), digits=0
    )


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
    rows = _cells.only(_input.need(pv.frame, "pv.frame", [*_cells.CELL, "margin_change"]), "direction", direction)
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
    parts = _cells.panels(rows)
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
    values, texts = _cells.alpha_ticks(alphas)
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
    note = "Dimensions are ordered so that those that move together stand together."
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
