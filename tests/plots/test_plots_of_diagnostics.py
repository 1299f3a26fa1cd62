"""Figures of diagnostics and side effects: what is drawn, what is said, and what is refused."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from steerlab import plots
from steerlab.plots import theme

EVIL = '</b><a href="https://example.org">x</a>\u202e<script>'


def diagnostics(paired: bool = False) -> SimpleNamespace:
    layers = np.arange(4)
    frame = pd.DataFrame({"layer": layers, "auc": [0.5, 0.7, 0.9, 0.8], "stability": [0.0, 0.4, 0.8, 0.7]})
    for column in ("auc", "stability"):
        frame[f"{column}_low"], frame[f"{column}_high"] = frame[column] - 0.1, frame[column] + 0.1
    if paired:
        frame["agreement"] = [0.1, 0.2, 0.3, 0.2]
    return SimpleNamespace(frame=frame, n_positive=30, n_negative=20, paired=paired)


def effects(kl=(0.5, 0.1, 0.2, 0.4), name: str = "mine") -> pd.DataFrame:
    change = [-0.2, 0.0, 0.05, -0.01]
    return pd.DataFrame(
        {
            "direction": [name, "c0", "c1", "c2"],
            "layer": 3,
            "alpha": -2.0,
            "is_control": [False, True, True, True],
            "change": change,
            "margin_change": 2 * np.array(change),
            "kl": kl,
            "dominant": [True, True, True, False],
        }
    )


def title(fig) -> str:
    return fig.layout.title.text.replace("<br>", " ")


@pytest.mark.parametrize("paired", [False, True])
def test_separability_shows_what_was_measured_with_its_bands(paired):
    found = diagnostics(paired)
    fig = plots.separability(found)
    lines = [trace for trace in fig.data if trace.mode == "lines+markers"]
    columns = ["auc", "stability", *(["agreement"] if paired else [])]
    assert [list(line.y) for line in lines] == [found.frame[column].tolist() for column in columns]
    bands = [trace for trace in fig.data if trace.fill == "toself"]
    assert len(bands) == 2
    assert max(bands[0].y) == pytest.approx(1.0)
    assert "highest at layer 2: 0.90" in title(fig)
    assert ("30 pairs" if paired else "30 against 20 problems") in title(fig)


def test_separability_is_drawn_by_layer_and_its_bands_go_from_low_to_high():
    found = diagnostics()
    found.frame = found.frame.iloc[[3, 1, 0, 2]]
    bands = [trace for trace in plots.separability(found).data if trace.fill == "toself"]
    assert list(bands[0].x) == [0, 1, 2, 3, 3, 2, 1, 0]
    assert list(bands[0].y) == pytest.approx([0.6, 0.8, 1.0, 0.9, 0.7, 0.8, 0.6, 0.4])
    assert list(bands[1].y) == pytest.approx([0.1, 0.5, 0.9, 0.8, 0.6, 0.7, 0.3, -0.1])


def test_the_pareto_title_counts_the_points_under_test_and_the_note_all_points():
    shown = title(plots.pareto(effects().assign(is_control=[False, False, True, True], dominant=[True, False, True, True])))
    assert shown.startswith("1 of 2 points under test is on the Pareto front")
    assert "4 points, 3 on the front (blue rim)." in shown


def test_the_pareto_plot_tells_directions_from_controls():
    fig = plots.pareto(effects())
    controls, mine = fig.data
    assert (controls.marker.color, mine.marker.color) == (theme.GREY, theme.VERMILLION)
    assert (list(mine.x), list(mine.y)) == ([0.5], [pytest.approx(-20)])
    assert list(controls.marker.line.width) == [2, 2, 0]
    assert mine.text == ("mine, alpha −2",)
    assert "nats per token" in fig.layout.xaxis.title.text
    assert "percentage points" in fig.layout.yaxis.title.text
    assert "The direction under test is on the Pareto front" in title(fig)
    margin = plots.pareto(effects(), "margin")
    assert list(margin.data[1].y) == [pytest.approx(-0.4)]


def test_kls_far_apart_stand_on_a_logarithmic_axis_unless_one_is_zero():
    assert plots.pareto(effects()).layout.xaxis.type == "linear"
    assert plots.pareto(effects((5.0, 0.1, 0.2, 0.4))).layout.xaxis.type == "log"
    assert plots.pareto(effects((5.0, 0.0, 0.2, 0.4))).layout.xaxis.type == "linear"


def test_a_sweep_without_controls_is_drawn_too():
    fig = plots.pareto(effects().drop(columns=["is_control", "alpha"]))
    assert len(fig.data) == 1
    assert fig.data[0].name == "4 under test"


def test_names_are_shown_as_text():
    shown = str(plots.pareto(effects(name=EVIL)).to_plotly_json())
    assert "<script>" not in shown
    assert "\u202e" not in shown
    assert "<a href" not in shown


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: plots.separability(None), TypeError, "diagnostics: got NoneType; expected what steerlab.contrast_diagnostics returns"),
        (lambda: plots.pareto(3), TypeError, "effects: got int; expected a pandas DataFrame"),
        (lambda: plots.pareto(effects().head(0)), ValueError, "effects: no rows"),
        (lambda: plots.pareto(effects().drop(columns="kl")), ValueError, "effects: no column kl"),
        (lambda: plots.pareto(effects(), "nll"), ValueError, "measure='nll': expected accuracy or margin"),
    ],
)
def test_anything_else_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
