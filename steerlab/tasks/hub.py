"""Data sets of the Hugging Face Hub, with their official splits."""

import hashlib
import json

from steerlab._checks import InputError, InputFileError
from steerlab.tasks.rows import SPLIT_WORDS, Pools, Row, shown


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

    rows: dict[str, list[Row]] = {}
    files = []
    for name, table in loaded.items():
        split = SPLIT_WORDS.get(str(name))
        if split is None or split in rows:
            continue
        rows[split] = [Row(f"{dataset} {name}, row {i + 1}", i, row) for i, row in enumerate(table.to_list())]
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
