"""Load a model as a plain TransformerLens object: from the Hub, by name, from a local directory, or the embedded one."""

import contextlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError

from steerlab._checks import InputError, one_of
from steerlab.models import checkpoints, encoding, hooked, weights
from steerlab.models.backends import BACKENDS, Model, TransformerBridge
from steerlab.models.checkpoints import CannotConvert, Probe
from steerlab.models.memory import is_out_of_memory
from steerlab.models.shortcuts import short_cuts

__all__ = ["load_model"]

TANH_GELU = ("gelu_new", "gelu_fast", "NewGELUActivation", "FastGELUActivation")  # of TransformerLens, and of transformers


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silence progress bars and logs of transformers."""
    logging = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()  # what matters raises an error of ours
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def load_model(
    name: str | Path = "tiny-arithmetic",
    *,
    backend: str = "auto",
    device: str | torch.device | None = None,
    dtype: torch.dtype | str | None = None,
    revision: str | None = None,
    processing: str = "raw",
    prepend_bos: bool | None = None,
) -> Model:
    """A plain TransformerLens model in evaluation mode.

    Args:
        name: the embedded "tiny-arithmetic", a local Hugging Face directory, a HookedTransformer name or a Hub id.
        backend: "hooked" (HookedTransformer), "bridge" (TransformerBridge), or "auto": hooked where it can load the model, else bridge.
        device: default CUDA where there is one, else CPU.
        dtype: default float32.
        revision: branch, tag or commit on the Hub.
        processing: "raw" weights as published, or "processed" (LayerNorm folded, weights centred). A direction found
            under one does not hold under the other.
        prepend_bos: whether a beginning-of-sequence token stands before each text; None is TransformerLens' default for the model. A text
            that begins with the token itself gets no second one, and a model that has none gets none. A direction found under one rule is not
            used under the other.

    Raises:
        InputError: an unknown option or model, a beginning-of-sequence token asked for that the model lacks,
            damaged weights, or a model that the backend cannot load or that cannot be run rightly.
        MissingFileError: a directory that is missing or is not a model's.

    Warns:
        UserWarning: where a way to do less work does not give this model's own results; it is then not used (see `steerlab.models.shortcuts`).

    Example:
        >>> model = load_model("tiny-arithmetic")
        >>> model.cfg.n_layers, model.cfg.d_model
        (6, 128)
    """
    name = str(name)
    one_of(backend, "backend", BACKENDS)
    one_of(processing, "processing", ("raw", "processed"))
    if backend == "hooked" and hooked.HookedTransformer is None:
        raise InputError("backend='hooked': this TransformerLens has no HookedTransformer (it ended with 3.9); use backend='bridge'")
    dtype = _dtype(dtype)
    device = _device(device)
    path = checkpoints.local_directory(name)
    if path is not None and revision is not None:
        raise InputError(f"revision={revision!r} is for the Hub; {name!r} is a local directory")
    with _quietly():
        if path is not None:
            model = _load_directory(path, backend, device, dtype, processing)
        else:
            model = _load_hub(name, backend, device, dtype, revision, processing)
            model = _named(model, name, weights.at_loading(_snapshot(name, revision)), processing, revision)
    source = path if path is not None else hooked.official_name(name) or name
    model.steerlab_origin.update(
        {
            "special_tokens": encoding.read_special_tokens(source, revision, model),
            "tokenizer": model.tokenizer,
            "default_prepend_bos": bool(getattr(model.cfg, "default_prepend_bos", True)),
        }
    )
    encoding.set_rule(model, prepend_bos)
    return model


def _named(model: Model, name: str, source: Mapping[str, Any], processing: str, revision: str | None = None) -> Model:
    """A loaded model, ready for use: it knows where it comes from, and which short cuts give its own results."""
    model = _fused(model).eval()
    origin = {"name": name, "revision": revision, "processing": processing, **source, "fingerprint": weights.fingerprint(model)}
    object.__setattr__(model, "steerlab_origin", origin)
    short_cuts(model)
    return model


def _fused(model: Model) -> Model:
    """Let one kernel of torch compute the tanh form of GELU, where it is written out in Python: the same function, to rounding.

    Written out it passes over the widest activation of the model about eight times, which takes a third of GPT-2's time on a CPU.
    """
    for module in model.modules():
        if getattr(getattr(module, "act_fn", None), "__name__", None) in TANH_GELU:
            module.act_fn = partial(torch.nn.functional.gelu, approximate="tanh")
        for name, child in module.named_children():
            if type(child).__name__ in TANH_GELU:
                setattr(module, name, torch.nn.GELU(approximate="tanh"))
    return model


def _device(device: str | torch.device | None) -> torch.device:
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device={device!r}; use cpu, cuda, cuda:0 or another device of torch") from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"device={device!r}: torch finds no CUDA device here; use cpu")
    return found


def _dtype(dtype: torch.dtype | str | None) -> torch.dtype:
    found = torch.float32 if dtype is None else getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise InputError(f"dtype={dtype!r}; use float32, bfloat16, float16 or float64")
    return found


def _load_directory(path: Path, backend: str, device: torch.device, dtype: torch.dtype, processing: str) -> Model:
    """Load by the backend asked for, or by whichever takes the model; an error says what the other one makes of it."""
    loaders = {"hooked": _hooked_directory, "bridge": _bridged_directory}
    if hooked.HookedTransformer is None:
        del loaders["hooked"]
    wanted = [backend] if backend != "auto" else list(loaders)
    failed: dict[str, str] = {}
    for kind in [*wanted, *(kind for kind in loaders if kind not in wanted)]:
        try:
            with warnings.catch_warnings():
                if kind not in wanted:
                    warnings.simplefilter("ignore")  # only tried, to say whether it would do
                model = loaders[kind](path, device, dtype, processing)
        except CannotConvert as error:
            failed[kind] = str(error)
            continue
        if kind in wanted:
            return model
        raise InputError(f"backend={backend!r} cannot load {path.name!r} ({failed[backend]}); use backend={kind!r}")
    (first, reason), *others = failed.items()
    either = "".join(f"; backend={kind!r} cannot either ({why})" for kind, why in others)
    raise InputError(f"backend={first!r} cannot load {path.name!r} ({reason}){either}; use another model")


def _hooked_directory(path: Path, device: torch.device, dtype: torch.dtype, processing: str) -> Model:
    source = weights.at_loading(path)  # before, so that a file that is replaced meanwhile is noticed
    hf_model, tokenizer = checkpoints.read_checkpoint(path, dtype)
    model = hooked.from_directory(path, hf_model, tokenizer, device, dtype, processing, Probe(path, hf_model))
    return _usable(model, path, source, processing)


def _bridged_directory(path: Path, device: torch.device, dtype: torch.dtype, processing: str) -> Model:
    source = weights.at_loading(path)
    hf_model, tokenizer = checkpoints.read_checkpoint(path, dtype)
    check = Probe(path, hf_model)
    stand_in = tokenizer or checkpoints.placeholder_tokenizer(int(hf_model.config.vocab_size))
    try:
        model = TransformerBridge.boot_transformers(str(path), hf_model=hf_model.to(device), tokenizer=stand_in, device=device, dtype=dtype)
        check(model, type(hf_model).__name__)
    except (ValueError, RuntimeError, AttributeError, TypeError, LookupError, NotImplementedError) as error:
        if is_out_of_memory(error):
            raise
        raise CannotConvert(checkpoints.one_line(error)) from error
    if tokenizer is None:
        model.tokenizer = None
    if processing == "processed":
        model.enable_compatibility_mode()
    return _usable(model, path, source, processing)


def _usable(model: Model, path: Path, source: Mapping[str, Any], processing: str) -> Model:
    try:
        return _named(model, path.name, source, processing)
    except InputError as error:
        if is_out_of_memory(error):
            raise
        raise CannotConvert(checkpoints.one_line(error).removesuffix("; use another model")) from error


def _load_hub(name: str, backend: str, device: torch.device, dtype: torch.dtype, revision: str | None, processing: str) -> Model:
    if backend != "bridge" and hooked.official_name(name) is not None:
        try:
            return _from_hub(name, lambda: hooked.from_hub(name, device, dtype, revision, processing))
        except CannotConvert as error:
            if backend == "hooked":
                raise InputError(f"backend='hooked' cannot load {name!r} ({error}); use backend='bridge'") from error
    elif backend == "hooked":
        raise InputError(f"model={name!r}: not a HookedTransformer name; use backend='bridge' for any Hub id")

    def boot() -> Model:
        model = TransformerBridge.boot_transformers(name, device=device, dtype=dtype, revision=revision)
        if processing == "processed":
            model.enable_compatibility_mode()
        return model

    return _from_hub(name, boot)


def _snapshot(name: str, revision: str | None) -> Path | None:
    """The folder of the Hub's cache that a model was loaded from, if it is there."""
    config = try_to_load_from_cache(hooked.official_name(name) or name, "config.json", revision=revision)
    return Path(config).parent if isinstance(config, str) else None


def _from_hub(name: str, load: Callable[[], Model]) -> Model:
    try:
        return load()
    except SafetensorError as error:
        raise InputError(
            f"model={name!r}: the weights cannot be read ({error}); remove them from the Hub's cache and load again"
        ) from error
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"model={name!r}: unknown, or the Hub cannot be reached ({reason}); give a Hub id, a HookedTransformer name, "
            "a local Hugging Face directory or 'tiny-arithmetic'"
        ) from error
