"""What can be had at which price: points that no other point beats on both."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steerlab._checks import InputError, reals


def pareto_front(benefit: ArrayLike, cost: ArrayLike) -> NDArray[np.bool_]:
    """Which points are on the Pareto front: no other has at least the benefit at no more cost, and is better in one.

    Args:
        benefit: more is better.
        cost: less is better; as many.

    Returns:
        True for points on the front, in the order given; points that are equal in both are on it together.

    Raises:
        ValueError: no points, unequal lengths, or NaN or infinite values.

    Example:
        >>> pareto_front([3, 2, 1, 3], [5, 1, 2, 6]).tolist()
        [True, True, False, False]
    """
    gains, prices = reals(benefit, "benefit", at_least=1), reals(cost, "cost", at_least=1)
    if len(gains) != len(prices):
        raise InputError(f"benefit and cost have lengths {len(gains)} and {len(prices)}; give one value of each per point")
    front = np.zeros(len(gains), dtype=np.bool_)
    best = -np.inf
    order = np.lexsort((-gains, prices))  # the cheapest first, of equally cheap ones the best
    for here, before in zip(order, np.concatenate([[-1], order[:-1]]), strict=True):
        twin = before >= 0 and gains[here] == gains[before] and prices[here] == prices[before]
        front[here] = front[before] if twin else gains[here] > best
        best = max(best, gains[here])
    return front
