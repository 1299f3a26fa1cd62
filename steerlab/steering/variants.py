"""What a sweep is made of, and which part of a batch has to be run again.

Steering position p changes nothing before it, so rows are run from the first column at which anything acts.
"""

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import NamedTuple

import torch

from steerlab._checks import InputError
from steerlab.activations.positions import Positions, TokenPositions
from steerlab.directions.direction import Direction, check_directions
from steerlab.models.backends import Model
from steerlab.models.batches import Batch, Level
from steerlab.models.model import Site, hook_name
from steerlab.steering.interventions import acts_at, check_alpha, patch

ENOUGH = 512  # positions of a pass below which rows of several lengths are padded rather than run apart


class Placed(NamedTuple):
    """One direction at one site."""

    direction: Direction
    at: Site


@dataclass(frozen=True)
class Intervention:
    """One intervention: a small, picklable description of work.

    Attributes:
        places: what is added where; several act together.
        alpha: how much of it.
    """

    places: tuple[Placed, ...]
    alpha: float

    @property
    def acts(self) -> bool:
        """Whether anything is changed: at alpha = 0 the engine gives the baseline itself and runs nothing."""
        return self.alpha != 0

    @property
    def resumes_at(self) -> int:
        """The first block that has to run again."""
        return min(at.resumes_at for _, at in self.places)

    @property
    def layer(self) -> int:
        """The layer of the first place."""
        return self.places[0].at.layer

    @property
    def name(self) -> str:
        """The names of its directions."""
        return " + ".join(place.direction.name for place in self.places)


def check_interventions(model: Model, cells: Sequence[Intervention], positions: Positions, shortest: int) -> None:
    """Find what is wrong with cells before anything runs; positions that a prompt of the `shortest` length has, every prompt has.

    Raises:
        ValueError: an alpha, direction, layer, site or position that the model or a prompt cannot take.
    """
    check_directions(model, {id(place.direction): place.direction for cell in cells for place in cell.places}.values())
    for cell in cells:
        check_alpha(cell.alpha)
        for place in cell.places:
            hook_name(model, *place.at)
            if place.direction.by_prompt:
                TokenPositions.of(positions).mask([shortest], shortest)
            else:
                patch(place.direction, [cell.alpha], positions=positions, prompt_lengths=[shortest], length=shortest)


def check_names(labels: Sequence[tuple[int, str]]) -> None:
    """Make sure that results can be told apart by layer and name of direction."""
    if len(set(labels)) < len(labels):
        layer, name = next(label for label in labels if labels.count(label) > 1)
        raise InputError(f"two directions are called {name!r} at layer {layer}; give each a name of its own")


@dataclass(frozen=True)
class Segment:
    """Columns that are run together, for some beginnings of a batch.

    Attributes:
        begin, stop: columns.
        rows: for each beginning, the rows of the batch that begin so.
        parent: for each beginning, its place in the piece before.
    """

    begin: int
    stop: int
    rows: tuple[tuple[int, ...], ...]
    parent: tuple[int, ...]

    @property
    def size(self) -> int:
        """Positions."""
        return len(self.rows) * (self.stop - self.begin)


def segments(batch: Batch, cells: Sequence[Intervention], positions: Positions, *, whole: bool = False) -> list[tuple[Segment, ...]]:
    """The steered part of a batch, in groups of rows that begin to be steered at one column; rows without any are left out.

    With `whole`, steered rows are run from their first column, as hooks that are on the model expect.
    """
    lengths = [len(row.tokens) for row in batch.rows]
    directions = list({id(p.direction): p.direction for cell in cells for p in cell.places}.values())
    where = {acts_at(direction, positions) for direction in directions}
    starts = [min(at.first(row.prompt_length) for at in where) for row in batch.rows]
    by_prompt = {acts_at(direction, positions) for direction in directions if direction.by_prompt}
    shared = len(batch.levels) > 1 and all(_alike(batch, level, where, by_prompt) for level in batch.levels[:-1])
    apart = not (shared and len(batch.levels[-2].tokens) > 1) and len(cells) * batch.size >= ENOUGH * len(set(lengths))
    groups: dict[tuple[int, int], list[int]] = {}
    for i, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        if start < length:
            groups.setdefault((0 if whole else start, length if apart else 0), []).append(i)
    return [tuple(_pieces(batch, rows, start, shared)) for (start, _), rows in groups.items()]


def _alike(batch: Batch, level: Level, where: Set[TokenPositions], by_prompt: Set[TokenPositions]) -> bool:
    """Whether rows with one beginning are steered at the same of its columns, and where vectors depend on the prompt, have the same."""
    lengths = [row.prompt_length for row in batch.rows]
    first = [level.rows[beginning][0] for beginning in level.of]
    for at in where:
        mask = at.mask(lengths, max(level.stop, *lengths))
        acts = torch.ones(len(lengths), level.stop, dtype=torch.bool) if mask is None else mask[:, : level.stop]
        if not torch.equal(acts, acts[first]):
            return False
        some = acts.any(1).tolist() if at in by_prompt else []
        if any(acting and row.prompt != batch.rows[k].prompt for acting, row, k in zip(some, batch.rows, first, strict=False)):
            return False
    return True


def _pieces(batch: Batch, rows: list[int], start: int, shared: bool) -> Iterator[Segment]:
    stop = max(len(batch.rows[i].tokens) for i in rows)
    if not shared:
        yield Segment(start, stop, tuple((i,) for i in rows), tuple(range(len(rows))))
        return
    place: dict[int, int] = dict.fromkeys(rows, 0)  # of each row, in the piece before
    for level in batch.levels:
        if level.stop <= start:
            continue
        groups: dict[int, list[int]] = {}
        for i in rows:
            groups.setdefault(level.of[i], []).append(i)
        parent = tuple(place[group[0]] for group in groups.values())
        yield Segment(max(start, level.start), min(stop, level.stop), tuple(map(tuple, groups.values())), parent)
        place = {i: k for k, group in enumerate(groups.values()) for i in group}
