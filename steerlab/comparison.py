"""Several experiments side by side, corrected for all of them together."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from steerlab._checks import InputError
from steerlab.cautions import LEVEL
from steerlab.significance import Significance, points
from steerlab.statistics._format import format_p
from steerlab.statistics.multiplicity import holm


@dataclass(frozen=True, eq=False)
class Comparison:
    """What several experiments say together.

    Attributes:
        runs: the evidence of each, by name.
    """

    runs: Mapping[str, Significance]

    def __post_init__(self) -> None:
        if len(self.runs) < 2:
            raise InputError(f"runs: {len(self.runs)} given; a comparison needs at least 2")

    def __repr__(self) -> str:
        return f"Comparison({', '.join(map(repr, self.runs))}; {len(self.tests)} rank tests)"

    def _repr_html_(self) -> str:
        return self.tests.to_html(index=False, float_format="{:.4g}".format, escape=True)

    @cached_property
    def tests(self) -> pd.DataFrame:
        """Every run's rank tests, with Holm's correction over all lines of all runs."""
        table = pd.concat([one.tests.assign(run=name) for name, one in self.runs.items()], ignore_index=True)
        table.insert(0, "run", table.pop("run"))
        table.insert(
            list(table.columns).index("p (rank, Holm)") + 1, "p (rank, Holm over all runs)", holm(table["p (rank)"].to_numpy(float))
        )
        return table

    @cached_property
    def effects(self) -> pd.DataFrame:
        """One line a run, at its chosen alpha: name, task, layer, alpha, baseline, change with low and high (95%), n, controls, p."""
        lines = []
        for name, one in self.runs.items():
            e, control = one.experiment, one.experiment.controls[0]
            sign = control.sign_test()
            interval = sign.interval()
            own = self.tests[(self.tests["run"] == name) & (self.tests["alpha"] == control.alpha) & (self.tests["measure"] == "accuracy")]
            lines.append(
                {
                    "name": name,
                    "task": e.task,
                    "layer": e.layer,
                    "alpha": control.alpha,
                    "baseline": control.baseline.accuracy,
                    "change": sign.change,
                    "low": interval.low,
                    "high": interval.high,
                    "n": sign.n,
                    "controls": control.n,
                    "p": float(own["p (rank)"].iloc[0]),
                    "p (Holm over all runs)": float(own["p (rank, Holm over all runs)"].iloc[0]),
                }
            )
        return pd.DataFrame(lines)

    def question(self) -> str:
        """The question in words."""
        tasks = list(dict.fromkeys(one.experiment.task for one in self.runs.values()))
        return (
            f"In which of {len(self.runs)} experiments ({', '.join(tasks)}) does the direction do what random directions of its size do not, once we pay for "
            "having looked in all of them?"
        )

    def answer(self) -> str:
        """How many hold after the correction over all runs, and each run's numbers."""
        effects, tests = self.effects, len(self.tests)
        special = effects["p (Holm over all runs)"] < LEVEL
        lines = [
            f"In {int(special.sum())} of {len(effects)} experiments the direction's effect on accuracy at the alpha chosen on validation stands out from random "
            f"directions' after Holm's correction for all {tests} rank tests."
        ]
        rows: list[dict[Hashable, Any]] = effects.to_dict("records")
        lines += [
            f"{row['name']}: {points(row['change'])} (95% interval {100 * row['low']:+.1f} to {100 * row['high']:+.1f}; n = {row['n']}, {row['controls']} controls, "
            f"{format_p(row['p'], digits=2)}, {format_p(row['p (Holm over all runs)'], digits=2)} over all runs)."
            for row in rows
        ]
        return " ".join(lines)

    def warnings(self) -> list[str]:
        """What a reader must know: each run's own warnings, and what the comparison cannot say."""
        said = [f"{name}: {warning}" for name, one in self.runs.items() for warning in one.warnings()]
        least = min(control.n for one in self.runs.values() for control in one.experiment.controls)
        if len(self.tests) / (least + 1) >= LEVEL:
            said.append(
                f"With {least} controls and {len(self.tests)} tests over all runs the corrected p-value cannot fall below {len(self.tests) / (least + 1):.2g}; "
                f"use at least {round(len(self.tests) / LEVEL)} controls in each run."
            )
        said.append("Whether one run's effect is larger than another's was not tested; overlapping or disjoint intervals do not decide it.")
        return said
