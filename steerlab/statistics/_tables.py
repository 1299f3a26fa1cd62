"""Checks of tables with one row per problem, and of whether values are outcomes or real numbers."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from steerlab._errors import InputError
from steerlab.statistics._input import outcomes, reals, unmasked


def problem_table(values: ArrayLike | pd.DataFrame, name: str, *, columns: str, at_least: int) -> tuple[NDArray[np.float64], pd.Index]:
    """Finite real numbers with one row per problem, and the labels of the columns.

    Args:
        values: an array, or a frame whose columns keep their labels.
        name: of the argument, for messages.
        columns: what one column is, in the singular.
        at_least: how many problems are needed.
    """
    array = values.to_numpy() if isinstance(values, pd.DataFrame) else unmasked(values, name)
    if array.ndim != 2 or array.shape[1] < 1:
        raise InputError(f"{name}: shape {array.shape}; give one row per problem and one column per {columns}")
    if array.shape[0] < at_least:
        raise InputError(f"{name}: {array.shape[0]} problem(s) given; at least {at_least} needed")
    labels = values.columns if isinstance(values, pd.DataFrame) else pd.RangeIndex(array.shape[1], name=columns)
    if not labels.is_unique:
        raise InputError(f"{name}: two columns are called {labels[labels.duplicated()][0]!r}; give each {columns} its own label")
    numbers = [reals(array[:, j], f"{name}[:, {j}]", at_least=1) for j in range(array.shape[1])]
    return np.stack(numbers, axis=1), labels


def are_outcomes(*values: ArrayLike | pd.DataFrame) -> bool:
    """Whether all values say right or wrong: booleans, or integers that are all 0 or 1."""
    try:
        for part in values:
            outcomes(np.asarray(part).ravel(), "values")
    except ValueError:
        return False
    return True
