"""Learned vectors: the sources' training loop against ours, and a grid of trainings side by side against one after the other."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

import steerlab as sl
from benchmarks.plan import Answers, Row, Scale, Target
from benchmarks.rivals import Cell, Rival, block
from benchmarks.shapes import Shape
from steerlab.models.batches import Read
from steerlab.models.batches import TokenRow as Tokens
from steerlab.tasks.scorers import whole_answer

LR, BATCH, SEED = 1e-2, 4, 0
TOLERANCE = 1e-3  # of each number of the unit vectors


def answer_of(model: Any, problem: sl.Problem) -> Tokens:
    """The token row that a made-up problem carries, and its answer's token; of other problems, their own."""
    if "tokens" not in problem.meta:
        return whole_answer(model, problem)
    tokens, columns = problem.meta["tokens"], problem.meta["columns"]
    return Tokens(tokens, len(tokens), (Read(len(tokens) - 1, (columns[problem.target_index],), log_prob=True),))


def sources_loop(shape: Shape, epochs: int) -> Rival:
    """The sources' loop: one problem at a time, the whole model, full logits; a step of Adam every few problems."""

    def run(cell: Cell, size: int) -> np.ndarray:
        for parameter in shape.hf.parameters():
            parameter.requires_grad = False
        vector = torch.nn.Parameter(torch.zeros(1, 1, shape.hf.config.hidden_size, device=shape.device))

        def hook(module: torch.nn.Module, args: Any, output: Any) -> Any:
            hidden = output[0] if isinstance(output, tuple) else output
            moved = hidden + vector.to(hidden.dtype)
            return (moved, *output[1:]) if isinstance(output, tuple) else moved

        handle = block(shape.hf, cell.layer).register_forward_hook(hook)
        rows = [answer_of(None, problem) for problem in shape.problems]
        order, shuffler = list(range(len(rows))), np.random.RandomState(SEED)
        optimizer = torch.optim.Adam([vector], lr=LR)
        try:
            for _ in range(epochs):
                shuffler.shuffle(order)
                for k, i in enumerate(order):
                    tokens = torch.tensor([rows[i].tokens], device=shape.device)
                    logits = shape.hf(input_ids=tokens, use_cache=False).logits[0, -1]
                    target = torch.tensor(rows[i].reads[0].tokens, device=shape.device)
                    torch.nn.functional.cross_entropy(logits[None].float(), target).backward()
                    if (k + 1) % BATCH == 0:
                        optimizer.step()
                        optimizer.zero_grad()
        finally:
            handle.remove()
        return vector.detach().flatten().float().cpu().numpy()

    return Rival("a", "(a) the sources' training loop, one problem at a time", run, batched=False, warm_up=False)


def one_vector(shape: Shape, layer: int, epochs: int, at_least: float) -> Row:
    """One learned vector at a layer."""
    zero = Cell(layer, 1.0, shape.directions[layer])

    def ours(model: Any) -> Callable[[Sequence[sl.Problem]], Any]:
        return lambda problems: sl.learn_vector(
            model, problems, layer=layer, epochs=epochs, lr=LR, batch_size=BATCH, seed=SEED, last_batch="carry", loss=answer_of
        )

    def read(learned: sl.LearnedVector) -> Answers:
        return {("vector", layer): ("", learned.unit().vector.numpy())}

    return Row(
        f"{shape.name}-layer{layer}",
        f"a learned vector at layer {layer} of {shape.n_layers}: {len(shape.problems)} problems, {epochs} epochs, steps of {BATCH} problems",
        shape,
        [zero],
        {backend: ours(model) for backend, model in shape.ours.items()},
        read,
        lambda cell, vector: {("vector", cell.layer): ("", vector / np.linalg.norm(vector))},
        [sources_loop(shape, epochs)],
        [Target(("a",), at_least)],
        tolerance=TOLERANCE,
    )


def vectors(shape: Shape, seeds: int, epochs: int) -> Row:
    """A vector at every layer from several seeds; the rival trains them one after the other, with the same code."""
    model = next(iter(shape.ours.values()))
    layers = sorted(shape.directions)
    options: dict[str, Any] = {"epochs": epochs, "batch_size": BATCH, "loss": answer_of}

    def ours(model: Any) -> Callable[[Sequence[sl.Problem]], Any]:
        return lambda problems: sl.learn_vectors(model, problems, layers=layers, seeds=seeds, lrs=LR, **options)

    def alone(cell: Cell, size: int) -> np.ndarray:
        seed = int(cell.alpha)
        return sl.learn_vector(model, shape.problems, layer=cell.layer, seed=seed, lr=LR, **options).unit().vector.numpy()

    def read(found: sl.LearnedVectors) -> Answers:
        return {(v.layer, int(v.method["seed"])): ("", v.unit().vector.numpy()) for v in found}

    return Row(
        f"{shape.name}-vectors",
        f"learned vectors at {len(layers)} layers from {seeds} seeds, {len(shape.problems)} problems, {epochs} epochs (to be done in 180 s)",
        shape,
        [Cell(layer, float(seed), shape.directions[layer]) for layer in layers for seed in range(seeds)],
        {backend: ours(model) for backend, model in shape.ours.items()},
        read,
        lambda cell, vector: {(cell.layer, int(cell.alpha)): ("", vector)},
        [Rival("alone", "ours, one vector after the other", alone, batched=False, warm_up=False)],
        [Target(("alone",), 1.0)],
        tolerance=TOLERANCE,
    )


def published(shape: Shape, scale: Scale) -> list[Row]:
    """The rows of GPT-2 small."""
    return [one_vector(shape, layer, scale.train_epochs, at_least) for layer, at_least in ((9, 4.0), (6, 2.2))]


def embedded(shape: Shape, scale: Scale) -> list[Row]:
    """The row of tiny-arithmetic."""
    return [vectors(shape, scale.train_seeds, scale.train_tiny_epochs)]
