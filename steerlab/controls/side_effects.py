"""Side effects of steering: next-token distributions on neutral text, and predictions on other tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Unpack

import numpy as np
import pandas as pd

from steerlab._checks import InputError, one_of, only, takes_options
from steerlab._html import Result
from steerlab._progress import job
from steerlab.controls.control import ControlResult
from steerlab.controls.texts import NEUTRAL_TEXTS
from steerlab.directions.direction import Direction, Directions, moved
from steerlab.models.backends import Model
from steerlab.models.model import n_outputs, readable
from steerlab.statistics.controls import MEASURES
from steerlab.statistics.effects import pareto_front
from steerlab.statistics.intervals import wilson_interval
from steerlab.steering import ALPHAS
from steerlab.steering.distributions import NUMBERS, compare_distributions, text_rows
from steerlab.steering.options import ActedAt, SteerOptions, TextOptions
from steerlab.sweeps.sweep import KEYS, SweepResult, cells_of, placed_in, settings_of
from steerlab.tasks.problems import Problem, Text, as_problems, written

__all__ = ["SideEffects", "changed_predictions", "side_effects", "side_texts"]


@dataclass(frozen=True, eq=False)
class SideEffects(Result, by="kl"):
    """Changes of next-token distributions on text that has nothing to do with the task.

    Attributes:
        by_text: one line a layer, direction, alpha and text: positions (distributions compared), predicted (tokens of the
            text that were predicted: all but the first, and but those that the model's output vocabulary lacks), and sums over these: kl and entropy (nats), nll (nats, of the text's own tokens),
            changed (positions whose likeliest token is another one).
        baseline: the unsteered sums, one line a text: positions, predicted, entropy, nll.
        directions: the directions, in the order given.
        settings: operator, positions and sites.
    """

    by_text: pd.DataFrame
    baseline: pd.DataFrame
    directions: tuple[Direction, ...]
    settings: Mapping[str, Any]

    @cached_property
    def _frame(self) -> pd.DataFrame:
        sums = self.by_text.groupby(KEYS, sort=False)[["positions", "predicted", *NUMBERS]].sum().reset_index()
        before, n = self._unsteered, sums["positions"]
        with np.errstate(over="ignore"):  # a perplexity beyond floating point is infinite, and says so
            perplexity = np.exp((sums["nll"] / sums["predicted"]).to_numpy(float))
        return sums[["direction", "layer", "alpha"]].assign(
            kl=sums["kl"] / n,
            perplexity=perplexity,
            perplexity_change=perplexity - self.perplexity,
            entropy=sums["entropy"] / n,
            entropy_change=sums["entropy"] / n - float(before["entropy"] / before["positions"]),
            changed_predictions=sums["changed"] / n,
        )

    @cached_property
    def _unsteered(self) -> pd.Series:
        # Grouped, too, so that the sums are those at alpha = 0 to the bit.
        return self.baseline.groupby(np.zeros(len(self.baseline), dtype=int)).sum().iloc[0]

    @property
    def frame(self) -> pd.DataFrame:
        """One line a direction, layer and alpha, over all positions of all texts.

        Columns: direction, layer, alpha; kl, the mean of KL(unsteered || steered) in nats a token; perplexity of the
        texts and perplexity_change (minus the unsteered one); entropy in nats and entropy_change; changed_predictions, the
        share of positions whose likeliest next token is another one.
        """
        return self._frame.copy()

    @property
    def perplexity(self) -> float:
        """Perplexity of the texts without steering: exp of the mean negative log-probability of a token."""
        with np.errstate(over="ignore", invalid="ignore"):  # NaN where no token of the texts can be predicted
            return float(np.exp(self._unsteered["nll"] / self._unsteered["predicted"]))

    def kl(self, direction: Direction, alpha: float) -> float:
        """KL(unsteered || steered) in nats a token, of a direction that acted at one layer, at one alpha.

        Raises:
            ValueError: it was not measured.
        """
        rows = self._frame[(self._frame["direction"] == direction.name) & (self._frame["alpha"] == alpha)]
        if len(rows) > 1:  # one name at several layers
            rows = rows[rows["layer"] == direction.layer]
        if len(rows) != 1:
            raise InputError(f"{direction.name!r} at alpha={alpha:g}: {len(rows)} such cells were measured; ask for one that was")
        return float(rows["kl"].iloc[0])

    def against(self, effects: pd.DataFrame, *, measure: str = "accuracy", alternative: str = "two-sided") -> pd.DataFrame:
        """What each direction does to the task, beside what it does to everything else.

        Args:
            effects: one line a direction, with as many of layer and alpha as tell them apart, and the effect; such as
                ``SweepResult.accuracy()`` or ``ControlResult.changes()``.
            measure: "accuracy" (column change) or "margin" (column margin_change).
            alternative: which effects are better: "greater" ones, "less" ones, or (two-sided) larger ones of either sign.

        Returns:
            The lines of `effects` with direction, layer, alpha, is_control, correct and n (if they were there), the effect, kl, and
            dominant: whether no other line has as large an effect at no more KL and is better in one of the two.

        Raises:
            ValueError: an unknown measure or alternative, missing columns, lines that cannot be told apart, or a direction
                whose side effects were not measured.
        """
        one_of(measure, "measure", MEASURES)
        better = {"two-sided": np.abs, "greater": np.positive, "less": np.negative}
        if alternative not in better:
            raise InputError(f"alternative={alternative!r}: use 'two-sided', 'greater' or 'less'")
        column = MEASURES[measure]
        missing = [name for name in ("direction", column) if name not in effects]
        if missing:
            raise InputError(f"effects: no column {', '.join(missing)}; it has {', '.join(map(str, effects.columns))}")
        keys = [key for key in KEYS if key in effects]
        for name, frame in (("effects", effects), ("the side effects", self._frame)):
            if frame.duplicated(keys).any():
                raise InputError(f"{name}: several lines have one {' and '.join(keys)}; give effects with the columns {', '.join(KEYS)}")
        more = [name for name in ("is_control", "correct", "n") if name in effects]
        kept = [*keys, *more, column]
        table = effects[kept].merge(self._frame[[*KEYS, "kl"]], on=keys, how="left")
        unmeasured = table.loc[table["kl"].isna(), keys]
        if len(unmeasured):
            where = ", ".join(f"{key} {value}" for key, value in unmeasured.iloc[0].items())
            raise InputError(f"effects: side effects were not measured for {len(unmeasured)} lines, {where} first; measure all of them")
        table["dominant"] = pareto_front(better[alternative](table[column].to_numpy(float)), table["kl"].to_numpy(float))
        return table[[*(key for key in ("direction", "layer", "alpha") if key in table), *more, column, "kl", "dominant"]]

    def warnings(self) -> list[str]:
        """What a reader must know: directions that changed no distribution at all."""
        still = self._frame[(self._frame["alpha"] != 0) & (self._frame["kl"] == 0)]
        return [
            f"Layer {layer}, {direction}: steering changed no distribution in {len(cells)} cells; it did not act on these texts."
            for (layer, direction), cells in still.groupby(["layer", "direction"], sort=True)
        ] + moved(self.directions)

    def __repr__(self) -> str:
        return f"SideEffects({len(self._frame)} cells x {len(self.baseline)} texts, unsteered perplexity {self.perplexity:.3g}, largest KL {self._frame['kl'].max():.3g})"


@job("texts", "directions", "alphas")
@takes_options
def side_effects(
    model: Model,
    directions: Directions,
    texts: Sequence[str | Sequence[int]] = NEUTRAL_TEXTS,
    *,
    alphas: float | Sequence[float] = ALPHAS,
    **options: Unpack[SteerOptions],
) -> SideEffects:
    """Changes of next-token distributions on neutral text, for each direction and alpha.

    Each text runs once, and every direction and alpha goes on from the steered block. Logits of the whole vocabulary are
    held for a few positions at a time only.

    Args:
        directions: one, several (each with its own name at its layer), or {layer: direction}. For a Pareto plot with
            controls, ``[ctl.direction, *ctl.controls]`` of a `ControlResult`.
        texts: texts that have nothing to do with the task, or lists of token ids; default 24 everyday sentences.
        alphas: coefficients; at 0 every change is exactly 0.

    Raises:
        ValueError: no texts, texts without a second token, tokens that the model lacks, texts that are mostly unknown to
            its tokenizer, bad directions, alphas, layers, sites or positions, or logits that become NaN.
        RuntimeError: the resumed run disagrees with a plain hooked run.

    Example:
        >>> import steerlab as sl, torch
        >>> model = sl.load_model("tiny-arithmetic")
        >>> prompts = [problem.prompt for problem in sl.load_task("arithmetic").test[:3]]
        >>> direction = sl.Direction(torch.ones(model.cfg.d_model), layer=1)
        >>> found = sl.side_effects(model, direction, prompts, alphas=[0, 1, 2])
        >>> found.frame["kl"].tolist()[0], found.frame["kl"].is_monotonic_increasing
        (0.0, True)
    """
    cells = cells_of(directions, alphas, **only(options, ActedAt))
    rows = text_rows(model, texts)
    base, steered = compare_distributions(model, rows, cells, **only(options, TextOptions))
    predicted = [sum(token < n_outputs(model) for token in row.tokens[1:]) for row in rows]
    counts = {"text": range(len(rows)), "positions": [len(row.tokens) for row in rows], "predicted": predicted}
    parts = [
        pd.DataFrame({"layer": cell.layer, "direction": cell.name, "alpha": cell.alpha, **counts} | dict(zip(NUMBERS, sums.T, strict=True)))
        for cell, sums in zip(cells, steered, strict=True)
    ]
    baseline = pd.DataFrame(counts | dict(zip(NUMBERS, base.T, strict=True))).drop(columns=["kl", "changed"])
    places = placed_in(cells)
    settings, given = settings_of(options["operator"], options["positions"], places), tuple(one.direction for one in places)
    return SideEffects(pd.concat(parts, ignore_index=True), baseline, given, settings)


def joined(parts: Sequence[SideEffects]) -> SideEffects:
    """Side effects of several runs on the same texts, as one.

    Raises:
        ValueError: no parts, or other texts, settings or unsteered numbers.
    """
    if not parts:
        raise InputError("no side effects given; give at least one")
    first = parts[0]
    for part in parts[1:]:
        # Not to the bit: texts that run in other batches differ by rounding.
        same = part.baseline.shape == first.baseline.shape and np.allclose(part.baseline, first.baseline, rtol=1e-4)
        if not same or dict(part.settings) != dict(first.settings):
            raise InputError("the side effects are of other texts, operators or positions; measure them alike")
    by_text = pd.concat([part.by_text for part in parts], ignore_index=True).drop_duplicates([*KEYS, "text"], ignore_index=True)
    return SideEffects(by_text, first.baseline, tuple(d for part in parts for d in part.directions), first.settings)


def side_texts(model: Model, problems: Sequence[Problem], *, n: int = len(NEUTRAL_TEXTS)) -> tuple[list[Text], str]:
    """Texts to measure side effects on, and a description: everyday sentences, or prompts for a model that cannot read them.

    Args:
        problems: whose prompts (where there are none: first choices) stand in.
        n: at most so many prompts.

    Raises:
        ValueError: no problems.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> side_texts(model, task.validation, n=8)[1]  # this model knows no words
        'the prompts of 8 problems, because this model cannot read everyday sentences'
    """
    as_problems(problems)
    if readable(model, NEUTRAL_TEXTS):
        return list(NEUTRAL_TEXTS), f"{len(NEUTRAL_TEXTS)} everyday sentences"
    if not problems:
        raise InputError("no problems given whose prompts could be read; give texts")
    prompts = [p.prompt if written(p.prompt).strip() or not p.choices else p.choices[0] for p in problems[:n]]
    return prompts, f"the prompts of {len(prompts)} problems, because this model cannot read everyday sentences"


def changed_predictions(result: SweepResult | ControlResult, *, confidence: float = 0.95) -> pd.DataFrame:
    """Share of problems whose prediction differs from the unsteered one, right or wrong: a side effect on another task.

    Args:
        result: a sweep, or controls, on problems of a task that the direction was not found on.
        confidence: of the Wilson intervals.

    Returns:
        One line a layer, direction and alpha (of a control result, a direction and is_control): n, changed, share, low, high.

    Raises:
        ValueError: a confidence outside (0, 1).

    Example:
        >>> import steerlab as sl, torch
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> direction = sl.Direction(torch.ones(model.cfg.d_model), layer=3)
        >>> sw = sl.sweep(model, task.validation[:20], direction, alphas=[-1, 0, 1])
        >>> table = sl.changed_predictions(sw)
        >>> table.loc[table["alpha"] == 0, ["n", "changed", "share"]].values.tolist()
        [[20.0, 0.0, 0.0]]
    """
    before = result.baseline.frame.set_index("problem_id")["prediction"]
    frame = result.frame.assign(changed=result.frame["prediction"].to_numpy() != before.loc[result.frame["problem_id"]].to_numpy())
    keys = [key for key in (*KEYS, "is_control") if key in frame]
    table = frame.groupby(keys, sort=False)["changed"].agg(n="size", changed="sum").reset_index()
    table["share"] = table["changed"] / table["n"]
    lows, highs = zip(
        *(wilson_interval(int(k), int(n), confidence=confidence) for k, n in zip(table["changed"], table["n"], strict=True)), strict=True
    )
    return table.assign(low=lows, high=highs)
