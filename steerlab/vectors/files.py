"""Files of directions and of context-dependent vectors: safetensors that describe themselves; nothing is pickled."""

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from steerlab import _files
from steerlab._checks import InputError, InputTypeError, MissingFileError
from steerlab.aft.aft import LearnedVector
from steerlab.aft.context import ContextVector
from steerlab.aft.learnables import LEARNABLES
from steerlab.directions.direction import Direction

DIRECTION_FORMAT = "steerlab-direction-1"


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
        "format": DIRECTION_FORMAT,
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
    about["sha256"] = _files.digest(vector.numpy().tobytes(), about)
    # one key, because the order of several is not stable from run to run
    return _files.write_bytes(path, save({"vector": vector}, metadata={"steerlab": json.dumps(about, sort_keys=True)}))


def load_direction(path: str | Path) -> Direction:
    """A direction from a file that `save_direction` wrote; a learned vector comes back as one, with its history.

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
    if about.get("format") != DIRECTION_FORMAT:
        raise InputError(f"{file}: format {about.get('format')!r}; this version reads {DIRECTION_FORMAT}")
    missing = sorted({"layer", "site", "positions", "name", "method", "model", "sha256"} - set(about))
    if missing:
        raise InputError(f"{file}: its description lacks {missing[0]!r}; the file was changed or damaged")
    if _files.digest(vector.numpy().tobytes(), about) != about["sha256"]:
        raise InputError(f"{file}: vector and description do not match their sha256; the file was changed or damaged")
    positions = about["positions"] if isinstance(about["positions"], str) else tuple(about["positions"])
    parts = (vector, about["layer"], about["site"], positions, about["name"], about["method"], about["model"])
    if "history" not in about:
        return Direction(*parts)
    history = pd.DataFrame(about["history"]["data"], columns=about["history"]["columns"])
    return LearnedVector(*parts, history.astype({name: float for name in history.columns if name not in ("epoch", "step")}))


CONTEXT_FORMAT = "steerlab-context-vector-1"
NAMES = {made: name for name, made in LEARNABLES.items()}
NEEDED = {"kind", "learnable", "shapes", "layer", "site", "name", "method", "model", "history", "sha256"}


def save_context_vector(path: str | Path, vector: ContextVector) -> Path:
    """Write a context-dependent vector as a self-describing safetensors file.

    Its metadata say what it is made of, where it acts, how and in which model it was learned, and the history of its training.

    An operator of your own is not kept, but that there was one: what is loaded asks for it where it acts.

    Raises:
        OSError: the folder cannot be written.
        ValueError: a learnable of your own, which files do not keep.

    Example:
        >>> import tempfile, torch
        >>> from steerlab.aft.learnables import ModulatedVector
        >>> numbers = {"vector": torch.ones(4), "weight": torch.zeros(4), "offset": torch.tensor(0.5)}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save_context_vector(f"{folder}/v.safetensors", ContextVector(ModulatedVector(4), numbers, layer=2))
        ...     load_context_vector(path)
        ContextVector('context vector', ModulatedVector, 9 parameters, layer=2, norm of b=2)
    """
    if type(vector.learnable) not in NAMES:
        raise InputError(
            f"context vector {vector.name!r}: files do not keep a {type(vector.learnable).__name__}; save one of {', '.join(kind.__name__ for kind in NAMES)}"
        )
    table = vector.history.astype(object).where(vector.history.notna(), None).to_dict("split")
    about: dict[str, Any] = {
        "format": CONTEXT_FORMAT,
        "kind": NAMES[type(vector.learnable)],
        "learnable": asdict(vector.learnable),
        "shapes": {key: list(value.shape) for key, value in sorted(vector.parameters.items())},
        "layer": vector.layer,
        "site": vector.site,
        "name": vector.name,
        "method": dict(vector.method),
        "model": dict(vector.model),
        "history": {key: table[key] for key in ("columns", "data")},
        "steerlab": version("steerlab"),
    }
    # One tensor, because the order of several is not stable from run to run.
    numbers = torch.cat([vector.parameters[key].flatten() for key in about["shapes"]])
    about["sha256"] = _files.digest(numbers.numpy().tobytes(), about)
    return _files.write_bytes(path, save({"parameters": numbers}, metadata={"steerlab": json.dumps(about, sort_keys=True)}))


def load_context_vector(path: str | Path) -> ContextVector:
    """A context-dependent vector from a file that `save_context_vector` wrote.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not such a file, or a damaged one.

    Example:
        >>> import tempfile, torch
        >>> from steerlab.aft.learnables import ModulatedVector
        >>> numbers = {"vector": torch.ones(4), "weight": torch.zeros(4), "offset": torch.tensor(0.5)}
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save_context_vector(f"{folder}/v.safetensors", ContextVector(ModulatedVector(4), numbers, layer=2))
        ...     load_context_vector(path).parameters["vector"]
        tensor([1., 1., 1., 1.])
    """
    file = Path(path)
    if not file.is_file():
        raise MissingFileError(f"{file}: no such file; give a vector that steerlab.save_context_vector wrote")
    try:
        with safe_open(file, framework="pt") as opened:
            about = json.loads((opened.metadata() or {}).get("steerlab", "{}"))
            if about.get("format") != CONTEXT_FORMAT or "parameters" not in opened.keys():  # noqa: SIM118 - not a dict
                raise InputError(
                    f"{file}: format {about.get('format')!r}, not a context vector of {CONTEXT_FORMAT}; directions are read by load_direction"
                )
            numbers = opened.get_tensor("parameters")
    except (SafetensorError, json.JSONDecodeError) as error:
        raise InputError(f"{file}: not a readable context vector ({error}); it is damaged or of another kind") from error
    missing = sorted(NEEDED - set(about))
    if missing:
        raise InputError(f"{file}: its description lacks {missing[0]!r}; the file was changed or damaged")
    if _files.digest(numbers.numpy().tobytes(), about) != about["sha256"]:
        raise InputError(f"{file}: parameters and description do not match their sha256; the file was changed or damaged")
    sizes = [torch.Size(shape).numel() for shape in about["shapes"].values()]
    parts = numbers.split(sizes)
    parameters = {key: part.reshape(shape).clone() for part, (key, shape) in zip(parts, about["shapes"].items(), strict=True)}
    history = pd.DataFrame(about["history"]["data"], columns=about["history"]["columns"])
    history = history.astype({name: float for name in history.columns if name not in ("epoch", "step")})
    learnable = LEARNABLES[about["kind"]](**about["learnable"])
    return ContextVector(learnable, parameters, about["layer"], about["site"], about["name"], about["method"], about["model"], history)
