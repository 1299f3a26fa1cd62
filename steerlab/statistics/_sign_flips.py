"""The sign-flip null of paired differences: every problem's row of differences is as likely as its opposite."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

# Numbers held at once; a block this large keeps the matrix product busy and stays in tens of megabytes.
BLOCK = 1 << 21


def enumerable(n_moved: int, n_resamples: int) -> bool:
    """Whether all sign patterns of so many rows are no more than the draws that were asked for."""
    return 2**n_moved <= n_resamples


def flipped_sums(rows: NDArray[np.float64], n_resamples: int, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Column sums after flipping the sign of whole rows, in blocks [draw, column].

    All 2^rows patterns, the observed one among them, where they are `enumerable`; else n_resamples random ones. Sums
    of integers are exact, so that ties stay ties.
    """
    n, width = rows.shape
    exact = enumerable(n, n_resamples)
    total = 2**n if exact else n_resamples
    step = max(1, BLOCK // max(n, width, 1))
    for start in range(0, total, step):
        size = min(step, total - start)
        if exact:
            turned = (np.arange(start, start + size)[:, None] >> np.arange(n)) & 1
            signs = 1.0 - 2.0 * turned
        else:
            bits = np.frombuffer(rng.bytes(size * -(-n // 8)), dtype=np.uint8).reshape(size, -1)
            signs = 1.0 - 2.0 * np.unpackbits(bits, axis=1, count=n)
        yield signs @ rows


def exceedance(null: NDArray[np.float64], observed: NDArray[np.float64], noise: float, *, exact: bool) -> NDArray[np.float64]:
    """P-values: the share of null draws at least as large as each observed value, ties and rounding counted against us.

    Random draws do not hold the observed pattern, so it is added to them; an enumeration has it already.
    """
    ordered = np.sort(null)
    exceeds = ordered.size - np.searchsorted(ordered, observed - noise, side="left")
    return np.asarray(exceeds / ordered.size if exact else (1 + exceeds) / (1 + ordered.size), dtype=np.float64)
