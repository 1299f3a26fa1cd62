"""Corrections of p-values for the number of tests that were made."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control

from steerlab._checks import probabilities


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's adjusted p-values, which bound the chance of one or more false rejections (family-wise error).

    Args:
        p_values: one or more p-values in any shape, from 0 to 1; they may depend on each other.

    Returns:
        The adjusted p-values in the shape and order given; reject where one is at most the level.

    Raises:
        ValueError: no p-values, or one that is not finite or outside [0, 1].

    Source:
        Holm (1979), Scandinavian Journal of Statistics 6, 65-70.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
        [0.03, 0.06, 0.06]
    """
    numbers = probabilities(p_values, "p_values")
    flat = numbers.ravel()
    order = np.argsort(flat, kind="stable")
    stepwise = np.maximum.accumulate(flat[order] * np.arange(flat.size, 0, -1))
    adjusted = np.empty_like(flat)
    adjusted[order] = np.minimum(stepwise, 1.0)
    return adjusted.reshape(numbers.shape)


def benjamini_hochberg(p_values: ArrayLike) -> NDArray[np.float64]:
    """Benjamini and Hochberg's adjusted p-values, which bound the expected share of false rejections among all made.

    Args:
        p_values: one or more p-values in any shape (a heatmap's cells), from 0 to 1; independent, or positively
            dependent as neighbouring cells of a sweep usually are.

    Returns:
        The adjusted p-values in the shape and order given; reject where one is at most the false discovery rate.

    Raises:
        ValueError: no p-values, or one that is not finite or outside [0, 1].

    Source:
        Benjamini and Hochberg (1995), J. R. Stat. Soc. B 57, 289-300; computed by SciPy.

    Example:
        >>> benjamini_hochberg([0.01, 0.04, 0.03]).round(3).tolist()
        [0.03, 0.04, 0.04]
    """
    numbers = probabilities(p_values, "p_values")
    adjusted = np.asarray(false_discovery_control(numbers.ravel(), method="bh"), dtype=np.float64)
    return adjusted.reshape(numbers.shape)
