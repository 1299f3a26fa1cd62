"""What vectors of each task do on each task, as a matrix with intervals."""

from collections.abc import Hashable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from steerlab.plots import _input, theme
from steerlab.statistics._format import format_p

CELL = 44


@runtime_checkable
class Transfers(Protocol):
    """The part of a transfer study that is drawn."""

    @property
    def frame(self) -> pd.DataFrame: ...


def transfer_matrix(found: Transfers) -> go.Figure:
    """Change of accuracy on each task's test problems under each task's vector; one panel a method.

    Rows say where a vector comes from, columns where it is tested. Cells whose corrected p-value is below 0.05 have a star; the hover states
    the interval and what random and shuffled-label vectors did.

    Args:
        found: what `steerlab.transfer` returns.

    Raises:
        TypeError: `found` is something else.
        ValueError: There are no rows.

    Example:
        >>> import numpy as np, steerlab as sl
        >>> model = sl.load_model("tiny-arithmetic")
        >>> tasks = {name: sl.load_task("arithmetic", variant=name, limit=24) for name in ("story", "largest")}
        >>> found = sl.transfer(model, tasks, rng=np.random.default_rng(0), methods=["mean_difference"], layers=[4], alphas=[1.0],
        ...     n_train=24, n_validation=8, n_test=8, n_random=2, n_shuffled=2)
        >>> transfer_matrix(found).data[0].z.shape
        (2, 2)
    """
    found = _input.expect(found, Transfers, "found", "what steerlab.transfer returns")
    columns = ["method", "source", "target", "change", "low", "high", "p", "p_holm", "n", "random", "shuffled", "p_random"]
    rows = _input.need(found.frame, "found.frame", columns)
    names, methods = list(pd.unique(rows["source"])), list(pd.unique(rows["method"]))
    each = CELL * len(names) + 30
    inner = each * len(methods)
    fig = make_subplots(
        rows=len(methods), cols=1, shared_xaxes=True, subplot_titles=[theme.label(m) for m in methods], vertical_spacing=34 / inner
    )
    labels = [theme.label(name, 18) for name in names]
    for place, method in enumerate(methods, start=1):
        shape = (len(names), len(names))
        values, text, hover = np.full(shape, np.nan), np.full(shape, "", dtype=object), np.full(shape, "not measured", dtype=object)
        for row in rows[rows["method"] == method].to_dict("records"):
            at = names.index(row["source"]), names.index(row["target"])
            values[at] = 100 * row["change"]
            text[at] = theme.signed(values[at], 1) + ("*" if row["p_holm"] < 0.05 else "")
            hover[at] = _hover(row)
        trace = go.Heatmap(
            z=values, text=text.tolist(), texttemplate="%{text}", hovertext=hover.tolist(), hoverinfo="text",
            xgap=1, ygap=1, coloraxis="coloraxis",
        )  # fmt: skip
        fig.add_trace(trace, row=place, col=1)
        fig.update_yaxes(title_text="found on", autorange="reversed", row=place, col=1)
    # Ticks at places, because Plotly lays names that are cut to the same letters over each other.
    ticks = {"tickvals": list(range(len(names))), "ticktext": labels, "showgrid": False, "zeroline": False}
    fig.update_xaxes(**ticks)
    fig.update_yaxes(**ticks)
    fig.update_xaxes(title_text="tested on", row=len(methods), col=1)
    limit = theme.positive_range(float(100 * rows["change"].abs().max()))
    bar = theme.colorbar_below("change in accuracy (points)", inner)
    fig.update_layout(coloraxis={"autocolorscale": True, "cmin": -limit, "cmax": limit, "colorbar": bar})
    apart = rows[rows["source"] != rows["target"]]
    clear = int((apart["p_holm"] < 0.05).sum())
    headline = f"{clear} of {len(apart)} transfers change accuracy after correction"
    notes = ("*: exact sign test, Holm's correction over all cells off the diagonal; hover for intervals and nulls.",)
    return theme.style(fig, headline, notes, inner + 140, bottom=130)


def _hover(row: Mapping[Hashable, Any]) -> str:
    corrected = "" if pd.isna(row["p_holm"]) else f", {format_p(row['p_holm'], digits=2)} corrected"
    return (
        f"{theme.label(row['source'])} to {theme.label(row['target'])}, n = {row['n']:.0f}<br>{theme.signed(100 * row['change'])} points "
        f"({theme.signed(100 * row['low'])} to {theme.signed(100 * row['high'])})<br>sign test {format_p(row['p'], digits=2)}{corrected}<br>"
        f"random directions {theme.signed(100 * row['random'])} in the median, {format_p(row['p_random'], digits=2)}<br>"
        f"shuffled labels {theme.signed(100 * row['shuffled'])}"
    )
