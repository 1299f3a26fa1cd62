"""Run folders, provenance and vector files: what is kept, and how it is read back.

Formats are safetensors, JSON and Parquet; nothing is pickled. No file carries a date or a path, so that the same seed gives
the same bytes.
"""

import contextlib
import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from steerlab import files, markdown, report
from steerlab._errors import InputError, InputTypeError, MissingFileError
from steerlab.aft import LearnedVector
from steerlab.directions import Direction
from steerlab.models import Model, describe
from steerlab.tasks import Problem, written

FORMAT = "steerlab-direction-1"
PROVENANCE = "provenance.json"
PACKAGES = ("steerlab", "transformer-lens", "torch", "transformers", "numpy", "scipy", "pandas")


def save_direction(path: str | Path, direction: Direction) -> Path:
    """Write a direction as a self-describing safetensors file.

    Its metadata say where the vector was measured, how, in which model and under which weight processing; of a learned vector also the
    history of its training.

    Raises:
        OSError: the folder cannot be written.
        ValueError: a direction that is another vector for each prompt.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save_direction(f"{folder}/d.safetensors", Direction(torch.tensor([3.0, 4.0]), layer=6))
        ...     load_direction(path)
        Direction('direction', layer=6, site='resid_post', shape=[2], norm=5)
    """
    if not isinstance(direction, Direction):
        raise InputTypeError(
            f"direction is a {type(direction).__name__}; give a steerlab Direction (of a vector at several layers, each of its `directions`)"
        )
    if direction.by_prompt:
        raise InputError(
            f"direction {direction.name!r} is another vector for each prompt; save what it was made from (save_context_vector)"
        )
    vector = direction.vector.contiguous()
    about = {
        "format": FORMAT,
        "name": direction.name,
        "layer": direction.layer,
        "site": direction.site,
        "positions": direction.positions if isinstance(direction.positions, str) else list(direction.positions),
        "norm": direction.norm,
        "method": dict(direction.method),
        "model": dict(direction.model),
        "steerlab": version("steerlab"),
    }
    if isinstance(direction, LearnedVector):
        table = direction.history.astype(object).where(direction.history.notna(), None).to_dict("split")
        about["history"] = {name: table[name] for name in ("columns", "data")}
    about["sha256"] = files.digest(vector.numpy().tobytes(), about)
    with files.replacing(path) as temporary:
        # one key, because the order of several is not stable from run to run
        save_file({"vector": vector}, temporary, metadata={"steerlab": json.dumps(about, sort_keys=True)})
    return Path(path)


def load_direction(path: str | Path) -> Direction:
    """Read what `save_direction` wrote; a learned vector comes back as one, with its history.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a direction of ours, damaged, or not finite.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save_direction(f"{folder}/d.safetensors", Direction(torch.tensor([3.0, 4.0]), layer=6))
        ...     load_direction(path).vector
        tensor([3., 4.])
    """
    file = Path(path)
    if not file.is_file():
        raise MissingFileError(f"{file}: no such file; give a direction that steerlab.save_direction wrote")
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            if "steerlab" not in metadata or "vector" not in opened.keys():  # noqa: SIM118 - not a dict
                raise InputError(f"{file}: a safetensors file, but not a steerlab direction; its keys are {sorted(opened.keys())}")
            vector = opened.get_tensor("vector")
    except SafetensorError as error:
        raise InputError(f"{file}: not a readable safetensors file ({error}); it is damaged or of another kind") from error
    try:
        about = json.loads(metadata["steerlab"])
    except json.JSONDecodeError as error:
        raise InputError(f"{file}: its description is not JSON ({error}); the file was changed or damaged") from error
    if about.get("format") != FORMAT:
        raise InputError(f"{file}: format {about.get('format')!r}; this version reads {FORMAT}")
    missing = sorted({"layer", "site", "positions", "name", "method", "model", "sha256"} - set(about))
    if missing:
        raise InputError(f"{file}: its description lacks {missing[0]!r}; the file was changed or damaged")
    if files.digest(vector.numpy().tobytes(), about) != about["sha256"]:
        raise InputError(f"{file}: vector and description do not match their sha256; the file was changed or damaged")
    positions = about["positions"] if isinstance(about["positions"], str) else tuple(about["positions"])
    parts = (vector, about["layer"], about["site"], positions, about["name"], about["method"], about["model"])
    if "history" not in about:
        return Direction(*parts)
    history = pd.DataFrame(about["history"]["data"], columns=about["history"]["columns"])
    return LearnedVector(*parts, history.astype({name: float for name in history.columns if name not in ("epoch", "step")}))


def write_report(path: str | Path, **parts: Any) -> Path:
    """Write one self-contained HTML page, or Markdown where `path` ends in .md; see `steerlab.report.render_report` for the parts.

    Raises:
        OSError: the folder cannot be written.
        ValueError: a page above the size limit.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_report(f"{folder}/report.html", title="Steering", question="Does it matter?", answer="p = 0.01")
        ...     path.read_text()[:15]
        '<!DOCTYPE html>'
    """
    return files.write_text(path, markdown.render_markdown(**parts) if Path(path).suffix == ".md" else report.render_report(**parts))


def provenance(model: Model | None, config: Mapping[str, Any], task: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """What produced a run: configuration, model, data, versions."""
    return {
        "config": json.loads(json.dumps(dict(config))),  # as it is read back
        "model": {} if model is None else describe(model),
        "task": dict(task),
        "versions": {"python": platform.python_version()} | {name: version(name) for name in PACKAGES},
        **more,
    }


@contextlib.contextmanager
def run_folder(path: str | Path) -> Iterator[Path]:
    """A folder that takes the place of an earlier run once everything in it is written, and vanishes on an error.

    Raises:
        FileExistsError: `path` holds something that is not a run of ours.
        OSError: it cannot be written.
    """
    with files.new_folder(path, replace_if=PROVENANCE) as folder:
        yield folder


def check_run_folder(path: str | Path) -> Path:
    """Make sure before the work that a run can be written to `path`; the errors are those of `run_folder`."""
    with files.new_folder(path, replace_if=PROVENANCE, keep=False):
        pass
    return Path(path)


def write_table(folder: Path, name: str, table: pd.DataFrame) -> None:
    """Write a frame as Parquet."""
    with files.replacing(folder / f"{name}.parquet") as temporary:
        table.to_parquet(temporary, index=False)


def problems_frame(splits: Mapping[str, Sequence[Problem]]) -> pd.DataFrame:
    """Problems as a frame: split, problem_id, prompt, and target, choices and meta as JSON; of token ids also prompt_tokens, as JSON."""
    lines = [
        (split, p.id, written(p.prompt), json.dumps(p.target), json.dumps(p.choices), json.dumps(dict(p.meta), default=str, sort_keys=True))
        for split, problems in splits.items()
        for p in problems
    ]
    frame = pd.DataFrame(lines, columns=["split", "problem_id", "prompt", "target", "choices", "meta"])
    prompts = [p.prompt for problems in splits.values() for p in problems]
    tokens: list[Any] = [json.dumps(prompt) if isinstance(prompt, tuple) else None for prompt in prompts]
    return frame.assign(prompt_tokens=tokens) if any(tokens) else frame


def read_run(path: str | Path) -> dict[str, Any]:
    """The provenance of a run folder.

    Raises:
        FileNotFoundError: not a run folder.
    """
    file = Path(path) / PROVENANCE
    if not file.is_file():
        raise MissingFileError(f"{path}: no {PROVENANCE} there; give a folder that a steerlab script wrote")
    loaded: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return loaded
