"""How results look in text and in notebooks."""

from collections.abc import Mapping
from html import escape

from steerlab.statistics._input import finite

SMALLEST_SHOWN = 1e-4


def format_p(p: float) -> str:
    """A p-value as text with four decimals, never as zero.

    Args:
        p: a p-value from 0 to 1.

    Returns:
        ``p = 0.0312``, or ``p < 0.0001`` below that.

    Raises:
        ValueError: p is outside [0, 1] or not finite.

    Example:
        >>> format_p(0.03125), format_p(3e-9)
        ('p = 0.0312', 'p < 0.0001')
    """
    number = finite(p, "p")
    if not 0 <= number <= 1:
        raise ValueError(f"p={number}: p-values lie from 0 to 1")
    return f"p = {number:.4f}" if number >= SMALLEST_SHOWN else f"p < {SMALLEST_SHOWN:.4f}"


def html_table(title: str, rows: Mapping[str, object]) -> str:
    """A small table of names and values for notebooks; everything in it is escaped."""
    body = "".join(f"<tr><th>{escape(name)}</th><td>{escape(str(value))}</td></tr>" for name, value in rows.items())
    return f"<table><caption>{escape(title)}</caption><tbody>{body}</tbody></table>"
