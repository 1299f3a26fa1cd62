"""A report as Markdown, as CSV and as a folder of all its forms."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

import steerlab as sl
from steerlab.plots import theme
from steerlab.reports.export import draw_images, to_csv
from steerlab.reports.markdown import render_markdown
from steerlab.sweeps.changes import CHANGE_COLUMNS

EVIL = "</p><script>window.pwned = 1</script>\n# Not a heading\n[link](https://example.org) ![x](y) | `code` ``` $x$ \u202e <!-- -->"


def figure(text: str = "Accuracy") -> go.Figure:
    return theme.style(go.Figure(go.Bar(x=[1, 2], y=np.array([0.5, 0.25]))), theme.label(text), ("A note.",))


def moved(text: str) -> pd.DataFrame:
    rows = [(1, -1.0, "d", text, text, "A", "B", "A", "right", 1.0), (1, -1.0, "d", text, text, "A", "A", "", "wrong", -1.0)]
    return pd.DataFrame(rows, columns=CHANGE_COLUMNS)


def parts(text: str = "words") -> dict:
    return {
        "title": text,
        "question": text,
        "answer": text,
        "warnings": [text],
        "figures": [sl.Drawing(text, figure(text), text, moved(text))],
        "tables": [(text, pd.DataFrame({text: [text, "b"], "x": [-1.5, float("nan")]}))],
        "sections": [
            (text, [text, ("a second", figure(text), text), sl.Examples(text, moved(text)), sl.Table(text, pd.DataFrame({"n": [1]}))])
        ],
        "method": [text],
        "provenance": {text: text},
        "methods_paragraph": text,
        "references": [text],
    }


def test_markdown_has_the_order_of_the_page():
    written = render_markdown(sl.Report(**parts()))
    heads = re.findall(r"^## (.*)$", written, re.M)
    assert heads == ["Question", "Answer", "Warnings", "Figures", "Tables", "words", "Method", "Provenance", "For a paper"]
    assert re.findall(r"\*\*(Figure \d|Table \d)\.\*\*", written) == ["Figure 1", "Table 1", "Figure 2", "Table 2"]
    assert "| words | x |\n| --- | ---: |\n| words | −1.5 |\n| b | – |" in written
    assert "Unsteered B (wrong), steered A (right); right is A." in written
    assert "Unsteered A (right), steered (no answer, or a tie) (wrong); right is A." in written


def test_outside_text_is_text_in_markdown():
    written = render_markdown(sl.Report(**parts(EVIL)))
    outside = re.sub(r"^(`{3,})text\n.*?\n\1$", "", written, flags=re.M | re.S)
    assert "<" not in outside.replace("&lt;", "")
    assert re.findall(r"^#+ Not a heading", outside, re.M) == []
    assert not re.search(r"(?<!\\)\[link(?<!\\)\]\(", outside)
    assert "\u202e" not in written
    assert len(re.findall(r"^## ", outside, re.M)) == 9
    rows = [line for line in outside.split("\n") if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {2, 3}


def test_a_prompt_cannot_close_its_block():
    written = render_markdown(sl.Report(**parts("a\n````\nb")))
    assert "`````text\na\n````\nb\n`````" in written


def test_pictures_take_the_place_of_words():
    written = render_markdown(sl.Report(**parts()), pictures=["figures/one.png", "figures/two.png"])
    assert "![words](<figures/two.png>)" in written
    with pytest.raises(ValueError, match="pictures: 1 for 2 figures"):
        render_markdown(sl.Report(**parts()), pictures=["figures/one.png"])


@pytest.mark.parametrize(("name", "start"), [("report.md", "# words\n"), ("report.html", "<!DOCTYPE html>")])
def test_the_ending_of_a_path_chooses_the_form(tmp_path: Path, name: str, start: str):
    assert sl.write_report(tmp_path / name, **parts()).read_text(encoding="utf-8").startswith(start)


def test_a_csv_file_gives_every_row_back_in_full_precision():
    frame = pd.DataFrame({"layer": range(1000), "p": np.random.default_rng(0).random(1000), "prompt": ['a,"b"\nc'] * 1000})
    pd.testing.assert_frame_equal(pd.read_csv(io.StringIO(to_csv(frame))), frame)


def test_a_csv_file_keeps_an_index_that_names_rows():
    frame = pd.DataFrame({("a", "b"): [1]}, index=pd.Index(["row"], name="name"))
    assert to_csv(frame) == "name,a / b\nrow,1\n"


@pytest.mark.parametrize("text", ["=HYPERLINK(1)", "@x", "+x", "-x", "\tx"])
def test_no_cell_of_a_csv_file_is_a_formula(text: str):
    assert to_csv(pd.DataFrame({text: [text]})).replace('"', "") == f"'{text}\n'{text}\n"


def test_an_export_holds_every_form_and_a_second_one_takes_its_place(tmp_path: Path):
    folder = tmp_path / "export"
    for _ in range(2):
        sl.export_report(folder, formats=("html", "md", "csv"), **parts(EVIL))
    written = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert written == ["export.json", "report.html", "report.md", "tables/table-1.csv", "tables/table-2.csv", "tables/table-3.csv"]
    assert sorted(json.loads((folder / "export.json").read_text())["files"]) == written[1:]
    examples = pd.read_csv(folder / "tables/table-3.csv")
    assert list(examples.columns) == CHANGE_COLUMNS
    assert examples["prompt"].tolist() == [EVIL, EVIL]


def test_an_export_leaves_files_that_are_not_its_own_where_they_are(tmp_path: Path):
    folder = sl.export_report(tmp_path / "export", formats=("html", "md", "csv"), **parts(EVIL))
    for name in ("notes.txt", "tables/notes.txt"):
        (folder / name).write_text("mine")
    sl.export_report(folder, formats=("md",), **parts(EVIL))
    left = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert left == ["export.json", "notes.txt", "report.md", "tables/notes.txt"]


def test_an_export_never_takes_the_place_of_something_else(tmp_path: Path):
    (tmp_path / "provenance.json").write_text("{}")
    with pytest.raises(FileExistsError, match="is not an earlier export"):
        sl.export_report(tmp_path, formats=("md",), **parts())
    assert (tmp_path / "provenance.json").read_text() == "{}"


def test_another_format_is_refused():
    with pytest.raises(ValueError, match="use some of html, md, csv, png, svg"):
        sl.export_report("nowhere", formats=("pdf",), **parts())
    with pytest.raises(ValueError, match="'pdf' is not one of png, svg"):
        draw_images([figure()], ["pdf"])


def test_the_page_that_draws_pictures_names_no_address_of_the_network():
    import kaleido

    assert "http" not in kaleido.PageGenerator(mathjax=False).generate_index()
