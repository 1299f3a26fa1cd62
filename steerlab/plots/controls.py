"""Bars: which answers a direction changed, and where its effect stands among those of its controls."""

import inspect
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from steerlab._checks import InputError
from steerlab.plots import _input, sweeps, theme
from steerlab.statistics._format import format_p

MEASURES = {
    "accuracy": ("change", 100.0, "change in accuracy (percentage points)"),
    "margin": ("margin_change", 1.0, "mean change in margin (the scorer's units)"),
}


def transition_matrix(sw: _input.Sweep, layer: int | None = None, direction: str | None = None) -> go.Figure:
    """How many answers became right (up) and became wrong (down) at each alpha.

    A net change of 0 may hide many answers that moved both ways; this figure shows them. Each layer, and each
    direction where there are several, has a panel of its own on the same scale.

    Args:
        sw: A sweep's result.
        layer: The layer to show; all by default.
        direction: Name of the direction to show; all by default.

    Raises:
        TypeError: `sw` is no sweep result.
        ValueError: No such layer or direction.

    Example:
        >>> import steerlab as sl, torch
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> direction = sl.Direction(torch.ones(model.cfg.d_model), layer=3)
        >>> sw = sl.sweep(model, task.validation[:20], direction, alphas=[-1, 0, 1])
        >>> [bar.name for bar in sl.plots.transition_matrix(sw).data if bar.showlegend]
        ['became right', 'became wrong']
    """
    rows = sweeps.only(sweeps.only(sweeps.cells(sw), "layer", layer), "direction", direction)
    moved = rows.fillna({"became_right": 0, "became_wrong": 0, "stayed_right": rows["correct"]})
    moved = moved.fillna({"stayed_wrong": moved["n"] - moved["correct"]})
    parts = list(moved.groupby(["layer", "direction"], sort=False))
    alphas = sorted(moved["alpha"].unique().tolist())
    each = 280 if len(parts) == 1 else 150
    inner = each * len(parts)
    several = moved["direction"].nunique() > 1
    names = [f"layer {at}, {theme.label(name, 30)}" if several else f"layer {at}" for (at, name), _ in parts]
    fig = make_subplots(
        rows=len(parts),
        cols=1,
        shared_xaxes=True,
        subplot_titles=names if len(parts) > 1 else None,
        vertical_spacing=28 / inner if len(parts) > 1 else None,
    )
    for place, (_, part) in enumerate(parts, start=1):
        for trace in _moved_bars(part, alphas, first=place == 1):
            fig.add_trace(trace, row=place, col=1)
    up, down = int(moved["became_right"].max()), int(moved["became_wrong"].max())
    step = _nice_step(max(up, down))
    ticks = list(range(-step * (down // step), up + 1, step))
    room = max(up + down, 1) * (0.12 if len(parts) == 1 else 0.3)  # for the counts outside the bars
    fig.update_yaxes(tickvals=ticks, ticktext=[str(abs(tick)) for tick in ticks], range=[-down - room, up + room])
    fig.update_yaxes(title_text="problems")
    values, texts = sweeps.alpha_ticks(alphas)
    fig.update_xaxes(tickvals=values, ticktext=texts, tickangle=0, showgrid=False, zeroline=False)
    fig.update_xaxes(title_text="coefficient alpha", row=len(parts), col=1)
    fig.update_layout(barmode="relative", bargap=0.2)
    theme.legend_below(fig, inner)
    net = (moved["became_right"] - moved["became_wrong"]).astype(int)
    at = int(net.abs().argmax())
    most = moved.iloc[at]
    notes = (
        f"Largest net change {theme.signed(net.iloc[at], 0)} of {most['n']} problems, at layer {most['layer']}, "
        f"alpha {theme.alpha_text(most['alpha'])}.",
        f"Direction: {theme.label(moved['direction'].iloc[0])}." if not several else "",
    )
    changed = (moved["became_right"] + moved["became_wrong"]).astype(int)
    largest = moved.iloc[int(changed.argmax())]
    headline = f"At most {changed.max()} of {largest['n']} answers change, {names[0] if len(parts) == 1 else f'{len(parts)} panels'}"
    return theme.style(fig, headline, notes, inner + 100, bottom=100)


def _moved_bars(part: pd.DataFrame, alphas: list[float], first: bool) -> list[go.Bar]:
    places = [alphas.index(alpha) for alpha in part["alpha"]]
    hover = [
        f"layer {row['layer']}, alpha {theme.alpha_text(row['alpha'])}<br>became right {row['became_right']:.0f}"
        f"<br>became wrong {row['became_wrong']:.0f}<br>stayed right {row['stayed_right']:.0f}"
        f"<br>stayed wrong {row['stayed_wrong']:.0f}<br>n {row['n']}"
        for row in part.to_dict("records")
    ]
    kinds = (("became right", "became_right", 1, theme.BLUE), ("became wrong", "became_wrong", -1, theme.VERMILLION))
    return [
        go.Bar(
            x=places,
            y=sign * part[column],
            text=[str(int(count)) if count else "" for count in part[column]],
            textposition="outside",
            textangle=0,
            cliponaxis=False,
            constraintext="none",
            marker_color=colour,
            name=name,
            legendgroup=name,
            showlegend=first,
            hovertext=hover,
            customdata=sweeps.keys(part),
            hoverinfo="text",
        )
        for name, column, sign, colour in kinds
    ]


def _nice_step(largest: int) -> int:
    power = 10 ** math.floor(math.log10(max(largest / 2, 1)))
    return int(max(step for step in (1, 2, 5) if step * power <= max(largest / 2, 1)) * power)


def _nice(step: float) -> float:
    power = 10.0 ** math.floor(math.log10(step))
    return next(nice * power for nice in (1, 2, 5, 10) if nice * power >= step * (1 - 1e-9))


def null_distribution(
    ctl: _input.Control | _input.Pipelines, measure: Literal["accuracy", "margin"] = "accuracy", *, goal: str | None = None
) -> go.Figure:
    """The tested direction's effect among those of its controls, or its pipeline's among control pipelines.

    The bars are the controls' changes, hatched where they are at least as extreme as the tested direction, whose change is the line: as far
    from the median of all or, of pipelines, as good at the goal. The title has the Monte Carlo p-value that follows from them (the unit is
    the direction or pipeline, so p cannot go below 1 / (number of controls + 1)).

    Args:
        ctl: A random control's result, or what `steerlab.pipeline_control` found.
        measure: "accuracy" or "margin"; pipelines have the one that they were chosen by.
        goal: of pipelines, "raise" (default) or "lower".

    Raises:
        TypeError: `ctl` is no control result.
        ValueError: Unknown measure or goal, no control, or not exactly one tested direction.

    Example:
        >>> import steerlab as sl
        >>> baseline = pd.DataFrame({"problem_id": ["a", "b", "c"], "correct": [True, True, False]})
        >>> outcomes = {"mine": [False, False, False], "one": [True, True, False], "two": [True, False, False]}
        >>> lines = [(name, name != "mine", *line) for name, right in outcomes.items() for line in zip("abc", right)]
        >>> frame = pd.DataFrame(lines, columns=["direction", "is_control", "problem_id", "correct"])
        >>> fig = sl.plots.null_distribution(sl.controls_from_frame(baseline, frame))
        >>> fig.layout.title.text.replace("<br>", " ").split(" <span")[0]
        '1 of 2 random directions are at least as extreme as the tested one: p = 0.67'
    """
    null = _of_pipelines(ctl, goal) if isinstance(ctl, _input.Pipelines) else _of_directions(ctl, measure)
    controls, far, observed, digits = null.controls, null.extreme, null.observed, null.digits
    edges = _bins(controls)
    fig = go.Figure()
    for mask, colour, pattern, said in ((~far, theme.GREY, "", null.less), (far, theme.PURPLE, "/", null.more)):
        fig.add_trace(_histogram(controls[mask], edges, colour, pattern, f"{int(mask.sum())} {said}", digits))
    tallest = int(np.sum([trace.y for trace in fig.data], axis=0).max())
    low, high = min(edges[0], observed, 0.0), max(edges[-1], observed, 0.0)
    room = 0.06 * (high - low) or 1.0
    left = observed > (low + high) / 2
    # The bars end at 1 / 1.2 of the height; above them stand the words.
    if null.centre is not None:
        fig.add_shape(type="line", x0=null.centre, x1=null.centre, y0=0, y1=0.88, yref="y domain", line={"dash": "dot", "width": 2})
    fig.add_vline(
        x=observed,
        line={"color": theme.VERMILLION, "width": 3},
        annotation={"text": f"tested direction {theme.signed(observed, digits)}", "borderpad": 4},
        annotation_position="top right" if not left else "top left",
    )
    # Plotly would put its own ticks at the middles of bars, which are no round numbers.
    fig.update_xaxes(
        title_text=null.unit, range=[low - room, high + room], zeroline=False, tick0=0, dtick=_nice((high - low + 2 * room) / 6)
    )
    fig.update_yaxes(title_text=f"{null.kind} (count)", range=[0, 1.2 * tallest], dtick=_nice_step(tallest))
    fig.update_layout(barmode="stack")
    theme.legend_below(fig, 300)
    weakest, strongest = theme.signed(float(controls.min()), digits), theme.signed(float(controls.max()), digits)
    notes = (f"{null.tested}Controls: {weakest} to {strongest}.", *null.notes)
    return theme.style(fig, null.headline, notes, 400, bottom=100)


@dataclass(frozen=True, eq=False)
class _Null:
    """What the figure draws: the controls' effects, which of them are at least as extreme as the observed one, and words."""

    kind: str
    controls: np.ndarray
    observed: float
    extreme: np.ndarray
    unit: str
    digits: int
    headline: str
    tested: str
    notes: tuple[str, ...]
    centre: float | None = None
    less: str = "less extreme"
    more: str = "at least as extreme"


def _of_directions(ctl: _input.Control, measure: str) -> _Null:
    """Directions at one cell: extreme is what is far from the median of all."""
    ctl = _input.expect(
        ctl, _input.Control, "ctl", "a ControlResult or PipelineControl, as steerlab.random_control and pipeline_control return them"
    )
    if measure not in MEASURES:
        raise InputError(f"measure={repr(measure)[:60]}: expected {' or '.join(MEASURES)}")
    column, scale, unit = MEASURES[measure]
    rows = _input.need(ctl.changes(), "ctl.changes()", ["direction", "is_control", column])
    is_control = rows["is_control"].astype(bool)
    controls, tested = scale * rows.loc[is_control, column].to_numpy(dtype=float), rows[~is_control]
    if not len(controls) or len(tested) != 1:
        raise InputError(f"ctl.changes(): {len(controls)} controls and {len(tested)} tested; expected 1 or more, and 1")
    if not np.isfinite(scale * rows[column].to_numpy(dtype=float)).all():
        raise InputError(f"ctl.changes(): {column} has missing values; this scorer may have no {measure}")
    test = _rank_test(ctl, measure)
    far, centre, digits = np.asarray(test.as_extreme, dtype=bool), scale * float(test.centre), 1 if measure == "accuracy" else 3
    sides = int((far & (controls < centre)).sum()), int((far & (controls > centre)).sum())
    notes = (
        f"{sides[0]} below and {sides[1]} above the median (dotted) of all {len(rows)}, {theme.signed(centre, digits)}, from which distance counts.",
        f"With {test.n_controls} controls the smallest possible p is {test.smallest_p:.2g}.",
    )
    headline = (
        f"{test.exceeds} of {len(controls)} random directions are at least as extreme as the tested one: {format_p(test.pvalue, digits=2)}"
    )
    said = f"Tested: {theme.label(tested['direction'].iloc[0], 30)}. {_place(ctl)}"
    observed = scale * float(tested[column].iloc[0])
    return _Null("random directions", controls, observed, far, unit, digits, headline, said, notes, centre)


def _of_pipelines(ctl: _input.Pipelines, goal: str | None) -> _Null:
    """Whole pipelines, each at its own cell: extreme is what is as good at the goal."""
    goal = ctl.goals[0] if goal is None else goal
    test, (layer, alpha) = ctl.test(goal), ctl.cell(goal)
    controls = np.array(test.controls)
    early = f" (of {test.planned} planned)" if test.n_controls < test.planned else ""
    headline = (
        f"{test.exceeds} of {len(controls)} {ctl.kind}{early} {goal} as much or more: {format_p(test.pvalue, digits=2)} (uncorrected)"
    )
    said = f"Tested: layer {layer}, alpha {theme.alpha_text(alpha)}; each control is at the cell that it chose itself. "
    notes = (f"With {test.planned} controls the smallest possible p is {test.smallest_p:.2g}.",)
    more, less = f"{goal} as much or more", f"{goal} less"
    return _Null(
        ctl.kind, controls, test.observed, test.as_extreme, "studentised net change", 2, headline, said, notes, less=less, more=more
    )


def _histogram(controls: np.ndarray, edges: np.ndarray, colour: str, pattern: str, name: str, digits: int) -> go.Bar:
    counts, _ = np.histogram(controls, bins=edges)
    spans = [f"{theme.signed(a, digits)} to {theme.signed(b, digits)}" for a, b in pairwise(edges)]
    return go.Bar(
        x=(edges[:-1] + edges[1:]) / 2,
        y=counts,
        width=0.97 * np.diff(edges),
        marker={
            "color": colour,
            "line": {"width": 0},
            "pattern": {"shape": pattern, "fillmode": "replace", "size": 6} if pattern else None,
        },
        name=name,
        hovertext=[f"{span}<br>{count} of the {name} out" for span, count in zip(spans, counts, strict=True)],
        hoverinfo="text",
    )


def _place(ctl: _input.Control) -> str:
    # Outcomes that were given, not measured here, may not say where the direction acted.
    parts = [] if ctl.layer is None else [f"layer {ctl.layer}"]
    parts += [] if ctl.alpha is None else [f"alpha {theme.alpha_text(ctl.alpha)}"]
    text = ", ".join(parts)
    return f"{text[0].upper()}{text[1:]}. " if text else ""


def _bins(controls: np.ndarray) -> np.ndarray:
    # Sturges' rule by hand: NumPy's "auto" makes thousands of bins when most controls are equal.
    count = math.ceil(math.log2(len(controls))) + 3
    low, high = float(controls.min()), float(controls.max())
    return np.linspace(low, high, count + 1) if high > low else np.array([low - 0.5, low + 0.5])


def _rank_test(ctl: _input.Control, measure: str) -> Any:
    # One test per measure where the result offers it.
    return ctl.rank_test(measure=measure) if "measure" in inspect.signature(ctl.rank_test).parameters else ctl.rank_test()
