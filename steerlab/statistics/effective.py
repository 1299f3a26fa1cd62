"""How much a set of vectors holds: in how many dimensions it varies, and how many of its rows are not copies."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steerlab._checks import RELATIVE_NOISE, InputError, common_scale, vectors

ROWS = 512  # compared with all others at a time
SAME = 1e-3  # two rows are copies if their distance is below this share of the rows' root mean square distance from the mean


def effective_dimension(values: ArrayLike) -> float:
    """Participation ratio of the covariance S: trace(S)² / trace(S²), the number of dimensions that share the variance.

    Args:
        values: ``[problem, dimension]``, at least 2 rows.

    Returns:
        1 where all rows lie on a line, d where all d dimensions vary alike; never more than rows - 1, so with few rows
        it says how many dimensions were seen, not how many there are.

    Raises:
        ValueError: fewer than 2 rows, NaN or infinite values, or rows that do not vary.

    Source:
        Bretherton et al. (1999), J. Climate 12, 1990-2009 (effective number of degrees of freedom).

    Example:
        >>> effective_dimension([[1, 0], [-1, 0], [0, 1], [0, -1]])
        2.0
    """
    centred, square = _centred(vectors(values, "values", at_least=2))
    if square == 0:
        raise InputError(f"values: all {len(centred)} rows are equal, so they vary in no dimension")
    if centred.shape[1] < len(centred):
        return float(square**2 / np.square(centred.T @ centred).sum())
    return float(square**2 / sum(float(np.square(products).sum()) for _, products in _products(centred)))


def effective_size(values: ArrayLike) -> float:
    """How many different rows a mean rests on: n² / sum of the squared numbers of copies.

    Repeated prompts, and templates that differ where the model does not look, add rows but no information.

    Args:
        values: ``[problem, dimension]``, at least 1 row. Rows count as copies when their distance is below 0.001 of the
            rows' root mean square distance from their mean.

    Returns:
        n where all rows differ, k where there are k different rows, each as often.

    Raises:
        ValueError: no rows, or NaN or infinite values.

    Source:
        Kish (1965), Survey Sampling: the effective size of a sample with unequal weights, here the numbers of copies.

    Example:
        >>> effective_size([[0, 1], [0, 1], [2, 3], [2, 3]]), effective_size([[0, 1], [4, 1], [2, 3]])
        (2.0, 3.0)
    """
    centred, square = _centred(vectors(values, "values", at_least=1))
    n = len(centred)
    if square == 0:
        return 1.0
    lengths = np.square(centred).sum(1)
    copies = 0
    for rows, products in _products(centred):
        copies += int((lengths[rows, None] + lengths - 2 * products <= SAME**2 * square / n).sum())
    return n**2 / copies


def _centred(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Rows minus their mean, and the sum of their squares; zero where they differ by no more than rounding."""
    noise = RELATIVE_NOISE * common_scale(rows)
    centred = rows - rows.mean(0)
    return centred, float(np.square(centred).sum()) if np.abs(centred).max() > noise else 0.0


def _products(centred: NDArray[np.float64]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Inner products of some rows with all rows, a few rows at a time."""
    for first in range(0, len(centred), ROWS):
        rows = slice(first, first + ROWS)
        yield rows, centred[rows] @ centred.T
