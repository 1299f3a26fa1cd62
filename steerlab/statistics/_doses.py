"""The input of the dose-response functions, checked and in order of alpha, and its bootstrap over problems."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from steerlab._checks import RELATIVE_NOISE, InputError, common_scale, problem_table, reals

BLOCK = 1 << 21


@dataclass(frozen=True, eq=False)
class Doses:
    """Responses in order of rising alpha.

    Attributes:
        alphas: rising.
        table: [problem, alpha]; one row if only means were given.
        by_problem: whether rows are problems.
        noise: differences up to this size are rounding.
    """

    alphas: NDArray[np.float64]
    table: NDArray[np.float64]
    by_problem: bool
    noise: float

    @property
    def means(self) -> NDArray[np.float64]:
        """One mean per alpha."""
        return np.asarray(self.table.mean(axis=0), dtype=np.float64)

    @property
    def n_problems(self) -> int | None:
        """How many problems there are; None for means."""
        return self.table.shape[0] if self.by_problem else None

    def ranks(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Ranks within each row, from 1, ties averaged; rounding does not break a tie."""
        return np.asarray(rankdata(np.round(values / self.noise) if self.noise else values, axis=1), dtype=np.float64)


def read_doses(alphas: ArrayLike, values: ArrayLike | pd.DataFrame) -> Doses:
    """Check alphas against values, [problem, alpha] or one mean per alpha, and sort both by alpha.

    Raises:
        ValueError: fewer than 3 alphas or 2 problems, alphas that repeat, another number of columns than of alphas,
            columns called after the alphas but in another order, NaN or infinite values.
    """
    doses = reals(alphas, "alphas", at_least=3)
    order = np.argsort(doses, kind="stable")
    repeated = doses[order][1:][np.diff(doses[order]) == 0]
    if repeated.size:
        raise InputError(f"alphas holds {repeated[0]:g} twice; give one column per alpha")
    by_problem = np.ndim(values) == 2
    if by_problem:
        table, labels = problem_table(values, "values", columns="alpha", at_least=2)
        _check_labels(doses, labels if isinstance(values, pd.DataFrame) else pd.Index(doses))
    else:
        table = reals(values, "values", at_least=1)[None, :]
    if table.shape[1] != doses.size:
        raise InputError(f"alphas and values have {doses.size} and {table.shape[1]} doses; give one column, or one mean, per alpha")
    return Doses(doses[order], table[:, order], by_problem, RELATIVE_NOISE * common_scale(table))


def bootstrap_means(doses: Doses, n_resamples: int, rng: np.random.Generator) -> NDArray[np.float64] | None:
    """Means [draw, alpha] of problems drawn with replacement, whole rows at a time; None if only means are known."""
    if not doses.by_problem:
        return None
    n = doses.table.shape[0]
    step = max(1, BLOCK // n)
    means = []
    for start in range(0, n_resamples, step):
        size = min(step, n_resamples - start)
        drawn = rng.integers(0, n, size=(size, n)) + n * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        means.append(times @ doses.table / n)
    return np.concatenate(means)


def _check_labels(doses: NDArray[np.float64], labels: pd.Index) -> None:
    # Columns called after other things than the alphas say nothing about their order.
    named = labels.to_numpy()
    if named.dtype.kind in "iuf" and named.size == doses.size and set(named) == set(doses) and (named != doses).any():
        raise InputError("values has the alphas as columns, in a different order; use values[alphas]")
