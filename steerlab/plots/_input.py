"""What the figures read from results, and plain errors for anything else."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import pandas as pd

from steerlab._checks import InputError, InputTypeError

Expected = TypeVar("Expected")


@runtime_checkable
class Framed(Protocol):
    """A result with a tidy frame."""

    @property
    def frame(self) -> pd.DataFrame: ...


@runtime_checkable
class Layered(Protocol):
    """A result at one layer."""

    @property
    def layer(self) -> int: ...


@runtime_checkable
class Sweep(Protocol):
    """The part of a sweep's result that is drawn."""

    def accuracy(self) -> pd.DataFrame:
        """One row per layer, direction and alpha, with n, correct, accuracy, low, high and change."""

    def transitions(self) -> pd.DataFrame:
        """One row per layer, direction and alpha, with the four counts of answers that changed or stayed."""


@runtime_checkable
class Preview(Framed, Protocol):
    """The part of a preview that is drawn."""

    @property
    def correlation(self) -> Any: ...


@runtime_checkable
class Learned(Protocol):
    """The part of a learned vector that is drawn."""

    @property
    def history(self) -> pd.DataFrame: ...


@runtime_checkable
class Control(Protocol):
    """The part of a random-direction control's result that is drawn."""

    @property
    def alpha(self) -> float | None: ...

    @property
    def layer(self) -> int | None: ...

    def changes(self) -> pd.DataFrame:
        """One row per direction, with is_control, accuracy, change and margin_change."""

    @property
    def rank_test(self) -> Callable[..., Any]:
        """The method that gives the Monte Carlo test, a steerlab.statistics.RankTest."""


@runtime_checkable
class Pipelines(Framed, Protocol):
    """The part of a comparison of whole pipelines that is drawn."""

    @property
    def kind(self) -> str: ...

    @property
    def goals(self) -> Sequence[str]: ...

    @property
    def test(self) -> Callable[..., Any]:
        """The method that gives the test of a goal, a steerlab.statistics.SequentialTest."""

    @property
    def cell(self) -> Callable[..., Any]:
        """The method that gives the layer and alpha chosen for a goal."""


@runtime_checkable
class Diagnostics(Framed, Protocol):
    """The part of a contrast's diagnostics that is drawn."""

    @property
    def n_positive(self) -> int: ...

    @property
    def n_negative(self) -> int: ...

    @property
    def paired(self) -> bool: ...


@runtime_checkable
class Vector(Layered, Protocol):
    """The part of a direction that is drawn; `vector` is [d_model] or [pos, d_model]."""

    @property
    def vector(self) -> Any: ...

    def token_norms(self) -> Any:
        """One norm per position."""


@runtime_checkable
class Magnitudes(Framed, Protocol):
    """The part of a magnitude analysis that is drawn."""

    def by_position(self) -> pd.DataFrame:
        """One row per layer and position, with n and the mean norm and projection."""


def expect(value: Expected, protocol: type, argument: str, expected: str) -> Expected:
    """Return `value` if it has the protocol's parts."""
    if isinstance(value, type) or not isinstance(value, protocol):
        raise InputTypeError(f"{argument}: got {type(value).__name__}; expected {expected}")
    return value


def need(frame: object, name: str, columns: Sequence[str]) -> pd.DataFrame:
    """Return `frame` if it is a DataFrame with rows and these columns."""
    if not isinstance(frame, pd.DataFrame):
        raise InputTypeError(f"{name}: got {type(frame).__name__}; expected a pandas DataFrame")
    missing = [column for column in columns if column not in frame.columns]
    if missing:
        raise InputError(f"{name}: no column {', '.join(missing)}; it has {listed(frame.columns)}")
    if frame.empty:
        raise InputError(f"{name}: no rows; a figure needs at least one")
    return frame


def listed(values: Iterable[object], most: int = 12) -> str:
    """Values in words for an error, the first `most` of them."""
    shown = [str(value)[:60] for value in values]
    rest = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + rest


def matrix(d: Vector, argument: str) -> np.ndarray:
    """A direction's vector as float64 [pos, d_model]."""
    vector = d.vector
    if hasattr(vector, "detach"):  # a tensor that may ask for gradients, be on a device or be bfloat16
        vector = vector.detach().cpu().double()
    values = np.atleast_2d(np.asarray(vector, dtype=np.float64))
    if values.ndim != 2 or values.size == 0:
        raise InputError(f"{argument}: vector of shape {values.shape}; expected [d_model] or [pos, d_model]")
    if not np.isfinite(values).all():
        raise InputError(f"{argument}: the vector has NaN or infinite values; find out where it was made")
    return values
