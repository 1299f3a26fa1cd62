"""How many rows one forward pass takes: by the machine's caches, by a budget, and by what the device can hold."""

import math
import re
from collections.abc import Callable, Iterator
from typing import Annotated, TypedDict, TypeVar

import torch

from steerlab._checks import InputError, InputMemoryError, Option, is_whole
from steerlab.models.backends import Model
from steerlab.models.model import d_model, device_of, n_layers

MAX_TOKENS = {"cpu": 8192, "cuda": 65536}  # rows times positions of one forward pass, at most
CPU_WORKING_SET = 16 << 20  # bytes of the widest activation: beyond it a CPU waits for its memory, and the allocator for pages
ROW_POSITIONS = 8  # positions of a pass for which one row is generated from at a time
GENERATION = 2 * 10**9  # bytes of keys and values on a CPU
READ_VALUES = 1 << 24  # logits computed at a time, where no budget asks for fewer
LOGIT_BYTES = 16  # of one logit: itself, its copies in float32 and as log-probability
Work = TypeVar("Work")
Found = TypeVar("Found")
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


class Limits(TypedDict, total=False):
    """How large one forward pass may be."""

    max_tokens: Annotated[int | None, Option(None, "rows times positions of one forward pass; default what is fast on the model's device")]
    memory: Annotated[
        str | int | None,
        Option(None, 'what a forward pass may take, e.g. "2GB"; passes become smaller where it, or the device, has no room'),
    ]


class Shown(TypedDict, total=False):
    """Whether a job says how far it is."""

    progress: Annotated[bool, Option(False, "show a progress bar")]


class PassOptions(Limits, Shown, total=False):
    """Options of everything that runs a model over rows of tokens."""


def parse_memory(memory: str | int | float) -> int:
    """A number of bytes, from a number or from a text such as "2GB", "512 MiB" or "1.5GB".

    Raises:
        ValueError: anything else, or nothing above zero.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(memory)) if not isinstance(memory, bool) else None
    if found is None or found[2].upper() not in UNITS or float(found[1]) <= 0:
        raise InputError(f"memory={memory!r}; give a number of bytes, or a text such as '2GB' or '512MiB'")
    return int(float(found[1]) * UNITS[found[2].upper()])


def widest(model: Model) -> int:
    """Values that the widest activation of a block holds for one position."""
    cfg = model.cfg
    return max(int(getattr(cfg, "d_mlp", None) or 0), 3 * int(cfg.n_heads) * int(cfg.d_head), 2 * d_model(model))


def token_bytes(model: Model) -> int:
    """A cautious estimate of what one position of one row takes while a pass runs, weights aside.

    Counted are the streams kept at every block, keys and values of every block, three copies of the widest activation,
    and attention scores over 256 positions.
    """
    cfg, size = model.cfg, next(iter(model.parameters())).element_size()
    kept = (n_layers(model) + 1) * d_model(model) + 2 * n_layers(model) * keys_width(model)
    return size * (kept + 3 * widest(model) + 3 * int(cfg.n_heads) * 256)


def keys_width(model: Model) -> int:
    """Values that the keys of one block hold for one position."""
    return int(getattr(model.cfg, "n_key_value_heads", None) or model.cfg.n_heads) * int(model.cfg.d_head)


def pass_tokens(model: Model, max_tokens: int | None = None, memory: str | int | float | None = None) -> int:
    """Rows times positions of one forward pass.

    Args:
        model: the model.
        max_tokens: an upper limit; default what is fast on the model's device.
        memory: an upper limit in bytes, or as a text such as "2GB".

    Raises:
        ValueError: a limit that is not a positive number, or a budget below one position.
    """
    if max_tokens is not None and not is_whole(max_tokens, 1):
        raise InputError(f"max_tokens={max_tokens!r}; use a whole number of at least 1, or leave it out")
    room = max_tokens
    if room is None:
        device = device_of(model).type
        room = MAX_TOKENS.get(device, MAX_TOKENS["cuda"])
        if device == "cpu":
            room = min(room, max(256, CPU_WORKING_SET // (4 * widest(model))))
    if memory is not None:
        budget = parse_memory(memory)
        if budget < token_bytes(model):
            raise InputError(f"memory={memory!r}: one position of this model takes about {token_bytes(model)} bytes; give more")
        room = min(room, max(1, budget // 2 // token_bytes(model)))  # the other half is for logits and what is kept
    return room


def logit_values(memory: str | int | float | None = None) -> int:
    """Logits computed at a time: a quarter of the budget."""
    return READ_VALUES if memory is None else max(1, min(READ_VALUES, parse_memory(memory) // 4 // LOGIT_BYTES))


def generated_rows(model: Model, positions: int, room: int, memory: str | int | float | None = None) -> int:
    """Rows that are generated from at a time; at least one.

    Args:
        model: the model.
        positions: of the longest row, with what is generated.
        room: rows times positions of one forward pass.
        memory: what keys and values may take; default 2 GB, or half of what is free on a GPU.
    """
    device, size = device_of(model), next(iter(model.parameters())).element_size()
    if memory is not None:
        budget = parse_memory(memory)
    else:
        budget = torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else GENERATION
    row = 2 * 2 * n_layers(model) * keys_width(model) * size * positions  # once more while rows are put together
    row += LOGIT_BYTES * int(model.cfg.d_vocab)
    return max(1, min(room // ROW_POSITIONS, budget // row))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or this machine had no memory left."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and ("can't allocate memory" in str(error) or "not enough memory" in str(error))
    )


def too_large(positions: int) -> InputMemoryError:
    """The error for work of which not even so many positions fit."""
    return InputMemoryError(f"not even {positions} positions at a time fit into memory; free some, use shorter prompts or a smaller dtype")


def emptied() -> None:
    """Give back what torch keeps of a GPU's memory for later."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def shrinking(
    work: list[Work],
    room: int,
    run: Callable[[Work, int], Found],
    split: Callable[[Work, int], list[Work]],
    least: Callable[[Work], int],
) -> Iterator[tuple[Work, Found]]:
    """Do pieces of work one after the other; where memory runs out, go on with half the room.

    Args:
        work: the pieces.
        room: rows times positions of one forward pass.
        run: does a piece within a room.
        split: cuts a piece into pieces for a smaller room.
        least: the smallest room that a piece can be done in.

    Raises:
        MemoryError: not even the smallest piece fits.
    """
    waiting = list(reversed(work))
    while waiting:
        piece = waiting.pop()
        try:
            found = run(piece, room)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if room <= least(piece):
                raise too_large(least(piece)) from error
            room = max(least(piece), math.ceil(room / 2))
            emptied()
            waiting += reversed(split(piece, room))
            continue
        yield piece, found
