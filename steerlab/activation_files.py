"""The folder of a cache on disk: written as the work goes, taken up again after an interruption, opened lazily.

While it grows it stands beside its place, as ``<path>.partial``, and holds a file `done` with one byte a problem.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from steerlab import files
from steerlab._errors import InputError, MissingFileError

DESCRIPTION, VALUES, MASK, DONE = "activations.json", "values.npy", "mask.npy", "done"


def partial_folder(path: str | Path) -> Path:
    """Where a cache grows until it is complete."""
    return Path(path).with_name(f"{Path(path).name}.partial")


@dataclass(frozen=True, eq=False)
class Growing:
    """A cache that is being written.

    Attributes:
        done: which problems' values are on disk.
        shape: problems, layers, positions, width of the residual stream.
        offset: where the values begin in their file, behind NumPy's header.
        values: the file of the values.
        flags: the file of `done`.
    """

    done: Bool[np.ndarray, " problem"]
    shape: tuple[int, int, int, int]
    offset: int
    values: FileIO
    flags: FileIO

    def put(self, problems: Sequence[int], parts: Sequence[Sequence[Float[np.ndarray, "_ d_model"]]]) -> None:
        """Write problems' values, one array a layer, then note that they are done.

        Plain writes, because the pages of a memory map would count as memory of this process until it lets go of them.
        """
        _, layers, width, d_model = self.shape
        for problem, part in zip(problems, parts, strict=True):
            for k, resid in enumerate(part):
                values = np.ascontiguousarray(resid, np.float32)
                _write(self.values, self.offset + (problem * layers + k) * width * d_model * values.itemsize, values)
        os.fsync(self.values.fileno())  # before the flags, so that what is marked as done has reached the disk
        for problem in problems:
            _write(self.flags, problem, np.ones(1, np.uint8))
        os.fsync(self.flags.fileno())
        self.done[list(problems)] = True


def _write(file: FileIO, place: int, values: np.ndarray) -> None:
    file.seek(place)
    rest = values.data.cast("B")
    while rest:  # an unbuffered write may stop half-way
        rest = rest[file.write(rest) :]


@contextlib.contextmanager
def growing(
    path: str | Path, header: Mapping[str, Any], mask: Bool[np.ndarray, "problem pos"], shape: tuple[int, int, int, int]
) -> Iterator[Growing]:
    """A cache to write, new or as an interruption left it; it takes its place when the block ends without an error.

    Args:
        path: where it goes.
        header: says what is cached, so that nothing else is taken up.
        mask: which positions exist.
        shape: of the values.

    Raises:
        FileExistsError: `path` exists and is not empty.
        ValueError: what grows there is something else, or damaged.
        OSError: the folder cannot be made or written.
    """
    files.check_vacant(path)
    folder = partial_folder(path)
    if files.is_vacant(folder):
        with files.new_folder(folder) as new:
            _allocate(new, header, mask, shape)
    done, offset = _take_up(folder, header, mask, shape)
    try:
        with (folder / VALUES).open("r+b", buffering=0) as values, (folder / DONE).open("r+b", buffering=0) as flags:
            yield Growing(done, shape, offset, values, flags)
    except BaseException:
        if not done.any():  # nothing to take up, and nothing that should stand in the way of another attempt
            shutil.rmtree(folder, ignore_errors=True)
        raise
    files.move_folder(folder, path)
    # Last: with it, an interruption just now leaves a complete cache; without it, nobody could tell what is complete.
    (Path(path) / DONE).unlink()


def _allocate(folder: Path, header: Mapping[str, Any], mask: np.ndarray, shape: tuple[int, int, int, int]) -> None:
    """All files in full size; the values take room on disk only as they come."""
    np.lib.format.open_memmap(folder / VALUES, "w+", np.float32, shape).flush()
    np.save(folder / MASK, mask, allow_pickle=False)
    np.zeros(shape[0], np.uint8).tofile(folder / DONE)
    files.write_json(folder / DESCRIPTION, header)


def _take_up(
    folder: Path, header: Mapping[str, Any], mask: np.ndarray, shape: tuple[int, int, int, int]
) -> tuple[Bool[np.ndarray, " problem"], int]:
    """Which problems are done, and where the values begin; also makes sure that the folder is what `header` says."""
    remedy = f"give another path, or delete {folder} to start anew"
    try:
        there = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        if not isinstance(there, dict):
            raise InputError(f"{DESCRIPTION} holds no table")
    except (OSError, ValueError) as error:
        raise InputError(f"{folder} is no unfinished cache that can be taken up ({error}); {remedy}") from error
    unlike = _differences(there, json.loads(json.dumps(header)))
    if unlike:
        raise InputError(f"{folder} holds an unfinished cache of something else: {'; '.join(unlike)}; {remedy}")
    try:
        values = np.lib.format.open_memmap(folder / VALUES, "r")
        done = np.fromfile(folder / DONE, np.uint8)
        same_mask = np.array_equal(np.load(folder / MASK, allow_pickle=False), mask)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{folder} holds a damaged unfinished cache ({error}); {remedy}") from error
    right = {
        VALUES: values.shape == shape and values.dtype == np.float32 and values.flags.c_contiguous,
        DONE: len(done) == shape[0] and done.max() <= 1,
        MASK: same_mask,
    }
    if not all(right.values()):
        wrong = next(name for name, good in right.items() if not good)
        raise InputError(f"{folder} holds a damaged unfinished cache ({wrong} is not as {DESCRIPTION} says); {remedy}")
    return done.astype(bool), values.offset


def _differences(there: Mapping[str, Any], here: Mapping[str, Any], prefix: str = "") -> list[str]:
    """What two descriptions disagree about, in words."""
    found = []
    for key in sorted(there.keys() | here.keys()):
        old, new = there.get(key), here.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differences(old, new, f"{prefix}{key} ")
        elif old != new:
            found.append(f"{prefix}{key} is {_brief(old)} there and {_brief(new)} here")
    return found


def _brief(value: object) -> str:
    text = repr(value)
    if len(text) <= 80:
        return text
    return text[:60] + (f"… ({len(value)} in all)" if isinstance(value, list) else "…")


def read(path: str | Path) -> tuple[Float[np.ndarray, "problem layer pos d_model"], Bool[np.ndarray, "problem pos"], dict[str, Any]]:
    """Values, mask and description of a complete cache; the values are read from disk as they are used.

    Raises:
        FileNotFoundError: not such a folder.
        ValueError: one that is not complete.
    """
    folder = Path(path)
    if not (folder / DESCRIPTION).is_file():
        unfinished = f"; {partial_folder(folder)} is an unfinished one" if (partial_folder(folder) / DESCRIPTION).is_file() else ""
        raise MissingFileError(f"{folder}: no {DESCRIPTION} there; expected a folder that cache_activations wrote{unfinished}")
    if (folder / DONE).is_file():
        done = np.fromfile(folder / DONE, np.uint8)
        if not done.all():
            raise InputError(
                f"{folder}: only {np.count_nonzero(done)} of {len(done)} problems are done; "
                "call cache_activations again with the same arguments to finish it"
            )
    header = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    values = np.lib.format.open_memmap(folder / VALUES, "c")  # copy-on-write: torch wants writable memory, the file stays as it is
    return values, np.load(folder / MASK, allow_pickle=False), header
