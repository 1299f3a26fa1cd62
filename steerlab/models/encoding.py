"""Text to tokens and back: which special tokens stand before a text, and which end a generation (the stop tokens).

TransformerLens fills gaps in a tokenizer (a model without a beginning-of-sequence token gets one by name), so what the model's own
files say about special tokens is read apart and kept with the model.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from steerlab._checks import InputError

T = TypeVar("T")
PROBES = ("a", "0", "the", "A")  # some token of a text that any tokenizer knows


@dataclass(frozen=True)
class SpecialTokens:
    """What the files of a model say of special tokens.

    Attributes:
        bos: the tokenizer's own beginning-of-sequence token, if the model's vocabulary has it.
        ends: every token that ends a generation.
        before, behind: what the tokenizer itself puts before and behind a text; None where that is not known.
    """

    bos: int | None
    ends: tuple[int, ...]
    before: tuple[int, ...] | None = None
    behind: tuple[int, ...] | None = None


def read_special_tokens(source: str | Path, revision: str | None, model: Any) -> SpecialTokens:
    """Read them from a local directory, or from what the Hub's cache holds of a model that was just loaded.

    Args:
        source: directory or Hub id of the weights; the tokenizer of a model from the Hub may have another.
        revision: branch, tag or commit on the Hub.
        model: the TransformerLens model that was made of them.

    Raises:
        ValueError: a generation_config.json that cannot be read.
    """
    from transformers import AutoConfig, AutoTokenizer, GenerationConfig  # problems and tasks, which only check texts, need none of it

    d_vocab, tokenizer = int(model.cfg.d_vocab), model.tokenizer
    options = {"revision": revision, "local_files_only": True}
    local = isinstance(source, Path)
    own = None
    if tokenizer is not None:
        # An alias of TransformerLens may take its tokenizer from elsewhere, where the revision of the weights means nothing.
        place = source if local else getattr(tokenizer, "name_or_path", None) or source
        at = options if place == source else {"local_files_only": True}
        own = _read(lambda: AutoTokenizer.from_pretrained(place, trust_remote_code=False, **at))
    if local and (Path(source) / "generation_config.json").is_file():
        try:
            generation = GenerationConfig.from_pretrained(source, **options)
        except (OSError, ValueError) as error:
            raise InputError(
                f"{source}: generation_config.json cannot be read ({' '.join(str(error).split())}); copy the file again"
            ) from error
    else:
        generation = _read(lambda: GenerationConfig.from_pretrained(source, **options))
    ends = getattr(generation, "eos_token_id", None)
    if ends is None:
        config = _read(lambda: AutoConfig.from_pretrained(source, trust_remote_code=False, **options))
        ends = getattr(config, "eos_token_id", None)
    known = own if own is not None else tokenizer
    listed = [*_listed(ends), *_listed(_id_of(known, "eos_token", d_vocab))]
    around = (None, None) if own is None else _around(own)
    return SpecialTokens(_id_of(known, "bos_token", d_vocab), _within(listed, d_vocab), *around)


def _read(load: Callable[[], T]) -> T | None:
    """What a file says, or None where there is none that can be read without the network and without running its code."""
    try:
        return load()
    except (OSError, ValueError, KeyError):
        return None


def _listed(ids: Any) -> list[int]:
    return [] if ids is None else [int(ids)] if isinstance(ids, int) else [int(i) for i in ids]


def _within(ids: Sequence[int], d_vocab: int) -> tuple[int, ...]:
    """Each once, without those that the vocabulary lacks (a config of a small model may keep the defaults of a large one)."""
    return tuple(dict.fromkeys(i for i in ids if 0 <= i < d_vocab))


def _id_of(tokenizer: Any, name: str, d_vocab: int) -> int | None:
    """The id of a special token, if tokenizer and vocabulary have it. A tokenizer that lacks it may give the id of its unknown token instead."""
    token = getattr(tokenizer, name, None)
    if token is None:
        return None
    found = tokenizer.convert_tokens_to_ids(str(token))
    known = isinstance(found, int) and 0 <= found < d_vocab and tokenizer.convert_ids_to_tokens(found) == str(token)
    return found if known else None


def _around(tokenizer: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The special tokens that a tokenizer puts before and behind a text."""
    for text in PROBES:
        plain, full = tokenizer(text, add_special_tokens=False)["input_ids"], tokenizer(text)["input_ids"]
        for k in range(len(full) - len(plain) + 1) if plain else ():
            if full[k : k + len(plain)] == plain:
                return tuple(full[:k]), tuple(full[k + len(plain) :])
    return (), ()


@dataclass(frozen=True)
class Frame:
    """The special tokens around a text, under one tokenizer.

    Attributes:
        tokenizer: that one.
        bos: the beginning-of-sequence token, if model and tokenizer have one.
        before: further special tokens that the tokenizer puts before a text.
        special: what the files say; None of a model that was not loaded from files by us.
    """

    tokenizer: Any
    bos: int | None
    before: tuple[int, ...]
    special: SpecialTokens | None


_FRAMES: WeakKeyDictionary[Any, Frame] = WeakKeyDictionary()


def _frame(model: Any) -> Frame:
    """The frame of the tokenizer that the model has now."""
    known = _FRAMES.get(model)
    if known is None or known.tokenizer is not model.tokenizer:
        tokenizer, d_vocab = model.tokenizer, int(model.cfg.d_vocab)
        origin = getattr(model, "steerlab_origin", {})
        special = origin.get("special_tokens") if origin.get("tokenizer") is tokenizer else None
        before: tuple[int, ...] = ()
        if tokenizer is not None:
            named = tokenizer.bos_token_id  # also where the vocabulary lacks it
            before = tuple(token for token in _around(tokenizer)[0] if token != named and token < d_vocab)
        bos = special.bos if special is not None else _id_of(tokenizer, "bos_token", d_vocab)
        known = _FRAMES[model] = Frame(tokenizer, bos, tuple(token for token in before if token != bos), special)
    return known


def bos_token(model: Any) -> int | None:
    """The beginning-of-sequence token that tokenizer and vocabulary have, or None."""
    return _frame(model).bos


def prepends_bos(model: Any) -> bool | None:
    """Whether a beginning-of-sequence token is put before texts: the rule in force. None for a model without a tokenizer, which takes no texts."""
    if model.tokenizer is None:
        return None
    return bos_token(model) is not None and bool(getattr(model.cfg, "default_prepend_bos", True))


def set_rule(model: Any, prepend_bos: bool | None) -> None:
    """Put a rule in force, for TransformerLens' own functions, too; None is TransformerLens' default for the model.

    Raises:
        ValueError: a token asked for that model or tokenizer lack.
    """
    if prepend_bos is not None and not isinstance(prepend_bos, bool):
        raise InputError(f"prepend_bos={prepend_bos!r}; use True, False, or None for TransformerLens' default")
    if prepend_bos and bos_token(model) is None:
        lacking = (
            "no tokenizer, so that it takes token ids, as they are"
            if model.tokenizer is None
            else "no beginning-of-sequence token in its tokenizer and vocabulary"
        )
        raise InputError(f"prepend_bos=True: this model has {lacking}; leave prepend_bos out")
    if prepend_bos is not None:
        model.cfg.default_prepend_bos = prepend_bos
    elif model.tokenizer is not None and bos_token(model) is None:
        model.cfg.default_prepend_bos = False


def end_tokens(model: Any) -> tuple[int, ...]:
    """Every token that ends a generation: those of generation_config.json (without it, of config.json), and the tokenizer's own."""
    d_vocab, original = int(model.cfg.d_vocab), getattr(model, "original_model", None)
    special = getattr(model, "steerlab_origin", {}).get("special_tokens")
    if special is not None:
        return _within([*special.ends, *_listed(_id_of(model.tokenizer, "eos_token", d_vocab))], d_vocab)
    ends_of = [getattr(getattr(original, name, None), "eos_token_id", None) for name in ("generation_config", "config")]
    said = next((found for found in ends_of if found is not None), None)
    return _within([*_listed(said), *_listed(_id_of(model.tokenizer, "eos_token", d_vocab))], d_vocab)


def token_ids(model: Any, text: str, *, prepend_bos: bool | None = None) -> list[int]:
    """Token ids of a text, without truncation: TransformerLens' `to_tokens`, but never with two beginning-of-sequence tokens or one that the model lacks.

    Args:
        model: the model, whose rule (`load_model(prepend_bos=…)`, ``cfg.default_prepend_bos``) decides about a beginning-of-sequence token.
        text: may be empty. One that begins with the token's own text, as chat templates do, gets no second.
        prepend_bos: overrides the model's rule.

    Raises:
        ValueError: a model without a tokenizer, or text that is not Unicode.
    """
    tokenizer = model.tokenizer
    if tokenizer is None:
        raise InputError(
            "this model has no tokenizer; add tokenizer.json to its directory, or give token ids: Problem(prompt=(5, 7, 1), choices=((3,), (4,)))"
        )
    check_text(text, "text")
    frame = _frame(model)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"] if text else []
    if tuple(ids[: len(frame.before)]) != frame.before:
        ids = [*frame.before, *ids]
    wanted = getattr(model.cfg, "default_prepend_bos", True) if prepend_bos is None else prepend_bos
    return ids if not wanted or frame.bos is None or ids[:1] == [frame.bos] else [frame.bos, *ids]


def check_text(text: str, what: str) -> None:
    """Make sure that a text can be written as UTF-8, which tokenizers and files take.

    Raises:
        ValueError: half of a surrogate pair in it.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        near = text[max(0, error.start - 20) : error.start + 20]
        raise InputError(
            f"{what} has half of a surrogate pair at character {error.start} ({near!r}), which is no text; read it with the right encoding, or leave "
            "it out"
        ) from None


def token_text(model: Any, token: int) -> str:
    """What a token reads as; its number where the model has no tokenizer."""
    return str(token) if model.tokenizer is None else str(model.tokenizer.decode([token]))


def token_names(model: Any, tokens: Sequence[int]) -> str:
    """Tokens as a message shows them: names in the vocabulary, and ids."""
    if model.tokenizer is None:
        return f"[{', '.join(map(str, tokens))}]"
    names = model.tokenizer.convert_ids_to_tokens(list(tokens))
    return f"[{', '.join(f'{name!r} ({token})' for name, token in zip(names, tokens, strict=True))}]"


def said(model: Any) -> str:
    """The rule of special tokens in words, with a remark where the model's own tokenizer differs."""
    if model.tokenizer is None:
        return "The model has no tokenizer: prompts are token ids, taken as they are."
    frame, ours = _frame(model), prepends_bos(model)
    default = getattr(model, "steerlab_origin", {}).get("default_prepend_bos", ours)
    why = (
        "TransformerLens' default for this model"
        if ours == default
        else f"asked for; TransformerLens' default for this model is prepend_bos={default}"
    )
    if ours and frame.bos is not None:
        rule = f"The token {token_names(model, [frame.bos])[1:-1]} stands before each prompt ({why}); a prompt that begins with it gets no second one."
    elif frame.bos is None:
        rule = "No beginning-of-sequence token stands before a prompt: this model has none."
    else:
        rule = f"No beginning-of-sequence token stands before a prompt ({why})."
    special = frame.special
    if special is None or special.before is None or special.behind is None:
        return rule
    remarks = []
    put = [frame.bos, *frame.before] if ours else list(frame.before)
    if list(special.before) != put:
        remarks.append(f"{token_names(model, special.before)} before it" if special.before else "nothing before it")
    if special.behind:
        remarks.append(f"{token_names(model, special.behind)} behind it")
    if not remarks:
        return rule
    return f"{rule} The model's own tokenizer would put {' and '.join(remarks)}, as tools that follow the tokenizer do (lm-evaluation-harness)."
