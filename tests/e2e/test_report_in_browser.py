"""The report in a real browser: it draws, fits, follows the reader's theme, prints, and runs nothing but itself."""

import json
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from steerlab.plots import theme
from steerlab.plots.sweeps import cell_key
from steerlab.reports.blocks import Drawing, Examples, Report
from steerlab.reports.html import render_report
from steerlab.sweeps.changes import CHANGE_COLUMNS

pytestmark = pytest.mark.slow  # a browser draws a large page for each of them
LONG = "start " + "very " * 20_000 + "THE END?"
EVIL = "</script><script>window.pwned=1</script><img src=x onerror=\"window.pwned=1\"><svg onload='window.pwned=1'> \u202e"


def changed() -> pd.DataFrame:
    """Problems that changed at alpha −1 and at alpha 1, with the worst texts there are."""
    rows = [
        (3, alpha, EVIL, f"{EVIL} {k}", prompt, EVIL, EVIL, EVIL, became, 1.0)
        for alpha, became in ((-1.0, "wrong"), (1.0, "right"))
        for k, prompt in enumerate((EVIL, LONG, "\u202eright to left\u202c שלום"))
    ]
    return pd.DataFrame(rows, columns=CHANGE_COLUMNS)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    keys = [[cell_key(3, alpha, EVIL) for alpha in (-1.0, 0.0, 1.0)]]
    texts = {"text": [["−2", "0", "+2"]], "texttemplate": "%{text}", "hovertext": [[EVIL] * 3], "hoverinfo": "text"}
    heat = go.Figure(go.Heatmap(z=[[-2.0, 0.0, 2.0]], customdata=keys, coloraxis="coloraxis", **texts))
    heat.update_layout(coloraxis={"autocolorscale": True, "cmin": -2, "cmax": 2})
    bars = go.Figure(go.Bar(x=["a", EVIL], y=np.array([1.0, 2.0]), name=EVIL, hovertext=[EVIL, EVIL]))
    wide = pd.DataFrame({f"a_long_column_{i}": [EVIL, "x" * 100_000] for i in range(12)})
    report = Report(
        title=f"Report {EVIL}",
        question=f"Does it? {EVIL}",
        answer="It does. " + "long" * 500,
        warnings=[EVIL],
        figures=[
            Drawing("a heatmap", theme.style(heat, "Heatmap", ("a note",)), "words for the heatmap", changed()),
            (EVIL, theme.style(bars, theme.label(EVIL)), EVIL),
            ("not ours", go.Figure(go.Scatter(y=[1, 3, 2]), layout={"title": {"text": EVIL}}), "words"),
        ],
        tables=[(EVIL, wide)],
        sections=[(f"What was moved {EVIL}", [EVIL, Examples(EVIL, changed())])],
        method=[EVIL],
        provenance={EVIL: EVIL},
        methods_paragraph=f"We measured. {EVIL}",
        references=[EVIL],
    )
    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(render_report(report), encoding="utf-8")
    return path.as_uri()


FITTED = "return document.querySelector('details.rest').dataset.drawn"


def visit(browser: Any, address: str, width: int = 1280, scheme: str = "light") -> None:
    """Open the page and wait until its three figures are drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    _prefer(browser, scheme)
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(address)
    drawn = "return document.documentElement.dataset.ready && document.querySelectorAll('.plot[data-drawn] svg.main-svg').length >= 3"
    WebDriverWait(browser, 300).until(lambda b: b.execute_script(drawn))
    browser.execute_script("document.querySelector('details.rest').open = true")
    WebDriverWait(browser, 300).until(lambda b: b.execute_script(FITTED))


def _prefer(browser: Any, scheme: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


PAPER = "return getComputedStyle(document.querySelector('#figure-1 svg.main-svg')).backgroundColor"


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_figures_are_drawn_and_nothing_is_wider_than_the_page(browser: Any, address: str, width: int, scheme: str):
    visit(browser, address, width, scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    wide = "return [...document.querySelectorAll('.plot svg.main-svg')].every(s => s.clientWidth <= innerWidth)"
    assert browser.execute_script(wide)
    assert browser.get_log("browser") == []


def test_only_question_answer_and_warnings_are_shown_until_the_details_are_asked_for(browser: Any, address: str):
    from selenium.webdriver.support.ui import WebDriverWait

    shown = "return [...document.querySelectorAll('h2')].filter(h => h.checkVisibility()).map(h => h.textContent)"
    browser.get("about:blank")
    browser.get(address)
    WebDriverWait(browser, 300).until(lambda b: b.execute_script("return document.documentElement.dataset.ready"))
    assert browser.execute_script(shown) == ["Question", "Answer", "Warnings"]
    browser.execute_script("document.querySelector('nav a[href=\"#figures\"]').click()")
    WebDriverWait(browser, 300).until(lambda b: len(b.execute_script(shown)) > 3)
    WebDriverWait(browser, 300).until(lambda b: b.execute_script(FITTED))


def test_untrusted_text_runs_nothing_and_nothing_is_loaded(browser: Any, address: str):
    visit(browser, address)
    assert browser.execute_script("return window.pwned === undefined")
    assert browser.execute_script("return performance.getEntriesByType('resource').length") == 0
    assert browser.execute_script("return document.querySelectorAll('.plot a[href], .plot image[href^=http]').length") == 0


def test_a_script_that_the_policy_does_not_name_is_refused(browser: Any, address: str):
    visit(browser, address)
    browser.execute_script("const s = document.createElement('script'); s.textContent = 'window.injected = 1'; document.body.append(s);")
    assert browser.execute_script("return window.injected === undefined")
    assert any("Content Security Policy" in entry["message"] for entry in browser.get_log("browser"))


def test_no_button_sends_the_data_away(browser: Any, address: str):
    visit(browser, address)
    titles = "return [...document.querySelectorAll('.modebar-btn')].map(b => b.dataset.title || '')"
    assert not [title for title in browser.execute_script(titles) if "share" in title.lower() or "cloud" in title.lower()]


def test_figures_follow_the_readers_theme_while_the_page_is_open(browser: Any, address: str):
    from selenium.webdriver.support.ui import WebDriverWait

    visit(browser, address, scheme="light")
    light = browser.execute_script(PAPER)
    _prefer(browser, "dark")
    WebDriverWait(browser, 300).until(lambda b: b.execute_script(PAPER) != light)
    assert (light, browser.execute_script(PAPER)) == ("rgb(255, 255, 255)", "rgb(22, 27, 34)")


def test_a_dark_page_prints_light(browser: Any, address: str):
    visit(browser, address, scheme="dark")
    browser.execute_script(f"addEventListener('beforeprint', () => {{ window.printed = (() => {{ {PAPER} }})(); }});")
    browser.execute_cdp_cmd("Page.printToPDF", {})
    assert browser.execute_script("return window.printed") == "rgb(255, 255, 255)"


def test_wide_tables_scroll_by_keyboard_inside_the_page(browser: Any, address: str):
    visit(browser, address, 390)
    scrolls = "const s = document.querySelector('.tables .scroll'); s.focus();"
    assert browser.execute_script(scrolls + " return document.activeElement === s && s.scrollWidth > s.clientWidth")


def test_a_figure_that_cannot_be_drawn_leaves_its_words(browser: Any, address: str, tmp_path: Path):
    broken = Path(address.removeprefix("file://")).read_text(encoding="utf-8")
    start = broken.index('id="figure-1-data">') + len('id="figure-1-data">')
    path = tmp_path / "broken.html"
    path.write_text(broken[:start] + "no JSON" + broken[start:], encoding="utf-8")
    browser.get(path.as_uri())
    assert browser.execute_script("return document.getElementById('figure-1').textContent") == "words for the heatmap"
    assert browser.execute_script("return document.querySelectorAll('#figure-3 svg.main-svg').length") > 0


STATUS = "return document.querySelector('.details .said').textContent"
LISTED = "return document.querySelector('.details .listed').innerText"


def _click_cell(browser: Any, share: float) -> None:
    """Click in the heatmap at a share of its width."""
    from selenium.webdriver.common.action_chains import ActionChains

    area = browser.find_element("css selector", "#figure-1 .nsewdrag")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", area)
    ActionChains(browser).move_to_element_with_offset(area, round((share - 0.5) * area.size["width"]), 0).click().perform()


def _says(browser: Any, text: str) -> None:
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 300).until(lambda b: text in b.execute_script(STATUS))


@pytest.mark.parametrize("width", [1280, 390])
def test_a_click_on_a_cell_lists_the_problems_that_changed_there(browser: Any, address: str, width: int):
    visit(browser, address, width)
    _click_cell(browser, 5 / 6)
    _says(browser, "layer 3, alpha +1: 3 became right, 0 became wrong.")
    listed = browser.execute_script(LISTED)
    assert "Became right: 3" in listed
    assert listed.count("✗ wrong, steered") == listed.count("✓ right; right is") == 3
    assert "THE END?" in listed
    assert "</script><script>window.pwned=1</script>" in listed
    assert browser.execute_script("return document.querySelector('.details select').selectedOptions[0].textContent").startswith(
        "layer 3, alpha +1"
    )
    _click_cell(browser, 1 / 2)
    _says(browser, "Nothing changed there.")
    assert browser.execute_script(LISTED) == ""
    _click_cell(browser, 1 / 6)
    _says(browser, "layer 3, alpha −1: 0 became right, 3 became wrong.")
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.execute_script("return window.pwned === undefined")
    assert browser.get_log("browser") == []


def test_the_chosen_cell_is_framed_and_stays_so_when_the_theme_changes(browser: Any, address: str):
    visit(browser, address)
    frames = "return document.querySelectorAll('#figure-1 .shapelayer path').length"
    assert browser.execute_script(frames) == 0
    _click_cell(browser, 5 / 6)
    _says(browser, "alpha +1")
    assert browser.execute_script(frames) == 1
    _prefer(browser, "dark")
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 300).until(lambda b: b.execute_script(PAPER) == "rgb(22, 27, 34)")
    assert browser.execute_script(frames) == 1


def test_everything_works_by_keyboard(browser: Any, address: str):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    visit(browser, address)
    press = lambda *keys: ActionChains(browser).send_keys(*keys).perform()  # noqa: E731
    focused = "const a = document.activeElement; return [a.tagName, a.className, a.id, a.getAttribute('href')]"
    press(Keys.TAB)
    assert browser.execute_script(focused)[:2] == ["A", "skip"]
    assert browser.execute_script("return document.activeElement.getBoundingClientRect().left >= 0")
    press(Keys.ENTER)
    assert browser.execute_script(focused)[2] == "main"
    reached = []
    for _ in range(12):
        press(Keys.TAB)
        reached.append(tuple(browser.execute_script(focused)))
    order = [(tag, name) for tag, name, *_ in reached if tag != "BODY"]
    assert order[:5] == [("SUMMARY", ""), ("SELECT", ""), ("DIV", "scroll"), ("DIV", "scroll"), ("BUTTON", "copy")]
    browser.execute_script("document.querySelector('.details select').focus()")
    press(Keys.ARROW_DOWN)
    _says(browser, "layer 3, alpha −1: 0 became right, 3 became wrong.")
    press(Keys.ARROW_DOWN)
    _says(browser, "layer 3, alpha +1: 3 became right, 0 became wrong.")
    assert "THE END?" in browser.execute_script(LISTED)


def test_every_link_of_the_contents_leads_to_its_section(browser: Any, address: str):
    visit(browser, address)
    broken = "return [...document.querySelectorAll('a[href^=\"#\"]')].filter(a => !document.getElementById(a.hash.slice(1))).length"
    assert browser.execute_script(broken) == 0
    assert browser.execute_script("return document.querySelectorAll('nav a').length") == 9


def test_the_paragraph_for_a_paper_is_copied_with_its_references(browser: Any, address: str):
    visit(browser, address)
    browser.execute_cdp_cmd("Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]})
    browser.find_element("css selector", "button.copy").click()
    from selenium.webdriver.support.ui import WebDriverWait

    WebDriverWait(browser, 300).until(lambda b: b.execute_script("return document.querySelector('.done').textContent"))
    assert browser.execute_script("return document.querySelector('.done').textContent") == "Copied."
    copied = browser.execute_async_script("const done = arguments[0]; navigator.clipboard.readText().then(done, e => done(String(e)))")
    assert copied.startswith("We measured. ")
    assert copied.count("</script><script>window.pwned=1</script>") == 2


def test_numbers_in_cells_are_left_out_where_none_could_be_read(browser: Any, address: str, tmp_path: Path):
    many = [[f"−{k}" for k in range(10, 90)]]
    heat = go.Figure(go.Heatmap(z=[list(range(80))], text=many, texttemplate="%{text}", coloraxis="coloraxis"))
    html = render_report(Report(title="t", question="q", answer="a", figures=[("c", theme.style(heat, "Wide"), "w")] * 3))
    (tmp_path / "wide.html").write_text(html, encoding="utf-8")
    shown = "return document.querySelectorAll('#figure-1 .heatmap-label').length"
    visit(browser, (tmp_path / "wide.html").as_uri(), 390)
    assert browser.execute_script(shown) == 0
    visit(browser, address, 390)
    assert browser.execute_script(shown) == 3


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_no_rule_of_accessibility_is_broken(browser: Any, address: str, width: int, scheme: str, need: Callable[[object, str], None]):
    """Oracle: axe-core, the rules of WCAG 2.0 and 2.1 at levels A and AA."""
    try:
        axe = resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    except ModuleNotFoundError:
        need(None, "the Python package axe-core-python")
    visit(browser, address, width, scheme)
    _click_cell(browser, 5 / 6)
    _says(browser, "alpha +1")
    browser.execute_cdp_cmd("Runtime.evaluate", {"expression": axe})
    found = browser.execute_async_script(
        "const done = arguments[0]; axe.run(document, {runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa']}).then(r => done(JSON.stringify("
        "{passes: r.passes.length, violations: r.violations.map(v => [v.id, v.nodes.map(n => n.html.slice(0, 200))])})))"
    )
    result = json.loads(found)
    assert result["violations"] == []
    assert result["passes"] > 10


def test_no_request_leaves_the_page(browser: Any, address: str):
    visit(browser, address)
    _click_cell(browser, 5 / 6)
    _says(browser, "alpha +1")
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requested = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert address in requested
    assert {url.split(":")[0] for url in requested} <= {"file", "data", "blob"}
    assert [url for url in requested if url.startswith("file")] == [address]
