"""How alike learned vectors are, and what they do, against the number of problems that they were trained on."""

from typing import Protocol, runtime_checkable

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from steerlab.plots import _input, theme

PANEL = 230
NAMES = {"seed": "same problems, other seeds", "subset": "other problems", "shuffled": "permuted targets"}


@runtime_checkable
class Stability(Protocol):
    """The part of a study of stability that is drawn."""

    @property
    def frame(self) -> pd.DataFrame: ...

    @property
    def band(self) -> float: ...

    @property
    def layer(self) -> int: ...

    def curve(self) -> pd.DataFrame:
        """One row a kind and size, with means and intervals over vectors."""


def data_size_curve(found: Stability) -> go.Figure:
    """Cosine with the reference vector, and change of test accuracy, against the number of training problems.

    Small marks are vectors, large ones their means with 95% intervals over vectors.

    Args:
        found: what `steerlab.seed_stability` returns.

    Raises:
        TypeError: `found` is something else.
        ValueError: There are no rows.

    Example:
        >>> import numpy as np, steerlab as sl
        >>> model = sl.load_model("tiny-arithmetic")
        >>> task = sl.load_task("arithmetic", n_train=24, n_validation=4, n_test=8)
        >>> found = sl.seed_stability(model, task, rng=np.random.default_rng(0), sizes=[4, 8], seeds=2, subsets=2, n_shuffled=1, epochs=1)
        >>> [trace.name for trace in data_size_curve(found).data if trace.showlegend]
        ['same problems, other seeds', 'other problems', 'permuted targets']
    """
    found = _input.expect(found, Stability, "found", "what steerlab.seed_stability returns")
    rows = _input.need(found.frame, "found.frame", ["name", "kind", "size", "cosine", "change", "low", "high", "n"]).iloc[1:]
    curve = _input.need(
        found.curve(), "found.curve()", ["kind", "size", "cosine", "cosine_low", "cosine_high", "change", "change_low", "change_high"]
    )
    fig = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.08)
    for panel, (value, unit) in enumerate((("cosine", 1.0), ("change", 100.0)), start=1):
        for place, kind in enumerate(NAMES):
            style = {"color": theme.LINES[place], "symbol": theme.SYMBOLS[place]}
            part, mean = rows[rows["kind"] == kind], curve[curve["kind"] == kind].sort_values("size")
            if part.empty:
                continue
            hover = [
                f"{theme.label(name)}, {size} problems<br>cosine {theme.number(cosine, 3)}<br>{theme.signed(100 * change)} points ({theme.signed(100 * low)} to "
                f"{theme.signed(100 * high)}), n = {n:.0f}"
                for name, size, cosine, change, low, high, n in part[["name", "size", "cosine", "change", "low", "high", "n"]].itertuples(
                    index=False
                )
            ]
            each = go.Scatter(
                x=part["size"], y=unit * part[value], mode="markers", marker={**style, "size": 6, "opacity": 0.5}, hovertext=hover,
                hoverinfo="text", showlegend=False,
            )  # fmt: skip
            bars = [unit * (mean[f"{value}_high"] - mean[value]).fillna(0), unit * (mean[value] - mean[f"{value}_low"]).fillna(0)]
            means = go.Scatter(
                x=mean["size"], y=unit * mean[value], mode="lines+markers", name=NAMES[kind], marker={**style, "size": 10},
                line={"color": style["color"], "dash": theme.DASHES[place]}, showlegend=panel == 1, hoverinfo="skip",
                error_y={"type": "data", "symmetric": False, "array": bars[0], "arrayminus": bars[1], "thickness": 1.5},
            )  # fmt: skip
            fig.add_trace(each, row=panel, col=1)
            fig.add_trace(means, row=panel, col=1)
    fig.add_hline(y=0, line={"color": theme.GREY, "dash": "dot", "width": 1.5}, row=2, col=1)
    fig.add_hrect(y0=-found.band, y1=found.band, fillcolor=theme.GREY, opacity=0.15, line_width=0, row=1, col=1)
    fig.update_yaxes(title_text="cosine with<br>the reference", row=1, col=1)
    fig.update_yaxes(title_text="change in accuracy<br>(points)", row=2, col=1)
    sizes = sorted(rows["size"].unique().tolist())
    fig.update_xaxes(type="log", tickvals=sizes, ticktext=[str(size) for size in sizes], zeroline=False)
    fig.update_xaxes(title_text="training problems", row=2, col=1)
    theme.legend_below(fig, 2 * PANEL)
    largest = curve[curve["kind"] == "subset"].sort_values("size").iloc[-1] if (curve["kind"] == "subset").any() else curve.iloc[0]
    headline = f"Cosine {theme.number(largest['cosine'], 2)} between vectors of {largest['size']} problems each"
    notes = (
        f"Layer {found.layer}. Small marks: vectors; large ones: means with 95% intervals over vectors, on the same test problems.",
        "Grey band: 95% of random directions.",
    )
    return theme.style(fig, headline, notes, 2 * PANEL + 120, bottom=130)
