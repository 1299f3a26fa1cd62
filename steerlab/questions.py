"""What a reader asks of an experiment beside its main question, each answered by one function of `steerlab.statistics`."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from steerlab.controls import ControlResult
from steerlab.experiments import Experiment
from steerlab.statistics import (
    DoseResponse,
    MaxStatisticTest,
    anti_steerable_share,
    discordant_odds_ratio,
    equivalence_test,
    format_p,
    paired_effect_size,
    plan,
    sign_flip_test,
)

MARGIN = 0.05  # a change of accuracy that is smaller than this is called practically none
STREAM = 3  # of the experiment's seed; the streams before it balance and draw controls


@dataclass(frozen=True, eq=False)
class Questions:
    """The further questions of one experiment.

    Attributes:
        experiment: what was measured.
    """

    experiment: Experiment

    def _rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng([int(self.experiment.settings["seed"]), STREAM, number])

    @cached_property
    def best_cell(self) -> MaxStatisticTest:
        """Validation: the best cell, adjusted for all that were tried."""
        return self.experiment.validation.max_statistic_test(rng=self._rng(0))

    @property
    def chosen_p(self) -> float:
        """Validation: the p-value of the cell that was chosen, adjusted for all that were tried."""
        e, frame = self.experiment, self.best_cell.frame
        return float(frame["p_value"].to_numpy(float)[frame.index.get_loc((e.layer, e.direction.name, e.alpha))])

    @cached_property
    def dose(self) -> DoseResponse:
        """Test: accuracy against alpha at the chosen layer."""
        return self.experiment.test.dose_response(rng=self._rng(1))

    def about(self, control: ControlResult) -> list[tuple[str, str]]:
        """Questions about the direction at one alpha."""
        before, after = control.paired()
        margins = control.paired("margin")
        sign = control.sign_test()
        changed = sign.became_right + sign.became_wrong
        at = f"at alpha = {control.alpha:+g}"
        found = [
            (f"Does the margin move {at}?", str(sign_flip_test(*margins, rng=self._rng(2)))),
            (
                f"How large is that {at}?",
                str(paired_effect_size(*margins)) if np.ptp(margins[1] - margins[0]) > 0 else "the margin did not vary",
            ),
            (
                f"How many answers became right for each that became wrong {at}?",
                str(discordant_odds_ratio(before, after)) if changed else "no answer changed",
            ),
            (
                f"How many problems moved the wrong way {at}?",
                str(anti_steerable_share(*margins, wanted="up" if control.alpha > 0 else "down")),
            ),
            (
                f"Is accuracy practically unchanged {at} (within {100 * MARGIN:g} points)?",
                str(equivalence_test(before, after, margin=MARGIN)),
            ),
        ]
        _, controls = control.effect()
        if len(controls) > 1 and np.ptp(controls) > 0:
            found.append((f"Would one more random direction go as far {at}, if their effects are normal?", str(control.prediction_test())))
        return found

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One line a question: question, answer."""
        e, tested = self.experiment, self.best_cell
        survivors = len(tested.survivors())
        lines = [
            (
                f"Is the most extreme of {tested.n_cells} cells more than luck (validation)?",
                f"{tested}; {survivors} of them survive at 0.05",
            ),
            ("Is the chosen cell, if we pay for all that were tried (validation)?", format_p(self.chosen_p)),
            ("Does accuracy follow alpha at the chosen layer (test)?", str(self.dose.trend)),
            ("How steep is it?", str(self.dose.linear)),
            ("Does rank follow rank?", str(self.dose.spearman)),
        ]
        if self.dose.asymmetry is not None:
            lines.append(("Is amplification the mirror image of suppression?", str(self.dose.asymmetry)))
        lines += [
            (f"Is the response monotonic? {k}" if k else "Is the response monotonic?", said) for k, said in enumerate(self._monotonic())
        ]
        for control in e.controls:
            lines += self.about(control)
        lines.append(("What would settle it next time?", self._next()))
        return pd.DataFrame(lines, columns=["question", "answer"])

    def _monotonic(self) -> list[str]:
        return self.dose.warnings() or ["yes, to the eye: no step against the trend"]

    def _next(self) -> str:
        """Controls and problems for a repetition of what was seen at the chosen alpha."""
        control = self.experiment.controls[0]
        sign = control.sign_test()
        share, change = (sign.became_right + sign.became_wrong) / sign.n, abs(sign.change)
        if change == 0 or change > share:
            return "the chosen alpha did not change accuracy; there is nothing to plan a repetition for"
        return str(plan(change=change, discordant=share, p=0.01))

    def summary(self) -> str:
        """Three lines for the terminal."""
        tested, dose = self.best_cell, self.dose
        best: Any = tested.best
        layer, _, alpha = best
        return "\n".join(
            [
                f"looks       {tested.n_cells} cells tried on validation; after paying for all of them the chosen one has {format_p(self.chosen_p)}, the "
                f"most extreme (layer {layer}, alpha {alpha:+g}) {format_p(tested.p_value)}; {len(tested.survivors())} survive at 0.05",
                f"trend       {dose.trend}",
                *(f"            {said}" for said in dose.warnings()),
            ]
        )
