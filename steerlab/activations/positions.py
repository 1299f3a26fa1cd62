"""Which tokens of a prompt are measured, and at which tokens an intervention acts: one value for all ways to say it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from steerlab._checks import InputError, is_whole

Positions = str | int | np.integer | Sequence[int]
MEASURED = ("last", "mean", "all")  # words for where activations are cached
ACTED_ON = ("all", "last", "prompt", "generated")  # words for where an intervention acts


def indices(positions: object) -> list[int]:
    """One index or several, as a list of ints.

    Raises:
        ValueError: none, or something that is no whole number.
    """
    wanted = list(cast("Sequence[object]", positions)) if isinstance(positions, Iterable) else [positions]
    if not wanted or not all(map(is_whole, wanted)):
        raise InputError(f"positions={positions!r}; give a whole number or several, e.g. -1 or [0, 1]")
    return [int(cast("int", p)) for p in wanted]


@dataclass(frozen=True)
class TokenPositions:
    """Positions in prompts, resolved for prompts of any length.

    Attributes:
        where: a word, or indices, where negative ones count from a prompt's end.

    Example:
        >>> TokenPositions.of([0, -1]).columns([5, 3]).tolist()
        [[0, 4], [0, 2]]
        >>> TokenPositions.of("last").first(5)
        4
    """

    where: str | tuple[int, ...]

    @classmethod
    def of(cls, positions: Positions, words: Sequence[str] = ACTED_ON) -> "TokenPositions":
        """What a user gave: one of the words that mean something here, an index or indices.

        Raises:
            ValueError: another word, or no whole numbers.
        """
        if not isinstance(positions, str):
            return cls(tuple(indices(positions)))
        if positions not in words:
            raise InputError(f"positions={positions!r}; use {', '.join(words)} or a list of indices")
        return cls(positions)

    def columns(self, lengths: Sequence[int], what: str = "position {}: a prompt") -> Int[Tensor, "batch position"]:
        """The columns of indices in rows with prompts of these lengths, none of them negative; `what` begins the message about one that a prompt lacks.

        Raises:
            ValueError: an index outside a prompt.
        """
        ends, index = torch.tensor(list(lengths), dtype=torch.long)[:, None], torch.tensor(self.where, dtype=torch.long)
        for row, k in ((index < -ends) | (index >= ends)).nonzero().tolist()[:1]:
            raise InputError(f"{what.format(self.where[k])} has {lengths[row]} tokens; use {-lengths[row]} to {lengths[row] - 1}")
        return torch.where(index < 0, index + ends, index)

    def first(self, length: int) -> int:
        """The first position of a row with a prompt of so many tokens."""
        if isinstance(self.where, str):
            return {"last": length - 1, "generated": length}.get(self.where, 0)
        return min(p if p >= 0 else length + p for p in self.where)

    def mask(self, lengths: Sequence[int], width: int) -> Bool[Tensor, "batch pos"] | None:
        """Where rows with prompts of these lengths, right-padded to a width, are acted on; None means every position.

        Raises:
            ValueError: an index outside a prompt.
        """
        if self.where == "all":
            return None
        if isinstance(self.where, str):
            index, ends = torch.arange(width), torch.tensor(list(lengths))[:, None]
            return {"last": index == ends - 1, "prompt": index < ends, "generated": index >= ends}[self.where]
        return torch.zeros(len(lengths), width, dtype=torch.bool).scatter_(1, self.columns(lengths), value=True)

    def describe(self) -> str | list[int]:
        """The word, or the indices as a list: what results and files record."""
        return self.where if isinstance(self.where, str) else list(self.where)
