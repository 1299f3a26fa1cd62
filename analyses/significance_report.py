"""Write the significance report of one or several finished runs of random_control.py again, from their run folders.

$ python analyses/significance_report.py runs/random_control-tiny-arithmetic-arithmetic
$ python analyses/significance_report.py RUN_A RUN_B --out comparison.html
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

import steerlab as sl
from steerlab.cli.run import run


@dataclass(frozen=True)
class Config:
    """Which runs, and where to."""

    runs: Positional[tuple[Path, ...]]  # run folders
    out: Path = Path("significance_report.html")  # the page, or, with other forms, a folder
    forms: Literal["page", "all"] = "page"  # one HTML page; or all: a folder with the page, Markdown, CSV tables and PNG and SVG figures


def main(config: Config) -> Path:
    """Read the runs, print the answer, write the report."""
    from steerlab.reports import export
    from steerlab.reports.blocks import Report
    from steerlab.reports.report import run_parts

    parts = run_parts(*config.runs)
    print(f"{parts['question']}\n\n{parts['answer']}\n")
    if config.forms == "all":
        folder = sl.export_report(config.out.with_suffix(""), progress=True, **parts)
        print(f"report      {folder / 'report.html'}")
        return folder
    export.write_page(config.out, Report(**parts))
    print(f"report      {config.out}")
    return config.out


if __name__ == "__main__":
    run(main, Config)
