"""What was measured, as Markdown to read and JSON to compute with."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.compare import Comparison
from benchmarks.flops import ROWS
from benchmarks.measure import Measured, Timing
from benchmarks.memory import AT_MOST, LENGTH, Peak
from benchmarks.plan import Target
from steerlab import _files

HEAD = ["work", "ours (median; min to max)", "rival (median; min to max)", "times as fast (worst to best)", "at least", "reached"]


def write(folder: Path, stem: str, note: str, machine: Mapping[str, Any], rows: Sequence[Measured], peaks: Sequence[Peak]) -> None:
    """Write both files, each whole or not at all.

    Args:
        folder: where they go.
        stem: their name.
        note: what a reader must know first.
        machine: what `benchmarks.machine.describe` says.
        rows: measurements.
        peaks: peak memory.
    """
    _files.write_json(
        folder / f"{stem}.json",
        {"note": note, "machine": dict(machine), "rows": [_as_json(row) for row in rows], "memory": [asdict(p) for p in peaks]},
    )
    _files.write_text(folder / f"{stem}.md", markdown(note, machine, rows, peaks))


def markdown(note: str, machine: Mapping[str, Any], rows: Sequence[Measured], peaks: Sequence[Peak]) -> str:
    """The whole page."""
    parts = ["# Benchmark results", note, "Written by `make bench`; do not edit."]
    parts.append("\n".join(f"- {key.replace('_', ' ')}: {value}" for key, value in machine.items()))
    for shape in dict.fromkeys(row.row.shape for row in rows):
        mine = [row for row in rows if row.row.shape is shape]
        speed = [s for row in mine for s in row.speed]
        measured = f" Matrix products of this width: {_rate(statistics.median(speed))} (median of {len(speed)})." if speed else ""
        parts += [f"## {shape.about}", f"Steering acts on the output of a block.{measured}" if speed else ""]
        parts.append(_table(HEAD, (line for row in mine for line in _ratios(row))))
        parts += ["### Share of the limit", _shares(mine), "### How rivals were timed", _rivals(mine), "### Same answers", _same(mine)]
    if peaks:
        parts += ["## Peak memory of a cache streamed to disk", _memory(peaks)]
    parts.append(_notes())
    return "\n\n".join(part for part in parts if part) + "\n"


def best_rival(row: Measured, target: Target, backend: str | None) -> Timing | None:
    """The fastest of the target's rivals, by median, or None where none was measured."""
    able = [r for r in row.rivals if r.key in target.against and r.seconds and r.backend in (None, backend)]
    return min(able, key=lambda timing: timing.median, default=None)


def _ratios(row: Measured) -> Iterator[list[str]]:
    if row.row.not_applicable:
        for target in row.row.targets:
            yield [row.row.title, "–", "–", row.row.not_applicable, f"{target.at_least:g}", "–"]
        return
    for target in row.row.targets:
        for ours in row.ours:
            rival = best_rival(row, target, ours.backend)
            if rival is None:
                yield [row.row.title, _seconds(ours), "not measured", "–", f"{target.at_least:g}", "–"]
                continue
            ratio, low, high = ratios(ours, rival)
            enough = "yes" if ratio >= target.at_least else "**no**"
            of_several = ", the fastest" if len(target.against) > 1 and rival.backend is None else ""
            yield [
                f"{row.row.title}; {ours.label}",
                _seconds(ours),
                f"{rival.label}{of_several}: {_seconds(rival)}",
                f"**{ratio:.2f}** ({low:.2f} to {high:.2f})",
                f"{target.at_least:g}" if target.at_least else "–",
                enough if target.at_least else "–",
            ]


def ratios(ours: Timing, rival: Timing) -> tuple[float, float, float]:
    """Ratio of medians, and the least and most favourable ratio of single repetitions."""
    return rival.median / ours.median, min(rival.seconds) / max(ours.seconds), max(rival.seconds) / min(ours.seconds)


def _shares(rows: Sequence[Measured]) -> str:
    lines = []
    for row in rows:
        for ours in row.ours:
            share = row.share(ours)
            if share is not None and row.counted is not None and row.needed is not None:
                target = row.row.share
                reached = "–" if target is None else "yes" if share >= target else "**no**"
                speed = _rate(statistics.median(row.speed))
                done = row.counted[ours.key]
                wanted = "–" if target is None else f"{target:g}"
                lines.append(
                    [f"{row.row.title}; {ours.label}", f"{row.needed:.3g}", f"{done:.3g}", speed, f"**{share:.2f}**", wanted, reached]
                )
    return _table(["work", "FLOPs by hand", "FLOPs counted in ours", "matrix products", "share of the limit", "at least", "reached"], lines)


def _rivals(rows: Sequence[Measured]) -> str:
    lines = []
    for row in rows:
        for rival in row.rivals:
            if rival.missing:
                lines.append([row.row.title, rival.label, rival.missing, "–", "–"])
            elif rival.per_cell:
                cells = sorted(rival.per_cell)
                spread = f"{statistics.median(cells):.3g} s ({cells[0]:.3g} to {cells[-1]:.3g})"
                size = "one problem" if rival.key == "a" else str(rival.batch_size)
                lines.append([row.row.title, rival.label, f"{len(cells)} of {rival.cells}", spread, size])
    return _table(["work", "rival", "cells timed", "a cell: median (min to max)", "batch"], lines)


def _same(rows: Sequence[Measured]) -> str:
    lines = [
        [row.row.title, one.first, one.second, f"{one.n:,}", _different(one, row.row.same), f"{one.gap:.2g}"]
        for row in rows
        for one in row.comparisons
    ]
    head = ["work", "ours", "compared with", "answers compared", "different", "largest difference of a number"]
    moved = [f"{row.row.title}: {row.varied:.0%}" for row in rows if row.varied is not None]
    note = f"Problems that are not answered alike in all cells: {'; '.join(moved)}." if moved else ""
    return "\n\n".join(part for part in (_table(head, lines), note) if part)


def _different(one: Comparison, same: float) -> str:
    if not one.n:
        return "**nothing to compare**"
    enough = one.different <= (1 - same) * one.n
    shown = f"{one.different}" + ("" if same == 1 else f" ({1 - one.different / one.n:.1%} the same, at least {same:.0%})")
    return shown if enough else f"**{shown}**"


def _memory(peaks: Sequence[Peak]) -> str:
    lines = []
    for backend in dict.fromkeys(peak.backend for peak in peaks):
        few, many = (peak for peak in peaks if peak.backend == backend)
        ratio = many.mib / few.mib
        reached = "yes" if ratio <= AT_MOST else "**no**"
        sizes = [f"{p.mib:,.0f} MiB with {p.prompts:,} prompts ({p.whole_mib:,.0f} with loading)" for p in (few, many)]
        lines.append([f"ours ({backend})", *sizes, f"**{ratio:.3f}**", f"{AT_MOST:g}", reached])
    said = f"GPT-2 small, all layers at the last position, prompts of {LENGTH} tokens; largest resident memory while caching (pages of the files that are written count), in a process of its own, on the CPU."
    return said + "\n\n" + _table(["side", "few", "many", "many / few", "at most", "reached"], lines)


def _notes() -> str:
    return f"""## How it was measured

- All sides get the same tokens, weights, vectors and number of threads, and are timed in turn, in another order each time; medians over repetitions.
- Ours always does the whole work: baseline, every cell, scores and checks. A rival does the same work in every cell, so its time for some cells, times
  all cells over timed cells, is its time for all; `--full` times all of them. Rivals (b) to (d) get the fastest of several batch sizes.
- Where alpha = 0 is among the alphas, a rival runs it like any other cell, as the sources do; ours takes it from the baseline.
- FLOPs by hand: nothing done twice, two for a multiplication and an addition. FLOPs counted: what torch's FlopCounterMode saw of ours; large work is
  counted on about six of its problems, and scaled by the count by hand. The limit is the time that the lesser of both takes at the speed of plain matrix products
  (those of one block, on {ROWS:,} rows, without anything in between), which is measured before every timing."""


def _as_json(row: Measured) -> dict[str, Any]:
    ratio = []
    for target in row.row.targets:
        for ours in row.ours:
            rival = best_rival(row, target, ours.backend)
            if rival is not None:
                middle, low, high = ratios(ours, rival)
                found = {"ratio": middle, "worst": low, "best": high, "rival": rival.key, "backend": ours.key}
                ratio.append({**found, "against": list(target.against), "at_least": target.at_least})
    return {
        "key": row.row.key,
        "shape": row.row.shape.about,
        "work": row.row.title,
        "not_applicable": row.row.not_applicable,
        "ratios": ratio,
        "ours": [asdict(timing) for timing in row.ours],
        "rivals": [asdict(timing) for timing in row.rivals],
        "comparisons": [asdict(one) for one in row.comparisons],
        "same_at_least": row.row.same,
        "problems_answered_differently_in_some_cells": row.varied,
        "matrix_product_flops_per_second": list(row.speed),
        "flops_by_hand": row.needed,
        "flops_counted": row.counted,
        "share_of_limit": {timing.key: row.share(timing) for timing in row.ours},
        "share_at_least": row.row.share,
    }


def _table(head: Sequence[str], lines: Iterator[list[str]] | Sequence[list[str]]) -> str:
    rows = [list(head), ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows) if len(rows) > 2 else ""


def _seconds(timing: Timing) -> str:
    memory = "" if timing.peak_gib is None else f", {timing.peak_gib:.1f} GiB"
    return f"{_short(timing.median)} s ({_short(min(timing.seconds))} to {_short(max(timing.seconds))}{memory})"


def _short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _rate(flops_per_second: float) -> str:
    return f"{flops_per_second / 1e9:,.0f} GFLOP/s"
