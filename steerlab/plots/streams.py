"""What happens along a stream of problems that are answered one after the other."""

from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from steerlab._checks import InputError
from steerlab.plots import _input, theme

HEIGHT = 330
PLAIN = "no_watcher"


@runtime_checkable
class Compared(Protocol):
    """The part of a comparison of EAS variants that is drawn."""

    @property
    def frame(self) -> pd.DataFrame: ...

    @property
    def variants(self) -> tuple[str, ...]: ...

    def outcomes(self, variant: str, repeat: int = 0) -> pd.DataFrame:
        """One line a problem, in the order of the stream."""


def eas_stream(comparison: Compared, measure: Literal["change", "entropy", "moved"] = "change") -> go.Figure:
    """Each variant along the stream, first repeat: answers won so far, entropy of the attractors' use, or the size of nudges.

    Args:
        comparison: what ``steerlab.compare_eas`` returns.
        measure: "change" (right answers so far, minus those without a Watcher), "entropy" (bits) or "moved" (median nudge of the last 25
            problems, relative to the stream).

    Raises:
        TypeError: no such comparison.
        ValueError: an unknown measure, or no variant beside "no_watcher".

    Example:
        >>> import numpy as np, steerlab as sl
        >>> stream = sl.load_task("arithmetic", n_train=12, n_validation=0, n_test=0).train
        >>> model = sl.load_model("tiny-arithmetic")
        >>> found = sl.compare_eas(model, stream, layer=3, rng=np.random.default_rng(0), variants=["watcher"])
        >>> [trace.name for trace in sl.plots.eas_stream(found).data]
        ['watcher']
    """
    comparison = _input.expect(comparison, Compared, "comparison", "an EASComparison, as steerlab.compare_eas returns it")
    units = {
        "change": "right answers, minus those<br>without a Watcher",
        "entropy": "entropy of attractor use (bits)",
        "moved": "nudge, relative to the stream",
    }
    if measure not in units:
        raise InputError(f"measure={measure!r}; use one of {', '.join(units)}")
    names = [name for name in comparison.variants if name != PLAIN]
    if not names:
        raise InputError("comparison: it has no variant beside no_watcher; run compare_eas with at least one")
    plain = comparison.outcomes(PLAIN)["correct"].to_numpy(int)
    fig, ends = go.Figure(), {}
    for place, name in enumerate(names):
        mine = comparison.outcomes(name)
        values = _values(mine, plain, measure)
        ends[name] = values[-1]
        fig.add_trace(
            go.Scatter(
                x=mine["step"] + 1,
                y=values,
                mode="lines",
                line={
                    "color": theme.LINES[place % len(theme.LINES)],
                    "dash": theme.DASHES[(place + place // len(theme.LINES)) % len(theme.DASHES)],
                    "width": 2,
                },
                name=theme.label(name.replace("_", " "), 20),
                hovertemplate="problem %{x}<br>%{y:.3g}<extra>" + theme.label(name, 20) + "</extra>",
            )
        )
    if measure == "change":
        fig.add_hline(y=0, line={"color": theme.GREY, "dash": "dot", "width": 1.5})
    fig.update_xaxes(title_text="problems answered", zeroline=False)
    fig.update_yaxes(title_text=units[measure], zeroline=False)
    theme.legend_below(fig, HEIGHT)
    first = names[0]
    headline = {
        "change": f"{theme.label(first.replace('_', ' '), 20)}: {theme.signed(ends[first], 0)} right answers after {len(plain)} problems",
        "entropy": f"Attractor use ends at {theme.number(ends[first])} bits of entropy ({theme.label(first, 20)})",
        "moved": f"Nudges move the stream by {theme.percent(ends[first])} ({theme.label(first, 20)})",
    }[measure]
    return theme.style(fig, headline, ("One start of the attractors, the same for all.",), HEIGHT + 110, bottom=110)


def _values(mine: pd.DataFrame, plain: "np.ndarray[Any, Any]", measure: str) -> "np.ndarray[Any, Any]":
    if measure == "change":
        return np.cumsum(mine["correct"].to_numpy(int) - plain)
    if measure == "entropy":
        return mine["entropy"].to_numpy(float)
    return mine["moved"].rolling(25, min_periods=1).median().to_numpy(float)
