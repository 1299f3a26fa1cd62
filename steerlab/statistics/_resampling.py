"""Means of rows drawn with replacement, with work that does not grow with the number of rows where these repeat or are many."""

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 21  # numbers held at once
ONE_BY_ONE = 10_000  # rows up to which each is drawn by itself
EXTREMES, BINS = 64, 384  # above it: the most extreme rows of either side stay themselves, the others lie in so many bins


def repeated_rows(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int_]] | None:
    """The different rows and how often each is there, where they repeat, as outcomes do; else None."""
    if len(np.unique(rows[:4096], axis=0)) * 4 > min(len(rows), 4096):
        return None
    found, times = np.unique(rows, axis=0, return_counts=True)
    return (found, times) if 16 * len(found) <= len(rows) else None


def resampled_means(rows: NDArray[np.float64], n_resamples: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Means [draw, column] of rows drawn with replacement.

    Many rows are not drawn one by one. How often each of a few different rows is drawn is multinomial. Rows that all differ lie in
    bins of like ones, drawn as often as their rows would be; a normal remainder has the covariance within bins.
    """
    n, width = rows.shape
    if n <= ONE_BY_ONE:
        means, step = [], max(1, BLOCK // n)
        for start in range(0, n_resamples, step):
            size = min(step, n_resamples - start)
            drawn = rng.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
            times = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
            means.append(times @ rows / n)
        return np.concatenate(means)
    if (found := repeated_rows(rows)) is not None:
        return multinomial_means(*found, n_resamples, rng)
    ordered = rows[np.argsort(rows.mean(axis=1), kind="stable")]
    first = np.unique(
        np.concatenate([np.arange(EXTREMES), np.linspace(EXTREMES, n - EXTREMES, BINS + 1).astype(int), np.arange(n - EXTREMES, n)])
    )
    sizes = np.diff(np.append(first, n))
    centres = np.add.reduceat(ordered, first) / sizes[:, None]
    rest = ordered - np.repeat(centres, sizes, axis=0)
    remainder = rng.multivariate_normal(np.zeros(width), rest.T @ rest / n**2, size=n_resamples)
    return multinomial_means(centres, sizes, n_resamples, rng) + remainder


def multinomial_means(
    rows: NDArray[np.float64], times: NDArray[np.int_], n_resamples: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Means of rows that are there so many times each, drawn with replacement."""
    n, step = int(times.sum()), max(1, BLOCK // len(rows))
    sizes = [min(step, n_resamples - start) for start in range(0, n_resamples, step)]
    return np.concatenate([rng.multinomial(n, times / n, size=size) @ rows / n for size in sizes])
