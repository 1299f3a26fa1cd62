"""What is trained: named parameters, and the vector that they give for each row of a batch, constant or dependent on the prompt.

A learnable knows no model and no training loop. Parameters have a leading row axis, so that several candidates share a batch. Where
the vector depends on the prompt, v(x) = b + g(pool(x)), pool(x) is the mean or last residual stream of the prompt, scaled to a root
mean square of 1.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steerlab._checks import InputError, is_whole, one_of
from steerlab.directions.prompt_vectors import POOLS, pool
from steerlab.steering.prompt_rules import Rule

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
    one_of(init, "init", INITS)
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


@dataclass(frozen=True)
class _Contextual(ABC):
    """What all of them share.

    Attributes:
        d_model: width of the stream.
        pooling: "mean" over the prompt, or its "last" position.
        normalise: bring what is pooled to a root mean square of 1 (no parameter).
        init: "zero": training begins with the unsteered model; or "random": with vectors whose norm is about `init_norm`.
        init_norm: see there.
    """

    d_model: int
    pooling: str = "mean"
    normalise: bool = True
    init: str = "zero"
    init_norm: float = 0.01

    outputs: ClassVar[tuple[str, ...]] = ()  # the parameters that the vector is proportional to, all of them together

    def __post_init__(self) -> None:
        one_of(self.pooling, "pooling", POOLS)
        check_start(self.init, self.init_norm)
        for name in ("d_model", "entries", "hidden"):
            value = getattr(self, name, 1)
            if not is_whole(value, 1):
                raise InputError(f"{name}={value!r}; use a whole number from 1 up")

    @property
    def n_parameters(self) -> int:
        """How many numbers are learned."""
        return sum(value.numel() for value in self.initial(np.random.default_rng(0)).values())

    def _pooled(self, resid: Tensor, prompt: Tensor) -> Tensor:
        return pool(resid, prompt, self.pooling, normalise=self.normalise)

    def _begin(self, rng: np.random.Generator, *shape: int) -> Tensor:
        return start(self.init, self.init_norm, rng, *shape)

    @abstractmethod
    def initial(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """The parameters before training; what does not scale the vector is drawn from `rng`."""

    @abstractmethod
    def static(self, parameters: Parameters) -> Float[Tensor, " d_model"]:
        """b, the part of the vector that every prompt shares."""

    def penalty(self, parameters: Parameters) -> Float[Tensor, ""]:
        """The squares of all parameters (weight decay)."""
        return torch.stack([value.square().sum() for value in parameters.values()]).sum()

    def norm(self, parameters: Parameters) -> float:
        """The norm of b."""
        return float(self.static(parameters).norm())

    def shrink(self, parameters: Parameters, cap: float) -> None:
        """Scale the vectors of all prompts alike, so that b is no longer than `cap`."""
        norm = self.norm(parameters)
        if norm > cap:
            for name in self.outputs:
                parameters[name].mul_(cap / norm)

    def fixed(self, parameters: Parameters, place: int) -> None:
        """Nothing: the vector depends on the row."""
        return


@dataclass(frozen=True)
class ModulatedVector(_Contextual):
    """A static vector, and one learned number a prompt that makes more or less of it: v = b (1 + tanh(w . p / sqrt(d) + c)).

    2 d + 1 parameters: b, w and c. It begins as the static vector (w = 0, c = 0), and the factor stays between 0 and 2. Of a reported count
    of 2,049 at d = 1,024 this is one reading; a bounded factor is assumed.

    Example:
        >>> ModulatedVector(1024).n_parameters
        2049
    """

    outputs: ClassVar[tuple[str, ...]] = ("vector",)

    def initial(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """The static vector's start, and no modulation."""
        return {"vector": self._begin(rng, self.d_model), "weight": torch.zeros(self.d_model), "offset": torch.zeros(())}

    def vectors(
        self, parameters: Parameters, place: int, resid: Float[Tensor, "row pos d_model"], prompt: Bool[Tensor, "row pos"]
    ) -> Float[Tensor, "row 1 d_model"]:
        """The vector, times each row's factor."""
        along = (self._pooled(resid, prompt) * parameters["weight"]).sum(-1) / math.sqrt(self.d_model)
        factor = 1 + torch.tanh(along + parameters["offset"])
        return (factor[:, None] * parameters["vector"])[:, None]

    def static(self, parameters: Parameters) -> Float[Tensor, " d_model"]:
        """b."""
        return parameters["vector"]


@dataclass(frozen=True)
class DictionaryVector(_Contextual):
    """A dictionary of vectors and a router: v = sum of softmax(W2 relu(W1 p + c1) + c2)_k D_k.

    b is the mean of the entries, g what the router's weights differ from even ones. A router of one hidden layer with offsets: at d = 1,024,
    8 entries and 64 hidden units make 74,312 parameters, the reported count. With this design no other pair of sizes does, but for 64
    entries and 8 units.

    Attributes:
        entries: vectors in the dictionary.
        hidden: units of the router.

    Example:
        >>> DictionaryVector(1024).n_parameters
        74312
    """

    entries: int = 8
    hidden: int = 64

    outputs: ClassVar[tuple[str, ...]] = ("dictionary",)

    def initial(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Entries that are zero or small, and a random router."""
        dictionary = self._begin(rng, self.entries, self.d_model)
        w1, b1 = _layer(rng, self.hidden, self.d_model)
        w2, b2 = _layer(rng, self.entries, self.hidden)
        return {"dictionary": dictionary, "weight_1": w1, "offset_1": b1, "weight_2": w2, "offset_2": b2}

    def vectors(
        self, parameters: Parameters, place: int, resid: Float[Tensor, "row pos d_model"], prompt: Bool[Tensor, "row pos"]
    ) -> Float[Tensor, "row 1 d_model"]:
        """The entries, mixed as each row's router says."""
        hidden = _linear(self._pooled(resid, prompt), parameters["weight_1"], parameters["offset_1"]).relu()
        shares = _linear(hidden, parameters["weight_2"], parameters["offset_2"]).softmax(-1)
        dictionary = parameters["dictionary"]
        if _same(dictionary):
            return (shares @ dictionary[0])[:, None]
        return torch.einsum("rk,rkd->rd", shares, dictionary)[:, None]

    def static(self, parameters: Parameters) -> Float[Tensor, " d_model"]:
        """The mean of the entries."""
        return parameters["dictionary"].mean(0)


@dataclass(frozen=True)
class MLPVector(_Contextual):
    """A network that gives the vector: v = b + W2 relu(W1 p + c1).

    At d = 1,024, 128 hidden units make 263,296 parameters, the reported count; with one hidden layer and offsets no other size does.

    Attributes:
        hidden: units.

    Example:
        >>> MLPVector(1024).n_parameters
        263296
    """

    hidden: int = 128

    outputs: ClassVar[tuple[str, ...]] = ("vector", "weight_2")

    def initial(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """A random first layer; a second one that is zero or small."""
        vector = self._begin(rng, self.d_model)
        w1, b1 = _layer(rng, self.hidden, self.d_model)
        return {"vector": vector, "weight_1": w1, "offset_1": b1, "weight_2": self._begin(rng, self.d_model, self.hidden)}

    def vectors(
        self, parameters: Parameters, place: int, resid: Float[Tensor, "row pos d_model"], prompt: Bool[Tensor, "row pos"]
    ) -> Float[Tensor, "row 1 d_model"]:
        """What the network makes of each row's prompt."""
        hidden = _linear(self._pooled(resid, prompt), parameters["weight_1"], parameters["offset_1"]).relu()
        return _linear(hidden, parameters["weight_2"], parameters["vector"])[:, None]

    def static(self, parameters: Parameters) -> Float[Tensor, " d_model"]:
        """b, the last offset."""
        return parameters["vector"]


ContextLearnable = ModulatedVector | DictionaryVector | MLPVector
LEARNABLES: dict[str, Callable[..., ContextLearnable]] = {"modulated": ModulatedVector, "dictionary": DictionaryVector, "mlp": MLPVector}


def learnable_named(kind: str | ContextLearnable, width: int, **options: Any) -> ContextLearnable:
    """Look a kind up; one that is ready-made is taken as it is.

    Raises:
        ValueError: an unknown name, or one made for another width.
    """
    if isinstance(kind, str):
        if kind not in LEARNABLES:
            raise InputError(f"kind={kind!r}; use one of {', '.join(LEARNABLES)}, or one that you made, e.g. MLPVector({width}, hidden=16)")
        return LEARNABLES[kind](width, **options)
    if kind.d_model != width:
        raise InputError(f"kind={kind!r} was made for {kind.d_model} dimensions; this model's residual stream has {width}")
    return kind


def _layer(rng: np.random.Generator, outputs: int, inputs: int) -> tuple[Tensor, Tensor]:
    """Weights and offsets drawn evenly from within 1 / sqrt(inputs) of zero, as torch.nn.Linear's are."""
    limit = 1 / math.sqrt(inputs)
    drawn = (rng.uniform(-limit, limit, (outputs, inputs)), rng.uniform(-limit, limit, outputs))
    return torch.from_numpy(drawn[0]).float(), torch.from_numpy(drawn[1]).float()


def _same(value: Tensor) -> bool:
    """Whether all rows have one set of parameters; then it need not be repeated."""
    return len(value) == 1 or value.stride(0) == 0


def _linear(x: Tensor, weight: Tensor, offset: Tensor) -> Tensor:
    """A layer with a set of parameters for each row."""
    if _same(weight):
        return torch.nn.functional.linear(x, weight[0], offset[0])
    return torch.einsum("ri,roi->ro", x, weight) + offset


def rule_of(learnable: Learnable, parameters: Parameters, place: int = 0) -> Rule:
    """What a learnable with these parameters (without a row axis) makes of streams, at one of its places."""

    def rule(resid: Tensor, prompt: Tensor) -> Tensor:
        rows = {name: value.detach().to(resid.device)[None].expand(len(resid), *value.shape) for name, value in parameters.items()}
        found = learnable.vectors(rows, place, resid, prompt)
        return found[:, 0].expand(len(resid), -1)

    return rule
