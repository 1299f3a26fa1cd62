"""Figures of studies: protocols, kinds and sizes of learned vectors, streams of problems, transfer between tasks.

Each raises TypeError for anything but the result that it names, and ValueError where that has no rows.
"""

from collections.abc import Hashable, Mapping
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from steerlab._checks import InputError
from steerlab.plots import _input, theme
from steerlab.statistics._format import format_p
from steerlab.statistics.multiplicity import significant

CLAIMS_HEIGHT = 380


@runtime_checkable
class Claims(_input.Framed, Protocol):
    """The part of a comparison of protocols that is drawn."""

    @property
    def moves(self) -> pd.DataFrame: ...

    def summary(self) -> pd.DataFrame:
        """One row a protocol, with reported, change and bias."""


def reported_against_fresh(found: Claims) -> go.Figure:
    """The gain that each protocol reports against the gain on fresh problems, repetition by repetition.

    Points below the diagonal were reported larger than they are.

    Args:
        found: what `steerlab.compare_protocols` returns.

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
    theme.legend_below(fig, CLAIMS_HEIGHT)
    table = found.summary()
    worst = table.iloc[int(table["bias"].argmax())]
    headline = f"{theme.label(worst['protocol']).capitalize()}: {theme.signed(100 * worst['reported'])} points reported, {theme.signed(100 * worst['change'])} on fresh problems"
    notes = ("Means over repetitions, of the protocol with the largest bias.", "Below the dotted line: the report is too high.")
    return theme.style(fig, headline, notes, CLAIMS_HEIGHT + 200, bottom=190)


KINDS_HEIGHT = 360


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
    """Change of test accuracy of each kind of vector: means with intervals, and each seed.

    Args:
        found: what `steerlab.compare_context_vectors` returns.

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
    theme.legend_below(fig, KINDS_HEIGHT)
    headline = {
        "supported": "Fewer parameters won",
        "partly supported": "Fewer parameters won against some",
        "contradicted": "More parameters won",
    }.get(found.verdict, "No evidence that any kind differs from the smallest")
    means = ", ".join(
        f"{theme.label(kind, 20)} {theme.signed(100 * change)}" for kind, change in zip(rows["kind"], rows["change"], strict=True)
    )
    notes = (f"Mean changes in points: {means}.", "Intervals: bootstrap over problems and seeds.")
    return theme.style(fig, headline, notes, KINDS_HEIGHT + 130, bottom=130)


PANEL = 230
NAMES = {"seed": "same problems, other seeds", "subset": "other problems", "shuffled": "permuted targets"}


@runtime_checkable
class Stability(_input.Framed, _input.Layered, Protocol):
    """The part of a study of stability that is drawn."""

    @property
    def band(self) -> float: ...

    def curve(self) -> pd.DataFrame:
        """One row a kind and size, with means and intervals over vectors."""


def data_size_curve(found: Stability) -> go.Figure:
    """Cosine with the reference vector, and change of test accuracy, against the number of training problems.

    Small marks are vectors, large ones their means with 95% intervals over vectors.

    Args:
        found: what `steerlab.seed_stability` returns.

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


STREAM_HEIGHT = 330
PLAIN = "no_watcher"


@runtime_checkable
class Compared(_input.Framed, Protocol):
    """The part of a comparison of EAS variants that is drawn."""

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
    theme.legend_below(fig, STREAM_HEIGHT)
    first = names[0]
    headline = {
        "change": f"{theme.label(first.replace('_', ' '), 20)}: {theme.signed(ends[first], 0)} right answers after {len(plain)} problems",
        "entropy": f"Attractor use ends at {theme.number(ends[first])} bits of entropy ({theme.label(first, 20)})",
        "moved": f"Nudges move the stream by {theme.percent(ends[first])} ({theme.label(first, 20)})",
    }[measure]
    return theme.style(fig, headline, ("One start of the attractors, the same for all.",), STREAM_HEIGHT + 110, bottom=110)


def _values(mine: pd.DataFrame, plain: "np.ndarray[Any, Any]", measure: str) -> "np.ndarray[Any, Any]":
    if measure == "change":
        return np.cumsum(mine["correct"].to_numpy(int) - plain)
    if measure == "entropy":
        return mine["entropy"].to_numpy(float)
    return mine["moved"].rolling(25, min_periods=1).median().to_numpy(float)


CELL = 44


def transfer_matrix(found: _input.Framed) -> go.Figure:
    """Change of accuracy on each task's test problems under each task's vector; one panel a method.

    Rows say where a vector comes from, columns where it is tested. Cells whose corrected p-value is at most 0.05 have a star; the hover states
    the interval and what random and shuffled-label vectors did.

    Args:
        found: what `steerlab.transfer` returns.

    Example:
        >>> import numpy as np, steerlab as sl
        >>> model = sl.load_model("tiny-arithmetic")
        >>> tasks = {name: sl.load_task("arithmetic", variant=name, limit=24) for name in ("story", "largest")}
        >>> found = sl.transfer(model, tasks, rng=np.random.default_rng(0), methods=["mean_difference"], layers=[4], alphas=[1.0],
        ...     n_train=24, n_validation=8, n_test=8, n_random=2, n_shuffled=2)
        >>> transfer_matrix(found).data[0].z.shape
        (2, 2)
    """
    found = _input.expect(found, _input.Framed, "found", "what steerlab.transfer returns")
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
            text[at] = theme.signed(values[at], 1) + ("*" if significant(row["p_holm"]) else "")
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
    clear = int(significant(apart["p_holm"]).sum())
    headline = f"{clear} of {len(apart)} transfers change accuracy after correction"
    notes = ("*: exact sign test, Holm's correction over all cells off the diagonal; hover for intervals and nulls.",)
    return theme.style(fig, headline, notes, inner + 140, bottom=130)


@runtime_checkable
class Specified(_input.Framed, Protocol):
    """The part of a multiverse that is drawn."""

    @property
    def draws(self) -> pd.DataFrame: ...
    @property
    def choices(self) -> tuple[str, ...]: ...
    @property
    def goal(self) -> str: ...
    @property
    def measure(self) -> str: ...
    @property
    def test(self) -> Any: ...


CURVE_HEIGHT, CHOICE_HEIGHT = 260, 20


def specification_curve(found: Specified) -> go.Figure:
    """Changes under all specifications, sorted, with intervals and the band of curves with permuted labels; below, what each specification chose.

    Args:
        found: what `steerlab.multiverse` returns.

    Source:
        Simonsohn, Simmons and Nelson (2020), Specification curve analysis, Nature Human Behaviour 4, 1208-1214.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", limit=24)
        >>> some = sl.specifications(estimators=["mean_difference"], positions=["last"], operators=["add"])
        >>> found = sl.multiverse(model, task, seed=0, specs=some, n_permutations=3, layers=[2, 3])
        >>> len(specification_curve(found).data[-1].x)  # two rules for the layer, two lengths: four specifications with two choices each
        8
    """
    found = _input.expect(found, Specified, "found", "what steerlab.multiverse returns")
    rows = _input.need(found.frame, "found.frame", ["change", "low", "high", "z", "layer", "alpha", *found.choices])
    draws = _input.need(found.draws, "found.draws", ["permutation", "change"])
    scale, unit = (100, "change in accuracy (points)") if found.measure == "accuracy" else (1, f"change in {found.measure}")
    rows = rows.sort_values("change", kind="stable")
    rank = list(range(1, len(rows) + 1))
    low, middle, high = scale * np.quantile(np.sort(draws["change"].to_numpy(float).reshape(-1, len(rows))), [0.025, 0.5, 0.975], axis=0)
    made = [(name, value) for name in found.choices for value in pd.unique(rows[name])]
    below = CHOICE_HEIGHT * max(len(made), 1) + 10
    inner = CURVE_HEIGHT + below
    fig = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[CURVE_HEIGHT, below], vertical_spacing=16 / inner)
    band = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    fig.add_trace(go.Scatter(x=rank, y=low, **band), row=1, col=1)
    fig.add_trace(go.Scatter(x=rank, y=high, fill="tonexty", fillcolor="rgba(128,128,128,0.25)", **band), row=1, col=1)
    dotted = {"color": theme.GREY, "dash": "dot", "width": 1.5}
    fig.add_trace(go.Scatter(x=rank, y=middle, mode="lines", line=dotted, name="permuted labels", hoverinfo="skip"), row=1, col=1)
    change = scale * rows["change"].to_numpy(float)
    clear = ((rows["low"] > 0) | (rows["high"] < 0)).to_numpy()
    fig.add_trace(
        go.Scatter(
            x=rank,
            y=change,
            mode="markers",
            marker={
                "color": [theme.BLUE if one else theme.GREY for one in clear],
                "symbol": ["diamond" if one else "circle" for one in clear],
                "size": 7,
            },
            error_y={
                "type": "data", "symmetric": False, "array": scale * rows["high"].to_numpy(float) - change,
                "arrayminus": change - scale * rows["low"].to_numpy(float), "color": theme.GREY, "thickness": 1,
            },
            name="true labels",
            hovertext=[_specified(row, found.choices, scale) for row in rows.to_dict("records")],
            hoverinfo="text",
        ),
        row=1, col=1,
    )  # fmt: skip
    dots = [(x, y) for y, (name, value) in enumerate(made) for x, one in zip(rank, rows[name], strict=True) if one == value]
    marker = {"color": theme.GREY, "size": 5}
    fig.add_trace(
        go.Scatter(x=[x for x, _ in dots], y=[y for _, y in dots], mode="markers", marker=marker, hoverinfo="skip", showlegend=False),
        row=2,
        col=1,
    )
    names = [theme.label(f"{name.replace('_', ' ')}: {str(value).replace('_', ' ')}", 30) for name, value in made]
    fig.update_yaxes(title_text=unit, row=1, col=1)
    ticks = {"tickvals": list(range(len(names))), "ticktext": names, "autorange": "reversed", "zeroline": False}
    fig.update_yaxes(title_text="choices", **ticks, row=2, col=1)
    fig.update_xaxes(title_text="specifications, by their change", showgrid=False, zeroline=False, row=2, col=1)
    fig.update_xaxes(showgrid=False, zeroline=False, row=1, col=1)
    theme.legend_below(fig, inner)
    test = found.test()
    headline = f"Median of {len(rows)} specifications: {theme.signed(float(np.median(change)), 1 if scale > 1 else 3)}{' points' if scale > 1 else ''}, {format_p(test.pvalue, digits=2)}"
    notes = (
        f"Meant to {found.goal} {theme.label(found.measure)}; joint test against {len(test.controls)} permutations of the labels, whose curves lie in the grey band (95%).",
        "Diamonds: the 95% interval leaves out 0 (uncorrected).",
    )
    return theme.style(fig, headline, notes, inner + 130, bottom=110)


def _specified(row: Mapping[Hashable, Any], choices: tuple[str, ...], scale: int) -> str:
    said = ", ".join(theme.label(row[name]) for name in choices)
    change, low, high = (theme.signed(scale * row[name], 1 if scale > 1 else 3) for name in ("change", "low", "high"))
    return (
        f"{said}<br>layer {row['layer']}, alpha {row['alpha']:.3g}<br>{change} ({low} to {high}), studentised {theme.signed(row['z'], 2)}"
    )


def _hover(row: Mapping[Hashable, Any]) -> str:
    corrected = "" if pd.isna(row["p_holm"]) else f", {format_p(row['p_holm'], digits=2)} corrected"
    return (
        f"{theme.label(row['source'])} to {theme.label(row['target'])}, n = {row['n']:.0f}<br>{theme.signed(100 * row['change'])} points "
        f"({theme.signed(100 * row['low'])} to {theme.signed(100 * row['high'])})<br>sign test {format_p(row['p'], digits=2)}{corrected}<br>"
        f"random directions {theme.signed(100 * row['random'])} in the median, {format_p(row['p_random'], digits=2)}<br>"
        f"shuffled labels {theme.signed(100 * row['shuffled'])}"
    )
