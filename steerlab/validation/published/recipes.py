"""Recipes: small pure functions from printed cells to the range of values that they allow."""

import math
from fractions import Fraction
from math import floor, inf

from steerlab._checks import InputError
from steerlab.validation.published.answers import Answer
from steerlab.validation.published.numbers import Range
from steerlab.validation.published.tables import Cell, Cells

MINUTES = {"second": Fraction(1, 60), "min": Fraction(1), "hour": Fraction(60)}


def one(cells: Cells, name: str) -> Cell:
    """The only cell of an argument."""
    if len(cells) != 1:
        raise InputError(f"{name}: {len(cells)} cells; name exactly one")
    return cells[0]


def whole_number(cells: Cells, name: str, *, at_least: int = 0) -> int:
    """The count in the only cell of an argument."""
    value = one(cells, name).value.range
    if value.low != value.high or value.low != int(value.low) or value.low < at_least:
        raise InputError(f"{name}={cells[0]}: not a count of at least {at_least}")
    return int(value.low)


def count_of(n: Cells) -> int:
    """How many problems percentages are shares of."""
    return whole_number(n, "n", at_least=1)


def problems(n: Cells | None) -> int | None:
    """The same, or None where it was not said."""
    return None if n is None else count_of(n)


def percent(cell: Cell, n: int | None) -> Range:
    """The percentages that a cell may stand for: shares of n problems where n is known."""
    return cell.value.range if n is None else cell.value.counts(n).scaled(Fraction(100, n))


def shown(cells: Cells, n: int | None) -> str:
    """Cells as printed, with the counts behind them where n is known."""
    if len(cells) > 6:
        return f"{len(cells)} numbers"
    return ", ".join(cell.value.text if n is None else f"{cell.value.text} ({cell.value.counts(n)} of {n})" for cell in cells)


def total(parts: list[Range]) -> Range:
    """The sum of one or more ranges."""
    return sum(parts[1:], parts[0])


def same(of: Cells) -> Answer:
    """The printed number itself."""
    cell = one(of, "of")
    return Answer((cell.value.range,), f"printed as {cell} in {cell.document}, table {cell.table!r}, {cell.row}")


def difference(after: Cells, before: Cells, n: Cells | None = None) -> Answer:
    """After minus before, in the units of the print."""
    size = problems(n)
    value = percent(one(after, "after"), size) - percent(one(before, "before"), size)
    return Answer((value,), f"{shown(after, size)} minus {shown(before, size)}")


def difference_beyond(after: Cells, before: Cells, bars: str) -> Answer:
    """By how much after minus before lies above each of several bars, separated by commas; which one is meant is not printed."""
    value = difference(after, before).ranges[0]
    beyond = tuple(value - Range.point(Fraction(bar)) for bar in bars.split(","))
    said = (
        f"{shown(after, None)} minus {shown(before, None)} is {value}; which of {bars.replace(',', ' and ')} it has to exceed is not said"
    )
    return Answer(beyond, said, determined=False)


def count_difference(after: Cells, before: Cells, n: Cells) -> Answer:
    """After minus before, as a number of problems."""
    size = count_of(n)
    value = one(after, "after").value.counts(size) - one(before, "before").value.counts(size)
    return Answer((value,), f"{shown(after, size)} minus {shown(before, size)}")


def problem_count(of: Cells, n: Cells) -> Answer:
    """A percentage as a number of problems."""
    size = count_of(n)
    return Answer((one(of, "of").value.counts(size),), f"{shown(of, size)}")


def change(after: Cells, before: Cells, n: Cells | None = None) -> Answer:
    """A change in percent, which may be meant in percentage points or relative to before: both readings."""
    size = problems(n)
    new, old = percent(one(after, "after"), size), percent(one(before, "before"), size)
    points, said = new - old, f"from {shown(before, size)} to {shown(after, size)}: {new - old} percentage points"
    if old.low <= 0:
        return Answer((points,), said)
    # 100 (new / old - 1), in which each number stands once: the bounds are then exact.
    relative = (new / old - Range.point(1)).scaled(100)
    return Answer((points, relative), f"{said}, or {relative}% of what it was")


def relative_change(after: Cells, before: Cells) -> Answer:
    """The change as a percentage of the value before."""
    new, old = one(after, "after").value.range, one(before, "before").value.range
    return Answer(((new / old - Range.point(1)).scaled(100),), f"from {shown(before, None)} to {shown(after, None)}")


def add(of: Cells) -> Answer:
    """The sum."""
    return Answer((total([cell.value.range for cell in of]),), f"sum of {shown(of, None)}")


def add_or_more(of: Cells) -> Answer:
    """The sum of parts that need not be all of them, or anything above it."""
    return Answer((Range(total([cell.value.range for cell in of]).low, inf),), f"sum of {shown(of, None)}, or more", determined=False)


def multiply(of: Cells) -> Answer:
    """The product."""
    return Answer((math.prod((cell.value.range for cell in of), start=Range.point(1)),), f"product of {shown(of, None)}")


def mean(of: Cells, n: Cells | None = None) -> Answer:
    """The mean."""
    size = problems(n)
    value = total([percent(cell, size) for cell in of]).scaled(Fraction(1, len(of)))
    return Answer((value,), f"mean of {shown(of, size)}")


def mean_difference(of: Cells, minus: Cells, n: Cells | None = None) -> Answer:
    """The mean of some cells minus the mean of others."""
    size = problems(n)
    value = mean(of, n).ranges[0] - mean(minus, n).ranges[0]
    return Answer((value,), f"mean of {shown(of, size)} minus mean of {shown(minus, size)}")


def smallest(of: Cells) -> Answer:
    """The smallest."""
    values = [cell.value.range for cell in of]
    return Answer((Range(min(v.low for v in values), min(v.high for v in values)),), f"smallest of {shown(of, None)}")


def largest(of: Cells) -> Answer:
    """The largest."""
    values = [cell.value.range for cell in of]
    return Answer((Range(max(v.low for v in values), max(v.high for v in values)),), f"largest of {shown(of, None)}")


def ratio(of: Cells, to: Cells, n: Cells | None = None, to_n: Cells | None = None) -> Answer:
    """How many times as large, of means where there are several cells."""
    size, to_size = problems(n), problems(to_n or n)
    value = mean(of, n).ranges[0] / mean(to, to_n or n).ranges[0]
    return Answer((value,), f"{shown(of, size)} over {shown(to, to_size)}")


def share(part: Cells, whole: Cells | None = None) -> Answer:
    """Part of whole in percent; a fraction such as 3/6 brings its own whole."""
    above = one(part, "part").value.range
    below = Range.point(1) if whole is None else one(whole, "whole").value.range
    said = f"{shown(part, None)}" if whole is None else f"{shown(part, None)} of {shown(whole, None)}"
    return Answer(((above / below).scaled(100),), said)


def root_sum_square(of: Cells) -> Answer:
    """The Euclidean norm of parts that are norms themselves."""
    parts = [cell.value.range for cell in of]
    low = math.sqrt(sum(float(max(part.low, 0)) ** 2 for part in parts))
    high = math.sqrt(sum(float(part.high) ** 2 for part in parts))
    return Answer((Range(low, high),), f"root of the sum of squares of {shown(of, None)}")


def minutes(of: Cells) -> Answer:
    """The sum of durations, in minutes."""
    parts = []
    for cell in of:
        unit = next((size for name, size in MINUTES.items() if cell.value.unit.startswith(name)), None)
        if unit is None:
            raise InputError(f"{cell}: not a duration; print it in seconds, minutes or hours")
        parts.append(Range(max(cell.value.range.low, 0), cell.value.range.high).scaled(unit))
    return Answer((total(parts),), f"sum of {shown(of, None)}")


def rest(whole: Cells, parts: Cells, n: Cells | None = None) -> Answer:
    """What is left of a whole (a percentage of n problems, where n is given) when parts are taken away."""
    size, all_of_it = problems(n), one(whole, "whole").value
    left = (all_of_it.range if size is None else all_of_it.counts(size)) - total([cell.value.range for cell in parts])
    return Answer((left,), f"{shown(whole, size)} less {shown(parts, None)}")


def truncated_layer(known: Cells, shares: str, at: str) -> Answer:
    """The layer ``int(n_layers * at)`` for every number of layers that puts the known layers where they are.

    Args:
        known: layers that were computed so.
        shares: their shares of the depth, separated by commas.
        at: the share of the depth that is asked for.
    """
    wanted = list(zip((Fraction(share) for share in shares.split(",")), (whole_number((cell,), "known") for cell in known), strict=True))
    fitting = [n for n in range(1, 1000) if all(floor(n * share) == layer for share, layer in wanted)]
    if not fitting:
        return Answer((), f"no number of layers puts {shares} of the depth at {shown(known, None)}")
    layers = [floor(n * Fraction(at)) for n in fitting]
    said = f"{shares} of the depth at {shown(known, None)} needs {fitting[0]} to {fitting[-1]} layers; their number is not printed"
    return Answer((Range(min(layers), max(layers)),), said, determined=fitting[0] == fitting[-1])


def not_printed() -> Answer:
    """Nothing that was printed bears on the claim."""
    return Answer((), "")


ARITHMETIC = (
    same,
    difference,
    difference_beyond,
    count_difference,
    problem_count,
    change,
    relative_change,
    add,
    add_or_more,
    multiply,
    mean,
    mean_difference,
    smallest,
    largest,
    ratio,
    share,
    root_sum_square,
    minutes,
    rest,
    truncated_layer,
    not_printed,
)
