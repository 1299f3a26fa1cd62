"""What is trained, for how long, and in what steps."""

import math
from dataclasses import dataclass

import numpy as np

from steerlab._checks import InputError
from steerlab.resumed import Spot

LARGEST = 1e6  # learning rate


@dataclass(frozen=True)
class Candidate:
    """One training among several.

    Attributes:
        spots: where the vector acts.
        seed: of the order of problems and of a random start.
        l2: what the squared norm is multiplied by and added to each problem's loss.
        lr: Adam's learning rate.
    """

    spots: tuple[Spot, ...]
    seed: int = 0
    l2: float = 0.0
    lr: float = 1e-2

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int | np.integer) or not 0 <= self.seed < 2**32:
            raise InputError(f"seed={self.seed!r}; use a whole number from 0 to 2**32 - 1")
        for name, value, least in (("l2", self.l2, "of at least 0"), ("lr", self.lr, "above 0")):
            if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not math.isfinite(value) or value < 0:
                raise InputError(f"{name}={value!r}; use a finite number {least}")
        if not 0 < self.lr <= LARGEST:
            raise InputError(f"lr={self.lr:g} learns nothing; use a learning rate above 0 and up to {LARGEST:g}, e.g. 1e-2")


@dataclass(frozen=True)
class Schedule:
    """How long training goes on, and in what steps.

    Attributes:
        epochs: passes over the problems.
        batch_size, accumulation: a step of the optimiser follows on `accumulation` batches of `batch_size` problems; their losses are summed.
        shuffle: a new order each epoch (that of ``np.random.seed(seed)`` and ``np.random.shuffle`` of the list, as in the sources).
        last_batch: problems left over at the end of an epoch make a "step" of their own, or their gradients are "carry"-ed into the
            next epoch's first step and the last ones dropped, as in the sources' loop.
        norm_cap: the vector is shortened to this norm after each step.
        early_stopping: end once validation accuracy is more than this below its best; None goes on to the last epoch.
        extend: further epochs, at most, while the loss still falls by more than 1% an epoch.
        halve_every: after every so many epochs the worse half of the candidates still in training ends (successive halving); None lets all go on.
    """

    epochs: int = 5
    batch_size: int = 4
    accumulation: int = 1
    shuffle: bool = True
    last_batch: str = "step"
    norm_cap: float | None = None
    early_stopping: float | None = 0.02
    extend: int = 0
    halve_every: int | None = None

    def __post_init__(self) -> None:
        for name, least in (("epochs", 1), ("batch_size", 1), ("accumulation", 1), ("extend", 0)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
                raise InputError(f"{name}={value!r}; use a whole number of at least {least}")
        if self.halve_every is not None and (
            isinstance(self.halve_every, bool) or not isinstance(self.halve_every, int | np.integer) or self.halve_every < 1
        ):
            raise InputError(f"halve_every={self.halve_every!r}; use a whole number of epochs of at least 1, or None")
        if self.last_batch not in ("step", "carry"):
            raise InputError(f"last_batch={self.last_batch!r}; use 'step' or 'carry'")
        if self.norm_cap is not None and not (
            isinstance(self.norm_cap, int | float | np.number) and math.isfinite(self.norm_cap) and self.norm_cap > 0
        ):
            raise InputError(f"norm_cap={self.norm_cap!r}; use a finite norm above 0, or None")
        if self.early_stopping is not None and not (math.isfinite(self.early_stopping) and self.early_stopping >= 0):
            raise InputError(f"early_stopping={self.early_stopping!r}; use a share such as 0.02, or None to train all epochs")

    @property
    def per_step(self) -> int:
        """Problems a step."""
        return self.batch_size * self.accumulation
