"""Records of a data set, from a local file, a folder or the Hugging Face Hub, each with its origin for error messages.

Records are untrusted: nothing in them is evaluated, a huge string stays a string, and what a message quotes is cut.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from steerlab._checks import InputError, InputFileError, MissingFileError
from steerlab._files import reading
from steerlab.tasks.numbers import as_printed, parse_number
from steerlab.tasks.problems import whole_text

EXTENSIONS = (".jsonl", ".json", ".parquet", ".csv")
SPLIT_WORDS = {"train": "train", "validation": "validation", "valid": "validation", "val": "validation",
               "dev": "validation", "test": "test"}  # fmt: skip


def shown(value: object, width: int = 80) -> str:
    """The value as a message quotes it: its repr, cut to `width` characters."""
    # A slice first, so that a string of a gigabyte does not become a repr of a gigabyte.
    text = repr(value[: width + 1] if isinstance(value, (str, bytes)) else value)
    return text if len(text) <= width + 2 else text[: width - 1] + "…"


@dataclass(frozen=True)
class Record:
    """One row of a data set.

    Attributes:
        where: file and line, for messages.
        number: 0-based place among the rows of its split.
        columns: column name to value.
        typed: whether numbers and texts are told apart; a CSV file holds only text.
    """

    where: str
    number: int
    columns: Mapping[str, Any]
    typed: bool = True

    def need(self, column: str) -> Any:
        """The value of a column.

        Raises:
            ValueError: no such column.
        """
        if column not in self.columns:
            raise InputError(f"no column {column!r}; the columns found are {shown(list(self.columns), 300)}")
        return self.columns[column]

    def text(self, column: str) -> str:
        """The text in a column.

        Raises:
            ValueError: no such column, or its value is not text that can be written as UTF-8.
        """
        return _checked_text(self.need(column), column)

    def number_in(self, column: str) -> int | float:
        """The number in a column, as int when whole; text that is one number counts.

        Raises:
            ValueError: no such column, or its value is not a finite number.
        """
        value = self.need(column)
        number = parse_number(value)
        if number is None:
            raise InputError(f"column {column!r} holds {shown(value)}; it must be a finite number")
        return number

    def nested(self, column: str) -> Any:
        """The list or object in a column; in a CSV file it is written as JSON text."""
        value = self.need(column)
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise InputError(f"column {column!r} holds {shown(value)}; it must be a list (in CSV: JSON text)") from error

    def texts(self, column: str) -> list[str]:
        """The list of texts in a column.

        Raises:
            ValueError: no such column, or its value is not a list of texts.
        """
        return checked_texts(self.nested(column), column)


def check_whole(columns: Mapping[str, Any]) -> None:
    """Make sure that every text in a row, however deep, can be written as UTF-8; JSON can spell half of a surrogate pair.

    Raises:
        ValueError: one that cannot, with its column.
    """
    for column, value in columns.items():
        left = [column, value]
        while left:
            part = left.pop()
            if not whole_text(part):
                raise InputError(
                    f"column {shown(column)} holds {shown(part)}, with half of a surrogate pair in it; write the whole character"
                )
            if isinstance(part, Mapping):
                left += [*part, *part.values()]
            elif isinstance(part, list | tuple):
                left += part


def _checked_text(value: object, column: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"column {column!r} holds {shown(value)}; it must be text")
    if not whole_text(value):
        raise InputError(f"column {column!r} holds {shown(value)}, with half of a surrogate pair in it; write the whole character")
    return value


def checked_texts(value: object, column: str) -> list[str]:
    """The value, if it is a list of texts.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, (list, tuple)):
        raise InputError(f"column {column!r} holds {shown(value)}; it must be a list of texts")
    return [_checked_text(item, column) for item in value]


@dataclass(frozen=True)
class Pools:
    """Rows by split, as a source holds them; a source of one pool holds it as `train`.

    Attributes:
        rows: split name to rows.
        files: what was read, for provenance: name, sha256 and number of rows of each file.
        whole: the source has no splits of its own.
    """

    rows: dict[str, list[Record]]
    files: list[dict[str, Any]]
    whole: bool


def read_path(path: str | Path) -> Pools:
    """Rows of a file (one pool) or of a folder with one or more files per split.

    A file of a folder belongs to the split that its name says as a word of its own: `train.jsonl`,
    `test-00000-of-00001.parquet`, `gsm8k_valid.json`. A folder with a single file is that file.

    Raises:
        FileNotFoundError: nothing there.
        ValueError: no split files in the folder, an unknown extension, or a file that cannot be read as what its
            extension says.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise MissingFileError(f"path={str(path)!r}: no such file or folder")
    found = _split_files(path) if path.is_dir() else {"train": [path]}
    rows: dict[str, list[Record]] = {}
    files = []
    for split, members in found.items():
        pool = rows.setdefault(split, [])
        for member in members:
            with reading(member):
                content = member.read_bytes()
            before = len(pool)
            typed = member.suffix.lower() != ".csv"
            pool.extend(Record(where, before + i, columns, typed) for i, (where, columns) in enumerate(_parse(member, content)))
            if len(pool) == before:
                raise InputError(f"{member.name}: the file holds no rows")
            digest = hashlib.sha256(content).hexdigest()
            files.append({"name": member.name, "sha256": digest, "rows": len(pool) - before})
    return Pools(rows, files, whole=len(rows) == 1)


def _split_files(folder: Path) -> dict[str, list[Path]]:
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in EXTENSIONS and not p.name.startswith("."))
    found: dict[str, list[Path]] = {}
    for file in files:
        words = {SPLIT_WORDS[w] for w in re.split(r"[-_.]", file.stem.lower()) if w in SPLIT_WORDS}
        if len(words) == 1:
            found.setdefault(words.pop(), []).append(file)
    if not found and len(files) == 1:
        return {"train": files}
    if not found:
        names = shown([p.name for p in files], 300)
        raise InputError(f"path={str(folder)!r}: no file named after train, validation or test; give the path of one file: {names}")
    for split, members in found.items():
        if len({p.suffix.lower() for p in members}) > 1:
            names = ", ".join(p.name for p in members)
            raise InputError(f"path={str(folder)!r}: {names} would all be the {split} split; keep one kind of file")
    return found


def _parse(file: Path, content: bytes) -> Iterator[tuple[str, Mapping[str, Any]]]:
    readers = {".jsonl": _jsonl, ".json": _json, ".parquet": _parquet, ".csv": _csv}
    if file.suffix.lower() not in readers:
        raise InputError(f"{file.name}: extension {file.suffix!r} is not one of {', '.join(EXTENSIONS)}")
    if not content.strip():
        raise InputError(f"{file.name}: the file is empty")
    return readers[file.suffix.lower()](file.name, content)


def _loads(text: bytes, where: str, expected: str) -> Any:
    try:
        return json.loads(text.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        at = "" if ", line " in where else f", line {_line(text, error)}"
        near = text[max(0, error.start - 20) : error.start + 20].decode(errors="replace")
        raise InputError(f"{where}{at}: found {shown(near)}, in which byte {error.start} is not UTF-8; save the file as UTF-8") from error
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else shown(str(error)).strip("'\"")
        raise InputError(f"{where}: found {shown(text.decode(errors='replace'), 60)} ({reason}); {expected}") from error


def _line(content: bytes, error: UnicodeDecodeError) -> int:
    return content.count(b"\n", 0, error.start) + 1


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"{where}: found {shown(value, 60)}; each row must be a JSON object")
    return value


def _jsonl(name: str, content: bytes) -> Iterator[tuple[str, Mapping[str, Any]]]:
    # Split at \n alone: str.splitlines would also cut at U+2028, which JSON allows inside a string.
    for line_number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            where = f"{name}, line {line_number}"
            yield where, _object(_loads(line, where, "each line must be one JSON object"), where)


def _json(name: str, content: bytes) -> Iterator[tuple[str, Mapping[str, Any]]]:
    rows = _loads(content, name, "the file must be one JSON array; one object per line is .jsonl")
    if not isinstance(rows, list):
        raise InputError(f"{name}: found {shown(rows, 60)}; the file must be one JSON array of objects")
    for i, row in enumerate(rows, start=1):
        yield f"{name}, row {i}", _object(row, f"{name}, row {i}")


def _parquet(name: str, content: bytes) -> Iterator[tuple[str, Mapping[str, Any]]]:
    import pyarrow  # here, because only this format needs it
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(io.BytesIO(content))
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{name}: not a readable Parquet file ({shown(str(error))})") from error
    try:
        rows = table.to_pylist()
    except UnicodeDecodeError:
        rows = [_decoded(table.slice(i, 1), f"{name}, row {i + 1}") for i in range(table.num_rows)]
    narrow = {f.name: {16: np.float16, 32: np.float32}[f.type.bit_width] for f in table.schema if str(f.type) in ("halffloat", "float")}
    for i, row in enumerate(rows, start=1):
        for column, kind in narrow.items():
            if row[column] is not None:
                row[column] = as_printed(kind(row[column]))
        yield f"{name}, row {i}", row


def _decoded(row: Any, where: str) -> Mapping[str, Any]:
    try:
        return row.to_pylist()[0]
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: found {shown(error.object, 40)}, which is not UTF-8; write the column as UTF-8 text") from error


def _csv(name: str, content: bytes) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}, line {_line(content, error)}: byte {error.start} of the file is not UTF-8; save the file as UTF-8"
        ) from error
    usual_limit = csv.field_size_limit(max(len(text), 1))
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        lines = [(reader.line_num, cells) for cells in reader if cells]
    except csv.Error as error:
        raise InputError(f"{name}, line {reader.line_num}: not readable as CSV ({error})") from error
    finally:
        csv.field_size_limit(usual_limit)
    header = lines[0][1]
    if len(set(header)) < len(header):
        raise InputError(f"{name}: the column names {shown(header, 300)} repeat; each must differ from the others")
    for line_number, cells in lines[1:]:
        where = f"{name}, line {line_number}"
        if len(cells) != len(header):
            raise InputError(f"{where}: {len(cells)} cells; the header has {len(header)} columns")
        yield where, dict(zip(header, cells, strict=True))


def read_hub(dataset: str, config: str | None = None, *, revision: str | None = None) -> Pools:
    """Rows of a data set of the Hub, by official split.

    Args:
        dataset: "owner/name".
        config: name of the configuration, where the data set has several.
        revision: branch, tag or commit; None for the newest.

    Raises:
        OSError: `datasets` is not installed, the Hub cannot be reached, or it has no such data set.
        ValueError: the data set has no such configuration, or none of its splits is train, validation or test.
    """
    what = f"{dataset} (configuration {config})" if config else dataset
    fix = "use path= with a local file or folder that has the same columns"
    try:
        # Here, because importing it takes a second and local files do not need it.
        import datasets
        from huggingface_hub.errors import HfHubHTTPError
    except ImportError as error:
        raise InputFileError(f"{what}: the package `datasets` is not installed ({error}); install it, or {fix}") from error

    # Besides OSError, which covers a lost connection, offline mode and an unknown data set: the HTTP library's own
    # errors (a timeout in mid-download), which are no OSError and whose module differs between hub versions.
    http_errors = tuple(c for c in HfHubHTTPError.__mro__ if c.__name__ == "HTTPError")
    try:
        loaded = datasets.load_dataset(dataset, config, revision=revision)
    except ValueError as error:
        raise InputError(f"{what}: the Hub's data set cannot be read: {_reason(error)}; {fix}") from error
    except (OSError, RuntimeError, datasets.exceptions.DatasetsError, *http_errors) as error:
        raise InputFileError(f"{what}: cannot be had from the Hugging Face Hub: {_reason(error)}; {fix}") from error

    rows: dict[str, list[Record]] = {}
    files = []
    for name, table in loaded.items():
        split = SPLIT_WORDS.get(str(name))
        if split is None or split in rows:
            continue
        rows[split] = [Record(f"{dataset} {name}, row {i + 1}", i, row) for i, row in enumerate(table.to_list())]
        digest = hashlib.sha256()
        for row in rows[split]:
            digest.update(json.dumps(row.columns, sort_keys=True, default=str).encode())
        files.append({"name": f"{dataset}:{name}", "rows_sha256": digest.hexdigest(), "rows": len(rows[split])})
    if not rows:
        raise InputError(f"{what}: its splits are {shown(list(loaded))}, not train, validation or test; {fix}")
    return Pools(rows, files, whole=len(rows) == 1)


def _reason(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {shown(lines[0] if lines else '', 200)}"
