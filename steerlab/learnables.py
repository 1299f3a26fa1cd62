"""What is learned: named parameters, and the vector that they give for each row of a batch.

A learnable knows no model and no training. Its parameters come to it with a row axis in front, one set of parameters a
row, so that rows of several candidates stand side by side in one batch.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steerlab._checks import InputError

Parameters = Mapping[str, Tensor]
INITS = ("zero", "random")


@runtime_checkable
class Learnable(Protocol):
    """Parameters that give a vector for each row; a vector may depend on the row's residual stream."""

    def initial(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """The parameters before training, float32, without a row axis."""

    def vectors(
        self, parameters: Parameters, place: int, resid: Float[Tensor, "row pos d_model"], prompt: Bool[Tensor, "row pos"]
    ) -> Float[Tensor, "#row #pos d_model"]:
        """What acts on each row.

        Args:
            parameters: with a row axis in front.
            place: which of a candidate's places it is, counted from 0.
            resid: the residual stream there.
            prompt: where the rows hold their prompts.
        """

    def penalty(self, parameters: Parameters) -> Float[Tensor, ""]:
        """What an L2 penalty multiplies."""

    def norm(self, parameters: Parameters) -> float:
        """The norm that the history shows."""

    def shrink(self, parameters: Parameters, cap: float) -> None:
        """Scale the parameters, in place, so that the norm is at most `cap`."""

    def fixed(self, parameters: Parameters, place: int) -> Float[Tensor, " d_model"] | None:
        """The vector at a place, or None where it depends on the row."""


def check_start(init: str, init_norm: float) -> None:
    """Refuse a start of training that is none.

    Raises:
        ValueError: an unknown start, or a norm that is not a finite number above 0.
    """
    if init not in INITS:
        raise InputError(f"init={init!r}; use one of {', '.join(INITS)}")
    if not (math.isfinite(init_norm) and init_norm > 0):
        raise InputError(f"init_norm={init_norm!r}; use a finite norm above 0, e.g. 0.01")


def start(init: str, init_norm: float, rng: np.random.Generator, *shape: int) -> Tensor:
    """Zeros, or Gaussian rows of a norm: what training begins with."""
    if init == "zero":
        return torch.zeros(shape)
    noise = torch.from_numpy(rng.standard_normal(shape)).float()
    return init_norm * noise / noise.norm(dim=-1, keepdim=True)


@dataclass(frozen=True)
class StaticVector:
    """One vector for every row, at one or several places, each with its scale.

    Attributes:
        d_model: its length.
        scales: one a place.
        learn_scales: whether the scales are learned, too.
        init: "zero", or "random": Gaussian with norm `init_norm`.
        init_norm: norm of a random start.
    """

    d_model: int
    scales: tuple[float, ...] = (1.0,)
    learn_scales: bool = False
    init: str = "zero"
    init_norm: float = 0.01

    def __post_init__(self) -> None:
        check_start(self.init, self.init_norm)

    def initial(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Zeros, or a small Gaussian vector; and the scales where they are learned."""
        vector = start(self.init, self.init_norm, rng, self.d_model)
        return {"vector": vector} | ({"scales": torch.tensor(self.scales)} if self.learn_scales else {})

    def vectors(
        self, parameters: Parameters, place: int, resid: Float[Tensor, "row pos d_model"], prompt: Bool[Tensor, "row pos"]
    ) -> Float[Tensor, "#row #pos d_model"]:
        """The vector, scaled for its place."""
        vector = parameters["vector"][:, None]
        if self.learn_scales:
            return vector * parameters["scales"][:, place, None, None]
        return vector if self.scales[place] == 1 else vector * self.scales[place]

    def penalty(self, parameters: Parameters) -> Float[Tensor, ""]:
        """The vector's squared norm; scales are not penalised."""
        return parameters["vector"].square().sum()

    def norm(self, parameters: Parameters) -> float:
        """The vector's norm, before any scale."""
        return float(parameters["vector"].norm())

    def shrink(self, parameters: Parameters, cap: float) -> None:
        """Keep the vector's direction and shorten it."""
        norm = self.norm(parameters)
        if norm > cap:
            parameters["vector"].mul_(cap / norm)

    def fixed(self, parameters: Parameters, place: int) -> Float[Tensor, " d_model"] | None:
        """The vector as it acts at a place."""
        scale = parameters["scales"][place] if self.learn_scales else self.scales[place]
        return parameters["vector"] * scale
