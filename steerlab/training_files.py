"""What an interrupted training goes on from: one safetensors file, replaced whole after every epoch."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from steerlab import _files
from steerlab._checks import InputError

FORMAT = "steerlab-training-2"


def write(path: str | Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any], work: Mapping[str, Any]) -> None:
    """Write the state after an epoch.

    Args:
        path: the file.
        tensors: parameters, the optimiser's moments, gradients that are carried on.
        about: the rest of the state.
        work: what is trained on what, and how; another work does not go on from here.

    Raises:
        OSError: the folder cannot be written.
    """
    kept = {k: t.detach().contiguous().clone() for k, t in tensors.items()}
    said: dict[str, Any] = {"format": FORMAT, "about": dict(about), "work": fingerprint(work)}
    said["sha256"] = _files.digest(_content(kept), said)
    _files.write_bytes(path, save(kept, metadata={"steerlab": json.dumps(said, sort_keys=True)}))


def read(path: str | Path, work: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """What `write` wrote, or None where there is no such file.

    Raises:
        ValueError: not such a file, a damaged one, or one of another training.
    """
    file = Path(path)
    if not file.exists():
        return None
    try:
        with safe_open(file, framework="pt") as opened:
            said = json.loads((opened.metadata() or {}).get("steerlab", "{}"))
            if not isinstance(said, dict) or said.get("format") != FORMAT:
                raise InputError(f"path={str(file)!r}: a safetensors file, but not a training of {FORMAT}; choose another path")
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise InputError(f"path={str(file)!r}: not a training that can be read ({error}); choose another path or remove it") from error
    if said.get("sha256") != _files.digest(_content(tensors), said):
        raise InputError(
            f"path={str(file)!r}: numbers and description do not match their sha256; the file was changed or damaged; remove it to begin anew"
        )
    wanted = fingerprint(work)
    different = sorted(key for key in wanted if said["work"].get(key) != wanted[key])
    if different:
        raise InputError(
            f"path={str(file)!r} holds a training with other {', '.join(different)}; give what it was begun with, another path, or remove it"
        )
    return tensors, said["about"]


def _content(tensors: Mapping[str, Tensor]) -> bytes:
    """All numbers, in the order of their names, each with its name, type and shape."""
    parts = [(f"{key} {t.dtype} {list(t.shape)}".encode(), t.detach().cpu().contiguous()) for key, t in sorted(tensors.items())]
    return b"".join(name + t.reshape(-1).view(torch.uint8).numpy().tobytes() for name, t in parts)


def fingerprint(work: Mapping[str, Any]) -> dict[str, str]:
    """A digest of each thing that the work is made of."""
    return {key: hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16] for key, value in work.items()}
