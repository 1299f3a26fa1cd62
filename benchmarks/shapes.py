"""The models, prompts and directions that are measured: random weights of published shapes, and the embedded model."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers, processors

import steerlab as sl
from steerlab.models.batches import Answer, Read, TokenRow
from steerlab.models.checkpoints import local_directory
from steerlab.tasks.scorers import SCORERS, Outcome, Scorer, scorer_for

N_CHOICES = 4
END = "<|endoftext|>"


@dataclass(frozen=True, eq=False)
class Shape:
    """A model with the work that it is given; compared and hashed by identity.

    Attributes:
        name: for tables and for choosing rows on the command line.
        about: one line on model and prompts.
        directory: Hugging Face directory that every side loads.
        hf: the Hugging Face model of the rivals (transformers' own choice of attention).
        ours: the TransformerLens models, one a backend.
        problems: what is asked; all sides get the same tokens.
        scorer: how ours reads the answers.
        directions: one a layer, under its layer's number.
    """

    name: str
    about: str
    directory: Path
    hf: Any
    ours: dict[str, Any]
    problems: list[sl.Problem]
    scorer: Scorer
    directions: dict[int, sl.Direction]

    @cached_property
    def rows(self) -> list[TokenRow]:
        """The tokens of each problem, and what is read from them, as the scorer has them."""
        model = next(iter(self.ours.values()))
        return [self.scorer.rows(model, problem)[0] for problem in self.problems]

    @property
    def device(self) -> torch.device:
        """Where the models live."""
        return self.hf.device

    @property
    def n_layers(self) -> int:
        """Number of blocks."""
        return int(self.hf.config.num_hidden_layers)

    @property
    def middle(self) -> int:
        """The middle one of the layers that have a direction."""
        layers = sorted(self.directions)
        return layers[(len(layers) - 1) // 2]


def _rows(model: Any, problem: sl.Problem) -> list[TokenRow]:
    tokens = problem.meta["tokens"]
    return [TokenRow(tokens, len(tokens), (Read(len(tokens) - 1, problem.meta["columns"], log_prob=False),))]


CHOICE = Scorer("choice by token ids", _rows, SCORERS["choice"].judge)


def generated_tokens(new_tokens: int) -> Scorer:
    """Greedy generation whose prediction is the generated tokens themselves: nothing is forgiven."""

    def rows(model: Any, problem: sl.Problem) -> list[TokenRow]:
        tokens = problem.meta["tokens"]
        return [TokenRow(tokens, len(tokens), new_tokens=new_tokens)]

    def judge(model: Any, problem: sl.Problem, answers: Sequence[Answer]) -> Outcome:
        return Outcome(" ".join(map(str, answers[0].generated)), True, 0.0, 0.0)

    return Scorer("generated tokens", rows, judge, generates=True)


def write_random_model(folder: Path, config: transformers.PretrainedConfig, *, seed: int, noise: float = 0.03) -> Path:
    """A Hugging Face directory with seeded random weights and a tokenizer of made-up words (``t0 t1 …``).

    The weights that transformers initialises are so small that all answers look alike, hence the noise on top. The end
    token's column of the unembedding is zero, so that it never has the largest logit and no generation ends early.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(noise * torch.randn_like(parameter))
            model.get_output_embeddings().weight[config.vocab_size - 1] = 0
    model.save_pretrained(folder)
    words = {f"t{i}": i for i in range(config.vocab_size - 1)} | {END: config.vocab_size - 1}
    raw = Tokenizer(models.WordLevel(words, unk_token=END))
    raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    raw.post_processor = processors.TemplateProcessing(single=f"{END} $A", special_tokens=[(END, config.vocab_size - 1)])
    special = dict.fromkeys(("eos_token", "pad_token", "bos_token", "unk_token"), END)
    transformers.PreTrainedTokenizerFast(tokenizer_object=raw, add_bos_token=True, **special).save_pretrained(folder)
    return folder


def random_problems(vocabulary: int, lengths: Sequence[int], *, seed: int) -> list[sl.Problem]:
    """Prompts of seeded random tokens behind the beginning-of-sequence token, with four answer tokens each.

    Args:
        vocabulary: number of tokens, the last of which is the beginning-of-sequence token.
        lengths: of each prompt, in tokens.
        seed: of tokens and answers.
    """
    rng = np.random.default_rng(seed)
    problems = []
    for i, length in enumerate(lengths):
        ids = rng.integers(0, vocabulary - 1, size=length - 1).tolist()
        columns = tuple(rng.choice(vocabulary - 1, size=N_CHOICES, replace=False).tolist())
        meta = {"tokens": (vocabulary - 1, *ids), "columns": columns}
        choices = tuple(f" t{column}" for column in columns)
        problems.append(sl.Problem(f"p{i:05d}", " ".join(f"t{t}" for t in ids), int(rng.integers(N_CHOICES)), choices, meta))
    return problems


def random_shape(
    name: str,
    about: str,
    config: transformers.PretrainedConfig,
    *,
    folder: Path,
    lengths: Sequence[int],
    layers: Sequence[int] | None,
    backends: Sequence[str],
    device: str,
    dtype: torch.dtype = torch.float32,
) -> Shape:
    """A model of a published shape with random weights, and random prompts of the given lengths."""
    if not (folder / "config.json").is_file():
        write_random_model(folder, config, seed=1)
    problems = random_problems(config.vocab_size, lengths, seed=2)
    return _shape(name, about, folder, problems, CHOICE, layers, backends, device, dtype)


def tiny_arithmetic(
    *, limit: int, layers: Sequence[int] | None, backends: Sequence[str], device: str, name: str = "tiny", split: str = "test"
) -> Shape:
    """The embedded model and problems of its task."""
    problems = getattr(sl.load_task("arithmetic"), split)[:limit]
    folder = weights_of("tiny-arithmetic")
    about = f"the embedded tiny-arithmetic (6 layers, d_model 128) with {len(problems)} {split} problems of its task"
    return _shape(name, about, folder, problems, scorer_for(problems), layers, backends, device, torch.float32)


def weights_of(name: str) -> Path:
    """The directory of an embedded model."""
    folder = local_directory(name)
    if folder is None:
        raise ValueError(f"model={name!r} is not embedded")
    return folder


def lengths_between(shortest: int, longest: int, n: int) -> list[int]:
    """Seeded random prompt lengths, both ends included."""
    return np.random.default_rng(3).integers(shortest, longest + 1, size=n).tolist()


def gpt2_small() -> transformers.PretrainedConfig:
    """GPT-2 small: 12 layers, d_model 768, vocabulary 50,257."""
    return transformers.GPT2Config()


def llama_1b() -> transformers.PretrainedConfig:
    """The shape of Llama 3.2 1B: 16 layers, d_model 2,048, grouped queries, vocabulary 128,256."""
    return transformers.LlamaConfig(
        vocab_size=128_256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
        num_key_value_heads=8, max_position_embeddings=4096, tie_word_embeddings=True, bos_token_id=128_255, eos_token_id=128_255,
        rope_parameters={"rope_type": "default", "rope_theta": 500_000.0},
    )  # fmt: skip


def _shape(
    name: str,
    about: str,
    folder: Path,
    problems: list[sl.Problem],
    scorer: Scorer,
    layers: Sequence[int] | None,
    backends: Sequence[str],
    device: str,
    dtype: torch.dtype,
) -> Shape:
    hf = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, local_files_only=True).to(device).eval()
    ours = {backend: sl.load_model(folder, backend=backend, device=device, dtype=dtype) for backend in backends}
    chosen = range(hf.config.num_hidden_layers) if layers is None else layers
    shape = Shape(name, about, folder, hf, ours, problems, scorer, {})
    return Shape(name, about, folder, hf, ours, problems, scorer, _directions(shape, chosen))


@torch.no_grad()
def _directions(shape: Shape, layers: Sequence[int], share: float = 0.25) -> dict[int, sl.Direction]:
    """A seeded random direction a layer, `share` as long as the stream is there at the last position of some prompts.

    At alpha = 3 that turns many answers and leaves many.
    """
    norms = []
    for row in shape.rows[:8]:
        states = shape.hf(torch.tensor([row.tokens], device=shape.device), output_hidden_states=True).hidden_states
        norms.append([float(states[min(layer + 1, len(states) - 2)][0, -1].float().norm()) for layer in layers])
    found = {}
    for layer, norm in zip(layers, np.median(norms, axis=0), strict=True):
        noise = torch.randn(shape.hf.config.hidden_size, generator=torch.Generator().manual_seed(layer))
        found[layer] = sl.Direction(share * float(norm) * noise / noise.norm(), layer, name=f"random-{layer}")
    return found
