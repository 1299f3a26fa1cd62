"""Pictures of figures, drawn by a headless browser that loads nothing from the network."""

import asyncio
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import plotly.graph_objects as go

from steerlab._checks import InputError
from steerlab._progress import progress_bar
from steerlab.plots import theme

FORMATS = ("png", "svg")


def draw_images(
    figures: Sequence[go.Figure],
    formats: Sequence[str] = FORMATS,
    *,
    width: int = 860,
    scale: float = 2.0,
    dark: bool = False,
    progress: bool = False,
) -> list[dict[str, bytes]]:
    """Figures as pictures: for each one, its bytes by format. The same figure gives the same bytes on the same machine.

    Needs Kaleido (the extra `images`) and Chromium or Chrome.

    Args:
        figures: Plotly figures; those of `steerlab.plots` have their titles wrapped to the width.
        formats: "png", "svg" or both.
        width: pixels of the page.
        scale: pixels of a PNG for each pixel of the page.
        dark: draw figures of `steerlab.plots` for a dark page.
        progress: show a progress bar.

    Raises:
        ModuleNotFoundError: Kaleido is not installed.
        RuntimeError: no browser was found.
        ValueError: another format.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown:
        raise InputError(f"formats={list(formats)!r}: {unknown[0]!r} is not one of {', '.join(FORMATS)}")
    if not figures or not formats:
        return [{} for _ in figures]
    fitted = [theme.fitted(figure, width, dark=dark) for figure in figures]
    for figure in fitted:
        for place, trace in enumerate(figure.data):
            trace.uid = f"t{place}"  # a random one gets into an SVG's ids
    with (
        progress_bar(total=len(fitted) * len(formats), desc="pictures", unit="picture", show=progress) as bar,
        ThreadPoolExecutor(1) as pool,  # a notebook has an event loop of its own
    ):
        return pool.submit(asyncio.run, _draw(fitted, formats, width, scale, bar)).result()


async def _draw(figures: Sequence[go.Figure], formats: Sequence[str], width: int, scale: float, bar: Any) -> list[dict[str, bytes]]:
    try:
        import kaleido
        from kaleido.errors import ChromeNotFoundError
    except ModuleNotFoundError as error:
        raise InputError("pictures need kaleido; install it with: pip install 'steerlab[images]'") from error
    # Without MathJax, which Kaleido would fetch; Plotly comes from its Python package.
    page = kaleido.PageGenerator(mathjax=False)
    drawn: list[dict[str, bytes]] = []
    try:
        async with kaleido.Kaleido(page_generator=page, n=1) as browser:
            for figure in figures:
                pictures = {}
                for name in formats:
                    options = {
                        "format": name,
                        "width": width,
                        "height": figure.layout.height or 450,
                        "scale": scale if name == "png" else 1,
                    }
                    picture = await browser.calc_fig(figure.to_dict(), opts=options)
                    pictures[name] = _steady(picture) if name == "svg" else picture
                    bar.update()
                drawn.append(pictures)
    except ChromeNotFoundError as error:
        raise InputError("pictures need Chromium or Chrome; install one, or set BROWSER_PATH to where it is") from error
    return drawn


def _steady(svg: bytes) -> bytes:
    """Plotly gives the ids in an SVG a random part; a fixed one makes the same figure the same bytes."""
    found = re.search(rb'id="defs-([0-9a-f]+)"', svg)
    return svg.replace(found[1], b"0" * len(found[1])) if found else svg
