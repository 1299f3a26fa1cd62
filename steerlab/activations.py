"""Cache activations of chosen layers, sites and positions, in memory or streamed to disk."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

from steerlab import files
from steerlab.memory import pass_tokens
from steerlab.models import Model, d_model, describe, device_of, hook_name
from steerlab.passes import residuals
from steerlab.tasks import Problem
from steerlab.tasks.batches import row_batches
from steerlab.tasks.scorers import Row, encode_prompt
from steerlab.tasks.scoring import check_ids

Positions = str | int | np.integer | Sequence[int]
DESCRIPTION, VALUES, MASK = "activations.json", "values.npy", "mask.npy"


@dataclass(frozen=True, eq=False)
class Activations:
    """Residual-stream activations of problems' prompts.

    Attributes:
        values: ``[problem layer pos d_model]``, float32. Positions that a shorter prompt lacks (only with
            positions="all") are zero and False in `mask`.
        mask: ``[problem pos]``.
        problem_ids: one a problem.
        layers: 0-based blocks.
        site: "resid_pre", "resid_mid" or "resid_post".
        positions: what was asked for.
        model: what `steerlab.models.describe` says of the model.
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
            raise ValueError(f"layer={layer}: cached were layers {', '.join(map(str, self.layers))}")
        return self.values[:, self.layers.index(layer)]

    def select(self, problem_ids: Sequence[str]) -> "Activations":
        """The activations of some of the problems, in the order given.

        Raises:
            ValueError: a problem that was not cached.
        """
        place = {problem_id: i for i, problem_id in enumerate(self.problem_ids)}
        missing = [problem_id for problem_id in problem_ids if problem_id not in place]
        if missing:
            raise ValueError(f"problem {missing[0]!r} is not among the {len(place)} cached problems")
        index = [place[problem_id] for problem_id in problem_ids]
        return Activations(self.values[index], self.mask[index], tuple(problem_ids), self.layers, self.site, self.positions, self.model)

    def __repr__(self) -> str:
        return f"Activations({list(self.values.shape)} problem×layer×pos×d_model, layers={list(self.layers)}, site={self.site!r}, positions={self.positions!r})"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>"


@torch.no_grad()
def cache_activations(
    model: Model,
    problems: Sequence[Problem],
    *,
    layers: int | Sequence[int],
    site: str = "resid_post",
    positions: Positions = "last",
    path: str | Path | None = None,
    max_tokens: int | None = None,
    progress: bool = False,
) -> Activations:
    """Run the prompts once, up to the last layer asked for, and keep the activations asked for.

    Args:
        model: a TransformerLens model.
        problems: whose prompts are run (answers are not).
        layers: one or several 0-based blocks.
        site: "resid_pre", "resid_mid" or "resid_post".
        positions: "last" prompt token, "mean" over the prompt (as the sources), "all" of them, or indices, where
            negative ones count from the prompt's end.
        path: a new folder to stream to. Memory then does not grow with the number of problems; the values are
            memory-mapped NumPy files, which `load_activations` opens lazily.
        max_tokens: rows times positions of one forward pass.
        progress: show a progress bar.

    Raises:
        ValueError: no problems, repeated ids, or a layer, site or position that does not exist.
        FileExistsError: `path` is there already.
    """
    if not problems:
        raise ValueError("no problems given; there is nothing to cache")
    check_ids(problems)
    layers = (layers,) if isinstance(layers, int | np.integer) else tuple(layers)
    if not layers or len(set(layers)) < len(layers):
        raise ValueError(f"layers={list(layers)}; give at least one layer, each once")
    for layer in layers:
        hook_name(model, layer, site)
    prompts = [encode_prompt(model, problem) for problem in problems]
    pick, width, kept = _picker(positions, problems, [len(prompt) for prompt in prompts])
    rows = tuple(Row(tuple(prompt), len(prompt)) for prompt in prompts)
    shape = (len(problems), len(layers), width, d_model(model))

    def fill(values: np.ndarray, mask: np.ndarray) -> None:
        with tqdm(total=len(rows), desc="cache", unit="prompt", disable=None if progress else True) as bar:
            for batch in row_batches(rows, room=pass_tokens(model, max_tokens), device=device_of(model), share=False):
                found = residuals(model, batch.tokens, layers, site)
                for k, layer in enumerate(layers):
                    here = found[layer].float().cpu().numpy()
                    for i, row, resid in zip(batch.index, batch.rows, here, strict=True):
                        chosen = pick(resid[: row.prompt_length])
                        values[i, k, : len(chosen)] = chosen
                        mask[i, : len(chosen)] = True
                bar.update(len(batch.index))

    header = {
        "problem_ids": [problem.id for problem in problems],
        "layers": list(layers),
        "site": site,
        "positions": kept if isinstance(kept, str) else list(kept),
        "model": describe(model),
    }
    if path is None:
        values, mask = np.zeros(shape, np.float32), np.zeros((shape[0], width), bool)
        fill(values, mask)
        return _activations(torch.from_numpy(values), torch.from_numpy(mask), header)
    with files.new_folder(path) as folder:
        on_disk = np.lib.format.open_memmap(folder / VALUES, "w+", np.float32, shape)
        mask = np.zeros((shape[0], width), bool)
        fill(on_disk, mask)
        on_disk.flush()
        np.save(folder / MASK, mask, allow_pickle=False)
        files.write_json(folder / DESCRIPTION, header)
    return load_activations(path)


def _activations(values: Tensor, mask: Tensor, header: dict[str, Any]) -> Activations:
    positions = header["positions"]
    return Activations(
        values,
        mask,
        tuple(header["problem_ids"]),
        tuple(header["layers"]),
        header["site"],
        positions if isinstance(positions, str) else tuple(positions),
        header["model"],
    )


def load_activations(path: str | Path) -> Activations:
    """Open a folder that `cache_activations` wrote; values are read from disk as they are used.

    Raises:
        FileNotFoundError: not such a folder.
    """
    folder = Path(path)
    if not (folder / DESCRIPTION).is_file():
        raise FileNotFoundError(f"{folder}: no {DESCRIPTION} there; expected a folder that cache_activations wrote")
    header = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    values = np.lib.format.open_memmap(folder / VALUES, "c")  # copy-on-write: torch wants writable memory, the file stays as it is
    mask = np.load(folder / MASK, allow_pickle=False)
    return _activations(torch.from_numpy(values), torch.from_numpy(mask), header)


def indices(positions: object) -> list[int]:
    """One index or several, as a list of ints.

    Raises:
        ValueError: none, or something that is no whole number.
    """
    wanted = [positions] if isinstance(positions, int | float | np.number) else list(cast("Sequence[object]", positions))
    if not wanted or not all(isinstance(p, int | np.integer) and not isinstance(p, bool) for p in wanted):
        raise ValueError(f"positions={positions!r}; give a whole number or several, e.g. -1 or [0, 1]")
    return [int(cast("int", p)) for p in wanted]


def _picker(
    positions: Positions, problems: Sequence[Problem], lengths: Sequence[int]
) -> tuple[Callable[[np.ndarray], np.ndarray], int, str | tuple[int, ...]]:
    """How to pick positions from one prompt's residuals, how many there are at most, and their description."""
    if isinstance(positions, str):
        pickers: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {
            "last": (lambda resid: resid[-1:], 1),
            "mean": (lambda resid: resid.mean(0, keepdims=True), 1),
            "all": (lambda resid: resid, max(lengths)),
        }
        if positions not in pickers:
            raise ValueError(f"positions={positions!r}; use last, mean, all or a list of indices")
        return *pickers[positions], positions
    index = tuple(indices(positions))
    for problem, length in zip(problems, lengths, strict=True):
        bad = [p for p in index if not -length <= p < length]
        if bad:
            raise ValueError(f"position {bad[0]}: the prompt of problem {problem.id!r} has {length} tokens; use {-length} to {length - 1}")
    return (lambda resid: resid[list(index)]), len(index), index
