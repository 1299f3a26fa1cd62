"""Effects over problems crossed with prompt templates: of each template, between templates, and with both drawn anew."""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from steerlab._checks import RELATIVE_NOISE, check_pairs, check_rng, common_scale, count, group_numbers, open_share, reals
from steerlab._html import Result
from steerlab.statistics.groups import standard_error
from steerlab.statistics.intervals import Interval, clustered_interval, few_of

ENOUGH = 10  # templates from which a bootstrap over them has about the stated coverage
BLOCK = 1 << 22  # numbers held at once


@dataclass(frozen=True, eq=False)
class TemplateEffects(Result):
    """A mean change over problems and templates.

    Attributes:
        frame: one line a template: template, n, change, low, high (95%, by group).
        change: the mean over all.
        between: standard deviation of the templates' true effects (analysis of variance); 0 where their effects differ no more than by chance, NaN where
            fewer than 2 groups were asked with every template.
        draws: the mean change with groups and templates drawn anew.
        n_groups: groups of problems.
    """

    frame: pd.DataFrame
    change: float
    between: float
    draws: NDArray[np.float64]
    n_groups: int

    def interval(self, confidence: float = 0.95) -> Interval:
        """Percentile interval of the mean change, for other problems and other templates.

        Raises:
            ValueError: a confidence outside (0, 1).
        """
        tail = (1 - open_share(confidence, "confidence")) / 2
        low, high = np.quantile(self.draws, [tail, 1 - tail])
        few = few_of(len(self.frame), "templates", ENOUGH) or few_of(self.n_groups, "groups")
        return Interval(float(low), float(high), float(confidence), "two-way bootstrap, percentile", few)

    def summary(self) -> pd.DataFrame:
        """One line a template; see `frame`."""
        return self.frame

    def warnings(self) -> list[str]:
        """Where the interval is approximate."""
        return self.interval().warnings()

    def __repr__(self) -> str:
        return f"TemplateEffects({self})"

    def __str__(self) -> str:
        changes = self.frame["change"]
        return (
            f"mean change {self.change:.4g}, {self.interval()}; of {len(changes)} templates {changes.min():.4g} to {changes.max():.4g}, "
            f"standard deviation between them {self.between:.2g}"
        )


def template_effects(
    before: ArrayLike, after: ArrayLike, *, templates: ArrayLike, groups: ArrayLike, rng: np.random.Generator, n_resamples: int = 9999
) -> TemplateEffects:
    """Mean change of problems that were asked with several templates: per template, between templates, and by a two-way bootstrap.

    Args:
        before, after: one value an asking: right or wrong, or real values.
        templates: the template of each.
        groups: the problem (or its group) of each.
        rng: draws groups and templates.
        n_resamples: how often.

    Raises:
        ValueError: unequal lengths, fewer than 2 templates or groups, NaN or infinite values, labels of another length or missing.
        TypeError: rng is no generator.

    Source:
        Owen (2007), The pigeonhole bootstrap, Annals of Applied Statistics 1, 386-411; Searle, Casella and McCulloch (1992), Variance
        Components, chapter 4, for the variance between templates.

    Example:
        >>> changes = [1, 1, 0, 0, 1, 0, 0, 0]
        >>> rng = np.random.default_rng(0)
        >>> found = template_effects([0] * 8, changes, templates=list("ab" * 4), groups=list("wwxxyyzz"), rng=rng)
        >>> found.frame[["template", "n", "change"]].values.tolist()
        [['a', 4, 0.5], ['b', 4, 0.25]]
    """
    check_rng(rng)
    check_pairs(before, after)
    n_resamples = count(n_resamples, "n_resamples", at_least=2)
    was, now = reals(before, "before", at_least=2), reals(after, "after", at_least=2)
    changes, noise = now - was, RELATIVE_NOISE * common_scale(was, now)
    names, kinds = np.unique(np.asarray(templates).astype(str), return_inverse=True)
    kinds, units = group_numbers(kinds, changes.size), group_numbers(groups, changes.size)
    lines = []
    for k, name in enumerate(names):
        mine = kinds == k
        _, labels = np.unique(units[mine], return_inverse=True)
        mean, n = float(changes[mine].mean()), int(labels.max()) + 1
        error = standard_error(changes[mine], labels, noise) if n > 1 else math.nan
        interval = clustered_interval(mean, error, n - 1, 0.95) if n > 1 else Interval(-math.inf, math.inf, 0.95, "none")
        lines.append((str(name), int(mine.sum()), mean, interval.low, interval.high))
    frame = pd.DataFrame(lines, columns=["template", "n", "change", "low", "high"])
    shape = (len(names), int(units.max()) + 1)
    sums, sizes = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, (kinds, units), changes)
    np.add.at(sizes, (kinds, units), 1.0)
    draws, step = [], max(1, BLOCK // shape[1])
    for start in range(0, n_resamples, step):
        size = min(step, n_resamples - start)
        rows, columns = (rng.multinomial(n, np.full(n, 1 / n), size=size) for n in shape)
        weights = ((rows @ sizes) * columns).sum(axis=1)
        draws.append(((rows @ sums) * columns).sum(axis=1) / np.where(weights > 0, weights, np.nan))
    drawn = np.concatenate(draws)
    return TemplateEffects(frame, float(changes.mean()), _between(sums, sizes, noise), drawn[~np.isnan(drawn)], shape[1])


def _between(sums: NDArray[np.float64], sizes: NDArray[np.float64], noise: float) -> float:
    """Standard deviation of the templates' true effects, from the groups that were asked with every template."""
    whole = (sizes > 0).all(axis=0)
    if whole.sum() < 2:
        return math.nan
    cells = sums[:, whole] / sizes[:, whole]
    if np.ptp(cells.mean(axis=1)) <= noise:
        return 0.0
    of_template, of_group = cells.mean(axis=1, keepdims=True), cells.mean(axis=0, keepdims=True)
    rest = cells - of_template - of_group + cells.mean()
    n, m = cells.shape
    within = float((rest**2).sum()) / ((n - 1) * (m - 1))
    return math.sqrt(max(0.0, float(of_template.var(ddof=1)) - within / m))
