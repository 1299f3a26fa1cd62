"""The report page as text: its order, its safety, its size, and that it never changes by itself."""

import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs

from steerlab.plots import theme
from steerlab.plots.sweeps import cell_key
from steerlab.reports.blocks import DETAILS_BYTES, Drawing, Examples, Report, Table, details_payload
from steerlab.reports.html import MOST_BYTES, render_report
from steerlab.sweeps.changes import CHANGE_COLUMNS

EVIL = '</script><script>window.pwned = 1</script><img src=x onerror="pwned=1">\' \u202e\u200f]]> <!-- &lt;'
VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """Tags with their attributes, the text outside scripts, and whether every tag was closed in order."""

    def __init__(self, html: str):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self) -> str:
        return "".join(self.texts)


def figure(text: str = "Accuracy") -> go.Figure:
    return theme.style(go.Figure(go.Bar(x=[1, 2], y=np.array([0.5, 0.25]))), text)


def report(**parts: Any) -> str:
    return render_report(Report(**{"title": "Report", "question": "Does it?", "answer": "It does.", **parts}))


def moved(text: str = "words", cells: int = 1, problems: int = 2) -> pd.DataFrame:
    """What `steerlab.changed_problems` returns: in each cell every other problem became right, the rest wrong."""
    rows = [
        (cell, -1.0, text, f"{text} {k}", text, text, text, text, ("right", "wrong")[k % 2], 1.0)
        for cell in range(cells)
        for k in range(problems)
    ]
    return pd.DataFrame(rows, columns=CHANGE_COLUMNS)


def full(text: str = "words") -> str:
    return report(
        title=text,
        question=text,
        answer=text,
        warnings=[text],
        figures=[Drawing(text, figure(theme.label(text)), text, moved(text))],
        tables=[(text, pd.DataFrame({text: [text, "b"], "x": [1.5, float("nan")]}, index=[text, "row"]))],
        sections=[(text, [text, Table(text, pd.DataFrame({"n": [1]})), Examples(text, moved(text))])],
        method=[text],
        provenance={text: text},
        methods_paragraph=text,
        references=[text],
    )


def test_the_parts_come_in_order_under_one_h1():
    page = Page(full())
    heads = ["h1", *["h2"] * 4, "h3", *["h2"] * 2, "h3", "h3", *["h2"] * 3]
    assert [tag for tag, _ in page.tags if re.fullmatch(r"h\d", tag)] == heads
    order = [a["id"] for a in page.all("h2")]
    assert order == ["question", "answer", "warnings", "figures", "tables", "section-1", "method", "provenance", "paper"]
    assert [a["href"] for a in page.all("a")] == ["#main", *(f"#{name}" for name in order)]
    assert len(page.all("main")) == 1
    assert page.open == []


def test_no_warnings_is_said():
    assert "No warnings." in Page(report()).text
    assert "No warnings." not in Page(report(warnings=["Small n."])).text


def test_the_same_input_gives_the_same_bytes():
    assert full() == full()


def test_plotly_is_there_once_with_figures_and_not_at_all_without():
    two = report(figures=[("a", figure(), "a"), ("b", figure(), "b")])
    assert two.count(get_plotlyjs()) == 1
    assert get_plotlyjs() not in report()


def test_a_page_with_figures_and_tables_stays_under_six_megabytes():
    many = [("caption", figure(), "words")] * 8
    tables = [("rows", pd.DataFrame({"id": ["x" * 100_000] * 500, "n": range(500)}))] * 2
    assert len(report(figures=many, tables=tables).encode()) < MOST_BYTES == 6_000_000


def test_a_page_that_would_be_too_large_names_the_part_to_shorten():
    large = go.Figure(go.Scatter(y=[str(i) * 3 for i in range(120_000)]))
    with pytest.raises(ValueError, match=r"shorten figures\[1\]"):
        report(figures=[("a", figure(), "a"), ("b", large, "b")])


def test_untrusted_text_is_shown_and_never_becomes_markup():
    page, plain = Page(full(EVIL)), Page(full())
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in plain.tags]
    assert EVIL in page.text
    assert page.open == []


HOSTILE = [
    EVIL,
    '" onmouseover="pwned=1" x="',
    "' onfocus='pwned=1' autofocus x='",
    "x onload=pwned=1 >",
    "&quot; onclick=&quot;pwned=1",
    "--><svg onload=pwned=1><!--",
    "</title></textarea></style><script>pwned=1</script>",
    "<a href='javascript:pwned=1'>x</a>",
]
TEXTUAL = ("title", "aria-label")  # attributes that hold outside text


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("length", [1, 6_000])  # as it is, and so long that it is cut everywhere
def test_untrusted_text_adds_no_tag_and_no_attribute_wherever_it_stands(text: str, length: int):
    """Oracle: Python's parser on the page of harmless text of the same length; only tooltips and labels may differ, and they hold the text."""
    text = (text + " ") * max(1, length // len(text))
    page, harmless = Page(full(text)), Page(full("w" * len(text)))
    shape, plain = (
        [(tag, [(key, None if key in TEXTUAL else value) for key, value in found.items()]) for tag, found in one.tags]
        for one in (page, harmless)
    )
    assert shape == plain
    shown = re.sub(r"[\x00-\x08\x0b-\x1f]", "\ufffd", text)
    held = [found[key] for _, found in page.tags for key in TEXTUAL if key in found and found[key] != "Contents"]
    assert all(shown.startswith(value.removesuffix("…").removeprefix("\u2068")[:50]) for value in held)
    assert len(held) >= (1 if length == 1 else 20)
    assert page.open == []


def test_untrusted_text_cannot_leave_a_figures_data():
    fig = go.Figure(go.Scatter(y=[1], text=[EVIL], customdata=[[EVIL]]), layout={"title": {"text": EVIL}})
    html = report(figures=[("caption", fig, "words")])
    data = html.split('id="figure-1-data">')[1].split("</script>")[0]
    assert not set("<>&") & set(data)
    assert Page(html).open == []


def test_a_figure_cannot_bring_a_link():
    fig = go.Figure(layout={"title": {"text": '<b>x</b><A\nhref="https://example.org">y</a >'}})
    data = report(figures=[("caption", fig, "words")]).split('id="figure-1-data">')[1].split("</script>")[0]
    assert not re.search(r"(?i)\\u003c\s*/?\s*a\b", data)
    assert "\\u003cb\\u003e" in data


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b", "a\x1bb"])
def test_characters_that_html_cannot_hold_are_replaced(text: str):
    html = report(title=text, answer=text, figures=[(text, figure(text), text)], provenance={text: text})
    assert Page(html).text.count("a\ufffdb") == 8
    assert html.encode()


def test_every_outside_text_is_isolated_from_the_direction_of_the_page():
    html = full("שלום (1)")
    outside = html.count("שלום (1)") - html.split("<title>")[1].split("</title>")[0].count("שלום (1)") - html.count('aria-label="שלום (1)"')
    prompts = html.count('dir="auto">שלום (1)')
    in_bdi = html.count("<bdi>שלום (1)</bdi>") + html.count("<bdi>שלום (1) ") + html.count("<bdi>\u2068שלום (1)\u2069</bdi>")
    assert prompts == 2
    assert in_bdi + prompts == outside >= 30


def test_a_long_cell_is_cut_with_an_ellipsis_and_keeps_its_start_as_a_tooltip():
    html = report(tables=[("rows", pd.DataFrame({"id": ["x" * 100_000]}))])
    cut = next(a for a in Page(html).all("bdi") if "title" in a)
    assert cut["title"] == "x" * 999 + "…"
    assert "x" * 299 + "…</bdi>" in html
    assert "x" * 300 not in html.replace("x" * 999, "")


def test_an_answer_in_a_cell_is_shown_whole():
    answer = "best of 72 cells: (1, 'mean difference', 3.0), change -0.5267, statistic -11.28, p < 0.0001 (two-sided), 28 survive"
    html = report(tables=[("questions", pd.DataFrame({"question": ["Is it luck?"], "answer": [answer]}))])
    assert "28 survive</bdi>" in html


def test_a_long_table_shows_its_first_rows_and_says_so():
    page = Page(report(tables=[("rows", pd.DataFrame({"n": range(1234)}))]))
    assert len(page.all("tr")) == 201
    assert "(the first 200 of 1,234 rows)" in page.text


def test_the_policy_forbids_the_network_and_names_scripts_by_hash():
    page = Page(full())
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline" not in policy.split("script-src")[1].split(";")[0]
    assert "unsafe-eval" not in policy
    assert "http" not in policy
    assert "*" not in policy
    assert "script-src" not in report()


def test_nothing_on_the_page_points_elsewhere():
    page = Page(full())
    targets = [a.get(name) for _, a in page.tags for name in ("src", "href", "action", "srcset", "poster", "data")]
    assert {target for target in targets if target and not target.startswith("#")} == {"data:,"}
    assert "@import" not in full().split("<style>")[1].split("</style>")[0]


def test_figures_have_their_text_alternative_and_tables_their_heads():
    page = Page(full())
    plot = next(a for a in page.all("div") if a.get("role") == "img")
    assert plot["aria-label"] == "words"
    assert len(page.all("caption")) == 3
    assert all(a.get("scope") in ("col", "row") for a in page.all("th"))
    scrolled = [a for a in page.all("div") if a.get("class") == "scroll"]
    assert all(a["tabindex"] == "0" and a["role"] == "region" for a in scrolled)


def test_a_figure_of_ours_takes_the_pages_theme_and_another_keeps_its_own():
    html = report(figures=[("ours", figure(), "a"), ("theirs", go.Figure(go.Bar(y=[1])), "b")])
    kinds = [a.get("data-theme") for a in Page(html).all("div") if a.get("role") == "img"]
    assert kinds == ["own", "foreign"]


def test_cells_read_well():
    frame = pd.DataFrame({"a": [-0.123456, float("nan")], "b": [True, False], "c": [None, "x"], "d": [1e-7, -1e-7]})
    html = report(tables=[("rows", frame)])
    cells = re.findall(r"<td class=\"(\w+)\"><bdi>(.*?)</bdi>", html)
    assert cells[:4] == [("number", "−0.1235"), ("text", "yes"), ("text", "–"), ("number", "1e-07")]
    assert cells[4:] == [("number", "–"), ("text", "no"), ("text", "x"), ("number", "−1e-07")]


def test_an_index_with_levels_heads_its_rows():
    frame = pd.DataFrame({"n": [1, 2]}, index=pd.MultiIndex.from_tuples([(0, "a"), (1, "b")], names=["layer", None]))
    html = report(tables=[("rows", frame)])
    assert html.count('<th scope="row">') == 4


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ({"title": ""}, ValueError, "title: empty"),
        ({"answer": None}, TypeError, "answer: got NoneType"),
        ({"warnings": "one string"}, TypeError, "warnings: got str; expected a list of str"),
        ({"method": [3]}, TypeError, r"method\[0\]: got int"),
        ({"figures": [("caption", "no figure", "words")]}, TypeError, r"figures\[0\]: got str"),
        ({"figures": [("caption", go.Figure())]}, TypeError, r"figures\[0\]: expected \(caption, Figure"),
        ({"figures": [("caption", go.Figure(), " ")]}, ValueError, r"figures\[0\] text: empty"),
        ({"tables": [("caption", [1, 2])]}, TypeError, r"tables\[0\]: got list"),
        ({"provenance": ["model"]}, TypeError, "provenance: got list"),
        (
            {"figures": [Drawing("caption", go.Figure(), "words", pd.DataFrame({"layer": [1]}))]},
            ValueError,
            r"figures\[0\] details: no column alpha",
        ),
        ({"figures": [Drawing("caption", go.Figure(), "words", "changes")]}, TypeError, r"figures\[0\] details: got str"),
        ({"sections": "Moved"}, TypeError, "sections: got str; expected a list of"),
        ({"sections": [("Moved", "text")]}, TypeError, r"sections\[0\]: expected \(heading, list of parts\)"),
        ({"sections": [(" ", ["text"])]}, ValueError, r"sections\[0\] heading: empty"),
        ({"sections": [("Moved", ["text", 3])]}, TypeError, r"sections\[0\]\[1\]: got int; expected a paragraph"),
        ({"sections": [("Moved", [Examples("caption", [1])])]}, TypeError, r"sections\[0\]\[0\] frame: got list"),
        ({"references": ["A paper"]}, ValueError, "methods_paragraph: empty"),
    ],
)
def test_a_wrong_part_is_named(parts: dict[str, Any], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        report(**parts)


def test_sections_stand_between_the_tables_and_the_method_and_numbers_go_on():
    html = report(
        tables=[("one", pd.DataFrame({"n": [1]}))],
        sections=[("Side effects", ["In words.", ("two", pd.DataFrame({"n": [2]})), ("a picture", figure(), "words")]), ("Nothing", [])],
        method=["How."],
    )
    page = Page(html)
    assert [a["id"] for a in page.all("h2")] == ["question", "answer", "warnings", "tables", "section-1", "method"]
    assert html.index("Table 2. <bdi>two") > html.index("Side effects</bdi></h2>") > html.index("Table 1. <bdi>one")
    assert "Figure 1. a picture" in page.text
    assert "Nothing" not in page.text


def test_examples_show_what_was_asked_and_both_answers_and_say_what_was_left_out():
    frame = moved("Q", problems=24).assign(before="B", after=["C", ""] * 12, target="D")
    text = " ".join(Page(report(sections=[("Moved", [Examples("Those.", frame, most=3)])])).text.split())
    assert "Became right: 12, the first 3 shown" in text
    assert text.count("Unsteered B ✗ wrong, steered C ✓ right; right is D.") == 3
    assert text.count("Unsteered B ✓ right, steered (no answer, or a tie) ✗ wrong; right is D.") == 3
    assert "None." in Page(report(sections=[("Moved", [Examples("Those.", frame[frame["became"] == "right"])])])).text


def test_a_very_long_prompt_keeps_its_start_and_its_end():
    frame = moved("Q").assign(prompt="START " + "x" * 100_000 + " THE QUESTION?")
    for html in (report(sections=[("Moved", [Examples("Those.", frame)])]), report(figures=[Drawing("a", figure(), "a", frame)])):
        assert "START xxx" in html
        assert "xxx THE QUESTION?" in html
        assert "characters" in html
        assert "x" * 1_200 not in html


def test_the_title_of_a_figure_is_a_heading_of_the_page_and_another_figure_keeps_its_own():
    page = Page(
        report(figures=[("ours", figure("Accuracy &lt;b&gt; falls"), "a"), ("theirs", go.Figure(layout={"title": {"text": "Own"}}), "b")])
    )
    assert len(page.all("h3")) == 1
    assert "Accuracy <b> falls" in page.text
    html = report(figures=[("theirs", go.Figure(layout={"title": {"text": "Own"}}), "b")])
    assert '"title":{"text":"Own"}' in html


def test_a_page_without_figures_runs_its_own_script_only_to_copy():
    html = report(methods_paragraph="We measured.", references=["A (2020)."])
    assert get_plotlyjs() not in html
    assert html.count("<script>") == 1
    assert "<script" not in report()


def test_details_hold_each_problem_once_and_each_cell_with_its_counts():
    payload = details_payload(moved("Q", cells=2, problems=50))
    assert len(payload["problems"]) == 40  # 20 that became right, and 20 that became wrong
    assert [(cell["key"], cell["name"], cell["right"], cell["wrong"]) for cell in payload["cells"]] == [
        (cell_key(0, -1.0, "Q"), "layer 0, alpha −1", 25, 25),
        (cell_key(1, -1.0, "Q"), "layer 1, alpha −1", 25, 25),
    ]
    assert [len(cell["shown"]) for cell in payload["cells"]] == [40, 40]


def test_details_of_a_large_sweep_are_cut_until_they_fit():
    large = moved("Q", cells=150, problems=60)
    large["problem_id"] = [f"p{k}" for k in range(len(large))]
    large["prompt"] = "é" * 2_000
    payload = details_payload(large)
    html = report(figures=[Drawing("caption", figure(), "words", large)])
    held = html.split('id="figure-1-details">')[1].split("</script>")[0]
    assert len(held) < DETAILS_BYTES * 1.1
    assert all(cell["right"] == 30 and len(cell["shown"]) >= 2 for cell in payload["cells"])


def test_a_figure_without_changes_has_no_list():
    assert "figure-1-cell" in report(figures=[Drawing("caption", figure(), "words", moved())])
    assert "figure-1-cell" not in report(figures=[Drawing("caption", figure(), "words", moved().head(0))])
