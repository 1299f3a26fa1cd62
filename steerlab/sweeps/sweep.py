"""Layer x alpha sweeps: the dose-response of one or several directions, problem by problem."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Unpack

import numpy as np
import pandas as pd

from steerlab._checks import Alternative, InputError, one_of, only, takes_options
from steerlab._html import Plotted, few, figure
from steerlab._progress import job
from steerlab.activations.cache import cache_activations
from steerlab.activations.positions import Positions, TokenPositions
from steerlab.directions.direction import Direction, Directions, as_directions, check_alike, moved, site_of
from steerlab.models.backends import Model
from steerlab.models.memory import Limits
from steerlab.models.model import Precision
from steerlab.statistics.dose_response import DoseResponse, dose_response
from steerlab.statistics.intervals import wilson_interval
from steerlab.statistics.multiplicity import MaxStatisticTest, max_statistic_test
from steerlab.steering import ALPHAS
from steerlab.steering.cells import run_interventions
from steerlab.steering.interventions import check_alpha
from steerlab.steering.operators import Operator, operator_label
from steerlab.steering.options import ActedAt, CellOptions, RunOptions
from steerlab.steering.variants import Intervention, Placed, check_names
from steerlab.tasks.evaluation import Evaluation, plan
from steerlab.tasks.groups import groups_of
from steerlab.tasks.problems import Problem
from steerlab.tasks.scorers import scorer_for

KEYS = ["layer", "direction", "alpha"]
MEASURES = ("correct", "margin", "nll")
SCALED = ("add", "rotate")  # operators under which a shorter vector does less, down to nothing
MEASURED_ON = 64  # problems that tell the stream's norm


@dataclass(frozen=True, eq=False)
class SweepResult(Plotted, figure="layer_alpha_heatmap"):
    """Outcomes of every layer, direction and alpha of a sweep, problem by problem.

    Attributes:
        frame: one line a layer, alpha, direction and problem: layer, alpha, direction, problem_id, prediction, correct,
            margin, nll. At alpha = 0 the lines are the baseline's.
        baseline: the unsteered evaluation.
        directions: the directions, in the order given.
        checks: one line a cell: did the intervention act, how far did it move the stream, and the numbers read.
        settings: operator, positions, site and scorer.
        precision: how a lower precision compares with the model's own, where one was asked for.
    """

    frame: pd.DataFrame
    baseline: Evaluation
    directions: tuple[Direction, ...]
    checks: pd.DataFrame
    settings: Mapping[str, Any]
    precision: Precision | None = None

    @property
    def resid_norms(self) -> dict[int, float]:
        """Median norm of the unsteered stream at the last prompt token, by layer; empty where a vector's length does not tell how much it does."""
        return {int(layer): float(norm) for layer, norm in self.settings.get("resid_norms", ())}

    def accuracy(self) -> pd.DataFrame:
        """One line a cell: layer, direction, alpha, dose (relative, where known), n, correct, accuracy, low, high (95% Wilson), change, margin_change, nll_change."""
        return self._accuracy.copy()

    @cached_property
    def _accuracy(self) -> pd.DataFrame:
        grouped = self.frame.groupby(KEYS, sort=True, observed=True)
        table = grouped.agg(n=("correct", "size"), correct=("correct", "sum"), margin=("margin", "mean"), nll=("nll", "mean")).reset_index()
        table["accuracy"] = table["correct"] / table["n"]
        table["low"], table["high"] = zip(
            *(wilson_interval(int(k), int(n)) for k, n in zip(table["correct"], table["n"], strict=True)), strict=True
        )
        table["change"] = table["accuracy"] - self.baseline.accuracy
        for measure in ("margin", "nll"):
            table[f"{measure}_change"] = table.pop(measure) - float(self.baseline.frame[measure].mean())
        if norms := self.resid_norms:
            lengths = {one.name: one.norm for one in self.directions} | {(one.layer, one.name): one.norm for one in self.directions}
            cells = zip(table["layer"], table["direction"], table["alpha"], strict=True)
            doses = [
                abs(alpha) * lengths.get((layer, name), lengths[name]) / norms[layer] if layer in norms else np.nan
                for layer, name, alpha in cells
            ]
            table.insert(3, "dose", doses)
        return table

    def transitions(self) -> pd.DataFrame:
        """One line a cell: how many problems stayed right, became right, became wrong and stayed wrong."""
        before = self.frame["problem_id"].map(self.baseline.frame.set_index("problem_id")["correct"]).astype(bool)
        after = self.frame["correct"].astype(bool)
        kinds = {"stayed_right": before & after, "became_right": ~before & after}
        kinds |= {"became_wrong": before & ~after, "stayed_wrong": ~before & ~after}
        return self.frame[KEYS].assign(**kinds).groupby(KEYS, sort=True, observed=True).sum().reset_index()

    def paired(self, measure: str = "correct") -> tuple[pd.Series, pd.DataFrame]:
        """Each problem unsteered, and in every steered cell: what the tests of `steerlab.statistics` take.

        Args:
            measure: "correct", "margin" or "nll".

        Returns:
            One value a problem, and a frame with a line a problem and a column a cell (layer, direction, alpha), alpha = 0 left out.

        Raises:
            ValueError: another measure.
        """
        _check_measure(measure)
        before = self.baseline.frame.set_index("problem_id")[measure]
        steered = self.frame[self.frame["alpha"] != 0]
        after = steered.pivot_table(index="problem_id", columns=KEYS, values=measure, aggfunc="first", observed=True)
        return before, after.loc[before.index].astype(before.dtype)

    def max_statistic_test(
        self, *, rng: np.random.Generator, measure: str = "correct", alternative: Alternative = "two-sided"
    ) -> MaxStatisticTest:
        """Is the best cell better than the best of so many cells would be by chance? By group, where problems have groups.

        See `steerlab.statistics.max_statistic_test`.
        """
        groups = groups_of(self.baseline.problems)
        related = groups if len(set(groups)) < len(groups) else None
        return max_statistic_test(*self.paired(measure), rng=rng, alternative=alternative, groups=related)

    def dose_response(
        self, *, rng: np.random.Generator, layer: int | None = None, direction: str | None = None, measure: str = "correct"
    ) -> DoseResponse:
        """Trend, fits and asymmetry over alpha at one layer; see `steerlab.statistics.dose_response`.

        Args:
            rng: for the permutations and the bootstrap.
            layer, direction: which cells; may be left out where the sweep has one.
            measure: "correct", "margin" or "nll".

        Raises:
            ValueError: several layers or directions and none chosen, none left, or fewer alphas than a trend needs.
        """
        _check_measure(measure)
        at, name = self.line(layer, direction)
        mine = self.frame[(self.frame["layer"] == at) & (self.frame["direction"] == name)]
        values = mine.pivot_table(index="problem_id", columns="alpha", values=measure, aggfunc="first").astype(float)
        return dose_response(values.columns.to_numpy(float), values.to_numpy(float), rng=rng)

    def line(self, layer: int | None = None, direction: str | None = None) -> tuple[int, str]:
        """The one layer and direction of the sweep, or of those chosen.

        Raises:
            ValueError: several, or none.
        """
        lines = self.frame[["layer", "direction"]].drop_duplicates()
        chosen = lines[((lines["layer"] == layer) | (layer is None)) & ((lines["direction"] == direction) | (direction is None))]
        if len(chosen) != 1:
            shown = ", ".join(f"layer {line.layer} ({line.direction})" for line in (chosen if len(chosen) else lines).itertuples())
            raise InputError(f"layer={layer!r}, direction={direction!r} leaves {len(chosen)} of the sweep's lines; choose one of {shown}")
        return int(chosen["layer"].iloc[0]), str(chosen["direction"].iloc[0])

    def best(self, *, sign: int = 0) -> pd.Series:
        """The cell of highest accuracy, alpha = 0 left out; equals go to the larger mean margin, then the smaller alpha.

        Args:
            sign: 1 for positive alphas only, -1 for negative ones, 0 for both.

        Raises:
            ValueError: no such alpha in the sweep.
        """
        table = self._accuracy
        table = table[(table["alpha"] * sign > 0) if sign else (table["alpha"] != 0)]
        if table.empty:
            raise InputError(f"sign={sign}: the sweep has no such alpha; its alphas are {sorted(set(self.frame['alpha']))}")
        return ranked(table).iloc[0]

    def warnings(self) -> list[str]:
        """What a reader must know: interventions that never acted, or that changed nothing that was read."""
        return inert(self.checks) + moved(self.directions) + ([str(self.precision)] if self.precision else [])

    def report_parts(self) -> dict[str, Any]:
        """What `steerlab.write_report` shows of it: question, answer, figures and tables in words."""
        from steerlab.sweeps.changes import changed_problems

        interval, best, changes = self.baseline.interval(), self.best(), changed_problems(self)
        if self.frame["layer"].nunique() > 1:
            question = "At which layer and alpha does the direction move accuracy?"
            drawn = [("Change of accuracy by layer and alpha.", self.plot())]
        else:
            question = f"How does accuracy depend on alpha at layer {int(best['layer'])}?"
            drawn = [("Accuracy against alpha, with 95% Wilson intervals.", self.plot())]
            drawn.append(("Problems that became right or wrong.", figure("transition_matrix", self)))
        answer = (
            f"Unsteered accuracy is {100 * self.baseline.accuracy:.1f}% of {self.baseline.n} problems (95% interval {100 * interval.low:.1f}% to "
            f"{100 * interval.high:.1f}%). The highest of {len(self._accuracy)} cells is layer {int(best['layer'])}, alpha {best['alpha']:+g}, with "
            f"{100 * best['change']:+.1f} points. It is the best of many, and no test was made; random_control.py makes one on problems of their own."
        )
        tables = {"accuracy": ("Every cell, with 95% Wilson intervals.", self.accuracy()), "results": ("", self.frame)}
        figures = [(*one, "", changes) for one in drawn]
        return self._page("Sweep", question, "", tables, answer=answer, figures=figures, directions=self.directions)

    def __repr__(self) -> str:
        cells, n = len(self._accuracy), self.baseline.n
        return f"SweepResult({cells} cells x {n} problems, baseline accuracy {self.baseline.accuracy:.3f})"

    def summary(self) -> pd.DataFrame:
        """The cells of largest change, at most 30: lines of `accuracy`."""
        return few(self._accuracy, "change")

    def plot(self, **options: Any) -> Any:
        """Accuracy by layer and alpha, or over alpha where there is one layer; options are those of the figure in `steerlab.plots`."""
        return figure("layer_alpha_heatmap" if self.frame["layer"].nunique() > 1 else "alpha_progression", self, **options)


def _check_measure(measure: str) -> None:
    one_of(measure, "measure", MEASURES)


def ranked(table: pd.DataFrame) -> pd.DataFrame:
    """Cells by accuracy, then the mean margin, then the smaller alpha, then the lower layer; best first."""
    keys = ["accuracy", "margin_change", "size", "layer"]
    return (
        table.assign(size=table["alpha"].abs()).sort_values(keys, ascending=[False, False, True, True], kind="stable").drop(columns="size")
    )


def inert(checks: pd.DataFrame) -> list[str]:
    """Sentences on cells that are no evidence of "no effect": the hook never fired, or nothing that was read changed."""
    said = []
    for (layer, direction), cells in checks[checks["alpha"] != 0].groupby(["layer", "direction"], sort=True):
        still = (cells["calls"] > 0) & (cells["score_change"] == 0)
        absorbed = cells.loc[still, "resid_change"].max() > 0
        why = "the stream was moved, but no position that is read depends on it" if absorbed else "it was too small to move the stream"
        kinds = (
            (
                ~np.isfinite(cells["resid_change"]),
                "COUNTED moved the stream beyond what its dtype holds; their scores mean nothing. Use a smaller alpha.",
            ),
            (cells["score_change"].isna(), "COUNTED gave NaN scores, which count as wrong; alpha is too large for this dtype."),
            (cells["calls"] == 0, "the intervention never acted in COUNTED; those cells show nothing."),
            (still, f"COUNTED changed no number that is read ({why}); this is not evidence of no effect."),
        )
        counted = [(int(which.sum()), text) for which, text in kinds]
        said += [f"Layer {layer}, {direction}: " + text.replace("COUNTED", f"{n} of {len(cells)} cells") for n, text in counted if n]
    return said


def cells_of(
    directions: Directions, alphas: float | Sequence[float], *, layer: int | None = None, site: str | None = None, together: bool = False
) -> list[Intervention]:
    """Every direction (or all of them together) at every alpha."""
    placed = as_directions(directions, needs="a sweep needs at least one")
    if layer is not None and any(at is not None for _, at in placed):
        raise InputError(f"layer={layer}: the directions are given as {{layer: direction}}, which says where each acts; leave layer out")
    alphas = [check_alpha(alpha) for alpha in ([alphas] if isinstance(alphas, int | float) else alphas)]
    if not alphas or len(set(alphas)) < len(alphas):
        raise InputError(f"alphas={list(alphas)}; give at least one, each once")
    places = [Placed(d, site_of(d, layer if at is None else at, site)) for d, at in placed]
    if together:
        check_alike([one.direction for one in places], layers=False)
    interventions = [tuple(places)] if together else [(one,) for one in places]
    cells = [Intervention(acting, alpha) for acting in interventions for alpha in alphas]
    check_names([(cell.layer, cell.name) for cell in cells[:: len(alphas)]])
    return cells


def placed_in(cells: Sequence[Intervention]) -> list[Placed]:
    """Every place of cells once, in their order."""
    return list(dict.fromkeys(one for cell in cells for one in cell.places))


def settings_of(operator: str | Operator, positions: Positions, places: Sequence[Placed]) -> dict[str, Any]:
    """How directions acted, as results say it."""
    sites = sorted({one.at.site for one in places})
    return {"operator": operator_label(operator), "positions": TokenPositions.of(positions).describe(), "sites": sites}


def _norms(model: Model, problems: Sequence[Problem], places: Sequence[Placed], options: RunOptions) -> list[list[float]]:
    """Pairs of a layer and the median norm of the stream there, at the last token of the first prompts that have several."""
    rows = plan(model, problems[:MEASURED_ON], scorer_for(problems, options["scorer"])).rows
    prompts = dict.fromkeys(row.tokens[: row.prompt_length] for row in rows if row.prompt_length > 1)
    asked, found = [Problem(str(k), tokens, tokens[-1:]) for k, tokens in enumerate(prompts)], dict[int, float]()
    for site in dict.fromkeys(one.at.site for one in places):
        layers = sorted({one.at.layer for one in places if one.at.site == site} - set(found))
        if asked and layers:
            limits = only(options, Limits)
            found |= cache_activations(model, asked, layers=layers, site=site, **limits).norms()
    return [[layer, norm] for layer, norm in sorted(found.items())]


@job("problems", "directions", "alphas")
@takes_options
def sweep(
    model: Model,
    problems: Sequence[Problem],
    directions: Directions,
    *,
    alphas: float | Sequence[float] = ALPHAS,
    together: bool = False,
    **options: Unpack[RunOptions],
) -> SweepResult:
    """Outcomes of every problem under each direction at each alpha.

    Each batch runs once up to the steered blocks; every alpha and direction resumes from there, in one larger batch.

    Args:
        problems: what to ask.
        directions: one, a list, or ``{layer: direction}``, where each acts at its key.
        alphas: one or several coefficients; see `ALPHAS`.
        together: the directions act at the same time, each at its own layer, as one intervention.

    Raises:
        ValueError: bad input, found before the first run.
        RuntimeError: the resumed run disagrees with a plain hooked run.

    Example:
        >>> import steerlab as sl, torch
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> direction = sl.Direction(torch.ones(model.cfg.d_model), layer=3)
        >>> sw = sl.sweep(model, task.validation[:20], direction, alphas=[-1, 0, 1])
        >>> sw.accuracy()[["alpha", "n", "change"]].query("alpha == 0")
           alpha   n  change
        1    0.0  20     0.0
        >>> len(sw.frame)
        60
    """
    cells = cells_of(directions, alphas, together=together, **only(options, ActedAt))
    done = run_interventions(model, problems, cells, **only(options, CellOptions))
    parts = [frame.assign(layer=cell.layer, alpha=cell.alpha, direction=cell.name) for cell, frame in zip(cells, done.frames, strict=True)]
    columns = ["layer", "alpha", "direction", "problem_id", "prediction", "correct", "margin", "nll"]
    places = placed_in(cells)
    settings = settings_of(options["operator"], options["positions"], places) | {"scorer": done.baseline.scorer}
    if options["operator"] in SCALED and not together:
        settings["resid_norms"] = _norms(model, problems, places, options)
    frame, given = pd.concat(parts, ignore_index=True)[columns], tuple(one.direction for one in places)
    return SweepResult(frame, done.baseline, given, done.checks, settings, done.precision)
