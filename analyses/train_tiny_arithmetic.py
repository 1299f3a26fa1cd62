"""Train `tiny-arithmetic`, the embedded model, from scratch on the embedded task.

    python analyses/train_tiny_arithmetic.py

writes a Hugging Face directory (config, safetensors weights, tokenizer, model card) that replaces the embedded model.
Training stops once the model is good enough on validation problems to be a fair subject: right often enough to have a
direction, wrong often enough to have something to explain. An interrupted run resumes from its last checkpoint.
"""

from __future__ import annotations

import json
import math
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from steerlab import _files
from steerlab._progress import progress_bar, say
from steerlab.cli.run import run
from steerlab.tasks.arithmetic import TRAINED, generate, vocabulary
from steerlab.tasks.problems import Problem

if TYPE_CHECKING:  # --help needs no torch
    from torch import Tensor
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

SPECIAL = ["<pad>", "<bos>", "<eos>", "<unk>"]
STEPS = (1, 2, 3, 4)
OWN = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "README.md",
    "training.json",
)
WORD = r"\w+|[^\w\s]"


@dataclass(frozen=True)
class Config:
    """How to train the embedded model."""

    out: str = "steerlab/embedded/tiny-arithmetic"  # folder of the finished model
    seed: int = 0  # of weights and problems
    d_model: int = 128  # width
    n_layers: int = 6  # blocks
    n_heads: int = 4  # attention heads in a block
    choice_batch: int = 80  # multiple-choice problems in an update
    numeric_batch: int = 48  # numeric problems in an update
    warm_updates: int = 400  # updates on at most one step, before longer problems are mixed in
    max_updates: int = 4000  # training ends here at the latest
    target_accuracy: float = 0.60  # validation accuracy (multiple choice, stories) after which the rate decays
    decay_updates: int = 50  # updates of the final decay
    learning_rate: float = 3e-3  # of Muon, for the matrices of the blocks
    embedding_rate: float = 1e-3  # of AdamW, for everything else
    check_every: int = 25  # updates between validations and checkpoints
    threads: int = 1  # fixed, because the order of float sums depends on it


def tokenizer() -> PreTrainedTokenizerFast:
    """One token per word, number and sign of the generator's vocabulary."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = [*SPECIAL, *vocabulary()]
    raw = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True)
    raw.decoder = decoders.WordPiece(prefix="", cleanup=True)
    raw.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>", add_bos_token=True
    )


def encode(problems: list[Problem], ids: dict[str, int]) -> tuple[Tensor, Tensor]:
    """Right-padded token rows that end in answer and <eos>, and the position of the last prompt token of each row."""
    import torch

    texts = [f"{problem.prompt}{problem.answer}" for problem in problems]
    rows = [[ids["<bos>"], *(ids[w] for w in re.findall(WORD, text)), ids["<eos>"]] for text in texts]
    tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = torch.tensor(row)
    return tokens, torch.tensor([len(row) - 3 for row in rows])


def draw(rng: np.random.Generator, n: int, split: str, form: str, steps: tuple[int, ...]) -> list[Problem]:
    """n problems of one form: 60% stories, 20% equations, 20% largest-number questions."""
    counts = rng.multinomial(n, (0.6, 0.2, 0.2))
    problems = []
    for variant, count in zip(TRAINED, counts, strict=True):
        source = generate(rng, split=split, variant=variant, form=form, steps=steps)
        problems += [next(source) for _ in range(count)]
    return problems


def answer_loss(model: LlamaForCausalLM, tokens: Tensor, last: Tensor) -> Tensor:
    """Summed cross-entropy of the answer token, and a tenth of that of the <eos> after it; nothing else is learned."""
    import torch
    from torch.nn.functional import cross_entropy

    hidden = model.model(tokens)[0]
    rows = torch.arange(len(tokens))
    answer = cross_entropy(model.lm_head(hidden[rows, last]), tokens[rows, last + 1], reduction="sum")
    end = cross_entropy(model.lm_head(hidden[rows, last + 1]), tokens[rows, last + 2], reduction="sum")
    return answer + 0.1 * end


def accuracy(model: LlamaForCausalLM, ids: dict[str, int], variant: str, form: str, steps: int, n: int = 300) -> float:
    """Share of validation problems whose answer token is the likeliest of all tokens."""
    import torch

    source = generate(np.random.default_rng([1, steps]), split="validation", variant=variant, form=form, steps=(steps,))
    tokens, last = encode([next(source) for _ in range(n)], ids)
    rows = torch.arange(n)
    with torch.no_grad():
        guess = model.lm_head(model.model(tokens)[0][rows, last]).argmax(-1)
    return float((guess == tokens[rows, last + 1]).float().mean())


def card(config: Config, table: dict[str, float], updates: int, minutes: float) -> str:
    """The model card."""
    rows = "\n".join(
        f"| {variant} | {form} | " + " | ".join(f"{100 * table[f'{variant} {form} {s}']:.1f}%" for s in STEPS) + " |"
        for variant in TRAINED
        for form in ("choice", "numeric")
    )
    return f"""---
license: mit
library_name: transformers
---
# tiny-arithmetic

A Llama-architecture language model ({config.n_layers} blocks, d_model {config.d_model}, {config.n_heads} heads, one token per word and
number) trained from scratch by `analyses/train_tiny_arithmetic.py` on steerlab's own generated word problems. It exists to be
experimented on: it is right often and wrong often. It knows nothing but these problems.

Trained for {updates} updates of {config.choice_batch} multiple-choice and {config.numeric_batch} numeric problems with 0 to 4 steps (the first
{config.warm_updates} updates: at most one step), loss on the answer and the end token only, Muon (rate {config.learning_rate}) for the matrices of the blocks and
AdamW (rate {config.embedding_rate}) for the rest, seed {config.seed}, {minutes:.0f} minutes on {config.threads} CPU core(s). The rate began its final
decay ({config.decay_updates} updates) when validation stories reached {config.target_accuracy:.0%}, so that training ended while the model still errs.

Accuracy on 300 validation problems per cell (greedy, over the whole vocabulary; chance for `choice` is 25%):

| variant | form | 1 step | 2 steps | 3 steps | 4 steps |
|---|---|---|---|---|---|
{rows}

Test accuracy in the form that the main job uses is what `python analyses/random_control.py` prints as its baseline.
"""


def main(config: Config) -> Path:
    """Train, or resume training, and write the model folder."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    ids = {word: i for i, word in enumerate([*SPECIAL, *vocabulary()])}
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(ids),
            hidden_size=config.d_model,
            intermediate_size=3 * config.d_model,
            num_hidden_layers=config.n_layers,
            num_attention_heads=config.n_heads,
            max_position_embeddings=128,
            tie_word_embeddings=False,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    )
    matrices = [p for name, p in model.named_parameters() if p.ndim == 2 and name.startswith("model.layers")]
    rest = [p for p in model.parameters() if all(p is not m for m in matrices)]
    optimizers = [
        torch.optim.Muon(matrices, lr=config.learning_rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(rest, lr=config.embedding_rate, weight_decay=0.0),
    ]
    out = Path(config.out)
    checkpoint = out.with_name(out.name + ".checkpoint")
    update, decay_from, seconds = 0, config.max_updates - config.decay_updates, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        update, decay_from, seconds = state["update"], state["decay_from"], state["seconds"]
    base_rates = (config.learning_rate, config.embedding_rate)
    started = time.monotonic() - seconds
    with progress_bar(total=config.max_updates, initial=update, desc="train", unit="update", show=True) as bar:
        while update < min(config.max_updates, decay_from + config.decay_updates):
            rng = np.random.default_rng([config.seed, update])
            steps = (0, 1) if update < config.warm_updates else (0, 1, 2, 3, 4)
            scale = min(1.0, (update + 1) / 100, max(0.02, 1 - (update - decay_from) / config.decay_updates))
            loss_sum = 0.0
            for form, n in (("choice", config.choice_batch), ("numeric", config.numeric_batch)):
                loss = answer_loss(model, *encode(draw(rng, n, "train", form, steps), ids)) / (config.choice_batch + config.numeric_batch)
                loss.backward()
                loss_sum += loss.item()
            if not math.isfinite(loss_sum):
                raise RuntimeError(f"loss is {loss_sum} at update {update}; lower learning_rate={config.learning_rate}")
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for optimizer, rate in zip(optimizers, base_rates, strict=True):
                optimizer.param_groups[0]["lr"] = rate * scale
                optimizer.step()
                optimizer.zero_grad()
            update += 1
            bar.update()
            if update % config.check_every == 0:
                scores = [accuracy(model, ids, "story", "choice", s) for s in STEPS]
                say(f"update {update}: loss {loss_sum:.3f}, stories by steps " + " ".join(f"{s:.2f}" for s in scores))
                if sum(scores) / len(STEPS) >= config.target_accuracy:
                    decay_from = min(decay_from, update)
                with _files.replacing(checkpoint) as temporary:
                    torch.save(
                        {
                            "model": model.state_dict(),
                            "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                            "update": update,
                            "decay_from": decay_from,
                            "seconds": time.monotonic() - started,
                        },
                        temporary,
                    )
    table = {
        f"{variant} {form} {s}": accuracy(model, ids, variant, form, s)
        for variant in TRAINED
        for form in ("choice", "numeric")
        for s in STEPS
    }
    with _files.new_folder(out, own=OWN) as folder:
        model.save_pretrained(folder)
        tokenizer().save_pretrained(folder)
        _files.write_text(folder / "README.md", card(config, table, update, (time.monotonic() - started) / 60))
        _files.write_text(folder / "training.json", json.dumps({"updates": update, "accuracy": table}, indent=2) + "\n")
    checkpoint.unlink(missing_ok=True)
    return out


if __name__ == "__main__":
    print(run(main, Config))
