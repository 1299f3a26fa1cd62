"""The methods that a comparison compares: what each would add at each layer, or how else it would ask (prompting)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from steerlab._checks import InputError
from steerlab.activations.positions import Positions
from steerlab.aft.aft import ObjectiveOptions, learn_vectors, training_work, vectors_work
from steerlab.aft.learnables import StaticVector
from steerlab.aft.multilayer import SOURCE_DEPTHS, SOURCE_SCALES, learn_multilayer
from steerlab.aft.training import Schedule, TrainingRun
from steerlab.directions import ESTIMATORS
from steerlab.directions.contrasts import balanced_activations
from steerlab.directions.direction import Direction
from steerlab.directions.estimators import mean_difference
from steerlab.directions.function_vectors import prompt_contrast, reasoning_pairs
from steerlab.models.backends import Model
from steerlab.models.encoding import token_ids
from steerlab.models.forecasts import Work
from steerlab.models.model import Site, context_length, d_model, n_layers, readable
from steerlab.steering.work import rows_of, unsteered
from steerlab.studies import KNOWN_METHODS, METHODS
from steerlab.tasks.evaluation import evaluate
from steerlab.tasks.problems import Problem, Text, written

LABELS = {"pca": "PCA", "lda": "LDA", "ica": "ICA", "aft": "AFT", "multilayer_aft": "multi-layer AFT"}


@dataclass(frozen=True, eq=False)
class MethodVectors:
    """A method by its name in tables, the directions that act together at each candidate layer (for a multi-layer vector several), and how they were found."""

    name: str
    candidates: Mapping[int, tuple[Direction, ...]]
    about: str

    def norm(self, layer: int) -> float:
        """Of all that a candidate adds at alpha = 1, over its layers: the root of the summed squares."""
        return float(np.sqrt(sum(direction.norm**2 for direction in self.candidates[layer])))


def label(method: str) -> str:
    """A method's name for tables.

    Example:
        >>> label("multilayer_aft"), label("mean_difference")
        ('multi-layer AFT', 'mean difference')
    """
    return LABELS.get(method, method.replace("_", " "))


def check_methods(methods: Sequence[str]) -> list[str]:
    """Methods by name, each once.

    Raises:
        ValueError: none, an unknown one, or one that is given twice.
    """
    unknown = [method for method in methods if method not in KNOWN_METHODS]
    if unknown:
        raise InputError(f"methods: {unknown[0]!r}; use any of {', '.join(KNOWN_METHODS)}")
    if not methods or len(set(methods)) < len(methods):
        raise InputError(f"methods={list(methods)}; give at least one, each once")
    return list(methods)


def method_vectors(
    model: Model,
    train: Sequence[Problem],
    *,
    methods: Sequence[str] = METHODS,
    layers: Sequence[int] | None = None,
    seed: int = 0,
    epochs: int = 3,
    lr: float = 1e-2,
    batch_size: int = 8,
    cache_positions: Positions = "last",
    positions: Positions = "all",
    progress: bool = False,
) -> tuple[list[MethodVectors], dict[str, str]]:
    """Find every method's vectors, all from the same train problems and none from any other.

    Learned vectors train for a fixed number of epochs and do not look at validation, so that in a comparison no method looks there more often
    than another. The multi-layer vector of a layer has the sources' shape (10%, 50% and 80% of the depth), scaled so that its middle stands there.

    Args:
        methods: any of `steerlab.studies.KNOWN_METHODS`; "prompt" adds no vector and is left to `wordings`.
        layers: candidates; default all.
        cache_positions: where estimated directions are measured.
        positions: where learned vectors act while they learn.

    Returns:
        The contenders, and for each method that has none the reason.

    Raises:
        ValueError: unknown methods, bad layers, nothing right or nothing wrong among the problems of an estimated direction.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", n_train=40, n_validation=4, n_test=4)
        >>> found, missing = method_vectors(model, task.train, methods=["probe", "multilayer_aft"], layers=[3], epochs=1)
        >>> [(one.name, len(one.candidates[3])) for one in found]
        [('probe', 1), ('multi-layer AFT', 3)]
    """
    methods = check_methods(methods)
    where = list(range(n_layers(model))) if layers is None else list(layers)
    found: list[MethodVectors] = []
    missing: dict[str, str] = {}
    if set(methods) & set(ESTIMATORS):
        evaluation, rng = evaluate(model, train, progress=progress), np.random.default_rng([seed, 0])
        _, right, wrong = balanced_activations(model, evaluation, rng=rng, layers=where, positions=cache_positions, progress=progress)
    learning: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size, "positions": positions, "progress": progress}
    taught = f"learned from {len(train)} train problems in {epochs} epochs"
    vectors: dict[int, tuple[Direction, ...]]
    for method in methods:
        name = label(method)
        if method in ESTIMATORS:
            vectors = {layer: (ESTIMATORS[method](right, wrong, layer=layer),) for layer in where}
            about = f"from {len(right.problem_ids)} right and as many wrong train problems"
        elif method == "function_vector":
            pairs, about = contrast_pairs(model, train)
            if not pairs:
                missing[name] = f"{about}: no pair of prompts fits into this model's context"
                continue
            asked = prompt_contrast(model, pairs, layers=where, progress=progress)
            vectors = {layer: (mean_difference(*asked, layer=layer, name=name),) for layer in where}
        elif method == "aft":
            vectors = {vector.layer: (vector,) for vector in learn_vectors(model, train, layers=where, seeds=[seed], lrs=lr, **learning)}
            about = taught
        elif method == "multilayer_aft":
            vectors = {}
            for layer in where:
                at, scales = spread_layers(model, layer)
                vectors[layer] = tuple(learn_multilayer(model, train, layers=at, scales=scales, seed=seed, lr=lr, **learning))
            about = f"{taught}, at several layers with learned scales"
        else:
            continue
        found.append(MethodVectors(name, vectors, about))
    return found, missing


def contenders_work(
    model: Model,
    train: Sequence[Problem],
    *,
    methods: Sequence[str],
    layers: Sequence[int],
    epochs: int,
    batch_size: int,
    positions: Positions,
) -> list[Work]:
    """What `contenders` is made of; problems that are run again for their activations, and pairs of prompts, are not counted."""
    rows = rows_of(model, train)
    found = [unsteered(model, train, rows, again=rows)] if set(methods) & set(ESTIMATORS) else []
    if "function_vector" in methods:
        found.append(unsteered(model, train, 0, again=2 * len(contrast_pairs(model, train)[0])))
    if "aft" in methods:
        found += vectors_work(model, train, layers=layers, epochs=epochs, batch_size=batch_size, positions=positions)
    if "multilayer_aft" in methods:
        at, scales = spread_layers(model, layers[len(layers) // 2])
        run, learnable = TrainingRun(tuple(map(Site, at))), StaticVector(d_model(model), tuple(scales), learn_scales=True)
        schedule, how = Schedule(epochs, batch_size), ObjectiveOptions(positions=positions)
        found += training_work(model, train, [run], learnable, schedule, how, times=len(layers))
    return found


def spread_layers(model: Model, layer: int) -> tuple[list[int], list[float]]:
    """The sources' three layers and scales, their depths scaled so that the middle one is at a layer; layers that coincide count once.

    Example:
        >>> import steerlab as sl
        >>> model = sl.load_model("tiny-arithmetic")
        >>> spread_layers(model, 3), spread_layers(model, 5)
        (([0, 3, 4], [0.5, 1.0, 0.3]), ([1, 5], [0.5, 1.0]))
    """
    most = n_layers(model) - 1
    middle = SOURCE_DEPTHS[1]
    at = {layer: SOURCE_SCALES[1]}
    for depth, scale in zip(SOURCE_DEPTHS, SOURCE_SCALES, strict=True):
        at.setdefault(min(most, int(layer * depth / middle + 1e-9)), scale)
    return sorted(at), [at[one] for one in sorted(at)]


STEP_BY_STEP = "Let's think step by step."
PAIRS = 64  # prompts with and without a solved example, at most


@dataclass(frozen=True)
class Wording:
    """A way to ask a problem: text (or tokens) in front of the prompt, and a cue in front of its last line."""

    name: str
    before: Text = ""
    cue: str = ""

    def asked(self, problem: Problem) -> Problem:
        """The problem asked so; everything else about it stays.

        Example:
            >>> Wording("appended", cue="Think.\\n").asked(Problem("one", "2 + 2?\\nAnswer:", " 4")).prompt
            '2 + 2?\\nThink.\\nAnswer:'
        """
        if isinstance(problem.prompt, tuple):
            return replace(problem, prompt=(*self.before, *problem.prompt))
        head, newline, last = problem.prompt.rpartition("\n")
        return replace(problem, prompt=f"{self.before}{head}{newline}{self.cue}{last}")


def solved(problem: Problem) -> Text:
    """A problem with its right answer behind it.

    Example:
        >>> solved(Problem("one", "2 + 2 =", target=" 4", choices=(" 3", " 4")))
        '2 + 2 = 4'
    """
    return problem.prompt + problem.answer  # type: ignore[operator]  # a problem checks that both are text, or both tokens


def _in_front(example: Problem) -> Text:
    """A solved problem, and the line break that parts it from the next; tokens have none that every model knows."""
    text = solved(example)
    return f"{text}\n" if isinstance(text, str) else text


def wordings(model: Model, train: Sequence[Problem], asked: Sequence[Problem]) -> tuple[list[Wording], str]:
    """Prompt baselines: think step by step, in front of the prompt and in front of its answer cue; else a solved example in front.

    A prompt whose last line ends with a colon has an answer cue ("Answer:"); any other goes on in its answer, and words between the two would
    tear them apart. A model that cannot read the words gets one of the two shortest train problems, solved, in front.

    Returns:
        The wordings in which all that is asked fits into the context, and what they are or why there are none.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", n_train=20, n_validation=4, n_test=4)
        >>> found, about = wordings(model, task.train, task.test)
        >>> [wording.name for wording in found]
        ['solved example 1', 'solved example 2']
    """
    if readable(model, [STEP_BY_STEP]):
        found = [Wording("prepended", before=f"{STEP_BY_STEP}\n")]
        if all(written(problem.prompt).rstrip().endswith(":") for problem in asked):
            found.append(Wording("appended", cue=f"{STEP_BY_STEP}\n"))
        about = f'"{STEP_BY_STEP}" in the prompt: {" or ".join(wording.name for wording in found)}'
    else:
        shortest = sorted(train, key=lambda p: (len(p.prompt), p.id))[:2]
        found = [Wording(f"solved example {i + 1}", before=_in_front(problem)) for i, problem in enumerate(shortest)]
        about = "one solved train problem in front of the prompt, because this model cannot read a request to think step by step"
    room = context_length(model)
    kept = [wording for wording in found if all(_longest(model, wording.asked(problem)) <= room for problem in asked)]
    return kept, about if kept else f"{about}: left out, because such prompts exceed this model's context of {room} tokens"


def _longest(model: Model, problem: Problem) -> int:
    """Tokens of the prompt with the longest of its choices."""
    ends: Sequence[Text] = problem.choices or (problem.prompt[:0],)
    return max(_length(model, problem.prompt + end) for end in ends)  # type: ignore[operator]  # both text, or both tokens


def _length(model: Model, text: Text) -> int:
    return len(text if isinstance(text, tuple) else token_ids(model, text))


def contrast_pairs(model: Model, train: Sequence[Problem]) -> tuple[Sequence[tuple[Text, Text]], str]:
    """Pairs of prompts for a function vector: reasoning against direct, or, where a model cannot read them, with and without a solved example.

    Returns:
        The pairs that fit into the context, and what they are.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", n_train=20, n_validation=4, n_test=4)
        >>> pairs, about = contrast_pairs(model, task.train)
        >>> len(pairs), pairs[0][0].endswith(pairs[0][1])
        (19, True)
    """
    pairs = reasoning_pairs()
    if readable(model, [with_it for with_it, _ in pairs]):
        return pairs, f"{len(pairs)} questions, asked to reason and asked directly"
    example = min(train, key=lambda p: (len(p.prompt), p.id))
    others = [problem for problem in train if problem is not example and written(problem.prompt).strip()]
    found = [(Wording("", before=_in_front(example)).asked(problem).prompt, problem.prompt) for problem in others]
    room = context_length(model)
    kept = [pair for pair in found[: 4 * PAIRS] if _length(model, pair[0]) <= room][:PAIRS]
    about = "train prompts with and without a solved one in front, because this model cannot read questions in words"
    return kept, f"{len(kept)} {about}"
