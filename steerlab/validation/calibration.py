"""Simulated false-positive rates and power of the tests, intervals and families of controls.

Every scenario draws data and gives them to the public functions of `steerlab.statistics`, as a user would.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from steerlab import statistics as st
from steerlab._checks import InputError
from steerlab._html import Result
from steerlab._progress import job, progress_bar
from steerlab.models.forecasts import Work, forecast
from steerlab.validation.scenarios import SCENARIOS
from steerlab.validation.scenarios._common import LEVELS, Scenario

CONFIDENCE = 0.999  # of the Monte Carlo intervals; of two hundred rates one or two would lie off at 0.99


@dataclass(frozen=True, eq=False)
class Calibration(Result):
    """Simulated rejection rates of tests, with Monte Carlo intervals.

    Attributes:
        frame: one line a scenario and level: procedure, setting, null, level, simulations, rate, low, high, verdict, why.
        seed: of the simulations.
    """

    frame: pd.DataFrame
    seed: int

    def exceeding(self) -> pd.DataFrame:
        """Nulls that were rejected more often than the level, beyond Monte Carlo error, with no reason given."""
        return self.frame[(self.frame["verdict"] == "exceeds") & (self.frame["why"] == "")]

    def to_markdown(self) -> str:
        """Two tables: false-positive rates, and power."""
        parts = []
        for null, title in ((True, "False alarms"), (False, "Power, and verdicts that are not false")):
            mine = self.frame[self.frame["null"] == null]
            levels = [f"{'rate' if null else 'power'} at {level:g}" for level in LEVELS]
            head = ["procedure", "setting", "simulations", *levels, *(["verdict"] if null else [])]
            lines = [f"## {title}", "", f"| {' | '.join(head)} |", "|" + " --- |" * len(head)]
            for (procedure, setting), group in mine.groupby(["procedure", "setting"], sort=False):
                cells = [str(procedure), str(setting), f"{group['simulations'].iloc[0]:,}"]
                cells += [f"{line.rate:.4f} ({line.low:.4f} to {line.high:.4f})" for line in group.itertuples()]
                lines.append(f"| {' | '.join(cells + ([_said(group)] if null else []))} |")
            parts.append("\n".join(lines))
        return "\n\n".join(parts) + "\n"

    def report_parts(self) -> dict[str, Any]:
        """What `steerlab.write_report` shows of it: question, answer, figures and tables in words."""
        nulls = self.frame["null"]
        return {
            "title": "Calibration",
            "question": "How often does each test reject a true null, and how often does it detect a real effect?",
            "answer": f"{len(self.exceeding())} of {int(nulls.sum())} false-positive rates lie above their level without a reason.",
            "tables": {
                "rates": ("False-positive rates, with Monte Carlo intervals.", self.frame[nulls].drop(columns="null")),
                "power": ("Power, with Monte Carlo intervals.", self.frame[~nulls].drop(columns=["null", "verdict", "why"])),
            },
        }

    def __repr__(self) -> str:
        nulls = self.frame[self.frame["null"]]
        return f"Calibration({nulls['procedure'].nunique()} procedures, {len(self.exceeding())} rates above their level without a reason)"

    def summary(self) -> pd.DataFrame:
        """One line a procedure, of true nulls: procedure, rates (how many were measured), exceeds (how many lie above their level, beyond Monte Carlo error)."""
        nulls = self.frame[self.frame["null"]].assign(exceeds=lambda table: table["verdict"] == "exceeds")
        return nulls.groupby("procedure", sort=False).agg(rates=("rate", "size"), exceeds=("exceeds", "sum")).reset_index()


def _said(group: pd.DataFrame) -> str:
    if (group["verdict"] == "exceeds").any():
        return f"**exceeds**: {group['why'].iloc[0] or 'no reason known'}"
    return "holds"


@job("scenarios", "simulations")
def calibrate(
    scenarios: Sequence[Scenario] | None = None, *, simulations: int = 10_000, seed: int = 0, progress: bool = False
) -> Calibration:
    """Rejection rates of every test, interval and family of controls, simulated.

    Args:
        scenarios: default all of `SCENARIOS`.
        simulations: of each; some take a stated share of them.
        seed: each scenario draws from a stream of its own, so that adding one does not change the others.
        progress: show a progress bar.

    Raises:
        ValueError: fewer than 10 simulations.

    Example:
        >>> draw = lambda rng: np.array([rng.random() <= level for level in LEVELS], float)
        >>> calibrate([Scenario("a fair p-value", "uniform", draw)], simulations=1000).frame[["level", "verdict"]].values.tolist()
        [[0.05, 'holds'], [0.01, 'holds']]
    """
    if simulations < 10:
        raise InputError(f"simulations={simulations}; use at least 10 (thousands for rates that mean something)")
    chosen = SCENARIOS if scenarios is None else scenarios
    times = [max(10, round(simulations * scenario.share)) for scenario in chosen]
    if progress:
        made_of = [Work("simulation", n, range(n), partial(_drawn, scenario)) for scenario, n in zip(chosen, times, strict=True)]
        forecast(None, made_of, show=True, unit="simulation", extra=f" of {len(chosen)} scenarios")
    lines = []
    for n, scenario in zip(times, progress_bar(chosen, desc="calibrate", unit="scenario", show=progress), strict=True):
        rng = np.random.default_rng([seed, zlib.crc32(f"{scenario.procedure}|{scenario.setting}".encode())])
        found = np.array([scenario.draw(rng) for _ in range(n)]).reshape(n, -1, len(LEVELS))
        for (procedure, null, why), rates in zip(scenario.lines, found.transpose(1, 2, 0), strict=True):
            for level, values in zip(LEVELS, rates, strict=True):
                rate, (low, high) = float(values.mean()), _interval(values)
                verdict = ("exceeds" if low > level else "holds") if null else ""
                lines.append((procedure, scenario.setting, null, level, n, rate, low, high, verdict, why))
    columns = ["procedure", "setting", "null", "level", "simulations", "rate", "low", "high", "verdict", "why"]
    return Calibration(pd.DataFrame(lines, columns=columns), seed)


def _drawn(scenario: Scenario, some: Sequence[int]) -> int:
    """How many simulations were made, from a stream of their own, to see how long they take."""
    rng = np.random.default_rng(0)
    for _ in some:
        scenario.draw(rng)
    return len(some)


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Monte Carlo interval of a mean of zeros and ones, or of shares."""
    if np.isin(values, (0, 1)).all():
        low, high = st.clopper_pearson_interval(int(values.sum()), len(values), confidence=CONFIDENCE)
        return low, high
    half = float(norm.isf((1 - CONFIDENCE) / 2)) * values.std(ddof=1) / len(values) ** 0.5
    return max(0.0, float(values.mean() - half)), min(1.0, float(values.mean() + half))
