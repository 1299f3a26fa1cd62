"""Secondary analyses of an experiment, each computed by one function of `steerlab.statistics`."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from steerlab._checks import Alternative
from steerlab._html import Result
from steerlab.controls import FAMILIES
from steerlab.controls.control import ControlResult
from steerlab.statistics._format import format_p
from steerlab.statistics.dose_response import DoseResponse
from steerlab.statistics.effects import anti_steerable_share, discordant_odds_ratio, paired_effect_size
from steerlab.statistics.equivalence import equivalence_test
from steerlab.statistics.multiplicity import LEVEL, MaxStatisticTest
from steerlab.statistics.paired import sign_flip_test
from steerlab.statistics.power import plan
from steerlab.studies.protocol import Experiment, stream

KINDS = {name: family.words for name, family in FAMILIES.items()}
MARGIN = 0.05  # a change of accuracy that is smaller than this is called practically none


@dataclass(frozen=True, eq=False)
class Questions(Result):
    """The secondary analyses of one experiment.

    Attributes:
        experiment: what was measured.
    """

    experiment: Experiment

    def __repr__(self) -> str:
        return f"Questions of {self.experiment!r}"

    def _rng(self, number: int) -> np.random.Generator:
        return stream(int(self.experiment.settings["seed"]), "questions", number)

    @cached_property
    def best_cell(self) -> MaxStatisticTest:
        """Validation: the best cell, adjusted for all that were tried."""
        column = {"accuracy": "correct"}.get(self.experiment.measure, self.experiment.measure)
        return self.experiment.validation.max_statistic_test(rng=self._rng(0), measure=column)

    @property
    def chosen_p(self) -> float:
        """Validation: the p-value of the cell that was chosen, adjusted for all that were tried."""
        e, frame = self.experiment, self.best_cell.frame
        return float(frame["pvalue"].to_numpy(float)[frame.index.get_loc((e.layer, e.direction.name, e.alpha))])

    @cached_property
    def dose(self) -> DoseResponse:
        """Test: accuracy against alpha at the layer chosen first."""
        return self.experiment.test.dose_response(rng=self._rng(1), layer=self.experiment.layer)

    @property
    def _groups(self) -> tuple[str, ...] | None:
        """The group of each test problem; None where each stands alone."""
        groups = self.experiment.pipelines[0].groups
        return groups if len(set(groups)) < len(groups) else None

    def tradeoff(self, control: ControlResult, measure: str = "accuracy") -> pd.DataFrame | None:
        """The direction and its controls at one alpha: effect on the task and KL; None where KL was not measured."""
        effects = control.changes().assign(layer=control.layer, alpha=control.alpha)
        keys = ["layer", "direction", "alpha"]
        measured = self.experiment.side_effects.frame.set_index(keys).index
        if not effects.set_index(keys).index.isin(measured).all():
            return None
        return self.experiment.side_effects.against(effects, measure=measure)

    def beside(self, control: ControlResult) -> str:
        """The side effects of the direction and of its controls at one alpha, in words."""
        frame, e = self.experiment.side_effects.frame, self.experiment
        mine = frame[(frame["layer"] == control.layer) & (frame["direction"] == control.direction.name) & (frame["alpha"] == control.alpha)]
        if len(mine) != 1:
            return "not measured"
        row = mine.iloc[0]
        tokens = int(e.direction.model.get("d_vocab", 0))
        poor = f" (a uniform guess among {tokens:,} tokens has {tokens:,})" if 0 < tokens < e.side_effects.perplexity else ""
        said = (
            f"KL {row['kl']:.3g} nats a token, perplexity {row['perplexity']:.4g} instead of {e.side_effects.perplexity:.4g}{poor}, entropy "
            f"{row['entropy_change']:+.2g} nats, {100 * row['changed_predictions']:.1f}% of next-token predictions changed"
        )
        table = self.tradeoff(control)
        if table is None:
            return said
        kls = table.loc[table["is_control"].astype(bool), "kl"]
        low, middle, high = np.quantile(kls, [0.025, 0.5, 0.975])
        return f"{said}; KL of {len(kls)} random directions: median {middle:.3g}, 95% of them {low:.3g} to {high:.3g}"

    def contrast(self) -> list[tuple[str, str]]:
        """Questions about the problems that the direction was found on."""
        e = self.experiment
        if e.diagnostics is None:
            return []
        found = e.diagnostics.at(e.layer)
        sizes = f"{e.diagnostics.n_positive} right and {e.diagnostics.n_negative} wrong"
        return [
            ("Does the direction separate held-out right and wrong problems (train)?", str(found.auc)),
            ("Would other problems have given the same direction (train)?", str(found.stability)),
            (f"How many problems are the {sizes} worth (train)?", f"effective n {found.effective_n:.3g} a group"),
        ]

    def others(self) -> list[tuple[str, str]]:
        """Questions about controls of other kinds."""
        return [
            (
                f"Is the effect at layer {c.layer}, alpha {c.alpha:+g} more extreme than those of {KINDS.get(c.family, c.family)} there (uncorrected)?",
                str(c.rank_test()),
            )
            for c in self.experiment.families
        ]

    def about(self, control: ControlResult) -> list[tuple[str, str]]:
        """Questions about the direction at one alpha."""
        before, after = control.paired()
        margins = control.paired("margin")
        sign, groups = control.sign_test(), self._groups
        changed = sign.became_right + sign.became_wrong
        at = f"at layer {control.layer}, alpha {control.alpha:+g}"
        found = [
            (f"Does the margin move {at}?", str(sign_flip_test(*margins, rng=self._rng(2), groups=groups))),
            (
                f"How large is the change of the margin {at}?",
                str(paired_effect_size(*margins)) if np.ptp(margins[1] - margins[0]) > 0 else "the margin did not vary",
            ),
            (
                f"How many answers became right for each that became wrong {at}?",
                str(discordant_odds_ratio(before, after)) if changed else "no answer changed",
            ),
            (
                f"For how many problems did the margin fall {at}?",
                str(anti_steerable_share(*margins, wanted="up")),
            ),
            (
                f"Is accuracy practically unchanged {at} (within {100 * MARGIN:g} points)?",
                str(equivalence_test(before, after, margin=MARGIN, groups=groups)),
            ),
        ]
        _, controls = control.effect()
        if len(controls) > 1 and np.ptp(controls) > 0:
            found.append(
                (f"Would one more random direction have as large an effect {at}, if effects are normal?", str(control.prediction_test()))
            )
        return found

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One line a question: question, answer."""
        e, tested = self.experiment, self.best_cell
        survivors = len(tested.survivors())
        lines = [
            *self.contrast(),
            (
                f"Is the most extreme of {tested.n_cells} cells more than chance (validation)?",
                f"largest test statistic {self.most_extreme()}; {survivors} of {tested.n_cells} cells have p of at most {LEVEL}",
            ),
            ("Is the chosen cell, corrected for all that were compared (validation)?", format_p(self.chosen_p)),
            ("Does accuracy follow alpha at the chosen layer (test)?", str(self.dose.trend)),
            ("What is the slope?", str(self.dose.linear)),
            ("Is there a rank correlation with alpha?", str(self.dose.spearman)),
        ]
        if self.dose.asymmetry is not None:
            lines.append(("Is amplification the mirror image of suppression?", str(self.dose.asymmetry)))
        lines += [
            (f"Is the response monotonic? {k}" if k else "Is the response monotonic?", said) for k, said in enumerate(self._monotonic())
        ]
        for control in e.controls:
            lines += self.about(control)
            lines.append(
                (f"What else changes at layer {control.layer}, alpha {control.alpha:+g} (on {e.settings['texts']})?", self.beside(control))
            )
        lines += self.others()
        if e.measure == "accuracy":
            asked = f"What would a repetition need to find this change at level {LEVEL}, corrected for {1 + len(e.pipelines)} tests, with 80% power?"
            lines.append((asked, self._next()))
        return pd.DataFrame(lines, columns=["question", "answer"])

    def most_extreme(self) -> str:
        """The cell with the largest test statistic on validation, in words."""
        best: Any = self.best_cell.best
        layer, _, alpha = best
        change = float(self.best_cell.frame["change"].to_numpy(float)[self.best_cell.frame.index.get_loc(best)])
        measure = "accuracy" if self.experiment is None else self.experiment.measure
        moved = f"accuracy {100 * change:+.1f} points" if measure == "accuracy" else f"{measure} {change:+.3g}"
        return f"at layer {layer}, alpha {alpha:+g} ({moved}), {format_p(self.best_cell.pvalue)}"

    def _monotonic(self) -> list[str]:
        return [str(self.dose.reversal)] if self.dose.reversal else ["yes: no step goes against the trend"]

    def _next(self) -> str:
        """Controls and problems for a repetition of what was seen at the chosen alpha."""
        e, control = self.experiment, self.experiment.controls[0]
        sign = control.sign_test()
        share, change = (sign.became_right + sign.became_wrong) / sign.n, sign.change
        side: Alternative = "less" if e.goals[0] == "lower" else "greater"
        if change * (1 if side == "greater" else -1) <= 0:
            return f"the cell chosen to {e.goals[0]} accuracy did not do so; there is nothing to plan a repetition for"
        return str(plan(change=change, discordant=share, level=LEVEL, comparisons=1 + len(e.pipelines), alternative=side))

    def __str__(self) -> str:
        """A few lines for the terminal."""
        tested, dose, e = self.best_cell, self.dose, self.experiment
        contrast = []
        if e.diagnostics is not None:
            at = e.diagnostics.at(e.layer)
            interval = at.auc.interval()
            contrast = [
                f"contrast    held-out AUC {at.auc.value:.2f} (95% interval {interval.low:.2f} to {interval.high:.2f}), cosine between directions of "
                f"random halves {at.stability.median:.2f}"
            ]
        return "\n".join(
            [
                *contrast,
                f"comparisons {tested.n_cells} cells compared on validation; corrected for all of them, the chosen one has {format_p(self.chosen_p)}; the "
                f"most extreme is {self.most_extreme()}; {len(tested.survivors())} have p of at most {LEVEL}",
                f"trend       {dose.trend}",
            ]
        )
