"""How often a test set was scored: a file beside the run folders counts, for each set of test problems, the analyses that scored it."""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from steerlab import _files
from steerlab._checks import ExistingFileError, InputError

NAME, FORMAT = "test-sets.json", "steerlab-test-sets-1"
REMEDY = "remove it, and scorings are counted from now on"


def note_scoring(run: str | Path, test: str, analysis: Mapping[str, Any]) -> list[str]:
    """Note that a run scored a test set; the same analysis again counts once.

    Args:
        run: the run folder; what is counted are the runs beside it.
        test: SHA-256 of the test problems.
        analysis: what tells analyses apart: configuration, choices, model.

    Returns:
        A sentence on the other analyses that scored it, if there were any; or on why that is not known. A count that cannot be read loses no run.
    """
    folder = Path(run).resolve()
    mine = hashlib.sha256(json.dumps(dict(analysis), sort_keys=True, default=str).encode()).hexdigest()
    try:
        with _alone(folder.parent / NAME) as store:
            sets = _files.read_sealed(store, FORMAT, REMEDY)["sets"] if store.exists() else {}
            known: dict[str, str] = sets.setdefault(test, {})
            others = [name for digest, name in known.items() if digest != mine]
            if mine not in known:
                known[mine] = folder.name
                _files.write_sealed(store, FORMAT, {"sets": sets})
    except (InputError, OSError) as error:
        return [f"How often these test problems were scored before is not known: {error}."]
    if not others:
        return []
    analyses = "1 other analysis" if len(others) == 1 else f"{len(others)} other analyses"
    return [
        f"These test problems were scored by {analyses} beside this one before ({', '.join(sorted(set(others)))}): choices between them are not corrected for."
    ]


@contextlib.contextmanager
def _alone(store: Path) -> Iterator[Path]:
    """The file, held against other writers, for which it waits a while."""
    for wait in (0.05, 0.2, 1.0, 3.0, None):
        with contextlib.ExitStack() as stack:
            try:
                held = stack.enter_context(_files.locked(store))
            except ExistingFileError:
                if wait is None:
                    raise
                time.sleep(wait)
                continue
            yield held
            return
