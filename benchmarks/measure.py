"""Time all sides of a row in turn, several times, and compare what they gave."""

import gc
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks import flops
from benchmarks.compare import Comparison, compare, together, varied
from benchmarks.plan import Answers, Row, Scale
from benchmarks.rivals import Cell, Rival

COUNT_ALL = 5e12  # work of fewer FLOPs is counted whole, larger work on about six of its problems
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Timing:
    """How long one side took.

    Attributes:
        key: "a" to "d" for a rival, the backend for ours.
        label: for the table.
        seconds: for the whole work, one number a repetition; a rival's are scaled from the cells that were timed.
        per_cell: seconds of each timed cell (rivals only).
        cells: how many cells the work has.
        backend: ours, or the only one that the rival is compared with.
        batch_size: of a rival.
        peak_gib: largest memory of the GPU.
        missing: why there is no measurement.
    """

    key: str
    label: str
    seconds: tuple[float, ...]
    per_cell: tuple[float, ...] = ()
    cells: int = 0
    backend: str | None = None
    batch_size: int = 1
    peak_gib: float | None = None
    missing: str = ""

    @property
    def median(self) -> float:
        """Median over repetitions."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Measured:
    """What was measured of a row.

    Attributes:
        row: the row.
        ours, rivals: timings.
        comparisons: of every rival with ours, of the backends, and of ours with itself when repeated.
        speed: FLOPs per second of matrix products, measured before every timing.
        needed: FLOPs of the work, counted by hand.
        counted: FLOPs that ours did, one number a backend.
        varied: share of problems that are not answered alike in all cells; None where answers are numbers.
    """

    row: Row
    ours: tuple[Timing, ...] = ()
    rivals: tuple[Timing, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    speed: tuple[float, ...] = ()
    needed: float | None = None
    counted: dict[str, float] | None = None
    varied: float | None = None

    def share(self, ours: Timing) -> float | None:
        """The time that the work's FLOPs take at the speed of matrix products, as a share of the time taken.

        By hand or as counted, whichever is less: neither waste nor arithmetic that ours avoids is to its credit.
        """
        if self.counted is None or self.needed is None:
            return None
        return min(self.needed, self.counted[ours.key]) / statistics.median(self.speed) / ours.median


def say(*words: object) -> None:
    """A line of progress."""
    print(*words, file=sys.stderr, flush=True)


def timed(work: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    """A result, and the seconds until it was there."""
    flops.sync(device)
    start = time.perf_counter()
    result = work()
    flops.sync(device)
    return result, time.perf_counter() - start


def samples(cells: Sequence[Cell], repetitions: int, each: int) -> list[list[Cell]]:
    """Cells to time in each repetition, none twice before each was there once, spread over layers and alphas by steps of the golden ratio.

    Args:
        cells: layer by layer.
        repetitions: how many lists.
        each: cells a list; 0 divides all of them among the lists.
    """
    n = len(cells)
    stride = next(s for s in range(max(1, round(GOLDEN * n)), 2 * n + 1) if np.gcd(s, n) == 1)
    order = [cells[(n // 3 + i * stride) % n] for i in range(n)]
    if each == 0:
        return [order[i::repetitions] or order[:1] for i in range(repetitions)]
    return [[order[(i * each + k) % n] for k in range(min(each, n))] for i in range(repetitions)]


def _fastest_batch_size(rival: Rival, cell: Cell, sizes: Sequence[int], device: torch.device) -> int:
    if rival.warm_up:
        rival.run(cell, sizes[0])
    if not rival.batched or len(sizes) == 1:
        return sizes[0] if rival.batched else 1
    seconds = {size: timed(partial(rival.run, cell, size), device)[1] for size in sizes}
    say(f"    {rival.label}: " + ", ".join(f"{s:.2f} s with batches of {size}" for size, s in seconds.items()))
    return min(seconds, key=lambda size: seconds[size])


def _count(row: Row) -> tuple[float, dict[str, float]]:
    """FLOPs needed, and done by each backend; the counted run warms ours up, too."""

    def by_hand(problems: slice = slice(None)) -> float:
        return flops.needed(row.shape, row.cells, row.positions or "all", new_tokens=row.new_tokens, problems=problems)

    needed, n = by_hand(), len(row.shape.problems)
    some = slice(None, None, 1 if needed < COUNT_ALL else max(1, n // 6))
    counted = {}
    for backend, work in row.ours.items():
        done = flops.counted(partial(work, row.shape.problems[some]))
        counted[backend] = needed * done / by_hand(some)
        say(f"    ours ({backend}): {counted[backend]:.3g} FLOPs counted, {needed:.3g} needed")
    return needed, counted


class _Clock:
    """Takes one measurement after another, and keeps what came out."""

    def __init__(self, row: Row) -> None:
        self.row, self.device = row, row.shape.device
        self.speed: list[float] = []
        self.seconds: dict[str, list[float]] = {}
        self.per_cell: dict[str, list[float]] = {}
        self.peak: dict[str, float] = {}
        self.answers: dict[str, Answers] = {}
        self.repeated: dict[str, list[Comparison]] = {}

    def before(self) -> None:
        """Before each measurement of a side: no garbage, and the speed of the machine now."""
        gc.collect()
        self.speed.append(flops.multiplication_speed(self.row.shape, self.row.dtype))

    def __call__(self, key: str, work: Callable[[], Any]) -> tuple[Any, float]:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        result, seconds = timed(work, self.device)
        if self.device.type == "cuda":
            self.peak[key] = max(self.peak.get(key, 0.0), torch.cuda.max_memory_allocated(self.device) / 2**30)
        return result, seconds

    def ours(self, backend: str) -> None:
        self.before()
        result, seconds = self(backend, partial(self.row.ours[backend], self.row.shape.problems))
        self.seconds.setdefault(backend, []).append(seconds)
        answers = self.row.read(result)
        if backend in self.answers:
            again = compare(f"ours ({backend})", self.answers[backend], "itself, again", answers, self.row.tolerance)
            self.repeated.setdefault(backend, []).append(again)
        self.answers.setdefault(backend, answers)
        say(f"    ours ({backend}): {seconds:.3f} s")

    def rival(self, rival: Rival, cells: Sequence[Cell], size: int) -> None:
        self.before()
        here = []
        for cell in cells:
            result, seconds = self(rival.key, partial(rival.run, cell, size))
            here.append(seconds)
            self.answers.setdefault(rival.key, {}).update(self.row.read_rival(cell, result))
        whole = sum(here) * len(self.row.cells) / len(cells)
        self.seconds.setdefault(rival.key, []).append(whole)
        self.per_cell.setdefault(rival.key, []).extend(here)
        say(f"    {rival.label}: {sum(here):.3f} s for {len(cells)} of {len(self.row.cells)} cells, {whole:.2f} s for all")


def measure(row: Row, scale: Scale, known: Answers | None = None) -> tuple[Measured, Answers]:
    """Time ours and the rivals in turn, in another order each time, and compare what they gave.

    Args:
        row: what to do.
        scale: how often, and on how many cells.
        known: answers of an earlier row, which this one's are compared with.

    Returns:
        the measurement, and the answers of ours.
    """
    say(f"{row.key}: {row.title}")
    if row.not_applicable:
        say(f"    {row.not_applicable}")
        return Measured(row), {}
    clock = _Clock(row)
    needed, counted = _count(row) if row.positions else (None, None)
    able = [rival for rival in row.rivals if not rival.missing]
    sizes = {rival.key: _fastest_batch_size(rival, row.cells[len(row.cells) // 2], scale.batch_sizes, clock.device) for rival in able}
    sides: list[str | Rival] = [*row.ours, *able]
    begun = time.perf_counter()
    rounds = scale.repetitions if scale.cells == 0 else max(scale.repetitions, scale.more)
    for repetition, cells in enumerate(samples(row.cells, rounds, scale.cells)):
        if repetition >= scale.repetitions and scale.cells and time.perf_counter() - begun > scale.short:
            break
        say(f"  repetition {repetition + 1}")
        start = repetition % len(sides)
        for side in sides[start:] + sides[:start]:
            if isinstance(side, Rival):
                clock.rival(side, cells, sizes[side.key])
            elif repetition < 2 or sum(clock.seconds[side]) < scale.seconds:
                clock.ours(side)
    ours = [Timing(key, f"ours ({key})", tuple(clock.seconds[key]), (), len(row.cells), key, 0, clock.peak.get(key)) for key in row.ours]
    others = [_timing(rival, clock, sizes) for rival in row.rivals]
    comparisons = _comparisons(row, able, clock, known)
    answers = clock.answers[next(iter(row.ours))]
    measured = Measured(row, tuple(ours), tuple(others), tuple(comparisons), tuple(clock.speed), needed, counted, varied(answers))
    return measured, answers


def _timing(rival: Rival, clock: _Clock, sizes: dict[str, int]) -> Timing:
    found = Timing(rival.key, rival.label, (), (), len(clock.row.cells), rival.backend, missing=rival.missing)
    if rival.missing:
        say(f"    {rival.label}: {rival.missing}")
        return found
    seconds, per_cell = tuple(clock.seconds[rival.key]), tuple(clock.per_cell[rival.key])
    return replace(found, seconds=seconds, per_cell=per_cell, batch_size=sizes[rival.key], peak_gib=clock.peak.get(rival.key))


def _comparisons(row: Row, able: Sequence[Rival], clock: _Clock, known: Answers | None) -> list[Comparison]:
    backends = list(row.ours)
    pairs = [(f"ours ({b})", clock.answers[b], r.label, clock.answers[r.key]) for b in backends for r in able if r.backend in (None, b)]
    pairs += [(f"ours ({backends[0]})", clock.answers[backends[0]], f"ours ({b})", clock.answers[b]) for b in backends[1:]]
    if known is not None:
        pairs += [(f"ours ({b})", clock.answers[b], "ours in float32", known) for b in backends]
    found = [compare(*pair, row.tolerance) for pair in pairs] + [together(each) for each in clock.repeated.values()]
    for one in found:
        if one.different or not one.n:
            say(
                f"    {one.first} and {one.second}: {one.different} of {one.n} answers differ (largest difference of numbers {one.gap:.2g})"
            )
    return found
