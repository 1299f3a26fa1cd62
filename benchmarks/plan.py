"""What a row of the table is, and how much of everything there is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import steerlab as sl
from benchmarks.rivals import Cell, Rival
from benchmarks.shapes import Shape

Value = tuple[Any, np.ndarray]  # what must be the same, and numbers that must be close
Answers = dict[Any, Value]


@dataclass(frozen=True)
class Target:
    """Ours must be so many times as fast as the fastest of these rivals."""

    against: tuple[str, ...]
    at_least: float


@dataclass(frozen=True)
class Scale:
    """How much of everything; the defaults are the published table, `QUICK` is a smoke run."""

    prompts: int = 43
    lengths: tuple[int, int] = (80, 140)  # tokens of the shortest and longest prompt
    alphas: tuple[float, ...] = tuple(alpha for alpha in sl.ALPHAS if alpha != 0)
    layers: tuple[int, ...] | None = None
    tiny_layers: tuple[int, ...] | None = None
    controls: int = 99
    new_tokens: int = 32
    repetitions: int = 3  # at least
    more: int = 9  # repetitions of a row that is done in `short` seconds
    short: float = 60.0
    cells: int = 2  # timed for each rival in each repetition; 0 means all, spread over the repetitions
    tiny_problems: int = 400
    batch_sizes: tuple[int, ...] = (8, 16, 32)
    memory_prompts: tuple[int, int] = (500, 5000)
    grid_backends: tuple[str, ...] = ("bridge",)  # the full grid takes minutes a run; `--full` measures it on all backends
    train_prompts: int = 50  # problems that a vector is learned from
    train_epochs: int = 3
    train_tiny_problems: int = 200
    train_tiny_epochs: int = 5
    train_seeds: int = 3
    seconds: float = 900.0  # for repeating ours, in each row; at least two runs are made


QUICK = Scale(
    prompts=4, lengths=(16, 24), alphas=(-3.0, 1.5), layers=(6, 9), tiny_layers=(1, 4), controls=5, new_tokens=4, repetitions=2, more=2, cells=1,
    tiny_problems=24, batch_sizes=(4,), memory_prompts=(8, 16), seconds=5.0,
    train_prompts=6, train_epochs=1, train_tiny_problems=8, train_tiny_epochs=1, train_seeds=2,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Row:
    """One row of the table.

    Attributes:
        key: for choosing rows on the command line.
        title: what is asked for.
        shape: with which model and prompts.
        cells: the interventions; a rival does them one by one and is timed on some, ours does all of them.
        ours: one function of (problems) a backend; only this is timed.
        read: what ours gave, as answers.
        read_rival: what a rival gave for one cell, as answers.
        rivals: who else does it.
        targets: what is to be reached.
        share: the share of the limit that is to be reached, if any.
        same: the share of predictions that must be the same.
        tolerance: how far numbers may differ; None where only predictions count.
        positions, new_tokens: for counting FLOPs by hand; no count where positions is None.
        not_applicable: why this row cannot run here; empty where it can.
        same_as: key of an earlier row whose answers these are compared with, too.
        dtype: of the matrix products that limit ours, where it is not the model's.
    """

    key: str
    title: str
    shape: Shape
    cells: Sequence[Cell]
    ours: Mapping[str, Callable[[Sequence[sl.Problem]], Any]]
    read: Callable[[Any], Answers]
    read_rival: Callable[[Cell, Any], Answers]
    rivals: Sequence[Rival]
    targets: Sequence[Target]
    share: float | None = None
    same: float = 1.0
    tolerance: float | None = None
    positions: str | None = None
    new_tokens: int = 0
    not_applicable: str = ""
    same_as: str = ""
    dtype: torch.dtype | None = None
