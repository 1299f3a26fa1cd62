"""Write files whole or not at all, by one writer at a time, and read back only what is unchanged.

A file or folder grows under a temporary name beside its place and is renamed when it is complete. Its SHA-256 digests are kept with
it and compared when it is read; a lock beside a folder keeps a second writer away.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
import sys
import tempfile
import threading
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from steerlab._checks import ExistingFileError, InputFileError, MissingFileError

if sys.platform != "win32":
    import fcntl

FULL = {errno.ENOSPC, errno.EDQUOT} if sys.platform != "win32" else {errno.ENOSPC}


@contextlib.contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Whatever the system says about a write (a full disk, a folder without permission) names the path and what to do.

    Raises:
        InputFileError: instead of any other OSError in the block.
    """
    try:
        yield
    except InputFileError:
        raise
    except OSError as error:
        remedy = "free some space there, or choose another place" if error.errno in FULL else "choose another place"
        named = InputFileError(f"cannot write {path} ({error.strerror or error}); {remedy}")
        named.errno = error.errno
        raise named from error


@contextlib.contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Whatever the system says about a read (no permission, a folder in the place of a file) names the path.

    Raises:
        InputFileError: instead of any other OSError in the block.
    """
    try:
        yield
    except InputFileError:
        raise
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror or error}); give a file that can") from error


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file beside `path` that takes its place when the block ends without an error, and vanishes otherwise.

    Raises:
        OSError: the folder cannot be made or written, or the disk is full.
    """
    target = Path(path)
    if target.is_dir():
        raise InputFileError(f"{target} is a folder; give the name of a file")
    writable_folder(target.parent)
    with writing(target):
        _sweep_files(target)
        temporary, handle = _temporary_file(target)
        try:
            yield temporary
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
            if handle is not None:
                os.close(handle)


@contextlib.contextmanager
def new_folder(path: str | Path, *, own: Collection[str] | None = None, last: str | None = None) -> Iterator[Path]:
    """A temporary folder that takes its place when the block ends without an error, and vanishes otherwise.

    Args:
        path: where it goes.
        own: names of the files of an earlier version of the folder. They go; every other file that is there stays. None: nothing may be there.
        last: the file that says what the folder holds; it is put in place after all others, so that a half-replaced folder is noticed.

    Raises:
        FileExistsError: something is there that would be lost, or another process writes there.
        OSError: it cannot be written, or the disk is full.
    """
    target = Path(path)
    with locked(target):
        if own is None:
            check_vacant(target)
        with writing(target):
            temporary = _beside(target)
            temporary.mkdir()
        try:
            yield temporary
            with writing(target):
                _install(temporary, target, own or (), last)
        except InputFileError as error:
            if str(temporary) in str(error):  # name the place that the user knows
                raise type(error)(str(error).replace(str(temporary), str(target))) from error
            raise
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


def _install(temporary: Path, target: Path, own: Collection[str], last: str | None) -> None:
    """Put every file in place, take away what an earlier version had besides, and touch nothing else."""
    if not os.path.lexists(target):
        temporary.replace(target)
        return
    names = sorted(
        (file.relative_to(temporary).as_posix() for file in temporary.rglob("*") if not file.is_dir()), key=lambda n: (n == last, n)
    )
    lost = next((found for name in names if (found := _in_the_way(target, name, own)) is not None), None)
    if lost is not None:
        kept = next(place for n in range(1, 10**6) if not os.path.lexists(place := target.with_name(f"{target.name}-{n}")))
        temporary.replace(kept)
        raise ExistingFileError(f"{lost} is not a file of the earlier run and would be lost; the new run was written to {kept} instead")
    for name in names:
        if name == last:
            _remove(target, set(own) - set(names))
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (temporary / name).replace(target / name)
    if last not in names:
        _remove(target, set(own) - set(names))


def _in_the_way(target: Path, name: str, own: Collection[str]) -> Path | None:
    """What is not ours and stands where the file `name` goes."""
    for parent in reversed((target / name).relative_to(target).parents[:-1]):
        if os.path.lexists(target / parent) and not (target / parent).is_dir() and parent.as_posix() not in own:
            return target / parent
    place = target / name
    return place if os.path.lexists(place) and (name not in own or place.is_dir()) else None


def _remove(folder: Path, names: Collection[str]) -> None:
    """Remove files, and folders that are empty then."""
    for name in sorted(names):
        file = folder / name
        if os.path.lexists(file) and (file.is_symlink() or not file.is_dir()):
            file.unlink()
        for parent in list(file.relative_to(folder).parents)[:-1]:
            with contextlib.suppress(OSError):  # not empty, or not there
                (folder / parent).rmdir()


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
        OSError: it cannot be written.
    """
    check_vacant(path)
    with writing(path):
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


# One writer at a time

_held: dict[Path, tuple[int, int]] = {}  # what this process holds: process and thread, since a copy of the process holds nothing


@contextlib.contextmanager
def locked(path: str | Path) -> Iterator[Path]:
    """Keep other writers away from a place, and sweep what a killed one left there.

    The lock is the file `.NAME.lock` beside the place. It is let go when the block ends, and by the system when the process is killed; within
    the block, the same thread may lock the place again. Other threads count as others.

    Raises:
        FileExistsError: another process or thread writes there.
        OSError: the folder around it cannot be made or written.
    """
    target = Path(path)
    place = _absolute(target)
    me = os.getpid(), threading.get_ident()
    if _held.get(place) == me:
        yield target
        return
    made = [parent for parent in (place.parent, *place.parent.parents) if not parent.exists()]
    try:
        writable_folder(target.parent)
        lock = place.parent / f".{place.name}.lock"
        with writing(target):
            handle = _acquire(lock, target)
        _held[place] = me
        try:
            _sweep_folders(place)
            yield target
        finally:
            del _held[place]
            with contextlib.suppress(OSError):
                lock.unlink()
            os.close(handle)
    finally:
        for parent in made:
            with contextlib.suppress(OSError):  # not empty: something was written
                parent.rmdir()


def _acquire(lock: Path, target: Path) -> int:
    """Open the lock and get it."""
    while True:
        try:
            handle, new = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666), True
        except FileExistsError:
            try:
                handle, new = os.open(lock, os.O_RDONLY), False
            except FileNotFoundError:
                continue  # let go just now
        got = _try_lock(handle)
        if got is False or (got is None and not new):
            said = os.read(handle, 200).decode(errors="replace").strip() or "another process"
            os.close(handle)
            gone = "" if got is False else f" (if there is no such process any more, remove {lock})"
            raise ExistingFileError(f"{target} is being written by {said}{gone}; wait until it is done, or choose another folder (--out)")
        try:
            same = os.path.samestat(os.fstat(handle), lock.stat())
        except FileNotFoundError:
            same = False
        if new and same:
            try:
                os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            except OSError:
                lock.unlink(missing_ok=True)
                os.close(handle)
                raise
            return handle
        if same:  # its process is dead
            lock.unlink(missing_ok=True)
        os.close(handle)


def _try_lock(handle: int) -> bool | None:
    """Lock an open file for this process: True if it worked, False if another one has it, None where there are no such locks."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # some network file systems
        return None
    return True


# Temporary names

_TEMPORARY = r"\.[0-9a-f]{8}\.tmp"


def _absolute(path: Path) -> Path:
    return path.parent.resolve() / path.name if path.name not in ("", "..") else path.resolve()


def _beside(target: Path) -> Path:
    place = _absolute(target)
    shown = target.parent if target.name == place.name else place.parent
    return shown / f".{place.name}.{secrets.token_hex(4)}.tmp"


def _temporary_file(target: Path) -> tuple[Path, int | None]:
    """A new empty file, and what holds it while its process lives. The system itself applies the umask."""
    while True:
        temporary = _beside(target)
        try:
            handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            continue
        if sys.platform == "win32":  # an open file cannot be renamed there
            os.close(handle)
            return temporary, None
        if _try_lock(handle) is not False and temporary.exists():  # not swept in between
            return temporary, handle
        os.close(handle)


def _left_behind(target: Path) -> list[Path]:
    place = _absolute(target)
    pattern = re.compile(re.escape(f".{place.name}") + _TEMPORARY)
    return [file for file in place.parent.iterdir() if pattern.fullmatch(file.name)]


def _sweep_files(target: Path) -> None:
    """Remove temporary files whose process was killed: nobody holds them."""
    for file in _left_behind(target):
        with contextlib.suppress(OSError):  # done by another one, or not ours to remove
            if file.is_dir():
                continue
            handle = os.open(file, os.O_RDONLY)
            try:
                if _try_lock(handle):
                    file.unlink()
            finally:
                os.close(handle)


def _sweep_folders(target: Path) -> None:
    """Remove temporary folders whose process was killed: only who holds the lock has one."""
    for folder in _left_behind(target):
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)


# Content


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


def read_json(path: str | Path, remedy: str) -> dict[str, Any]:
    """A table from a JSON file.

    Args:
        path: the file.
        remedy: what the user can do where it cannot be read; the end of the message.

    Raises:
        FileNotFoundError: no such file.
        ValueError, OSError: it cannot be read, is not JSON (NaN is not), or holds something else than a table.
    """
    try:
        loaded = json.loads(Path(path).read_bytes().decode("utf-8"), parse_constant=_no_constant)
    except FileNotFoundError as error:
        raise MissingFileError(f"{path}: no such file; {remedy}") from error
    except OSError as error:
        raise InputFileError(f"{path}: cannot be read ({error.strerror or error}); {remedy}") from error
    except (ValueError, RecursionError) as error:
        raise InputFileError(f"{path}: not JSON ({error}); the file was changed or damaged; {remedy}") from error
    if not isinstance(loaded, dict):
        raise InputFileError(f"{path}: holds a {type(loaded).__name__}, not a table; the file was changed or damaged; {remedy}")
    return loaded


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


# Seals


def digest(content: bytes, about: Mapping[str, Any]) -> str:
    """SHA-256 over numbers and everything said about them but that digest itself: a layer changed by hand is as wrong as a number."""
    plain = json.loads(json.dumps({key: value for key, value in about.items() if key != "sha256"}))  # as it is read back
    return hashlib.sha256(content + json.dumps(plain, sort_keys=True).encode()).hexdigest()


def write_sealed(path: str | Path, format: str, record: Mapping[str, Any]) -> Path:
    """Write a table as JSON that says its format and its own SHA-256."""
    about = {**record, "format": format}
    return write_json(path, {**about, "sha256": digest(b"", about)})


def read_sealed(path: str | Path, format: str, remedy: str) -> dict[str, Any]:
    """What `write_sealed` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError, OSError: it cannot be read, has another format, or was changed.
    """
    record = read_json(path, remedy)
    if record.get("format") != format:
        raise InputFileError(f"{path}: format {record.get('format')!r}; this version reads {format}; {remedy}")
    if record.get("sha256") != digest(b"", record):
        raise InputFileError(f"{path}: does not match its own sha256; the file was changed or damaged; {remedy}")
    return {key: value for key, value in record.items() if key not in ("format", "sha256")}


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file.

    Raises:
        OSError: it cannot be read.
    """
    with reading(path), Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digests(folder: str | Path, names: Collection[str] | None = None) -> dict[str, str]:
    """SHA-256 of files in a folder, by their names in it; all of them by default."""
    inside = Path(folder)
    if names is None:
        names = [file.relative_to(inside).as_posix() for file in inside.rglob("*") if file.is_file()]
    return {name: sha256_of(inside / name) for name in sorted(names)}


def check_digests(folder: str | Path, expected: Mapping[str, str], remedy: str) -> None:
    """Make sure that files are as they were written; other files in the folder do not matter.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError, OSError: one was changed, or cannot be read.
    """
    for name, wanted in expected.items():
        file = Path(folder) / name
        if not file.is_file():
            raise MissingFileError(f"{file}: no such file, though the folder was written with it; {remedy}")
        if sha256_of(file) != wanted:
            raise InputFileError(f"{file}: does not match its sha256; the file was changed or damaged; {remedy}")


def own_files(folder: str | Path, listed: object) -> list[str]:
    """The names in a list of digests, where each lies in the folder.

    Raises:
        ValueError: no such list, or a name that leads out of the folder.
    """
    if not isinstance(listed, dict) or not all(_lies_inside(name) and isinstance(value, str) for name, value in listed.items()):
        raise InputFileError(f"{folder}: its list of files is not one; it was changed or damaged; choose another folder, or remove it")
    return list(listed)


def _lies_inside(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return bool(parts) and not PurePosixPath(name).is_absolute() and ".." not in parts and "\\" not in name and "\0" not in name
