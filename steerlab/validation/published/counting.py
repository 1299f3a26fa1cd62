"""Recipes that count and rank printed cells."""

import math
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor

from steerlab._checks import one_of
from steerlab.validation.published.answers import Answer
from steerlab.validation.published.numbers import Number, Range
from steerlab.validation.published.recipes import count_of, mean, one, percent, problems, shown
from steerlab.validation.published.tables import Cells


def how_many(of: Cells, above: str = "-inf", below: str = "inf", n: Cells | None = None) -> Answer:
    """How many numbers lie above one value and below another, both excluded; without them, how many there are."""
    surely, perhaps = _between(of, above, below, problems(n))
    bounds = " and".join(f" {word} {limit}" for word, limit in (("above", above), ("below", below)) if "inf" not in limit)
    said = f"{_from_to(surely, perhaps)} of {len(of)} printed numbers{bounds}" if bounds else f"{len(of)} numbers are printed"
    return Answer((Range(surely, perhaps),), said)


def share_of_cells(of: Cells, above: str, n: Cells | None = None) -> Answer:
    """The percentage of the numbers that lie above a value."""
    surely, perhaps = _between(of, above, "inf", problems(n))
    value = Range(Fraction(surely, len(of)), Fraction(perhaps, len(of))).scaled(100)
    return Answer((value,), f"{_from_to(surely, perhaps)} of {len(of)} printed numbers above {above}")


def how_many_equal(of: Cells, to: str, n: Cells | None = None) -> Answer:
    """How many numbers equal a value."""
    size = problems(n)
    values, wanted = [percent(cell, size) for cell in of], Fraction(to)
    surely = sum(v.low == wanted == v.high for v in values)
    perhaps = sum(v.low <= wanted <= v.high for v in values)
    return Answer((Range(surely, perhaps),), f"{_from_to(surely, perhaps)} of {len(of)} printed numbers equal {to}")


def how_many_below(of: Cells, than: Cells, n: Cells | None = None) -> Answer:
    """How many numbers lie below another one."""
    size = problems(n)
    limit, values = percent(one(than, "than"), size), [percent(cell, size) for cell in of]
    surely, perhaps = sum(v.high < limit.low for v in values), sum(v.low < limit.high for v in values)
    return Answer((Range(surely, perhaps),), f"{_from_to(surely, perhaps)} of {shown(of, None)} below {shown(than, None)}")


def rows_not_above(of: Cells, above: str = "0", n: Cells | None = None) -> Answer:
    """How many rows have at least one number that is not above a value."""
    size, limit = problems(n), Fraction(above)
    surely = len({cell.row for cell in of if percent(cell, size).high <= limit})
    perhaps = len({cell.row for cell in of if percent(cell, size).low <= limit})
    rows = len({cell.row for cell in of})
    return Answer((Range(surely, perhaps),), f"{_from_to(surely, perhaps)} of {rows} rows have a number not above {above}")


def rows_best_everywhere(of: Cells, n: Cells | None = None) -> Answer:
    """How many rows have the largest number of every column, alone or with others."""
    size = problems(n)
    surely, perhaps = {cell.row for cell in of}, {cell.row for cell in of}
    for name in {cell.column for cell in of}:
        column = {cell.row: percent(cell, size) for cell in of if cell.column == name}
        surely &= {row for row, v in column.items() if all(v.low >= other.high for key, other in column.items() if key != row)}
        perhaps &= {row for row, v in column.items() if all(v.high >= other.low for other in column.values())}
    return Answer((Range(len(surely), len(perhaps)),), f"{_from_to(len(surely), len(perhaps))} rows lead every column of {shown(of, None)}")


def count_lead(of: Cells, others: Cells, below: str, n: Cells | None = None) -> Answer:
    """How many more numbers of one column lie below a value than of that other column which has the most."""
    size = problems(n)
    own, names = _between(of, "-inf", below, size), sorted({cell.column for cell in others})
    counts = {name: _between(tuple(cell for cell in others if cell.column == name), "-inf", below, size) for name in names}
    lead = Range(own[0] - max(most for _, most in counts.values()), own[1] - max(least for least, _ in counts.values()))
    listed = ", ".join(f"{_from_to(*ends)} on {name}" for name, ends in counts.items())
    return Answer((lead,), f"below {below}: {_from_to(*own)} on {of[0].column}, {listed}")


def rank(of: Cells, among: Cells, order: str = "highest", n: Cells | None = None) -> Answer:
    """The place of one number among several: 1 is the highest (or lowest); ties count in its favour."""
    one_of(order, "order", ("highest", "lowest"))
    size, sign = problems(n), 1 if order == "highest" else -1
    own = percent(one(of, "of"), size).scaled(sign)
    others = {cell: percent(cell, size).scaled(sign) for cell in among if cell != of[0]}
    best = 1 + sum(v.low > own.high for v in others.values())
    worst = 1 + sum(v.high > own.low for v in others.values())
    ahead = [f"{cell.row} {cell}" for cell, v in others.items() if v.low > own.high]
    tied = [f"{cell.row} {cell}" for cell, v in others.items() if v == own]
    said = f"{of[0]} among {shown(among, None)}"
    if ahead:
        said += f"; ahead: {', '.join(ahead[:3])}" + (f" and {len(ahead) - 3} more" if len(ahead) > 3 else "")
    if tied:
        said += f"; as high: {', '.join(tied[:3])}" + (f" and {len(tied) - 3} more" if len(tied) > 3 else "")
    return Answer((Range(best, worst),), said)


def rank_of_column(of: Cells, others: Cells, n: Cells | None = None) -> Answer:
    """The place of one column among several, by the mean, by the largest number and by how many lie above 0: which is not printed."""
    names = sorted({cell.column for cell in others})
    columns = {of[0].column: of, **{name: tuple(cell for cell in others if cell.column == name) for name in names}}
    by = {
        "mean": [mean(column, n).ranges[0] for column in columns.values()],
        "largest": [_largest(column, problems(n)) for column in columns.values()],
        "number above 0": [Range(*_between(column, "0", "inf", problems(n))) for column in columns.values()],
    }
    return _places(by, list(columns))


def rank_of_loss(after: Cells, before: Cells, n: Cells, other_after: Cells, other_before: Cells, other_n: Cells) -> Answer:
    """The place of one loss of two, 1 the larger, in points, in percent of what there was, and in problems: which is not printed."""
    losses = []
    for late, early, size in ((after, before, count_of(n)), (other_after, other_before, count_of(other_n))):
        old, new = one(early, "before").value.counts(size), one(late, "after").value.counts(size)
        losses.append(((old - new).scaled(Fraction(100, size)), (Range.point(1) - new / old).scaled(100), old - new))
    by = dict(zip(("points", "percent of what there was", "problems"), map(list, zip(*losses, strict=True)), strict=True))
    return _places(by, [f"from {early[0]} to {late[0]}" for late, early in ((after, before), (other_after, other_before))])


def wrong_steps(of: Cells, direction: str, n: Cells | None = None) -> Answer:
    """How many steps from one number to the next go against a direction; standing still does not."""
    one_of(direction, "direction", ("falling", "rising"))
    size, sign = problems(n), -1 if direction == "falling" else 1
    values = [percent(cell, size).scaled(sign) for cell in of]
    steps = list(pairwise(values))
    surely = sum(after.high < before.low for before, after in steps)
    perhaps = sum(after.low < before.high for before, after in steps)
    still = sum(after == before for before, after in steps)
    said = f"{surely} of {len(steps)} steps of {' → '.join(cell.value.text for cell in of)} are not {direction}"
    return Answer((Range(surely, perhaps),), said + (f"; {still} stand still" if still else ""))


def differences_agree(of: Cells, after: Cells, before: Cells, n: Cells | None = None) -> Answer:
    """How many of several printed differences are those of the printed values."""
    size = problems(n)
    base = percent(one(before, "before"), size)
    agree = sum(cell.value.overlaps(percent(new, size) - base) for cell, new in zip(of, after, strict=True))
    said = f"{agree} of {len(of)} printed differences are those of the printed values from {shown(before, size)}"
    return Answer((Range.point(agree),), said)


def shares_agree(of: Cells, part: Cells) -> Answer:
    """How many of several printed percentages are those of the printed fractions."""
    agree = sum(cell.value.overlaps(fraction.value.range.scaled(100)) for cell, fraction in zip(of, part, strict=True))
    return Answer((Range.point(agree),), f"{agree} of {len(of)} printed percentages are those of the printed fractions")


def possible_counts(of: Cells, n: Cells) -> Answer:
    """How many whole numbers of n problems would be printed so (the GRIM test); 0 means that the percentage is impossible.

    Source: Brown and Heathers (2017), Social Psychological and Personality Science 8, 363-369.
    """
    size, value = count_of(n), one(of, "of").value.range
    low, high = value.low * size / 100, value.high * size / 100
    fitting = floor(high) - ceil(low) + 1
    nearest = sorted({floor(low), ceil(high)}) if fitting < 1 else list(range(ceil(low), floor(high) + 1))
    listed = " and ".join(f"{k}/{size} = {100 * k / size:.2f}%" for k in nearest[:2])
    return Answer((Range.point(max(fitting, 0)),), f"{'nearest: ' if fitting < 1 else ''}{listed}")


COUNTING = (
    how_many,
    share_of_cells,
    how_many_equal,
    how_many_below,
    rows_not_above,
    rows_best_everywhere,
    count_lead,
    rank,
    rank_of_column,
    rank_of_loss,
    wrong_steps,
    differences_agree,
    shares_agree,
    possible_counts,
)


def _places(by: dict[str, list[Range]], names: list[str]) -> Answer:
    """The place of the first of several by each measure, 1 the largest; ties count in its favour."""
    ranges = tuple(Range(1 + sum(v.low > own.high for v in rest), 1 + sum(v.high > own.low for v in rest)) for own, *rest in by.values())
    listed = "; ".join(f"by {measure}: {', '.join(map('{} {}'.format, names, values))}" for measure, values in by.items())
    return Answer(ranges, listed, determined=False)


def _largest(of: Cells, n: int | None) -> Range:
    values = [percent(cell, n) for cell in of]
    return Range(max(v.low for v in values), max(v.high for v in values))


def _between(of: Cells, above: str, below: str, n: int | None) -> tuple[int, int]:
    """How many cells lie between two limits for sure, and how many may."""
    low, high = _limit(above), _limit(below)
    values = [percent(cell, n) for cell in of]
    return sum(low < v.low and v.high < high for v in values), sum(v.high > low and v.low < high for v in values)


def _limit(text: str) -> Number:
    # A fraction, so that a limit such as 0.1 means what it says.
    return float(text) if math.isinf(float(text)) else Fraction(text)


def _from_to(surely: int, perhaps: int) -> str:
    return str(surely) if surely == perhaps else f"{surely} to {perhaps}"
