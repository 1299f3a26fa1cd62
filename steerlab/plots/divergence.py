"""At which parts of a text steering moves the model."""

from collections.abc import Hashable, Mapping
from typing import Any, Protocol, runtime_checkable

import pandas as pd
import plotly.graph_objects as go

from steerlab.plots import _input, theme

HEIGHT = 300


@runtime_checkable
class Critical(Protocol):
    """The part of a critical-token result that is drawn."""

    @property
    def alpha(self) -> float: ...

    @property
    def layer(self) -> int: ...

    def by_part(self) -> pd.DataFrame:
        """One row a group, run and part, with n, tokens, kl and share."""

    def concentration(self, share: float = ...) -> pd.DataFrame:
        """One row a problem and run, with needed_share."""


def critical_tokens(found: Critical) -> go.Figure:
    """Mean KL behind a token, by part of the text, for right and wrong answers, and for problems answered rightly and wrongly.

    Args:
        found: what `steerlab.critical_tokens` returns.

    Raises:
        TypeError: `found` is something else.
        ValueError: There are no rows.

    Example:
        >>> import steerlab as sl, torch
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> found = sl.critical_tokens(model, task.test[:3], sl.Direction(torch.ones(model.cfg.d_model), layer=1), alpha=1.0)
        >>> sl.plots.critical_tokens(found).layout.xaxis.title.text
        'part of the text'
    """
    found = _input.expect(found, Critical, "found", "what steerlab.critical_tokens returns")
    rows = _input.need(found.by_part(), "found.by_part()", ["correct", "run", "part", "tokens", "n", "kl", "share"])
    fig = go.Figure()
    groups = list(rows.groupby(["correct", "run"], sort=False))
    for place, ((correct, run), part) in enumerate(groups):
        fig.add_trace(
            go.Bar(
                x=part["part"],
                y=part["kl"],
                name=f"{run} answer, problem {'solved' if correct else 'not solved'}",
                marker={"color": theme.LINES[place % len(theme.LINES)], "pattern": {"shape": ["", "/"][run == "wrong"]}},
                hovertext=[_hover(row) for row in part.to_dict("records")],
                hoverinfo="text",
            )
        )
    fig.update_xaxes(title_text="part of the text", zeroline=False)
    fig.update_yaxes(title_text="KL(unsteered || steered)<br>(nats a token)", zeroline=False)
    theme.legend_below(fig, HEIGHT)
    needed = found.concentration()["needed_share"].median()
    headline = f"90% of the KL sits on {100 * needed:.0f}% of a text's tokens" if pd.notna(needed) else "Steering moved no distribution"
    notes = (f"Layer {found.layer}, alpha {theme.alpha_text(found.alpha)}; the median text. Hatched: the wrong answer.",)
    return theme.style(fig, headline, notes, HEIGHT + 140, bottom=150)


def _hover(row: Mapping[Hashable, Any]) -> str:
    return (
        f"{row['part']}: {row['kl']:.3g} nats a token<br>{100 * row['share']:.0f}% of all KL, {row['tokens']} tokens of {row['n']} problems"
    )
