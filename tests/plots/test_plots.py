"""Figures from small stand-in results: what is drawn, what is said, and what is refused."""

import re
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
import torch
from test_plots_of_diagnostics import diagnostics, effects

import steerlab as sl
from steerlab import plots
from steerlab.plots import sweeps, theme
from steerlab.plots.sweeps import _outline, cell_key
from steerlab.statistics.controls import RankTest, rank_test

EVIL = '</b><a href="https://example.org">x</a>\u202e<script>'
N = 100


@dataclass(frozen=True)
class Sweep:
    """A sweep's result: `moved` maps (layer, alpha) to answers that became right and became wrong, from 60 right."""

    moved: dict[tuple[int, float], tuple[int, int]]
    names: tuple[str, ...] = ("contrast",)

    def _cells(self) -> list[dict[str, object]]:
        rows = []
        for name in self.names:
            for (layer, alpha), (right, wrong) in self.moved.items():
                rows.append({"layer": layer, "direction": name, "alpha": alpha, "right": right, "wrong": wrong})
        return rows

    def accuracy(self) -> pd.DataFrame:
        rows = pd.DataFrame(self._cells())
        correct = 60 + rows.pop("right") - rows.pop("wrong")
        share = correct / N
        return rows.assign(n=N, correct=correct, accuracy=share, low=share - 0.1, high=share + 0.1, change=share - 0.6)

    def transitions(self) -> pd.DataFrame:
        rows = pd.DataFrame(self._cells())
        right, wrong = rows.pop("right"), rows.pop("wrong")
        return rows.assign(stayed_right=60 - wrong, became_right=right, became_wrong=wrong, stayed_wrong=40 - right)


@dataclass(frozen=True)
class Control:
    changes_of_controls: tuple[float, ...] = (-0.01, 0.0, 0.02, 0.0)
    observed: float = -0.2
    alpha: float = -3.0
    layer: int = 6
    name: str = "contrast"
    asked: list[str] = field(default_factory=list)

    def changes(self) -> pd.DataFrame:
        change = np.array([self.observed, *self.changes_of_controls])
        names = [self.name, *(f"control-{i:03d}" for i in range(len(change) - 1))]
        is_control = [name.startswith("control") for name in names]
        return pd.DataFrame(
            {
                "direction": names,
                "is_control": is_control,
                "accuracy": 0.6 + change,
                "change": change,
                "margin_change": 2 * change,
            }
        )

    def rank_test(self, *, measure: str = "accuracy") -> RankTest:
        self.asked.append(measure)
        factor = 1 if measure == "accuracy" else 2
        return rank_test(factor * self.observed, factor * np.array(self.changes_of_controls))


def direction(values: object, layer: int = 6, name: str = "contrast") -> SimpleNamespace:
    vector = torch.as_tensor(values, dtype=torch.float32)
    norms = torch.atleast_2d(vector).norm(dim=1).numpy()
    return SimpleNamespace(vector=vector, layer=layer, site="resid_post", name=name, token_norms=lambda: norms)


def magnitudes(problems: int = 1, sink: float = 5.0, projection: float = float("nan")) -> SimpleNamespace:
    rows = [
        (f"p{p}", layer, position, token, sink if position == 0 else 2.0, projection)
        for p in range(problems)
        for layer in (0, 3)
        for position, token in enumerate(["<bos>", " two", "\n"])
    ]
    frame = pd.DataFrame(rows, columns=["problem_id", "layer", "position", "token", "norm", "projection"])
    means = frame.groupby(["layer", "position"], as_index=False).agg(
        n=("norm", "size"), norm=("norm", "mean"), projection=("projection", "mean")
    )
    return SimpleNamespace(frame=frame, by_position=lambda: means)


def history(validation: float = 0.7) -> pd.DataFrame:
    accuracy = [validation - 0.1, validation, validation - 0.05]
    return pd.DataFrame({"epoch": [1, 2, 3], "loss": [2.0, 1.0, 0.5], "norm": [0.1, 0.2, 0.3], "validation_accuracy": accuracy})


def preview(correlation: object = None) -> SimpleNamespace:
    cells = [(layer, "contrast", alpha, alpha * (layer - 7)) for layer in (6, 9) for alpha in (-1.0, 0.0, 2.0)]
    return SimpleNamespace(frame=pd.DataFrame(cells, columns=["layer", "direction", "alpha", "margin_change"]), correlation=correlation)


SMALL = {(6, -1.0): (2, 12), (6, 0.0): (0, 0), (6, 1.0): (5, 1), (9, -1.0): (1, 1), (9, 0.0): (0, 0), (9, 1.0): (0, 3)}


def several_effects() -> pd.DataFrame:
    lines = [("a", 0.05, 0.02, 0.09), ("b", -0.01, -0.04, 0.03), ("c", -0.03, -0.07, -0.01), ("d", 0.02, None, None)]
    return pd.DataFrame(lines, columns=["name", "change", "low", "high"])


def doses() -> tuple[pd.DataFrame, pd.DataFrame]:
    lines = [("a", 3, 0.1, 0.02, True), ("a", 1, 0.01, -0.01, False), ("b", 3, 0.2, 0.05, True), ("b", 1, 0.3, 0.9, False)]
    tried = pd.DataFrame(lines, columns=["method", "level", "kl", "change", "chosen"])
    return tried, pd.DataFrame({"kl": [0.05, 0.0], "change": [0.03, 0.5]})


def headroom() -> SimpleNamespace:
    table = pd.DataFrame(
        {"alpha": [2.0, -1.0], "fixed": [7, 1], "fixed_expected": [6.5, 2.5], "broken": [3, 8], "broken_expected": [4.5, 9.5],
         "wrong": [20, 20], "right": [30, 30], "change": [0.08, -0.14], "change_expected": [0.04, -0.15]}
    )  # fmt: skip
    return SimpleNamespace(layer=4, headroom=table)


def sizes() -> SimpleNamespace:
    names = ["reference", "v1", "v2", "v3"]
    frame = pd.DataFrame(
        {"name": names, "kind": ["reference", "subset", "subset", "subset"], "size": [8, 8, 4, 4], "cosine": [1.0, 0.8, 0.4, 0.6],
         "change": [0.2, 0.1, 0.0, 0.04], "low": -0.1, "high": 0.3, "n": 50}
    )  # fmt: skip
    curve = pd.DataFrame(
        {"kind": "subset", "size": [8, 4], "cosine": [0.8, 0.5], "cosine_low": [0.7, 0.2], "cosine_high": [0.85, 0.6], "change": [0.1, 0.02],
         "change_low": [0.05, -0.01], "change_high": [0.2, 0.03]}
    )  # fmt: skip
    return SimpleNamespace(frame=frame, band=0.15, layer=2, curve=lambda: curve)


def protocols() -> SimpleNamespace:
    frame = pd.DataFrame(
        {"protocol": ["rapid", "rapid", "plain"], "repetition": [0, 1, 0], "layer": 1, "candidates": 3, "attempts": 1, "reported_on": "train",
         "reported": [0.3, 0.2, 0.05], "change": [0.1, -0.1, 0.06], "low": -0.2, "high": 0.2}
    )  # fmt: skip
    table = pd.DataFrame({"protocol": ["rapid", "plain"], "reported": [0.25, 0.05], "change": [0.0, 0.06], "bias": [0.25, -0.01]})
    return SimpleNamespace(frame=frame, moves=None, summary=lambda: table)


def kinds_of_vectors() -> SimpleNamespace:
    kinds = pd.DataFrame(
        {"kind": ["static", "modulated"], "n_parameters": [64, 4096], "change": [0.1, 0.02], "low": [0.04, -0.05], "high": [0.12, 0.1]}
    )
    runs = pd.DataFrame({"kind": ["modulated", "static"], "seed": [0, 1], "change": [0.03, 0.11]})
    return SimpleNamespace(kinds=kinds, runs=runs, verdict="supported")


def divergences() -> SimpleNamespace:
    rows = pd.DataFrame(
        {"correct": [True, True, False, False], "run": ["right", "right", "wrong", "wrong"], "part": ["prompt", "answer"] * 2, "tokens": 9, "n": 3,
         "kl": [0.2, 0.5, 0.1, 0.3], "share": [0.4, 0.6, 0.7, 0.3]}
    )  # fmt: skip
    needed = pd.DataFrame({"needed_share": [0.1, 0.2, 0.9]})
    return SimpleNamespace(alpha=2.0, layer=1, summary=lambda: rows, concentration=lambda share=0.9: needed)


def transfers(names: tuple[str, str] = ("a", "b")) -> SimpleNamespace:
    first, second = names
    lines = [
        (first, first, 0.1, 0.01, None),
        (first, second, -0.2, 0.001, 0.002),
        (second, first, 0.05, 0.04, 0.08),
        (second, second, 0.0, 1.0, None),
    ]
    frame = pd.DataFrame(lines, columns=["source", "target", "change", "p", "p_holm"])
    return SimpleNamespace(frame=frame.assign(method="learned", low=-0.5, high=0.5, n=40, random=0.0, shuffled=0.0, p_random=0.5))


def multiverse(measure: str = "accuracy") -> sl.Multiverse:
    frame = pd.DataFrame(
        {"template": "a", "estimator": ["lda", "mean_difference", "lda"], "layer_rule": ["middle", "middle", "separable"], "measured": "last",
         "positions": "all", "operator": "add", "normalisation": "contrast", "layer": 3, "alpha": -1.0, "dose": 0.5, "n": 50, "baseline": 0.6,
         "change": [-0.1, 0.02, -0.04], "z": [-2.0, 0.5, -1.0], "low": [-0.2, -0.1, -0.1], "high": [-0.01, 0.1, 0.05], "p_uncorrected": 0.5}
    )  # fmt: skip
    draws = pd.DataFrame(
        {"permutation": [1, 1, 1, 2, 2, 2], "specification": [0, 1, 2] * 2, "layer": 3, "alpha": -1.0, "change": [0.01, 0.03, 0.02, -0.3, -0.1, -0.2],
         "z": [0.1, 0.3, 0.2, -3.0, -0.9, -1.5]}
    )  # fmt: skip
    return sl.Multiverse(frame, draws, "lower", measure, ())


def streams() -> sl.EASComparison:
    right = {"no_watcher": [True, False, False], "watcher": [True, True, False]}
    lines = [(name, 0, step, correct) for name in right for step, correct in enumerate(right[name])]
    logged = {"nudge": 1.0, "moved": 0.1, "entropy": 1.0, "updates": 0, "wins": 0}
    frame = pd.DataFrame(lines, columns=["variant", "repeat", "step", "correct"]).assign(**logged)
    return sl.EASComparison(frame, sl.Watcher(), 1, tuple(right), 1, pd.Series(dtype=float), "choice")


def title(fig: go.Figure) -> str:
    """The title as it is read: without line breaks and tags."""
    text = fig.layout.title.text.replace("<br>", " ").replace("</span>", "")
    return text.replace("<span style='font-size:12px'>", "")


def everything_shown(fig: go.Figure) -> str:
    return str(fig.to_plotly_json())


ALL = {
    "layer_alpha_heatmap": lambda: plots.layer_alpha_heatmap(Sweep(SMALL)),
    "preview_heatmap": lambda: plots.preview_heatmap(preview()),
    "alpha_progression": lambda: plots.alpha_progression(Sweep(SMALL), control=Control()),
    "transition_matrix": lambda: plots.transition_matrix(Sweep(SMALL)),
    "direction_heatmap": lambda: plots.direction_heatmap(direction(np.eye(3))),
    "token_magnitudes": lambda: plots.token_magnitudes(magnitudes(projection=1.0)),
    "null_distribution": lambda: plots.null_distribution(Control()),
    "training_curve": lambda: plots.training_curve(history()),
    "separability": lambda: plots.separability(diagnostics(paired=True)),
    "pareto": lambda: plots.pareto(effects()),
    "forest": lambda: plots.forest(several_effects()),
    "effect_against_kl": lambda: plots.effect_against_kl(*doses()),
    "headroom": lambda: plots.headroom(headroom()),
    "transfer_matrix": lambda: plots.transfer_matrix(transfers()),
    "specification_curve": lambda: plots.specification_curve(multiverse()),
    "data_size_curve": lambda: plots.data_size_curve(sizes()),
    "reported_against_fresh": lambda: plots.reported_against_fresh(protocols()),
    "context_kinds": lambda: plots.context_kinds(kinds_of_vectors()),
    "critical_tokens": lambda: plots.critical_tokens(divergences()),
    "eas_stream": lambda: plots.eas_stream(streams()),
}


def test_every_figure_is_among_them():
    assert sorted(ALL) == sorted(set(plots.__all__) - {"words"})


@pytest.mark.parametrize("name", ALL)
def test_every_figure_has_the_template_a_title_and_named_axes(name: str):
    fig = ALL[name]()
    assert fig.layout.template == theme.TEMPLATE
    assert title(fig)
    assert any(axis.title.text for axis in fig.select_xaxes())
    assert name in ("direction_heatmap", "forest") or all(axis.title.text for axis in fig.select_yaxes())


@pytest.mark.parametrize("name", ALL)
def test_title_lines_fit_a_narrow_page(name: str):
    headline = ALL[name]().layout.title.text.split("<span")[0]
    assert max(len(line) for line in headline.split("<br>")) <= theme.TITLE_WIDTH


@pytest.mark.parametrize("name", ALL)
def test_the_same_result_gives_the_same_figure(name: str):
    assert ALL[name]().to_json() == ALL[name]().to_json()


def test_a_preview_shows_predicted_margins_and_how_they_compare_with_what_was_measured():
    fig = plots.preview_heatmap(preview(SimpleNamespace(pearson=0.934, spearman=0.9, n=4)))
    assert np.allclose(fig.data[0].z, [[1, 0, -2], [-2, 0, 4]])
    assert "Correlation with the measured sweep: 0.93 over 4 cells (rank: 0.90)." in title(fig)
    assert "predicted change of the mean margin" in fig.data[0].hovertext[0][0]
    assert "Not compared with a measured sweep." in title(plots.preview_heatmap(preview()))
    with pytest.raises(TypeError, match=r"a Preview, as steerlab\.preview returns it"):
        plots.preview_heatmap(3)


def test_the_heatmap_shows_points_centred_on_zero_and_states_the_baseline():
    fig = plots.layer_alpha_heatmap(Sweep(SMALL))
    assert np.allclose(fig.data[0].z, [[-10, 0, 4], [0, 0, -3]])
    assert (fig.layout.coloraxis.cmin, fig.layout.coloraxis.cmax) == (pytest.approx(-10), pytest.approx(10))
    assert "baseline of 60.0% (60 of 100)" in title(fig)
    assert "accuracy 50.0% (50 of 100)" in fig.data[0].hovertext[0][0]
    assert "became right 2 / became wrong 12" in fig.data[0].hovertext[0][0]


def test_a_cell_that_was_not_measured_stays_empty():
    fig = plots.layer_alpha_heatmap(Sweep({(0, 0.0): (0, 0), (0, 1.0): (1, 0), (1, 0.0): (0, 0)}))
    assert np.isnan(fig.data[0].z[1][1])
    assert fig.data[0].hovertext[1][1] == "not measured"


def test_two_directions_at_one_layer_get_a_panel_each():
    both = Sweep(SMALL, names=("contrast", "learned"))
    assert len(plots.layer_alpha_heatmap(both).data) == 2
    assert len(plots.layer_alpha_heatmap(both, direction="learned").data) == 1


def test_a_sweep_in_which_nothing_changes_still_has_a_colour_range():
    axis = plots.layer_alpha_heatmap(Sweep({(0, 0.0): (0, 0), (0, 1.0): (0, 0)})).layout.coloraxis
    assert axis.cmin < 0 < axis.cmax


def test_an_unknown_layer_or_direction_names_what_exists():
    with pytest.raises(ValueError, match=r"layer=14: this sweep has layer 6, 9"):
        plots.transition_matrix(Sweep(SMALL), layer=14)
    with pytest.raises(ValueError, match=r"direction='other': this sweep has direction contrast"):
        plots.layer_alpha_heatmap(Sweep(SMALL), direction="other")


def test_a_sweep_without_a_baseline_is_refused():
    sweep = Sweep({(0, 1.0): (0, 0)})
    without = SimpleNamespace(accuracy=lambda: sweep.accuracy().assign(change=np.nan), transitions=sweep.transitions)
    with pytest.raises(ValueError, match="alpha 0"):
        plots.layer_alpha_heatmap(without)


def test_a_cell_that_occurs_twice_is_refused():
    sweep = Sweep(SMALL, names=("same", "same"))
    with pytest.raises(ValueError, match="occurs twice"):
        plots.layer_alpha_heatmap(sweep)


@pytest.mark.parametrize(
    ("draw", "expected"),
    [
        (plots.layer_alpha_heatmap, "SweepResult"),
        (plots.alpha_progression, "SweepResult"),
        (plots.transition_matrix, "SweepResult"),
        (plots.direction_heatmap, "Direction"),
        (plots.token_magnitudes, "Magnitudes"),
        (plots.null_distribution, "ControlResult"),
        (plots.training_curve, "DataFrame"),
    ],
)
@pytest.mark.parametrize("wrong", [None, 3, "sweep", Sweep, object()])
def test_a_wrong_argument_is_told_what_was_expected(draw, expected: str, wrong: object):
    with pytest.raises(TypeError, match=expected):
        draw(wrong)


def test_the_progression_has_the_wilson_band_and_the_baseline():
    fig = plots.alpha_progression(Sweep(SMALL), layer=6)
    band, line, start = fig.data
    assert list(line.y) == pytest.approx([50, 60, 64])
    assert list(band.y) == pytest.approx([60, 70, 74, 54, 50, 40])
    assert list(start.y) == pytest.approx([60, 60])


def test_many_layers_are_told_apart_by_a_colour_bar_instead_of_a_legend():
    many = Sweep({(layer, alpha): (0, 0) for layer in range(12) for alpha in (-1.0, 0.0, 1.0)})
    fig = plots.alpha_progression(many)
    assert not fig.layout.showlegend
    assert (fig.layout.coloraxis.cmin, fig.layout.coloraxis.cmax) == (0, 11)


def test_a_control_stands_at_its_alpha_and_at_its_layer():
    fig = plots.alpha_progression(Sweep(SMALL), control=Control())
    points = next(trace for trace in fig.data if trace.name == "4 random directions")
    assert sorted(points.x) == pytest.approx([-3.04, -3.0, -3.0, -2.96])  # the two equal ones stand side by side
    assert sorted(points.y) == pytest.approx([59, 60, 60, 62])
    assert "accuracy 62.0% (62 of 100)" in points.hovertext[2]
    assert "layer 6" in title(fig)
    with pytest.raises(ValueError, match="made at layer 6"):
        plots.alpha_progression(Sweep(SMALL), layer=9, control=Control())


def test_several_controls_stand_each_at_its_own_alpha_with_one_legend():
    fig = plots.alpha_progression(Sweep(SMALL), control=[Control(alpha=-1.0), Control(alpha=1.0)])
    points = [trace for trace in fig.data if trace.name == "4 random directions"]
    assert [round(float(np.mean(trace.x))) for trace in points] == [-1, 1]
    assert [trace.showlegend for trace in points] == [True, False]
    assert "at alpha −1 and 1" in title(fig)
    with pytest.raises(ValueError, match="made at layer 9"):
        plots.alpha_progression(Sweep(SMALL), control=[Control(), Control(layer=9)])


def test_however_many_controls_coincide_they_stay_on_their_side_of_the_next_alpha():
    points = plots.alpha_progression(Sweep(SMALL), control=Control(changes_of_controls=(0.0,) * 500)).data[0]
    assert np.abs(np.array(points.x) + 3.0).max() < 0.5


def test_every_point_of_a_sweep_has_the_key_of_its_cell():
    key = cell_key(6, -1.0, "contrast")
    assert plots.layer_alpha_heatmap(Sweep(SMALL)).data[0].customdata[0][0] == key
    assert plots.transition_matrix(Sweep(SMALL), layer=6).data[1].customdata[0] == key
    assert plots.alpha_progression(Sweep(SMALL), layer=6).data[1].customdata[0] == key
    assert key.startswith("6|-1|")
    assert key != cell_key(6, -1.0, "Contrast")


def test_the_border_of_cells_leaves_out_the_edges_that_two_of_them_share():
    assert _outline({(0, 0)}).count("M") == 4
    assert _outline({(0, 0), (0, 1)}).count("M") == 6
    assert "M0.5,-0.5L0.5,0.5" in _outline({(0, 0)})
    assert "M0.5,-0.5L0.5,0.5" not in _outline({(0, 0), (0, 1)})


@pytest.mark.parametrize("width", [400, 860, 1600])
def test_a_picture_of_any_width_has_its_title_below_the_upper_edge_and_above_the_plot(width: int):
    drawn = ALL["null_distribution"]()
    fig = theme.fitted(drawn, width, dark=True)
    lines = fig.layout.title.text.count("<br>") + 1
    top = (1 - fig.layout.title.y) * fig.layout.height
    assert 12 < top < fig.layout.margin.t - 16 * lines
    assert fig.layout.template == theme.DARK_TEMPLATE
    assert (drawn.layout.template, drawn.layout.width) == (theme.TEMPLATE, None)
    assert lines == {400: 7, 860: 4, 1600: 4}[width]


def test_a_title_as_plain_text_is_the_title_and_the_figure_keeps_its_size_without_it():
    drawn = plots.null_distribution(Control(name=EVIL))
    headline, notes, bare = theme.without_title(drawn)
    assert headline == "0 of 4 random directions are at least as extreme as the tested one: p = 0.2"
    assert notes[0].startswith('Tested: </b><a href="https://ex')
    assert bare.layout.title.text is None
    inner = [fig.layout.height - fig.layout.margin.t - fig.layout.margin.b for fig in (drawn, bare)]
    assert inner[0] == inner[1]


def test_answers_that_became_right_go_up_and_those_that_became_wrong_go_down():
    up, down = plots.transition_matrix(Sweep(SMALL), layer=6).data
    assert (list(up.y), list(down.y)) == ([2, 0, 5], [-12, 0, -1])
    assert list(down.text) == ["12", "", "1"]


def test_all_layers_of_the_transitions_are_shown_unless_one_is_chosen():
    fig = plots.transition_matrix(Sweep(SMALL))
    assert [note.text for note in fig.layout.annotations] == ["layer 6", "layer 9"]


def test_of_a_large_direction_the_largest_dimensions_are_shown_and_the_title_says_so():
    values = np.zeros(200)
    values[[150, 7]] = [5.0, -4.0]
    fig = plots.direction_heatmap(direction(values))
    assert "the 64 largest of 200 dimensions" in title(fig)
    assert (fig.data[0].z[0][0], fig.data[0].z[0][-1]) == (-4.0, 5.0)
    assert fig.data[0].hovertext[0][-1] == "contrast<br>dimension 150<br>value 5"


def test_dimensions_that_move_together_stand_together():
    pattern = np.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])
    shown = plots.direction_heatmap([direction(pattern, layer=0), direction(2 * pattern, layer=1)]).data[0].z
    assert np.array_equal(shown[1], [-2, -2, -2, 2, 2, 2])


def test_rows_are_positions_of_one_direction_or_layers_of_several():
    one = plots.direction_heatmap(direction(np.ones((2, 4))))
    several = plots.direction_heatmap({0: direction([1.0, 2.0]), 5: direction([3.0, 1.0])})
    assert one.layout.yaxis.ticktext == ("position 0", "position 1")
    assert several.layout.yaxis.ticktext == ("layer 0", "layer 5")


def test_directions_at_one_layer_are_told_apart_by_name():
    fig = plots.direction_heatmap([direction([1.0, 2.0], name="a"), direction([3.0, 1.0], name="b")])
    assert fig.layout.yaxis.ticktext == ("layer 6, a", "layer 6, b")


def test_a_vector_in_bfloat16_that_asks_for_gradients_is_drawn():
    d = SimpleNamespace(vector=torch.ones(4, dtype=torch.bfloat16, requires_grad=True), layer=0, token_norms=lambda: [2.0])
    assert plots.direction_heatmap(d).data[0].z.shape == (1, 4)


def test_directions_that_cannot_be_drawn_are_refused():
    with pytest.raises(ValueError, match="nothing to show"):
        plots.direction_heatmap([])
    with pytest.raises(ValueError, match="one model"):
        plots.direction_heatmap([direction([1.0]), direction([1.0, 2.0])])
    with pytest.raises(ValueError, match="NaN"):
        plots.direction_heatmap(direction([1.0, float("nan")]))
    with pytest.raises(TypeError, match=r"d\[1\]: got int"):
        plots.direction_heatmap([direction([1.0]), 3])


def test_a_directions_norms_are_bars():
    assert list(plots.token_magnitudes(direction([[3.0, 4.0], [0.0, 1.0]])).data[0].y) == [5.0, 1.0]


def test_a_single_prompt_shows_its_tokens_and_an_average_does_not():
    assert plots.token_magnitudes(magnitudes()).layout.xaxis.ticktext == ("&lt;bos&gt;", "·two", "\\n")
    assert plots.token_magnitudes(magnitudes(problems=2)).layout.xaxis.ticktext is None


def test_an_attention_sink_makes_the_axis_logarithmic_and_the_axis_says_so():
    fig = plots.token_magnitudes(magnitudes(sink=500.0))
    assert fig.layout.yaxis.type == "log"
    assert "log scale" in fig.layout.yaxis.title.text
    assert plots.token_magnitudes(magnitudes()).layout.yaxis.type is None


def test_log_ticks_are_round_numbers_that_are_written_out():
    axis = plots.token_magnitudes(magnitudes(sink=500.0)).layout.yaxis
    assert list(axis.tickvals) == [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
    assert list(plots.token_magnitudes(magnitudes(sink=2e6)).layout.yaxis.tickvals) == [10.0**k for k in range(7)]


def test_projections_have_a_panel_only_when_there_are_any():
    assert plots.token_magnitudes(magnitudes(projection=1.0)).layout.yaxis2.title.text
    assert "yaxis2" not in plots.token_magnitudes(magnitudes()).layout


@pytest.mark.parametrize(("measure", "scale"), [("accuracy", 100), ("margin", 2)])
def test_the_null_distribution_counts_every_control_and_marks_the_direction(measure: str, scale: float):
    control = Control()
    fig = plots.null_distribution(control, measure=measure)
    assert [sum(trace.y) for trace in fig.data] == [4, 0]
    assert fig.layout.shapes[-1].x0 == pytest.approx(-0.2 * scale)
    assert "p = 0.2" in title(fig)
    assert control.asked == [measure]


def test_controls_at_least_as_extreme_are_hatched_and_give_the_p_value():
    fig = plots.null_distribution(Control(changes_of_controls=(-0.3, 0.0, 0.01, 0.0, 0.25), observed=-0.2))
    less, far = fig.data
    assert (less.name, far.name) == ("3 less extreme", "2 at least as extreme")
    assert far.marker.pattern.shape == "/"
    assert title(fig).startswith("2 of 5 random directions are at least as extreme as the tested one: p = 0.5")
    assert fig.layout.shapes[0].x0 == pytest.approx(0)  # the median of all six


def test_controls_that_are_all_equal_are_one_bar():
    assert [list(trace.y) for trace in plots.null_distribution(Control((0.0, 0.0))).data] in ([[2], [0]], [[0], [2]])


def test_a_control_that_offers_one_test_only_is_drawn_with_it():
    control = Control()
    plain = SimpleNamespace(alpha=1.0, layer=0, changes=control.changes, rank_test=control.rank_test)
    assert "p = 0.2" in title(plots.null_distribution(plain))


def test_a_null_distribution_needs_a_known_measure_and_at_least_one_control():
    with pytest.raises(ValueError, match="accuracy or margin"):
        plots.null_distribution(Control(), measure="nll")
    with pytest.raises(ValueError, match="0 controls and 1 tested"):
        plots.null_distribution(Control(()))


def pipelines(stop_after: int | None = None) -> sl.PipelineControl:
    """Twelve control pipelines whose studentised changes are -6 to 5; the direction's is 2 for both goals."""
    z = [2.0, *np.arange(-6.0, 6.0)]
    lines = [
        {
            "pipeline": k,
            "is_control": k > 0,
            "goal": goal,
            "layer": k,
            "alpha": sign * 1.5,
            "z": value,
            "change": value / 100,
            "changed": 0.1,
        }
        for k, value in enumerate(z)
        for goal, sign in (("raise", 1), ("lower", -1))
    ]
    frame, nothing = pd.DataFrame(lines), pd.DataFrame()
    return sl.PipelineControl(frame, nothing, None, (), "random pipelines", "a rule", sl.Choice(), 12, stop_after, nothing)


@pytest.mark.parametrize(("goal", "exceeds", "alpha"), [(None, 4, "1.5"), ("raise", 4, "1.5"), ("lower", 9, "\N{MINUS SIGN}1.5")])
def test_the_null_distribution_of_pipelines_hatches_those_as_good_at_the_goal(goal, exceeds: int, alpha: str):
    """By hand: of -6 to 5, the four from 2 to 5 raise as much, and the nine from -6 to 2 lower as much."""
    control, verb = pipelines(), goal or "raise"
    fig = plots.null_distribution(control, goal=goal)
    less, far = fig.data
    assert [sum(trace.y) for trace in fig.data] == [12 - exceeds, exceeds]
    assert exceeds == control.test(verb).exceeds
    assert (less.name, far.name) == (f"{12 - exceeds} {verb} less", f"{exceeds} {verb} as much or more")
    assert (less.marker.pattern.shape, far.marker.pattern.shape) == (None, "/")
    assert fig.layout.shapes[-1].x0 == 2
    assert (fig.layout.xaxis.title.text, fig.layout.yaxis.title.text) == ("studentised net change", "random pipelines (count)")
    headline, notes, _ = theme.without_title(fig)
    assert headline == f"{exceeds} of 12 random pipelines {verb} as much or more: p = {(1 + exceeds) / 13:.2g} (uncorrected)"
    assert " ".join(notes).startswith(f"Tested: layer 0, alpha {alpha}; each control is at the cell that it chose itself.")
    assert "With 12 controls the smallest possible p is 0.077." in " ".join(notes)


def test_the_null_distribution_of_pipelines_that_were_stopped_holds_those_that_count():
    """By hand: -6, -5 and -4 are the first three that lower as much; none after them counts."""
    fig = plots.null_distribution(pipelines(stop_after=3), goal="lower")
    assert [sum(trace.y) for trace in fig.data] == [0, 3]
    assert title(fig).startswith("3 of 3 random pipelines (of 12 planned) lower as much or more: p = 1 (uncorrected)")


def test_the_figure_of_pipelines_is_their_plot_and_wants_a_goal_they_have():
    assert title(pipelines().plot()) == title(plots.null_distribution(pipelines()))
    with pytest.raises(ValueError, match="goal='best'; use one of raise, lower"):
        plots.null_distribution(pipelines(), goal="best")


def test_the_training_curve_names_the_best_validation_epoch():
    fig = plots.training_curve(history())
    assert len(fig.data) == 3
    assert "highest at epoch 2: 70.0%" in title(fig)
    assert "falls from 2 to 0.5" in title(fig)


def test_training_without_validation_says_so():
    fig = plots.training_curve(history(float("nan")))
    assert len(fig.data) == 2
    assert "no validation set" in title(fig)


def test_a_history_without_its_columns_or_rows_is_refused():
    with pytest.raises(ValueError, match="no column norm; it has epoch, loss"):
        plots.training_curve(history().drop(columns="norm"))
    with pytest.raises(ValueError, match="no rows"):
        plots.training_curve(history().head(0))


def test_outside_names_are_text_and_never_markup():
    figures = [
        plots.layer_alpha_heatmap(Sweep(SMALL, names=(EVIL, "b"))),
        plots.alpha_progression(Sweep(SMALL, names=(EVIL, "b"))),
        plots.transition_matrix(Sweep(SMALL, names=(EVIL, "b"))),
        plots.direction_heatmap(direction([[1.0]], name=EVIL)),
        plots.direction_heatmap({EVIL: direction([1.0])}),
        plots.token_magnitudes(direction([1.0], name=EVIL)),
        plots.null_distribution(Control(name=EVIL)),
    ]
    for fig in figures:
        shown = everything_shown(fig)
        assert "&lt;a href" in shown or "&lt;/b&gt;" in shown
        assert "<a" not in shown
        assert "<script" not in shown
        assert "\u202e" not in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a<b>&amp;", "a&lt;b&gt;&amp;amp;"),
        ("x\u202ey", "x\\u202ey"),
        ("שלום", "\u2068שלום\u2069"),
        ("x" * 100_000, "x" * 39 + "…"),
        ("\u202e" * 100, "\\u202e" * 6 + "\\u2" + "…"),
    ],
)
def test_a_label_is_escaped_spelled_out_isolated_and_cut(text: str, shown: str):
    assert theme.label(text) == shown


@pytest.mark.parametrize(("value", "shown"), [(-0.04, "0.0"), (0.0, "0.0"), (3, "+3.0"), (-1.5, "−1.5")])
def test_a_change_has_its_sign_and_nothing_is_minus_zero(value: float, shown: str):
    assert theme.signed(value) == shown


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("template", [theme.TEMPLATE, theme.DARK_TEMPLATE])
@pytest.mark.parametrize("colour", theme.LINES)
def test_lines_are_seen_on_a_light_and_on_a_dark_page(template: go.layout.Template, colour: str):
    """Oracle: the contrast ratio of WCAG 2.2, 1.4.11 asks for 3:1 for graphics."""
    low, high = sorted([_luminance(colour), _luminance(template.layout.paper_bgcolor)])
    assert (high + 0.05) / (low + 0.05) >= 3


@pytest.mark.parametrize("name", ALL)
def test_a_figure_can_be_put_into_words(name: str):
    said = plots.words(ALL[name]())
    assert re.search(r"\d", said)
    assert "<br>" not in said
    assert "&" not in said


def test_only_our_own_figures_have_words():
    with pytest.raises(ValueError, match="put another one into words yourself"):
        plots.words(go.Figure())


# What stands where: every number below was worked out by hand from the stand-in results.


def panels(fig: go.Figure) -> list[list[float]]:
    return [list(trace.y) for trace in fig.data]


def test_the_ticks_of_a_heatmap_name_its_layers_upwards_and_its_alphas_to_the_right():
    for fig in (plots.layer_alpha_heatmap(Sweep(SMALL)), plots.preview_heatmap(preview())):
        assert (list(fig.layout.yaxis.tickvals), list(fig.layout.yaxis.ticktext)) == ([0, 1], ["6", "9"])
        assert list(fig.layout.xaxis.tickvals) == [0, 1, 2]
        assert list(fig.layout.xaxis.ticktext)[:2] == ["−1", "0"]
        assert fig.layout.yaxis.autorange is None


def test_of_many_alphas_the_whole_ones_have_a_tick_at_their_own_place():
    assert sweeps.alpha_ticks([-1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75, 1.0]) == ([0, 4, 8], ["−1", "0", "1"])
    assert sweeps.alpha_ticks([0.1 * k for k in range(1, 27)])[1][:3] == ["0.1", "0.3", "0.5"]


def test_the_largest_change_is_the_one_furthest_from_zero_on_either_side():
    assert "Largest change −10.0 points, at layer 6, alpha −1." in title(plots.layer_alpha_heatmap(Sweep(SMALL)))
    opposite = preview()
    opposite.frame["margin_change"] *= -1
    assert "Largest −4.00, at layer 9, alpha 2." in title(plots.preview_heatmap(opposite))


def test_an_outline_goes_around_the_cells_that_survive_at_the_level_asked_for():
    survivors = {0.05: [(9, "contrast", -1.0)], 0.2: [(6, "contrast", 1.0)]}
    tested = SimpleNamespace(n_cells=4, survivors=lambda level=0.05: pd.DataFrame(index=pd.MultiIndex.from_tuples(survivors[level])))
    fig = plots.layer_alpha_heatmap(Sweep(SMALL), tested=tested, level=0.2)
    assert fig.layout.shapes[0].path == "M1.5,-0.5L1.5,0.5M2.5,-0.5L2.5,0.5M1.5,-0.5L2.5,-0.5M1.5,0.5L2.5,0.5"
    assert "significant after correction at 0.2" in fig.data[0].hovertext[0][2]
    assert "significant" not in fig.data[0].hovertext[1][0]


def test_the_hover_of_a_cell_has_its_interval_from_low_to_high():
    hover = plots.layer_alpha_heatmap(Sweep(SMALL)).data[0].hovertext
    assert "95% interval 40.0% to 60.0%" in hover[0][0]
    assert "change −10.0 points" in hover[0][0]
    assert "layer 9, alpha 1" in hover[1][2]


def test_the_bar_beside_controls_is_their_median_with_the_central_95_percent():
    fig = plots.alpha_progression(Sweep(SMALL), control=Control())
    bar = next(trace for trace in fig.data if trace.error_y.array is not None)
    assert (list(bar.x), list(bar.y)) == ([-3.0], pytest.approx([60]))
    # of 59, 60, 60 and 62: 59.075 and 61.85 by linear interpolation
    assert list(bar.error_y.array) == pytest.approx([1.85])
    assert list(bar.error_y.arrayminus) == pytest.approx([0.925])


def test_the_progression_names_the_alphas_of_its_lowest_and_highest_accuracy():
    fig = plots.alpha_progression(Sweep(SMALL), layer=6)
    assert title(fig).startswith("Accuracy lies between 50.0% (alpha −1) and 64.0% (alpha 1), layer 6")
    assert list(fig.data[1].x) == [-1, 0, 1]


def test_a_history_in_any_order_is_drawn_by_epoch_each_column_in_its_panel():
    fig = plots.training_curve(history().iloc[[2, 0, 1]])
    assert panels(fig) == [[2.0, 1.0, 0.5], [0.1, 0.2, 0.3], pytest.approx([60, 70, 65])]
    assert [axis.title.text for axis in fig.select_yaxes()] == ["training loss (nats)", "norm of the vector", "validation<br>accuracy (%)"]
    assert "falls from 2 to 0.5" in title(fig)


def test_the_transitions_title_has_the_largest_net_change_and_the_most_answers_that_moved():
    fig = plots.transition_matrix(Sweep({(6, -1.0): (2, 12), (6, 0.0): (0, 0), (6, 1.0): (9, 8)}))
    assert "Largest net change −10 of 100 problems, at layer 6, alpha −1." in title(fig)
    assert title(fig).startswith("At most 17 of 100 answers change")


def test_bars_stand_at_their_own_alpha_where_a_layer_lacks_some():
    fig = plots.transition_matrix(Sweep({(0, -1.0): (1, 0), (0, 0.0): (0, 0), (0, 1.0): (1, 0), (1, 0.0): (0, 0), (1, 1.0): (3, 4)}))
    assert [list(trace.x) for trace in fig.data] == [[0, 1, 2], [0, 1, 2], [1, 2], [1, 2]]
    assert panels(fig)[2:] == [[0, 3], [0, -4]]


def test_distance_in_the_null_distribution_counts_from_the_median_of_controls_and_direction_together():
    fig = plots.null_distribution(Control(changes_of_controls=(0.0, 0.1, 0.2), observed=-0.2))
    assert fig.layout.shapes[0].x0 == pytest.approx(5)  # of -20, 0, 10 and 20
    fig = plots.null_distribution(Control(changes_of_controls=(-0.3, -0.35, 0.0, 0.01, 0.0, 0.0, 0.25), observed=-0.2))
    assert "2 below and 1 above the median (dotted) of all 8, 0.0" in title(fig)
    assert "Controls: −35.0 to +25.0." in title(fig)


def test_the_bars_of_the_null_distribution_stand_over_the_changes_that_they_count():
    bars = plots.null_distribution(Control()).data[0]
    assert list(bars.x) == pytest.approx([-0.7, -0.1, 0.5, 1.1, 1.7])  # five bins between -1 and 2
    assert list(bars.y) == [1, 2, 0, 0, 1]


def test_a_forest_has_its_effects_from_top_to_bottom_with_their_own_intervals():
    fig = plots.forest(several_effects())
    points = fig.data[0]
    assert (list(points.x), list(points.y)) == (pytest.approx([5, -1, -3, 2]), [4, 3, 2, 1])
    assert list(points.error_x.array) == pytest.approx([4, 4, 2, 0])
    assert list(points.error_x.arrayminus) == pytest.approx([3, 3, 4, 0])
    assert list(points.marker.symbol) == ["diamond", "circle", "diamond", "circle-open"]
    assert dict(zip(fig.layout.yaxis.tickvals, fig.layout.yaxis.ticktext, strict=True)) == {4: "a", 3: "b", 2: "c", 1: "d"}
    assert title(fig).startswith("2 of 4 intervals exclude zero")


def test_effects_against_kl_are_lines_in_the_order_of_kl_with_the_tested_level_filled():
    fig = plots.effect_against_kl(*doses())
    random, a, b = fig.data
    assert (list(random.x), list(random.y)) == ([0.05], [3])
    assert (list(a.x), list(a.y)) == ([0.01, 0.1], pytest.approx([-1, 2]))
    assert (list(b.x), list(b.y)) == ([0.2, 0.3], pytest.approx([5, 90]))
    assert (list(a.marker.size), list(b.marker.size)) == ([8, 13], [13, 8])
    assert list(a.marker.symbol) == ["circle-open", "circle"]
    assert title(fig).startswith("At the tested level, accuracy changes by +2.0 to +5.0 points")


def test_headroom_has_what_was_seen_as_marks_and_what_was_expected_as_lines():
    fig = plots.headroom(headroom())
    assert all(list(trace.x) == [-1, 2] for trace in fig.data)
    assert panels(fig) == [[2.5, 6.5], [1, 7], [9.5, 4.5], [8, 3]]
    assert [trace.name for trace in fig.data] == ["fixed, expected", "fixed, observed", "broken, expected", "broken, observed"]
    assert "1 of 20 wrong answers fixed<br>2.5 expected" in fig.data[1].hovertext[0]
    assert "net change to within 4.0 points, and counts to within 2 answers" in title(fig)


def test_a_transfer_stands_in_the_row_of_its_source_and_the_column_of_its_target():
    fig = plots.transfer_matrix(transfers())
    assert np.array_equal(fig.data[0].z, [[10, -20], [5, 0]])
    assert [list(row) for row in fig.data[0].text] == [["+10.0", "−20.0*"], ["+5.0", "0.0"]]
    assert "a to b, n = 40" in fig.data[0].hovertext[0][1]
    assert (fig.layout.yaxis.title.text, fig.layout.xaxis.title.text) == ("found on", "tested on")
    assert fig.layout.yaxis.autorange == "reversed"
    assert title(fig).startswith("1 of 2 transfers change accuracy after correction")


def test_tasks_whose_names_begin_alike_keep_a_row_and_a_column_each():
    fig = plots.transfer_matrix(transfers(("arithmetic, story, one step", "arithmetic, story, two steps")))
    assert (fig.data[0].x, fig.data[0].y) == (None, None)
    for axis in (fig.layout.xaxis, fig.layout.yaxis):
        assert (list(axis.tickvals), list(axis.ticktext)) == ([0, 1], ["arithmetic, story…"] * 2)


def test_norms_and_projections_stand_at_their_positions_each_in_its_panel():
    tokens = ["<bos>", " two", " two"]
    rows = pd.DataFrame({"layer": 3, "position": [2, 0, 1], "n": 1, "norm": [3.0, 5.0, 1.0], "projection": [2.0, -1.0, 0.5]})
    frame = pd.DataFrame({"problem_id": "p", "position": [0, 1, 2], "token": tokens})
    fig = plots.token_magnitudes(SimpleNamespace(frame=frame, by_position=lambda: rows))
    assert panels(fig) == [[5, 1, 3], [-1, 0.5, 2]]
    assert [list(trace.x) for trace in fig.data] == [[0, 1, 2]] * 2
    assert (list(fig.layout.xaxis2.tickvals), list(fig.layout.xaxis2.ticktext)) == ([0, 1, 2], ["&lt;bos&gt;", "·two", "·two"])
    assert "largest at layer 3, position 0" in title(fig)


def test_vectors_of_other_sizes_have_means_with_their_own_intervals():
    fig = plots.data_size_curve(sizes())
    each, means, each_change, means_change = fig.data
    assert (list(each.x), list(each.y)) == ([8, 4, 4], [0.8, 0.4, 0.6])
    assert list(each_change.y) == pytest.approx([10, 0, 4])
    assert (list(means.x), list(means.y)) == ([4, 8], [0.5, 0.8])
    assert (list(means.error_y.array), list(means.error_y.arrayminus)) == (pytest.approx([0.1, 0.05]), pytest.approx([0.3, 0.1]))
    assert list(means_change.y) == pytest.approx([2, 10])
    assert (list(means_change.error_y.array), list(means_change.error_y.arrayminus)) == (pytest.approx([1, 10]), pytest.approx([3, 5]))
    assert title(fig).startswith("Cosine 0.80 between vectors of 8 problems each")


def test_reported_gains_go_to_the_right_and_fresh_ones_upwards():
    fig = plots.reported_against_fresh(protocols())
    diagonal, rapid, plain = fig.data
    assert list(diagonal.x) == list(diagonal.y) == pytest.approx([-11, 31])
    assert (list(rapid.x), list(rapid.y)) == (pytest.approx([30, 20]), pytest.approx([10, -10]))
    assert (list(plain.x), list(plain.y)) == (pytest.approx([5]), pytest.approx([6]))
    assert title(fig).startswith("Rapid: +25.0 points reported, 0.0 on fresh problems")


def test_kinds_of_vectors_have_their_means_with_their_own_intervals_beside_each_seed():
    fig = plots.context_kinds(kinds_of_vectors())
    assert "Mean changes in points: static +10.0, modulated +2.0." in title(fig)
    each, means = fig.data
    assert (list(each.x), list(each.y)) == (["modulated<br>4,096", "static<br>64"], pytest.approx([3, 11]))
    assert (list(means.x), list(means.y)) == (["static<br>64", "modulated<br>4,096"], pytest.approx([10, 2]))
    assert (list(means.error_y.array), list(means.error_y.arrayminus)) == (pytest.approx([2, 8]), pytest.approx([6, 7]))


def test_the_divergence_of_parts_is_their_kl_and_the_title_has_the_median_text():
    fig = plots.critical_tokens(divergences())
    assert panels(fig) == [[0.2, 0.5], [0.1, 0.3]]
    assert [trace.name for trace in fig.data] == ["right answer, problem solved", "wrong answer, problem not solved"]
    assert [trace.marker.pattern.shape for trace in fig.data] == ["", "/"]
    assert title(fig).startswith("90% of the KL is on 20% of a text's tokens")


def test_a_specification_curve_is_sorted_and_has_the_permuted_curves_rank_by_rank_and_a_dot_for_each_choice():
    """By hand: sorted changes -10, -4, 2; permuted curves 1, 2, 3 and -30, -20, -10, whose median at the first rank is -14.5."""
    fig = plots.specification_curve(multiverse())
    low, _, middle, curve, dots = fig.data
    assert list(curve.y) == pytest.approx([-10, -4, 2])
    assert list(curve.marker.symbol) == ["diamond", "circle", "circle"]
    assert list(middle.y) == pytest.approx([-14.5, -9, -3.5])
    assert low.y[0] == pytest.approx(-30 + 0.025 * 31)
    assert list(fig.layout.yaxis2.ticktext) == [
        "estimator: lda",
        "estimator: mean difference",
        "layer rule: middle",
        "layer rule: separable",
    ]
    assert sorted(zip(dots.x, dots.y, strict=True)) == [(1, 0), (1, 2), (2, 0), (2, 3), (3, 1), (3, 2)]
    assert title(fig).startswith("Median of 3 specifications: −4.0 points, p = 0.67")
    assert "change in margin" in plots.specification_curve(multiverse("margin")).layout.yaxis.title.text
