"""Do the claims of the published reports follow from the numbers printed in them?

Recomputes every summary, difference, count, mean, p-value and effect size from the printed tables, with allowance for
rounding, and prints claim, recomputed value, verdict (follows, does not follow, cannot be checked) and reason.

    python analyses/published_audit.py
    python analyses/published_audit.py --out data/published
"""

from dataclasses import dataclass
from pathlib import Path

import steerlab as sl
from steerlab._files import writable_folder, write_text
from steerlab.cli.run import run

COMMAND = "python analyses/published_audit.py --out data/published"
HEAD = f"Written by `{COMMAND}`; do not edit. README.md beside it says how numbers are read and claims are judged."


@dataclass(frozen=True)
class Config:
    """Which numbers and claims, and where to."""

    folder: Path | None = None  # claims.csv and one CSV of printed numbers per document; data/published of this repository by default
    out: Path | None = None  # folder for audit.md and audit.csv


def main(config: Config) -> "sl.Audit":
    """Judge the claims, print them, and write them when asked."""
    if config.out is not None:
        writable_folder(config.out)
    result = sl.published_audit(config.folder)
    print(result.text(), end="")
    if config.out is not None:
        write_text(config.out / "audit.md", result.markdown(HEAD))
        write_text(config.out / "audit.csv", result.frame.to_csv(index=False, lineterminator="\n", float_format="%.6g"))
        print(f"\naudit       {config.out / 'audit.md'}")
    return result


if __name__ == "__main__":
    run(main, Config)
