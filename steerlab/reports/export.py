"""A report in all its forms: an HTML page, Markdown, a CSV file for each table, and pictures of each figure."""

import asyncio
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from steerlab import _files, _html
from steerlab._checks import ExistingFileError, InputError
from steerlab._progress import progress_bar
from steerlab.plots import theme
from steerlab.reports.blocks import Drawing, Examples, Report, Table
from steerlab.reports.html import render_report
from steerlab.reports.markdown import render_markdown

FORMATS = ("html", "md", "csv", "png", "svg")
MANIFEST = "export.json"
EXPORT_FORMAT = "steerlab-export-1"


def export_report(
    path: str | Path, *, formats: Sequence[str] = FORMATS, width: int = 860, scale: float = 2.0, progress: bool = False, **parts: Any
) -> Path:
    """Write a report as report.html, report.md, tables/table-1.csv …, figures/figure-1.png and .svg …, and export.json.

    A CSV file holds every row of its table in full precision; those of examples come last. The files take the place of those of an earlier export; what else is in the folder stays.

    Args:
        path: the folder; new, empty, or an earlier export.
        formats: which of html, md, csv, png and svg; pictures need Kaleido and Chromium, see `steerlab.reports.export.draw_images`.
        width, scale, progress: of the pictures.
        parts: see `steerlab.Report`.

    Raises:
        FileExistsError: the folder holds something else, such as a run.
        ValueError: another format, or a part is wrong.

    Example:
        >>> import tempfile
        >>> table = Table("Accuracy.", pd.DataFrame({"alpha": [0, 1], "accuracy": [0.5, 0.6]}))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = export_report(f"{folder}/all", formats=["md", "csv"], title="T", question="Why?", answer="p = 0.2", tables=[table])
        ...     sorted(file.name for file in path.rglob("*.*"))
        ['export.json', 'report.md', 'table-1.csv']
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise InputError(f"formats={list(formats)!r}; use some of {', '.join(FORMATS)}")
    report = Report(**parts)
    page, drawings = render_report(report), report.all(Drawing)
    listed: list[Table | Examples] = [*report.all(Table), *report.all(Examples)]
    with _files.locked(path), _files.new_folder(path, own=_earlier(Path(path)), last=MANIFEST) as folder:
        if "html" in formats:
            _files.write_text(folder / "report.html", page)
        if "csv" in formats:
            for place, table in enumerate(listed, start=1):
                _files.write_text(folder / "tables" / f"table-{place}.csv", to_csv(table.frame))
        wanted = [name for name in PICTURE_FORMATS if name in formats]
        drawn = draw_images([drawing.figure for drawing in drawings], wanted, width=width, scale=scale, progress=progress)
        for place, pictures in enumerate(drawn, start=1):
            for name, picture in pictures.items():
                _files.write_bytes(folder / "figures" / f"figure-{place}.{name}", picture)
        if "md" in formats:
            named = [f"figures/figure-{place}.{wanted[0]}" for place in range(1, len(drawings) + 1)] if wanted else []
            _files.write_text(folder / "report.md", render_markdown(report, pictures=named))
        _files.write_sealed(folder / MANIFEST, EXPORT_FORMAT, {"files": _files.digests(folder)})
    return Path(path)


def write_page(path: str | Path, report: Report) -> Path:
    """Write a report as one self-contained HTML page, or as Markdown where `path` ends in .md."""
    return _files.write_text(path, render_markdown(report) if Path(path).suffix == ".md" else render_report(report))


def _earlier(folder: Path) -> list[str] | None:
    """The files of an earlier export; None where nothing is there."""
    if _files.is_vacant(folder):
        return None
    if not (folder / MANIFEST).is_file():
        raise ExistingFileError(f"{folder} exists and is not an earlier export; choose another or remove it")
    remedy = "which files there are an export's cannot be known: choose another folder, or remove it"
    return [*_files.own_files(folder / MANIFEST, _files.read_sealed(folder / MANIFEST, EXPORT_FORMAT, remedy).get("files")), MANIFEST]


def to_csv(frame: pd.DataFrame) -> str:
    """A frame as CSV in full precision.

    A spreadsheet would run a text that starts like a formula, so such a text (unless it is a number) gets an apostrophe in front.

    Example:
        >>> import pandas as pd
        >>> print(to_csv(pd.DataFrame({"prompt": ["=1+1", "-3", "a, b"], "n": [1, -2, 3]})), end="")
        prompt,n
        '=1+1,1
        -3,-2
        "a, b",3
    """
    safe = frame.map(_inert) if len(frame) else frame
    names = {column: str(_html.column(column)) for column in frame.columns}
    safe = safe.set_axis([_inert(names[column]) for column in frame.columns], axis=1)
    return str(safe.to_csv(index=_html.heads_of(frame) > 0, lineterminator="\n"))


def _inert(value: Any) -> Any:
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


PICTURE_FORMATS = ("png", "svg")


def draw_images(
    figures: Sequence[go.Figure],
    formats: Sequence[str] = PICTURE_FORMATS,
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
    unknown = [name for name in formats if name not in PICTURE_FORMATS]
    if unknown:
        raise InputError(f"formats={list(formats)!r}: {unknown[0]!r} is not one of {', '.join(PICTURE_FORMATS)}")
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
