"""Figures over layers and tokens: contrasts, norms, projections, divergences, and changed answers against chance.

Each raises TypeError for anything but the result that it names, and ValueError where that has no rows.
"""

from collections.abc import Hashable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import sample_colorscale
from plotly.subplots import make_subplots

from steerlab.plots import _input, theme

PANEL = 190


def separability(diagnostics: _input.Diagnostics) -> go.Figure:
    """Held-out AUC, and the cosine between directions of random halves, at each layer; of pairs, their agreement, too.

    Args:
        diagnostics: what `steerlab.contrast_diagnostics` returns.

    Raises:
        TypeError: `diagnostics` is something else.
        ValueError: A column is missing or there are no rows.

    Example:
        >>> import numpy as np, steerlab as sl, torch
        >>> noise = torch.from_numpy(np.random.default_rng(0).standard_normal((40, 2, 1, 16))).float()
        >>> ids = tuple(f"p{i}" for i in range(40))
        >>> acts = sl.Activations(noise, torch.ones(40, 1, dtype=torch.bool), ids, (3, 6), "resid_post", "last", {})
        >>> found = sl.contrast_diagnostics(acts.select(ids[:20]), acts.select(ids[20:]), rng=np.random.default_rng(1))
        >>> fig = sl.plots.separability(found)
        >>> fig.data[1].x.tolist()  # one point a layer
        [3, 6]
    """
    found = _input.expect(diagnostics, _input.Diagnostics, "diagnostics", "what steerlab.contrast_diagnostics returns")
    needed = ["layer", "auc", "auc_low", "auc_high", "stability", "stability_low", "stability_high"]
    rows = _input.need(found.frame, "diagnostics.frame", needed).sort_values("layer")
    panels = [("auc", "held-out AUC<br>(0.5 is chance)", 0.5), ("stability", "cosine<br>between halves", 0.0)]
    if "agreement" in rows:
        panels.append(("agreement", "cosine of a pair<br>with the others", 0.0))
    fig = make_subplots(rows=len(panels), cols=1, shared_xaxes=True, vertical_spacing=0.07)
    for place, (column, unit, nothing) in enumerate(panels):
        for trace in _line(rows, column, theme.LINES[place], place):
            fig.add_trace(trace, row=place + 1, col=1)
        fig.add_hline(y=nothing, line={"color": theme.GREY, "dash": "dot", "width": 1.5}, row=place + 1, col=1)
        fig.update_yaxes(title_text=unit, zeroline=False, row=place + 1, col=1)
    fig.update_xaxes(zeroline=False)
    fig.update_xaxes(title_text="layer", row=len(panels), col=1)
    best = rows.iloc[int(rows["auc"].argmax())]
    kind = f"{found.n_positive} pairs" if found.paired else f"{found.n_positive} against {found.n_negative} problems"
    notes = (f"{kind}. Bands: 95% interval of the AUC; 90% of random halves.",)
    headline = f"Held-out AUC is highest at layer {best['layer']:.0f}: {theme.number(best['auc'], 2)}"
    return theme.style(fig, headline, notes, PANEL * len(panels) + 54)


def _line(rows: pd.DataFrame, column: str, colour: str, place: int) -> list[go.Scatter]:
    banded = f"{column}_low" in rows
    spans = (
        [f" ({low:.3g} to {high:.3g})" for low, high in zip(rows[f"{column}_low"], rows[f"{column}_high"], strict=True)]
        if banded
        else [""] * len(rows)
    )
    line = go.Scatter(
        x=rows["layer"],
        y=rows[column],
        mode="lines+markers",
        line={"color": colour},
        marker={"symbol": theme.SYMBOLS[place], "size": 6},
        hovertext=[f"layer {at}<br>{column} {value:.3g}{span}" for at, value, span in zip(rows["layer"], rows[column], spans, strict=True)],
        hoverinfo="text",
        showlegend=False,
    )
    if not banded:
        return [line]
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    band = go.Scatter(
        x=pd.concat([rows["layer"], rows["layer"][::-1]]),
        y=pd.concat([rows[f"{column}_high"], rows[f"{column}_low"][::-1]]),
        fill="toself",
        fillcolor=f"rgba({red},{green},{blue},0.18)",
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
    )
    return [band, line]


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


DIVERGENCE_HEIGHT = 300


@runtime_checkable
class Critical(_input.Layered, Protocol):
    """The part of a critical-token result that is drawn."""

    @property
    def alpha(self) -> float: ...

    def summary(self) -> pd.DataFrame:
        """One row a group, run and part, with n, tokens, kl and share."""

    def concentration(self, share: float = ...) -> pd.DataFrame:
        """One row a problem and run, with needed_share."""


def critical_tokens(found: Critical) -> go.Figure:
    """Mean KL at a token, by part of the text, for right and wrong answers, and for problems answered rightly and wrongly.

    Args:
        found: what `steerlab.critical_tokens` returns.

    Example:
        >>> import steerlab as sl, torch
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> found = sl.critical_tokens(model, task.test[:3], sl.Direction(torch.ones(model.cfg.d_model), layer=1), alpha=1.0)
        >>> sl.plots.critical_tokens(found).layout.xaxis.title.text
        'part of the text'
    """
    found = _input.expect(found, Critical, "found", "what steerlab.critical_tokens returns")
    rows = _input.need(found.summary(), "found.summary()", ["correct", "run", "part", "tokens", "n", "kl", "share"])
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
    theme.legend_below(fig, DIVERGENCE_HEIGHT)
    needed = found.concentration()["needed_share"].median()
    headline = f"90% of the KL is on {100 * needed:.0f}% of a text's tokens" if pd.notna(needed) else "Steering moved no distribution"
    notes = (f"Layer {found.layer}, alpha {theme.alpha_text(found.alpha)}; the median text. Hatched: the wrong answer.",)
    return theme.style(fig, headline, notes, DIVERGENCE_HEIGHT + 140, bottom=150)


def _hover(row: Mapping[Hashable, Any]) -> str:
    return (
        f"{row['part']}: {row['kl']:.3g} nats a token<br>{100 * row['share']:.0f}% of all KL, {row['tokens']} tokens of {row['n']} problems"
    )


HEADROOM_HEIGHT = 320


@runtime_checkable
class Failures(_input.Layered, Protocol):
    """The part of a failure analysis that is drawn."""

    @property
    def headroom(self) -> pd.DataFrame: ...


def headroom(found: Failures) -> go.Figure:
    """Answers that became right and wrong at each alpha, observed (markers) and expected from margins alone (lines).

    Args:
        found: what `steerlab.failure_analysis` returns.

    Example:
        >>> import steerlab as sl, torch
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> sw = sl.sweep(model, task.test[:30], sl.Direction(torch.ones(model.cfg.d_model), layer=2), alphas=[-1, 0, 1])
        >>> [trace.name for trace in sl.plots.headroom(sl.failure_analysis(sw)).data][:2]
        ['fixed, expected', 'fixed, observed']
    """
    found = _input.expect(found, Failures, "found", "what steerlab.failure_analysis returns")
    rows = _input.need(
        found.headroom, "found.headroom", ["alpha", "fixed", "fixed_expected", "broken", "broken_expected", "wrong", "right"]
    )
    rows = rows.sort_values("alpha")
    fig = go.Figure()
    for place, (kind, room) in enumerate((("fixed", "wrong"), ("broken", "right"))):
        colour = (theme.BLUE, theme.VERMILLION)[place]
        fig.add_trace(
            go.Scatter(
                x=rows["alpha"],
                y=rows[f"{kind}_expected"],
                mode="lines",
                line={"color": colour, "dash": theme.DASHES[place]},
                name=f"{kind}, expected",
                hoverinfo="skip",
            )
        )
        fig.add_trace(
            go.Scatter(
                x=rows["alpha"],
                y=rows[kind],
                mode="markers",
                marker={"color": colour, "symbol": theme.SYMBOLS[place], "size": 9},
                name=f"{kind}, observed",
                hovertext=[
                    f"alpha {theme.alpha_text(alpha)}<br>{seen} of {of} {room} answers {kind}<br>{expected:.1f} expected"
                    for alpha, seen, of, expected in zip(rows["alpha"], rows[kind], rows[room], rows[f"{kind}_expected"], strict=True)
                ],
                hoverinfo="text",
            )
        )
    fig.update_xaxes(title_text="alpha", zeroline=False)
    fig.update_yaxes(title_text="answers", zeroline=False, rangemode="tozero")
    theme.legend_below(fig, HEADROOM_HEIGHT)
    gap = (rows["change"] - rows["change_expected"]).abs().max() * 100
    off = max(float((rows[kind] - rows[f"{kind}_expected"]).abs().max()) for kind in ("fixed", "broken"))
    headline = f"Margins alone give the net change to within {theme.number(gap)} points, and counts to within {off:.0f} answers"
    notes = (f"Layer {found.layer}. Lines: expected if changes of the margin were assigned to problems at random.",)
    return theme.style(fig, headline, notes, HEADROOM_HEIGHT + 130, bottom=120)
