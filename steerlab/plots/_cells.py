"""The cells of a sweep (layer, direction, alpha) as every figure of a sweep reads and words them."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from steerlab._checks import InputError
from steerlab.plots import _input, theme
from steerlab.sweeps.changes import cell_key

CELL = ["layer", "direction", "alpha"]


def only(rows: pd.DataFrame, column: str, value: object) -> pd.DataFrame:
    """The rows where `column` is `value`; all rows when it is None.

    Raises:
        ValueError: No row has it; the message lists what there is.
    """
    if value is None:
        return rows
    found = rows[rows[column] == value]
    if found.empty:
        there = _input.listed(pd.unique(rows[column].sort_values()))
        raise InputError(f"{column}={repr(value)[:60]}: this sweep has {column} {there}")
    return found


def cells(sw: _input.Sweep) -> pd.DataFrame:
    """Accuracy and transitions of a sweep side by side, one row per layer, direction and alpha.

    Raises:
        TypeError: `sw` is no sweep result.
        ValueError: A column is missing, a cell occurs twice, or there is no baseline to compare with.
    """
    sweep = _input.expect(sw, _input.Sweep, "sw", "a SweepResult, as steerlab.sweep returns it")
    measured = ["n", "correct", "accuracy", "low", "high", "change"]
    rows = _input.need(sweep.accuracy(), "sw.accuracy()", [*CELL, *measured])[CELL + measured]
    counts = ["stayed_right", "became_right", "became_wrong", "stayed_wrong"]
    moved = _input.need(sweep.transitions(), "sw.transitions()", [*CELL, *counts])[CELL + counts]
    for name, frame in (("sw.accuracy()", rows), ("sw.transitions()", moved)):
        if frame.duplicated(CELL).any():
            twice = frame[frame.duplicated(CELL)].iloc[0]
            raise InputError(f"{name}: layer {twice.layer}, alpha {twice.alpha:g} occurs twice; one row per cell is needed")
    if rows["change"].isna().any():
        raise InputError("sw.accuracy(): change is missing; sweep with alpha 0 among the alphas so that there is a baseline")
    # A baseline may have no row of transitions: nothing moved.
    return rows.merge(moved, on=CELL, how="left").sort_values(["layer", "alpha"], kind="stable").reset_index(drop=True)


def panels(rows: pd.DataFrame) -> list[tuple[str | None, pd.DataFrame]]:
    """One panel when no cell of layer and alpha is held twice, else one per direction."""
    if not rows.duplicated(["layer", "alpha"]).any():
        return [(None, rows)]
    return [(str(name), part) for name, part in rows.groupby("direction", sort=False)]


def cell_hover(row: Mapping[Hashable, Any]) -> str:
    """The words that a cell of a sweep shows under the pointer."""
    moved = "no answers moved"
    if not pd.isna(row["became_right"]):
        moved = f"became right {row['became_right']:.0f} / became wrong {row['became_wrong']:.0f}"
    return (
        f"{theme.label(row['direction'])}<br>layer {row['layer']}, alpha {theme.alpha_text(row['alpha'])}"
        f"<br>accuracy {theme.percent(row['accuracy'])} ({row['correct']} of {row['n']})"
        f"<br>95% interval {theme.percent(row['low'])} to {theme.percent(row['high'])}<br>change {theme.signed(100 * row['change'])} points"
        f"<br>{moved}"
    )


def keys(rows: pd.DataFrame) -> list[str]:
    """The names by which a page finds the problems behind the points of a figure."""
    return [cell_key(row["layer"], row["alpha"], row["direction"]) for row in rows.to_dict("records")]


def baseline(rows: pd.DataFrame) -> str:
    """The unsteered accuracy of a sweep in words, with its n."""
    before = rows["accuracy"] - rows["change"]
    low, high, n = float(before.min()), float(before.max()), int(rows["n"].max())
    if high - low < 1e-9:
        return f"{theme.percent(low)} ({round(low * n)} of {n})"
    return f"{theme.percent(low)} to {theme.percent(high)} (n up to {n})"


def alpha_ticks(alphas: Sequence[float]) -> tuple[list[int], list[str]]:
    """Places and labels for alphas at 0, 1, 2, ...; only the whole ones when all would not fit a narrow page."""
    whole = [i for i, alpha in enumerate(alphas) if float(alpha).is_integer()]
    few = len(alphas) <= 8 or len(whole) < 3
    places = list(range(0, len(alphas), -(-len(alphas) // 13))) if few else whole
    return places, [theme.alpha_text(alphas[i]) for i in places]
