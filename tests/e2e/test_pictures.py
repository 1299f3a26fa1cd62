"""Pictures of figures, drawn by a real browser."""

import re
import sys
from pathlib import Path

import kaleido
import plotly.graph_objects as go
import pytest
from kaleido.errors import ChromeNotFoundError

import steerlab as sl
from steerlab.plots import theme
from steerlab.reports.export import draw_images


@pytest.mark.usefixtures("chromium")
def test_an_export_draws_every_figure_twice_the_same_and_its_pictures_point_nowhere(tmp_path: Path):
    bars = go.Figure([go.Bar(x=[1, 2], y=[0.5, 0.25], marker_pattern_shape="/", name="a"), go.Scatter(x=[1, 2], y=[1, 2])])
    figures = [("ours", theme.style(bars, "Bars"), "words"), ("theirs", go.Figure(go.Scatter(y=[1, 3, 2])), "words")]
    for name in ("one", "two"):
        sl.export_report(
            tmp_path / name, formats=("md", "png", "svg"), width=500, scale=2, title="t", question="q", answer="a", figures=figures
        )
    written = sorted(path.name for path in (tmp_path / "one/figures").iterdir())
    assert written == ["figure-1.png", "figure-1.svg", "figure-2.png", "figure-2.svg"]
    for name in written:
        picture = (tmp_path / "one/figures" / name).read_bytes()
        assert picture == (tmp_path / "two/figures" / name).read_bytes()
        if name.endswith("png"):
            assert picture.startswith(b"\x89PNG")
            assert int.from_bytes(picture[16:20], "big") == 1000
        else:
            links = set(re.findall(rb"https?://[^\"' )]*", picture))
            assert links == {b"http://www.w3.org/2000/svg", b"http://www.w3.org/1999/xlink"}
    assert "![words](<figures/figure-2.png>)" in (tmp_path / "one/report.md").read_text()


def test_without_a_browser_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    def missing(**options: object) -> None:
        raise ChromeNotFoundError

    monkeypatch.setattr(kaleido, "Kaleido", missing)
    with pytest.raises(sl.InputError, match="need Chromium or Chrome; install one, or set BROWSER_PATH"):
        draw_images([go.Figure()])


def test_without_kaleido_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "kaleido", None)
    with pytest.raises(sl.InputError, match=r"pip install 'steerlab\[images\]'"):
        draw_images([go.Figure()])


def test_no_figures_need_no_browser():
    assert draw_images([]) == []
