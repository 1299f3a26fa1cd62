"""Before steering: do two groups of activations differ along one direction, and is it the same on other problems?"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from steerlab._checks import InputError, check_rng
from steerlab._html import OneLine, Plotted
from steerlab.activations.cache import Activations
from steerlab.directions.estimators import mean_difference
from steerlab.statistics.separability import (
    AUC,
    DirectionalAgreement,
    SplitHalf,
    cross_validated_auc,
    directional_agreement,
    effective_dimension,
    effective_size,
    split_half_cosines,
)


@dataclass(frozen=True)
class LayerDiagnostics(OneLine):
    """The contrast at one layer.

    Attributes:
        layer: 0-based block.
        norm: length of the mean difference, in units of the residual stream.
        auc: of the projection on the mean difference of other folds.
        stability: cosines between the mean differences of random halves.
        agreement: of per-problem differences, where the groups are pairs.
        effective_dimension: participation ratio of the activations around their groups' means (of pairs: of the differences).
        effective_n: problems in each group of a balanced contrast, none of them copies, whose mean difference is as well
            known: the harmonic mean of the groups' effective sizes; of pairs, the effective number of pairs.
    """

    layer: int
    norm: float
    auc: AUC
    stability: SplitHalf
    agreement: DirectionalAgreement | None
    effective_dimension: float
    effective_n: float

    def summary(self) -> pd.DataFrame:
        """One line of `ContrastDiagnostics.frame`."""
        interval, spread = self.auc.interval(), self.stability.quantiles()
        line = {"layer": self.layer, "auc": self.auc.value, "auc_low": interval.low, "auc_high": interval.high}
        line |= {"stability": self.stability.median, "stability_low": spread[0], "stability_high": spread[1]}
        line |= {"reliability": self.stability.reliability}
        if self.agreement is not None:
            line |= {"agreement": self.agreement.mean, "against": self.agreement.share_against}
        return pd.DataFrame([line | {"norm": self.norm, "effective_dimension": self.effective_dimension, "effective_n": self.effective_n}])

    def __str__(self) -> str:
        return f"Contrast at layer {self.layer}"


@dataclass(frozen=True, eq=False)
class ContrastDiagnostics(Plotted, figure="separability"):
    """Separability and stability of the contrast of two groups of activations, layer by layer.

    Attributes:
        layers: one a layer.
        n_positive, n_negative: problems.
        paired: whether row i of both is one problem.
    """

    layers: tuple[LayerDiagnostics, ...]
    n_positive: int
    n_negative: int
    paired: bool

    @cached_property
    def _frame(self) -> pd.DataFrame:
        return pd.concat([one.summary() for one in self.layers], ignore_index=True)

    @property
    def frame(self) -> pd.DataFrame:
        """One line a layer.

        Columns: layer; auc with auc_low and auc_high (95%); stability, the median cosine between halves, with
        stability_low and stability_high (90% of splits), and reliability, the cosine to expect between sets of this size;
        of pairs, agreement, the mean cosine of a difference with the others' mean, and against, the share of problems that
        point away from it; norm (residual-stream units), effective_dimension and effective_n (problems a group).
        """
        return self._frame.copy()

    def at(self, layer: int) -> LayerDiagnostics:
        """One layer.

        Raises:
            ValueError: a layer that was not measured.
        """
        for one in self.layers:
            if one.layer == layer:
                return one
        raise InputError(f"layer={layer}: these are of layers {', '.join(str(one.layer) for one in self.layers)}")

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> "ContrastDiagnostics":
        """What `dataclasses.asdict` made of one, perhaps by way of JSON."""

        def read(kind: Callable[..., Any], about: Mapping[str, Any] | None) -> Any:
            return about and kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in about.items()})

        kinds: dict[str, Callable[..., Any]] = {"auc": AUC, "stability": SplitHalf, "agreement": DirectionalAgreement}
        layers = [LayerDiagnostics(**{**one, **{key: read(kind, one[key]) for key, kind in kinds.items()}}) for one in record["layers"]]
        return cls(tuple(layers), record["n_positive"], record["n_negative"], record["paired"])

    def warnings(self) -> list[str]:
        """Layers at which steering with the mean difference rests on little."""
        said = []
        table = self._frame
        for mask, why in (
            (
                (table["auc_low"] <= 0.5) & (table["auc_high"] >= 0.5),
                "held-out problems are not separated (the AUC's interval contains 0.5)",
            ),
            (table["stability_low"] <= 0, "directions of random halves have a cosine of 0 or below in at least one split of twenty"),
        ):
            if mask.any():
                said.append(f"Layer {', '.join(map(str, table.loc[mask, 'layer']))}: {why}.")
        smallest = float(table["effective_n"].min())
        if 2 * smallest < min(self.n_positive, self.n_negative):
            said.append(f"Many problems are copies of each other: {self.n_positive} and {self.n_negative} count as {smallest:.3g} a group.")
        return said

    def __repr__(self) -> str:
        best = max(self.layers, key=lambda one: (one.auc.value, one.stability.median))
        kind = f"{self.n_positive} pairs" if self.paired else f"{self.n_positive} against {self.n_negative}"
        return (
            f"ContrastDiagnostics({kind}, {len(self.layers)} layers; layer {best.layer}: held-out AUC {best.auc.value:.3f}, "
            f"cosine between halves {best.stability.median:.2f})"
        )


def contrast_diagnostics(
    positive: Activations,
    negative: Activations,
    *,
    rng: np.random.Generator,
    layers: int | Sequence[int] | None = None,
    pairs: bool | None = None,
    folds: int = 5,
    splits: int = 200,
) -> ContrastDiagnostics:
    """Whether there is a direction between two groups of activations, and how stable it is; no model is run.

    Folds and halves are the same at every layer, so that layers can be compared. Choosing a layer by these numbers is a
    choice on these problems; test it on others.

    Args:
        positive, negative: activations ``[problem layer pos d_model]`` of two groups, cached alike; several positions count
            as one long vector.
        rng: draws folds and halves.
        layers: one or several of the cached layers; default all.
        pairs: whether both groups hold the same problems (with a prompt of each kind), which then stay together in folds
            and halves. Default: whether their problem ids are the same.
        folds: of the cross-validation.
        splits: random halves.

    Raises:
        ValueError: groups that differ in model, site or positions or do not differ in activations, fewer problems than
            folds, a layer that was not cached, or pairs whose ids are not the same.
        TypeError: rng is no generator.

    Source:
        For each number, see `steerlab.statistics.cross_validated_auc`, `split_half_cosines`, `directional_agreement`,
        `effective_dimension` and `effective_size`.

    Example:
        >>> import torch
        >>> noise = torch.from_numpy(np.random.default_rng(0).standard_normal((40, 2, 1, 16))).float()
        >>> noise[:20, 1] += 1.0  # the groups differ at the second layer only
        >>> ids, mask = tuple(f"p{i}" for i in range(40)), torch.ones(40, 1, dtype=torch.bool)
        >>> acts = Activations(noise, mask, ids, (3, 6), "resid_post", "last", {})
        >>> found = contrast_diagnostics(acts.select(ids[:20]), acts.select(ids[20:]), rng=np.random.default_rng(1))
        >>> (found.frame["auc"] > 0.9).tolist()
        [False, True]
    """
    check_rng(rng)
    positive, negative, paired = _paired(positive, negative, pairs)
    if layers is None:
        layers = positive.layers
    chosen = (int(layers),) if isinstance(layers, int | np.integer) else tuple(layers)
    if not chosen:
        raise InputError("layers is empty; give at least one of the cached layers, or leave it out")
    seed = int(rng.integers(2**63))
    found = []
    for layer in chosen:
        norm = mean_difference(positive, negative, layer=layer).norm
        ours, theirs = (group.at(layer).flatten(1).double().numpy() for group in (positive, negative))
        fold_rng, half_rng = (np.random.default_rng([seed, stream]) for stream in range(2))
        area = cross_validated_auc(ours, theirs, rng=fold_rng, folds=folds, paired=paired)
        stability = split_half_cosines(ours, theirs, rng=half_rng, splits=splits, paired=paired)
        agreement = directional_agreement(ours - theirs) if paired else None
        around = ours - theirs if paired else np.concatenate([ours - ours.mean(0), theirs - theirs.mean(0)])
        sizes = [effective_size(ours - theirs)] if paired else [effective_size(ours), effective_size(theirs)]
        effective_n = len(sizes) / sum(1 / size for size in sizes)
        found.append(LayerDiagnostics(int(layer), norm, area, stability, agreement, effective_dimension(around), effective_n))
    return ContrastDiagnostics(tuple(found), len(positive.problem_ids), len(negative.problem_ids), paired)


def _paired(positive: Activations, negative: Activations, pairs: bool | None) -> tuple[Activations, Activations, bool]:
    """The groups, row i of both one problem if they are pairs, and whether they are."""
    ours, theirs = positive.problem_ids, negative.problem_ids
    common = set(ours) & set(theirs)
    same = len(common) == len(ours) == len(theirs) and len(common) > 0
    if pairs is False or (pairs is None and not common):
        return positive, negative, False
    if not same:
        raise InputError(
            f"the groups have {len(ours)} and {len(theirs)} problems, {len(common)} of them in common; give both the same problems (pairs), "
            "or none in common, or say pairs=False"
        )
    return positive, negative.select(ours), True
