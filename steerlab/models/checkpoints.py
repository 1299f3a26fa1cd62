"""Read a local Hugging Face directory strictly: nothing missing, nothing guessed, nothing fetched."""

from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from steerlab._checks import InputError, MissingFileError

EMBEDDED = ("tiny-arithmetic",)


def local_directory(name: str) -> Path | None:
    """The folder that a model name means, or None where the name is for the Hub.

    Raises:
        FileNotFoundError: a path that does not exist, or a folder without a config.json.
    """
    if name in EMBEDDED:
        path = Path(str(resources.files("steerlab") / "embedded" / name))
    elif not name:
        raise InputError("model='': give a Hugging Face directory, a Hub id or 'tiny-arithmetic'")
    else:
        path = Path(name).expanduser()
        looks_like_path = name.startswith((".", "~")) or path.is_absolute() or path.exists()
        if not looks_like_path:
            return None
    if not path.is_dir():
        raise MissingFileError(f"model={name!r}: no such directory; give a Hugging Face directory, a Hub id or one of {EMBEDDED}")
    if not (path / "config.json").is_file():
        raise MissingFileError(f"model={name!r}: the directory holds no config.json; expected a Hugging Face model directory")
    return path


def weight_files(path: Path) -> list[Path]:
    """The safetensors files of a checkpoint.

    Raises:
        FileNotFoundError: none there; pickled weights are not read.
    """
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise MissingFileError(f"{path}: no *.safetensors file; pickled weights are not read, convert them to safetensors first")
    return files


def read_checkpoint(path: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    """The Hugging Face model (eager attention, evaluation mode) and tokenizer of a directory.

    Raises:
        ValueError: weights that are corrupt, incomplete or of an unknown architecture.
    """
    weight_files(path)
    try:
        AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        model, info = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
            use_safetensors=True,
            attn_implementation="eager",
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, by name
        )
    except SafetensorError as error:
        raise InputError(f"{path}: the weights cannot be read ({error}); the file is damaged or incomplete, copy it again") from error
    except (KeyError, ValueError, StrictDataclassError) as error:
        raise InputError(f"{path}: not a causal language model that transformers can load ({one_line(error)})") from error
    mismatched = sorted(key for key, *_ in info["mismatched_keys"])
    if mismatched:
        raise InputError(f"{path}: {len(mismatched)} tensors have other shapes than config.json says ({', '.join(mismatched[:3])}, …)")
    if info["missing_keys"]:
        missing = sorted(info["missing_keys"])
        raise InputError(f"{path}: the weights lack {len(missing)} tensors ({', '.join(missing[:3])}, …); the checkpoint is incomplete")
    return model.eval(), read_tokenizer(path)


def read_tokenizer(path: Path) -> Any:
    """The tokenizer of a directory, or None where it has none (then a model takes tokens only)."""
    names = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json")
    if not any((path / name).is_file() for name in names):
        return None
    try:
        return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except (KeyError, ValueError) as error:
        raise InputError(f"{path}: the tokenizer cannot be read ({one_line(error)}); copy its files again") from error


def one_line(error: Exception) -> str:
    """An error's message without line breaks, and not without end."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:200] + " …"


def placeholder_tokenizer(d_vocab: int) -> Any:
    """A tokenizer of `d_vocab` made-up words, for building a bridge around a checkpoint that has none."""
    words = Tokenizer(WordLevel({f"token{i}": i for i in range(d_vocab)}, unk_token="token0"))
    special = dict.fromkeys(("eos_token", "pad_token", "bos_token", "unk_token"), "token0")
    return PreTrainedTokenizerFast(tokenizer_object=words, name_or_path="placeholder", add_bos_token=True, **special)


class CannotConvert(Exception):
    """A checkpoint that TransformerLens does not take, or does not get right."""


class Probe:
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

    def __call__(self, model: Any, architecture: str) -> None:
        """Raises CannotConvert where the model computes something else."""
        gap = float((self._of(model, next(iter(model.parameters())).device) - self._expected).abs().max())
        if not gap <= self._allowed:
            raise CannotConvert(f"TransformerLens' {architecture} changes log-probabilities by {gap:.2g}")
