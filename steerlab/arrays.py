"""Plain arrays as activations, so that what needs no model needs none of its types."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from steerlab._checks import InputError, InputTypeError
from steerlab.activations import Activations

Group = Activations | np.ndarray | Tensor | pd.DataFrame | list[Any]
"""One group of problems' activations, as estimators take it."""


def as_activations(
    values: object, *, layer: int, site: str = "resid_post", positions: str | Sequence[int] = "last", ids: Sequence[str] | None = None
) -> Activations:
    """Plain arrays as activations of one layer, for estimators that need no model.

    Args:
        values: ``[problem d_model]``, or ``[problem pos d_model]``.
        layer: the 0-based block that they are of.
        site: "resid_pre", "resid_mid" or "resid_post".
        positions: where they were measured: "last", "mean" or an index for each position.
        ids: of the problems; default "0", "1" and so on.

    Raises:
        ValueError: another number of dimensions, or as many ids or positions as problems or positions are not given.

    Example:
        >>> as_activations([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], layer=4)
        Activations([3, 1, 1, 2] problem×layer×pos×d_model, layers=[4], site='resid_post', positions='last')
    """
    given = values.detach().cpu() if isinstance(values, Tensor) else torch.from_numpy(np.array(values, dtype=np.float64))
    array = given.to(torch.float32)
    if array.ndim not in (2, 3):
        raise InputError(f"values have shape {list(array.shape)}; use [problem, d_model] or [problem, pos, d_model]")
    array = array[:, None] if array.ndim == 2 else array
    where = positions if isinstance(positions, str) else tuple(int(position) for position in positions)
    if isinstance(where, tuple) and len(where) != array.shape[1]:
        raise InputError(f"{len(where)} positions for values at {array.shape[1]}; give one index for each")
    names = tuple(ids) if ids is not None else tuple(str(i) for i in range(len(array)))
    if len(names) != len(array):
        raise InputError(f"{len(names)} ids for {len(array)} problems; give one id for each")
    mask = torch.ones(array.shape[:2], dtype=torch.bool)
    return Activations(array[:, None], mask, names, (layer,), site, where, {})


def as_group(given: object, *, layer: int) -> Activations:
    """Activations as they are; anything else as the output of a layer at the last position, or at as many positions as it holds.

    Raises:
        ValueError: as `as_activations`.
    """
    if isinstance(given, Activations):
        return given
    try:
        array = given if isinstance(given, Tensor) else np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputTypeError(
            f"a group is a {type(given).__name__} that is no array of numbers ({error}); give what steerlab.cache_activations returned, or numbers of shape "
            "[problem, d_model]"
        ) from error
    positions: str | tuple[int, ...] = tuple(range(array.shape[1])) if array.ndim == 3 and array.shape[1] > 1 else "last"
    return as_activations(array, layer=layer, positions=positions)
