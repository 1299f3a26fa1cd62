"""Causal interventions on the residual stream: `steer`, and where and at which alpha it acts.

Every operator leaves the stream untouched, bit for bit, where alpha is 0.
"""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steerlab._checks import InputError, is_number
from steerlab.activations.positions import Positions, TokenPositions
from steerlab.directions.direction import Direction, Directions, as_directions, check_alike, check_directions, site_of
from steerlab.directions.prompt_vectors import Prompt, PromptVectors
from steerlab.models.backends import Model
from steerlab.models.model import HookFn, hook_name, hooks
from steerlab.steering.operators import Operator, check_operator, operator_named


def check_alpha(alpha: object) -> float:
    """A finite number."""
    if isinstance(alpha, np.ndarray | Tensor) and alpha.ndim == 0:
        alpha = alpha.item()
    if not is_number(alpha):
        raise InputError(f"alpha={alpha!r} is not a finite number; use one like -3.0 or 0.5")
    return float(cast("float", alpha))


def acts_at(direction: Direction, positions: Positions) -> TokenPositions:
    """Where a direction acts: one with a vector for each position there, any other where it is told to."""
    return TokenPositions(direction.positions) if direction.vector.ndim == 2 else TokenPositions.of(positions)


def spread(direction: Direction, prompt_lengths: Sequence[int], length: int) -> tuple[Tensor, Tensor]:
    """A per-position direction as ``[batch pos d_model]`` with zeros elsewhere, and the mask of where it is."""
    if isinstance(direction.positions, str):
        raise InputError(
            f"direction {direction.name!r} has {len(direction.vector)} vectors but positions={direction.positions!r}; "
            "give Direction(positions=(…)) one index for each" + (", or a vector of shape [d_model]" if len(direction.vector) == 1 else "")
        )
    vectors = torch.zeros(len(prompt_lengths), length, direction.vector.shape[-1])
    columns = TokenPositions(direction.positions).columns(prompt_lengths, f"position {{}} of direction {direction.name!r}: a prompt")
    for vector, column in zip(direction.vector, columns.T, strict=True):
        vectors[torch.arange(len(column)), column] = vector
    return vectors, torch.zeros(vectors.shape[:2], dtype=torch.bool).scatter_(1, columns, value=True)


def resolved(
    direction: Direction, mask: Bool[Tensor, "batch pos"] | None, prompt_lengths: Sequence[int], length: int, prompts: Sequence[Prompt] = ()
) -> tuple[Float[Tensor, "#batch #pos d_model"], Bool[Tensor, "batch pos"] | None]:
    """What of a direction acts on rows, and where: `mask`, or the own positions of a direction with one vector a position."""
    if direction.vector.ndim == 2:
        return spread(direction, prompt_lengths, length)
    return (direction.rows(prompts, length) if isinstance(direction, PromptVectors) else direction.vector[None, None, :]), mask


@dataclass
class Patch:
    """An intervention resolved for a batch: what is added where, row by row. Called on a residual stream, it returns the new one.

    Attributes:
        operator: how vector and stream combine.
        vectors: ``[batch|1 pos|1 d_model]``.
        alphas: ``[batch|1 1 1]``.
        mask: ``[batch|1 pos]``, or None for every position.
        start: position of the first column that it is called on (generation feeds one position at a time).
        everywhere: whether it acts on all that it is called on (or on nothing), where that is known without asking the device.
    """

    operator: Operator
    vectors: Float[Tensor, "#batch #pos d_model"]
    alphas: Float[Tensor, "#batch 1 1"]
    mask: Bool[Tensor, "#batch #pos"] | None = None
    start: int = 0
    everywhere: bool | None = None

    def of(self, rows: Int[Tensor, " row"]) -> "Patch":
        """The same for some of the rows."""

        def some(values: Tensor) -> Tensor:
            return values if len(values) == 1 else values[rows]

        mask = None if self.mask is None else some(self.mask)
        return replace(self, vectors=some(self.vectors), alphas=some(self.alphas), mask=mask)

    def windows(self, starts: Int[Tensor, " batch"], width: int) -> "Patch":
        """The same for as many columns of each row, from another column on in each; they become columns 0 to `width`."""
        rows = torch.arange(len(starts), device=starts.device)[:, None]
        columns = starts[:, None] + torch.arange(width, device=starts.device)
        vectors = self.vectors if self.vectors.shape[1] == 1 else self.vectors.expand(len(starts), -1, -1)[rows, columns]
        mask = None if self.mask is None else self.mask.expand(len(starts), -1)[rows, columns]
        return Patch(self.operator, vectors, self.alphas, mask, everywhere=self.everywhere)

    def __call__(self, resid: Float[Tensor, "batch pos d_model"]) -> Float[Tensor, "batch pos d_model"]:
        if self.everywhere is False:
            return resid
        window = slice(self.start, self.start + resid.shape[1])
        vectors = self.vectors if self.vectors.shape[1] == 1 else self.vectors[:, window]
        steered = self.operator(resid, vectors.to(resid), self.alphas.to(resid))
        if self.everywhere:
            return steered
        acts = self.alphas != 0 if self.mask is None else (self.alphas != 0) & self.mask[:, window, None]
        return torch.where(acts, steered, resid)


def known_everywhere(alphas: Tensor, mask: Tensor | None) -> bool | None:
    """Whether something acts everywhere (True) or nowhere (False), from alphas and mask before they go to a device."""
    acts = alphas != 0
    if not bool(acts.any()) or (mask is not None and not bool(mask.any())):
        return False
    return True if mask is None and bool(acts.all()) else None


def patch(
    direction: Direction,
    alphas: Sequence[float],
    *,
    operator: str | Operator = "add",
    positions: Positions = "all",
    prompt_lengths: Sequence[int] = (),
    length: int = 0,
    device: torch.device | str = "cpu",
    prompts: Sequence[Prompt] = (),
) -> Patch:
    """Resolve one direction for a batch: one alpha a row, or a single one for all rows.

    A direction with one vector a position acts on its own positions; `positions` is then not asked. One with a vector for each
    prompt needs to know the tokens of the rows' `prompts`.
    """
    alpha = torch.tensor([check_alpha(a) for a in alphas], dtype=torch.float32)[:, None, None]
    shared = None if direction.vector.ndim == 2 else TokenPositions.of(positions).mask(prompt_lengths, length)
    vectors, mask = resolved(direction, shared, prompt_lengths, length, prompts)
    everywhere = known_everywhere(alpha, mask)
    return Patch(operator_named(operator), vectors.to(device), alpha.to(device), None if mask is None else mask.to(device), 0, everywhere)


class _Prompts:
    """Tells calls that begin with a prompt from those of a generation that goes on from one, by the stream that comes in at one hook point."""

    def __init__(self) -> None:
        self._stream: Tensor | None = None  # of the last call that was a prompt, before it was steered

    def goes_on(self, resid: Float[Tensor, "batch pos d_model"]) -> bool:
        """Whether a call goes on from the prompt before: one token, for as many rows.

        Raises:
            ValueError: a call that repeats the one before and adds to it.
        """
        before = self._stream
        if before is not None and len(before) == len(resid):
            if resid.shape[1] == 1 and before.shape[1] > 1:
                return True
            if resid.shape[1] == 1:
                raise InputError(
                    "positions='prompt': a call of one token follows another one, and steer does not know whether that is a further prompt or a generation "
                    "that goes on from a prompt of one token; use sweep, or begin a new steer block for each prompt"
                )
            n = before.shape[1]
            if resid.shape[1] > n:
                gap = (resid[:, :n].detach().float() - before.float()).norm(dim=-1)
                if bool((gap <= 0.01 * before.float().norm(dim=-1)).all()):
                    raise InputError(
                        f"positions='prompt': a call of {resid.shape[1]} tokens begins with the {n} of the call before, and steer does not know whether that "
                        "is a longer prompt or a generation without kept keys and values; generate with them (use_past_kv_cache=True), use sweep, or "
                        "begin a new steer block for each prompt"
                    )
        self._stream = resid.detach().clone()
        return False


@contextlib.contextmanager
def steer(
    model: Model,
    direction: Directions,
    *,
    alpha: float | Sequence[float] = 1.0,
    operator: str | Operator = "add",
    positions: Positions = "all",
    layer: int | None = None,
    site: str | None = None,
) -> Iterator[list[str]]:
    """Steer every run of the model inside the block; leave the model as it was afterwards.

    Each direction acts where it was measured unless `layer` or `site` names another place. Positions are those of the
    tokens given to the model: ``"last"`` is the last column of each call.

    Args:
        model: a TransformerLens model.
        direction: one, or several that act together; or ``{layer: direction}``, where each acts at its key.
        alpha: coefficient, or one for each direction.
        operator: a name among `steerlab.OPERATORS`, or a function of (resid, vector, alpha).
        positions: "all", "last", "prompt", an index or indices; of each call of the model.
        layer, site: act there instead.

    When the model generates with kept keys and values, the first call has the prompt and every further call the one token that was generated
    last. "all" steers every token; "last" the prompt's last token and then each generated one; "prompt" acts in the first call alone (a call of one
    token with as many rows as the call before goes on from it, any other call is a prompt from end to end; behind a prompt of one token that is not
    known, and an error). An index is one of the prompt's tokens
    only in the first call, and beyond the only column of the next, which is an error (0 and -1 are that column, which is warned of).
    Without kept keys and values every call has the whole sequence so far: "last" is its newest token alone, negative indices move along, and
    "prompt" ends with an error at the first call that repeats the one before and adds to it, because nothing says whether that is a longer prompt.
    "generated" is always refused; `steerlab.sweep` knows its problems' prompts.

    Yields:
        The hook points that are steered.

    Raises:
        ValueError: an unknown operator, layer, site or position, a direction that does not fit, alphas that do not match, or, with
            positions="prompt", a call that may be a longer prompt or a generation.

    Warns:
        UserWarning: a hook that never fired although the block ended without an error, or indices in a call of one token that follows a
            longer one.

    Example:
        >>> import steerlab as sl, torch
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> direction = sl.Direction(torch.ones(model.cfg.d_model), layer=3)
        >>> tokens = model.to_tokens(task.test[0].prompt)
        >>> before = model(tokens)
        >>> with sl.steer(model, direction, alpha=2.0):
        ...     steered = model(tokens)
        >>> bool((steered == before).all()), bool((model(tokens) == before).all())
        (False, True)
    """
    placed = [] if isinstance(direction, list | tuple) and not direction else as_directions(direction, "direction")
    if layer is not None and any(at is not None for _, at in placed):
        raise InputError(f"layer={layer}: the directions are given as {{layer: direction}}, which says where each acts; leave layer out")
    directions = [one for one, _ in placed]
    alphas = [alpha] * len(directions) if not isinstance(alpha, Sequence) else list(alpha)
    if not directions or len(alphas) != len(directions):
        raise InputError(
            f"{len(directions)} directions and {len(alphas)} alphas; give at least one direction, and one alpha or one for each"
        )
    check_alike(directions, layers=False)
    wanted: list[tuple[str, HookFn]] = []
    points: list[str] = []
    silent: dict[int, str] = {}  # hook points of hooks that did not fire yet
    longest, warned = 0, False

    def told_of(length: int, at: Positions) -> None:
        """Indices are those of a call; in one of a single token behind a longer one they are hardly what was meant."""
        nonlocal longest, warned
        if length == 1 and longest > 1 and not isinstance(at, str) and not warned:
            warned = True
            warnings.warn(
                f"positions={at!r} count the tokens of each call, and a call of one token followed one of {longest}: in a generation with kept keys "
                "and values the generated tokens are steered, too; use sweep for positions of prompts",
                UserWarning,
                stacklevel=2,
            )
        longest = max(longest, length)

    check_directions(model, directions)
    check_operator(model, operator, directions)
    for k, ((one, at), strength) in enumerate(zip(placed, alphas, strict=True)):
        if one.by_prompt:
            raise InputError(
                f"direction {one.name!r} is another one for each prompt, and steer does not know which tokens are a prompt; use sweep, or "
                "the steer method of a context-dependent vector"
            )
        point = hook_name(model, *site_of(one, layer if at is None else at, site))
        check_alpha(strength)
        if isinstance(positions, str):
            TokenPositions.of(positions)
        if positions == "generated":
            raise InputError("positions='generated': steer does not know where a prompt ends; use sweep, or the indices of the tokens")
        if one.vector.ndim == 2:
            spread(one, [], 0)  # says so now if its positions are not indices

        seen = _Prompts() if positions == "prompt" and one.vector.ndim == 1 else None

        def fn(resid: Tensor, k: int = k, one: Direction = one, strength: float = strength, seen: "_Prompts | None" = seen) -> Tensor:
            silent.pop(k, None)
            if seen is not None and seen.goes_on(resid):
                return resid
            batch, length = resid.shape[:2]
            told_of(length, one.positions if one.vector.ndim == 2 else positions)
            rows: dict[str, Any] = {"prompt_lengths": [length] * batch, "length": length, "device": resid.device}
            return patch(one, [strength], operator=operator, positions=positions, **rows)(resid)

        points.append(point)
        if strength:  # alpha = 0 is the model itself: nothing is attached
            wanted.append((point, fn))
            silent[k] = point
    with hooks(model, wanted):
        yield points
    if silent:
        warnings.warn(
            f"steering never acted: no run of the model inside the block reached {', '.join(silent.values())}", UserWarning, stacklevel=3
        )
