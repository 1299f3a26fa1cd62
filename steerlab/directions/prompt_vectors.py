"""A direction that is another vector for every prompt, computed before anything is steered.

It depends only on the prompt's unsteered stream, so it is found once, and sweeps, controls and generation use it like any
direction.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steerlab._checks import InputError
from steerlab.directions.direction import Direction

POOLS = ("mean", "last")


def pool(
    resid: Float[Tensor, "row pos d_model"], prompt: Bool[Tensor, "row pos"], how: str = "mean", *, normalise: bool = True
) -> Float[Tensor, "row d_model"]:
    """One vector a row: the mean, or the last, of the stream over its prompt; padding and answers do not count.

    Args:
        resid: the residual stream.
        prompt: where the rows hold their prompts.
        how: "mean" or "last".
        normalise: divide by the root mean square.

    Example:
        >>> stream = torch.tensor([[[3.0, 0.0], [1.0, 4.0], [9.0, 9.0]]])
        >>> pool(stream, torch.tensor([[True, True, False]]), normalise=False)
        tensor([[2., 2.]])
    """
    stream = resid.float()
    if how == "last":
        at = (prompt * torch.arange(prompt.shape[1], device=prompt.device)).argmax(1)
        found = stream[torch.arange(len(stream), device=stream.device), at]
    else:
        found = torch.where(prompt[:, :, None], stream, 0.0).sum(1) / prompt.sum(1, keepdim=True).clamp_min(1)
    return found * found.square().mean(-1, keepdim=True).clamp_min(1e-30).rsqrt() if normalise else found


Prompt = tuple[int, ...]


@dataclass(frozen=True, eq=False, repr=False)
class PromptVectors(Direction, title="A vector for each prompt"):
    """One vector for each prompt, or one for each position of each prompt; it works where `steerlab.sweep` takes a direction.

    `vector` is the mean over prompts (and their positions), for tables and plots; `norm` is the quadratic mean of the vectors' norms.
    Scaled, it stays what it is; it is not added to other directions.

    Attributes:
        table: what acts for each prompt, by its tokens: ``[d_model]``, or ``[pos d_model]`` with a row for each token of the prompt, the
            last of which goes on behind the prompt.

    Raises:
        ValueError: no prompts, vectors of different widths, all zero or not finite, or another number of rows than a prompt has tokens.

    Example:
        >>> both = PromptVectors(table={(1, 5): torch.tensor([3.0, 0.0]), (1, 6): torch.tensor([0.0, 4.0])}, layer=2)
        >>> both.vector, round(both.norm, 3)
        (tensor([1.5000, 2.0000]), 3.536)
        >>> both.rows([(1, 6)], 3)
        tensor([[[0., 4.]]])
    """

    vector: Float[Tensor, " d_model"] = field(default_factory=lambda: torch.zeros(0))
    layer: int = 0
    table: Mapping[Prompt, Tensor] = field(default_factory=dict)

    by_prompt: ClassVar[bool] = True

    def __post_init__(self) -> None:
        table = {tuple(int(t) for t in prompt): _checked(prompt, given) for prompt, given in self.table.items()}
        if not table:
            raise InputError(f"direction {self.name!r} has no prompts; give the vectors of at least one")
        shapes = {(given.ndim, given.shape[-1]) for given in table.values()}
        if len(shapes) > 1:
            raise InputError(f"direction {self.name!r}: the prompts' vectors differ in shape ({sorted(shapes)}); use one rank and width")
        each = torch.stack([given if given.ndim == 1 else given.mean(0) for given in table.values()])
        mean = each.mean(0)
        if not float(mean.norm()):  # they cancel; any of them shows the width
            longest = max(table.values(), key=lambda given: float(given.norm()))
            mean = longest if longest.ndim == 1 else longest[int(longest.norm(dim=-1).argmax())]
            if not float(mean.norm()):
                raise InputError(f"direction {self.name!r} is zero for every prompt: there is nothing to steer with")
        object.__setattr__(self, "table", table)
        object.__setattr__(self, "vector", mean)
        super().__post_init__()

    def __reduce__(self) -> tuple[Any, ...]:
        about = (self.vector, self.layer, self.site, self.positions, self.name, dict(self.method), dict(self.model))
        return PromptVectors, (*about, dict(self.table))

    @property
    def norm(self) -> float:
        """Quadratic mean of the norms of all prompts' vectors (over positions, of each position's)."""
        squares = [float(torch.atleast_2d(given).square().sum(-1).mean()) for given in self.table.values()]
        return float(np.sqrt(np.mean(squares)))

    def rows(self, prompts: Sequence[Prompt], length: int) -> Float[Tensor, "#row #pos d_model"]:
        """What acts on rows that begin with these prompts: one vector a row, or one for each of `length` positions.

        Raises:
            ValueError: prompts that are not in the table, or none given where they have to be known.
        """
        if not prompts:
            raise InputError(
                f"direction {self.name!r} is another one for each prompt, and this does not tell prompts apart; use steerlab.sweep"
            )
        lost = next((prompt for prompt in prompts if prompt not in self.table), None)
        if lost is not None:
            raise InputError(
                f"direction {self.name!r} knows {len(self.table)} prompts, and not one of {len(lost)} tokens ({str(lost[:8])[1:-1]}, …); "
                "make it for all the problems that are run, and for their scorer"
            )
        given = [self.table[prompt] for prompt in prompts]
        if given[0].ndim == 1:
            return torch.stack(given)[:, None]
        return torch.stack([one[torch.arange(length).clamp(max=len(one) - 1)] for one in given])

    def with_vector(self, vector: Tensor, name: str | None = None, method: Mapping[str, Any] | None = None) -> Direction:
        """One vector at the same place, as a plain direction."""
        said = {**self.method, "estimator": "from vectors of prompts"} if method is None else method
        return Direction(vector, self.layer, self.site, self.positions, name or self.name, said, self.model)

    def _scaled(self, factor: float, name: str) -> "PromptVectors":
        table = {prompt: given * factor for prompt, given in self.table.items()}
        return PromptVectors(self.vector, self.layer, self.site, self.positions, name, {**self.method, "scaled": factor}, self.model, table)

    def __neg__(self) -> "PromptVectors":
        return self._scaled(-1.0, f"-{self.name}")

    def __mul__(self, factor: float | np.number) -> "PromptVectors":
        if isinstance(factor, bool) or not isinstance(factor, int | float | np.integer | np.floating):
            return NotImplemented
        if not np.isfinite(factor) or factor == 0:
            raise InputError(f"direction {self.name!r} times {factor!r}; use a finite number other than 0")
        return self._scaled(float(factor), f"{float(factor):g} {self.name}")

    __rmul__ = __mul__

    def __repr__(self) -> str:
        return f"PromptVectors({self.name!r}, layer={self.layer}, site={self.site!r}, {len(self.table)} prompts, norm={self.norm:.3g})"


def _checked(prompt: Prompt, given: Tensor) -> Tensor:
    vectors = torch.as_tensor(given).detach().to("cpu", torch.float32)
    if vectors.ndim not in (1, 2) or (vectors.ndim == 2 and len(vectors) != len(prompt)):
        raise InputError(f"a prompt of {len(prompt)} tokens has vectors of shape {list(vectors.shape)}; use [d_model], or one row a token")
    if not bool(vectors.isfinite().all()):
        raise InputError(f"the vector of a prompt of {len(prompt)} tokens is not finite; steering with it would destroy every logit")
    return vectors
