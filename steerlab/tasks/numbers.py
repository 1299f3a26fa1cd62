"""Numbers in what a model wrote, in files and in targets: how they are read, and when two are the same.

Numbers are decimals, exactly as they are written; floating point takes no part in it. The reading rule:

- Which one: in a generated text the first after "####", if that is there (GSM8K); else the last (CODI).
- Digits: 7, 007 (which is 7), 1.5, .5 (not behind a letter, digit or point). A point without digits behind it ends a sentence.
- Thousands: commas before groups of three (1,234,567), or of two before the last three (12,34,567). Any other comma separates numbers.
- Exponents: e or E right behind the digits, with its own digits (2.5e3, 1e-07). Powers written out (3 x 10^5) are not read.
- Signs: +, - and − (U+2212) right before the digits, or before or behind a currency sign ($ € £ ¥ ₹) there. A hyphen right behind a letter, a digit,
  a closing bracket, % or another sign joins or subtracts, and is no sign: 12-5, GPT-2, --5.
- Units: currency signs, % and words beside a number are not read; 50% is 50.
- Fractions are two numbers: in 1/2 the last one is 2.

Two numbers are the same if they are equal as decimals: 5600000001 is not 5600000000. A float of up to 12 digits (6 in single precision) is the decimal
that it prints as, so a single-precision 0.1 is 0.1; any other float, such as 1/3, is the same as what lies within its rounding (see `same_number`).

    >>> for text in ("12 and then 7.", "7 #### 12 then 99", "$1,234.50 in all", "−3", "-$5", "$-5", "12-5", "2.5e3", "1e-07", "5600000001.", "1,2,3", "50%"):
    ...     print(f"{text:20} {find_number(text)}")
    12 and then 7.       7
    7 #### 12 then 99    12
    $1,234.50 in all     1234.50
    −3                   -3
    -$5                  -5
    $-5                  -5
    12-5                 5
    2.5e3                2.5E+3
    1e-07                1E-7
    5600000001.          5600000001
    1,2,3                3
    50%                  50
"""

import math
import re
import struct
from decimal import Decimal
from numbers import Integral, Real
from typing import Any, cast

__all__ = ["as_printed", "decimal_text", "exact_number", "extract_number", "find_number", "parse_number", "same_number"]

MAX_LENGTH = 400  # of a text that is one number as a whole; no float needs more
DOUBLE_DIGITS, SINGLE_DIGITS = 12, 6  # a float of no more digits than these is meant as the decimal that it prints as
DOUBLE_ROUNDING, SINGLE_ROUNDING = Decimal("1e-9"), Decimal("2e-7")  # relative, of any other float

_SIGN, _CURRENCY = r"[-+−]", r"\\?[$€£¥₹]"  # a backslash, as LaTeX writes a dollar
_DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?![\d,]\d|\d)|\d{1,2}(?:,\d{2}){1,6},\d{3}(?![\d,]\d|\d)|\d+)"
_BARE = rf"(?:{_DIGITS}(?:\.\d+)?|(?<![\w.])\.\d+)(?:[eE]{_SIGN}?\d{{1,4}}(?![\d\w]))?"
_NUMBER = re.compile(rf"(?:(?<![\w)\]}}%+−-])(?P<before>{_SIGN}))?(?:(?<!\d){_CURRENCY} ?(?P<behind>{_SIGN})?)?(?P<bare>{_BARE})")
_WHOLE = re.compile(rf"\s*{_NUMBER.pattern}(?:\.| ?%)?\s*")


def _decimal(found: re.Match[str]) -> Decimal:
    signs = {found["before"], found["behind"]} & {"-", "−"}
    value = Decimal(found["bare"].replace(",", "").replace("−", "-"))
    return value.copy_negate() if signs and value else value


def find_number(text: str) -> Decimal | None:
    """The number that a generated text answers with, exactly as it is written; None without one. The module says how it is read.

    Example:
        >>> find_number("3 + 4 = 7")
        Decimal('7')
    """
    _, marked, behind = text.partition("####")
    if marked:
        first = _NUMBER.search(behind)
        return None if first is None else _decimal(first)
    last = None
    for found in _NUMBER.finditer(text):
        last = found
    return None if last is None else _decimal(last)


def extract_number(text: str) -> int | float | None:
    """The number that a generated text answers with: an int where it is whole, however large; else the float next to it; None without one.

    Example:
        >>> extract_number("#### 90071992547409931 coins"), extract_number("so $2.50."), extract_number("none")
        (90071992547409931, 2.5, None)
    """
    number = find_number(text)
    return None if number is None else _plain(number)


def exact_number(value: object) -> Decimal | None:
    """The number that a value is as a whole, or None: a text that is one number by the reading rule, an int, a finite float (as it prints).

    Example:
        >>> exact_number(" -$1,200 "), exact_number(0.1), exact_number("5 apples"), exact_number(True)
        (Decimal('-1200'), Decimal('0.1'), None, None)
    """
    if isinstance(value, str):
        found = _WHOLE.fullmatch(value) if len(value) <= MAX_LENGTH else None
        return None if found is None else _decimal(found)
    if isinstance(value, bool):
        return None
    if isinstance(value, Integral):  # NumPy's integers, too
        return Decimal(int(value))
    if isinstance(value, Decimal):
        return value if value.is_finite() else None
    if isinstance(value, Real):
        number = as_printed(value)
        return Decimal(int(number) if number.is_integer() and abs(number) < 2**53 else repr(number)) if math.isfinite(number) else None
    return None


def parse_number(value: object) -> int | float | None:
    """The number that a value is as a whole (see `exact_number`), as an int where it is whole, else as a float; None where no finite float is near it.

    Example:
        >>> parse_number("1,234"), parse_number("2.50"), parse_number(3.0), parse_number("1e999")
        (1234, 2.5, 3, None)
    """
    if not isinstance(value, bool) and isinstance(value, Integral):
        return int(value)
    number = exact_number(value)
    return None if number is None or not math.isfinite(float(number)) else _plain(number)


def _plain(number: Decimal) -> int | float:
    as_float = float(number)
    return int(number) if math.isfinite(as_float) and number == number.to_integral_value() else as_float


def as_printed(value: Any) -> float:
    """A float of any precision as the double that is the decimal it prints as.

    Example:
        >>> import numpy as np
        >>> as_printed(np.float32(0.1)), float(np.float32(0.1))
        (0.1, 0.10000000149011612)
    """
    number = float(value)
    return number if isinstance(value, float) or number.is_integer() or not math.isfinite(number) else float(str(value))


def same_number(target: object, said: Decimal) -> bool:
    """Whether what was said is the target.

    Args:
        target: a number, or a text that is one; ints and texts count to the last digit. A float of up to 12 digits counts as the decimal that it prints
            as, and a single-precision one of up to 6 as what it prints as there. Any other float, such as 1/3 or 0.1 + 0.2, is the same as what differs by
            no more than a billionth of it (2e-7 of it, if it is a single-precision number).
        said: what was read.

    Raises:
        ValueError: a target that is no number.

    Example:
        >>> same_number(5600000000, Decimal(5600000001)), same_number(0.10000000149011612, Decimal("0.1")), same_number(1 / 3, Decimal("0.3333333333"))
        (False, True, True)
    """
    exact = exact_number(target)
    if exact is None:
        raise ValueError(f"{target!r} is not a number")
    if exact == said:
        return True
    if isinstance(target, str | Integral | Decimal):
        return False
    number = float(cast("Any", target))
    decimal = Decimal(f"{number:.15g}")  # what a double keeps of any decimal
    if decimal == said:
        return True
    if number.is_integer():
        return int(number) == said
    if _size(decimal) <= DOUBLE_DIGITS or said == said.to_integral_value():
        return False
    rounding = DOUBLE_ROUNDING
    if abs(number) < 3e38 and struct.unpack("f", struct.pack("f", number))[0] == number:
        decimal, rounding = Decimal(_single(number)), SINGLE_ROUNDING
        if _size(decimal) <= SINGLE_DIGITS:
            return decimal == said
    return abs(said - decimal) <= rounding * abs(decimal)


def _size(decimal: Decimal) -> int:
    """How many digits, without zeros at the end."""
    return len("".join(map(str, decimal.as_tuple().digits)).rstrip("0")) or 1


def _single(number: float) -> str:
    """The shortest decimal that is this number in single precision."""
    for digits in range(1, 9):
        text = f"{number:.{digits}g}"
        if struct.unpack("f", struct.pack("f", float(text)))[0] == number:
            return text
    return f"{number:.9g}"


def decimal_text(number: Decimal) -> str:
    """A number as tables show it: in full, without zeros at the end, or with an exponent beyond 40 digits.

    Example:
        >>> decimal_text(Decimal("5600000001")), decimal_text(Decimal("1234.50")), decimal_text(Decimal("2.5e3")), decimal_text(Decimal("1e-07"))
        ('5600000001', '1234.5', '2500', '0.0000001')
    """
    text = f"{number:f}" if -40 <= number.adjusted() <= 40 else str(number)
    return text.rstrip("0").rstrip(".") if "." in text and "E" not in text else text
