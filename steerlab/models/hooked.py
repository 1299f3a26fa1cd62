"""HookedTransformer, which TransformerLens 3.9 maintains and 4.x lacks: its conversion of weights, and what has to be put right around it.

Nothing else converts: when HookedTransformer goes, this module goes with what `steerlab.models.loading` calls of it.
"""

import contextlib
import copy
import io
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

from steerlab._checks import InputError
from steerlab.models.backends import HookedTransformer
from steerlab.models.checkpoints import CannotConvert, Probe, one_line
from steerlab.models.memory import is_out_of_memory

__all__ = ["HookedTransformer", "from_directory", "from_hub", "no_deprecation", "official_name"]

# TransformerLens picks a converter by these words in a path, before it looks at the config.
_MISLEADING = ("llama", "gemma", "bert", "t5", "hubert", "wav2vec2")


def official_name(name: str) -> str | None:
    """The Hub id that a name of HookedTransformer means; None where it knows no such name, or where there is no HookedTransformer."""
    if HookedTransformer is None:
        return None
    from transformer_lens.loading_from_pretrained import make_model_alias_map

    found = make_model_alias_map().get(name.lower())
    return None if found is None else str(found)


def from_hub(name: str, device: torch.device, dtype: torch.dtype, revision: str | None, processing: str) -> Any:
    """The model of a name that HookedTransformer knows.

    Raises:
        CannotConvert: its converters do not take the weights.
    """
    loader = HookedTransformer.from_pretrained if processing == "processed" else HookedTransformer.from_pretrained_no_processing
    options = {} if revision is None else {"revision": revision}
    with no_deprecation(), contextlib.redirect_stdout(io.StringIO()):
        try:
            return loader(name, device=str(device), dtype=dtype, **options)
        except (NotImplementedError, KeyError, AttributeError, TypeError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            raise CannotConvert(f"its converters do not take this model: {one_line(error)}") from error


def from_directory(
    path: Path, hf_model: Any, tokenizer: Any, device: torch.device, dtype: torch.dtype, processing: str, check: Probe
) -> Any:
    """The conversion of a Hugging Face model, checked on a few tokens to compute the same.

    Raises:
        CannotConvert: it does not, or the converters do not take the model.
    """
    from transformer_lens import loading_from_pretrained as loading

    processed = processing == "processed"
    flags = dict.fromkeys(("fold_ln", "center_writing_weights", "center_unembed", "fold_value_biases"), processed)
    config = _completed_config(hf_model)
    read_config = SimpleNamespace(from_pretrained=lambda *args, **options: config)
    # The converters choose by words in the path before they read the config: hand them a path without words.
    with _neutral_folder() as folder, _replaced(loading, "AutoConfig", read_config):
        try:
            cfg = loading.get_pretrained_model_config(str(folder), hf_cfg=config.to_dict(), fold_ln=processed, device="cpu", dtype=dtype)
            _check_windows(config, cfg)
            state = loading.get_pretrained_state_dict(str(folder), cfg, hf_model, dtype=dtype)
            cfg.model_name, cfg.tokenizer_name = path.name, None if tokenizer is None else str(path)
            with no_deprecation():
                model = HookedTransformer(cfg, tokenizer, move_to_device=False)
            model.load_and_process_state_dict(state, **flags)
        except (NotImplementedError, ValueError, KeyError, AttributeError, TypeError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            reason = one_line(error)
            raise CannotConvert(f"its converters do not take this {type(hf_model).__name__}: {reason}") from error
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
        raise CannotConvert("it lets every layer attend everywhere where the config has sliding windows")


@contextlib.contextmanager
def no_deprecation() -> Iterator[None]:
    """TransformerLens 3.9 announces the end of HookedTransformer at every construction; we know, and support it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="HookedTransformer", category=DeprecationWarning)
        yield


def _completed_config(hf_model: Any) -> Any:
    """The model's config with every field that HookedTransformer's converters read.

    Newer configs no longer carry ``n_ctx`` (GPT-2) or ``partial_rotary_factor`` (Phi, GPT-NeoX) at the top level.
    """
    config = copy.deepcopy(hf_model.config)
    rope = getattr(config, "rope_parameters", None) or {}
    if config.model_type == "gpt2":
        config.n_ctx = config.n_positions
    if "partial_rotary_factor" in rope:
        config.partial_rotary_factor = config.rotary_pct = rope["partial_rotary_factor"]
    config.architectures = config.architectures or [type(hf_model).__name__]
    return config


@contextlib.contextmanager
def _neutral_folder() -> Iterator[Path]:
    """An empty-handed model folder (its config.json says nothing) under a path that names no architecture."""
    parents = (tempfile.gettempdir(), "/tmp", "/var/tmp", str(Path.home()), str(Path.cwd()))
    neutral = [p for p in parents if Path(p).is_dir() and not any(word in p.lower() for word in _MISLEADING)]
    if not neutral:
        raise InputError(f"no temporary folder without one of {_MISLEADING} in its path; set TMPDIR to one, or use backend='bridge'")
    with tempfile.TemporaryDirectory(prefix="checkpoint-", dir=neutral[0]) as folder:
        (Path(folder) / "config.json").write_text("{}")
        yield Path(folder)
