"""Printed numbers and the values that they may stand for: half a unit in the last printed place to either side."""

import re
from dataclasses import dataclass
from fractions import Fraction
from math import ceil, floor, inf

from steerlab._checks import InputError

Number = Fraction | float

SCALES = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}
_NUMBER = re.compile(
    r"""^(?:p\s*)?(?P<relation>[<>≤≥≈~]|)\s*
        (?P<sign>[+\-−]?)(?P<whole>\d[\d,]*)(?:\.(?P<decimals>\d+))?\s*
        (?P<scale>[KMB](?![A-Za-z])|)(?P<unit>[^\d]*)$""",
    re.VERBOSE,
)
_FRACTION = re.compile(r"^(\d+)\s*/\s*(\d+)$")
_SUM = re.compile(r"^(\d+(?:\+\d+)+)(?:=\d+)?$")


@dataclass(frozen=True)
class Range:
    """All values from low to high, both included; sums, differences, products and ratios are those of every pair of values.

    Attributes:
        low, high: exact fractions where they come from printed numbers alone, so that no verdict hangs on a rounding error.
    """

    low: Number
    high: Number

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise InputError(f"low={self.low} and high={self.high}: a range runs from the smaller to the larger")

    @classmethod
    def point(cls, value: Number) -> "Range":
        """The range of one value."""
        return cls(value, value)

    def __add__(self, other: "Range") -> "Range":
        return Range(self.low + other.low, self.high + other.high)

    def __neg__(self) -> "Range":
        return Range(-self.high, -self.low)

    def __sub__(self, other: "Range") -> "Range":
        return self + -other

    def __mul__(self, other: "Range") -> "Range":
        corners = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return Range(min(corners), max(corners))

    def __truediv__(self, other: "Range") -> "Range":
        if other.low <= 0 <= other.high:
            raise InputError(
                f"a ratio to something from {float(other.low):g} to {float(other.high):g}: it may be 0, so the ratio has no bounds"
            )
        return self * Range(1 / other.high, 1 / other.low)

    def scaled(self, factor: Number) -> "Range":
        """Every value times one number."""
        return self * Range.point(factor)

    def __str__(self) -> str:
        low, high = f"{float(self.low):.5g}", f"{float(self.high):.5g}"
        return low if low == high else f"{low} to {high}"


@dataclass(frozen=True)
class Printed:
    """A number as it was printed.

    Attributes:
        text: as printed.
        range: the values that it may stand for.
        relation: "<", ">", "≤" or "≥" where it bounds, "~" where it approximates, else "".
        unit: what follows the number, e.g. "%", "pts" or "minutes".
    """

    text: str
    range: Range
    relation: str = ""
    unit: str = ""

    def overlaps(self, other: Range) -> bool:
        """Whether a value of the other range would be printed so."""
        above = other.high > self.range.low if self.relation == ">" else other.high >= self.range.low
        below = other.low < self.range.high if self.relation == "<" else other.low <= self.range.high
        return above and below

    def contains(self, other: Range) -> bool:
        """Whether every value of the other range would be printed so."""
        return self.overlaps(Range.point(other.low)) and self.overlaps(Range.point(other.high))

    def counts(self, n: int) -> Range:
        """The whole numbers of n problems that a printed percentage may stand for.

        Args:
            n: how many problems there were.

        Returns:
            From the fewest to the most; a change in percentage points may be negative.

        Raises:
            ValueError: no whole number out of n is printed so, or the number only bounds.
        """
        if self.relation not in ("", "~"):
            raise InputError(f"{self.text}: a bound stands for no number of problems; leave n out")
        fewest, most = ceil(self.range.low * n / 100), floor(self.range.high * n / 100)
        if fewest > most:
            raise InputError(f"{self.text}: no whole number of {n} problems is printed so; check the number, or leave n out")
        return Range(Fraction(fewest), Fraction(most))

    def __str__(self) -> str:
        return self.text


def printed(text: str) -> Printed:
    """Read a printed number.

    A bare whole number, a fraction of whole numbers and a sum of them are counts and stand for themselves. Everything
    else was rounded to its last printed place, or to one unit more or less of it where "~" or "≈" stands before it.

    Args:
        text: e.g. "34.9%", "+2.3 pts", "−2%", "117M", "p<0.05", "~15 minutes", "3/6" or "172+172".

    Returns:
        The number with the range of values that round to it; half-way cases may have been rounded either way.

    Raises:
        ValueError: not one number.

    Example:
        >>> print(printed("34.9%").range, "|", printed("≈ 1.3").range, "|", printed("86").range)
        34.85 to 34.95 | 1.2 to 1.4 | 86
        >>> print(printed("34.9%").counts(86))
        30
    """
    clean = text.strip()
    if found := _FRACTION.match(clean):
        part, whole = (int(number) for number in found.groups())
        if whole == 0:
            raise InputError(f"{text!r}: nothing out of 0; give a fraction with a whole of at least 1")
        return Printed(text, Range.point(Fraction(part, whole)))
    if found := _SUM.match(clean):
        return Printed(text, Range.point(Fraction(sum(int(part) for part in found[1].split("+")))))
    found = _NUMBER.match(clean)
    if not found:
        raise InputError(f"{text!r}: not a printed number; give one like '34.9%', '+2.3 pts', 'p<0.05' or '86'")
    decimals, scale, unit = found["decimals"] or "", SCALES[found["scale"]], found["unit"].strip()
    value = Fraction(found["whole"].replace(",", "") + "." + (decimals or "0")) * scale
    if found["sign"] in ("-", "−"):
        value = -value
    relation = {"≈": "~"}.get(found["relation"], found["relation"])
    if relation in ("<", "≤"):
        return Printed(text, Range(-inf, value), relation, unit)
    if relation in (">", "≥"):
        return Printed(text, Range(value, inf), relation, unit)
    if not (decimals or found["scale"] or unit or relation):
        return Printed(text, Range.point(value))
    half = Fraction(scale, 10 ** len(decimals)) / (1 if relation else 2)
    return Printed(text, Range(value - half, value + half), relation, unit)
