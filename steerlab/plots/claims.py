"""What protocols report against what their vectors do on fresh problems."""

from typing import Protocol, runtime_checkable

import pandas as pd
import plotly.graph_objects as go

from steerlab.plots import _input, theme

HEIGHT = 380


@runtime_checkable
class Claims(Protocol):
    """The part of a comparison of protocols that is drawn."""

    @property
    def frame(self) -> pd.DataFrame: ...

    def table(self) -> pd.DataFrame:
        """One row a protocol, with reported, change and bias."""


def reported_against_fresh(found: Claims) -> go.Figure:
    """The gain that each protocol reports against the gain on fresh problems, repetition by repetition.

    Points below the diagonal were reported larger than they are.

    Args:
        found: what `steerlab.compare_protocols` returns.

    Raises:
        TypeError: `found` is something else.
        ValueError: There are no rows.

    Example:
        >>> import numpy as np, steerlab as sl
        >>> model = sl.load_model("tiny-arithmetic")
        >>> task = sl.load_task("arithmetic", n_train=4, n_validation=8, n_test=8)
        >>> found = sl.compare_protocols(model, task, rng=np.random.default_rng(0), repetitions=1, n_train=4, n_validation=4, n_outcome=4,
        ...     attempts=1, rapid_epochs=1, epochs=1, extend=0)
        >>> len(reported_against_fresh(found).data)  # the diagonal, and five protocols
        6
    """
    found = _input.expect(found, Claims, "found", "what steerlab.compare_protocols returns")
    columns = ["protocol", "repetition", "layer", "candidates", "attempts", "reported_on", "reported", "change", "low", "high"]
    rows = _input.need(found.frame, "found.frame", columns)
    ends = [100 * min(rows["reported"].min(), rows["change"].min()) - 1, 100 * max(rows["reported"].max(), rows["change"].max()) + 1]
    fig = go.Figure(
        go.Scatter(
            x=ends, y=ends, mode="lines", line={"color": theme.GREY, "dash": "dot", "width": 1.5}, hoverinfo="skip", showlegend=False
        )
    )
    for place, (name, part) in enumerate(rows.groupby("protocol", sort=False)):
        hover = [
            f"{theme.label(name)}<br>reported {theme.signed(100 * row['reported'])} points ({row['reported_on']}, {row['candidates']} candidates, attempts: {row['attempts']})"
            f"<br>fresh {theme.signed(100 * row['change'])} ({theme.signed(100 * row['low'])} to {theme.signed(100 * row['high'])})<br>layer {row['layer']}"
            for row in part.to_dict("records")
        ]
        fig.add_trace(
            go.Scatter(
                x=100 * part["reported"],
                y=100 * part["change"],
                mode="markers",
                marker={"color": theme.LINES[place % len(theme.LINES)], "symbol": theme.SYMBOLS[place % len(theme.SYMBOLS)], "size": 10},
                name=theme.label(name),
                hovertext=hover,
                hoverinfo="text",
            )
        )
    fig.update_xaxes(title_text="gain that the protocol reports (points)")
    fig.update_yaxes(title_text="gain on fresh problems (points)")
    theme.legend_below(fig, HEIGHT)
    table = found.table()
    worst = table.iloc[int(table["bias"].argmax())]
    headline = f"{theme.label(worst['protocol']).capitalize()}: {theme.signed(100 * worst['reported'])} points reported, {theme.signed(100 * worst['change'])} on fresh problems"
    notes = ("Means over repetitions, of the protocol with the largest bias.", "Below the dotted line: reported larger than it is.")
    return theme.style(fig, headline, notes, HEIGHT + 200, bottom=190)
