"""The sign-flip null of paired differences: every problem's row of differences is as likely as its opposite."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from steerlab.statistics._resampling import repeated_rows

# Numbers held at once; a block this large keeps the matrix product busy and stays in tens of megabytes.
BLOCK = 1 << 21
NARROW = 8  # columns up to which sums of eight rows are looked up rather than multiplied
SIGNS = 1.0 - 2.0 * np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)  # all flips of eight rows


def enumerable(n_moved: int, n_resamples: int) -> bool:
    """Whether all sign patterns of so many rows are no more than the draws that were asked for."""
    return 2**n_moved <= n_resamples


def flipped_sums(rows: NDArray[np.float64], n_resamples: int, rng: np.random.Generator) -> Iterator[NDArray[np.float64]]:
    """Column sums after flipping the sign of whole rows, in blocks [draw, column].

    All 2^rows patterns, the observed one among them, where they are `enumerable`; else n_resamples random ones. Sums
    of integers are exact, so that ties stay ties. Of many rows those that are equal are flipped together, by a binomial number of
    them, or each eight rows by a look into the table of their 256 sums.
    """
    n, width = rows.shape
    exact = enumerable(n, n_resamples)
    if not exact and n_resamples * n > BLOCK:
        if (found := repeated_rows(rows)) is not None:
            yield from _repeated(*found, n_resamples, rng)
            return
        if width <= NARROW:
            yield _looked_up(rows, n_resamples, rng)
            return
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


def _repeated(
    rows: NDArray[np.float64], times: NDArray[np.int_], n_resamples: int, rng: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    step = max(1, BLOCK // max(rows.shape))
    for start in range(0, n_resamples, step):
        kept = rng.binomial(times, 0.5, size=(min(step, n_resamples - start), len(times)))
        yield (2.0 * kept - times) @ rows


def _looked_up(rows: NDArray[np.float64], n_resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    sums, found = np.zeros((2, n_resamples, rows.shape[1]))
    for start in range(0, len(rows), 4096):
        eights = rows[start : start + 4096]
        eights = np.concatenate([eights, np.zeros((-len(eights) % 8, rows.shape[1]))]).reshape(-1, 8, rows.shape[1])
        for table in np.matmul(SIGNS, eights):
            sums += np.take(table, np.frombuffer(rng.bytes(n_resamples), dtype=np.uint8), axis=0, out=found, mode="clip")
    return sums


def exceedance(null: NDArray[np.float64], observed: NDArray[np.float64], noise: float, *, exact: bool) -> NDArray[np.float64]:
    """P-values: the share of null draws at least as large as each observed value, ties and rounding counted against us.

    Random draws do not hold the observed pattern, so it is added to them; an enumeration has it already.
    """
    ordered = np.sort(null)
    exceeds = ordered.size - np.searchsorted(ordered, observed - noise, side="left")
    return np.asarray(exceeds / ordered.size if exact else (1 + exceeds) / (1 + ordered.size), dtype=np.float64)
