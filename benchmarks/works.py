"""The rows of the table: what each asks for, what ours does, who else does it, and what both must agree on."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch

import steerlab as sl
from benchmarks import rivals, training
from benchmarks.machine import has_amx
from benchmarks.plan import Answers, Row, Scale, Target
from benchmarks.rivals import Cell, Rival
from benchmarks.shapes import Shape, generated_tokens

SEED = 5


def choice_of(shape: Shape) -> Callable[[Cell, np.ndarray], Answers]:
    """A rival's logits of the answer tokens, judged as the scorer judges: largest logit, and target minus best other."""

    def read(cell: Cell, logits: np.ndarray) -> Answers:
        found = {}
        for problem, line in zip(shape.problems, logits.astype(float), strict=True):
            best, target = np.flatnonzero(line == line.max()), problem.target_index
            margin = line[target] - np.delete(line, target).max()
            found[*cell.key, problem.id] = (int(best[0]) if len(best) == 1 else -1, np.array(margin))
        return found

    return read


def frame_of(shape: Shape, **fixed: Any) -> Callable[[Any], Answers]:
    """The frame of a sweep or control, as answers."""
    places = {p.id: {str(choice).strip(): i for i, choice in enumerate(p.choices or ())} for p in shape.problems}

    def read(result: Any) -> Answers:
        frame: pd.DataFrame = result.frame.assign(**fixed)
        columns = (frame[name] for name in ("layer", "alpha", "direction", "problem_id", "prediction", "margin"))
        return {
            (int(layer), float(alpha), name, problem): (places[problem].get(prediction, -1), np.array(margin))
            for layer, alpha, name, problem, prediction, margin in zip(*columns, strict=True)
        }

    return read


def everyone(shape: Shape, positions: str) -> list[Rival]:
    """(a) to (d)."""
    makers = (rivals.one_at_a_time, rivals.in_batches, rivals.steering_vectors_package, rivals.transformer_lens_hooks)
    return [make(shape, positions) for make in makers]


def grid(
    shape: Shape, alphas: Sequence[float], positions: str, key: str, targets: Sequence[Target], opponents: Sequence[Rival], **more: Any
) -> Row:
    """Every layer and every alpha."""
    options = {"precision": more.pop("precision")} if "precision" in more else {}

    def ours(model: Any) -> Callable[[Sequence[sl.Problem]], Any]:
        return lambda problems: sl.sweep(
            model, problems, shape.directions, alphas=alphas, positions=positions, scorer=shape.scorer, **options
        )

    cells = [Cell(layer, alpha, direction) for layer, direction in shape.directions.items() for alpha in alphas]
    where = "all positions" if positions == "all" else "last position only"
    words = "".join(f", {value}" for value in options.values())
    return Row(
        f"{shape.name}-{key}",
        f"{len(shape.directions)} × {len(alphas)} layer × alpha grid, {where}{words}",
        shape,
        cells,
        {backend: ours(model) for backend, model in shape.ours.items()},
        frame_of(shape),
        choice_of(shape),
        opponents,
        targets,
        positions=positions,
        **more,
    )


def bfloat16_grid(shape: Shape, alphas: Sequence[float]) -> Row:
    """The grid in bfloat16, against float32 one at a time; only where the hardware multiplies bfloat16 fast."""
    why = "" if has_amx() or shape.device.type == "cuda" else "not applicable on this machine: the CPU has no AMX, and there is no GPU"
    opponents = [rivals.one_at_a_time(shape, "all")]
    more = {"precision": "bfloat16", "dtype": torch.bfloat16, "same": 0.98, "not_applicable": why, "same_as": f"{shape.name}-grid"}
    return grid(shape, alphas, "all", "bfloat16", [Target(("a",), 6.0)], opponents, **more)


def control(shape: Shape, n: int, positions: str, targets: Sequence[Target], opponents: Sequence[Rival]) -> Row:
    """A direction and its random controls at one layer and alpha."""
    direction, alpha = shape.directions[shape.middle], -3.0
    drawn = sl.random_directions(direction, n, rng=np.random.default_rng(SEED))  # the same that ours draws

    def ours(model: Any) -> Callable[[Sequence[sl.Problem]], Any]:
        return lambda problems: sl.random_control(
            model, problems, direction, alpha=alpha, n=n, rng=np.random.default_rng(SEED), positions=positions, scorer=shape.scorer
        )

    where = "all positions" if positions == "all" else "last position only"
    return Row(
        f"{shape.name}-control",
        f"random control, K = {n}, layer {direction.layer}, {where}",
        shape,
        [Cell(direction.layer, alpha, one) for one in (direction, *drawn)],
        {backend: ours(model) for backend, model in shape.ours.items()},
        frame_of(shape, layer=direction.layer, alpha=alpha),
        choice_of(shape),
        opponents,
        targets,
        positions=positions,
    )


def generation(shape: Shape, alphas: Sequence[float], new_tokens: int) -> Row:
    """Greedy generation from prompts that are steered at their last position."""
    direction, scorer = shape.directions[shape.middle], generated_tokens(new_tokens)

    def ours(model: Any) -> Callable[[Sequence[sl.Problem]], Any]:
        return lambda problems: sl.sweep(model, problems, direction, alphas=alphas, positions="last", scorer=scorer)

    def read(result: Any) -> Answers:
        columns = (result.frame[name] for name in ("layer", "alpha", "direction", "problem_id", "prediction"))
        return {(int(k), float(a), d, p): (tuple(map(int, text.split())), np.zeros(1)) for k, a, d, p, text in zip(*columns, strict=True)}

    def read_rival(cell: Cell, made: Any) -> Answers:
        return {(*cell.key, problem.id): (tokens, np.zeros(1)) for problem, tokens in zip(shape.problems, made, strict=True)}

    return Row(
        f"{shape.name}-generate",
        f"greedy generation ({new_tokens} new tokens), {len(alphas)} alphas, layer {direction.layer}, prompt steered at its last position",
        shape,
        [Cell(direction.layer, alpha, direction) for alpha in alphas],
        {backend: ours(model) for backend, model in shape.ours.items()},
        read,
        read_rival,
        [rivals.generating_one_at_a_time(shape, new_tokens)],
        [Target(("a",), 5.0)],
        positions="last",
        new_tokens=new_tokens,
    )


def caching(shape: Shape) -> Row:
    """The activations of all layers at the last position."""
    layers = list(range(shape.n_layers))

    def ours(model: Any) -> Callable[[Sequence[sl.Problem]], Any]:
        return lambda problems: sl.cache_activations(model, problems, layers=layers, positions="last")

    def read_rival(cell: Cell, values: Any) -> Answers:
        return {(p.id, k): ("", value) for p, lines in zip(shape.problems, values, strict=True) for k, value in enumerate(lines)}

    def read(acts: Any) -> Answers:
        lines = zip(acts.problem_ids, acts.values[:, :, 0].numpy(), strict=True)
        return {(problem, k): ("", value) for problem, line in lines for k, value in enumerate(line)}

    opponents = [rivals.caching_everything(shape, backend, layers) for backend in shape.ours]
    return Row(
        f"{shape.name}-cache",
        f"caching all {len(layers)} layers at the last position",
        shape,
        [Cell(0, 0.0, next(iter(shape.directions.values())))],
        {backend: ours(model) for backend, model in shape.ours.items()},
        read,
        read_rival,
        opponents,
        [Target(tuple(rival.key for rival in opponents), 1.5)],
        tolerance=1e-3,
        positions="all",
    )


def only_on(row: Row, backends: Sequence[str]) -> Row:
    """A row with ours on some backends, where the shape has any of them."""
    kept = {backend: work for backend, work in row.ours.items() if backend in backends}
    return replace(row, ours=kept) if kept else row


def published(shape: Shape, scale: Scale) -> list[Row]:
    """The rows of GPT-2 small and of the Llama shape."""
    a, batched = Target(("a",), 3.0), Target(("b", "c", "d"), 2.5)
    only_a = [rivals.one_at_a_time(shape, "last")]
    with_zero = sorted([*scale.alphas, 0.0])
    return [
        only_on(grid(shape, scale.alphas, "all", "grid", [a, batched], everyone(shape, "all"), share=0.75), scale.grid_backends),
        bfloat16_grid(shape, scale.alphas),
        grid(shape, with_zero, "last", "last", [Target(("a",), 50.0)], only_a),
        control(shape, scale.controls, "last", [Target(("a",), 60.0)], only_a),
        generation(shape, with_zero, scale.new_tokens),
        caching(shape),
    ]


def embedded(shape: Shape, scale: Scale) -> list[Row]:
    """The rows of tiny-arithmetic, for which no target is set."""
    targets = [Target(("a",), 0.0), Target(("b", "c", "d"), 0.0)]
    return [
        grid(shape, scale.alphas, "all", "grid", targets, everyone(shape, "all")),
        control(shape, scale.controls, "all", targets, everyone(shape, "all")),
    ]


KEYS: dict[Callable[[Shape, Scale], list[Row]], tuple[str, ...]] = {
    published: ("grid", "bfloat16", "last", "control", "generate", "cache"),
    embedded: ("grid", "control"),
    training.published: ("layer9", "layer6"),
    training.embedded: ("vectors",),
}
