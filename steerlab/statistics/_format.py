"""Text and HTML of results."""

from steerlab._checks import InputError, finite

SMALLEST_SHOWN = 1e-4


def format_p(p: float, *, digits: int | None = None) -> str:
    """A p-value as text, never as zero: with four decimals, or with a few significant digits for a sentence.

    Args:
        p: a p-value from 0 to 1.
        digits: significant digits; default four decimals.

    Returns:
        ``p = 0.0312``, or ``p < 0.0001`` below that.

    Raises:
        ValueError: p is outside [0, 1] or not finite, or digits is below 1.

    Example:
        >>> format_p(0.03125), format_p(3e-9)
        ('p = 0.0312', 'p < 0.0001')
        >>> format_p(0.17, digits=2), format_p(0.9973, digits=2), format_p(0.06, digits=2)
        ('p = 0.17', 'p > 0.99', 'p = 0.06')
    """
    number = finite(p, "p")
    if not 0 <= number <= 1:
        raise InputError(f"p={number}: p-values lie from 0 to 1")
    if number < SMALLEST_SHOWN:
        return f"p < {SMALLEST_SHOWN:.4f}"
    if digits is None:
        return f"p = {number:.4f}"
    if digits < 1:
        raise InputError(f"digits={digits}: use at least 1")
    shown = f"{number:.{digits}g}"
    return f"p = {shown}" if number == 1 or float(shown) < 1 else f"p > {1 - 10.0**-digits:.{digits}f}"
