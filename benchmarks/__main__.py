"""Measure the fast path against other ways to do the same work, and write a table (Markdown and JSON).

$ python -m benchmarks                 the published table, rivals timed on some cells
$ python -m benchmarks --quick         a smoke run of a minute; its numbers mean nothing
$ python -m benchmarks --full          rivals on every cell
$ python -m benchmarks --rows grid,cache --backends bridge
$ python -m benchmarks --device cuda --llama float32,bfloat16
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks import machine, memory, plan, shapes, table, training, works
from benchmarks.measure import Measured, measure, say
from benchmarks.plan import QUICK, Row, Scale
from steerlab._checks import InputError
from steerlab._files import writable_folder
from steerlab.cli.run import run
from steerlab.models.backends import HookedTransformer

PARTIAL = ".partial"


@dataclass(frozen=True)
class Config:
    """What to measure, and where to write it."""

    quick: bool = False  # few prompts, layers, alphas and repetitions
    full: bool = False  # rivals do every cell, spread over the repetitions
    rows: tuple[str, ...] = ()  # only rows whose name has one of these words in it: gpt2-grid, last, tiny, memory, …
    backends: tuple[str, ...] = ()  # hooked, bridge; all that TransformerLens has by default
    device: str = "cpu"  # cpu or cuda
    llama: tuple[str, ...] = ()  # on cuda, also a Llama of 1B parameters in float32, bfloat16 or both
    repetitions: int | None = None  # of every measurement, at least; default 3
    cells: int | None = None  # timed for each rival in each repetition; default 2
    threads: int | None = None  # default the physical cores
    out: Path = Path("benchmarks")  # folder for results.md and results.json


def main(config: Config) -> Path:
    """Measure row by row, and write the table when all is done."""
    scale = _scale(config)
    backends = config.backends or (("hooked", "bridge") if HookedTransformer is not None else ("bridge",))
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise InputError(f"device={config.device!r}: torch finds no CUDA device here; use cpu")
    if unknown := set(config.llama) - {"float32", "bfloat16"}:
        raise InputError(f"llama={','.join(unknown)}; use float32, bfloat16 or both")
    if config.llama and not config.device.startswith("cuda"):
        raise InputError("llama is for device=cuda; leave it out, or choose that device")
    writable_folder(config.out)
    torch.set_num_threads(config.threads or machine.physical_cores())
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    found, peaks, answers = list[Measured](), list[memory.Peak](), dict[str, plan.Answers]()
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)

        def save(stem: str) -> None:
            table.write(config.out, stem, _note(config), machine.describe(config.device), found, peaks)

        for row in _rows(config, scale, backends, folder):
            measured, answers[row.key] = measure(row, scale, answers.get(row.same_as))
            found.append(measured)
            save(f"results{PARTIAL}")
        if _wanted(config, "gpt2-memory"):
            say("gpt2-memory: peak memory of a streamed cache")
            gpt2 = folder / "gpt2"
            if not (gpt2 / "config.json").is_file():
                shapes.write_random_model(gpt2, shapes.gpt2_small(), seed=1)
            peaks += memory.peaks(gpt2, backends[:1] if config.quick else backends, scale.memory_prompts)
        save("results")
    for suffix in (".md", ".json"):
        (config.out / f"results{PARTIAL}{suffix}").unlink(missing_ok=True)
    say(f"written: {config.out / 'results.md'} and {config.out / 'results.json'}")
    return config.out / "results.md"


def _scale(config: Config) -> Scale:
    scale = QUICK if config.quick else Scale()
    if config.repetitions is not None:
        scale = replace(scale, repetitions=config.repetitions)
    if config.cells is not None:
        scale = replace(scale, cells=config.cells)
    return replace(scale, cells=0, grid_backends=()) if config.full else scale


def _wanted(config: Config, key: str) -> bool:
    return not config.rows or any(word in key for word in config.rows)


def _rows(config: Config, scale: Scale, backends: tuple[str, ...], folder: Path) -> Iterator[Row]:
    """The rows asked for; a shape's models are loaded when its first row is due."""
    for name, make, rows_of in _shapes(config, scale, backends, folder):
        if any(_wanted(config, f"{name}-{key}") for key in works.KEYS[rows_of]):
            say(f"loading {name}")
            yield from (row for row in rows_of(make(), scale) if _wanted(config, row.key))


def _shapes(
    config: Config, scale: Scale, backends: tuple[str, ...], folder: Path
) -> Iterator[tuple[str, Callable[[], shapes.Shape], Callable[[shapes.Shape, Scale], list[Row]]]]:
    """Name, loader and rows of each model."""
    shortest, longest = scale.lengths
    about = f"{scale.prompts} prompts of {shortest} to {longest} tokens, random weights"
    lengths = shapes.lengths_between(shortest, longest, scale.prompts)
    common: dict[str, Any] = {"lengths": lengths, "layers": scale.layers, "backends": backends, "device": config.device}

    def gpt2() -> shapes.Shape:
        said = f"GPT-2 small (12 layers, d_model 768, vocabulary 50,257), {about}"
        return shapes.random_shape("gpt2", said, shapes.gpt2_small(), folder=folder / "gpt2", **common)

    def tiny() -> shapes.Shape:
        return shapes.tiny_arithmetic(limit=scale.tiny_problems, layers=scale.tiny_layers, backends=backends, device=config.device)

    def gpt2_trained() -> shapes.Shape:
        said = f"GPT-2 small, for learning, {scale.train_prompts} prompts of {shortest} to {longest} tokens, random weights"
        more = {**common, "lengths": shapes.lengths_between(shortest, longest, scale.train_prompts), "layers": (6, 9)}
        return shapes.random_shape("learn-gpt2", said, shapes.gpt2_small(), folder=folder / "gpt2", **more)

    def tiny_trained() -> shapes.Shape:
        return shapes.tiny_arithmetic(
            limit=scale.train_tiny_problems,
            layers=scale.tiny_layers,
            backends=backends,
            device=config.device,
            name="learn-tiny",
            split="train",
        )

    yield "gpt2", gpt2, works.published
    yield "tiny", tiny, works.embedded
    yield "learn-gpt2", gpt2_trained, training.published
    yield "learn-tiny", tiny_trained, training.embedded
    for dtype in config.llama:

        def llama(dtype: str = dtype) -> shapes.Shape:
            said = f"a Llama of 1B parameters (16 layers, d_model 2,048, vocabulary 128,256) in {dtype}, {about}"
            more = {**common, "dtype": getattr(torch, dtype)}
            return shapes.random_shape(f"llama-{dtype}", said, shapes.llama_1b(), folder=folder / "llama", **more)

        yield f"llama-{dtype}", llama, works.published


def _note(config: Config) -> str:
    if config.quick:
        return "**A smoke run: few prompts, layers and alphas. Its numbers mean nothing.**"
    cells = "Rivals did every cell." if config.full else "Rivals were timed on some cells (see below) and scaled."
    return f"Times for the whole work, on {config.device}. {cells}"


if __name__ == "__main__":
    run(main, Config)
