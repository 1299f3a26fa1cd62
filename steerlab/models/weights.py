"""Whether two models have the same weights, for directions, files, trainings and runs: `another_model` alone decides it.

A record has ``weights_sha256``, a digest of the files (while memory still has what was loaded), and ``fingerprint``, digests of the
numbers in memory, with a sample in each coarser dtype: a float32 model and its bfloat16 copy are the same.
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

COARSER = {
    torch.float64: (torch.float32, torch.float16, torch.bfloat16),
    torch.float32: (torch.float32, torch.float16, torch.bfloat16),
    torch.float16: (torch.float16,),
    torch.bfloat16: (torch.bfloat16,),
}
SAMPLE = 1024  # numbers of each parameter that are digested one by one
GLANCE = 8  # numbers of each parameter that are looked at each time, for what is written past torch's version counter
Stamp = tuple[tuple[str, int, int, int, int], ...]  # name, size, time of last change of content and of state, and inode of each file


def weight_files(path: Path) -> list[Path]:
    """The files that hold a checkpoint's weights, in name order; pickled ones only where there are no others."""
    return sorted(path.glob("*.safetensors")) or sorted(path.glob("pytorch_model*.bin"))


def stamp_of(path: Path) -> Stamp:
    """What tells whether a checkpoint's files were changed, without reading them."""
    found = [(file, file.stat()) for file in weight_files(path)]
    return tuple((str(file), about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino) for file, about in found)


@cache
def _digest(files: Stamp) -> str:
    digest = hashlib.sha256()
    for name, *_ in files:
        with open(name, "rb") as stream:
            while chunk := stream.read(1 << 22):
                digest.update(chunk)
    return digest.hexdigest()


def files_sha256(path: Path, stamp: Stamp) -> str | None:
    """One digest over a checkpoint's weight files, in name order, or None where they are no longer those that were stamped.

    Files are read once as long as they stay what they are.
    """
    if not stamp or stamp_of(path) != stamp:
        return None
    found = _digest(stamp)
    return found if stamp_of(path) == stamp else None


_FINGERPRINTS: WeakKeyDictionary[Any, tuple[Any, dict[str, str]]] = WeakKeyDictionary()


def fingerprint(model: Any, *, anew: bool = False) -> dict[str, str]:
    """Digests of the weights as they are in memory, by what they are of.

    Under the name of the model's own dtype: the sum of every parameter's bits and a sample of its numbers. Under "as bfloat16" and the like: the
    sample alone, rounded to that dtype; a model loaded in it has the same.

    Args:
        model: a torch module.
        anew: look at every number. Otherwise this is done once, and again where a parameter was replaced or written to; a few numbers written
            through ``.data`` go unnoticed until then.
    """
    tensors = list(_tensors(model))
    state = None if anew else _state(tensors)
    known = _FINGERPRINTS.get(model)
    if anew or known is None or known[0] != state:
        known = _FINGERPRINTS[model] = (_state(tensors), _taken(tensors))
    return dict(known[1])


def _tensors(model: Any) -> Iterator[tuple[str, Tensor]]:
    """Parameters, and the weights and biases that were made buffers."""
    yield from model.named_parameters()
    yield from ((name, value) for name, value in model.named_buffers() if name.rsplit(".", 1)[-1] in ("weight", "bias"))


def _sample(value: Tensor, most: int) -> Tensor:
    flat = value.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // most)][:most]


def _state(tensors: list[tuple[str, Tensor]]) -> tuple[Any, ...]:
    """What changes when a parameter is replaced, moved, converted or written to."""
    each = tuple((id(v), 0 if v.is_inference() else v._version, v.data_ptr(), v.dtype) for _, v in tensors)
    by_kind: dict[Any, list[Tensor]] = {}
    for _, value in tensors:
        by_kind.setdefault((value.device, value.dtype), []).append(_sample(value, GLANCE))
    return each, tuple(_bytes(torch.cat(parts)) for parts in by_kind.values())


def _taken(tensors: list[tuple[str, Tensor]]) -> dict[str, str]:
    own = next((value.dtype for _, value in tensors if value.is_floating_point()), torch.float32)
    exact, rounded = hashlib.sha256(), {dtype: hashlib.sha256() for dtype in COARSER.get(own, ())}
    for name, value in tensors:
        # A sum of the bits, as integers, is exact in any order, and so the same on every device.
        bits = torch.atleast_1d(value.detach()).view({1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[value.element_size()])
        total = sum(int(part.sum(dtype=torch.int64)) for part in bits.split(1024))
        sample = _sample(value, SAMPLE).cpu()
        exact.update(f"{name} {tuple(value.shape)} {total} ".encode() + _bytes(sample))
        for dtype, digest in rounded.items():
            digest.update(f"{name} {tuple(value.shape)} ".encode() + _bytes(sample.to(dtype) if sample.is_floating_point() else sample))
    return {_word(own): exact.hexdigest()} | {f"as {_word(dtype)}": digest.hexdigest() for dtype, digest in rounded.items()}


def _bytes(values: Tensor) -> bytes:
    return values.cpu().contiguous().view(torch.uint8).numpy().tobytes() if values.numel() else b""


def _word(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def record(model: Any, origin: Mapping[str, Any], *, anew: bool = False) -> dict[str, Any]:
    """What is recorded of a model's weights.

    Args:
        model: the model.
        origin: what is known of its loading: the folder's ``path`` and ``stamp``, and the ``fingerprint`` right after it.
        anew: as in `fingerprint`.
    """
    now, loaded = fingerprint(model, anew=anew), origin.get("fingerprint")
    unchanged = "path" in origin and loaded is not None and _same_numbers(now, loaded)
    return {"weights_sha256": files_sha256(origin["path"], origin["stamp"]) if unchanged else None, "fingerprint": now}


def _same_numbers(one: Mapping[str, str], other: Mapping[str, str]) -> bool | None:
    """Whether two fingerprints are of the same numbers, as far as the coarser of their dtypes shows; None where they have nothing in common."""
    for dtype in ("float64", "float32", "float16", "bfloat16", "as float32", "as float16", "as bfloat16"):
        if dtype in one and dtype in other:
            return one[dtype] == other[dtype]
    return None


def same_weights(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool | None:
    """Whether two descriptions of models are of the same weights; None where they do not tell.

    The same files hold the same weights, whatever the backend, dtype and device that they were loaded with. Else the numbers in memory are
    compared, where backend and weight processing are the same (they decide how numbers are kept).

    Example:
        >>> same_weights({"weights_sha256": "a", "backend": "hooked"}, {"weights_sha256": "a", "backend": "bridge"})
        True
        >>> same_weights({"weights_sha256": "a"}, {"fingerprint": {"float32": "b"}}) is None
        True
    """
    files = one.get("weights_sha256"), other.get("weights_sha256")
    if files[0] and files[0] == files[1]:
        return True
    numbers = None
    if all(one.get(key) == other.get(key) for key in ("backend", "processing")):
        numbers = _same_numbers(one.get("fingerprint") or {}, other.get("fingerprint") or {})
    return numbers if numbers is not None else (False if all(files) else None)


def another_model(one: Mapping[str, Any], other: Mapping[str, Any]) -> str | None:
    """Why two descriptions are of different models, in words, or None where they are of one, or nothing says that they are not.

    Where the weights cannot be compared (a description made by hand, or other backends without a common file), names, revisions and shapes are.
    The residual stream of a model with processed weights is another one, but this is not looked at here.
    """
    same = same_weights(one, other)
    if same:
        return None
    names = [str(about.get("name") or "unnamed") for about in (one, other)]
    if same is False:
        return f"{names[0]!r} and {names[1]!r}" if names[0] != names[1] else f"{names[0]!r} with other weights"
    for key, what in (("name", None), ("revision", "revisions"), ("n_layers", "numbers of layers"), ("d_model", "widths")):
        ours, theirs = one.get(key), other.get(key)
        if ours is not None and theirs is not None and ours != theirs:
            return f"{names[0]!r} and {names[1]!r}" + (f", of different {what}: {ours} and {theirs}" if what else "")
    return None


def brief(about: Mapping[str, Any]) -> str:
    """One digest that stands for a description's weights in a table: that of the files, else that of the numbers."""
    return str(about.get("weights_sha256") or next(iter((about.get("fingerprint") or {"": ""}).values())))


def at_loading(path: Path | None) -> dict[str, Any]:
    """The folder of a model that is about to be loaded, and its stamp."""
    return {} if path is None else {"path": Path(os.path.realpath(path)), "stamp": stamp_of(Path(os.path.realpath(path)))}
