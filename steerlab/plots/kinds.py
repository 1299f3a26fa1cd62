"""Kinds of learned vectors side by side: what each changed, over how many parameters."""

from typing import Protocol, runtime_checkable

import pandas as pd
import plotly.graph_objects as go

from steerlab.plots import _input, theme

HEIGHT = 360


@runtime_checkable
class Comparison(Protocol):
    """What `steerlab.compare_context_vectors` returns."""

    @property
    def kinds(self) -> pd.DataFrame: ...
    @property
    def runs(self) -> pd.DataFrame: ...
    @property
    def verdict(self) -> str: ...


def context_kinds(found: Comparison) -> go.Figure:
    """Change of test accuracy of each kind: means with intervals, and each seed beside them.

    Args:
        found: what `steerlab.compare_context_vectors` returns.

    Raises:
        TypeError: `found` is something else.
        ValueError: There are no rows.

    Example:
        >>> import numpy as np, steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", n_train=8, n_validation=4, n_test=6)
        >>> found = sl.compare_context_vectors(
        ...     model, task.train, task.validation, task.test, layer=3, rng=np.random.default_rng(0), kinds=("static", "modulated"),
        ...     n_train=4, epochs=1, seeds=(0, 1), lrs=[1e-2],
        ... )
        >>> len(context_kinds(found).data)
        2
    """
    found = _input.expect(found, Comparison, "found", "what steerlab.compare_context_vectors returns")
    rows = _input.need(found.kinds, "found.kinds", ["kind", "n_parameters", "change", "low", "high"])
    runs = _input.need(found.runs, "found.runs", ["kind", "seed", "change"])
    labels = {kind: f"{theme.label(kind)}<br>{n:,}" for kind, n in zip(rows["kind"], rows["n_parameters"], strict=True)}
    fig = go.Figure()
    fig.add_trace(
        go.Scatter(
            x=[labels[kind] for kind in runs["kind"]],
            y=100 * runs["change"],
            mode="markers",
            marker={"color": theme.GREY, "symbol": theme.SYMBOLS[4], "size": 8},
            name="each seed",
            hovertext=[
                f"seed {seed}<br>{theme.signed(100 * change)} points" for seed, change in zip(runs["seed"], runs["change"], strict=True)
            ],
            hoverinfo="text",
        )
    )
    fig.add_trace(
        go.Scatter(
            x=[labels[kind] for kind in rows["kind"]],
            y=100 * rows["change"],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": 100 * (rows["high"] - rows["change"]),
                "arrayminus": 100 * (rows["change"] - rows["low"]),
                "color": theme.BLUE,
            },
            mode="markers",
            marker={"color": theme.BLUE, "symbol": theme.SYMBOLS[0], "size": 10},
            name="mean, 95% interval",
            hovertext=[
                f"{theme.signed(change)} points<br>95% interval {theme.signed(low)} to {theme.signed(high)}"
                for change, low, high in (100 * rows[["change", "low", "high"]]).to_numpy().tolist()
            ],
            hoverinfo="text",
        )
    )
    fig.update_xaxes(title_text="kind of vector, parameters")
    fig.update_yaxes(title_text="change of test accuracy, points", zeroline=True)
    theme.legend_below(fig, HEIGHT)
    headline = {
        "holds": "Fewer parameters won",
        "holds in part": "Fewer parameters won against some",
        "contradicted": "More parameters won",
    }.get(found.verdict, "No kind is shown to be better than the smallest")
    return theme.style(fig, headline, ("Intervals draw problems and seeds anew.",), HEIGHT + 130, bottom=130)
