"""Load a model as a plain TransformerLens object: from the Hub, by name, from a local directory, or the embedded one."""

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
import transformers
from huggingface_hub import try_to_load_from_cache
from safetensors import SafetensorError

from steerlab._checks import InputError
from steerlab.models import checkpoints, encoding, weights
from steerlab.models.backends import BACKENDS, HookedTransformer, Model, TransformerBridge
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
    if backend not in BACKENDS:
        raise InputError(f"backend={backend!r}; use one of {', '.join(BACKENDS)}")
    if processing not in ("raw", "processed"):
        raise InputError(f"processing={processing!r}; use raw or processed")
    if backend == "hooked" and HookedTransformer is None:
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
    source = path if path is not None else official_name(name)
    model.steerlab_origin |= {
        "special_tokens": encoding.read_special_tokens(source, revision, model),
        "tokenizer": model.tokenizer,
        "default_prepend_bos": bool(getattr(model.cfg, "default_prepend_bos", True)),
    }
    encoding.set_rule(model, prepend_bos)
    return model


def _named(model: Model, name: str, source: Mapping[str, Any], processing: str, revision: str | None = None) -> Model:
    """A loaded model, ready for use: it knows where it comes from, and which short cuts give its own results."""
    model = _fused(model).eval()
    origin = {"name": name, "revision": revision, "processing": processing, **source, "fingerprint": weights.fingerprint(model)}
    object.__setattr__(model, "steerlab_origin", origin)
    short_cuts(model)
    return model


def official_name(name: str) -> str:
    """The Hub id that an alias of HookedTransformer means; any other name is one itself."""
    if HookedTransformer is None:
        return name
    from transformer_lens.loading_from_pretrained import make_model_alias_map

    return str(make_model_alias_map().get(name.lower(), name))


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
    if HookedTransformer is None:
        del loaders["hooked"]
    wanted = [backend] if backend != "auto" else list(loaders)
    failed: dict[str, str] = {}
    for kind in [*wanted, *(kind for kind in loaders if kind not in wanted)]:
        try:
            with warnings.catch_warnings():
                if kind not in wanted:
                    warnings.simplefilter("ignore")  # only tried, to say whether it would do
                model = loaders[kind](path, device, dtype, processing)
        except _CannotConvert as error:
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
    model = _hooked_from(path, hf_model, tokenizer, device, dtype, processing, _Probe(path, hf_model))
    return _usable(model, path, source, processing)


def _bridged_directory(path: Path, device: torch.device, dtype: torch.dtype, processing: str) -> Model:
    source = weights.at_loading(path)
    hf_model, tokenizer = checkpoints.read_checkpoint(path, dtype)
    check = _Probe(path, hf_model)
    stand_in = tokenizer or checkpoints.placeholder_tokenizer(int(hf_model.config.vocab_size))
    try:
        model = TransformerBridge.boot_transformers(str(path), hf_model=hf_model.to(device), tokenizer=stand_in, device=device, dtype=dtype)
        check(model, type(hf_model).__name__)
    except (ValueError, RuntimeError, AttributeError, TypeError, LookupError, NotImplementedError) as error:
        if is_out_of_memory(error):
            raise
        raise _CannotConvert(checkpoints.one_line(error)) from error
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
        raise _CannotConvert(checkpoints.one_line(error).removesuffix("; use another model")) from error


class _CannotConvert(Exception):
    """A checkpoint that TransformerLens does not take, or does not get right."""


class _Probe:
    """Log-probabilities of a Hugging Face model on a few tokens, which the model made of it must give too."""

    def __init__(self, path: Path, hf_model: Any) -> None:
        config = hf_model.config
        length = min(64, getattr(config, "max_position_embeddings", 64))
        self._tokens = torch.arange(1, length + 1)[None] % int(config.vocab_size)
        self._expected = self._of(lambda tokens: hf_model(tokens).logits, hf_model.device)
        if bool(self._expected.isnan().any()):
            raise InputError(f"{path}: in {hf_model.dtype} this model's logits are NaN; its weights are damaged or need a wider dtype")
        # A share of how far apart log-probabilities are: an untrained model's are close together, and so are those of a wrong conversion of it.
        spread = float(self._expected.max() - self._expected.min())
        self._allowed = max(1e-5, 1e-4 * spread) if hf_model.dtype in (torch.float32, torch.float64) else 0.5

    def _of(self, logits: Callable[[torch.Tensor], torch.Tensor], device: torch.device) -> torch.Tensor:
        with torch.no_grad():
            return logits(self._tokens.to(device)).float().log_softmax(-1).cpu()

    def __call__(self, model: Model, architecture: str) -> None:
        """Raises _CannotConvert where the model computes something else."""
        gap = float((self._of(model, next(iter(model.parameters())).device) - self._expected).abs().max())
        if not gap <= self._allowed:
            raise _CannotConvert(f"TransformerLens' {architecture} changes log-probabilities by {gap:.2g}")


def _hooked_from(
    path: Path, hf_model: Any, tokenizer: Any, device: torch.device, dtype: torch.dtype, processing: str, check: _Probe
) -> Model:
    """Convert a Hugging Face model, and check on a few tokens that the conversion computes the same."""
    from transformer_lens import loading_from_pretrained as loading

    processed = processing == "processed"
    flags = dict.fromkeys(("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases"), processed)
    config = checkpoints.completed_config(hf_model)
    read_config = SimpleNamespace(from_pretrained=lambda *args, **options: config)
    # The converters choose by words in the path before they read the config: hand them a path without words.
    with checkpoints.neutral_folder() as folder, _replaced(loading, "AutoConfig", read_config):
        try:
            cfg = loading.get_pretrained_model_config(str(folder), hf_cfg=config.to_dict(), fold_ln=processed, device="cpu", dtype=dtype)
            _check_windows(config, cfg)
            state = loading.get_pretrained_state_dict(str(folder), cfg, hf_model, dtype=dtype)
            cfg.model_name, cfg.tokenizer_name = path.name, None if tokenizer is None else str(path)
            with _no_deprecation():
                model = HookedTransformer(cfg, tokenizer, move_to_device=False)
            model.load_and_process_state_dict(state, **flags)
        except (NotImplementedError, ValueError, KeyError, AttributeError, TypeError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            reason = checkpoints.one_line(error)
            raise _CannotConvert(f"its converters do not take this {type(hf_model).__name__}: {reason}") from error
    check(model, type(hf_model).__name__)
    model.cfg.device = str(device)
    return model.to(device, print_details=False)


@contextlib.contextmanager
def _replaced(module: ModuleType, name: str, value: object) -> Iterator[None]:
    """A module's attribute stands for something else for a while."""
    original = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, original)


def _check_windows(config: Any, cfg: Any) -> None:
    """Sliding attention windows can be longer than any probe, so they are compared by what the configs say."""
    kinds = getattr(config, "layer_types", None) or []
    local = list(cfg.attn_types or []) if cfg.use_local_attn else []
    sliding = [kind == "sliding_attention" for kind in kinds]
    if any(sliding) and sliding != [kind == "local" for kind in local]:
        raise _CannotConvert("it lets every layer attend everywhere where the config has sliding windows")


@contextlib.contextmanager
def _no_deprecation() -> Iterator[None]:
    """TransformerLens 3.9 announces the end of HookedTransformer at every construction; we know, and support it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="HookedTransformer", category=DeprecationWarning)
        yield


def _load_hub(name: str, backend: str, device: torch.device, dtype: torch.dtype, revision: str | None, processing: str) -> Model:
    if backend != "bridge" and HookedTransformer is not None:
        from transformer_lens.loading_from_pretrained import make_model_alias_map

        if name.lower() in make_model_alias_map():
            try:
                return _from_hub(name, lambda: _hooked_by_name(name, device, dtype, revision, processing))
            except _CannotConvert as error:
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


def _hooked_by_name(name: str, device: torch.device, dtype: torch.dtype, revision: str | None, processing: str) -> Model:
    loader = HookedTransformer.from_pretrained if processing == "processed" else HookedTransformer.from_pretrained_no_processing
    options = {} if revision is None else {"revision": revision}
    with _no_deprecation(), contextlib.redirect_stdout(io.StringIO()):
        try:
            return loader(name, device=str(device), dtype=dtype, **options)
        except (NotImplementedError, KeyError, AttributeError, TypeError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            raise _CannotConvert(f"its converters do not take this model: {checkpoints.one_line(error)}") from error


def _snapshot(name: str, revision: str | None) -> Path | None:
    """The folder of the Hub's cache that a model was loaded from, if it is there."""
    config = try_to_load_from_cache(official_name(name), "config.json", revision=revision)
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
