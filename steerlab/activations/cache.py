"""Cache activations at chosen layers, sites and positions, in memory or on disk; or wrap plain arrays as activations."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steerlab._checks import InputError, InputTypeError, takes_options
from steerlab._html import Result
from steerlab._progress import job, progress_bar
from steerlab.activations import files
from steerlab.activations.positions import MEASURED, Positions, TokenPositions
from steerlab.models.backends import Model
from steerlab.models.batches import Batch, TokenRow, batches_for, least, smaller
from steerlab.models.memory import PassOptions, pass_tokens, shrinking
from steerlab.models.model import HookFn, d_model, describe, hook_name, hooks
from steerlab.models.passes import residuals
from steerlab.models.shortcuts import mlp_only_at
from steerlab.models.threads import on_suitable_threads
from steerlab.tasks.evaluation import check_ids
from steerlab.tasks.problems import Problem, as_problems
from steerlab.tasks.scorers import encode_prompt

Pick = Callable[[Tensor, Tensor], Tensor]  # of a batch's residual stream, by the prompts' lengths


@dataclass(frozen=True, eq=False)
class Activations(Result):
    """Residual-stream activations of problems' prompts.

    Attributes:
        values: ``[problem layer pos d_model]``, float32. Positions that a shorter prompt lacks (only with
            positions="all") are zero and False in `mask`.
        mask: ``[problem pos]``.
        problem_ids: one a problem.
        layers: 0-based blocks.
        site: "resid_pre", "resid_mid" or "resid_post".
        positions: what was asked for.
        model: what `steerlab.models.model.describe` says of the model.
    """

    values: Float[Tensor, "problem layer pos d_model"]
    mask: Bool[Tensor, "problem pos"]
    problem_ids: tuple[str, ...]
    layers: tuple[int, ...]
    site: str
    positions: str | tuple[int, ...]
    model: dict[str, Any]

    def at(self, layer: int) -> Float[Tensor, "problem pos d_model"]:
        """The activations of one layer.

        Raises:
            ValueError: a layer that was not cached.
        """
        if layer not in self.layers:
            raise InputError(f"layer={layer}: cached were layers {', '.join(map(str, self.layers))}")
        return self.values[:, self.layers.index(layer)]

    def norms(self) -> dict[int, float]:
        """The median norm of the activations at each layer, over problems and positions: what a relative dose is relative to."""
        return {layer: float(np.median(self.at(layer)[self.mask].double().norm(dim=-1).cpu().numpy())) for layer in self.layers}

    def select(self, problem_ids: Sequence[str]) -> "Activations":
        """The activations of some of the problems, in the order given.

        Raises:
            ValueError: a problem that was not cached.
        """
        place = {problem_id: i for i, problem_id in enumerate(self.problem_ids)}
        missing = [problem_id for problem_id in problem_ids if problem_id not in place]
        if missing:
            raise InputError(f"problem {missing[0]!r} is not among the {len(place)} cached problems")
        index = [place[problem_id] for problem_id in problem_ids]
        return Activations(self.values[index], self.mask[index], tuple(problem_ids), self.layers, self.site, self.positions, self.model)

    def __repr__(self) -> str:
        return f"Activations({list(self.values.shape)} problem×layer×pos×d_model, layers={list(self.layers)}, site={self.site!r}, positions={self.positions!r})"

    @property
    def frame(self) -> pd.DataFrame:
        """One line a problem and layer: problem_id, layer, positions (how many), norm (mean over them, residual-stream units)."""
        n = self.mask.sum(dim=1)
        parts = [
            pd.DataFrame(
                {"problem_id": self.problem_ids, "layer": layer, "positions": n, "norm": self.at(layer).norm(dim=-1).sum(dim=1) / n}
            )
            for layer in self.layers
        ]
        return pd.concat(parts, ignore_index=True)

    def summary(self) -> pd.DataFrame:
        """One line a layer: layer, site, problems, positions (the most of a problem), d_model."""
        problems, _, positions, width = self.values.shape
        return pd.DataFrame({"layer": self.layers, "site": self.site, "problems": problems, "positions": positions, "d_model": width})


@job("problems", "layers")
@takes_options
@on_suitable_threads
@torch.no_grad()
def cache_activations(
    model: Model,
    problems: Sequence[Problem] | Sequence[str],
    *,
    layers: int | Sequence[int],
    site: str = "resid_post",
    positions: Positions = "last",
    path: str | Path | None = None,
    **options: Unpack[PassOptions],
) -> Activations:
    """Activations of prompts at chosen layers, site and positions, from one run up to the last of these layers.

    Args:
        model: a TransformerLens model.
        problems: whose prompts are run (answers are not); or texts, which are then called text-0, text-1, …
        layers: one or several 0-based blocks.
        site: "resid_pre", "resid_mid" or "resid_post".
        positions: "last" prompt token, "mean" over the prompt (as the sources), "all" of them, or indices, where
            negative ones count from the prompt's end.
        path: a new folder to stream to. Memory then does not grow with the activations; `load_activations` opens the
            folder, of plain NumPy files, lazily. Until it is complete it stands beside as ``<path>.partial``; after an
            interruption, the same call goes on from there.

    Raises:
        TypeError: something else than problems or texts.
        ValueError: no problems, repeated ids, a layer, site or position that does not exist, or ``<path>.partial``
            holds a cache of something else. (What hooks on the model do is not compared.)
        FileExistsError: `path` is there already.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> acts = sl.cache_activations(model, task.train[:5], layers=[2, 3])
        >>> acts
        Activations([5, 2, 1, 128] problem×layer×pos×d_model, layers=[2, 3], site='resid_post', positions='last')
        >>> acts.at(3).shape
        torch.Size([5, 1, 128])
    """
    problems = as_problems(problems, texts=True)
    if not problems:
        raise InputError("no problems given; there is nothing to cache")
    check_ids(problems)
    layers = (layers,) if isinstance(layers, int | np.integer) else tuple(layers)
    if not layers or len(set(layers)) < len(layers):
        raise InputError(f"layers={list(layers)}; give at least one layer, each once")
    for layer in layers:
        hook_name(model, layer, site)
    layers = tuple(int(layer) for layer in layers)  # NumPy integers too, which JSON does not take
    ids = dict[int, int]()  # one integer object a token of the vocabulary, rather than one a token of the prompts
    prompts = [tuple(ids.setdefault(token, token) for token in encode_prompt(model, problem)) for problem in problems]
    rows = tuple(TokenRow(prompt, len(prompt)) for prompt in prompts)
    lengths = [len(prompt) for prompt in prompts]
    at = TokenPositions.of(positions, MEASURED)
    kept = at.where
    pick, width = _picker(at, problems, lengths)
    widths = lengths if kept == "all" else [width] * len(problems)
    mask = np.arange(width) < np.array(widths)[:, None]
    shape = (len(problems), len(layers), width, d_model(model))

    narrow = (-1,) if kept == "last" else () if isinstance(kept, str) else kept
    room = pass_tokens(model, options["max_tokens"], options["memory"])

    def run(batch: Batch, room: int) -> list[np.ndarray]:
        return _picked(model, batch.tokens, [lengths[i] for i in batch.index], layers, site, pick, narrow)

    def fill(done: np.ndarray, put: Callable[[Sequence[int], Sequence[Sequence[np.ndarray]]], None]) -> None:
        left = ~done  # a copy: what is being written changes `done`
        # Whole batches are run, so that the values are those of a run without interruption, to the bit.
        batches = [b for b in batches_for(model, rows, room=room) if left[list(b.index)].any()]
        with progress_bar(total=len(done), initial=int(done.sum()), desc="cache", unit="prompt", show=options["progress"]) as bar:
            for batch, found in shrinking(batches, room, run, partial(smaller, rows), least):
                new = [(j, i) for j, i in enumerate(batch.index) if left[i]]
                put([i for _, i in new], [[resid[j, : widths[i]] for resid in found] for j, i in new])
                bar.update(len(new))

    header = {
        "problem_ids": [problem.id for problem in problems],
        "layers": list(layers),
        "site": site,
        "positions": at.describe(),
        "model": describe(model, anew=path is not None),
    }
    if path is None:
        values = np.zeros(shape, np.float32)

        def put(problems: Sequence[int], parts: Sequence[Sequence[np.ndarray]]) -> None:
            for i, part in zip(problems, parts, strict=True):
                for k, resid in enumerate(part):
                    values[i, k, : len(resid)] = resid

        fill(np.zeros(len(problems), bool), put)
        return _activations(values, mask, header)
    with files.growing(path, header | {"prompts_sha256": _digest_of(prompts)}, mask, shape) as cache:
        fill(cache.done, cache.put)
    return load_activations(path, verify=False)  # written just now, or compared when it was taken up


def _picked(
    model: Model,
    tokens: Int[Tensor, "batch pos"],
    lengths: Sequence[int],
    layers: Sequence[int],
    site: str,
    pick: Pick,
    narrow: tuple[int, ...],
) -> list[Float[np.ndarray, "batch picked d_model"]]:
    """The picked positions of each layer, float32, from one pass; what is not picked is let go at once, on the device.

    `narrow` are the picked positions where they are indices: the last block's MLP then runs at these alone.
    """
    ends = torch.tensor(lengths, device=tokens.device)
    found: dict[int, Tensor] = {}

    def keep(layer: int) -> HookFn:
        return lambda resid: found.update({layer: pick(resid, ends.to(resid.device)).float()})

    size = (tokens.shape[0], tokens.shape[1])
    with ExitStack() as stack:
        if narrow:
            columns = [place if place >= 0 else length + place for length in lengths for place in narrow]
            rows = torch.arange(len(lengths), device=tokens.device).repeat_interleave(len(narrow))
            stack.enter_context(mlp_only_at(model, rows, torch.tensor(columns, device=tokens.device), size))
        stack.enter_context(hooks(model, [(hook_name(model, layer, site), keep(layer)) for layer in layers]))
        residuals(model, tokens, [max(layers)], site)  # our hooks come before the one that ends the pass
    return [found[layer].cpu().numpy() for layer in layers]


def _digest_of(prompts: Sequence[Sequence[int]]) -> str:
    """Tells caches apart that differ in their prompts' tokens."""
    tokens = sha256()
    for prompt in prompts:
        tokens.update(np.array([len(prompt), *prompt], "<i8").tobytes())
    return tokens.hexdigest()


def _activations(values: np.ndarray, mask: np.ndarray, header: dict[str, Any]) -> Activations:
    positions = header["positions"]
    return Activations(
        torch.from_numpy(values),
        torch.from_numpy(mask),
        tuple(header["problem_ids"]),
        tuple(header["layers"]),
        header["site"],
        positions if isinstance(positions, str) else tuple(positions),
        header["model"],
    )


def load_activations(path: str | Path, *, verify: bool = True) -> Activations:
    """Activations from a folder that `cache_activations` wrote; values are read from disk as they are used.

    Args:
        path: the folder.
        verify: read all values once, to compare them with the digests that were written with them; False opens a large cache at once.

    Raises:
        FileNotFoundError: not such a folder, or a file of it is missing.
        ValueError, OSError: one that is not complete, or was changed or damaged.

    Example:
        >>> import tempfile, steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     written = sl.cache_activations(model, task.train[:5], layers=[3], path=f"{folder}/acts")
        ...     bool((sl.load_activations(f"{folder}/acts").values == written.values).all())
        True
    """
    return _activations(*files.read(path, verify=verify))


def _picker(positions: TokenPositions, problems: Sequence[Problem], lengths: Sequence[int]) -> tuple[Pick, int]:
    """How to pick positions from a batch of residuals, and how many there are at most."""
    if isinstance(positions.where, str):
        pickers: dict[str, tuple[Pick, int]] = {
            "last": (_at((-1,)), 1),
            "mean": (_mean, 1),
            "all": (lambda resid, lengths: resid, max(lengths)),
        }
        return pickers[positions.where]
    for problem, length in zip(problems, lengths, strict=True):
        positions.columns([length], f"position {{}}: the prompt of problem {problem.id!r}")
    return _at(positions.where), len(positions.where)


def _at(index: Sequence[int]) -> Pick:
    """Positions by index, negative ones counted from each prompt's end."""

    def pick(resid: Float[Tensor, "batch pos d_model"], lengths: Int[Tensor, " batch"]) -> Float[Tensor, "batch picked d_model"]:
        wanted = torch.tensor(index, device=resid.device).expand(len(lengths), -1)
        row = torch.arange(len(lengths), device=resid.device)[:, None]
        return resid[row, torch.where(wanted < 0, wanted + lengths[:, None], wanted)]

    return pick


def _mean(resid: Float[Tensor, "batch pos d_model"], lengths: Int[Tensor, " batch"]) -> Float[Tensor, "batch 1 d_model"]:
    """The mean over each prompt, without the padding behind it."""
    padding = torch.arange(resid.shape[1], device=resid.device) >= lengths[:, None]
    total = resid.masked_fill(padding[:, :, None], 0).sum(1, keepdim=True, dtype=torch.float32)
    return total / lengths[:, None, None]


Group = Activations | np.ndarray | Tensor | pd.DataFrame | list[Any]
"""One group of problems' activations, as estimators take it."""


def as_activations(
    values: object, *, layer: int, site: str = "resid_post", positions: str | Sequence[int] = "last", ids: Sequence[str] | None = None
) -> Activations:
    """Plain arrays as activations of one layer, for estimators that need no model.

    Args:
        values: ``[problem d_model]``, or ``[problem pos d_model]``.
        layer: the 0-based block that they are of.
        site: "resid_pre", "resid_mid" or "resid_post".
        positions: where they were measured: "last", "mean" or an index for each position.
        ids: of the problems; default "0", "1" and so on.

    Raises:
        ValueError: another number of dimensions, or as many ids or positions as problems or positions are not given.

    Example:
        >>> as_activations([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], layer=4)
        Activations([3, 1, 1, 2] problem×layer×pos×d_model, layers=[4], site='resid_post', positions='last')
    """
    given = values.detach().cpu() if isinstance(values, Tensor) else torch.from_numpy(np.array(values, dtype=np.float64))
    array = given.to(torch.float32)
    if array.ndim not in (2, 3):
        raise InputError(f"values have shape {list(array.shape)}; use [problem, d_model] or [problem, pos, d_model]")
    array = array[:, None] if array.ndim == 2 else array
    where = positions if isinstance(positions, str) else tuple(int(position) for position in positions)
    if isinstance(where, tuple) and len(where) != array.shape[1]:
        raise InputError(f"{len(where)} positions for values at {array.shape[1]}; give one index for each")
    names = tuple(ids) if ids is not None else tuple(str(i) for i in range(len(array)))
    if len(names) != len(array):
        raise InputError(f"{len(names)} ids for {len(array)} problems; give one id for each")
    mask = torch.ones(array.shape[:2], dtype=torch.bool)
    return Activations(array[:, None], mask, names, (layer,), site, where, {})


def as_group(given: object, *, layer: int) -> Activations:
    """Activations as they are; anything else as the output of a layer at the last position, or at as many positions as it holds.

    Raises:
        ValueError: as `as_activations`.
    """
    if isinstance(given, Activations):
        return given
    try:
        array = given if isinstance(given, Tensor) else np.array(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputTypeError(
            f"a group is a {type(given).__name__} that is no array of numbers ({error}); give what steerlab.cache_activations returned, or numbers of shape "
            "[problem, d_model]"
        ) from error
    positions: str | tuple[int, ...] = tuple(range(array.shape[1])) if array.ndim == 3 and array.shape[1] > 1 else "last"
    return as_activations(array, layer=layer, positions=positions)
