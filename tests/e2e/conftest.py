"""A headless Chromium for the tests that look at pages and pictures as a reader does."""

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

FLAGS = "--headless=new --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync --no-first-run"


@pytest.fixture(scope="session")
def need() -> Callable[[object, str], None]:
    """``need(found, what)``: skip where something is missing; in CI, fail."""

    def check(found: object, what: str) -> None:
        if found:
            return
        if os.environ.get("CI"):
            pytest.fail(f"{what} is missing, and CI must run the browser tests")
        pytest.skip(f"{what} is missing; install it to run the browser tests")

    return check


@pytest.fixture(scope="session")
def chromium(need: Callable[[object, str], None]) -> str:
    """Where Chromium is."""
    found = shutil.which("chromium")
    need(found, "chromium")
    return str(found)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, chromium: str, need: Callable[[object, str], None]) -> Iterator[Any]:
    """A driven browser whose console and network are logged."""
    driver = shutil.which("chromedriver")
    need(driver, "chromedriver")
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ModuleNotFoundError:
        need(None, "the Python package selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    opened = webdriver.Chrome(options=options, service=Service(driver))
    yield opened
    opened.quit()
