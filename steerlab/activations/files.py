"""The folder of an activation cache on disk: written in steps, resumed after an interruption, opened lazily.

While it grows it is named ``<path>.partial`` and holds a file `done` with one byte a problem. The file `sha256` holds 32 bytes a
problem, the digest of its values; the description has digests of these, of the mask and of itself.
"""

import contextlib
import hashlib
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

from steerlab import _files
from steerlab._checks import InputError, InputFileError, MissingFileError

DESCRIPTION, VALUES, MASK, DONE, DIGESTS = "activations.json", "values.npy", "mask.npy", "done", "sha256"
CACHE_FORMAT = "steerlab-activations-1"
AGAIN = "delete the folder, and cache the activations again"
WIDTH = hashlib.sha256().digest_size
SEALS = ("files", "complete")  # what the description says besides what is cached


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
        digests: the file of their digests.
        flags: the file of `done`.
    """

    done: Bool[np.ndarray, " problem"]
    shape: tuple[int, int, int, int]
    offset: int
    values: FileIO
    digests: FileIO
    flags: FileIO

    def put(self, problems: Sequence[int], parts: Sequence[Sequence[Float[np.ndarray, "_ d_model"]]]) -> None:
        """Write problems' values, one array a layer, then note that they are done.

        Plain writes, because the pages of a memory map would count as memory of this process until it lets go of them.
        """
        _, layers, width, d_model = self.shape
        with _files.writing(self.values.name):
            for problem, part in zip(problems, parts, strict=True):
                seen = hashlib.sha256()
                for k, resid in enumerate(part):
                    values = np.ascontiguousarray(resid, np.float32)
                    whole = width * d_model * values.itemsize
                    _write(self.values, self.offset + (problem * layers + k) * whole, values)
                    seen.update(values.data)
                    seen.update(bytes(whole - values.nbytes))  # positions that a shorter prompt lacks
                _write(self.digests, problem * WIDTH, np.frombuffer(seen.digest(), np.uint8))
            for file in (self.values, self.digests):  # before the flags, so that what is marked as done has reached the disk
                os.fsync(file.fileno())
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
        FileExistsError: `path` exists and is not empty, or another process caches there.
        ValueError: what grows there is something else, or damaged.
        OSError: the folder cannot be made or written.
    """
    with _files.locked(path):
        _files.check_vacant(path)
        folder = partial_folder(path)
        if _files.is_vacant(folder):
            with _files.new_folder(folder) as new, _files.writing(folder):
                _allocate(new, header, mask, shape)
        done, offset = _take_up(folder, header, mask, shape)
        try:
            with contextlib.ExitStack() as opened:
                with _files.writing(folder):
                    streams = [opened.enter_context((folder / name).open("r+b", buffering=0)) for name in (VALUES, DIGESTS, DONE)]
                yield Growing(done, shape, offset, *streams)
        except BaseException:
            if not done.any():  # nothing to take up, and nothing that should stand in the way of another attempt
                shutil.rmtree(folder, ignore_errors=True)
            raise
        _describe(folder, header, complete=True)
        _files.move_folder(folder, path)
        # Last: with it, an interruption just now leaves a complete cache; without it, nobody could tell what is complete.
        (Path(path) / DONE).unlink()


def _describe(folder: Path, header: Mapping[str, Any], *, complete: bool) -> None:
    """Write what is cached, with the digests of the files that do not change any more."""
    sealed = _files.digests(folder, [MASK, DIGESTS] if complete else [MASK])
    _files.write_sealed(folder / DESCRIPTION, CACHE_FORMAT, {**header, "files": sealed, "complete": complete})


def _changed(folder: Path, offset: int, shape: tuple[int, ...], problems: Sequence[int]) -> int | None:
    """The first of some problems whose values are not what was written; plain reads, which take no memory for long."""
    size = int(np.prod(shape[1:])) * np.dtype(np.float32).itemsize
    wanted = np.fromfile(folder / DIGESTS, np.uint8).reshape(-1, WIDTH)
    with (folder / VALUES).open("rb") as stream:
        for problem in problems:
            stream.seek(offset + problem * size)
            if hashlib.sha256(stream.read(size)).digest() != wanted[problem].tobytes():
                return problem
    return None


def _allocate(folder: Path, header: Mapping[str, Any], mask: np.ndarray, shape: tuple[int, int, int, int]) -> None:
    """All files in full size; the values take room on disk only as they come."""
    np.lib.format.open_memmap(folder / VALUES, "w+", np.float32, shape).flush()
    np.save(folder / MASK, mask, allow_pickle=False)
    np.zeros(shape[0], np.uint8).tofile(folder / DONE)
    np.zeros(shape[0] * WIDTH, np.uint8).tofile(folder / DIGESTS)
    _describe(folder, header, complete=False)


def _take_up(
    folder: Path, header: Mapping[str, Any], mask: np.ndarray, shape: tuple[int, int, int, int]
) -> tuple[Bool[np.ndarray, " problem"], int]:
    """Which problems are done, and where the values begin; also makes sure that the folder is what `header` says."""
    remedy = f"give another path, or delete {folder} to start anew"
    try:
        there = _files.read_sealed(folder / DESCRIPTION, CACHE_FORMAT, remedy)
    except InputFileError as error:
        raise InputFileError(f"{folder} is no unfinished cache that can be taken up: {error}") from error
    unlike = _differences({key: value for key, value in there.items() if key not in SEALS}, json.loads(json.dumps(header)))
    if unlike:
        raise InputError(f"{folder} holds an unfinished cache of something else: {'; '.join(unlike)}; {remedy}")
    try:
        values = np.lib.format.open_memmap(folder / VALUES, "r")
        done = np.fromfile(folder / DONE, np.uint8)
        size = (folder / DIGESTS).stat().st_size
        same_mask = np.array_equal(np.load(folder / MASK, allow_pickle=False), mask)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{folder} holds a damaged unfinished cache ({error}); {remedy}") from error
    right = {
        VALUES: values.shape == shape and values.dtype == np.float32 and values.flags.c_contiguous,
        DONE: len(done) == shape[0] and done.max() <= 1,
        MASK: same_mask,
        DIGESTS: size == shape[0] * WIDTH,
    }
    if not all(right.values()):
        wrong = next(name for name, good in right.items() if not good)
        raise InputError(f"{folder} holds a damaged unfinished cache ({wrong} is not as {DESCRIPTION} says); {remedy}")
    changed = _changed(folder, values.offset, shape, [int(problem) for problem in np.flatnonzero(done)])
    if changed is not None:
        raise InputError(f"{folder} holds a damaged unfinished cache ({VALUES} is not as written at problem {changed}); {remedy}")
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


def read(
    path: str | Path, *, verify: bool = True
) -> tuple[Float[np.ndarray, "problem layer pos d_model"], Bool[np.ndarray, "problem pos"], dict[str, Any]]:
    """Values, mask and description of a complete cache; the values are read from disk as they are used.

    Args:
        path: the folder.
        verify: read all values once, to compare them with their digests.

    Raises:
        FileNotFoundError: not such a folder, or a file of it is missing.
        ValueError, OSError: one that is not complete, or was changed, or is of another version.
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
    header = _files.read_sealed(folder / DESCRIPTION, CACHE_FORMAT, AGAIN)
    if not header.pop("complete", False):
        raise InputFileError(f"{folder / DESCRIPTION}: of an unfinished cache; {AGAIN}")
    _files.check_digests(folder, {name: header["files"].get(name, "") for name in (MASK, DIGESTS)}, AGAIN)
    del header["files"]
    mask = np.load(folder / MASK, allow_pickle=False)
    try:
        values = np.lib.format.open_memmap(folder / VALUES, "c")  # copy-on-write: torch wants writable memory, the file stays as it is
    except (OSError, ValueError) as error:
        raise InputFileError(f"{folder / VALUES}: cannot be read ({error}); {AGAIN}") from error
    if values.ndim != 4 or values.dtype != np.float32 or not values.flags.c_contiguous or len(values) != len(mask):
        raise InputFileError(f"{folder / VALUES}: {values.dtype} of shape {values.shape}, not as {DESCRIPTION} says; {AGAIN}")
    changed = _changed(folder, values.offset, values.shape, range(len(values))) if verify else None
    if changed is not None:
        raise InputFileError(f"{folder / VALUES}: problem {changed} does not match its sha256; the file was changed or damaged; {AGAIN}")
    return values, mask, header
