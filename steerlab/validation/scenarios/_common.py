"""What a scenario is, how p-values and intervals become rejections, and the data that several scenarios share."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from steerlab.statistics.intervals import Interval

LEVELS = (0.05, 0.01)
Draw = Callable[[np.random.Generator], NDArray[np.float64]]


class Outcome(NamedTuple):
    """One of several things that a simulation tells.

    Attributes:
        name: what, added to the procedure's.
        null: whether it is false in this setting, so that its rate is one of false positives.
        why: as in `Scenario`.
    """

    name: str
    null: bool
    why: str = ""


@dataclass(frozen=True)
class Scenario:
    """A procedure in a setting.

    Attributes:
        procedure: what is calibrated.
        setting: the data, in words.
        draw: draws data once; gives for each level whether (or what share of) null hypotheses were rejected.
        null: whether the null is true, so that a rejection is a false positive; else the rate is power.
        why: why the false-positive rate may exceed the level, where it may.
        share: of the simulations, where one takes long.
        outcomes: what a simulation tells, where it is several things; `draw` then gives a row for each.
    """

    procedure: str
    setting: str
    draw: Draw
    null: bool = True
    why: str = ""
    share: float = 1.0
    outcomes: tuple[Outcome, ...] = ()

    @property
    def lines(self) -> list[Outcome]:
        """Each thing that a simulation tells, under its whole name."""
        told = [one._replace(name=f"{self.procedure}: {one.name}") for one in self.outcomes]
        return told or [Outcome(self.procedure, self.null, self.why)]


def rejected(p: float) -> NDArray[np.float64]:
    """One p-value against every level."""
    return np.array([p <= level + 1e-12 for level in LEVELS], float)


def missed(interval_at: Callable[[float], Interval], truth: float) -> NDArray[np.float64]:
    """An interval used as a test: does the one of confidence 1 - level miss the truth?"""
    intervals = [interval_at(1 - level) for level in LEVELS]
    return np.array([not interval.low <= truth <= interval.high for interval in intervals], float)


def answers(rng: np.random.Generator, n: int, discordant: float, change: float = 0.0) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Paired outcomes in which a share is discordant and accuracy changes by so much."""
    changed, won = rng.random(n) < discordant, rng.random(n) < 0.5 + change / (2 * discordant)
    before = np.where(changed, ~won, rng.random(n) < 0.5)
    return before, np.where(changed, won, before)


def margins(rng: np.random.Generator, n: int, shift: float = 0.0, shape: str = "normal") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Paired margins whose differences have mean `shift` and are normal, heavy-tailed or skewed."""
    noise = {"normal": rng.normal(size=n), "heavy": rng.standard_t(3, n), "skewed": rng.exponential(size=n) - 1}[shape]
    before = rng.normal(size=n)
    return before, before + shift + noise
