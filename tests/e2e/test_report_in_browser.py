"""The report in a real browser: it draws, fits, follows the reader's theme, prints, and runs nothing but itself."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from steerlab.plots import theme
from steerlab.report import render_report

EVIL = "</script><script>window.pwned=1</script><img src=x onerror=\"window.pwned=1\"><svg onload='window.pwned=1'> \u202e"
FLAGS = "--headless=new --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync --no-first-run"


def _need(found: object, what: str) -> None:
    if found:
        return
    if os.environ.get("CI"):
        pytest.fail(f"{what} is missing, and CI must run the browser tests")
    pytest.skip(f"{what} is missing; install it to run the browser tests")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    _need(chromium, "chromium")
    _need(driver, "chromedriver")
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ModuleNotFoundError:
        _need(None, "the Python package selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    heat = go.Figure(go.Heatmap(z=[[-2.0, 0.0, 2.0]], text=[["a", "b", "c"]], coloraxis="coloraxis"))
    heat.update_layout(coloraxis={"autocolorscale": True, "cmin": -2, "cmax": 2})
    bars = go.Figure(go.Bar(x=["a", EVIL], y=np.array([1.0, 2.0]), name=EVIL, hovertext=[EVIL, EVIL]))
    wide = pd.DataFrame({f"a_long_column_{i}": [EVIL, "x" * 100_000] for i in range(12)})
    html = render_report(
        title=f"Report {EVIL}",
        question=f"Does it? {EVIL}",
        answer="It does. " + "long" * 500,
        warnings=[EVIL],
        figures=[
            ("a heatmap", theme.style(heat, "Heatmap", ("a note",)), "words for the heatmap"),
            (EVIL, theme.style(bars, theme.label(EVIL)), EVIL),
            ("not ours", go.Figure(go.Scatter(y=[1, 3, 2]), layout={"title": {"text": EVIL}}), "words"),
        ],
        tables=[(EVIL, wide)],
        method=[EVIL],
        provenance={EVIL: EVIL},
    )
    path: Path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(html, encoding="utf-8")
    return path.as_uri()


def visit(browser: Any, address: str, width: int = 1280, scheme: str = "light") -> None:
    """Open the page and wait until its three figures are drawn."""
    from selenium.webdriver.support.ui import WebDriverWait

    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    _prefer(browser, scheme)
    browser.get_log("browser")
    browser.get(address)
    drawn = "return document.querySelectorAll('.plot[data-drawn] svg.main-svg').length >= 3"
    WebDriverWait(browser, 60).until(lambda b: b.execute_script(drawn))


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
    WebDriverWait(browser, 20).until(lambda b: b.execute_script(PAPER) != light)
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
