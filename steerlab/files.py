"""Write files so that none is ever half there; every other module writes through these functions."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from steerlab._errors import ExistingFileError, InputFileError


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends without an error, and vanishes otherwise.

    Raises:
        OSError: the folder cannot be made or written.
    """
    target = Path(path)
    if target.is_dir():
        raise InputFileError(f"{target} is a folder; give the name of a file")
    parent = writable_folder(target.parent)
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def new_folder(path: str | Path, *, replace_if: str | None = None, kind: str = "a run of ours", keep: bool = True) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends without an error, and vanishes otherwise.

    Args:
        path: where it goes.
        replace_if: an older folder is replaced when it holds a file of this name.
        kind: what such a folder is called.
        keep: False only tries whether it could be written.

    Raises:
        FileExistsError: `path` exists, is not empty, and may not be replaced.
        OSError: the parent cannot be made or written.
    """
    target = Path(path)
    if replace_if is None or not (target / replace_if).is_file():
        check_vacant(target, "an empty folder" if replace_if is None else kind)
    made = not target.parent.exists()
    parent = writable_folder(target.parent)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=parent))
    try:
        yield temporary
        if keep:
            temporary.chmod(0o777 & ~_umask())
            if target.exists():
                aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=parent))
                target.replace(aside)
                temporary.replace(target)
                shutil.rmtree(aside)
            else:
                temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if made and not any(parent.iterdir()):
            parent.rmdir()


def is_vacant(path: str | Path) -> bool:
    """Whether nothing stands there, or only an empty folder."""
    target = Path(path)
    return not target.exists() or (target.is_dir() and not any(target.iterdir()))


def check_vacant(path: str | Path, expected: str = "an empty folder") -> None:
    """Make sure that nothing is lost when a folder goes there.

    Raises:
        FileExistsError: something is there, and it is not an empty folder.
    """
    if not is_vacant(path):
        raise ExistingFileError(f"{path} exists and is not {expected}; choose another or remove it")


def move_folder(source: str | Path, path: str | Path) -> None:
    """Rename a folder to a place that is vacant.

    Raises:
        FileExistsError: it is not.
    """
    check_vacant(path)
    if Path(path).is_dir():
        Path(path).rmdir()
    Path(source).replace(path)


def writable_folder(path: str | Path) -> Path:
    """Make a folder if need be, and make sure that it can be written before hours of work go into it.

    Raises:
        OSError: it cannot be made or written.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputFileError(f"cannot write to folder {folder} ({error.strerror or error}); choose another output folder") from error
    return folder


def write_text(path: str | Path, text: str) -> Path:
    """Write a text file whole, in UTF-8."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")
    return Path(path)


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write a file whole."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return Path(path)


def write_json(path: str | Path, value: Any) -> Path:
    """Write JSON with sorted keys; NaN is refused."""
    return write_text(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n")


def digest(content: bytes, about: Mapping[str, Any]) -> str:
    """SHA-256 over numbers and everything said about them but that digest itself: a layer changed by hand is as wrong as a number."""
    said = json.dumps({key: value for key, value in about.items() if key != "sha256"}, sort_keys=True)
    return hashlib.sha256(content + said.encode()).hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
