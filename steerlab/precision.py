"""Run a model in another precision for a while, and say how often its predictions then differ."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

import torch

from steerlab._checks import InputError
from steerlab.backends import Model
from steerlab.models import backend_of


@dataclass(frozen=True)
class Precision:
    """How predictions in a lower precision compare with the model's own on a sample of problems and cells.

    Attributes:
        dtype: the precision that was used, e.g. "bfloat16".
        compared: predictions compared, unsteered ones included.
        different: how many of them differ.
    """

    dtype: str
    compared: int
    different: int

    def __str__(self) -> str:
        return f"{self.dtype}: {self.different} of {self.compared} predictions in a sample differ from those in the model's own precision"

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p>"


def dtype_named(precision: str | torch.dtype) -> torch.dtype:
    """A floating-point type by its name.

    Raises:
        ValueError: anything else.
    """
    found = getattr(torch, precision, None) if isinstance(precision, str) else precision
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise InputError(f"precision={precision!r}; use float32, bfloat16, float16 or float64")
    return found


@contextlib.contextmanager
def in_precision(model: Model, precision: str | torch.dtype) -> Iterator[None]:
    """Convert a model's parameters; give back the very tensors that were there, also after an error.

    Both copies are held meanwhile. What a HookedTransformer keeps as buffers in its own dtype (rotary angles) is converted too; a
    Hugging Face model computes these in float32 whatever its dtype, and only biases that became buffers are converted.
    """
    dtype = dtype_named(precision)
    tensors = list(model.parameters())
    hooked = backend_of(model) == "hooked"
    tensors += [buffer for name, buffer in model.named_buffers() if hooked or name.rsplit(".", 1)[-1] in ("weight", "bias")]
    before, named = [tensor.data for tensor in tensors], getattr(model.cfg, "dtype", None)
    try:
        for tensor in tensors:
            if tensor.is_floating_point():
                tensor.data = tensor.data.to(dtype)
        if named is not None:
            model.cfg.dtype = dtype
        yield
    finally:
        for tensor, data in zip(tensors, before, strict=True):
            tensor.data = data
        if named is not None:
            model.cfg.dtype = named
