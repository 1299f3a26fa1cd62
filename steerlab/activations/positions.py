"""Which tokens of a prompt are measured, and at which tokens an intervention acts: one value for all ways to say it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from steerlab._checks import InputError

Positions = str | int | np.integer | Sequence[int]
MEASURED = ("last", "mean", "all")  # words for where activations are cached
ACTED_ON = ("all", "last", "prompt", "generated")  # words for where an intervention acts


def indices(positions: object) -> list[int]:
    """One index or several, as a list of ints.

    Raises:
        ValueError: none, or something that is no whole number.
    """
    wanted = list(cast("Sequence[object]", positions)) if isinstance(positions, Iterable) else [positions]
    if not wanted or not all(isinstance(p, int | np.integer) and not isinstance(p, bool) for p in wanted):
        raise InputError(f"positions={positions!r}; give a whole number or several, e.g. -1 or [0, 1]")
    return [int(cast("int", p)) for p in wanted]


@dataclass(frozen=True)
class TokenPositions:
    """Positions in prompts, resolved for prompts of any length.

    Attributes:
        where: a word, or indices, where negative ones count from a prompt's end.

    Example:
        >>> TokenPositions.of([0, -1]).columns(5)
        [0, 4]
        >>> TokenPositions.of("last").first(5)
        4
    """

    where: str | tuple[int, ...]

    @classmethod
    def of(cls, positions: Positions, words: Sequence[str] = ACTED_ON) -> "TokenPositions":
        """What a user gave, checked.

        Args:
            positions: one of the words, an index or indices.
            words: that mean something here.

        Raises:
            ValueError: another word, or no whole numbers.
        """
        if not isinstance(positions, str):
            return cls(tuple(indices(positions)))
        if positions not in words:
            raise InputError(f"positions={positions!r}; use {', '.join(words)} or a list of indices")
        return cls(positions)

    def columns(self, length: int, what: str = "position {}: a prompt") -> list[int]:
        """The indices in a prompt of so many tokens, none of them negative.

        Args:
            length: tokens of the prompt.
            what: begins the message about an index that the prompt lacks.

        Raises:
            ValueError: an index outside the prompt.
        """
        for position in self.where:
            if not isinstance(position, int) or not -length <= position < length:
                raise InputError(f"{what.format(position)} has {length} tokens; use {-length} to {length - 1}")
        return [int(position) % length for position in self.where]

    def first(self, length: int) -> int:
        """The first position of a row with a prompt of so many tokens."""
        if isinstance(self.where, str):
            return {"last": length - 1, "generated": length}.get(self.where, 0)
        return min(p if p >= 0 else length + p for p in self.where)

    def mask(self, lengths: Sequence[int], width: int) -> Bool[Tensor, "batch pos"] | None:
        """Where right-padded rows are acted on; None means every position.

        Args:
            lengths: of the rows' prompts.
            width: of the padded rows.

        Raises:
            ValueError: an index outside a prompt.
        """
        if self.where == "all":
            return None
        if isinstance(self.where, str):
            index, ends = torch.arange(width), torch.tensor(list(lengths))[:, None]
            return {"last": index == ends - 1, "prompt": index < ends, "generated": index >= ends}[self.where]
        mask = torch.zeros(len(lengths), width, dtype=torch.bool)
        columns = [self.columns(length) for length in lengths]
        if columns:
            mask[torch.arange(len(columns))[:, None], torch.tensor(columns)] = True
        return mask

    def describe(self) -> str | list[int]:
        """The word, or the indices as a list: what results and files record."""
        return self.where if isinstance(self.where, str) else list(self.where)
